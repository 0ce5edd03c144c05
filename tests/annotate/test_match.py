from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eclipse.annotate.interfaces import Box, Corners, Noun
from eclipse.annotate.match import Masked, match, overlap

MASK = np.ones((40, 40), np.uint8)


def masked(phrase: str, score: float, corners: Corners) -> Masked:
    return Masked(Box(phrase, score, corners), MASK)


def scores(pairs):
    return [(noun.span[0], one.box.score) for noun, one in pairs]


def test_the_best_box_of_the_phrase_wins():
    found = [masked("cat", 0.9, (0, 0, 5, 5)), masked("dog", 0.4, (9, 9, 20, 20)), masked("dog", 0.6, (0, 0, 5, 5))]
    assert scores(match([Noun("Dog", (2, 5))], found)) == [(2, 0.6)]


def test_a_noun_that_occurs_twice_takes_two_boxes_best_first():
    found = [
        masked("dog", 0.4, (0, 0, 10, 10)),
        masked("dog", 0.6, (20, 0, 30, 10)),
        masked("dog", 0.5, (0, 20, 9, 30)),
    ]
    pairs = match([Noun("dog", (2, 5)), Noun("cat", (10, 13)), Noun("dog", (20, 23))], found)
    assert scores(pairs) == [(2, 0.6), (20, 0.5)]


def test_a_second_box_around_the_same_thing_is_no_second_thing():
    found = [masked("dog", 0.6, (0, 0, 10, 10)), masked("dog", 0.5, (0, 0, 10, 9)), masked("dog", 0.4, (0, 5, 10, 15))]
    assert scores(match([Noun("dog", (0, 3)), Noun("dog", (8, 11))], found)) == [(0, 0.6), (8, 0.4)]
    assert scores(match([Noun("dog", (0, 3)), Noun("dog", (8, 11))], found[:2])) == [(0, 0.6)]


def test_equal_scores_go_by_the_detectors_order():
    found = [masked("dog", 0.5, (0, 0, 10, 10)), masked("dog", 0.5, (20, 0, 30, 10))]
    [(_, one), (_, two)] = match([Noun("dog", (0, 3)), Noun("dog", (8, 11))], found)
    assert one is found[0] and two is found[1]


def test_overlap_by_hand():
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == 50 / 150
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1


corner = st.tuples(st.integers(0, 15), st.integers(0, 15), st.integers(16, 30), st.integers(16, 30))
things = st.lists(st.tuples(st.sampled_from(["dog", "cat"]), st.floats(0, 1), corner), max_size=8)


@given(things, st.lists(st.sampled_from(["dog", "Cat", "hat"]), max_size=6))
def test_pairs_follow_the_caption_and_no_box_is_used_twice(drawn, words):
    nouns = [Noun(word, (5 * i, 5 * i + 3)) for i, word in enumerate(words)]
    found = [masked(*one) for one in drawn]
    pairs = match(nouns, found)
    assert [noun.span for noun, _ in pairs] == sorted(noun.span for noun, _ in pairs)
    assert len({id(one) for _, one in pairs}) == len(pairs)
    assert all(noun.phrase == one.box.phrase for noun, one in pairs)
    for phrase in {noun.phrase for noun in nouns}:
        mine = [one.box for one in found if one.box.phrase == phrase]
        matched = [one.box for noun, one in pairs if noun.phrase == phrase]
        assert bool(mine) == bool(matched)
        assert not mine or matched[0].score == max(box.score for box in mine)
        assert all(overlap(a.corners, b.corners) <= 0.5 for a in matched for b in matched if a is not b)
