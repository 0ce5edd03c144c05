"""What an image installs: the lock file's entries, with versions and hashes, that its packages lead to.

``python images/lock.py trainer|server|sbom|build`` writes a requirements file for ``pip --require-hashes --no-deps`` to
standard output. Who wants what is read from the comments of ``uv pip compile``; nothing is resolved again, so an image
has the versions that the tests ran with. Standard library only: it runs in the bare Python image.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_SERVED = frozenset(
    {
        "boto3",
        "dvc",
        "kfp",
        "kfp-kubernetes",
        "kubeflow",
        "mlflow",
        "prefect",
        "prefect-kubernetes",
        "psutil",
        "psycopg2-binary",
    }
)
"""Dependencies that serving does not import."""
TOOLS = {"sbom": {"cyclonedx-bom"}, "build": {"setuptools"}}
"""What only the building of an image needs."""
IMAGES = ("trainer", "server", *TOOLS)
_ENTRY = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def requirements(image: str, pyproject: Path, lock: Path) -> str:
    """The part of ``lock`` for one image. Raises ``ValueError`` where a package that it needs is not locked."""
    entries = dict(_entries(lock.read_text(encoding="utf-8")))
    kept = roots(image, pyproject)
    missing = sorted(kept - entries.keys())
    if missing:
        raise ValueError(f"{lock}: has no {', '.join(missing)}; run `make lock`")
    while more := {name for name, (_, wanted_by) in entries.items() if name not in kept and wanted_by & kept}:
        kept |= more
    return "".join(f"{line}\n" for name in sorted(kept) for line in entries[name][0])


def roots(image: str, pyproject: Path) -> set[str]:
    """The packages that an image is for: the project's dependencies, for the trainer its extras' but ``dev`` too."""
    if image in TOOLS:
        return set(TOOLS[image])
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    listed = list(project["dependencies"])
    if image == "server":
        return {name_of(item) for item in listed} - NOT_SERVED
    extras = project.get("optional-dependencies", {})
    return {name_of(item) for item in (*listed, *(item for name in extras if name != "dev" for item in extras[name]))}


def name_of(item: str) -> str:
    """The normal form of the name that a requirement begins with."""
    match = _NAME.match(item)
    if not match:
        raise ValueError(f"{item!r} is no requirement")
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def _entries(text: str) -> Iterator[tuple[str, tuple[list[str], set[str]]]]:
    """(name, (its lines, the packages that want it)) of every entry."""
    lines: list[str] = []
    wanted_by: set[str] = set()
    for line in text.splitlines():
        if _ENTRY.match(line):
            lines, wanted_by = [], set()
            yield name_of(line), (lines, wanted_by)
        if line.lstrip().startswith("#"):
            named = _NAME.match(line.strip("# ").removeprefix("via").strip())
            if named:
                wanted_by.add(name_of(named.group()))
        elif line.strip():
            lines.append(line)


def main() -> int:
    """Write the requirements of one image. Returns 0, or 2 with a line that says why not."""
    parser = argparse.ArgumentParser(description="The lock file's part for one image.")
    parser.add_argument("image", choices=IMAGES)
    parser.add_argument("--pyproject", type=Path, default=ROOT / "pyproject.toml")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    args = parser.parse_args()
    try:
        print(requirements(args.image, args.pyproject, args.lock), end="")
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
