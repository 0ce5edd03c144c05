"""Where a noun's tokens are: characters of a caption to positions in the tokenizer's output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from eclipse.errors import DataError

# Invisible signs that no step of the cleaning changes, and that lower() looks through when it forms a final sigma.
_OPEN, _CLOSE = "\u2062", "\u2063"


class Tokenizer(Protocol):
    """What is needed of open_clip's SimpleTokenizer: its cleaning, its pattern of words, and its byte-pair merges."""

    clean_fn: Callable[[str], str]
    pat: Any
    byte_encoder: dict[int, str]

    def bpe(self, token: str) -> str:
        """A word's byte-pair tokens, separated by blanks."""


def token_span(tokenizer: Tokenizer, caption: str, span: tuple[int, int]) -> tuple[int, int]:
    """(first token, number of tokens) of the characters ``span`` (half-open) of ``caption``; BOS is token 0.

    The span must hold whole words of the tokenizer: a run of letters, one digit, or a run of other signs. One that cuts
    a word, holds none, or cannot be followed through the tokenizer's cleaning is a :class:`DataError`.
    """
    first, last = span
    if not 0 <= first < last <= len(caption):
        raise DataError(f"caption {shown(caption)}: span {first}:{last} is not within its {len(caption)} characters")
    noun = caption[first:last]
    text, first, last = _cleaned(tokenizer.clean_fn, caption, first, last)
    start, length = 1, 0
    for word in tokenizer.pat.finditer(text):
        if word.start() >= last:
            break
        if word.end() > first and not first <= word.start() < word.end() <= last:
            raise DataError(f"caption {shown(caption)}: {noun!r} cuts {word.group()!r}; a subject is whole words")
        tokens = _count(tokenizer, word.group())
        if word.end() <= first:
            start += tokens
        else:
            length += tokens
    if not length:
        raise DataError(f"caption {shown(caption)}: {noun!r} holds no word")
    return start, length


def _cleaned(clean: Callable[[str], str], caption: str, first: int, last: int) -> tuple[str, int, int]:
    """The cleaned caption and the place of the noun in it."""
    text = clean(caption)
    # Cleaning may change any length (&amp;, ligatures, İ) and looks at neighbours; marks set before it show where the
    # noun went, and that nothing else changed shows that they disturbed nothing.
    marked = clean(f"{caption[:first]}{_OPEN}{caption[first:last]}{_CLOSE}{caption[last:]}")
    if marked.count(_OPEN) == marked.count(_CLOSE) == 1 and marked.replace(_OPEN, "").replace(_CLOSE, "") == text:
        return text, marked.index(_OPEN), marked.index(_CLOSE) - 1
    noun = clean(caption[first:last])
    if noun and text.count(noun) == 1:
        return text, text.index(noun), text.index(noun) + len(noun)
    raise DataError(
        f"caption {shown(caption)}: the tokenizer reads {shown(text)}, where {caption[first:last]!r} cannot be told; "
        "write the caption so"
    )


def _count(tokenizer: Tokenizer, word: str) -> int:
    return len(tokenizer.bpe("".join(tokenizer.byte_encoder[byte] for byte in word.encode())).split(" "))


def shown(caption: str) -> str:
    """``caption`` in quotes, at most 80 characters of it, for a message."""
    return repr(caption if len(caption) <= 80 else caption[:77] + "...")
