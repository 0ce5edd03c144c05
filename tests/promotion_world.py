"""A registry with versions of one model, releases, and the commands on both."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from made_reviews import FROZEN, NAME, PARAMS, review

from eclipse.promotion.ledger import Wish
from eclipse.promotion.promote import promote
from eclipse.promotion.rollback import rollback
from eclipse.releases import Releases
from eclipse.tracking.registry import PRIOR_HASH, Registry


@dataclass
class World:
    """A registry with versions 1, 2 and 3 (the candidate) of one model, and releases that hold nothing yet."""

    folder: Path
    registry: Registry
    releases: Releases

    def version(self, number):
        return self.registry.get(NAME, str(number))

    def hash(self, number):
        return self.version(number).tags[PRIOR_HASH]

    def review(self, number, champion=None, **how):
        against = None if champion is None else self.hash(champion)
        return review(self.registry, self.version(number), self.folder / f"review-{number}", against, **how)

    def promote(self, number=None, *, build=None, frozen=FROZEN, **wish):
        wish = Wish("promote", NAME, "eclipse", "Ada", None if number is None else str(number), **wish)
        return promote(self.registry, self.releases, wish, params=PARAMS, frozen=frozen, build=build)

    def rollback(self, *, build=None, **wish):
        return rollback(self.registry, self.releases, Wish("rollback", NAME, "eclipse", "Ada", **wish), build=build)

    def aliases(self):
        return {alias: version.version for version in self.registry.versions(NAME) for alias in version.aliases}

    def roles(self):
        entries = {role: self.releases.state().entry(NAME, role) for role in ("champion", "previous", "candidate")}
        return {role: entry.version for role, entry in entries.items() if entry}


def open_world(source, folder, monkeypatch):
    """A copy of registry and releases in ``folder``, which becomes the working directory."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
    shutil.copyfile(source / "mlflow.db", folder / "mlflow.db")
    if (source / "releases").is_dir():
        shutil.copytree(source / "releases", folder / "releases")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return World(folder, Registry(uri), Releases(folder / "releases"))
