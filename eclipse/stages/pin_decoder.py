"""Command ``pin-decoder``: a published decoder by reference, with its full revision and the digests of its files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from eclipse.config.params import Params


def run(params: Params, *, source: str, revision: str, out: Path) -> dict[str, Any]:
    """Write decoder.json, which stands beside clip/ in a folder of frozen models instead of decoder/.

    Args:
        params: all parameters; none is read.
        source: repository on Hugging Face, such as kandinsky-community/kandinsky-2-2-decoder.
        revision: its full commit, 40 hexadecimal digits. Files that are not in the local cache are fetched.
        out: the file to write.
    """
    from eclipse.files import write_json
    from eclipse.releases.decoder import pin

    reference = asdict(pin(source, revision))
    write_json(out, reference)
    return reference
