from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_web import ROOT

from eclipse.config.data import WebParams
from eclipse.data.takedown import DEFAULT, load_takedown
from eclipse.data.web.choose import choose
from eclipse.data.web.filters import NUMBERS, passing
from eclipse.data.web.subset import FOLDER, ListFormat, load_subset, merged
from eclipse.errors import ConfigError, DataError

_TSV = ListFormat(format="tsv", header=("caption", "url"))
_LAION = load_subset(str(ROOT / FOLDER / "highres-5m.yaml")).list
_ROW = st.fixed_dictionaries({name: st.none() | st.floats(0, 2000) for name in NUMBERS})
_WEB = st.builds(
    WebParams,
    min_side=st.none() | st.integers(1, 2000),
    max_aspect=st.none() | st.floats(1, 4),
    max_unsafe=st.none() | st.floats(0, 1),
    max_watermark=st.none() | st.floats(0, 1),
    min_similarity=st.none() | st.floats(-1, 1),
)


def _passes(row, web):
    """The same once more, a row at a time."""
    sides = (row["width"], row["height"])
    if web.min_side is not None and (None in sides or min(sides) < web.min_side):
        return False
    if web.max_aspect is not None and (None in sides or min(sides) <= 0 or max(sides) / min(sides) > web.max_aspect):
        return False
    for name, bound, good in (
        ("unsafe", web.max_unsafe, lambda a, b: a <= b),
        ("watermark", web.max_watermark, lambda a, b: a <= b),
        ("similarity", web.min_similarity, lambda a, b: a >= b),
    ):
        if bound is not None and (row[name] is None or not good(row[name], bound)):
            return False
    return True


@given(st.lists(_ROW, max_size=20), _WEB)
def test_filters_are_what_they_are_row_by_row(rows, web):
    numbers = {name: np.array([math.nan if row[name] is None else row[name] for row in rows]) for name in NUMBERS}
    mask, dropped = passing(numbers, web)
    assert mask.tolist() == [_passes(row, web) for row in rows]
    assert dropped.total() == len(rows) - mask.sum()


def _rows(count=300):
    return [(f"a picture of {i}", f"http://a.example/{i}") for i in range(count)]


def _tsv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{caption}\t{url}\n" for caption, url in rows))


def _chosen(tmp_path, source, form=_TSV, *, seed=0, takedown=None, shard_size=10, **web):
    out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
    out.mkdir()
    listed = load_takedown(takedown)
    made = choose(source, form, WebParams(**web), listed, seed=seed, shard_size=shard_size, out=out)
    return made, pa.concat_tables([pq.read_table(file) for file in sorted(out.glob("*.parquet"))])


def test_the_sample_is_the_same_in_any_order_and_any_files(tmp_path):
    rows = _rows()
    _tsv(tmp_path / "a.tsv", rows)
    for number in range(7):
        _tsv(tmp_path / f"b/{number}.tsv", [*rows[number::7][::-1], *rows[:number]])
    one, first = _chosen(tmp_path, tmp_path / "a.tsv", subset=50)
    two, second = _chosen(tmp_path, tmp_path / "b", subset=50)
    assert (one.taken, two.taken) == (50, 50)
    assert first.equals(second)
    assert two.dropped["duplicate_or_not_drawn"] - one.dropped["duplicate_or_not_drawn"] == two.listed - one.listed


def test_a_larger_sample_holds_the_smaller_and_seeds_differ(tmp_path):
    _tsv(tmp_path / "a.tsv", _rows())
    ids = [
        set(_chosen(tmp_path, tmp_path / "a.tsv", subset=n, seed=s)[1]["id"].to_pylist())
        for n, s in ((40, 0), (80, 0), (40, 1))
    ]
    assert ids[0] < ids[1]
    assert ids[0] != ids[2]


def test_every_row_has_the_same_chance(tmp_path):
    _tsv(tmp_path / "a.tsv", _rows(40))
    drawn: Counter[str] = Counter()
    for seed in range(120):
        drawn.update(_chosen(tmp_path, tmp_path / "a.tsv", subset=10, seed=seed)[1]["id"].to_pylist())
    spread = sum((count - 30) ** 2 for count in drawn.values()) / 40
    assert len(drawn) == 40
    assert spread < 2 * 120 * 0.25 * 0.75  # twice the variance of fair draws


def test_rows_that_cannot_be_used_are_counted(tmp_path):
    rows = [
        b"fine\thttp://a.example/1",
        b"\thttp://a.example/2",
        b"caf\xe9\thttp://a.example/3",
        b"ftp\tftp://a.example/4",
    ]
    rows += [b"too\tmany\tcolumns", b'"quoted\thttp://a.example/5', b"gone\thttps://A.example/6#there", b"none\t"]
    (tmp_path / "a.tsv").write_bytes(b"\n".join(rows) + b"\n")
    (tmp_path / "takedown").write_text("http://a.example/6\n")
    made, table = _chosen(tmp_path, tmp_path / "a.tsv", takedown=tmp_path / "takedown")
    assert made.dropped == {"bad_row": 1, "bad_url": 2, "caption_not_utf8": 1, "empty_caption": 1, "takedown": 1}
    assert sorted(table["caption"].to_pylist()) == ['"quoted', "fine"]
    assert made.listed == 8


def test_laion_columns_filters_and_licences(tmp_path):
    good = {
        "WIDTH": 2000,
        "HEIGHT": 1500,
        "similarity": 0.4,
        "punsafe": 0.1,
        "pwatermark": 0.1,
        "LICENSE": "CC-BY",
        "hash": 1,
        "LANGUAGE": "en",
    }
    changes = [
        {},
        {"WIDTH": 900},
        {"WIDTH": 4000},
        {"punsafe": 0.6},
        {"pwatermark": 0.9},
        {"similarity": 0.2},
        {"punsafe": None},
    ]
    rows = [
        {"URL": f"http://a.example/{i}", "TEXT": f"text  {i}", **good, **change} for i, change in enumerate(changes)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "l.parquet")
    web = load_subset(str(ROOT / FOLDER / "highres-5m.yaml")).web
    made, table = _chosen(tmp_path, tmp_path / "l.parquet", _LAION, **web.model_dump(exclude_unset=True))
    names = ("max_aspect", "max_unsafe", "max_unsafe_unknown", "max_watermark", "min_side", "min_similarity")
    assert made.dropped == dict.fromkeys(names, 1)
    [row] = table.to_pylist()
    assert (row["caption"], row["license"], row["list_hash"], row["list_LANGUAGE"]) == ("text 0", "CC-BY", "1", "en")
    assert made.licences == {"CC-BY": 1}


def test_coco_is_one_row_a_picture(tmp_path):
    images = [
        {"id": i, "coco_url": f"http://c.example/{i}", "width": 640, "height": 480, "license": 4} for i in (2, 1, 3)
    ]
    notes = [{"id": 10 * i + n, "image_id": i, "caption": f"caption {n} of {i}"} for n in (1, 0) for i in (1, 2)]
    content = {"images": images, "annotations": notes, "licenses": [{"id": 4, "name": "BY", "url": "http://by"}]}
    (tmp_path / "captions.json").write_text(json.dumps(content))
    made, table = _chosen(tmp_path, tmp_path / "captions.json", ListFormat(format="coco"), min_side=400)
    rows = {row["url"]: row for row in table.to_pylist()}
    assert made.taken == 2
    assert rows["http://c.example/1"]["caption"] == "caption 0 of 1"
    assert rows["http://c.example/1"]["more_captions"] == ["caption 1 of 1"]
    assert rows["http://c.example/2"]["license"] == "http://by"


def test_jsonl_and_a_missing_column(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"url": "http://a.example/1", "caption": "one"}\n')
    assert _chosen(tmp_path, tmp_path / "a.jsonl", ListFormat(format="jsonl"))[0].taken == 1
    with pytest.raises(DataError, match=r"a\.jsonl: has no column 'URL'"):
        _chosen(tmp_path, tmp_path / "a.jsonl", ListFormat(format="jsonl", columns={"url": "URL"}))
    with pytest.raises(DataError, match=r"no row passes; left out: .*min_similarity_unknown"):
        _chosen(tmp_path, tmp_path / "a.jsonl", ListFormat(format="jsonl"), min_similarity=0.1)


@pytest.mark.parametrize("name", ["coco", "cc3m", "cc12m", "highres-5m", "highres-2m"])
def test_shipped_subsets_are_sound(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    subset = load_subset(name)
    assert merged(WebParams(min_similarity=0.9, workers=3), subset.web).workers == 3
    assert merged(WebParams(), subset.web).takedown == DEFAULT
    assert merged(WebParams(takedown=Path("mine.txt")), subset.web).takedown == Path("mine.txt")
    if name.startswith("highres"):
        assert subset.web.min_side == 1024


def test_mistakes_in_a_subset_are_named(tmp_path):
    (tmp_path / "s.yaml").write_text("list: {format: tsv, header: [a, url]}\nweb: {min_sid: 3}\nfetch: {threads: 0}\n")
    with pytest.raises(
        ConfigError, match=r"s\.yaml: list: columns: caption: not among.*web\.min_sid: unknown key; fetch"
    ):
        load_subset(str(tmp_path / "s.yaml"))
    with pytest.raises(ConfigError, match="subset nothing: .*no such file"):
        load_subset("nothing")
