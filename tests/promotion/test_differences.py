import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from eclipse.promotion.differences import choose_prompts, failures, outcomes, sign_test
from eclipse.promotion.gate import Table

NAN = np.nan


def table(**scores):
    n = len(next(iter(scores.values())))
    ids = tuple(f"p{n - i}" for i in range(n))  # ids run against the rows
    return Table(("test_seen",) * n, ids, ids, {name: np.asarray(x, float) for name, x in scores.items()})


def test_won_lost_and_equal_by_hand():
    found = outcomes(table(right=[1, 0, 1, 1, NAN, 0]), table(right=[0, 1, 1, 0, NAN, 0]), "right")
    assert (found.won, found.lost, found.equal) == ((0, 3), (1,), 2)
    assert found.p == 1.0  # 2 of 3 is as even as 3 can be
    assert sign_test(6, 0) == pytest.approx(2 / 64) and sign_test(0, 0) == 1.0


@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_test_is_the_exact_binomial_one(won, lost):
    wanted = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_test(won, lost) == pytest.approx(wanted)


def test_shown_prompts_are_drawn_by_the_seed_alone():
    drawn = choose_prompts(100, 10, 0)
    assert drawn == choose_prompts(100, 10, 0) != choose_prompts(100, 10, 1)
    assert len(set(drawn)) == 10 and list(drawn) == sorted(drawn) and drawn != tuple(range(10))
    assert choose_prompts(3, 10, 0) == (0, 1, 2)


def test_failures_are_grouped_by_what_was_wrong():
    scores = {
        "composition": [1, 0, 0, 0, 0, NAN],
        "colour": [1, 0, 0.5, 1, 1, 1],
        "spatial": [1, NAN, NAN, 0, 1, NAN],
    }
    found = failures(table(**scores), "composition", ("colour", "spatial", "count"))
    assert (found.total, found.judged) == (4, 5)
    assert found.groups == (("colour", (2, 1)), ("other", (4,)), ("spatial", (3,)))
    assert "composition is wrong" in found.rule


def test_where_nothing_is_right_or_wrong_the_lowest_scores_are_the_failures():
    found = failures(table(cosine=[0.9, 0.1, 0.5, NAN, 0.1]), "cosine", (), worst=3)
    assert found.groups == (("lowest", (4, 1, 2)),)  # equal scores by id
    assert (found.total, found.judged) == (3, 4) and "3 prompts in which the candidate's cosine is lowest" in found.rule
