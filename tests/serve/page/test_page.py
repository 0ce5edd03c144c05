"""The page in a real browser, with the real service behind it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from eclipse.personalize.prompt import SubjectArgument, resolve
from eclipse.serve.page import FOLDER

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"
PROMPT = "a red striped star left of a blue heart"


def draw(page, **values):
    """Fill in fields by their ids, and draw until all is done."""
    start(page, **values)
    expect(page.locator("#status")).to_contain_text("Done", timeout=30_000)


def start(page, **values):
    if any(name in ("steps", "guidance", "negative_prompt") for name in values):
        page.evaluate("document.querySelector('details').open = true")
    for name, value in values.items():
        page.fill(f"#{name}", str(value))
    page.click("#go")


def shown_manifest(page, tile) -> dict[str, str]:
    """The manifest in the viewer of one picture, as "section name" → text; the viewer is closed again."""
    tile.click()
    rows = page.evaluate(
        """() => [...document.querySelectorAll('#manifest dl')].flatMap((list) => {
          const section = list.previousElementSibling.textContent;
          return [...list.querySelectorAll('dt')].map((term) =>
            [`${section} ${term.textContent}`, term.nextElementSibling.textContent]);
        })"""
    )
    page.click("#viewer-close")
    return dict(rows)


def test_draws_what_the_api_draws_and_shows_it_on_the_way(page, site):
    start(page, prompt=PROMPT, n=2, seed=7, steps=12)
    page.locator("[data-state=partial]").first.wait_for()
    expect(page.locator("#status")).to_contain_text("Done: 2 pictures")
    tiles = page.locator(".tile[data-state=done]")
    assert tiles.locator("figcaption").all_text_contents() == ["seed 7", "seed 8"]
    image = tiles.first.locator("img")
    assert image.evaluate("(i) => [i.naturalWidth, i.classList.contains('pixels')]") == [64, True]
    body = {"prompt": PROMPT, "n": 2, "seed": 7, "steps": 12}
    data = httpx.post(f"{site.address}/v1/images/generations", json=body, timeout=60).json()["data"]
    for tile, datum in zip(tiles.all(), data, strict=True):
        manifest = shown_manifest(page, tile.locator("button"))
        assert manifest["image sha256"] == datum["manifest"]["image"]["sha256"]
        assert manifest["prior hash"] == datum["manifest"]["prior"]["hash"]
        assert manifest["request seed"] == str(datum["seed"])
        assert manifest["data dataset digest"] == "d" * 64


def test_an_empty_prompt_is_told_at_the_prompt(page, faults):
    faults.expected = {400}
    page.click("#go")
    problem = page.locator("#prompt-problem")
    expect(problem).to_be_visible()
    assert problem.text_content() == "is empty"
    assert page.get_attribute("#prompt", "aria-describedby") == "prompt-problem"
    assert page.evaluate("document.activeElement.id") == "prompt"
    assert page.locator(".run").count() == 0
    draw(page, prompt=PROMPT, n=1)
    expect(problem).to_have_count(0)


def test_a_limit_is_told_at_its_field_even_in_a_closed_part(page, faults):
    faults.expected = {400}
    page.evaluate("document.querySelector('#steps').value = 101")
    start(page, prompt=PROMPT)
    expect(page.locator("#steps-problem")).to_contain_text("at most 100")
    expect(page.locator("#steps")).to_be_visible()
    expect(page.locator("#steps")).to_be_focused()


def test_subjects_with_words_and_an_edge_map(page):
    page.fill("#prompt", "a square left of a moon above a moon")
    files = [EXAMPLES / name for name in ("square.png", "star.png")]
    page.set_input_files("#subject-file", files)
    rows = page.locator("#subjects li")
    expect(rows.nth(0)).to_contain_text("is “square”")  # guessed from the file's name
    expect(rows.nth(1)).to_contain_text("is which word?")
    page.click("#go")
    expect(page.locator("#subjects-field .problem")).to_contain_text("star.png")
    rows.nth(1).get_by_role("button", name="moon").nth(1).click()
    page.set_input_files("#edges", EXAMPLES / "edges.png")
    draw(page, n=1, seed=3)
    manifest = shown_manifest(page, page.locator(".picture").first)
    subjects = [(manifest[f"request subjects {i}, noun"], manifest[f"request subjects {i}, span"]) for i in (1, 2)]
    assert subjects == [("square", "[2,8]"), ("moon", "[32,36]")]
    assert re.fullmatch("[0-9a-f]{64}", manifest["request control"])
    assert manifest["prior variant"] == "lambda-eclipse"
    rows.nth(0).get_by_role("button", name="Remove").click()
    page.fill("#prompt", "a circle")  # the word of the other one is gone
    expect(rows.nth(0)).to_contain_text("is which word?")


def test_a_picture_dropped_or_pasted_is_a_subject_and_its_name_only_text(page):
    page.fill("#prompt", "a star")
    give = """([kind, name, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name, { type: 'image/png' }));
      const key = kind === 'paste' ? 'clipboardData' : 'dataTransfer';
      const make = kind === 'paste' ? ClipboardEvent : DragEvent;
      document.querySelector('#drop').dispatchEvent(new make(kind, { [key]: data, bubbles: true, cancelable: true }));
    }"""
    content = list((EXAMPLES / "star.png").read_bytes())
    markup = "<img src=x onerror=alert(1)>.png"
    page.evaluate(give, ["drop", "star.png", content])
    page.evaluate(give, ["paste", markup, content])
    expect(page.locator("#subjects li")).to_have_count(2)
    expect(page.locator("#subjects li").nth(0)).to_contain_text("is “star”")
    expect(page.locator("#subjects li").nth(1)).to_contain_text(markup)
    assert page.locator("#subjects img").count() == 2  # the thumbnails and nothing else


def test_champion_and_candidate_side_by_side(page):
    page.check("#compare")
    expect(page.locator("#model")).to_be_disabled()
    draw(page, prompt=PROMPT, n=2, seed=5)
    rows = page.locator(".run .row")
    assert rows.locator("h4").all_text_contents() == ["champion, version 1", "candidate, version 2"]
    captions = [row.locator("figcaption").all_text_contents() for row in rows.all()]
    assert captions == [["seed 5", "seed 6"]] * 2
    first, second = (shown_manifest(page, row.locator("button").first) for row in rows.all())
    assert first["prior hash"] != second["prior hash"]
    assert first["image sha256"] != second["image sha256"]
    page.set_input_files("#subject-file", EXAMPLES / "star.png")  # its variant has no candidate
    expect(page.locator("#compare-field")).to_be_hidden()
    expect(page.locator("#model")).to_be_enabled()


def test_interpolation_can_be_scrubbed_and_played(page):
    page.click("#tab-blend")
    page.fill("#from", "a red star")
    draw(page, to="a blue heart", frames=3, seed=4)
    assert page.locator(".tile figcaption").all_text_contents() == ["at 0.00", "at 0.50", "at 1.00"]
    image, slider = page.locator(".player img"), page.locator(".player input")
    first = image.get_attribute("src")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".player output")).to_have_text("0.50")
    assert image.get_attribute("src") != first
    page.get_by_role("button", name="Play").click()
    expect(page.locator(".player output")).to_have_text("1.00")
    page.get_by_role("button", name="Pause").click()
    manifest = shown_manifest(page, page.locator(".tile button").nth(1))
    assert (manifest["request blend, at"], manifest["request blend, mode"]) == ("0.5", "slerp")


def test_a_picture_can_be_kept_and_its_settings_taken_again(page, site, tmp_path):
    draw(page, prompt=PROMPT, n=2, seed=7, negative_prompt="it's grey")
    page.locator(".tile button").nth(1).click()
    with page.expect_download() as download:
        page.click("#viewer-download")
    assert download.value.suggested_filename == "a-red-striped-star-left-of-a-blue-heart-8.png"
    kept = Path(download.value.path()).read_bytes()
    assert kept.startswith(b"\x89PNG") and b"eclipse.manifest" in kept
    page.click("#viewer-copy")
    expect(page.locator("#viewer-note")).to_contain_text("clipboard")
    manifest = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert manifest["request"]["seed"] == 8
    page.click("#viewer-curl")
    expect(page.locator("#viewer-note")).to_contain_text("The command")
    assert run(page.evaluate("navigator.clipboard.readText()")) == [manifest["image"]["sha256"]]
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#viewer-back")).to_be_disabled()
    page.fill("#prompt", "something else", force=True)
    page.click("#viewer-again")
    values = [page.input_value(f"#{name}") for name in ("prompt", "n", "seed", "negative_prompt")]
    assert values == [PROMPT, "1", "7", "it's grey"]


def run(command: str) -> list[str]:
    """Run a copied command in the folder of the example pictures; hashes of the pictures that it answers."""
    if shutil.which("curl") is None:
        pytest.skip("no curl is installed here, so its command cannot be run")
    answer = subprocess.run(["sh", "-c", command], cwd=EXAMPLES, capture_output=True, check=True, timeout=60)
    return [datum["manifest"]["image"]["sha256"] for datum in json.loads(answer.stdout)["data"]]


def test_the_copied_command_sends_subjects_too(page):
    page.fill("#prompt", "a star's shadow")
    page.set_input_files("#subject-file", EXAMPLES / "star.png")
    draw(page, n=1, seed=1)
    sha256 = shown_manifest(page, page.locator(".picture").first)["image sha256"]
    page.locator(".picture").first.click()
    page.click("#viewer-curl")
    expect(page.locator("#viewer-note")).to_contain_text("The command")
    assert run(page.evaluate("navigator.clipboard.readText()")) == [sha256]


def test_cancelling_frees_the_slots(page, site):
    start(page, prompt=PROMPT, n=1, steps=100)
    page.locator("[data-state=partial]").first.wait_for()
    assert site.serving.engine.stats().slots_in_use > 0
    page.click("#cancel")
    expect(page.locator("#status")).to_contain_text("Cancelled")
    expect(page.locator("#go")).to_have_attribute("aria-disabled", "false")
    until(lambda: site.serving.engine.stats().slots_in_use == 0 and site.serving.engine.stats().pending == 0)


def until(true, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_busy_server_is_asked_again(page, site, faults):
    faults.expected = {429}
    body = {"prompt": PROMPT, "n": 4, "steps": 15, "stream": True}
    page.evaluate("document.querySelector('#steps').value = 30")  # × 4 pictures: all that the server takes on
    page.fill("#prompt", PROMPT)
    with httpx.stream("POST", f"{site.address}/v1/images/generations", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        page.click("#go")
        expect(page.locator("#status")).to_contain_text(re.compile(r"The server is busy.*in \d+ s"))
    page.locator("[data-state=partial]").first.wait_for(timeout=60_000)  # without another click
    page.click("#cancel")


def test_a_token_is_asked_for_and_stays_in_the_tab(context, site, faults):
    faults.expected = {401}
    page = context.new_page()
    page.goto(site.guarded)
    dialog = page.locator("#token-dialog")
    expect(dialog).to_be_visible()
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-reason")).to_contain_text("wrong")
    page.fill("#token", "a secret")
    page.click("text=Use it")
    draw(page, prompt=PROMPT, n=1)
    expect(dialog).to_be_hidden()
    page.locator(".picture").first.click()
    page.click("#viewer-curl")
    expect(page.locator("#viewer-note")).to_contain_text("The command")
    assert "a secret" not in page.evaluate("navigator.clipboard.readText()")
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_by_keyboard_alone(page):
    page.locator("#prompt").focus()
    page.keyboard.type(PROMPT)
    page.fill("#n", "1")
    page.locator("#prompt").focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("Done")
    page.locator(".tile button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".tile button")).to_be_focused()
    page.locator("#tab-draw").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-blend")).to_be_focused()
    expect(page.locator("#panel-blend")).to_be_visible()


def test_every_control_has_a_name(page):
    page.set_input_files("#subject-file", EXAMPLES / "star.png")
    page.set_input_files("#edges", EXAMPLES / "edges.png")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input:not([hidden]), select, textarea')].filter((control) =>
          !(control.getAttribute('aria-label') || control.labels?.length || control.textContent.trim())
        ).map((control) => control.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(page, faults, scheme):
    faults.expected = {400}
    page.emulate_media(color_scheme=scheme)
    page.click("#go")
    page.locator("#prompt-problem").wait_for()
    page.set_input_files("#subject-file", EXAMPLES / "star.png")
    page.fill("#prompt", "a star")
    page.get_by_role("group", name="The word for star.png").get_by_role("button", name="star").click()
    assert page.evaluate(CONTRASTS) > 4.5  # WCAG AA


CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const colour = channels(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let least = Infinity;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !node.checkVisibility() || node.disabled) continue;
    const [a, b] = [light(channels(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    least = Math.min(least, (a + 0.05) / (b + 0.05));
  }
  return least;
}"""


def test_nothing_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 360, "height": 740})
    draw(page, prompt="an unbreakably" + "long" * 30 + " word", n=2)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 360
    page.locator(".picture").first.click()
    assert page.locator("#viewer").bounding_box()["width"] <= 360
    page.keyboard.press("Escape")
    page.click("#tab-blend")
    draw(page, frames=3)
    assert page.evaluate(width) == 360


def test_a_clicked_word_is_the_word_that_the_service_finds(page):
    prompts = [
        "a dog chases a dog",
        "Dog and dogs, dog-like dog",
        "ein Käse, ein käse_brot",
        "a (teddy bear) by a bear",
    ]
    script = """async (prompts) => {
      const { nounAt, wordsOf } = await import('/page/nouns.js');
      return prompts.map((prompt) => wordsOf(prompt).map(({ start, end }) => [start, end, nounAt(prompt, start, end)]));
    }"""
    for prompt, words in zip(prompts, page.evaluate(script, prompts), strict=True):
        assert len(words) > 3
        for start_, end, noun in words:
            text, _, number = noun.partition("#")
            argument = SubjectArgument(text, int(number) if number else None, Path("x.png"))
            assert resolve(prompt, [argument], limit=1) == [(start_, end)]


def test_files_come_with_a_strict_policy_and_nothing_else_is_sent(site):
    answer = httpx.get(site.address)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'" and policy["img-src"] == "'self' data: blob:"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<style|<script(?! type=\"module\" src)| style=| on\w+=", answer.text)
    again = httpx.get(site.address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("__init__.py", "..%2fapp.py", "index.html"):
        assert httpx.get(f"{site.address}/page/{name}").status_code == 404
    for path in FOLDER.glob("*.js"):
        assert httpx.get(f"{site.address}/page/{path.name}").headers["content-type"].startswith("text/javascript")
