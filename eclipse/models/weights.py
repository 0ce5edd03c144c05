"""Weights in safetensors, in one file or in shards, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open
from torch import Tensor

from eclipse.errors import CheckpointError
from eclipse.files import read_json
from eclipse.models import hub


@dataclass(frozen=True)
class Weights:
    """``files``: name of a weight → its file; ``shapes``: name → shape. Nothing is in memory yet."""

    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]

    def tensor(self, name: str) -> Tensor:
        """Read one weight, on the CPU, in its own type."""
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)


def open_weights(repo: str, revision: str | None, name: str, names: set[str]) -> tuple[Weights, dict[str, Path]]:
    """The weights ``name`` (``model.safetensors``) of ``repo``, or its shards, and the files they are in.

    ``names`` are all files of the repository. A damaged file, or an index that does not say what its shards hold, is a
    :class:`CheckpointError`.
    """
    index = f"{name}.index.json"
    files: dict[str, Path] = {}
    if name in names or index not in names:
        files[name] = hub.fetch(repo, revision, name)
        return Weights(*_headers([files[name]])), files
    files[index] = hub.fetch(repo, revision, index)
    weight_map = _weight_map(files[index])
    folder = PurePosixPath(name).parent
    for shard in sorted(set(weight_map.values())):
        files[str(folder / shard)] = hub.fetch(repo, revision, str(folder / shard))
    located, shapes = _headers([path for file, path in files.items() if file != index])
    if set(shapes) != set(weight_map):
        odd = sorted(set(shapes) ^ set(weight_map))[0]
        raise CheckpointError(f"{files[index]}: it and its shards disagree about {odd}; fetch them again")
    return Weights(located, shapes), files


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(shard, str) for shard in found.values()):
        raise CheckpointError(f"{index}: has no weight_map from weights to the files they are in; fetch it again")
    return found


def _headers(paths: list[Path]) -> tuple[dict[str, Path], dict[str, tuple[int, ...]]]:
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - no dict
                    files[name], shapes[name] = path, tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not a whole safetensors file ({error}); fetch it again") from None
    return files, shapes
