"""What DVC prints, told as a table."""

from flows.stage_log import StageLog

LINES = """Stage 'dataset' didn't change, skipping
Stage 'embed' is cached - skipping run, checking out outputs

Running stage 'train@eclipse-0.2-0':
> python -m eclipse train
Updating lock file 'dvc.lock'
Running stage 'evaluate@eclipse-0.2-0':
ERROR: failed to reproduce 'evaluate@eclipse-0.2-0': failed to run: python -m eclipse evaluate, exited with 2
""".splitlines()


def test_outcomes_and_durations():
    seen = []
    log = StageLog(lambda now: seen.append(list(now.rows)))
    for second, line in enumerate(LINES):
        log.feed(line, at=10.0 * second)
    log.close(at=100.0)
    assert log.table() == [
        {"stage": "dataset", "outcome": "reused: nothing changed", "seconds": "0.0"},
        {"stage": "embed", "outcome": "reused: run cache", "seconds": "0.0"},
        {"stage": "train@eclipse-0.2-0", "outcome": "ran", "seconds": "30.0"},
        {"stage": "evaluate@eclipse-0.2-0", "outcome": "failed", "seconds": "10.0"},
    ]
    assert log.reused == ["dataset", "embed"]
    assert len(seen) == 5


def test_a_stage_that_runs_to_the_end_has_its_time():
    log = StageLog()
    log.feed("Running stage 'a':", at=1.0)
    log.close(at=4.5)
    assert [(row.stage, row.seconds) for row in log.rows.values()] == [("a", 3.5)]
