"""One picture between noise and pixels: its own scheduler, generator, guidance and latents."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from eclipse.errors import ConfigError, DataError
from eclipse.models.decoder import SCHEDULERS, Decoder
from eclipse.serve.types import Drawing

_LEARNED = ("learned", "learned_range")


class Canvas:
    """What all pictures of a decoder have in common: its sizes, its noise schedules, and the way to pixels.

    The decoder must be one that nobody else draws with: its pipeline's scheduler is read here, once.
    """

    def __init__(self, decoder: Decoder) -> None:
        pipeline = decoder.pipeline
        self.device = pipeline.device
        self.image_size = decoder.image_size
        self.channels = int(pipeline.unet.config.in_channels)
        self._movq = pipeline.movq
        self._factor = int(pipeline.movq_scale_factor)
        config = dict(pipeline.scheduler.config)
        # A learned variance serves ancestral sampling only, as in Decoder.
        plain = {key: value for key, value in config.items() if key != "variance_type"}
        self._schedulers = {
            name: kind.from_config(config if name == "ddpm" else plain) for name, kind in SCHEDULERS.items()
        }
        self.train_steps = int(config["num_train_timesteps"])

    def check(self, drawing: Drawing) -> None:
        """Refuse what cannot be drawn: :class:`ConfigError` for the scheduler, :class:`DataError` for steps or size."""
        if drawing.scheduler not in self._schedulers:
            raise ConfigError(f"scheduler {drawing.scheduler!r}: choose {', '.join(self._schedulers)}")
        if not 1 <= drawing.steps <= self.train_steps:
            raise DataError(f"steps: {drawing.steps}; give 1 to {self.train_steps}")
        unit = self._factor**2
        if min(drawing.height, drawing.width) < unit or drawing.height % unit or drawing.width % unit:
            raise DataError(f"size: {drawing.width}x{drawing.height}; this decoder draws multiples of {unit} pixels")

    def scheduler(self, name: str, steps: int) -> Any:
        """A scheduler of its own for one picture, as :class:`~eclipse.models.decoder.Decoder` sets it up."""
        scheduler = copy.deepcopy(self._schedulers[name])
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    def shape(self, drawing: Drawing) -> tuple[int, int, int, int]:
        """Of one picture's latents."""
        return 1, self.channels, drawing.height // self._factor, drawing.width // self._factor

    def pixels(self, latents: Tensor) -> tuple[NDArray[np.uint8], bool]:
        """Latents [1, C, h, w] as a picture uint8 [H, W, 3], and whether all of it was finite; NaN becomes black.

        Always one at a time, so that nothing else can matter; the pipeline's own arithmetic.
        """
        decoded = self._movq.decode(latents, force_not_quantize=True)["sample"]
        finite = bool(torch.isfinite(decoded).all())
        image = (decoded * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()[0]
        return np.rint(np.nan_to_num(image) * 255).astype(np.uint8), finite


class Picture:
    """A picture of ``canvas`` being drawn as ``drawing`` says, from ``embeds`` [P] and the noise of ``seed``.

    ``negative`` [P] is needed where guidance is above 1; the picture then takes two ``rows`` of the UNet's batch, else
    one. ``predicted`` [1, C, h, w] is what the last step took for the finished latents.
    """

    def __init__(
        self, canvas: Canvas, drawing: Drawing, seed: int, embeds: Tensor, negative: Tensor | None = None
    ) -> None:
        self._scheduler = canvas.scheduler(drawing.scheduler, drawing.steps)
        self._generator = torch.Generator().manual_seed(seed)
        noise = randn_tensor(canvas.shape(drawing), self._generator, canvas.device, torch.float32)
        self.latents = noise * self._scheduler.init_noise_sigma
        self.predicted = self.latents
        self._guidance = drawing.guidance
        guided = drawing.guidance > 1 and negative is not None
        conditions = [negative, embeds] if guided and negative is not None else [embeds]
        self.conditions = torch.stack(conditions).to(canvas.device, torch.float32)
        self.rows = len(conditions)
        self.done = 0
        self.steps = len(self._scheduler.timesteps)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done >= self.steps

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The UNet's rows for the next step: latents [rows, C, h, w], timesteps int64 [rows], embeddings [rows, P]."""
        timestep = self._scheduler.timesteps[self.done]
        return self.latents.expand(self.rows, -1, -1, -1), timestep.expand(self.rows), self.conditions

    def advance(self, output: Tensor) -> None:
        """One step on, with the UNet's ``output`` [rows, 2C, h, w] for :meth:`inputs`; as ``KandinskyV22Pipeline``."""
        channels = self.latents.shape[1]
        prediction, variance = output[-1:, :channels], output[-1:, channels:]
        if self.rows == 2:
            without = output[:1, :channels]
            prediction = without + self._guidance * (prediction - without)
        if self._scheduler.config.get("variance_type") in _LEARNED:
            prediction = torch.cat([prediction, variance], dim=1)
        timestep = self._scheduler.timesteps[self.done]
        result = self._scheduler.step(prediction, timestep, self.latents, generator=self._generator)
        self.latents = result.prev_sample
        self.predicted = _predicted(self._scheduler, result)
        self.done += 1


def _predicted(scheduler: Any, result: Any) -> Tensor:
    """x̂_0 of a step: DPM-Solver++ keeps it for its next step, the others return it."""
    predicted = result.pred_original_sample if hasattr(result, "pred_original_sample") else scheduler.model_outputs[-1]
    assert isinstance(predicted, Tensor)
    return predicted
