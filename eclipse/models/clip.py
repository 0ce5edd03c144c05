"""The frozen CLIP: open_clip's own model class, read strictly from a local folder, giving exactly what priors need.

A folder holds ``open_clip_config.json`` (``model_cfg``, ``preprocess_cfg``, optionally ``name``) and
``open_clip_model.safetensors``, the same names and contents as open_clip's published folders.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.model import CLIP, CLIPTextCfg
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eclipse.errors import CheckpointError, DataError
from eclipse.files import atomic_file, read_json, sha256, write_json
from eclipse.models.device import pick
from eclipse.models.spans import shown, token_span

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class TextEncoding:
    """Captions as priors read them, without padding.

    ``text_states`` float32 [ΣL, D]: the states of the real tokens (BOS..EOS) after the final LayerNorm, caption after
    caption; ``lengths`` int64 [N]; ``prompt_embeds`` z_y float32 [N, P]: projected, not normalised.
    """

    text_states: Tensor
    lengths: Tensor
    prompt_embeds: Tensor


class FrozenClip:
    """A CLIP in eval mode and without gradients. Make one with :meth:`load`."""

    def __init__(
        self, model: CLIP, config: dict[str, Any], *, weights_hash: str, name: str, device: torch.device
    ) -> None:
        self.model = model.float().eval().requires_grad_(False).to(device)
        self.device = device
        self.name = name
        self.weights_hash = weights_hash
        text = config["model_cfg"]["text_cfg"]
        self._tokenizer = _tokenizer(_clean(text))
        self.context_length = int(model.context_length)
        self.tokenizer_hash = _tokenizer_hash(self.context_length, _clean(text))
        self.state_dim = int(model.ln_final.weight.shape[0])
        self.projection_dim = int(config["model_cfg"]["embed_dim"])
        self.logit_scale = float(model.logit_scale.exp())
        size = model.visual.image_size
        self.image_size = int(size[0] if isinstance(size, (tuple, list)) else size)
        preprocess = config.get("preprocess_cfg", {})
        self._interpolation = preprocess.get("interpolation", "bicubic")
        self._squash = preprocess.get("resize_mode", "shortest") == "squash"
        self._mean = torch.tensor(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN), device=device)[:, None, None]
        self._std = torch.tensor(preprocess.get("std", open_clip.OPENAI_DATASET_STD), device=device)[:, None, None]

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str | None = None) -> FrozenClip:
        """Read ``folder``; weights of any float type become float32. ``device`` defaults to the one found.

        Raises :class:`DataError` for missing files and :class:`CheckpointError` where the weights do not fit the
        configuration or the configuration asks for what priors cannot be fed with.
        """
        config = read_json(folder / CONFIG)
        _check_config(config, folder / CONFIG)
        model = _build(config["model_cfg"], folder / CONFIG)
        _load_strictly(model, folder / WEIGHTS)
        device = pick() if device is None else torch.device(device)
        name = str(config.get("name", folder.resolve().name))
        return cls(model, config, weights_hash=_weights_hash(config, folder / WEIGHTS), name=name, device=device)

    def tokenize(self, captions: list[str], *, truncate: bool = False) -> Tensor:
        """Token ids int64 [N, context_length] (CPU), zero after EOS.

        A caption of more tokens than the context is a :class:`DataError` that shows it, unless ``truncate``: then it
        is cut as open_clip does, with EOS as its last token.
        """
        tokens = torch.zeros(len(captions), self.context_length, dtype=torch.int64)
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        for row, caption in zip(tokens, captions, strict=True):
            ids = self._tokenizer.encode(caption)
            if start in ids or end in ids:
                raise DataError(f"caption {shown(caption)}: holds a marker of the tokenizer; remove it")
            if len(ids) > self.context_length - 2:
                if not truncate:
                    raise DataError(
                        f"caption {shown(caption)}: {len(ids) + 2} tokens do not fit the context of "
                        f"{self.context_length}; shorten it"
                    )
                ids = ids[: self.context_length - 2]
            row[: len(ids) + 2] = torch.tensor([start, *ids, end])
        return tokens

    def token_span(self, caption: str, span: tuple[int, int]) -> tuple[int, int]:
        """(first token, number of tokens) of the characters ``span`` (half-open) of ``caption``; BOS is token 0.

        The row of :meth:`tokenize` holds that noun there. A span that cuts a word of the tokenizer, holds none, cannot
        be followed through its cleaning or lies beyond the context is a :class:`DataError`.
        """
        start, length = token_span(self._tokenizer, caption, span)
        if start + length >= self.context_length:
            raise DataError(
                f"caption {shown(caption)}: {caption[span[0] : span[1]]!r} lies beyond the context of "
                f"{self.context_length} tokens; shorten the caption"
            )
        return start, length

    @torch.no_grad()
    def encode_text(self, tokens: Tensor) -> TextEncoding:
        """Encode ``tokens`` int64 [N, context_length] of :meth:`tokenize`; results are on :attr:`device`.

        Only positions up to the longest caption are computed: attention is causal, so what follows EOS cannot matter.
        """
        last = tokens.argmax(1)  # EOS has the largest id
        width = int(last.max()) + 1 if len(tokens) else 1
        tokens, last = tokens[:, :width].to(self.device), last.to(self.device)
        x = self.model.token_embedding(tokens) + self.model.positional_embedding[:width]
        x = self.model.ln_final(self.model.transformer(x, attn_mask=self.model.attn_mask[:width, :width]))
        pooled = x[torch.arange(len(x), device=self.device), last]
        projection = self.model.text_projection
        prompt_embeds = projection(pooled) if isinstance(projection, torch.nn.Linear) else pooled @ projection
        real = torch.arange(width, device=self.device) <= last[:, None]
        return TextEncoding(x[real], last + 1, prompt_embeds)

    @torch.no_grad()
    def encode_image(self, images: NDArray[Any] | Tensor) -> Tensor:
        """z_x float32 [N, P] on :attr:`device`, projected and not normalised, of ``images`` uint8 [N, H, W, 3]."""
        return self.model.visual(self.preprocess(images)).float()

    @torch.no_grad()
    def encode_nothing(self) -> Tensor:
        """float32 [1, P]: "no picture" in the decoder's guidance, the embedding of an all-zero *pixel* tensor.

        Zero after CLIP's normalisation, as Kandinsky has it: an even picture of the mean colour, not a black one.
        """
        size = self.image_size
        return self.model.visual(torch.zeros(1, 3, size, size, device=self.device)).float()

    def preprocess(self, images: NDArray[Any] | Tensor) -> Tensor:
        """uint8 [N, H, W, 3] to open_clip's normalised float32 [N, 3, S, S] on :attr:`device`, resized where needed."""
        # A decoded PNG may be read-only memory, which torch would warn of.
        x = torch.as_tensor(images if isinstance(images, Tensor) else np.require(images, requirements="W"))
        if x.ndim != 4 or x.shape[-1] != 3 or x.dtype != torch.uint8:
            raise DataError(f"images: need uint8 [N, H, W, 3], got {x.dtype} {list(x.shape)}")
        x = self._resized(x.to(self.device).permute(0, 3, 1, 2).float())
        return ((x / 255 - self._mean) / self._std).contiguous()

    def _resized(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        size = self.image_size
        if (height, width) == (size, size):
            return x
        target = (size, size)
        if not self._squash:
            scale = size / min(height, width)
            target = (max(size, int(height * scale)), max(size, int(width * scale)))
        x = F.interpolate(x, target, mode=self._interpolation, antialias=True, align_corners=False)
        top, left = round((target[0] - size) / 2), round((target[1] - size) / 2)
        # PIL, which CLIPs were trained with, resizes to whole grey levels.
        return x[..., top : top + size, left : left + size].round().clamp(0, 255)


def save_clip(
    model: CLIP,
    config: dict[str, Any],
    folder: Path,
    *,
    name: str = "clip",
    preprocess: dict[str, Any] | None = None,
) -> None:
    """Write ``model`` as :meth:`FrozenClip.load` reads it. ``config`` is its ``model_cfg``; weights become float16.

    Batch-norm statistics and scalars (the logit scale) keep their type: they are few, and float16 would shift them.
    """
    half = {key for key, value in model.named_parameters() if value.ndim}
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    state = {key: value.half() if key in half else value for key, value in state.items()}
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{folder / WEIGHTS}: {key} is not finite in {value.dtype}; train again")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / WEIGHTS) as beside:
        save_file(state, beside)
    default = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    write_json(folder / CONFIG, {"name": name, "model_cfg": config, "preprocess_cfg": preprocess or default})


def _check_config(config: Any, path: Path) -> None:
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise CheckpointError(f"{path}: has no model_cfg; this is not an open_clip folder")
    text = config["model_cfg"].get("text_cfg", {})
    known = inspect.signature(CLIP.__init__).parameters
    foreign = sorted(set(config["model_cfg"]) - set(known))
    if foreign or text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        what = ", ".join(foreign) or "a Hugging Face text tower"
        raise CheckpointError(f"{path}: {what} is not supported; use a CLIP with open_clip's own text tower")
    unlike = {"pool_type": "argmax", "no_causal_mask": False, "embed_cls": False, "proj_type": "linear"}
    for key, needed in unlike.items():
        if text.get(key, needed) != needed:
            raise CheckpointError(f"{path}: text_cfg.{key} must be {needed} for a prior's causal text states")
    preprocess = config.get("preprocess_cfg", {})
    if preprocess.get("resize_mode", "shortest") not in ("shortest", "squash"):
        raise CheckpointError(f"{path}: preprocess_cfg.resize_mode must be shortest or squash")
    if preprocess.get("interpolation", "bicubic") not in ("bicubic", "bilinear"):
        raise CheckpointError(f"{path}: preprocess_cfg.interpolation must be bicubic or bilinear")
    if set(text.get("tokenizer_kwargs") or {}) - {"clean"}:
        raise CheckpointError(f"{path}: text_cfg.tokenizer_kwargs may set nothing but clean")


def _build(model_cfg: dict[str, Any], path: Path) -> CLIP:
    try:
        # Initialisation is overwritten by the weights: it must not move the caller's random state.
        with torch.random.fork_rng(devices=[]):
            return CLIP(**model_cfg)
    except (TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{path}: model_cfg does not describe a CLIP: {' '.join(str(error).split())}") from None


def _load_strictly(model: CLIP, path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the stage that writes it (dvc repro)")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); fetch or train it again") from None
    try:
        model.load_state_dict({key: v.float() if v.is_floating_point() else v for key, v in state.items()}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit {CONFIG}: {' '.join(str(error).split())}") from None


def _weights_hash(config: dict[str, Any], weights: Path) -> str:
    """Over the weights and everything in the configuration that changes what they compute (heads, activation, mean)."""
    meaning = {key: config.get(key) for key in ("model_cfg", "preprocess_cfg")}
    return hashlib.sha256(f"{json.dumps(meaning, sort_keys=True)}\0{sha256(weights)}".encode()).hexdigest()


def _clean(text_cfg: dict[str, Any]) -> str:
    return str((text_cfg.get("tokenizer_kwargs") or {}).get("clean", "lower"))


@lru_cache
def _tokenizer(clean: str) -> SimpleTokenizer:
    return SimpleTokenizer(context_length=CLIPTextCfg.context_length, clean=clean)


@lru_cache
def _tokenizer_hash(context_length: int, clean: str) -> str:
    settings = json.dumps({"context_length": context_length, "clean": clean}, sort_keys=True)
    return hashlib.sha256(f"{sha256(Path(default_bpe()))}\0{settings}".encode()).hexdigest()
