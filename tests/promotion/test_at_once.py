import os

import pytest
from made_reviews import NAME
from promotion_world import World

from eclipse.errors import EclipseError
from eclipse.releases import Releases
from eclipse.releases.audit import faults, read_audit
from eclipse.tracking.registry import Registry


def started(folder, number):
    """A process that promotes version ``number``; it exits with 0, or with 2 when it is refused as stale."""
    child = os.fork()
    if child:
        return child
    try:
        World(folder, Registry(f"sqlite:///{folder / 'mlflow.db'}"), Releases(folder / "releases")).promote(number)
    except EclipseError as error:
        os._exit(2 if "stale (changed since: the champion)" in str(error) else 3)
    except BaseException:
        os._exit(4)
    os._exit(0)


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(first, tmp_path_factory, monkeypatch):
    for number in (2, 3):
        first.review(number, champion=1)
    children = {number: started(first.folder, number) for number in (2, 3)}
    ended = {number: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for number, child in children.items()}
    assert sorted(ended.values()) == [0, 2]
    (winner,) = (str(number) for number, code in ended.items() if code == 0)
    assert first.roles() == {"champion": winner, "previous": "1"}
    world = World(first.folder, Registry(f"sqlite:///{first.folder / 'mlflow.db'}"), first.releases)
    assert world.aliases()["champion"] == winner and world.aliases()["previous"] == "1"
    entries = read_audit(first.releases)[1:]
    assert {(entry["to"], entry["outcome"]) for entry in entries} == {
        (winner, "promoted"),
        ("2" if winner == "3" else "3", "refused"),
    }
    assert faults(first.releases) == [] and first.releases.state().entry(NAME, "champion").version == winner
