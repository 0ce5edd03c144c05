"""Commands in manifests exist: stages and their flags, modules, options of the programs in the image."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from eclipse.stages.registry import STAGES, describe
from k8s.check.pods import Pod, pods
from k8s.check.policy import OWN_IMAGES
from k8s.check.rendered import ROOT, Object, Problem, Rendered, dig

RULE = "command"
COMMON = {"--params", "--set", "--dry-run", "--quiet", "--traceback", "--help"}
"""Flags of every stage (eclipse/cli.py)."""
PROGRAMS = {"mlflow": "mlflow", "prefect": "prefect.cli", "bentoml": "bentoml_cli", "dvc": "dvc.commands"}
"""Console script → the package whose source declares its options."""
DRIVERS = {"s3://": "boto3"}
"""Scheme of an address → the module that opens it."""
_DRIVER = re.compile(r"\bpostgresql\+(\w+)://")
_SHELLS = {"sh", "bash", "/bin/sh", "/bin/bash"}
_PLAIN = {"sleep", "cp", "mkdir", "mv", "cat", "test", "true", "git", "sh", "bash", "python", "python3", "exec", "tar"}
"""Programs of the base image that manifests may use."""
_FLAG = re.compile(r"--[a-z][a-z0-9-]+")
_STARTS = re.compile(r"^(python3?|eclipse|torchrun|mlflow|prefect|bentoml|dvc)$")


def commands(rendered: Rendered) -> Iterator[Problem]:
    """Commands of our own images that would end at once: a stage, a module, a program or a flag that is not there."""
    for pod in pods(rendered):
        yield from of_pod(pod)


def of_pod(pod: Pod) -> Iterator[Problem]:
    """The same for one pod template, probes and hooks included."""
    for where, container in pod.containers():
        if not is_own(container):
            continue
        for words in _lines(container):
            for text in faults(words):
                yield Problem(RULE, where, text)
        for text in _drivers(container):
            yield Problem(RULE, where, text)


def _drivers(container: Object) -> Iterator[str]:
    """Libraries that an address needs and that nothing else imports: they must be in the lock for it alone."""
    values = [each.get("value") for each in dig(container, "env", default=[])]
    said = " ".join(map(str, [*dig(container, "command", default=[]), *dig(container, "args", default=[]), *values]))
    wanted = set(_DRIVER.findall(said)) | {module for scheme, module in DRIVERS.items() if scheme in said}
    for module in sorted(wanted):
        if importlib.util.find_spec(module) is None:
            yield f"an address needs the Python module {module}, which is not installed: add it to pyproject.toml"


def is_own(container: Object) -> bool:
    """Whether the container runs one of our images."""
    image = str(container.get("image") or "")
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0] in OWN_IMAGES


def _lines(container: Object) -> Iterator[list[str]]:
    command = [*dig(container, "command", default=[]), *dig(container, "args", default=[])]
    given = [command] if dig(container, "command") else [["run", *command]] if command else []
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        given.append(dig(container, name, "exec", "command", default=[]))
    for name in ("postStart", "preStop"):
        given.append(dig(container, "lifecycle", name, "exec", "command", default=[]))
    for words in given:
        yield from split([str(word) for word in words])


def split(words: list[str]) -> Iterator[list[str]]:
    """One command as its simple commands: those of a shell's script, or itself."""
    if not words:
        return
    if words[0] not in _SHELLS:
        yield words
        return
    script = next((words[at + 1] for at, word in enumerate(words[:-1]) if re.fullmatch(r"-[a-z]*c", word)), "")
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|(){}")
        lexer.whitespace_split = True
        simple: list[str] = []
        for token in (*lexer, ";"):
            if set(token) <= set(";&|(){}"):
                yield from _known_start(simple)
                simple = []
            else:
                simple.append(token)


def _known_start(words: list[str]) -> Iterator[list[str]]:
    """Of a simple command in a script, what begins with a program that is checked."""
    at = next((at for at, word in enumerate(words) if _STARTS.match(word)), None)
    if at is not None and all("=" in word or word in {"exec", "if", "then", "!", "timeout"} for word in words[:at]):
        yield words[at:]


def faults(words: list[str]) -> Iterator[str]:
    """What is wrong with one simple command."""
    program, rest = words[0], words[1:]
    if program == "run":  # arguments alone: the image's entry point takes them
        return
    if program == "torchrun":
        rest = rest[rest.index("-m") :] if "-m" in rest else rest
        program = "python"
    if program in {"python", "python3", "eclipse"}:
        module = "eclipse" if program == "eclipse" else _module(rest)
        after = rest if program == "eclipse" else rest[rest.index("-m") + 2 :] if "-m" in rest else []
        if module is not None:
            yield from _of_module(module, after)
    elif program in PROGRAMS:
        yield from _options(program, PROGRAMS[program], rest)
    elif program not in _PLAIN and not program.startswith(("$", "/")):
        yield f"{program}: no program of the image that this check knows"


def _module(rest: list[str]) -> str | None:
    return rest[rest.index("-m") + 1] if "-m" in rest[:-1] else None


def _of_module(module: str, after: list[str]) -> Iterator[str]:
    if module == "eclipse":
        yield from _stage(after)
    elif module in PROGRAMS:
        yield from _options(module, PROGRAMS[module], after)
    elif module.partition(".")[0] in {"flows", "components", "k8s", "eclipse"}:
        path = ROOT.joinpath(*module.split("."))
        files = [each for each in (path.with_suffix(".py"), path / "__main__.py") if each.is_file()]
        if not files:
            yield f"python -m {module}: there is no such module"
            return
        said = _said(path if path.is_dir() else files[0])
        yield from (f"python -m {module}: no flag {flag}" for flag in _given(after) if flag not in {*said, "--help"})


def _stage(after: list[str]) -> Iterator[str]:
    name = after[0] if after else ""
    if name.startswith("$"):
        return
    if name not in STAGES:
        yield f"python -m eclipse {name}: no such stage"
        return
    flags = describe(name).flags
    known = {option for flag in flags for option in flag.options} | COMMON
    given = _given(after)
    yield from (f"python -m eclipse {name}: no flag {flag}" for flag in given if flag not in known)
    for flag in flags:
        if flag.required and not flag.positional and not set(flag.options) & set(given):
            yield f"python -m eclipse {name}: needs {flag.options[-1]}"


def _given(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]


def _options(program: str, package: str, rest: list[str]) -> Iterator[str]:
    """Options are looked for in the program's own source: asking it for ``--help`` would take seconds each."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        yield f"{program}: not installed"
        return
    said = _said(Path(places[0])) | (_said(Path(places[0]).parent / "utils") if program == "mlflow" else frozenset())
    named = rest[0].replace("-", "_") if rest and not rest[0].startswith("-") else ""
    if (
        program in {"prefect", "dvc"}
        and named
        and not any(Path(places[0], f"{named}{end}").exists() for end in (".py", ""))
    ):
        yield f"{program} {rest[0]}: no such command"
    yield from (f"{program}: no option {flag}" for flag in _given(rest) if not _declared(flag, said))


def _declared(flag: str, said: frozenset[str]) -> bool:
    return flag in said or flag.replace("--no-", "--") in said or flag == "--help"


@lru_cache
def _said(place: Path) -> frozenset[str]:
    """Every ``--flag`` that stands in a Python file, or in the files of a folder; parameters' names count as flags."""
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    text = "\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in files)
    named = {f"--{name.replace('_', '-')}" for name in re.findall(r"^\s{4}(\w+): ", text, re.MULTILINE)}
    return frozenset(_FLAG.findall(text)) | named
