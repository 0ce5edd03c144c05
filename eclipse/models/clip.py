"""The frozen CLIP: open_clip's own model class, read strictly from a local folder, giving exactly what priors need.

A folder holds ``open_clip_config.json`` (``model_cfg``, ``preprocess_cfg``, optionally ``name``) and
``open_clip_model.safetensors``, the same names and contents as open_clip's published folders.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP, CLIPTextCfg
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from safetensors.torch import save_file
from torch import Tensor

from eclipse.errors import CheckpointError, DataError
from eclipse.files import atomic_file, read_json, sha256, write_json
from eclipse.models.clip_folder import CONFIG, WEIGHTS, build_clip, check_config, load_strictly, weights_hash_of
from eclipse.models.clip_towers import Precision, Towers
from eclipse.models.device import pick
from eclipse.models.fitting import Fit
from eclipse.models.spans import shown, token_span


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
        self,
        model: CLIP,
        config: dict[str, Any],
        *,
        weights_hash: str,
        name: str,
        device: torch.device,
        precision: Precision = "fp32",
        compile: bool | str = False,
    ) -> None:
        self.model = model.float().eval().requires_grad_(False)
        self._towers = Towers(self.model, precision, compile, device)
        self.precision = precision
        self.model_cfg: dict[str, Any] = config["model_cfg"]
        self.device = device
        self.name = name
        self.weights_hash = weights_hash
        text = self.model_cfg["text_cfg"]
        self._tokenizer = _tokenizer(_clean(text))
        self.context_length = int(model.context_length)
        self.tokenizer_hash = _tokenizer_hash(self.context_length, _clean(text))
        self.state_dim = int(model.ln_final.weight.shape[0])
        self.projection_dim = int(self.model_cfg["embed_dim"])
        self.logit_scale = float(model.logit_scale.exp())
        size = model.visual.image_size
        self.image_size = int(size[0] if isinstance(size, (tuple, list)) else size)
        preprocess = config.get("preprocess_cfg", {})
        squash = preprocess.get("resize_mode", "shortest") == "squash"
        self.fit = Fit(self.image_size, squash, preprocess.get("interpolation", "bicubic"))
        self._mean = torch.tensor(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN), device=device)[:, None, None]
        self._std = torch.tensor(preprocess.get("std", open_clip.OPENAI_DATASET_STD), device=device)[:, None, None]

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device | str | None = None,
        precision: Precision = "fp32",
        compile: bool | str = False,
    ) -> FrozenClip:
        """Read ``folder``; weights of any float type become float32. ``device`` defaults to the one found.

        ``precision`` is that of the towers' matrix products, and ``compile`` compiles them (a text names the backend);
        see :mod:`eclipse.models.clip_towers`. Results are float32 whatever they are.

        Raises :class:`DataError` for missing files and :class:`CheckpointError` where the weights do not fit the
        configuration or the configuration asks for what priors cannot be fed with.
        """
        config = read_json(folder / CONFIG)
        check_config(config, folder / CONFIG)
        model = build_clip(config["model_cfg"], folder / CONFIG)
        load_strictly(model, folder / WEIGHTS)
        device = pick() if device is None else torch.device(device)
        name = str(config.get("name", folder.resolve().name))
        hash_ = weights_hash_of(config, folder / WEIGHTS)
        return cls(model, config, weights_hash=hash_, name=name, device=device, precision=precision, compile=compile)

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

    def tokenize_any(self, captions: list[str]) -> tuple[Tensor, int]:
        """:meth:`tokenize` for captions that nobody chose, and how many of them had to be changed.

        A caption over the context is cut as open_clip does, and the tokenizer's own markers within one are left out;
        tokens behind such a marker are then not where :meth:`token_span` says.
        """
        tokens = torch.zeros(len(captions), self.context_length, dtype=torch.int64)
        markers = start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        changed = 0
        for row, caption in zip(tokens, captions, strict=True):
            ids = self._tokenizer.encode(caption)
            kept = [i for i in ids if i not in markers][: self.context_length - 2]
            changed += kept != ids
            row[: len(kept) + 2] = torch.tensor([start, *kept, end])
        return tokens, changed

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
        # Where the tokens are, on the CPU as a rule: the device is not waited for.
        real = (torch.arange(width, device=tokens.device) <= last[:, None]).flatten().nonzero()[:, 0]
        tokens, last, real = (x.to(self.device, non_blocking=True) for x in (tokens[:, :width], last, real))
        x = self._towers.text(tokens)
        pooled = x[torch.arange(len(x), device=self.device), last]
        projection = self.model.text_projection
        prompt_embeds = projection(pooled) if isinstance(projection, torch.nn.Linear) else pooled @ projection
        return TextEncoding(x.flatten(0, 1)[real], last + 1, prompt_embeds)

    @torch.no_grad()
    def encode_image(self, images: NDArray[Any] | Tensor) -> Tensor:
        """z_x float32 [N, P] on :attr:`device`, projected and not normalised, of ``images`` uint8 [N, H, W, 3]."""
        return self._towers.image(self.preprocess(images))

    @torch.no_grad()
    def encode_nothing(self) -> Tensor:
        """float32 [1, P]: "no picture" in the decoder's guidance, the embedding of an all-zero *pixel* tensor.

        Zero after CLIP's normalisation, as Kandinsky has it: an even picture of the mean colour, not a black one.
        """
        size = self.image_size
        return self._towers.image(torch.zeros(1, 3, size, size, device=self.device))

    def preprocess(self, images: NDArray[Any] | Tensor) -> Tensor:
        """uint8 [N, H, W, 3] to open_clip's normalised float32 [N, 3, S, S] on :attr:`device`, resized where needed."""
        # A decoded PNG may be read-only memory, which torch would warn of.
        x = torch.as_tensor(images if isinstance(images, Tensor) else np.require(images, requirements="W"))
        if x.ndim != 4 or x.shape[-1] != 3 or x.dtype != torch.uint8:
            raise DataError(f"images: need uint8 [N, H, W, 3], got {x.dtype} {list(x.shape)}")
        x = self.fit(x.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float())
        return ((x / 255 - self._mean) / self._std).contiguous()


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


def _clean(text_cfg: dict[str, Any]) -> str:
    return str((text_cfg.get("tokenizer_kwargs") or {}).get("clean", "lower"))


@lru_cache
def _tokenizer(clean: str) -> SimpleTokenizer:
    return SimpleTokenizer(context_length=CLIPTextCfg.context_length, clean=clean)


@lru_cache
def _tokenizer_hash(context_length: int, clean: str) -> str:
    settings = json.dumps({"context_length": context_length, "clean": clean}, sort_keys=True)
    return hashlib.sha256(f"{sha256(Path(default_bpe()))}\0{settings}".encode()).hexdigest()
