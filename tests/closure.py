"""The import closure of a stage inside ``eclipse/``, and the code dependencies of dvc.yaml made from it.

``python tests/closure.py --write`` (``make deps``) rewrites, in dvc.yaml and pretrain/dvc.yaml, every block between
``# code of eclipse.stages.x`` and ``# end of code``. The tests compare without writing. It knows nothing of eclipse: it
reads syntax trees only, so function-level imports count, and imports for type checkers alone do not.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "eclipse"
GRAPHS = ("dvc.yaml", "pretrain/dvc.yaml", "study/dvc.yaml")
_BLOCK = re.compile(
    r"^(?P<indent> *)# code of (?P<module>[\w.]+)\n(?P<lines>(?: *- .*\n)*)(?P<end> *# end of code\n)", re.MULTILINE
)


def closure(module: str, root: Path = ROOT) -> list[Path]:
    """Files below ``root``, sorted, that importing and running ``module`` may read: itself, what it imports inside
    the package at any depth, the ``__init__`` of every package on the way, and the templates and other data files that
    lie in these packages."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        for path in _files(name, root):
            if path not in found:
                found.add(path)
                waiting.extend(_imports(path, root))
    found |= {path for init in found if init.name == "__init__.py" for path in _data(init.parent)}
    return sorted(path.relative_to(root) for path in found)


def _files(module: str, root: Path) -> Iterator[Path]:
    """The file of a module and of the packages above it. A name that is no module (``from m import name``) has none."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:depth])
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                yield path


def _data(package: Path) -> Iterator[Path]:
    for path in package.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from _data(path)
        elif path.is_file() and path.suffix not in {".py", ".pyc"}:
            yield path


def _imports(path: Path, root: Path) -> Iterator[str]:
    package = list(path.relative_to(root).parent.parts)
    for node in _runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE)


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in child.orelse:
                yield from (other, *_runtime_nodes(other))
            continue
        yield child
        yield from _runtime_nodes(child)


def with_code(graph: Path, root: Path = ROOT) -> str:
    """The text of a dvc.yaml with every code block brought up to date, paths relative to ``root`` (a graph that lies
    deeper sets its stages' ``wdir`` to it)."""

    def block(match: re.Match[str]) -> str:
        indent = match["indent"]
        lines = "".join(f"{indent}- {path.as_posix()}\n" for path in closure(match["module"], root))
        return f"{indent}# code of {match['module']}\n{lines}{match['end']}"

    return _BLOCK.sub(block, graph.read_text(encoding="utf-8"))


def main() -> int:
    """Write the blocks (``--write``), or say which files are behind."""
    behind = [ROOT / name for name in GRAPHS if (ROOT / name).is_file()]
    behind = [graph for graph in behind if with_code(graph) != graph.read_text(encoding="utf-8")]
    for graph in behind:
        print(f"{graph.relative_to(ROOT)}: code dependencies {'written' if '--write' in sys.argv else 'are behind'}")
        if "--write" in sys.argv:
            graph.write_text(with_code(graph), encoding="utf-8")
    return int(bool(behind) and "--write" not in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
