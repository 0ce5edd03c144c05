"""The frozen diffusion decoder: image embeddings to pictures, by the unmodified ``KandinskyV22Pipeline``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, KandinskyV22Pipeline
from diffusers.utils.logging import disable_progress_bar
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from eclipse.errors import CheckpointError, ConfigError, DataError

# Euler-type schedulers run in this pipeline but are silently wrong (it never calls scale_model_input), so only these.
SCHEDULERS: dict[str, Any] = {
    "dpm++": DPMSolverMultistepScheduler,
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
}


class Decoder:
    """A decoder folder (``model_index.json``, ``unet``, ``movq``, ``scheduler``) ready to decode."""

    def __init__(self, pipeline: KandinskyV22Pipeline) -> None:
        unet = pipeline.unet.config
        if unet.out_channels != 2 * unet.in_channels:
            raise CheckpointError(
                f"decoder unet: out_channels {unet.out_channels} is not twice in_channels {unet.in_channels}; "
                "KandinskyV22Pipeline expects a variance beside the prediction"
            )
        self.pipeline = pipeline
        self.embedding_dim = int(unet.encoder_hid_dim)
        self.image_size = int(unet.sample_size) * int(pipeline.movq_scale_factor)
        self._scheduler_config = dict(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(cls, folder: Path, *, device: str | torch.device = "cpu") -> Decoder:
        """Load in float32; :class:`CheckpointError` if the folder is missing or is no such pipeline."""
        if not (folder / "model_index.json").is_file():
            raise CheckpointError(f"{folder}: no model_index.json here; point to a KandinskyV22Pipeline folder")
        try:
            disable_progress_bar()  # of loading four small files
            pipeline = KandinskyV22Pipeline.from_pretrained(
                folder,
                local_files_only=True,
                dtype=torch.float32,
                use_safetensors=True,
                low_cpu_mem_usage=False,
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise CheckpointError(f"{folder}: KandinskyV22Pipeline does not load it ({reason})") from error
        return cls(pipeline.to(device))

    @torch.no_grad()
    def decode(
        self,
        image_embeds: Tensor | NDArray[np.float32],
        *,
        seeds: Sequence[int],
        steps: int,
        scheduler: str = "dpm++",
        guidance: float = 1.0,
        negative_embeds: Tensor | NDArray[np.float32] | None = None,
        batch_size: int = 32,
    ) -> NDArray[np.uint8]:
        """Decode ``image_embeds`` [N, P] to uint8 [N, H, W, 3]; picture i depends on embedding i and seed i alone.

        ``negative_embeds`` [1, P] or [P], the embedding of an all-zero pixel tensor, is needed when ``guidance`` > 1;
        at 1 and below the pipeline calls the UNet once a step, without it.
        Raises :class:`ConfigError` for another scheduler, :class:`DataError` for shapes that do not fit.
        """
        embeds = torch.as_tensor(image_embeds, dtype=torch.float32)
        self._check(embeds, seeds, guidance, negative_embeds)
        self.pipeline.scheduler = self._scheduler(scheduler)
        if not len(embeds):
            return np.zeros((0, self.image_size, self.image_size, 3), np.uint8)
        parts = [
            self._decode_batch(embeds[i : i + batch_size], seeds[i : i + batch_size], steps, guidance, negative_embeds)
            for i in tqdm(range(0, len(embeds), batch_size), desc="decode", delay=2.0, leave=False)
        ]
        return np.concatenate(parts)

    def _decode_batch(
        self, embeds: Tensor, seeds: Sequence[int], steps: int, guidance: float, negative: Any
    ) -> NDArray[np.uint8]:
        device = self.pipeline.device
        if guidance > 1:
            negative = torch.as_tensor(negative, dtype=torch.float32, device=device).reshape(1, -1)
            negative = negative.expand(len(embeds), -1)
        images = self.pipeline(
            image_embeds=embeds.to(device),
            negative_image_embeds=negative,
            height=self.image_size,
            width=self.image_size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds],
            output_type="np",
        ).images
        return np.rint(images * 255).astype(np.uint8)

    def _scheduler(self, name: str) -> Any:
        if name not in SCHEDULERS:
            raise ConfigError(f"scheduler {name!r} is not right with this decoder; choose {', '.join(SCHEDULERS)}")
        config = dict(self._scheduler_config)
        if name != "ddpm":
            # A learned variance serves ancestral sampling only; left in, the pipeline would hand it to the solver.
            config.pop("variance_type", None)
        return SCHEDULERS[name].from_config(config)

    def _check(self, embeds: Tensor, seeds: Sequence[int], guidance: float, negative: Any) -> None:
        if embeds.ndim != 2 or embeds.shape[1] != self.embedding_dim:
            raise DataError(f"image_embeds {tuple(embeds.shape)}: this decoder takes [N, {self.embedding_dim}]")
        if len(seeds) != len(embeds):
            raise DataError(f"{len(seeds)} decoder seeds for {len(embeds)} embeddings; give one each")
        if not bool(torch.isfinite(embeds).all()):
            raise DataError("image_embeds hold values that are not finite; the prior that made them is broken")
        if guidance > 1 and negative is None:
            raise ConfigError(f"guidance {guidance} needs negative_embeds, the embedding of an all-zero pixel tensor")
