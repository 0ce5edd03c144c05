"""Nouns of a prompt: where they are found, and what is said when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse.errors import DataError
from eclipse.personalize.prompt import SubjectArgument, clean, parse_subject, resolve


def found(prompt: str, *subjects: str) -> list[str]:
    """``word@start`` of each subject."""
    arguments = [parse_subject(f"{text}=x.png") for text in subjects]
    return [f"{prompt[a:b]}@{a}" for a, b in resolve(prompt, arguments, limit=4)]


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("dog=dog.png", SubjectArgument("dog", None, Path("dog.png"))),
            ("dog#2=b.png", SubjectArgument("dog", 2, Path("b.png"))),
            ("teddy  bear = my bear.png", SubjectArgument("teddy bear", None, Path("my bear.png"))),
            ("dog=a=b.png", SubjectArgument("dog", None, Path("a=b.png"))),
            ("dog=a#1.png", SubjectArgument("dog", None, Path("a#1.png"))),
            ("cafe\u0301=c.png", SubjectArgument("caf\u00e9", None, Path("c.png"))),
        ],
    )
    def test_splits_at_the_first_equals_sign(self, text, wanted):
        assert parse_subject(text) == wanted

    @pytest.mark.parametrize("text", ["dog.png", "=dog.png", "dog=", "dog= ", "", "#2=x.png"])
    def test_wants_a_noun_and_a_file(self, text):
        with pytest.raises(DataError, match="write NOUN=FILE"):
            parse_subject(text)

    @pytest.mark.parametrize("text", ["dog#=x", "dog#0=x", "dog#two=x", "dog#-1=x", "dog#²=x"])
    def test_wants_a_number_after_the_mark(self, text):
        with pytest.raises(DataError, match="dog#2=x"):
            parse_subject(text)


class TestFinding:
    @pytest.mark.parametrize(
        ("prompt", "subject", "wanted"),
        [
            ("a dog wearing a hat", "dog", "dog@2"),
            ("A Dog, wearing a hat", "dog", "Dog@2"),
            ("a dog wearing a hat", "HAT", "hat@16"),
            ("the dog's hat", "dog", "dog@4"),
            ("hotdogs and a dog", "dog", "dog@14"),
            ("a hot-dog and a dog", "dog", "dog@16"),
            ("a hot-dog and a dog", "hot-dog", "hot-dog@2"),
            ("two dogs", "dog", "dogs@4"),
            ("two boxes", "box", "boxes@4"),
            ("a glass beside my glasses", "glass", "glass@2"),
            ("a teddy\n bear!", "teddy bear", "teddy\n bear@2"),
            ("a (c++) b", "c++", "c++@3"),
        ],
    )
    def test_whole_words_in_any_case_and_plain_plurals(self, prompt, subject, wanted):
        assert found(prompt, subject) == [wanted]

    def test_in_the_order_of_the_subjects(self):
        assert found("a dog wearing a hat", "hat", "dog") == ["hat@16", "dog@2"]

    def test_several_of_a_noun_by_number(self):
        assert found("a dog by a Dog", "dog#2", "dog#1") == ["Dog@11", "dog@2"]

    def test_one_and_its_plural_are_two_subjects(self):
        assert found("a dog among dogs", "dog", "dogs") == ["dog@2", "dogs@12"]

    def test_a_number_where_there_is_one_is_fine(self):
        assert found("a dog", "dog#1") == ["dog@2"]

    @given(st.lists(st.sampled_from(["dog", "cat", "hat", "bear"]), min_size=1, max_size=6), st.data())
    def test_agrees_with_counting_words(self, words, data):
        at = data.draw(st.integers(0, len(words) - 1))
        prompt = " ".join(words)
        noun, occurrence = words[at], words[: at + 1].count(words[at])
        assert found(prompt, f"{noun}#{occurrence}") == [f"{noun}@{len(' '.join(words[:at])) + (at > 0)}"]


class TestRefusals:
    def test_an_unknown_noun_lists_the_words_that_it_could_be(self):
        with pytest.raises(DataError, match=r"--subject cat: .* could be a, dog, wearing, hot-hat$"):
            found("a dog wearing a hot-hat", "cat")

    @pytest.mark.parametrize("subject", ["do", "og", "dogg", "dog hat", "dog house"])
    def test_parts_of_words_and_other_phrases_are_unknown(self, subject):
        with pytest.raises(DataError, match="could be a, dog, hat"):
            found("a dog, a hat", subject)

    def test_the_singular_is_not_found_by_a_plural(self):
        with pytest.raises(DataError, match="not in the prompt"):
            found("a dog", "dogs")

    def test_a_noun_twice_says_how_to_tell_them_apart(self):
        with pytest.raises(DataError, match="occurs 2 times.*dog#1 or dog#2"):
            found("a dog and a dog", "dog")

    def test_a_number_beyond_the_last(self):
        with pytest.raises(DataError, match="dog#3: occurs 2 times"):
            found("a dog and a dog", "dog#3")
        with pytest.raises(DataError, match="dog#2: occurs once"):
            found("a dog", "dog#2")

    @pytest.mark.parametrize(
        ("prompt", "subjects"),
        [("a dog", ("dog", "dog")), ("a dog", ("dog", "DOG#1")), ("a teddy bear", ("bear", "teddy bear"))],
    )
    def test_the_same_words_twice(self, prompt, subjects):
        with pytest.raises(DataError, match="both stand for"):
            found(prompt, *subjects)

    def test_more_subjects_than_trained_with(self):
        prompt = "a b c d e"
        assert len(found(prompt, "a", "b", "c", "d")) == 4
        with pytest.raises(DataError, match="5 subjects.*up to 4"):
            found(prompt, *"abcde")

    def test_an_empty_prompt(self):
        with pytest.raises(DataError, match="is empty"):
            found(clean(" \n"))
