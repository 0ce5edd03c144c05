"""Names of the stages, and what can be told about one by reading its source instead of importing it.

A stage's flags are the keyword-only arguments of its function; what stands before them is given without a flag. They
are read from the syntax tree: importing a stage may import torch, and ``--help``, ``--dry-run`` or a misspelt flag
should not wait for that.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

STAGES: dict[str, str] = {
    "dataset": "eclipse.stages.dataset:run",
    "frozen": "eclipse.stages.frozen:run",
    "embed": "eclipse.stages.embed:run",
    "estimate": "eclipse.stages.estimate:run",
    "train": "eclipse.stages.train:run",
    "evaluate": "eclipse.stages.evaluate:run",
    "select": "eclipse.stages.select:run",
    "report": "eclipse.stages.report:run",
    "table": "eclipse.stages.table:run",
    "track": "eclipse.stages.track:run",
    "study-cell": "eclipse.stages.study:cell",
    "study-summary": "eclipse.stages.study:summary",
    "study-edge-drop": "eclipse.stages.study_subjects:edge_drop",
    "study-other-clip": "eclipse.stages.study_subjects:other_clip",
    "study-encoders": "eclipse.stages.study_subjects:encoders",
    "study-subjects": "eclipse.stages.study_subjects:summary",
    "study-finetune": "eclipse.stages.finetune:study",
    "ingest": "eclipse.stages.ingest:run",
    "takedown": "eclipse.stages.takedown:run",
    "fingerprints": "eclipse.stages.fingerprints:run",
    "annotate": "eclipse.stages.annotate:run",
    "evaluate-subjects": "eclipse.stages.evaluate_subjects:run",
    "select-subjects": "eclipse.stages.select:subjects",
    "generate": "eclipse.stages.generate:run",
    "interpolate": "eclipse.stages.interpolate:run",
    "finetune": "eclipse.stages.finetune:run",
    "drift": "eclipse.stages.drift:run",
    "register": "eclipse.stages.register:run",
    "review": "eclipse.stages.review:run",
    "sign": "eclipse.stages.sign:run",
    "promote": "eclipse.stages.promote:run",
    "rollback": "eclipse.stages.rollback:run",
    "bundle": "eclipse.stages.bundle:run",
    "pin-decoder": "eclipse.stages.pin_decoder:run",
    "import-clip": "eclipse.stages.import_clip:run",
    "import-prior": "eclipse.stages.import_prior:run",
    "export-prior": "eclipse.stages.export_prior:run",
    "whence": "eclipse.stages.whence:run",
    "replay": "eclipse.stages.replay:run",
    "signing-key": "eclipse.stages.keys:run",
    "pretrain-oracle": "eclipse.stages.pretrain:oracle",
    "pretrain-clip": "eclipse.stages.pretrain:clip",
    "pretrain-movq": "eclipse.stages.pretrain:movq",
    "pretrain-decoder": "eclipse.stages.pretrain:decoder",
    "pretrain-pack": "eclipse.stages.pretrain:pack",
}
"""Stage name → ``module:function``, in the order of the graph; a person's own commands after what they build on."""

OUTPUTS = ("out", "metrics", "checkpoints")
"""Path arguments that a stage writes; every other path is an input."""

_TYPES: dict[str, Callable[[str], Any]] = {
    "Path": Path,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "tuple[str, ...]": tuple,
}
_START: dict[Any, Any] = {bool: False, tuple: ()}
"""What a switch and a repeatable flag are when they are not given: nothing else can be told apart from giving them."""


@dataclass(frozen=True)
class Flag:
    """One keyword-only argument of a stage function: a value, a switch (bool), or a repeatable text (tuple).

    An argument that is not keyword-only is ``positional``: written without its name, and always required.
    """

    name: str
    type: Callable[[str], Any]
    required: bool
    default: Any = None
    positional: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """How it is written: ``--any-encoder``; one letter also with a single dash; a positional one by its value."""
        if self.positional:
            return (self.name,)
        option = f"--{self.name.rstrip('_').replace('_', '-')}"  # from_: Python keeps ``from`` for itself
        return (f"-{self.name}", option) if len(self.name) == 1 else (option,)

    @property
    def is_input(self) -> bool:
        """Whether this is a path that the stage reads."""
        return self.type is Path and self.name not in OUTPUTS

    @property
    def is_output(self) -> bool:
        """Whether this is a path that the stage writes."""
        return self.type is Path and self.name in OUTPUTS


@dataclass(frozen=True)
class Stage:
    """A stage as its source describes it."""

    name: str
    target: str
    document: str
    flags: tuple[Flag, ...]

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return self.document.partition("\n")[0]

    def load(self) -> Callable[..., Any]:
        """Import the stage's module and return its function."""
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)


def describe(name: str) -> Stage:
    """Read the stage's source: its docstring and the flags of its signature.

    Raises ``TypeError`` for a signature that no flags can be made from; that is a mistake in the stage.
    """
    target = STAGES[name]
    module, _, function = target.partition(":")
    tree = ast.parse(_source(module))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    if not found:
        raise TypeError(f"{module} has no function {function}")
    document = ast.get_docstring(found[0]) or ast.get_docstring(tree) or ""
    signature = found[0].args
    named = zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
    placed = (replace(_flag(name, argument, None), positional=True) for argument in signature.args[1:])
    flags = (*placed, *(_flag(name, argument, default) for argument, default in named))
    return Stage(name, target, document, flags)


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise TypeError(f"{module}: no such module")
    return Path(spec.origin).read_text(encoding="utf-8")


def _flag(stage: str, argument: ast.arg, default: ast.expr | None) -> Flag:
    annotation = ast.unparse(argument.annotation) if argument.annotation else ""
    base = annotation.removesuffix(" | None")
    if base not in _TYPES:
        known = ", ".join(_TYPES)
        raise TypeError(f"stage {stage}: {argument.arg}: {annotation or 'no annotation'}; use one of {known}")
    kind, value = _TYPES[base], _value(default)
    start = _START.get(kind)
    if kind in _START and (base != annotation or value != (None if kind is tuple and default is None else start)):
        raise TypeError(f"stage {stage}: {argument.arg}: {annotation} needs the default {start}")
    if kind is Path and value is not None:
        value = Path(value)
    return Flag(argument.arg, kind, required=default is None and base == annotation, default=value)


def _value(default: ast.expr | None) -> Any:
    if default is None:
        return None
    if isinstance(default, ast.Call) and ast.unparse(default.func) == "Path" and len(default.args) == 1:
        default = default.args[0]
    return ast.literal_eval(default)
