"""The manifest of a picture: pixels, request, models, data, code, and what equal bits depend on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eclipse.serve.provenance.canonical import pixels_hash, with_digest
from eclipse.serve.provenance.identity import Identity
from eclipse.serve.provenance.schema import Blended, Image, Manifest, Request, Shown, Subject
from eclipse.serve.types import Blend, Drawing, Drawn, Prompt, Wanted


def manifest(
    drawn: Drawn, wanted: Wanted, drawing: Drawing, identity: Identity, *, created: datetime | None = None
) -> dict[str, Any]:
    """The manifest of ``drawn``, which a server with this ``identity`` made of ``wanted``; ``created`` defaults to now.

    JSON-able, with the fields of :class:`~eclipse.serve.provenance.schema.Manifest` and its ``digest``. Raises
    :class:`DataError` for a text that is not Unicode (a lone surrogate) and a prior that ``identity`` does not know.
    """
    height, width, _ = drawn.image.shape
    origin = identity.origin(drawn.prior.prior_hash)
    source = wanted.source
    request = Request(
        **(_NO_PROMPT if isinstance(source, Blend) else dict(_shown(source))),
        blend=_blended(source) if isinstance(source, Blend) else None,
        model=drawn.prior.model,
        negative_prompt=drawing.negative_prompt,
        seed=wanted.seed,
        steps=drawing.steps,
        scheduler=drawing.scheduler,
        guidance=drawing.guidance,
        height=drawing.height,
        width=drawing.width,
    )
    return with_digest(
        Manifest(
            created=(created or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds"),
            image=Image(sha256=pixels_hash(drawn.image), height=height, width=width),
            request=request,
            prior=origin.prior,
            frozen=identity.frozen,
            training=origin.training,
            data=origin.data,
            service=identity.service,
            compute=identity.compute,
        )
    )


_NO_PROMPT: dict[str, Any] = {"prompt": None, "subjects": (), "control": None}


def _blended(blend: Blend) -> Blended:
    return Blended(first=_shown(blend.first), second=_shown(blend.second), at=blend.at, mode=blend.mode)


def _shown(prompt: Prompt) -> Shown:
    subjects = tuple(
        Subject(noun=prompt.text[slice(*subject.span)], span=tuple(subject.span), sha256=pixels_hash(subject.picture))
        for subject in prompt.subjects
    )
    control = None if prompt.control is None else pixels_hash(prompt.control)
    return Shown(prompt=prompt.text, subjects=subjects, control=control)
