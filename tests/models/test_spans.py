"""Characters of a caption to tokens, against what open_clip's tokenizer makes of the pieces."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from eclipse.errors import DataError
from eclipse.models.spans import token_span

TOKENIZER = SimpleTokenizer()
NOUNS = (
    "dog", "Dogs", "wristwatch", "WRISTWATCH", "ice cream", "t-shirt", "café", "Ünïcödé", "猫", "赤い円", "щенок", "😀",
    "x̂", "ﬁsh", "AT&amp;T", "ﾈｺ", "İstanbul", "ΛΟΓΟΣ", "R2D2", "unpronounceablexyzzyword",
)  # fmt: skip
LEADS = (
    "",
    "a ",
    "two  red ",
    "A CAFÉ, with 3\u00a0",
    "  ",
    "émigré’s ",
    "&quot;",
    "dog-",
    "(",
    "猫 ",
    "the dog’s ",
    "ﬀ 12",
)
TAILS = ("", ",", " on a grey background", "'s bowl", "’s", "!  ", ") dog", "\tdogs", " 猫", "&gt;", "-like")


def bare(text):
    return "".join(TOKENIZER.clean_fn(text).split())


def attempt(caption, first, last):
    """The span, or what the error says."""
    try:
        return token_span(TOKENIZER, caption, (first, last))
    except DataError as error:
        return str(error)


def span_of(caption, noun, *, occurrence=0):
    at = -1
    for _ in range(occurrence + 1):
        at = caption.index(noun, at + 1)
    return token_span(TOKENIZER, caption, (at, at + len(noun)))


@pytest.mark.parametrize(
    ("caption", "noun", "words"),
    [
        ("a circle left of a red heart", "circle", ["circle</w>"]),
        ("Two CIRCLES, side by side", "CIRCLES", ["circles</w>"]),
        ("a wristwatch.", "wristwatch", ["wrist", "watch</w>"]),
        ("a dog's t-shirt", "t-shirt", ["t</w>", "-</w>", "shirt</w>"]),
        ("a dog's t-shirt", "dog", ["dog</w>"]),
        ("fish &amp; chips", "chips", ["chips</w>"]),
    ],
)
def test_tokens_of_a_noun(caption, noun, words):
    start, length = span_of(caption, noun)
    assert [TOKENIZER.decoder[i] for i in TOKENIZER.encode(caption)[start - 1 : start - 1 + length]] == words


def test_the_span_decides_which_of_two_equal_nouns():
    assert span_of("a dog beside a dog", "dog") == (2, 1)
    assert span_of("a dog beside a dog", "dog", occurrence=1) == (5, 1)


@settings(max_examples=250)
@given(st.sampled_from(LEADS), st.sampled_from(NOUNS), st.sampled_from(TAILS))
def test_span_is_the_nouns_place_among_the_tokens_of_its_surroundings(lead, noun, tail):
    assume(noun != "ΛΟΓΟΣ" or tail[:1] not in ("'", "’"))  # its last letter depends on what follows: see below
    caption = lead + noun + tail
    found = attempt(caption, len(lead), len(lead) + len(noun))
    if isinstance(found, str):  # signs beside signs are one word of the tokenizer
        assert "cuts" in found
        assert noun in ("😀", "x̂")
        assert tail[:1] in tuple(",'’!)&-") or (noun == "😀" and lead[-1:] in tuple("-(;"))
        return
    start, length = found
    tokens = TOKENIZER.encode(caption)
    assert start == 1 + len(TOKENIZER.encode(lead))
    assert length == len(TOKENIZER.encode(noun))
    assert len(tokens) == start - 1 + length + len(TOKENIZER.encode(tail))
    read = TOKENIZER.decode(tokens[start - 1 : start - 1 + length])
    assert "".join(read.split()) == bare(noun)


def test_letters_that_depend_on_their_neighbours():
    caption = "ΛΟΓΟΣ's bowl and ΛΟΓΟΣ"
    tokens = TOKENIZER.encode(caption)
    for first, read in ((0, "λογοσ"), (17, "λογος")):
        start, length = token_span(TOKENIZER, caption, (first, first + 5))
        assert TOKENIZER.decode(tokens[start - 1 : start - 1 + length]).strip() == read


@settings(max_examples=150)
@given(st.lists(st.text(st.characters(categories=("L",)), min_size=1, max_size=8), min_size=1, max_size=6), st.data())
def test_any_word_of_any_script(words, data):
    number = data.draw(st.integers(0, len(words) - 1))
    caption = " ".join(words)
    first = len(" ".join([*words[:number], ""]))
    found = attempt(caption, first, first + len(words[number]))
    if isinstance(found, str):
        return  # cleaning changed the word by its neighbours, or left a mark that is no letter
    start, length = found
    tokens = TOKENIZER.encode(caption)
    read = "".join(TOKENIZER.decode(tokens[start - 1 : start - 1 + length]).split())
    assert read == "".join(TOKENIZER.clean_fn(caption).split(" ")[number].split())


@settings(max_examples=150)
@given(st.text(max_size=30), st.integers(0, 29), st.integers(1, 10))
def test_any_text_gives_a_span_inside_the_tokens_or_an_error_that_shows_it(caption, first, size):
    found = attempt(caption, first, first + size)
    if isinstance(found, str):
        assert found.startswith("caption ")
        assert "\n" not in found
        return
    start, length = found
    assert 1 <= start < start + length <= 1 + len(TOKENIZER.encode(caption))


@pytest.mark.parametrize(("caption", "noun"), [("a circle", "circl"), ("two circles", "circle"), ("赤い円", "円")])
def test_part_of_a_word_is_refused(caption, noun):
    with pytest.raises(DataError, match=f"{noun!r} cuts '.*{noun}.*'; a subject is whole words"):
        span_of(caption, noun)


def test_spans_that_hold_nothing_are_refused():
    with pytest.raises(DataError, match="'  ' holds no word"):
        token_span(TOKENIZER, "a  b", (1, 3))
    for span in ((2, 2), (3, 2), (-1, 1), (0, 5)):
        with pytest.raises(DataError, match="is not within its 4 characters"):
            token_span(TOKENIZER, "a  b", span)


def test_marks_already_in_the_caption_do_not_mislead():
    assert span_of("a dog \u2062 \u2063", "dog") == (2, 1)
    with pytest.raises(DataError, match="'dog' cannot be told"):
        span_of("dog \u2062 dog", "dog")


@pytest.mark.parametrize("clean", ["whitespace", "canonicalize"])
def test_other_cleanings(clean):
    tokenizer = SimpleTokenizer(clean=clean)
    caption = "A T-shirt, and  a Dog"
    start, length = token_span(tokenizer, caption, (2, 9))
    found = tokenizer.decode(tokenizer.encode(caption)[start - 1 : start - 1 + length])
    assert found.replace(" ", "") == {"whitespace": "T-shirt", "canonicalize": "tshirt"}[clean]
