"""Command ``register``: what ``select`` chose, in MLflow's registry. It writes to a server, so it is no DVC stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.errors import DataError


def run(
    params: Params,
    *,
    selected: Path = Path("artifacts/selected"),
    evaluations: Path = Path("metrics/evaluate"),
    frozen: Path = Path("artifacts/frozen"),
    subjects: Path = Path("artifacts/subjects"),
    subject_metrics: Path = Path("metrics/subjects"),
    lock: Path = Path("dvc.lock"),
) -> dict[str, Any]:
    """Register the selected priors as versions of eclipse-prior-<variant>-<decoder>; a new one is the candidate.

    What is registered already, by the content of config and weights, is left as it is. The candidate goes to releases/,
    where servers find it and show it beside the champion.

    Args:
        params: all parameters; ``tracking.experiment`` is where the sweep was logged, ``serve.decoder`` ends the names.
        selected: the selected prior's folder.
        evaluations: folder of ``<point>-<seed>.json``; those of the selected prior become metrics.
        frozen: folder of the frozen models; its ``clip`` is the one that the priors were trained with.
        subjects: folder of the λ-ECLIPSE sweep with ``selected``; not read without subjects.points.
        subject_metrics: folder of its metric files, with ``evaluate``.
        lock: DVC's lock file; its hash becomes a tag where it exists.
    """
    halves = [(selected, evaluations)]
    if params.subjects.points:
        halves.append((subjects / "selected", subject_metrics / "evaluate"))
    for folder, _ in halves:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; run the select stage that writes it (dvc repro)")
    from eclipse.releases.candidate import offer
    from eclipse.releases.store import Releases, releases_folder
    from eclipse.tracking.register import register
    from eclipse.tracking.registry import CANDIDATE, Registry

    registry, releases, done = Registry(), Releases(releases_folder(Path())), {}
    for folder, figures in halves:
        version, new = register(
            registry,
            selected=folder,
            evaluations=figures,
            clip=frozen / "clip",
            decoder=params.serve.decoder,
            experiment=params.tracking.experiment,
            params=params.model_dump(mode="json"),
            lock=lock,
        )
        if CANDIDATE in version.aliases:
            variant = version.tags["eclipse.variant"]
            named = {"name": version.name, "version": version.version, "variant": variant, "tags": version.tags}
            offer(releases, folder, named)
        aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
        print(f"MLflow {registry.uri}: {version}{aliases} {'registered' if new else 'was there already'}")
        done[version.name] = {"version": version.version, "new": new, "aliases": list(version.aliases)}
    return done
