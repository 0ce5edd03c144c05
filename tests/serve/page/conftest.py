"""A browser, and a server with a released champion and candidate for it to visit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from listening import listening
from made_server import MINI, NAMES, make_prior, make_root
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from eclipse.releases.state import Entry, Model
from eclipse.releases.store import Releases
from eclipse.serve.app import create_app
from eclipse.serve.load import load
from eclipse.serve.serving import Serving

KEY = "a secret"


@dataclass(frozen=True)
class Site:
    """Addresses of a server, and of one with the same insides that asks for ``KEY``."""

    serving: Serving
    address: str
    guarded: str


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[Site]:
    root = make_root(tmp_path_factory.mktemp("page") / "root", steps=2, max_steps=100, max_pending=120)
    _release(root)
    serving = load(root)
    with listening(create_app(serving)) as port, listening(create_app(serving, key=KEY)) as guarded:
        yield Site(serving, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{guarded}")
    serving.engine.close(0)


def _release(root: Path) -> None:
    """Champions of both variants, and a candidate of the text-only one."""
    releases = Releases(root / "releases")
    roles = (("eclipse", "champion", "1"), ("eclipse", "candidate", "2"), ("lambda-eclipse", "champion", "1"))
    models: dict[str, dict[str, Entry]] = {}
    for seed, (variant, role, version) in enumerate(roles):
        folder = root / "made" / f"{seed}"
        make_prior(folder, variant, seed)
        tags = {"eclipse.git.commit": "f" * 40}
        made = releases.add_prior(folder, {"name": NAMES[variant], "version": version, "tags": tags})
        models.setdefault(variant, {})[role] = Entry(version, made, "2026-11-21T12:00:00+00:00")
    state = releases.state()
    for variant, entries in models.items():
        state = state.holding(NAMES[variant], Model(variant, **entries))
    frozen = releases.add_frozen(MINI)
    with releases.lock():
        releases.write_state(state.following(NAMES["eclipse"], state.models[NAMES["eclipse"]], frozen=frozen))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed here, so the page cannot be tried out")
    with sync_playwright() as playwright:
        # Its sandbox refuses to run as root, as tests in containers often do; nothing but this server is visited.
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Faults:
    """What a visit may not have: complaints in the console, requests elsewhere, violations of the policy.

    ``expected`` are statuses that a test provokes: the browser logs each as an error of its own.
    """

    expected: set[int] = field(default_factory=set)
    console: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)

    def unexpected(self) -> list[str]:
        known = tuple(f"Failed to load resource: the server responded with a status of {s}" for s in self.expected)
        console = [text for text in self.console if not (known and text.startswith(known))]
        return console + self.elsewhere + self.policy


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def context(browser, site, faults) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    made.set_default_timeout(20_000)
    made.expose_binding("reportViolation", lambda _, text: faults.policy.append(text))
    made.add_init_script(
        "document.addEventListener('securitypolicyviolation', (e) => reportViolation(e.violatedDirective))"
    )
    made.on("console", lambda message: message.type in ("error", "warning") and faults.console.append(message.text))
    made.on("weberror", lambda error: faults.console.append(str(error.error)))
    own = (site.address, site.guarded, "data:", "blob:")
    made.on("request", lambda request: request.url.startswith(own) or faults.elsewhere.append(request.url))
    yield made
    made.close()
    assert faults.unexpected() == []


@pytest.fixture
def page(context, site) -> Page:
    """The page, ready to be used."""
    return visit(context.new_page(), site.address)


def visit(page: Page, address: str) -> Page:
    page.goto(address)
    page.locator("#examples button").first.wait_for()
    return page
