"""The command line: flags from signatures, one-line errors, and no heavy import before a stage runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from eclipse import cli
from eclipse.errors import DataError
from eclipse.stages import registry

ROOT = Path(__file__).resolve().parents[1]
PARAMS = str(ROOT / "params.yaml")

MODULE = '''
from __future__ import annotations
from pathlib import Path
calls = []

def run(params, *, store: Path, prior: Path | None, out: Path, metrics: Path = Path("m.json"), point: str,
        seed: int = 3, note_text: str | None = None) -> dict:
    """Does something. No more.

    At length.
    """
    calls.append((params, locals()))
    behaviour(out)
    return {}

def behaviour(out):
    pass
'''


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A stage named ``fake`` in a module of its own, which the test can make fail."""
    (tmp_path / "fake_stage.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.STAGES, "fake", "fake_stage:run")
    monkeypatch.delitem(sys.modules, "fake_stage", raising=False)

    def module():
        import fake_stage

        return fake_stage

    return module


REQUIRED = ["fake", "--store", "s", "--out", "o", "--point", "p", "--params", PARAMS]


class TestFlags:
    def test_come_from_the_signature(self, stage):
        assert cli.main([*REQUIRED, "--prior", "q", "--note-text", "n"]) == 0
        ((params, given),) = stage().calls
        assert params.profile == "mini"
        assert given["store"] == Path("s")
        assert given["prior"] == Path("q")
        assert given["metrics"] == Path("m.json")
        assert (given["point"], given["seed"], given["note_text"]) == ("p", 3, "n")

    def test_optional_paths_may_be_left_out(self, stage):
        assert cli.main(REQUIRED) == 0
        assert stage().calls[0][1]["prior"] is None

    @pytest.mark.parametrize("flag", ["--store", "--out", "--point"])
    def test_required_ones_are_asked_for(self, stage, capsys, flag):
        at = REQUIRED.index(flag)
        with pytest.raises(SystemExit) as end:
            cli.main(REQUIRED[:at] + REQUIRED[at + 2 :])
        assert end.value.code == 2
        assert flag in capsys.readouterr().err

    def test_types_are_checked(self, stage, capsys):
        with pytest.raises(SystemExit):
            cli.main([*REQUIRED, "--seed", "x"])
        assert "--seed" in capsys.readouterr().err

    def test_unknown_stage_and_flag_are_refused(self, stage, capsys):
        for words in (["fakes"], [*REQUIRED, "--stor", "x"]):
            with pytest.raises(SystemExit) as end:
                cli.main(words)
            assert end.value.code == 2

    def test_a_signature_without_types_is_a_mistake_of_the_stage(self, tmp_path, stage):
        (tmp_path / "fake_stage.py").write_text("def run(params, *, store): ...")
        with pytest.raises(TypeError, match="stage fake: store"):
            registry.describe("fake")

    def test_what_stands_before_the_flags_is_given_without_one(self, tmp_path, stage, capsys):
        head = "from pathlib import Path\ncalls = []\n"
        source = head + "def run(params, image: Path, *, n: int = 1): calls.append((image, n))"
        (tmp_path / "fake_stage.py").write_text(source)
        assert cli.main(["fake", "a.png", "--n", "2", "--params", PARAMS]) == 0
        assert stage().calls == [(Path("a.png"), 2)]
        with pytest.raises(SystemExit):
            cli.main(["fake", "--params", PARAMS])
        assert "IMAGE" in capsys.readouterr().err

    def test_overrides_reach_the_stage(self, stage):
        cli.main([*REQUIRED, "--set", "train.steps=9", "--set", "data.seed=2"])
        params = stage().calls[0][0]
        assert (params.train.steps, params.data.seed) == (9, 2)


SWITCHES = """
from __future__ import annotations
calls = []

def run(params, *, words: tuple[str, ...] = (), n: int = 1, any_way: bool = False) -> dict:
    'Takes a switch, a repeatable flag and a short one.'
    calls.append((words, n, any_way))
    return {}
"""


class TestSwitchesAndRepeatedFlags:
    @pytest.fixture
    def calls(self, tmp_path, stage):
        (tmp_path / "fake_stage.py").write_text(SWITCHES)
        return lambda: stage().calls

    def test_when_they_are_not_given(self, calls):
        cli.main(["fake", "--params", PARAMS])
        cli.main(["fake", "--params", PARAMS])
        assert calls() == [((), 1, False)] * 2

    @pytest.mark.parametrize("number", [["-n", "4"], ["-n4"], ["--n", "4"]])
    def test_when_they_are(self, calls, number):
        cli.main(["fake", "--params", PARAMS, "--words", "a=b", *number, "--any-way", "--words", "c d"])
        assert calls() == [(("a=b", "c d"), 4, True)]

    def test_repeated_ones_may_be_required(self, tmp_path, stage, capsys):
        (tmp_path / "fake_stage.py").write_text(
            SWITCHES.replace("words: tuple[str, ...] = ()", "words: tuple[str, ...]")
        )
        with pytest.raises(SystemExit):
            cli.main(["fake", "--params", PARAMS])
        assert "--words" in capsys.readouterr().err
        cli.main(["fake", "--params", PARAMS, "--words", "a"])
        assert stage().calls == [(("a",), 1, False)]

    def test_are_in_the_plan(self, calls, capsys):
        assert cli.main(["fake", "--params", PARAMS, "--words", "a", "--dry-run"]) == 0
        plan = yaml.safe_load(capsys.readouterr().out)
        assert plan["values"] == {"words": ["a"], "n": 1, "any_way": False}
        assert plan["inputs"] == plan["outputs"] == {}

    @pytest.mark.parametrize(
        "wrong", ["a: bool", "a: bool = True", "a: tuple[str, ...] = ('x',)", "a: bool | None = None"]
    )
    def test_that_could_not_be_left_out_are_a_mistake_of_the_stage(self, tmp_path, stage, wrong):
        (tmp_path / "fake_stage.py").write_text(f"def run(params, *, {wrong}): ...")
        with pytest.raises(TypeError, match="stage fake: a: .* needs the default"):
            registry.describe("fake")


class TestDryRun:
    def test_prints_the_resolved_call_and_runs_nothing(self, stage, capsys):
        assert cli.main([*REQUIRED, "--set", "train.steps=9", "--dry-run"]) == 0
        plan = yaml.safe_load(capsys.readouterr().out)
        assert plan["stage"] == "fake"
        assert plan["inputs"] == {"store": "s", "prior": None}
        assert plan["outputs"] == {"out": "o", "metrics": "m.json"}
        assert plan["values"] == {"point": "p", "seed": 3, "note_text": None}
        assert plan["params"]["train"]["steps"] == 9
        assert "fake_stage" not in sys.modules

    def test_still_checks_the_parameters(self, stage, capsys):
        assert cli.main([*REQUIRED, "--set", "train.step=9", "--dry-run"]) == 2
        assert "did you mean steps?" in capsys.readouterr().err


class TestErrors:
    def _fail(self, stage, monkeypatch, error):
        def behaviour(out):
            raise error

        monkeypatch.setattr(stage(), "behaviour", behaviour)

    def test_are_one_line_and_status_2(self, stage, monkeypatch, capsys):
        self._fail(stage, monkeypatch, DataError("a.tar: damaged\nbadly"))
        assert cli.main(REQUIRED) == 2
        assert capsys.readouterr().err == "error: a.tar: damaged badly\n"

    def test_of_the_system_name_the_file(self, stage, monkeypatch, capsys):
        self._fail(stage, monkeypatch, PermissionError(13, "Permission denied", "o/x"))
        assert cli.main(REQUIRED) == 2
        assert capsys.readouterr().err == "error: o/x: Permission denied\n"

    def test_show_their_origin_when_asked(self, stage, monkeypatch):
        self._fail(stage, monkeypatch, DataError("a"))
        with pytest.raises(DataError):
            cli.main([*REQUIRED, "--traceback"])

    def test_of_the_program_are_not_hidden(self, stage, monkeypatch):
        self._fail(stage, monkeypatch, ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            cli.main(REQUIRED)

    def test_interruption_ends_with_130(self, stage, monkeypatch):
        self._fail(stage, monkeypatch, KeyboardInterrupt())
        assert cli.main(REQUIRED) == 130


class TestQuiet:
    def test_says_what_was_made_unless_quiet(self, stage, capsys, monkeypatch):
        monkeypatch.setenv("TQDM_DISABLE", "")
        cli.main(REQUIRED)
        assert "→ o, m.json" in capsys.readouterr().err
        cli.main([*REQUIRED, "--quiet"])
        assert capsys.readouterr().err == ""

    def test_silences_progress_bars(self, stage, monkeypatch):
        monkeypatch.setenv("TQDM_DISABLE", "")
        cli.main([*REQUIRED, "--quiet"])
        import os

        assert os.environ["TQDM_DISABLE"] == "1"


class TestRealStages:
    @pytest.mark.parametrize("name", registry.STAGES)
    def test_each_is_described_and_dry_runs(self, name, capsys):
        described = registry.describe(name)
        assert 10 < len(described.summary) <= 120
        words = [name, "--params", PARAMS, "--dry-run"]
        for flag in described.flags:
            if flag.required:
                words += ["1"] if flag.positional else [flag.options[-1], "1"]
        assert cli.main(words) == 0
        assert yaml.safe_load(capsys.readouterr().out)["stage"] == name

    def test_help_lists_all_and_imports_nothing_heavy(self):
        code = (
            "import sys; from eclipse.cli import main\n"
            "try: main(['--help'])\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'numpy', 'pydantic', 'mlflow', 'diffusers'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(name in done.stdout for name in registry.STAGES)
