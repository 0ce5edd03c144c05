import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.config.promote import PromoteParams
from eclipse.errors import ConfigError, DataError
from eclipse.promotion.gate import Table, compare_scores, decide, holm

QUICK = PromoteParams(bootstrap=1000, margin=0.05, category_margin=0.1)
SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40)


def table(splits=None, **scores):
    n = len(next(iter(scores.values())))
    splits = splits or ["test_seen"] * n
    ids = tuple(f"p{i:03d}" for i in range(n))
    return Table(tuple(splits), ids, ids, {name: np.asarray(x, float) for name, x in scores.items()})


def compared(d, margin=0.05, **rule):
    """The comparison whose paired differences are ``d``."""
    d = np.asarray(d, float)
    return compare_scores(np.maximum(d, 0), np.maximum(-d, 0), QUICK.model_copy(update=rule), margin)


def discordant(rng, n, lost, won):
    return rng.choice([-1.0, 0.0, 1.0], p=[lost, 1 - lost - won, won], size=n)


def test_holm_by_hand():
    # 0.01 · 4; 0.02 · 3; then 0.03 · 2 and, never below its predecessor, 0.04 · 1
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == [0.03] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_closed_testing_with_bonferroni(p):
    """Adjusted p of i: the worst Bonferroni p of any set of hypotheses that holds i."""
    subsets = [s for k in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), k)]
    worst = [max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in range(len(p))]
    assert holm(p) == pytest.approx(worst)


def test_one_prompt_by_hand():
    # d = (1): the lower bound resamples (1, −1) and the upper one (1, 1)
    one = compared([1.0])
    assert (one.n, one.difference, one.low, one.high) == (1, 1.0, -1.0, 1.0)
    assert one.p == pytest.approx(0.25, abs=0.05)  # both draws the unseen prompt
    assert one.p_superior == pytest.approx(0.75, abs=0.05)  # at least one of them is
    assert one.p_inferior == 1.0


def test_minimum_detectable_effect_by_hand():
    # sd of (0, 0, 1, −1 | 1, −1) is √(4/5), over √6; z(0.95) + z(0.8) = 1.64485 + 0.84162
    assert compared([0, 0, 1, -1]).mde == pytest.approx(2.48647 * np.sqrt(0.8) / np.sqrt(6) + 1 / 5, rel=1e-5)


def test_power_at_the_minimum_detectable_effect_is_what_it_says():
    rng = np.random.default_rng(0)
    n, lost = 150, 0.1
    effect = 0.0
    for _ in range(20):  # the effect changes the variance that it is computed from
        variance = 2 * lost + effect - effect**2
        effect = 2.48647 * np.sqrt(variance / n) + 1 / (n + 1)
    passed = [compared(discordant(rng, n, lost, lost + effect)).p_superior <= 0.05 for _ in range(300)]
    assert np.mean(passed) == pytest.approx(0.8, abs=0.07)


@pytest.mark.parametrize(("n", "lost", "won"), [(100, 0.05, 0.0), (60, 0.1, 0.05), (120, 0.25, 0.2), (20, 0.1, 0.05)])
def test_a_prior_that_is_worse_by_the_margin_passes_seldom(n, lost, won):
    """Type-I error at the worst case of the null, also where losses are rare and prompts are few."""
    rng = np.random.default_rng(n)
    passed = [compared(discordant(rng, n, lost, won)).p <= 0.05 for _ in range(300)]
    assert np.mean(passed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_bounds_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    found = [compared(discordant(rng, 100, 0.15, 0.2)) for _ in range(300)]
    below = np.mean([one.low > 0.05 for one in found])
    above = np.mean([one.high < 0.05 for one in found])
    assert 0.015 <= below <= 0.085 and 0.015 <= above <= 0.085


@pytest.mark.parametrize("n", [1, 10, 40])
def test_few_equal_pictures_prove_nothing(n):
    one = compared(np.zeros(n), margin=0.05)
    assert one.p > 0.05 and one.low < -0.05 < 0.05 < one.high and one.mde > 0.05


@given(SCORES, st.integers(0, 3))
@settings(max_examples=50)
def test_swapping_the_two_swaps_the_bounds(scores, seed):
    a = np.array(scores)
    b = np.random.default_rng(seed).permutation(a)
    one, other = compare_scores(a, b, QUICK, 0.05), compare_scores(b, a, QUICK, 0.05)
    assert one.difference == pytest.approx(-other.difference)
    assert one.low == pytest.approx(-other.high) and one.high == pytest.approx(-other.low)
    assert one.mde == pytest.approx(other.mde)
    assert one.low <= one.difference + 1e-9 and one.difference <= one.high + 1e-9


@given(SCORES, st.integers(0, 3), st.floats(0, 0.5), st.floats(0, 0.5))
@settings(max_examples=50)
def test_a_wider_margin_never_speaks_against_the_candidate(scores, seed, margin, more):
    a = np.array(scores)
    b = np.random.default_rng(seed).permutation(a)
    one, wider = compare_scores(a, b, QUICK, margin), compare_scores(a, b, QUICK, margin + more)
    assert wider.p <= one.p and wider.p_inferior >= one.p_inferior and wider.p_superior == one.p_superior
    assert one.p <= one.p_superior  # better is not worse


@given(SCORES, st.integers(0, 3), st.floats(0, 0.5), st.sampled_from([0.9, 0.95, 0.99]))
@settings(max_examples=50)
def test_p_and_bound_say_the_same(scores, seed, margin, confidence):
    a = np.array(scores)
    b = np.random.default_rng(seed).permutation(a)
    rule = QUICK.model_copy(update={"confidence": confidence})
    one = compare_scores(a, b, rule, margin)
    alpha = round(1 - confidence, 12)
    assert (one.p <= alpha) == (one.low > -margin + 1e-9)
    assert (one.p_inferior <= alpha) == (one.high < -margin - 1e-9)
    assert (one.p_superior <= alpha) == (one.low > 1e-9)


def test_a_prior_is_not_inferior_to_itself_and_never_better():
    rng = np.random.default_rng(0)
    scores = {name: rng.integers(0, 2, 200) for name in ("composition", "colour", "shape")}
    decision = decide(table(**scores), table(**scores), QUICK, "composition")
    assert decision.passed and decision.primary.verdict == "non-inferior"
    assert [one.verdict for one in decision.categories] == ["non-inferior"] * 2
    assert decision.primary.difference == 0 and decision.primary.n == 200
    assert not decide(
        table(**scores), table(**scores), QUICK.model_copy(update={"require": "superior"}), "composition"
    ).passed


def test_a_much_worse_prior_is_refused_and_a_much_better_one_passes():
    rng = np.random.default_rng(0)
    good, bad = rng.random(200) < 0.9, rng.random(200) < 0.3
    worse = decide(table(composition=bad), table(composition=good), QUICK, "composition")
    assert not worse.passed and worse.primary.verdict == "inferior"
    assert "shown to be worse by more than 0.05" in worse.reasons[0]
    better = decide(table(composition=good), table(composition=bad), QUICK, "composition")
    assert better.passed and better.primary.verdict == "superior"


def test_an_undecided_comparison_says_what_it_could_have_shown():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 40))
    reason = decide(table(composition=a), table(composition=b), QUICK, "composition").reasons[0]
    assert "neither shown to be worse by more than 0.05 nor shown not to be" in reason
    assert "The rule asks for non-inferior. 40 prompts can show differences from 0." in reason


def test_one_category_that_is_shown_to_be_worse_refuses_and_an_unclear_one_as_the_rule_says():
    rng = np.random.default_rng(3)
    same = rng.integers(0, 2, 300).astype(float)
    few = np.where(np.arange(300) < 12, 1.0, np.nan)  # asked by twelve prompts only: nothing can be shown
    worse = np.where(np.arange(300) % 2 == 0, 0.0, 1.0)
    base = {"composition": same, "colour": np.ones(300), "count": few}
    unclear = decide(table(**base), table(**base), QUICK, "composition")
    assert [(one.metric, one.verdict, one.n) for one in unclear.categories] == [
        ("colour", "non-inferior", 300),
        ("count", "inconclusive", 12),
    ]
    assert unclear.passed and "Neither shown to be worse nor shown not to be: count." in unclear.reasons
    strict = QUICK.model_copy(update={"inconclusive": "refuse"})
    refused = decide(table(**base), table(**base), strict, "composition")
    assert not refused.passed and any(reason.startswith("count is neither") for reason in refused.reasons)
    lost = decide(table(**{**base, "colour": worse}), table(**base), QUICK, "composition")
    assert not lost.passed and lost.primary.verdict == "non-inferior"
    assert lost.categories[0].verdict == "inferior" and any("colour is shown" in reason for reason in lost.reasons)


def test_categories_are_corrected_together_in_both_directions():
    """A category that alone would be shown to be worse is not where it is one of six."""
    rng = np.random.default_rng(0)
    names = ("colour", "shape", "texture", "spatial", "count", "background")
    zeros = np.zeros(200)
    for seed in range(200):
        d = discordant(np.random.default_rng(seed), 200, 0.21, 0.05)
        alone = compared(d, margin=0.1)
        if 0.02 < alone.p_inferior <= 0.05:
            break
    others = {name: (rng.random(200) < 0.5).astype(float) for name in names[1:]}
    a = table(composition=zeros, colour=np.maximum(d, 0), **others)
    b = table(composition=zeros, colour=np.maximum(-d, 0), **others)
    only = decide(a, b, QUICK.model_copy(update={"categories": ("colour",)}), "composition")
    assert only.categories[0].verdict == "inferior"
    six = decide(a, b, QUICK, "composition")
    assert six.categories[0].verdict == "inconclusive"
    assert six.categories[0].p_inferior == pytest.approx(6 * alone.p_inferior)
    assert six.categories[0].low == only.categories[0].low


def test_family_wise_error_over_categories_is_kept():
    """Six categories that all are worse by just the margin: that any of them is let pass stays rare."""
    rng = np.random.default_rng(7)
    names = QUICK.categories
    zeros, wrong = np.zeros(60), 0
    for _ in range(100):
        d = {name: discordant(rng, 60, 0.2, 0.1) for name in names}
        a = table(composition=zeros, **{name: np.maximum(x, 0) for name, x in d.items()})
        b = table(composition=zeros, **{name: np.maximum(-x, 0) for name, x in d.items()})
        found = decide(a, b, QUICK, "composition").categories
        wrong += any(one.verdict in ("non-inferior", "superior") for one in found)
    assert wrong / 100 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_splits_are_pooled_and_told_apart():
    splits = ["test_seen"] * 100 + ["test_held_out"] * 100
    a = np.concatenate([np.ones(100), np.zeros(100)])
    decision = decide(table(splits, composition=a), table(splits, composition=np.ones(200)), QUICK, "composition")
    assert decision.primary.splits == "test_seen + test_held_out" and decision.primary.difference == -0.5
    assert [(one.splits, one.difference) for one in decision.by_split] == [("test_seen", 0.0), ("test_held_out", -1.0)]


def test_the_rule_is_told_with_its_numbers():
    scores = {"composition": np.ones(100), "colour": np.ones(100)}
    text = decide(table(**scores), table(**scores), QUICK, "composition").rule
    for part in ("composition", "worse by less than 0.05", "95 %", "above −0.05", "colour", "0.1", "1000 resamples"):
        assert part in text
    assert "shape" not in text  # not measured here
    better = QUICK.model_copy(update={"require": "superior"})
    assert "lies above 0." in decide(table(**scores), table(**scores), better, "composition").rule


def test_what_cannot_be_compared_is_refused():
    a = table(composition=np.ones(5))
    with pytest.raises(DataError, match="other prompts"):
        decide(a, table(composition=np.ones(6)), QUICK, "composition")
    with pytest.raises(DataError, match="defined on other prompts"):
        decide(a, table(composition=[1, 1, 1, 1, np.nan]), QUICK, "composition")
    with pytest.raises(ConfigError, match=r"promote.metric both: not measured .* there are composition"):
        decide(a, a, QUICK, "both")
    nothing = table(composition=np.full(5, np.nan), cosine=np.ones(5))
    with pytest.raises(ConfigError, match="there are cosine$"):
        decide(nothing, nothing, QUICK, "composition")
    sure = QUICK.model_copy(update={"confidence": 0.9995})
    with pytest.raises(ConfigError, match=r"promote.bootstrap 1000: too few .* give 1999"):
        decide(a, a, sure, "composition")
