"""What is served, with its lineage, and what may be asked of it."""

from __future__ import annotations

from fastapi import APIRouter, Path

from eclipse.serve import pictures
from eclipse.serve.answers import Limits, ModelCard, ModelList
from eclipse.serve.routes.common import READ_ERRORS, Server, errors
from eclipse.serve.schema import LARGEST_SEED

router = APIRouter(tags=["models"])

MAX_GUIDANCE, MAX_PARTIAL_IMAGES = 20.0, 3


@router.get("/v1/models", operation_id="listModels", responses=errors(401))
async def models(serving: Server) -> ModelList:
    """All priors that are served: champions, and candidates as ``NAME@candidate``."""
    catalogue = serving.catalogue
    return ModelList(data=[catalogue.card(prior) for prior in catalogue.served.priors])


@router.get("/v1/models/{model}", operation_id="retrieveModel", responses=READ_ERRORS)
async def model(serving: Server, model: str = Path(max_length=200)) -> ModelCard:
    """One of them."""
    return serving.catalogue.card(serving.catalogue.get(model))


@router.get("/v1/limits", operation_id="getLimits", responses=errors(401))
async def limits(serving: Server) -> Limits:
    """Sizes, counts and defaults."""
    params, served = serving.params, serving.catalogue.served
    personal = any(prior.variant == "lambda-eclipse" for prior in served.priors)
    return Limits(
        release=served.release,
        sizes=serving.sizes,
        schedulers=list(serving.schedulers),
        scheduler=params.scheduler,
        steps=params.steps,
        max_steps=params.max_steps,
        guidance=params.guidance,
        max_guidance=MAX_GUIDANCE,
        max_images=params.max_images,
        max_partial_images=MAX_PARTIAL_IMAGES,
        max_seed=LARGEST_SEED,
        max_subjects=serving.max_subjects if personal else 0,
        max_prompt_characters=params.max_prompt_characters,
        max_prompt_tokens=serving.clip.context_length,
        max_body_bytes=round(params.max_body_mb * 1e6),
        max_picture_pixels=serving.max_pixels,
        picture_formats=list(pictures.FORMATS),
        request_seconds=params.request_seconds,
        url_seconds=params.url_seconds,
    )
