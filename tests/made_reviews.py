"""Registered versions with review sheets as ``review`` and ``sign`` leave them, the comparison itself left out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from made_selected import ROOT, make_selected

from eclipse.config import Params, load_params
from eclipse.promotion.compare import params_digest
from eclipse.promotion.sign import REVIEW_FOLDER, SHEET_TAG, sign
from eclipse.tracking.register import register
from eclipse.tracking.registry import PRIOR_HASH, Registry, Version

NAME = "eclipse-prior-eclipse-mini"
PARAMS = load_params(ROOT / "params.yaml")
FROZEN = ROOT / "models" / "mini"


def make_version(registry: Registry, folder: Path, weights: int, point: str = "eclipse-0.2") -> Version:
    """Register a prior of its own; it is the candidate then."""
    folder.mkdir(parents=True)
    made = make_selected(folder, weights=weights, point=point)
    return register(registry, **made, decoder="mini", experiment="eclipse", params={})[0]


def review(
    registry: Registry,
    version: Version,
    folder: Path,
    champion: str | None = None,
    *,
    passed: bool = True,
    signed: bool = True,
    params: Params = PARAMS,
) -> Version:
    """Give ``version`` a sheet that compares it with the prior ``champion`` (a hash; None: the reference)."""
    record = {
        "variant": version.tags["eclipse.variant"],
        "candidate": {"version": version.version, "prior_hash": version.tags[PRIOR_HASH]},
        "champion": {"prior_hash": champion} if champion else {"reference": "text"},
        "decision": {"passed": passed, "reasons": ["colour is inferior"], "rule": "no worse than 0.05"},
        "made_from": {"params_digest": params_digest(params)},
        "blind": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "review.json").write_text(json.dumps(record))
    digest = hashlib.sha256((folder / "review.json").read_bytes()).hexdigest()
    (folder / "sheet.html").write_text(f'<meta name="eclipse-review" content="{digest}">')
    for name in ("review.json", "sheet.html"):
        registry.add_artifact(version, folder / name, REVIEW_FOLDER)
    registry.tag(version, SHEET_TAG, hashlib.sha256((folder / "sheet.html").read_bytes()).hexdigest())
    version = registry.get(version.name, version.version)
    if signed:
        sign(registry, version, "Ada")
    return registry.get(version.name, version.version)
