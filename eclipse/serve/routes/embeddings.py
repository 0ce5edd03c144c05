"""Image embeddings without pictures: the prior's own result."""

from __future__ import annotations

from fastapi import APIRouter, Request

from eclipse.serve import wishes
from eclipse.serve.answers import EmbeddingItem, Embeddings
from eclipse.serve.routes.common import WORK_ERRORS, Server
from eclipse.serve.schema import Embedding
from eclipse.serve.types import Job
from eclipse.serve.work import all_embedded, unless_gone

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings/prior", operation_id="createPriorEmbedding", responses=WORK_ERRORS)
async def embeddings(serving: Server, request: Request, asked: Embedding) -> Embeddings:
    """Predict the image embedding ẑ_x of one or several prompts, all with the same seed."""
    prompts = wishes.prompts_of(serving, asked.prompt)
    wishes.check_count(serving, len(prompts), "prompt")
    prior = serving.catalogue.choose(asked.model, subjects=False)
    wanted = wishes.wanted_of(prompts, 1, asked.seed)
    job = Job(prior.model, wanted, None, seconds=serving.params.request_seconds)
    embedded = await unless_gone(request.receive, serving, all_embedded(serving, job))
    items = [
        EmbeddingItem(
            index=one.index,
            seed=wanted[one.index].seed,
            embedding=one.image_embeds.flatten().tolist(),
            norm=float(one.image_embeds.norm()),
        )
        for one in embedded
    ]
    return Embeddings(data=items, model=prior.model, prior_hash=embedded[0].prior.prior_hash)
