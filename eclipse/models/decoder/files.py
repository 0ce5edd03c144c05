"""Which files of a published pipeline a decoder is made of: its parts' configurations, weights and words."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatch
from pathlib import Path

from eclipse.errors import CheckpointError
from eclipse.files import read_json
from eclipse.models.decoder.base import Decoder

_WORDS = ("tokenizer.json", "vocab.json", "sentencepiece.bpe.model", "spiece.model")


def chosen(adapter: type[Decoder], names: Collection[str]) -> list[str]:
    """Of all ``names`` of a repository, those that ``adapter`` loads: no other part, no other type of weights.

    Weights are the plain ones, whole or in shards; where a part has none, those named ``fp16``.
    """
    found = ["model_index.json"]
    for part in adapter.PARTS:
        there = [name for name in names if name.startswith(f"{part}/")]
        if _stem(part) is None:
            found += there
            continue
        found += [name for name in there if name in (f"{part}/config.json", f"{part}/generation_config.json")]
        for pattern in _weights(part):
            weights = [name for name in there if fnmatch(name, pattern)]
            if weights:
                found += weights + [name for name in there if fnmatch(name, _index(pattern))]
                break
    return sorted(found)


def lacking(adapter: type[Decoder], names: Collection[str], read: Callable[[str], Path]) -> list[str]:
    """What ``names`` do not hold of what ``adapter`` loads; ``read`` gives a file, for lists of shards."""
    missing = []
    for part in adapter.PARTS:
        stem = _stem(part)
        if part.endswith("scheduler"):
            wanted = [[f"{part}/scheduler_config.json"]]
        elif stem is None:
            wanted = [[f"{part}/tokenizer_config.json"], [f"{part}/{name}" for name in _WORDS]]
        else:
            wanted = [[f"{part}/config.json"], _weights(part)]
        for patterns in wanted:
            if not any(fnmatch(name, pattern) for name in names for pattern in patterns):
                missing.append(patterns[0])
        missing += [name for index in names if fnmatch(index, f"{part}/*.index*.json") for name in _shards(index, read)]
    return [name for name in missing if name not in names]


def _stem(part: str) -> str | None:
    """What the weights of a part are called; None for a part without any."""
    if part.endswith("scheduler") or part == "tokenizer":
        return None
    return "model" if part == "text_encoder" else "diffusion_pytorch_model"


def _weights(part: str) -> list[str]:
    stem = f"{part}/{_stem(part)}"
    ends = (".safetensors", "-*-of-*[0-9].safetensors", ".fp16.safetensors", ".fp16-*-of-*.safetensors")
    return [f"{stem}{end}" for end in ends]


def _index(pattern: str) -> str:
    """The list of shards beside weights of this ``pattern``; nothing where they are one file."""
    stem, shards, _ = pattern.partition("-*-of-")
    if not shards:
        return ""
    plain, variant, _ = stem.partition(".fp16")
    return f"{plain}.safetensors.index{variant}.json"


def _shards(index: str, read: Callable[[str], Path]) -> list[str]:
    listed = read_json(read(index))
    if not isinstance(listed, dict) or not isinstance(listed.get("weight_map"), dict):
        raise CheckpointError(f"{index}: lists no shards (weight_map); fetch the decoder again")
    folder = index.rpartition("/")[0]
    return sorted({f"{folder}/{name}" for name in listed["weight_map"].values()})
