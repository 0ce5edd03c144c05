from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.data.mirror import mirror_pairs
from eclipse.data.split import CellPattern, Item, assign, choose_held_out, normalise, unit
from eclipse.errors import ConfigError

CELLS = list(product("abc", "xyz", "12345"))
ITEMS = st.lists(
    st.builds(
        Item,
        caption=st.sampled_from(
            [f"{prefix}caption {i}{dot}" for prefix in ("", "A ") for i in range(9) for dot in "! "]
        ),
        picture=st.integers(0, 12),
        cell=st.none() | st.tuples(st.sampled_from("pqrs")),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(ITEMS, st.sets(st.tuples(st.sampled_from("pqrs"))), st.floats(0.05, 0.8), st.integers(0, 5))
def test_nothing_leaks_between_splits(items, held, share, seed):
    result = assign(items, held, evaluation_share=share, seed=seed)
    for keyed in (lambda i: normalise(i.caption), lambda i: i.picture):
        splits: dict[object, set[str]] = {}
        for item, split in zip(items, result.splits, strict=True):
            splits.setdefault(keyed(item), set()).add(split)
        assert all(len(found) == 1 for found in splits.values())
    by_cell: dict[object, set[str]] = {}
    for item, split in zip(items, result.splits, strict=True):
        if item.cell in held:
            assert split in ("val_held_out", "test_held_out")
            by_cell.setdefault(item.cell, set()).add(split)
    assert all(len(found) == 1 for found in by_cell.values())


@settings(max_examples=50, deadline=None)
@given(ITEMS, st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order(items, random):
    order = list(range(len(items)))
    random.shuffle(order)
    straight = assign(items, {("p",)}, evaluation_share=0.3, seed=0)
    mixed = assign([items[i] for i in order], {("p",)}, evaluation_share=0.3, seed=0)
    assert mixed.splits == tuple(straight.splits[i] for i in order)


def test_shares_are_met():
    items = [Item(f"caption {i}", i) for i in range(4000)]
    splits = assign(items, (), evaluation_share=0.2, seed=3).splits
    assert 0.08 < splits.count("val_seen") / 4000 < 0.12
    assert 0.08 < splits.count("test_seen") / 4000 < 0.12
    assert splits.count("train") == 4000 - splits.count("val_seen") - splits.count("test_seen")
    assert splits != assign(items, (), evaluation_share=0.2, seed=4).splits


def test_adding_a_record_moves_no_other():
    items = [Item(f"caption {i}", i) for i in range(300)]
    shifted = [Item("a new one", 0)] + [Item(item.caption, item.picture + 1) for item in items]
    before = assign(items, (), evaluation_share=0.3, seed=0).splits
    assert assign(shifted, (), evaluation_share=0.3, seed=0).splits[1:] == before


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_every_two_factors_of_a_held_out_cell_stay_known(share):
    held = choose_held_out(CELLS, share, seed=0)
    assert 0 < len(held) <= round(share * len(CELLS))
    stay = set(CELLS) - held
    for cell in held:
        for i, j in combinations(range(3), 2):
            assert any(other[i] == cell[i] and other[j] == cell[j] for other in stay)


def test_a_cell_whose_parts_occur_nowhere_else_stays():
    lonely = [("thumbs", "", tone) for tone in "12345"]
    assert not choose_held_out([*CELLS, *lonely], 0.9, seed=0) & set(lonely)
    assert choose_held_out([*CELLS, *lonely], 1.0, seed=0) == {*CELLS, *lonely}
    assert len(choose_held_out(CELLS, 0.2, seed=0)) == round(0.2 * len(CELLS))


def test_cell_is_named_by_the_groups():
    assert CellPattern("orange square").cell("an orange square") == ("orange square",)
    assert CellPattern("(red|blue) cat").cell("a blue cat") == ("blue",)
    assert CellPattern("(red|blue) cat").cell("a dog") is None
    assert CellPattern("(?P<who>wo?man)(?P<what> pilot)?").cell("a woman") == ("who=woman",)


def test_interchangeable_groups_give_one_cell():
    pattern = CellPattern(r"(?P<what>\w+), (?P<tone_1>\w+), (?P<tone_2>\w+)")
    assert pattern.cell("hands, light, dark") == pattern.cell("hands, dark, light")
    assert pattern.cell("hands, dark, light") == ("what=hands", "tone=dark", "tone=light")
    assert pattern.cell("hands, dark, dark") != pattern.cell("hands, dark, light")


def test_bad_pattern_names_the_parameter():
    with pytest.raises(ConfigError, match=r"data\.hold_out: not a regular expression"):
        CellPattern("(red")


def test_normalised_captions():
    assert normalise("  A  Cat. ") == normalise("a cat")
    assert normalise("ﬁsh") == "fish"
    assert normalise("a cat") != normalise("a bat")
    assert normalise("!") == "!"


def test_unit_is_the_same_on_every_machine():
    assert unit(0, "a") == pytest.approx(0.3715, abs=1e-4)
    assert unit("ab", "c") != unit("a", "bc")


def test_mirror_pairs():
    captions = [
        "hands, dark, light",
        "a cat",
        "hands, light, dark",
        "hands, dark, dark",
        "kiss, light, dark",
        "a, b",
        "b, a",
    ]
    assert mirror_pairs(captions) == [(0, 2)]
    assert mirror_pairs([]) == []


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("ab")] * 3).map(", ".join), max_size=12))
def test_mirror_pairs_are_mirrors(captions):
    for i, j in mirror_pairs(captions):
        *head, a, b = captions[i].split(", ")
        assert i < j
        assert captions[j].split(", ") == [*head, b, a]
        assert a != b
