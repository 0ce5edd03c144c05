"""The early line about the time left."""

import pytest

from eclipse.embeddings.pace import Pace, spelt


def test_one_line_from_the_second_shard():
    now, said = [0.0], []
    pace = Pace(5, 500, said.append, clock=lambda: now[0])
    now[0] = 60.0  # compiling
    pace.shard(100)
    assert not said
    now[0] = 70.0
    pace.shard(100)
    now[0] = 71.0
    pace.shard(100)
    assert said == ["embed: 10.0 records/s in the second shard; 300 more take about 30.0 s"]


def test_short_work_gets_no_line():
    said = []
    pace = Pace(3, 300, said.append)
    for _ in range(3):
        pace.shard(100)
    assert not said


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (89, "89.0 s"), (90, "1.5 min"), (7200, "2.0 h"), (864000, "10.0 days")]
)
def test_durations_are_spelt_in_a_fitting_unit(seconds, text):
    assert spelt(seconds) == text
