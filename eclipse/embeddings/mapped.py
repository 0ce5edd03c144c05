"""Maps the files of an embedding store into memory and holds their sizes against the header."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from eclipse.embeddings.header import STATIC, Header, ShardEntry
from eclipse.errors import StoreError


def map_statics(folder: Path, header: Header) -> dict[str, Tensor]:
    """``mean`` and ``std`` float32 [D], ``bos`` float16 [D]; of annotated data also ``nothing`` float32 [P]."""
    header.static.check_size(folder)
    path = folder / STATIC
    tensors = _tensors(path)
    for name in ("mean", "std", "bos"):
        _check_shape(path, tensors, name, (header.state_dim,))
    if header.subjects:
        _check_shape(path, tensors, "nothing", (header.projection_dim,))
    return tensors


def map_shard(folder: Path, entry: ShardEntry, header: Header) -> dict[str, Tensor]:
    """The tensors of one shard, by the names they were written under (``writer.pack``)."""
    entry.check_size(folder)
    entry.table.check_size(folder)
    path = folder / entry.file
    tensors = _tensors(path)
    _check_shape(path, tensors, "tokens", (entry.tokens, header.state_dim))
    _check_shape(path, tensors, "offsets", (entry.count + 1,))
    _check_shape(path, tensors, "image_embeds", (entry.count, header.projection_dim))
    _check_shape(path, tensors, "prompt_embeds", (entry.count, header.projection_dim))
    if header.tokens == "int8":
        _check_shape(path, tensors, "scale", (entry.tokens,))
    _check_offsets(path, tensors["offsets"], entry.tokens, "offsets do not cover the tokens")
    if header.subjects:
        _check_subjects(path, tensors, entry.count, header.projection_dim)
    return tensors


def _check_subjects(path: Path, tensors: dict[str, Tensor], count: int, dim: int) -> None:
    _check_shape(path, tensors, "control_embeds", (count, dim))
    _check_shape(path, tensors, "subject_offsets", (count + 1,))
    offsets = tensors["subject_offsets"]
    total = int(offsets[-1])
    _check_offsets(path, offsets, total, "subject_offsets do not cover the subjects")
    _check_shape(path, tensors, "subject_embeds", (total, dim))
    _check_shape(path, tensors, "subject_spans", (total, 2))
    start, length = tensors["subject_spans"].unbind(1)
    ends = tensors["offsets"].diff().repeat_interleave(offsets.diff())  # EOS, since BOS is not stored
    if ((start < 1) | (length < 1) | (start + length > ends)).any():
        raise StoreError(f"{path}: subject_spans leave their captions; it is damaged, run the embed stage again")


def _check_offsets(path: Path, offsets: Tensor, total: int, complaint: str) -> None:
    if offsets[0] != 0 or offsets[-1] != total or (offsets.diff() < 1).any():
        raise StoreError(f"{path}: {complaint}; it is damaged, run the embed stage again")


def _tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file as views of its memory map."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: not a whole safetensors file ({error}); run the embed stage again") from None


def _check_shape(path: Path, tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    found = tuple(tensors[name].shape) if name in tensors else None
    if found != shape:
        raise StoreError(f"{path}: {name} has shape {found}, the header says {shape}; run the embed stage again")
