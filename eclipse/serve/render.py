"""Finished pictures as items of an answer: judged, with their manifest, as PNG in base64 or at a URL."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eclipse.data.images import encode_png
from eclipse.serve.answers import Images, InputTokens, Item, Usage
from eclipse.serve.errors import ApiError
from eclipse.serve.provenance.manifest import manifest
from eclipse.serve.provenance.png import png_with_manifest
from eclipse.serve.safety import Blocked, Ok, judge_picture
from eclipse.serve.serving import Serving
from eclipse.serve.types import Blend, Drawing, Drawn, Job, Prompt, Wanted


@dataclass(frozen=True)
class Rendering:
    """How the pictures of one job are given back; ``files_url`` is where they can be fetched, None for base64."""

    serving: Serving
    job: Job
    drawing: Drawing
    files_url: str | None = None

    def item(self, drawn: Drawn) -> Item:
        """``drawn`` as an item. Encodes and signs: call it in a thread."""
        wanted = self.job.wanted[drawn.index]
        outcome = judge_picture(drawn, _words(wanted), self.serving.checker)
        name = "ok" if isinstance(outcome, Ok) else "blocked" if isinstance(outcome, Blocked) else "degenerate"
        self._count(drawn, name)
        at = wanted.source.at if isinstance(wanted.source, Blend) else None
        if not isinstance(outcome, Ok):
            return Item(index=drawn.index, seed=wanted.seed, outcome=name, at=at, reason=outcome.reason)
        made = manifest(drawn, wanted, self.drawing, self.serving.identity)
        png = png_with_manifest(drawn.image, made, self.serving.signer)
        url = None if self.files_url is None else f"{self.files_url}{self.serving.files.put(png)}.png"
        b64 = base64.b64encode(png).decode() if url is None else None
        return Item(index=drawn.index, seed=wanted.seed, outcome="ok", b64_json=b64, url=url, at=at, manifest=made)

    def images(self, items: Sequence[Item]) -> Images:
        """The whole answer; :class:`ApiError` where not one picture may be given out."""
        check_any_ok(items)
        return Images(
            created=int(time.time()),
            data=list(items),
            model=self.job.model,
            size=size_of(self.drawing),
            usage=usage_of(self.serving, self.job.wanted),
        )

    def _count(self, drawn: Drawn, outcome: str) -> None:
        role = "candidate" if drawn.prior.model.endswith("@candidate") else "champion"
        self.serving.metrics.images.labels(drawn.prior.variant, role, outcome).inc()


def check_any_ok(items: Sequence[Item]) -> None:
    """:class:`ApiError` 400 ``content_blocked`` or 500 ``degenerate_image`` where no picture is left."""
    if any(item.outcome == "ok" for item in items):
        return
    blocked = [item for item in items if item.outcome == "blocked"]
    if blocked:
        raise ApiError(400, f"the safety checker withholds the result: {blocked[0].reason}", code="content_blocked")
    raise ApiError(
        500,
        f"no picture came of it: {items[0].reason}; try another seed",
        code="degenerate_image",
        headers={"x-should-retry": "false"},
    )


def plain_png(image: NDArray[np.uint8]) -> str:
    """An unfinished picture uint8 [H, W, 3] as PNG in base64, without a manifest."""
    return base64.b64encode(encode_png(image)).decode()


def size_of(drawing: Drawing) -> str:
    """``WIDTHxHEIGHT``."""
    return f"{drawing.width}x{drawing.height}"


def usage_of(serving: Serving, wanted: Sequence[Wanted]) -> Usage:
    """What the prior reads and gives for ``wanted``, each prompt counted once."""
    prompts = {id(prompt): prompt for one in wanted for prompt in _prompts(one)}.values()
    text = sum(int(serving.clip.tokenize([prompt.text]).argmax()) + 1 for prompt in prompts)
    pictures = sum(len(prompt.subjects) + (prompt.control is not None) for prompt in prompts)
    return Usage(
        input_tokens=text + pictures,
        input_tokens_details=InputTokens(text_tokens=text, image_tokens=pictures),
        output_tokens=len(wanted),
        total_tokens=text + pictures + len(wanted),
    )


def _prompts(wanted: Wanted) -> tuple[Prompt, ...]:
    source = wanted.source
    return (source.first, source.second) if isinstance(source, Blend) else (source,)


def _words(wanted: Wanted) -> str:
    return " / ".join(prompt.text for prompt in _prompts(wanted))
