"""``python -m eclipse STAGE …``: the stage functions on the command line.

Nothing heavy is imported before a stage really runs, so ``--help``, ``--dry-run`` and a wrong flag answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eclipse.errors import EclipseError
from eclipse.stages.registry import STAGES, Flag, Stage, describe

if TYPE_CHECKING:
    from eclipse.config import Params

_QUIET_BY_DEFAULT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage. Returns the exit status: 0, 2 for an error that the person can mend, 130 when interrupted."""
    for name, value in _QUIET_BY_DEFAULT.items():
        os.environ.setdefault(name, value)
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser(words).parse_args(words)
    try:
        return _run(args)
    except (EclipseError, OSError) as error:
        if args.traceback:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from eclipse.config import load_params

    stage: Stage = args.stage
    params = load_params(args.params, args.set)
    values = {flag.name: _given(args, flag) for flag in stage.flags}
    if args.dry_run:
        print(_plan(stage, params, values), end="")
        return 0
    if args.quiet:
        os.environ["TQDM_DISABLE"] = "1"
    started = time.monotonic()
    stage.load()(params, **values)
    if not args.quiet:
        outputs = [str(values[flag.name]) for flag in stage.flags if flag.is_output and values[flag.name]]
        made = f" → {', '.join(outputs)}" if outputs else ""
        print(f"{stage.name}: {time.monotonic() - started:.1f} s{made}", file=sys.stderr)
    return 0


def _given(args: argparse.Namespace, flag: Flag) -> Any:
    value = getattr(args, flag.name)
    return tuple(value or ()) if flag.type is tuple else value


def _plan(stage: Stage, params: Params, values: dict[str, Any]) -> str:
    """The resolved call as YAML: the stage, what it reads and writes, its other flags, and all parameters."""
    import yaml

    shown = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    plan = {
        "stage": stage.name,
        "inputs": {flag.name: shown[flag.name] for flag in stage.flags if flag.is_input},
        "outputs": {flag.name: shown[flag.name] for flag in stage.flags if flag.is_output},
        "values": {flag.name: shown[flag.name] for flag in stage.flags if flag.type is not Path},
        "params": params.model_dump(mode="json"),
    }
    return yaml.safe_dump(plan, sort_keys=False, allow_unicode=True)


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="eclipse", description="Train, evaluate and select ECLIPSE priors.")
    stages = parser.add_subparsers(title="stages", metavar="STAGE", required=True)
    named = [words[0]] if words and words[0] in STAGES else list(STAGES)
    for name in named:
        stage = describe(name)
        sub = stages.add_parser(
            name,
            help=stage.summary,
            description=stage.document.replace("``", ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for flag in stage.flags:
            _add_flag(sub, flag)
        _add_common(sub)
        sub.set_defaults(stage=stage)
    return parser


def _add_flag(parser: argparse.ArgumentParser, flag: Flag) -> None:
    if flag.type is bool:
        parser.add_argument(*flag.options, dest=flag.name, action="store_true")
        return
    if flag.type is tuple:
        repeated: Any = {"action": "append", "metavar": "TEXT", "help": "may be repeated"}
        parser.add_argument(*flag.options, dest=flag.name, required=flag.required, **repeated)
        return
    kind: Any = flag.type
    if flag.positional:
        parser.add_argument(*flag.options, type=kind, metavar=flag.name.upper())
        return
    text = None if flag.required or flag.default is None else f"default: {flag.default}"
    parser.add_argument(
        *flag.options,
        dest=flag.name,
        type=kind,
        required=flag.required,
        default=flag.default,
        metavar=kind.__name__.upper(),
        help=text,
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    common = parser.add_argument_group("common")
    common.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    common.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one parameter")
    common.add_argument("--dry-run", action="store_true", help="print the resolved call and parameters, run nothing")
    common.add_argument("--quiet", action="store_true", help="no progress bars")
    common.add_argument("--traceback", action="store_true", help="show where an error comes from")


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split())
