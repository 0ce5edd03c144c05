"""CLIP's vocabulary in both forms, and the tokeniser that goes into an exported pipeline.

transformers' tokeniser gives the ids of open_clip's for every caption that open_clip's cleaning leaves as it is, but
for the markers: docs/checkpoints.md lists the differences, tests/models/test_clip_forms_words.py holds them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from open_clip.tokenizer import SimpleTokenizer

from eclipse.errors import CheckpointError
from eclipse.files import read_json

_MARKERS = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
"""The same two ids: what open_clip calls them and what OpenAI and transformers do."""


@lru_cache(maxsize=1)
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token → id under transformers' names, and the merges in the order of their ranks."""
    tokenizer = SimpleTokenizer()
    words = {_MARKERS.get(word, word): number for word, number in tokenizer.encoder.items()}
    return words, sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)


def write_tokenizer(folder: Path, context_length: int) -> None:
    """Write transformers' ``CLIPTokenizer`` of this vocabulary, padding with end-of-text as OpenAI's.

    Not with "!", as laion's and Kandinsky's: a padding token is special, and each "!" of a caption would become one.
    """
    from transformers import CLIPTokenizer

    words, merges = vocabulary()
    tokenizer = CLIPTokenizer(
        vocab=dict(words), merges=list(merges), pad_token="<|endoftext|>", model_max_length=context_length
    )
    tokenizer.save_pretrained(folder)


def check_vocabulary(path: Path, name: str) -> None:
    """Refuse a ``vocab.json`` or ``tokenizer.json`` (by its ``name``) of another vocabulary, by CheckpointError."""
    found: Any = read_json(path)
    if name.endswith("tokenizer.json"):
        found = found.get("model", {}).get("vocab") if isinstance(found, dict) else None
    if found != vocabulary()[0]:
        raise CheckpointError(f"{path}: not CLIP's vocabulary; its captions would have other tokens than here")
