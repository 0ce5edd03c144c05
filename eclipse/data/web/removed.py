"""What stays in a fetched shard of a record that was taken out: what keeps other records' ids, and copies of it out.

It is what the dataset stage would note of the record, without its URL, captions and bytes: its id (a hash), the
picture's fingerprint (perceptual hash and mean colours of a 16 × 16 grid), and the numbers that filters look at.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from eclipse.data.dedupe import Fingerprint
from eclipse.errors import DataError

PART = "removed.json"
"""Of a shard's member ``<key>.removed.json``."""
_GRID = (16, 16, 3)
_PRIVATE = 0xE000  # Unicode's private use area: in nobody's caption, and matched by no sensible expression


def stone(id: str, seen: Fingerprint, captions: int, described: dict[str, Any]) -> bytes:
    """The member for the record ``id`` with so many captions; ``described`` is kept, so it must tell of nobody."""
    value = {"id": id, "phash": f"{seen.structure:016x}", "captions": captions, "described": described}
    value["colours"] = base64.b64encode(seen.colours.tobytes()).decode()
    return json.dumps(value, sort_keys=True).encode()


def read_stone(content: bytes, where: str) -> tuple[str, Fingerprint, list[str], dict[str, Any]]:
    """The id, fingerprint, stand-ins for the captions and description of a member that :func:`stone` made.

    A stand-in equals no other caption and sorts behind them, so it names no group of the split. Damage is a
    :class:`DataError`.
    """
    try:
        value = json.loads(content)
        colours = np.frombuffer(base64.b64decode(value["colours"]), np.uint8).reshape(_GRID)
        name = "".join(chr(_PRIVATE + ord(letter)) for letter in value["id"])
        captions = [f"\U0010ffff{name}{chr(_PRIVATE + number)}" for number in range(value["captions"])]
        return value["id"], Fingerprint(int(value["phash"], 16), colours), captions, dict(value["described"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: what stands for a removed record is damaged ({error!r}); ingest again") from None
