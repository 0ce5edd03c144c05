"""Command ``review``: a candidate against the champion, on a sheet for a person to judge and sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from eclipse.config.params import Params
from eclipse.errors import DataError
from eclipse.stages.variant import check_variant


def run(
    params: Params,
    *,
    version: str | None = None,
    variant: str = "eclipse",
    blind: bool = False,
    store: Path | None = None,
    dataset: Path | None = None,
    frozen: Path = Path("artifacts/frozen"),
    baseline: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Compare a version with the champion on equal prompts and seeds, and put the review sheet beside it in MLflow.

    Both draw ``promote.images`` prompts of each of ``promote.splits``; what was measured is kept beside ``out``, so
    that a second review takes seconds. ``out`` gets sheet.html, sheet.png and review.json.

    Args:
        params: ``promote`` is the rule; ``serve.decoder`` ends the registered name.
        version: the version to review; by default the one that is the candidate.
        variant: eclipse, or lambda-eclipse for priors that take subjects.
        blind: hide whose picture is whose, and let a person pick; ``sign --picks`` uncovers it.
        store: the embedding store to compare on; by default the one in artifacts (artifacts/subjects).
        dataset: the dataset that it was made of.
        frozen: the frozen models.
        baseline: λ-ECLIPSE without a champion: the text-only prior of the reference ``mean``.
        out: the sheet's folder; by default artifacts/review/VARIANT.
    """
    check_variant(variant)
    from eclipse.promotion.compare import Ground, Variant
    from eclipse.promotion.review import Places, review
    from eclipse.releases.store import Releases, releases_folder
    from eclipse.tracking.registry import Registry

    subjects = params.subjects
    out = out or Path("artifacts/review") / variant
    places = Places(
        ground=Ground.of(cast(Variant, variant), store=store, dataset=dataset, frozen=frozen),
        releases=Releases(releases_folder(Path())),
        baseline=baseline or Path("artifacts/subjects/priors") / f"{subjects.text_only}-{min(subjects.seeds)}",
        out=out,
        cache=out.parent / "measured",
    )
    for folder in (places.ground.store, places.ground.dataset, frozen):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; run `dvc repro`, or `dvc pull` what it made elsewhere")
    registry = Registry()
    record = review(registry, places, params, version=version, blind=blind)
    passed = "passes the rule" if record["decision"]["passed"] else "is below the rule"
    print(f"{record['name']} version {record['candidate']['version']} {passed}: {out / 'sheet.html'}")
    for reason in record["decision"]["reasons"]:
        print(f"  {reason}")
    return record
