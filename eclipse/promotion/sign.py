"""Signatures: a reviewer's name and the hash of the sheet that they saw, as tags of the version."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.errors import ConfigError, EclipseError
from eclipse.files import read_json, sha256
from eclipse.promotion.blind import tally
from eclipse.promotion.compare import Ground, params_digest
from eclipse.promotion.sheet import RECORD, SHEET
from eclipse.tracking.registry import PRIOR_HASH, Registry, Version

REVIEW_FOLDER = "review"
SHEET_TAG, BY_TAG, SIGNED_TAG, PICKS_TAG = (f"eclipse.review.{x}" for x in ("sheet", "by", "signed", "picks"))

_RECORD_HASH = re.compile(rb'<meta name="eclipse-review" content="([0-9a-f]{64})">')


def sign(registry: Registry, version: Version, reviewer: str, *, picks: str | None = None) -> dict[str, str]:
    """Tag ``version`` with the reviewer's name and the hash of its present sheet; returns the tags.

    The sheet is fetched, and must be the one that the version names. ``picks`` (the line that a blind sheet shows) is
    uncovered and recorded in words. Raises :class:`EclipseError` where there is no sheet or it was changed,
    :class:`ConfigError` for an empty name or for picks of another sheet.
    """
    if not reviewer.strip():
        raise ConfigError("--reviewer: is empty; give the name of whoever looked at the sheet")
    hash_, record = _fetch(registry, version)
    tags = {BY_TAG: reviewer.strip(), SIGNED_TAG: hash_}
    if picks is not None:
        tags[PICKS_TAG] = f"{tally(record['blind'], picks).words()} ({picks.strip()})"
    # The signed hash last: without it the others mean nothing.
    for key, value in sorted(tags.items(), key=lambda item: item[0] == SIGNED_TAG):
        registry.tag(version, key, value)
    return tags


def check_signature(
    registry: Registry, version: Version, *, champion_hash: str | None, params: Params, ground: Ground | None = None
) -> dict[str, Any]:
    """review.json of a version whose sheet is signed and speaks of the present state.

    ``champion_hash`` is the prior_hash of the present champion, None while there is none. ``ground`` (default: what the
    graph made in this directory) is compared as far as it is there. Raises :class:`EclipseError` saying what to do:
    no sheet, unsigned, another sheet was signed, files were changed, or it is stale (another prior, champion, rule,
    dataset, store or frozen model).
    """
    if SHEET_TAG in version.tags and not (version.tags.get(BY_TAG) and version.tags.get(SIGNED_TAG)):
        raise EclipseError(f"{version}: its review sheet is unsigned; look at it, then run `eclipse sign`")
    hash_, record = _fetch(registry, version)
    if version.tags[SIGNED_TAG] != hash_:
        raise EclipseError(
            f"{version}: {version.tags[BY_TAG]} signed another sheet ({version.tags[SIGNED_TAG][:12]} instead of "
            f"{hash_[:12]}); look at the present one and run `eclipse sign` again"
        )
    ground = ground or Ground.of(record["variant"])
    present = {**ground.facts(), "params_digest": params_digest(params)}
    changed = [key for key, value in present.items() if record["made_from"].get(key) != value]
    if record["candidate"]["prior_hash"] != version.tags.get(PRIOR_HASH):
        changed.append("the prior itself")
    if record["champion"].get("prior_hash") != champion_hash:
        changed.append("the champion")
    if changed:
        names = ", ".join(name.removesuffix("_digest").removesuffix("_hash") for name in changed)
        raise EclipseError(f"{version}: its review sheet is stale (changed since: {names}); run `eclipse review` again")
    return record


def _fetch(registry: Registry, version: Version) -> tuple[str, dict[str, Any]]:
    """The hash of the version's sheet, checked against its tag, and the record whose hash the sheet names."""
    wanted = version.tags.get(SHEET_TAG)
    with tempfile.TemporaryDirectory() as beside:
        files = [registry.artifact(version, f"{REVIEW_FOLDER}/{name}", Path(beside)) for name in (SHEET, RECORD)]
        sheet, record = files
        if wanted is None or sheet is None or record is None:
            variant = version.tags.get("eclipse.variant", "eclipse")
            raise EclipseError(
                f"{version}: has no review sheet; run `eclipse review --version {version.version} --variant {variant}`"
            )
        found = sha256(sheet)
        named = _RECORD_HASH.search(sheet.read_bytes())
        if found != wanted or named is None or named[1].decode() != sha256(record):
            raise EclipseError(
                f"{version}: its review sheet or {RECORD} was changed after it was made; run `eclipse review` again"
            )
        return found, dict(read_json(record))
