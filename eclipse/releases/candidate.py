"""A registered candidate made known to servers, which show it beside the champion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from eclipse.releases.clock import now
from eclipse.releases.state import Entry, Model
from eclipse.releases.store import Releases


def offer(releases: Releases, folder: Path, registered: dict[str, Any]) -> bool:
    """Copy the prior in ``folder`` to ``releases`` as the candidate of its registered model.

    ``registered`` holds ``name``, ``version``, ``variant`` and ``tags``. False, and nothing changes, where that version
    is the candidate already or is the champion.
    """
    name, version = str(registered["name"]), str(registered["version"])
    with releases.lock():
        state = releases.state()
        known = (state.entry(name, "candidate"), state.entry(name, "champion"))
        if any(entry and entry.version == version for entry in known):
            return False
        hash_ = releases.add_prior(folder, registered)
        model = state.models.get(name, Model(str(registered["variant"])))
        releases.write_state(state.holding(name, replace(model, candidate=Entry(version, hash_, now()))))
    return True
