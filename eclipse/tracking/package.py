"""A prior as an MLflow model in a folder: weights as safetensors, code as source files, nothing pickled."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import eclipse
from eclipse.errors import DataError
from eclipse.tracking.selected import FILES, SelectedPrior

if TYPE_CHECKING:
    from mlflow.models import Model

CLIP_INSIDE = 100_000_000
"""Bytes up to which the CLIP's folder is put into a model; a larger one is named when the model is loaded."""
_REQUIREMENTS = ("mlflow", "torch", "torchvision", "diffusers", "open_clip_torch", "safetensors", "numpy", "pandas")
_CODE = Path(__file__).with_name("pyfunc_prior.py")
_EXAMPLE = {"prompt": ["a red striped star left of a blue heart", "a green ring"], "seed": [0, 1]}


@dataclass(frozen=True)
class Package:
    """A prior that predicted embeddings of ``width`` with ``clip``; ``inside``: the model is to hold that CLIP."""

    found: SelectedPrior
    clip: Path
    inside: bool
    width: int

    def write(self, to: Path, model: Model) -> None:
        """Write the MLflow model folder ``to``; ``model`` is its description with the id that it has."""
        import pandas as pd
        from mlflow import pyfunc

        with tempfile.TemporaryDirectory() as beside:
            pyfunc.save_model(
                path=to,
                mlflow_model=model,
                python_model=shutil.copy(_CODE, beside),  # where it lay stands in the model for good
                artifacts=self._artifacts(Path(beside)),
                code_paths=[str(Path(eclipse.__file__).parent)],
                signature=_signature(self.width),
                input_example=pd.DataFrame(_EXAMPLE),
                pip_requirements=requirements(),
                # MLflow lets a person override on loading only what was there on saving.
                model_config=None if self.inside else {"clip": ""},
            )
        for cache in list(to.rglob("__pycache__")):
            shutil.rmtree(cache)

    def _artifacts(self, beside: Path) -> dict[str, str]:
        """Copies named as the model is to name them: MLflow keeps a folder's own name."""
        (beside / "prior").mkdir()
        for name in FILES:
            shutil.copyfile(self.found.folder / name, beside / "prior" / name)
        if not self.inside:
            return {"prior": str(beside / "prior")}
        shutil.copytree(self.clip, beside / "clip")
        return {"prior": str(beside / "prior"), "clip": str(beside / "clip")}


def prepare(found: SelectedPrior, clip: Path, clip_inside: int = CLIP_INSIDE) -> Package:
    """Let the prior predict the input example: one that cannot, with this CLIP, is not worth registering.

    A CLIP that is not there or another than the prior was trained with is a :class:`DataError` or
    :class:`CheckpointError`. It goes into the model where its folder has at most ``clip_inside`` bytes.
    """
    import pandas as pd
    from mlflow.pyfunc import PythonModelContext

    from eclipse.tracking.pyfunc_prior import PriorModel

    if not clip.is_dir():
        raise DataError(f"{clip}: no such folder; give the frozen models that the prior was trained with by --frozen")
    context = PythonModelContext({"prior": str(found.folder)}, {"clip": str(clip)})
    model = PriorModel()
    model.load_context(context)
    width = model.predict(context, pd.DataFrame(_EXAMPLE)).shape[1]
    size = sum(path.stat().st_size for path in clip.rglob("*") if path.is_file())
    return Package(found, clip, size <= clip_inside, width)


def requirements() -> list[str]:
    """What predicting needs, at the versions installed here, as pip takes them."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _REQUIREMENTS]


def _signature(width: int) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([ColSpec("string", "prompt"), ColSpec("long", "seed", required=False)]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, width))]),
    )
