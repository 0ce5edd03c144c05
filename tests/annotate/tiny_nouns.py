"""A real spaCy pipeline that knows a few words, and one that knows how they hang together."""

from __future__ import annotations

from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc

NOUNS = ["dog", "dogs", "cat", "hat", "fire", "hydrant", "food", "park", "shirt", "t", "42nd", "42", "street"]


def save_nouns(folder: Path, *, parse: bool = False) -> Path:
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("attribute_ruler")
    ruler.add([[{"OP": "?", "LOWER": {"REGEX": ".*"}}]], {"POS": "X"})
    ruler.add([[{"LOWER": {"IN": NOUNS}}]], {"POS": "NOUN"})
    ruler.add([[{"LOWER": {"IN": ["a", "the"]}}]], {"POS": "DET"})
    ruler.add([[{"TEXT": {"IN": ["Fido", "New", "York"]}}]], {"POS": "PROPN"})
    if parse:
        pipeline.add_pipe("parse_by_rule")
    pipeline.to_disk(folder)
    return folder


@Language.component("parse_by_rule")
def parse_by_rule(doc: Doc) -> Doc:
    """Determiners and "fire" hang on what follows, every other noun is an object of the first token."""
    for token in doc:
        if token.pos_ == "DET" or token.lower_ == "fire":
            token.head, token.dep_ = doc[token.i + 1], "compound"
        else:
            token.head, token.dep_ = doc[0], "dobj" if token.pos_ in ("NOUN", "PROPN") else "dep"
    return doc
