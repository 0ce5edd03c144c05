"""From a folder to what is served: parameters, verified models, priors, and the engine that works with them."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

from eclipse.config import load_params
from eclipse.config.decoder import DecoderParams
from eclipse.config.serve import ServeParams
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder, load_decoder
from eclipse.models.device import pick
from eclipse.releases import Served, resolve
from eclipse.releases.store import releases_folder
from eclipse.serve.catalogue import Catalogue
from eclipse.serve.engine import Engine, load_priors
from eclipse.serve.files_store import FilesStore
from eclipse.serve.metrics import Metrics
from eclipse.serve.provenance.identity import Identity
from eclipse.serve.provenance.signing import load_signer
from eclipse.serve.safety import load_checker
from eclipse.serve.serving import Serving
from eclipse.serve.shadow import ShadowLog
from eclipse.serve.types import Drawing

log = logging.getLogger(__name__)

PARAMS = Path("params.yaml")
SHADOW = Path("shadow.jsonl")


def load(root: Path) -> Serving:
    """What ``root`` serves, its engine running. Any digest or width that does not fit is a :class:`CheckpointError`."""
    started = time.monotonic()
    params = load_params(root / PARAMS)
    serve = params.serve
    signer, checker = load_signer(), load_checker(serve.safety_checker)  # what fails at once fails first
    served = resolve(root)
    clip, decoder = load_frozen(served, params.decoder)
    check_sizes(serve, decoder)
    metrics = Metrics()
    shadow = ShadowLog(releases_folder(root) / SHADOW, metrics)
    priors = load_priors(served, clip)
    engine = Engine(clip, decoder, priors, serve, observe=metrics.observe, record=shadow.record)
    engine.start()
    log.info("%s is loaded and verified after %.1f s", served.release, time.monotonic() - started)
    return Serving(
        params=serve,
        engine=engine,
        clip=clip,
        image_size=decoder.image_size,
        schedulers=decoder.schedulers,
        max_subjects=params.annotate.filters.subjects[1],
        catalogue=Catalogue(served),
        identity=Identity.of(served, serve, params.decoder),
        metrics=metrics,
        files=FilesStore(round(serve.url_mb * 1e6), serve.url_seconds),
        checker=checker,
        signer=signer,
    )


def load_frozen(served: Served, params: DecoderParams | None = None) -> tuple[FrozenClip, Decoder]:
    """CLIP and decoder, this held as ``params`` say.

    :class:`CheckpointError` where the CLIP is not the priors', or the decoder not the CLIP's.
    """
    clip = FrozenClip.load(served.clip, device=pick())
    if clip.weights_hash != served.encoder_hash:
        raise CheckpointError(
            f"{served.clip}: is the CLIP {clip.weights_hash[:12]}, but the priors were trained on "
            f"{served.encoder_hash[:12]}; promote again"
        )
    decoder = load_decoder(served.decoder, params, device=clip.device)
    if decoder.embedding_dim != clip.projection_dim:
        raise CheckpointError(
            f"{served.decoder}: takes embeddings {decoder.embedding_dim} wide, but {clip.name} makes "
            f"{clip.projection_dim}; give the decoder that belongs to it"
        )
    return clip, decoder


def check_sizes(params: ServeParams, decoder: Decoder) -> None:
    """:class:`ConfigError` where ``decoder`` does not draw as ``serve`` says when a request names nothing, or for an
    entry of ``serve.sizes`` that is no size, or none that it draws."""
    own = decoder.image_size
    try:
        decoder.check(Drawing(params.steps, params.scheduler, params.guidance, own, own))
    except (ConfigError, DataError) as error:
        raise ConfigError(f"{PARAMS}: serve: {error}") from None
    for name in params.sizes:
        found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", name)
        if found is None:
            raise ConfigError(f"{PARAMS}: serve.sizes: {name!r} is no size; write WIDTHxHEIGHT")
        width, height = map(int, found.groups())
        try:
            decoder.check(Drawing(params.steps, params.scheduler, params.guidance, height, width))
        except DataError as error:
            raise ConfigError(f"{PARAMS}: serve.sizes: {error}") from None
