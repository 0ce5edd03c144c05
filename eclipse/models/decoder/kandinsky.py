"""Kandinsky 2.2 (the mini decoder's class, too) and 2.1: latents by a UNet, pixels by a MoVQ."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.kandinsky.text_encoder import MultilingualCLIP
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from eclipse.errors import CheckpointError, DataError
from eclipse.models.decoder.base import Call, Decoder, Drawing, Sketch, to_pictures
from eclipse.models.decoder.memory import wants_tiles
from eclipse.models.decoder.samplers import SCHEDULERS, learned_variance, make_scheduler, predicted_original
from eclipse.models.decoder.text import PromptReader
from eclipse.models.decoder.tiles import decode_tiled

_UNET, _MOVQ = "unet", "movq"


class KandinskyDecoder(Decoder):
    """What both have in common: samplers, sizes, guidance, and the way to pixels.

    ``tiled``: turn latents into pixels tile by tile; None = where the whole does not fit into the GPU's free memory.
    """

    schedulers = tuple(SCHEDULERS)

    def __init__(self, pipeline: Any, *, device: torch.device | None = None, tiled: bool | None = None) -> None:
        unet = pipeline.unet.config
        if unet.out_channels != 2 * unet.in_channels:
            raise CheckpointError(
                f"decoder unet: out_channels {unet.out_channels} is not twice in_channels {unet.in_channels}; "
                f"{self.PIPELINE} expects a variance beside the prediction"
            )
        super().__init__(pipeline, device=device)
        self.embedding_dim = self._width(unet)
        self.movq = pipeline.movq
        self.channels = int(unet.in_channels)
        self.factor = int(pipeline.movq_scale_factor)
        self.image_size = int(unet.sample_size) * self.factor
        self.train_steps = int(pipeline.scheduler.config["num_train_timesteps"])
        self._scheduler_config = dict(pipeline.scheduler.config)
        self._templates = {name: self._scheduler(name) for name in self.schedulers}
        self._tiled = tiled

    @staticmethod
    @abstractmethod
    def _width(config: Any) -> int:
        """Of image embeddings, by the UNet's ``config``."""

    @abstractmethod
    def _conditions(self, embeds: Tensor, texts: Sequence[str]) -> tuple[Tensor, ...]:
        """What the UNet reads beside latents and time, each [rows, …], for image ``embeds`` [rows, P]."""

    @property
    def networks(self) -> Mapping[str, Any]:
        """The UNet."""
        return {_UNET: self.pipeline.unet}

    def negative(self, nothing: Callable[[], Tensor]) -> Tensor:
        """The embedding of an all-zero pixel tensor, as the prior pipelines of both have it."""
        return nothing()

    def check(self, drawing: Drawing) -> None:
        """As :meth:`Decoder.check`; steps are at most those of training, sides multiples of the MoVQ's."""
        super().check(drawing)
        if not 1 <= drawing.steps <= self.train_steps:
            raise DataError(f"steps: {drawing.steps}; give 1 to {self.train_steps}")
        unit = self.factor**2
        if min(drawing.height, drawing.width) < unit or drawing.height % unit or drawing.width % unit:
            raise DataError(f"size: {drawing.width}x{drawing.height}; this decoder draws multiples of {unit} pixels")

    def begin(
        self, drawing: Drawing, seed: int, embeds: Tensor, negative: Tensor | None = None, text: str = ""
    ) -> KandinskySketch:
        """As :meth:`Decoder.begin`."""
        guided = drawing.guidance > 1 and negative is not None
        rows = [negative, embeds] if guided and negative is not None else [embeds]
        texts = [drawing.negative_prompt, text][-len(rows) :]
        conditions = self._conditions(torch.stack([row.to(self.device, self.dtype) for row in rows]), texts)
        return KandinskySketch(self, drawing, seed, conditions)

    def scheduler(self, name: str, steps: int) -> Any:
        """A scheduler of its own for one picture."""
        scheduler = copy.deepcopy(self._templates[name])
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    def to_pixels(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] as pixels [B, 3, H, W], about -1 to 1: whole, or one by one and tile by tile."""
        self.turn(_MOVQ)
        if wants_tiles(self._tiled, self.movq, latents, self.device):
            return torch.cat([decode_tiled(self.movq, one) for one in latents.split(1)])
        decoded: Tensor = self.movq.decode(latents, force_not_quantize=True)["sample"]
        return decoded

    def _scheduler(self, name: str) -> Any:
        self.check_scheduler(name)
        return make_scheduler(name, self._scheduler_config)


class KandinskyV22Decoder(KandinskyDecoder):
    """``KandinskyV22Pipeline``: its UNet reads image embeddings alone. The only one whose UNet can be finetuned."""

    PIPELINE = "KandinskyV22Pipeline"
    PARTS = ("unet", "movq", "scheduler")
    wants_text = False

    @staticmethod
    def _width(config: Any) -> int:
        return int(config.encoder_hid_dim)

    def _conditions(self, embeds: Tensor, texts: Sequence[str]) -> tuple[Tensor, ...]:
        return (embeds,)

    def call(self, network: str, *inputs: Tensor) -> Tensor:
        """The UNet's [rows, 2C, h, w] for latents [rows, C, h, w], times int64 [rows] and embeddings [rows, P]."""
        self.turn(network)
        latents, times, embeds = inputs
        output: Tensor = self.pipeline.unet(
            sample=latents,
            timestep=times,
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": embeds},
            return_dict=False,
        )[0]
        return output

    def _decode_batch(
        self, drawing: Drawing, embeds: Tensor, seeds: Sequence[int], negative: Tensor | None, texts: Sequence[str]
    ) -> NDArray[np.uint8]:
        """By the unmodified pipeline, up to the latents."""
        self.pipeline.scheduler = self._scheduler(drawing.scheduler)
        self.turn(_UNET)
        latents = self.pipeline(
            image_embeds=embeds.to(self.device, self.dtype),
            negative_image_embeds=None if negative is None else negative.to(self.dtype).expand(len(embeds), -1),
            height=drawing.height,
            width=drawing.width,
            num_inference_steps=drawing.steps,
            guidance_scale=drawing.guidance,
            generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
            output_type="latent",
        ).images
        images = to_pictures(self.to_pixels(latents))
        self.release()
        return images


class Kandinsky21Decoder(KandinskyDecoder):
    """``KandinskyPipeline``: its UNet also reads the prompt, by a multilingual text encoder in the decoder's folder."""

    PIPELINE = "KandinskyPipeline"
    PARTS = ("text_encoder", "tokenizer", "unet", "movq", "scheduler")
    CLASSES: ClassVar[Mapping[str, Any]] = {"text_encoder": MultilingualCLIP}
    wants_text = True

    def __init__(self, pipeline: Any, *, device: torch.device | None = None, tiled: bool | None = None) -> None:
        super().__init__(pipeline, device=device, tiled=tiled)
        self._read = PromptReader(self)

    @staticmethod
    def _width(config: Any) -> int:
        return int(config.cross_attention_dim)  # TextImageProjection takes image embeddings of this width

    def _conditions(self, embeds: Tensor, texts: Sequence[str]) -> tuple[Tensor, ...]:
        read = [self._read(text) for text in texts]
        pooled, states = (torch.cat([text[i] for text in read]) for i in (0, 1))
        return embeds, pooled, states

    def call(self, network: str, *inputs: Tensor) -> Tensor:
        """As Kandinsky 2.2's, with the text's pooled vectors [rows, P] and states [rows, T, D] after the embeddings."""
        self.turn(network)
        latents, times, embeds, pooled, states = inputs
        output: Tensor = self.pipeline.unet(
            sample=latents,
            timestep=times,
            encoder_hidden_states=states,
            added_cond_kwargs={"text_embeds": pooled, "image_embeds": embeds},
            return_dict=False,
        )[0]
        return output


class KandinskySketch(Sketch):
    """A picture of a Kandinsky decoder, step by step as the pipelines' own loop.

    With a negative in ``conditions`` it has two rows, else one. ``latents`` and ``predicted`` [1, C, h, w] are the
    noisy ones and what the last step took for the finished ones.
    """

    def __init__(self, decoder: KandinskyDecoder, drawing: Drawing, seed: int, conditions: tuple[Tensor, ...]) -> None:
        super().__init__()
        self._decoder = decoder
        self._scheduler = decoder.scheduler(drawing.scheduler, drawing.steps)
        self._generator = torch.Generator().manual_seed(seed)
        shape = (1, decoder.channels, drawing.height // decoder.factor, drawing.width // decoder.factor)
        noise = randn_tensor(shape, self._generator, decoder.device, decoder.dtype)
        self.latents = noise * self._scheduler.init_noise_sigma
        self.predicted = self.latents
        self._guidance = drawing.guidance
        self._conditions = conditions
        self.rows = len(conditions[0])
        self.steps = len(self._scheduler.timesteps)

    def call(self) -> Call:
        """Latents [rows, C, h, w], times int64 [rows] and what the UNet reads beside them."""
        time = self._scheduler.timesteps[self.done]
        return Call(_UNET, (self.latents.expand(self.rows, -1, -1, -1), time.expand(self.rows), *self._conditions))

    def advance(self, output: Tensor) -> None:
        """One step on, with the UNet's ``output`` [rows, 2C, h, w]."""
        channels = self.latents.shape[1]
        prediction, variance = output[-1:, :channels], output[-1:, channels:]
        if self.rows == 2:
            without = output[:1, :channels]
            prediction = without + self._guidance * (prediction - without)
        if learned_variance(self._scheduler):
            prediction = torch.cat([prediction, variance], dim=1)
        time = self._scheduler.timesteps[self.done]
        result = self._scheduler.step(prediction, time, self.latents, generator=self._generator)
        self.latents = result.prev_sample
        self.predicted = predicted_original(self._scheduler, result)
        self.done += 1

    def pixels(self) -> tuple[NDArray[np.uint8], bool]:
        """By the MoVQ, always one at a time, so that nothing else can matter."""
        decoded = self._decoder.to_pixels(self.latents)
        return to_pictures(decoded)[0], bool(torch.isfinite(decoded).all())

    def preview(self) -> NDArray[np.uint8]:
        """The prediction by the MoVQ."""
        return to_pictures(self._decoder.to_pixels(self.predicted.to(self._decoder.dtype)))[0]
