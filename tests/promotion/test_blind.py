import pytest

from eclipse.errors import ConfigError, DataError
from eclipse.promotion.blind import BlindKey, tally

IDS = [f"p{i}" for i in range(40)]


def test_order_is_shuffled_and_repeats():
    key = BlindKey.make(IDS, "secret")
    assert key == BlindKey.make(IDS, "secret") and key.ids == tuple(IDS)
    assert 8 < key.a.count("candidate") < 32 and set(key.a) == {"candidate", "champion"}
    other = BlindKey.make(IDS, "another")
    assert other.a != key.a and other.nonce != key.nonce


def test_picks_are_uncovered_by_hand():
    key = {"nonce": "0123abcd", "a": ["candidate", "champion", "candidate", "champion", "candidate"]}
    found = tally(key, " 0123abcd:ABBT-\n")
    assert (found.candidate, found.champion, found.ties, found.left) == (2, 1, 1, 1)
    assert found.words() == (
        "of 5 pairs: candidate better 2, champion better 1, tie 1, not judged 1; sign test p = 1.000"
    )


@pytest.mark.parametrize("picks", ["", "0123abcd", "0123abcd:AB", "0123abcd:ABX", "0123abcd:ABTA"])
def test_other_words_are_no_picks(picks):
    with pytest.raises(ConfigError, match="3 letters of ABT-"):
        tally({"nonce": "0123abcd", "a": ["candidate"] * 3}, picks)


def test_picks_of_another_sheet_are_refused():
    with pytest.raises(ConfigError, match=r"belongs to another sheet \(ffffffff instead of 0123abcd\)"):
        tally({"nonce": "0123abcd", "a": ["candidate"] * 3}, "ffffffff:ABT")
    with pytest.raises(DataError, match="not blind"):
        tally(None, "0123abcd:ABT")
