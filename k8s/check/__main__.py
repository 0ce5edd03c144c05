"""``python -m k8s.check [OVERLAY…]`` checks manifests, ``python -m k8s.check preflight [OVERLAY]`` a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eclipse.errors import EclipseError
from k8s.check.checks import POOL, of_pool, problems
from k8s.check.rendered import OVERLAYS, ROOT, render


def main(argv: Sequence[str] | None = None) -> int:
    """Check overlays or a cluster. Returns 0, 1 where something is wrong, 2 where nothing could be checked."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _preflight(words[1:]) if words[:1] == ["preflight"] else _validate(words)
    except (EclipseError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _validate(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m k8s.check", description="Render overlays and check every object.")
    parser.add_argument("overlay", nargs="*", type=Path, help=f"default: {' '.join(OVERLAYS)}")
    args = parser.parse_args(words)
    wrong = 0
    for folder in args.overlay or [ROOT / name for name in OVERLAYS]:
        rendered = render(folder)
        found = [*problems(rendered), *of_pool(POOL, rendered)]
        wrong += len(found)
        for problem in dict.fromkeys(found):
            print(f"{_short(folder)}: {problem}")
        print(f"{_short(folder)}: {len(rendered.objects)} objects, {len(found)} problems")
    return 1 if wrong else 0


def _short(folder: Path) -> str:
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else folder.as_posix()


def _preflight(words: list[str]) -> int:
    from k8s.check.preflight import preflight

    parser = argparse.ArgumentParser(
        prog="python -m k8s.check preflight",
        description="Ask a cluster whether it can take an overlay.",
    )
    parser.add_argument("overlay", nargs="?", type=Path, default=ROOT / OVERLAYS[0], help=f"default: {OVERLAYS[0]}")
    parser.add_argument("--context", help="kubectl's context; default: the current one")
    args = parser.parse_args(words)
    found = preflight(render(args.overlay), args.overlay, args.context)
    for finding in found:
        print(finding)
    bad = sum(finding.fatal for finding in found)
    print(f"{_short(args.overlay)}: {'ready to apply' if not bad else f'{bad} things to mend first'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
