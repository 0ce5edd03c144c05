import base64
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_comparison import SIDES, made_measured, made_review
from PIL import Image

from eclipse.files import read_json, sha256
from eclipse.promotion.blind import tally
from eclipse.promotion.compare import Side
from eclipse.promotion.sheet import write_review


class Seen(HTMLParser):
    """What a page refers to, its pictures in order, and its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.pictures, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [value for key, value in attrs if key in ("src", "href", "action", "data")]
        if tag == "img":
            image = Image.open(io.BytesIO(base64.b64decode(values["src"].partition(",")[2])))
            self.pictures.append((values["alt"], tuple(image.getpixel((0, 0)))))

    def handle_data(self, data):
        self.text += data


def write(folder, **changes):
    folder.mkdir()
    record = write_review(made_review(**changes), folder)
    return record, (folder / "sheet.html").read_text(encoding="utf-8")


def pixel(i, side):
    """The colour of prompt ``i`` as the candidate (0) or the champion (1) drew it."""
    return (i, 200 + side, 0)


def test_the_page_says_who_and_why_and_refers_to_nothing_outside(tmp_path):
    record, text = write(tmp_path / "a")
    seen = Seen(text)
    assert seen.links and all(link.startswith("data:image/png;base64,") for link in seen.links)
    assert not re.search(r"(?:url\(|@import|https?://)", text)
    for part in ("eclipse-prior-eclipse-mini", "version 3", "version 2", "Passes the rule", "superior", "a" * 64,
                 "test_held_out", "chosen at random", "--reviewer NAME"):  # fmt: skip
        assert part in seen.text
    assert "The champion was trained on other data" in seen.text and "The candidate was trained" not in seen.text
    assert "<b>thing</b>" in seen.text  # a caption is text, never markup
    assert record == read_json(tmp_path / "a" / "review.json")
    assert f'<meta name="eclipse-review" content="{sha256(tmp_path / "a" / "review.json")}">' in text


def test_pictures_stand_beside_their_own_prompt_candidate_first(tmp_path):
    review = made_review()
    _, text = write(tmp_path / "a")
    pictures = Seen(text).pictures[: 2 * len(review.shown)]
    for place, i in enumerate(review.shown):
        assert pictures[2 * place] == (f"candidate: a <b>thing</b> no. {i}", pixel(i, 0))
        assert pictures[2 * place + 1] == (f"champion: a <b>thing</b> no. {i}", pixel(i, 1))


def test_equal_reviews_are_equal_to_the_byte(tmp_path):
    write(tmp_path / "a"), write(tmp_path / "b")
    for name in ("sheet.html", "sheet.png", "review.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_record_has_what_promotion_reads(tmp_path):
    record, _ = write(tmp_path / "a")
    assert record["candidate"] == {"version": "3", "prior_hash": "a" * 64}
    assert record["champion"] == {"version": "2", "prior_hash": "b" * 64}
    assert record["decision"]["passed"] is True and record["decision"]["primary"]["verdict"] == "superior"
    assert [one["metric"] for one in record["decision"]["categories"]] == ["colour", "shape"]
    assert record["made_from"]["store_hash"] == "1" * 64 and record["blind"] is None
    ours, theirs = (one.table.scores["composition"] for one in made_review().measured)
    assert record["differences"]["won"] == int((ours > theirs).sum())
    assert record["differences"]["lost"] == int((ours < theirs).sum()) > 0


def test_without_a_champion_the_reference_is_named(tmp_path):
    record, text = write(tmp_path / "a", champion=Side("text", None))
    assert record["champion"] == {"reference": "text"}
    assert "no champion yet" in text and "own embedding z_y" in text


def test_a_candidate_below_the_rule_is_told_so(tmp_path):
    review = made_review()
    swapped = made_review(measured=review.measured[::-1], decision=replace(review.decision, passed=False))
    (tmp_path / "a").mkdir()
    write_review(swapped, tmp_path / "a")
    assert "Below the rule: promotion needs --override --reason" in (tmp_path / "a" / "sheet.html").read_text()


def test_a_metric_that_is_neither_right_nor_wrong_marks_no_picture(tmp_path):
    _, text = write(tmp_path / "a", metric="cosine")
    assert "✓ right" not in text and "✗ wrong" not in text
    assert "in which the candidate's cosine is lowest" in Seen(text).text.replace("&#39;", "'")


def test_a_blind_page_hides_who_is_who_and_the_record_knows(tmp_path):
    review = made_review(blind=True)
    record, text = write(tmp_path / "a", blind=True)
    pictures = Seen(text).pictures
    count = 2 * len(review.shown)
    for place, i in enumerate(review.shown):
        first = 0 if record["blind"]["a"][place] == "candidate" else 1
        assert pictures[2 * place] == (f"A: a <b>thing</b> no. {i}", pixel(i, first))
        assert pictures[2 * place + 1] == (f"B: a <b>thing</b> no. {i}", pixel(i, 1 - first))
    assert len(set(record["blind"]["a"])) == 2
    pairs = text[text.index('id="pairs"') : text.index('id="differences"')]
    assert "candidate:" not in pairs and "champion" not in pairs and "right</b>" not in pairs
    # What else is shown with names is of other prompts.
    assert not {red for _, (red, _, _) in pictures[count:]} & set(review.shown) and len(pictures) > count


def test_the_picture_shows_the_pairs_in_the_page_s_order(tmp_path):
    record, _ = write(tmp_path / "a", blind=True)
    sheet = np.asarray(Image.open(tmp_path / "a" / "sheet.png").convert("RGB")).reshape(-1, 3)
    review = made_review(blind=True)
    for place, i in enumerate(review.shown):
        at = [int(np.flatnonzero((sheet == pixel(i, side)).all(1))[0]) % 1180 for side in (0, 1)]
        assert (at[0] < at[1]) == (record["blind"]["a"][place] == "candidate")


def test_large_pictures_are_made_smaller(tmp_path):
    big = [replace(one, images=np.repeat(np.repeat(one.images, 64, 1), 64, 2)) for one in made_review().measured]
    _, text = write(tmp_path / "a", measured=tuple(big))
    uri = re.search(r'src="data:image/png;base64,([^"]+)"', text)[1]
    assert Image.open(io.BytesIO(base64.b64decode(uri))).size == (160, 160)


@pytest.mark.slow
def test_picking_in_a_browser_gives_the_line_that_sign_takes(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    record, _ = write(tmp_path / "a", blind=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        wrong = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((tmp_path / "a" / "sheet.html").as_uri())
        assert page.input_value("#picks") == f"{record['blind']['nonce']}:------"
        for place, words in ((0, "A better"), (1, "B better"), (2, "tie"), (0, "B better")):
            page.locator("fieldset").nth(place).get_by_text(words).click()
        assert page.inner_text("#tally") == "3 of 6 judged, 1 tie"
        line = page.input_value("#picks")
        browser.close()
    assert line == f"{record['blind']['nonce']}:BBT---" and not wrong
    found = tally(record["blind"], line)
    assert (found.ties, found.left, found.candidate + found.champion) == (1, 3, 2)


def test_prompts_with_subjects_show_their_pictures(tmp_path):
    """λ-ECLIPSE: what was given stands above what was made of it."""
    from made_subjects import write_dataset

    count = {"train": 0, "val_seen": 0, "val_held_out": 0, "test_seen": 3, "test_held_out": 4}
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "data", count)
    both = []
    for seed, right in ((0, 0.9), (1, 0.7)):
        one = made_measured(seed, right, prompts=7)
        splits = ("test_seen",) * 3 + ("test_held_out",) * 4
        ids = tuple(f"{split}-{i - 3 * (i > 2):03d}" for i, split in enumerate(splits))
        both.append(replace(one, table=replace(one.table, splits=splits, ids=ids)))
    _, text = write(
        tmp_path / "a", variant="lambda-eclipse", measured=tuple(both), shown=(0, 4), dataset=tmp_path / "data"
    )
    seen = Seen(text)
    assert seen.pictures[0][0].startswith("subject: ") and "Subjects are given, edges are not." in seen.text
    assert "--variant lambda-eclipse" in seen.text
    assert SIDES[0].version in seen.text
