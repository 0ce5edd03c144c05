"""Karlo: a decoder of 64 × 64 pixels that reads the prompt, and two super-resolution UNets (arXiv 2204.06125).

``UnCLIPPipeline`` draws its image embedding by its own prior and takes none, so what follows the prior is run here,
part by part of the pipeline and by the same arithmetic.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.models.decoder.base import Call, Decoder, Drawing, Sketch, to_pictures
from eclipse.models.decoder.text import PromptReader

SUPER_RES_STEPS = 7
"""As the pipeline has it: all but the last by ``super_res_first``."""

SUPER_RES_COST = 14.0
"""Of a super-resolution step, in decoder steps: 8.50 against 0.61 TFLOP at the published sizes."""

_DECODER, _FIRST, _LAST = "decoder", "super_res_first", "super_res_last"


class KarloDecoder(Decoder):
    """``UnCLIPPipeline`` without its prior."""

    PIPELINE = "UnCLIPPipeline"
    PARTS = (
        "text_encoder", "tokenizer", "text_proj", _DECODER, _FIRST, _LAST, "decoder_scheduler", "super_res_scheduler"
    )  # fmt: skip
    # Folders say that diffusers or its module "unclip" has it; neither does since that was moved.
    CLASSES: ClassVar[Mapping[str, Any]] = {"text_proj": UnCLIPTextProjModel}
    schedulers = ("unclip",)  # the loop hands each step its next time, which no other scheduler takes
    wants_text = True
    single = frozenset({_FIRST, _LAST})

    def __init__(self, pipeline: Any, *, device: torch.device | None = None, tiled: bool | None = None) -> None:
        if tiled:
            raise ConfigError(
                "decoder.tiled: Karlo draws pixels, there are no latents to decode by tiles; leave it out"
            )
        small = pipeline.decoder.config
        if small.out_channels != 2 * small.in_channels:
            raise CheckpointError(
                f"decoder: out_channels {small.out_channels} is not twice in_channels {small.in_channels}; "
                f"{self.PIPELINE} expects a variance beside the prediction"
            )
        super().__init__(pipeline, device=device)
        unconditional = pipeline.text_proj.learned_classifier_free_guidance_embeddings
        self._unconditional = unconditional.detach().clone().float().cpu()
        self.embedding_dim = len(self._unconditional)
        self.image_size = int(pipeline.super_res_last.config.sample_size)
        self.train_steps = int(pipeline.decoder_scheduler.config["num_train_timesteps"])
        self._read = PromptReader(self)

    @property
    def networks(self) -> Mapping[str, Any]:
        """The decoder's UNet and the two of super-resolution."""
        return {name: getattr(self.pipeline, name) for name in (_DECODER, _FIRST, _LAST)}

    def negative(self, nothing: Callable[[], Tensor]) -> Tensor:
        """The vector that its decoder learned for "no picture"; the CLIP's is none it knows."""
        return self._unconditional[None]

    def check(self, drawing: Drawing) -> None:
        """As :meth:`Decoder.check`: one size, and at least 2 steps, as the sampler's times include both ends."""
        super().check(drawing)
        if not 2 <= drawing.steps <= self.train_steps:
            raise DataError(f"steps: {drawing.steps}; give 2 to {self.train_steps}")
        if (drawing.height, drawing.width) != (self.image_size, self.image_size):
            raise DataError(
                f"size: {drawing.width}x{drawing.height}; this decoder draws {self.image_size}x{self.image_size} only"
            )

    def cost(self, drawing: Drawing) -> float:
        """Its steps, and those of super-resolution at what they cost beside one."""
        return drawing.steps + SUPER_RES_STEPS * SUPER_RES_COST

    def begin(
        self, drawing: Drawing, seed: int, embeds: Tensor, negative: Tensor | None = None, text: str = ""
    ) -> KarloSketch:
        """As :meth:`Decoder.begin`."""
        guided = drawing.guidance > 1 and negative is not None
        rows = [negative, embeds] if guided and negative is not None else [embeds]
        read = [self._read(words) for words in [drawing.negative_prompt, text][-len(rows) :]]
        pooled, states, mask = (torch.cat(parts) for parts in zip(*read, strict=True))
        projection = self.pipeline.text_proj
        self.turn("text_proj")
        context, additive = projection(
            image_embeddings=torch.stack([row.to(self.device, self.dtype) for row in rows]),
            prompt_embeds=pooled,
            text_encoder_hidden_states=states,
            do_classifier_free_guidance=False,  # the negative is among the rows already
        )
        mask = F.pad(mask, (projection.config.clip_extra_context_tokens, 0), value=True)
        return KarloSketch(self, drawing, seed, (context, additive, mask))

    def call(self, network: str, *inputs: Tensor) -> Tensor:
        """Of the decoder [rows, 6, h, w], for pixels, times and what it reads; of super-resolution [rows, 6, H, W]."""
        self.turn(network)
        if network == _DECODER:
            pixels, times, context, additive, mask = inputs
            found = self.pipeline.decoder(
                sample=pixels,
                timestep=times,
                encoder_hidden_states=context,
                class_labels=additive,
                attention_mask=mask,
            )
        else:
            found = self.networks[network](sample=inputs[0], timestep=inputs[1])
        output: Tensor = found.sample
        return output

    def stages(self, steps: int) -> tuple[Any, Any]:
        """Schedulers of its own for one picture: of ``steps`` small steps, and of super-resolution."""
        small, large = (
            copy.deepcopy(scheduler)
            for scheduler in (self.pipeline.decoder_scheduler, self.pipeline.super_res_scheduler)
        )
        small.set_timesteps(steps, device=self.device)
        large.set_timesteps(SUPER_RES_STEPS, device=self.device)
        return small, large

    def sides(self) -> tuple[int, int, int]:
        """Channels of a picture, and its side before and after super-resolution."""
        config = self.pipeline.decoder.config
        return int(config.in_channels), int(config.sample_size), self.image_size


class KarloSketch(Sketch):
    """A picture of Karlo: the decoder's steps with one or two rows, then those of super-resolution with one.

    ``latents`` [1, 3, h, w] are the noisy pixels, small and then large.
    """

    def __init__(self, decoder: KarloDecoder, drawing: Drawing, seed: int, conditions: tuple[Tensor, ...]) -> None:
        super().__init__()
        self._decoder = decoder
        self._small, self._large = decoder.stages(drawing.steps)
        self._generator = torch.Generator().manual_seed(seed)
        self._guidance = drawing.guidance
        self._conditions = conditions
        self._below: Tensor | None = None
        self.rows = len(conditions[0])
        self.steps = len(self._small.timesteps) + len(self._large.timesteps)
        channels, side, _ = decoder.sides()
        self.latents = self._noise((1, channels, side, side), self._small)
        self.predicted = self.latents

    def call(self) -> Call:
        """Of the decoder: pixels, times, context, time's addend, mask; of super-resolution: both pictures, times."""
        if self._below is None:
            time = self._small.timesteps[self.done]
            pixels = self.latents.expand(self.rows, -1, -1, -1)
            return Call(_DECODER, (pixels, time.expand(self.rows), *self._conditions))
        at = self.done - len(self._small.timesteps)
        network = _LAST if at == len(self._large.timesteps) - 1 else _FIRST
        return Call(network, (torch.cat([self.latents, self._below], dim=1), self._large.timesteps[at].expand(1)))

    def advance(self, output: Tensor) -> None:
        """One step on, with the network's ``output`` [rows, 6, …]: prediction and variance of each pixel."""
        if self._below is None:
            channels = self.latents.shape[1]
            prediction, variance = output[-1:, :channels], output[-1:, channels:]
            if self.rows == 2:
                without = output[:1, :channels]
                prediction = without + self._guidance * (prediction - without)
            self._step(self._small, torch.cat([prediction, variance], dim=1), self.done)
        else:
            self._step(self._large, output, self.done - len(self._small.timesteps))
        self.done += 1
        if self._below is None and self.done == len(self._small.timesteps):
            self._enlarge()

    def pixels(self) -> tuple[NDArray[np.uint8], bool]:
        """The pixels as they are."""
        return to_pictures(self.latents)[0], bool(torch.isfinite(self.latents).all())

    def preview(self) -> NDArray[np.uint8]:
        """The prediction; of a small picture, enlarged."""
        return to_pictures(_enlarged(self.predicted, self._decoder.image_size))[0]

    def _step(self, scheduler: Any, output: Tensor, at: int) -> None:
        times = scheduler.timesteps
        result = scheduler.step(
            output,
            times[at],
            self.latents,
            prev_timestep=times[at + 1] if at + 1 < len(times) else None,
            generator=self._generator,
        )
        self.latents, self.predicted = result.prev_sample, result.pred_original_sample

    def _enlarge(self) -> None:
        """From the small picture to super-resolution, which starts from noise again and looks at it."""
        channels, _, side = self._decoder.sides()
        self._below = _enlarged(self.latents.clamp(-1, 1), side)
        self.latents = self._noise((1, channels, side, side), self._large)

    def _noise(self, shape: tuple[int, ...], scheduler: Any) -> Tensor:
        noise: Tensor = randn_tensor(shape, self._generator, self._decoder.device, self._decoder.dtype)
        return noise * scheduler.init_noise_sigma


def _enlarged(pixels: Tensor, side: int) -> Tensor:
    if pixels.shape[-1] == side:
        return pixels
    # On a CPU there is none for half precision.
    whole = pixels.float() if pixels.device.type == "cpu" else pixels
    return F.interpolate(whole, size=[side, side], mode="bicubic", align_corners=False, antialias=True).to(pixels.dtype)
