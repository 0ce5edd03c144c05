"""Samplers by name, and the reasons why a decoder takes some and refuses the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

# Euler-type schedulers run in Kandinsky's pipelines but are silently wrong, as scale_model_input is never called, and
# UniPC, DEIS, PNDM, Heun raise, as step takes no generator; so only these.
SCHEDULERS: dict[str, Any] = {
    "dpm++": DPMSolverMultistepScheduler,
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
}

_LEARNED = ("learned", "learned_range")
_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


def make_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """Scheduler ``name`` of :data:`SCHEDULERS` over the noise schedule of a decoder's own ``config``."""
    settings = dict(config)
    if name != "ddpm":
        # A learned variance serves ancestral sampling only; left in, the pipeline would hand it to the solver.
        settings.pop("variance_type", None)
    if name == "dpm++" and not any(key in settings for key in _SIGMAS) and not settings.get("rescale_betas_zero_snr"):
        # Few steps gain most from Karras' spacing (arXiv 2206.00364, Eq. 5). It has to start at a finite sigma, which a
        # schedule that ends in pure noise has not.
        settings["use_karras_sigmas"] = True
    return SCHEDULERS[name].from_config(settings)


def learned_variance(scheduler: Any) -> bool:
    """Whether a step takes the predicted variance beside the prediction."""
    return scheduler.config.get("variance_type") in _LEARNED


def predicted_original(scheduler: Any, result: Any) -> Tensor:
    """x̂_0 of a step: DPM-Solver++ keeps it for its next step, the others return it."""
    predicted = result.pred_original_sample if hasattr(result, "pred_original_sample") else scheduler.model_outputs[-1]
    assert isinstance(predicted, torch.Tensor)
    return predicted
