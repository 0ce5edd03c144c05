"""A registered prior as an MLflow model: prompts in, image embeddings out.

MLflow copies this file into the model and runs it on loading, so that no object is pickled. The model has the prior's
folder as an artifact, and the folder of the CLIP where that is small; else the CLIP is found by :func:`clip_folder`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

from eclipse.errors import CheckpointError, DataError
from eclipse.files import read_json
from eclipse.models.api import predict
from eclipse.models.checkpoint import kind_of, load_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.device import pick

CLIP = "clip"
CLIP_VARIABLE = "ECLIPSE_CLIP"


class PriorModel(PythonModel):
    """What ``mlflow.pyfunc.load_model`` gives for a version. A λ-ECLIPSE prior predicts without subjects and edges."""

    def load_context(self, context: Any) -> None:
        """Load prior and CLIP; a CLIP that the prior was not trained with is a :class:`CheckpointError`."""
        prior, clip = Path(context.artifacts["prior"]), clip_folder(context.artifacts, context.model_config or {})
        wanted = read_json(prior / "training.json")["encoder_hash"]
        self._clip = FrozenClip.load(clip, device=pick())
        if self._clip.weights_hash != wanted:
            raise CheckpointError(
                f"{clip}: is the CLIP {self._clip.weights_hash[:12]}, but the prior was trained with {wanted[:12]}; "
                f"name the folder of that one in {CLIP_VARIABLE}"
            )
        self._prior = load_prior(prior, device=self._clip.device)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> NDArray[np.float32]:
        """ẑ_x float32 [N, P], a row for each ``prompt`` with the prior's noise of its ``seed`` (0 without the column).

        Each is computed in a batch of its own, so that on the CPU a row has the same bits whatever the others are.
        """
        table = pd.DataFrame(model_input)
        seeds = table["seed"] if "seed" in table else [0] * len(table)
        rows = [self._embed(prompt, int(seed)) for prompt, seed in zip(table["prompt"], seeds, strict=True)]
        return np.stack(rows) if rows else np.zeros((0, self._clip.projection_dim), np.float32)

    def _embed(self, prompt: Any, seed: int) -> NDArray[np.float32]:
        if not isinstance(prompt, str) or not prompt.strip():
            raise DataError(f"prompt: {prompt!r} is no text; give a table with a row for each prompt")
        captions = self._clip.encode_text(self._clip.tokenize([prompt]))
        control = self._clip.encode_nothing() if kind_of(self._prior) == "lambda-eclipse" else None
        embeds: NDArray[np.float32] = predict(self._prior, captions, seeds=[seed], control_embeds=control).cpu().numpy()
        return embeds[0]


def clip_folder(artifacts: dict[str, str], config: dict[str, Any]) -> Path:
    """The folder of the CLIP: inside the model, or that of ``model_config={"clip": …}``, or of ECLIPSE_CLIP."""
    given = artifacts.get(CLIP) or config.get(CLIP) or os.environ.get(CLIP_VARIABLE)
    if not given:
        raise CheckpointError(
            f"{CLIP_VARIABLE}: not set, and this model does not hold its CLIP; name the folder of the CLIP there"
        )
    return Path(given)


set_model(PriorModel())
