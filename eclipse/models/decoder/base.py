"""What every unCLIP decoder is to the rest of the program: image embeddings (and text, where wanted) to pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from eclipse.errors import ConfigError, DataError


@dataclass(frozen=True)
class Drawing:
    """How a decoder draws; ``height`` and ``width`` in pixels.

    ``negative_prompt`` gives the embedding that guidance leads away from; empty, it is that of "no picture". A decoder
    that reads text reads it, too.
    """

    steps: int
    scheduler: str
    guidance: float
    height: int
    width: int
    negative_prompt: str = ""


class Call(NamedTuple):
    """What the next step of a picture asks ``network`` to compute: ``inputs`` are its rows, each [rows, …]."""

    network: str
    inputs: tuple[Tensor, ...]


class Sketch(ABC):
    """A picture between noise and pixels, with a scheduler, a generator and latents of its own.

    Sketches of one decoder and one size can take their steps together, in whatever company: what :meth:`call` asks for
    is computed by :meth:`Decoder.call`, alone or beside the rows of others, and :meth:`advance` takes the result.
    """

    rows: int
    """Rows that it takes of a network's batch, at most."""
    steps: int
    """Steps from noise to the end."""

    def __init__(self) -> None:
        self.done = 0

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done >= self.steps

    @abstractmethod
    def call(self) -> Call:
        """What the next step needs."""

    @abstractmethod
    def advance(self, output: Tensor) -> None:
        """One step on, with the network's ``output`` [rows, …] for :meth:`call`."""

    @abstractmethod
    def pixels(self) -> tuple[NDArray[np.uint8], bool]:
        """The picture uint8 [H, W, 3], and whether all of it was finite; NaN becomes black."""

    @abstractmethod
    def preview(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]: what the last step took for the finished picture."""


class Decoder(ABC):
    """A decoder ready to draw. A class adapts one diffusers pipeline; nothing outside it knows which one.

    ``pipeline`` is the unmodified pipeline with all that is drawn with, its networks of one ``dtype`` on
    ``device``. ``embedding_dim`` P is the width of image embeddings, ``image_size`` the side in pixels it was made for.
    """

    PIPELINE: ClassVar[str]
    """Its class in ``model_index.json``."""
    PARTS: ClassVar[tuple[str, ...]]
    """What is loaded of its folder; what else may be there is left out."""
    CLASSES: ClassVar[Mapping[str, Any]] = {}
    """Parts that are loaded by their class, as diffusers no longer finds it where folders say that it is."""
    schedulers: ClassVar[tuple[str, ...]]
    """Samplers that are right with it, the default first."""
    wants_text: ClassVar[bool]
    """Whether it reads the prompt beside the image embedding."""
    movq: Any = None
    """The autoencoder of its latents, which also tells how far pictures are apart; None where it has none."""
    single: ClassVar[frozenset[str]] = frozenset()
    """Networks that compute pictures one by one where bits must not depend on the company, as padding is dearer."""

    embedding_dim: int
    image_size: int

    def __init__(self, pipeline: Any, *, device: torch.device | None = None) -> None:
        self.pipeline = pipeline
        self.device: torch.device = device or pipeline.device  # which is "cpu" or "meta" where parts are moved
        self.dtype: torch.dtype = next(iter(self.networks.values())).dtype
        self._at: str | None = None
        pipeline.set_progress_bar_config(disable=True)

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, Any]:
        """The networks that steps call, by name."""

    @abstractmethod
    def call(self, network: str, *inputs: Tensor) -> Tensor:
        """Compute ``inputs`` of a :class:`Call`: each row's result depends on that row alone."""

    @abstractmethod
    def begin(
        self, drawing: Drawing, seed: int, embeds: Tensor, negative: Tensor | None = None, text: str = ""
    ) -> Sketch:
        """A picture of ``embeds`` [P] from the noise of ``seed``; ``negative`` [P] is led away from above guidance 1.

        ``text`` is the prompt, for a decoder that reads it; "" stands for none.
        """

    @abstractmethod
    def negative(self, nothing: Callable[[], Tensor]) -> Tensor:
        """The embedding float32 [1, P] of "no picture" that guidance leads away from.

        ``nothing`` gives the CLIP's own, [1, P] of an all-zero pixel tensor, where that is the one.
        """

    def check(self, drawing: Drawing) -> None:
        """Refuse what cannot be drawn: :class:`ConfigError` for the scheduler, :class:`DataError` for steps or size."""
        self.check_scheduler(drawing.scheduler)

    def check_scheduler(self, name: str) -> None:
        """:class:`ConfigError` for a sampler that is not right with this decoder; it lists those that are."""
        if name not in self.schedulers:
            raise ConfigError(f"scheduler {name!r} is not right with this decoder; choose {', '.join(self.schedulers)}")

    def cost(self, drawing: Drawing) -> float:
        """Work of a picture, in decoder steps of one of the decoder's own size."""
        return drawing.steps * drawing.height * drawing.width / self.image_size**2

    def compile(self, backend: str = "inductor") -> None:
        """``torch.compile`` the networks, in place: the first call of each shape takes minutes, later ones less."""
        for network in self.networks.values():
            network.compile(backend=backend)

    def turn(self, part: str) -> None:
        """``part`` is to work now: where parts are moved to the GPU for their work, the one before goes back first.

        The hooks that move them send back only the part before in the order of the pipeline, and pictures that are
        drawn side by side keep to no order.
        """
        if self._at not in (None, part):
            self.release()
        self._at = part

    def release(self) -> None:
        """A picture is done: where parts are moved to the GPU for their work, the last one goes back."""
        self.pipeline.maybe_free_model_hooks()
        self._at = None

    @torch.no_grad()
    def decode(
        self,
        image_embeds: Tensor | NDArray[np.float32],
        *,
        seeds: Sequence[int],
        steps: int,
        scheduler: str | None = None,
        guidance: float = 1.0,
        negative_embeds: Tensor | NDArray[np.float32] | None = None,
        prompts: Sequence[str] | None = None,
        batch_size: int = 32,
    ) -> NDArray[np.uint8]:
        """Decode ``image_embeds`` [N, P] to uint8 [N, H, W, 3]; picture i depends on embedding, seed, prompt i alone.

        ``negative_embeds`` [1, P] or [P], what :meth:`negative` gives, is needed when ``guidance`` > 1; at 1 and below
        there is one network row for a picture, without it. ``prompts`` are needed where :attr:`wants_text`. Raises
        :class:`ConfigError` for another scheduler, :class:`DataError` for shapes that do not fit.
        """
        embeds = torch.as_tensor(image_embeds, dtype=torch.float32)
        self._check_batch(embeds, seeds, guidance, negative_embeds, prompts)
        drawing = Drawing(steps, scheduler or self.schedulers[0], guidance, self.image_size, self.image_size)
        self.check(drawing)
        if not len(embeds):
            return np.zeros((0, self.image_size, self.image_size, 3), np.uint8)
        negative = None
        if guidance > 1:
            negative = torch.as_tensor(negative_embeds, dtype=torch.float32, device=self.device).reshape(-1)
        texts = list(prompts) if prompts is not None else [""] * len(embeds)
        parts = []
        for i in tqdm(range(0, len(embeds), batch_size), desc="decode", delay=2.0, leave=False):
            rows = slice(i, i + batch_size)
            parts.append(self._decode_batch(drawing, embeds[rows], seeds[rows], negative, texts[rows]))
        return np.concatenate(parts)

    def _decode_batch(
        self, drawing: Drawing, embeds: Tensor, seeds: Sequence[int], negative: Tensor | None, texts: Sequence[str]
    ) -> NDArray[np.uint8]:
        """uint8 [B, H, W, 3], all pictures step by step together."""
        sketches = [
            self.begin(drawing, int(seed), row, negative, text)
            for seed, row, text in zip(seeds, embeds, texts, strict=True)
        ]
        while not sketches[0].finished:
            calls = [sketch.call() for sketch in sketches]
            inputs = [torch.cat(part) for part in zip(*(call.inputs for call in calls), strict=True)]
            outputs = self.call(calls[0].network, *inputs).split([len(call.inputs[0]) for call in calls])
            for sketch, output in zip(sketches, outputs, strict=True):
                sketch.advance(output)
        images = np.stack([sketch.pixels()[0] for sketch in sketches])
        self.release()
        return images

    def _check_batch(self, embeds: Tensor, seeds: Sequence[int], guidance: float, negative: Any, prompts: Any) -> None:
        if embeds.ndim != 2 or embeds.shape[1] != self.embedding_dim:
            raise DataError(f"image_embeds {tuple(embeds.shape)}: this decoder takes [N, {self.embedding_dim}]")
        if len(seeds) != len(embeds):
            raise DataError(f"{len(seeds)} decoder seeds for {len(embeds)} embeddings; give one each")
        if self.wants_text and (prompts is None or len(prompts) != len(embeds)):
            given = "no" if prompts is None else len(prompts)
            raise DataError(f"{given} prompts for {len(embeds)} embeddings; this decoder reads text, give one each")
        if not bool(torch.isfinite(embeds).all()):
            raise DataError("image_embeds hold values that are not finite; the prior that made them is broken")
        if guidance > 1 and negative is None:
            raise ConfigError(
                f"guidance {guidance} needs negative_embeds, what the decoder's negative() gives: the embedding of an "
                "all-zero pixel tensor, or the decoder's own of no picture"
            )


def to_pictures(decoded: Tensor) -> NDArray[np.uint8]:
    """Pixels [B, 3, H, W] in [-1, 1] as uint8 [B, H, W, 3], by the pipelines' own arithmetic; NaN becomes black."""
    images = (decoded * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
    return np.rint(np.nan_to_num(images) * 255).astype(np.uint8)
