from __future__ import annotations

import sys

import pytest
import spacy
from annotate.tiny_nouns import save_nouns

from eclipse.annotate.nouns import SpacyNouns
from eclipse.errors import ConfigError


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return SpacyNouns(str(save_nouns(tmp_path_factory.mktemp("tagger"))))


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    return SpacyNouns(str(save_nouns(tmp_path_factory.mktemp("parser"), parse=True)))


def words(finder, caption):
    [nouns] = finder.nouns([caption])
    assert all(caption[slice(*noun.span)] == noun.word for noun in nouns)
    ends = [edge for noun in nouns for edge in noun.span]
    assert ends == sorted(ends)
    return [noun.word for noun in nouns]


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("a Dog beside a dog", ["Dog", "dog"]),
        ("a red fire hydrant, and a hat.", ["fire hydrant", "hat"]),
        ("Fido in New York", ["Fido", "New York"]),
        ("the dog's hat", ["dog", "hat"]),
        ("nothing here", []),
        ("", []),
        ('"dogs"', ["dogs"]),
        ("the 42", []),  # a number is no word
    ],
)
def test_runs_of_nouns(tagger, caption, nouns):
    assert words(tagger, caption) == nouns


def test_a_parse_ends_a_run_with_its_chunk(tagger, parser):
    assert words(tagger, "give the dog food") == ["dog food"]
    assert words(parser, "give the dog food") == ["dog", "food"]
    assert words(parser, "paint the fire hydrant") == ["fire hydrant"]


def test_nouns_that_end_inside_a_word_are_left_out(tmp_path):
    pipeline = spacy.load(save_nouns(tmp_path / "pipeline"))
    pipeline.tokenizer.add_special_case("doggone", [{"ORTH": "dog"}, {"ORTH": "gone"}])
    pipeline.to_disk(tmp_path / "special")
    assert words(SpacyNouns(str(tmp_path / "special")), "a doggone cat") == ["cat"]


def test_a_batch_is_answered_in_order(tagger):
    assert [[n.word for n in nouns] for nouns in tagger.nouns(["a dog", "so", "a cat"])] == [["dog"], [], ["cat"]]


def test_a_pipeline_without_tags_is_refused(tmp_path):
    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(ConfigError, match="tags no parts of speech"):
        SpacyNouns(str(tmp_path)).nouns(["a dog"])


def test_a_missing_pipeline_says_how_to_get_it():
    with pytest.raises(ConfigError, match=r"annotate\.models\.nouns: en_no_such .*python -m spacy download en_no_such"):
        SpacyNouns("en_no_such")


def test_missing_spacy_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ConfigError, match=r"pip install eclipse-priors\[annotate\]"):
        SpacyNouns("en_core_web_trf")
