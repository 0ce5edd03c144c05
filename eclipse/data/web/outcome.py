"""What became of the URLs of a list: by outcome, by reason, by licence."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_REASONS = (
    (r"unknown url type: takedown", "taken_down"),
    (r"guard: more than", "too_large"),
    (r"guard: deadline", "deadline"),
    (r"guard: the picture is cut off|IncompleteRead", "truncated"),
    (r"guard: .* no public address", "private_address"),
    (r"guard: redirect|unknown url type|no host given|Redirection to url", "not_http"),
    (r"infinite loop", "redirect_loop"),
    (r"HTTP Error (\d{3})", "http_{}"),
    (r"timed out", "timeout"),
    (r"X-Robots-Tag", "not_wanted_by_site"),
    (r"CERTIFICATE|SSL|TLS", "tls"),
    (
        r"Name or service not known|No address associated|name resolution|nodename nor servname|has no address",
        "no_such_host",
    ),
    (r"refused|reset by peer|unreachable|closed connection|Broken pipe", "no_connection"),
    (r"image too small", "too_small"),
    (r"image area too large|CV_IO_MAX_IMAGE", "too_many_pixels"),
    (r"aspect ratio too large", "aspect"),
    (r"Image decoding error", "not_an_image"),
)
_BATCH = 1 << 14
TAKEN_DOWN = "taken_down"
"""The status of a row that was fetched and removed, and the reason of all that the takedown list names."""


def reason(message: str | None) -> str:
    """One word for what img2dataset says of a URL that failed; ``other`` where none is known."""
    for pattern, name in _REASONS:
        found = re.search(pattern, message or "")
        if found:
            return name.format(*found.groups())
    return "other"


def outcomes(shards: Path) -> dict[str, Any]:
    """Add up the tables beside the shards: ``urls``, ``outcomes`` and ``reasons`` by name, ``licences`` of what was
    fetched, and up to ten ``unknown`` messages of the reason ``other``.
    """
    totals: dict[str, Counter[str]] = {"outcomes": Counter(), "reasons": Counter(), "licences": Counter()}
    unknown: Counter[str] = Counter()
    for path in sorted(shards.glob("*.parquet")):
        file = pq.ParquetFile(path)
        columns = [name for name in ("status", "error_message", "license") if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH, columns=columns):
            for row in batch.to_pylist():
                totals["outcomes"][row["status"]] += 1
                if row["status"] == "success":
                    totals["licences"][str(row.get("license"))] += 1
                    continue
                why = TAKEN_DOWN if row["status"] == TAKEN_DOWN else reason(row["error_message"])
                totals["reasons"][why] += 1
                if why == "other":
                    unknown[str(row["error_message"])[:200]] += 1
    counted = {name: dict(sorted(counts.items())) for name, counts in totals.items()}
    return {"urls": totals["outcomes"].total(), **counted, "unknown": dict(unknown.most_common(10))}
