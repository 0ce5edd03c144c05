import numpy as np
import pandas as pd
import pytest
import torch
from made_store import HASH, made_embedded, made_store

from eclipse.config.params import StoreParams, StudyParams
from eclipse.data.records import Record
from eclipse.embeddings.extract import Embedded
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.store import Store
from eclipse.embeddings.subjects import EmbeddedSubjects
from eclipse.embeddings.writer import StoreWriter, shard_name
from eclipse.errors import ConfigError, DataError, StoreError
from eclipse.evaluate.subject_groups import EDGES, HELD_OUT
from eclipse.evaluate.subject_study import (
    METRICS,
    edge_drop_results,
    encoder_results,
    figure,
    fit_bridge,
    markdown,
)

EXACT = StoreParams(tokens="fp16", image_dtype="fp32")
SETTINGS = StudyParams(bootstrap=200)
SHARDS = {"train": [60, 40]}


def affine(inputs, outputs, seed):
    """x → x · slope + offset with a large offset, as CLIP's modalities have one."""
    rng = np.random.default_rng(seed)
    slope = torch.from_numpy(rng.standard_normal((inputs, outputs), np.float32) / inputs**0.5)
    return slope, torch.from_numpy(rng.standard_normal(outputs, np.float32)) * 5


def mapped_store(folder, original, maps):
    """The store ``original`` of :func:`made_store` as an encoder would have written it whose spaces are ``maps``."""

    def apply(name, x):
        slope, offset = maps[name]
        return x @ slope + offset

    static = Store.open(original, "train")._statics
    bos = apply("states", static.bos.float())
    statics = Statics(torch.ones(len(bos)), torch.ones(len(bos)), bos.half())
    writer = StoreWriter(folder, {})
    writer.write_statics(statics, nothing=torch.arange(maps["images"][0].shape[1]).float())
    for i, count in enumerate(SHARDS["train"]):
        found = made_embedded(count, i, subjects=True)
        made = found.subjects
        subjects = EmbeddedSubjects(
            apply("images", made.embeds), made.counts, made.spans, apply("images", made.control_embeds)
        )
        embedded = Embedded(
            apply("states", found.states), found.lengths, apply("texts", found.prompt_embeds),
            apply("images", found.image_embeds), subjects,
        )  # fmt: skip
        records = [Record(f"train-{i}-{k:04d}", f"caption {i} {k}", b"", {"n": k}) for k in range(count)]
        writer.write_shard(shard_name("train", i), records, embedded, statics, EXACT)
    facts = {"encoder": "mapped", "weights_hash": "b" * 64, "tokenizer_hash": HASH, "dataset_digest": HASH}
    sizes = {"state_dim": len(bos), "projection_dim": maps["images"][0].shape[1], "context_length": 77}
    writer.publish({**facts, **sizes, "logit_scale": 100.0}, EXACT, {"train": len(SHARDS["train"])})


def test_a_bridge_recovers_linear_maps_with_intercept_between_spaces_of_other_widths(tmp_path):
    made_store(tmp_path / "foreign", SHARDS, params=EXACT, subjects=True)
    maps = {"states": affine(24, 20, 1), "texts": affine(12, 10, 2), "images": affine(12, 10, 3)}
    mapped_store(tmp_path / "right", tmp_path / "foreign", maps)
    foreign, right = Store.open(tmp_path / "foreign", "train"), Store.open(tmp_path / "right", "train")
    bridge = fit_bridge(foreign, right, ridge=1e-9)
    for name, tolerance in (("states", 5e-3), ("texts", 1e-4), ("images", 1e-4)):
        slope, offset = maps[name]
        found = getattr(bridge, name)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch.cat([slope, offset[None]]), atol=tolerance, rtol=0)
    index = np.array([99, 0, 61])
    carried, wanted = bridge.carry(foreign.gather(index)), right.gather(index)
    torch.testing.assert_close(carried.text_states, wanted.text_states, atol=5e-2, rtol=0)
    for name in ("prompt_embeds", "image_embeds", "control_embeds"):
        torch.testing.assert_close(getattr(carried, name), getattr(wanted, name), atol=1e-3, rtol=0)
    torch.testing.assert_close(carried.subjects.embeds, wanted.subjects.embeds, atol=1e-3, rtol=0)
    for name in ("owner", "start", "length"):
        assert torch.equal(getattr(carried.subjects, name), getattr(wanted.subjects, name))
    assert torch.equal(carried.lengths, wanted.lengths)
    nothing, (slope, offset) = foreign.nothing[None], maps["images"]
    torch.testing.assert_close(bridge.image(nothing), nothing @ slope + offset, atol=1e-2, rtol=0)


def test_the_penalty_does_not_depend_on_where_the_foreign_embeddings_lie(tmp_path):
    far = {"states": (torch.eye(24), torch.zeros(24)), "texts": (torch.eye(12), torch.zeros(12))}
    far["images"] = (torch.eye(12), torch.full((12,), 1000.0))
    made_store(tmp_path / "near", SHARDS, params=EXACT, subjects=True)
    mapped_store(tmp_path / "far", tmp_path / "near", far)
    near, far_store = Store.open(tmp_path / "near", "train"), Store.open(tmp_path / "far", "train")
    torch.testing.assert_close(
        fit_bridge(near, near).images[:-1], fit_bridge(far_store, near).images[:-1], atol=1e-3, rtol=0
    )


def test_between_identical_stores_a_bridge_changes_nothing(tmp_path):
    made_store(tmp_path / "store", SHARDS, params=EXACT)
    store = Store.open(tmp_path / "store", "train")
    bridge = fit_bridge(store, store)
    for weights, width in ((bridge.states, 24), (bridge.texts, 12), (bridge.images, 12)):
        identity = torch.cat([torch.eye(width), torch.zeros(1, width)])
        torch.testing.assert_close(weights, identity, atol=5e-3, rtol=0)
    batch = store.gather(np.arange(100))
    carried = bridge.carry(batch)
    torch.testing.assert_close(carried.image_embeds, batch.image_embeds, atol=1e-2, rtol=0)
    assert carried.subjects is None and carried.control_embeds is None


def test_stores_of_other_records_or_tokens_are_refused(tmp_path):
    made_store(tmp_path / "one", {"train": [30]})
    for name, shards in (("fewer", {"train": [29]}), ("named differently", {"train": [20, 10]})):
        made_store(tmp_path / name, shards)
        with pytest.raises(StoreError, match="other records than .*embed the same dataset twice"):
            fit_bridge(Store.open(tmp_path / name, "train"), Store.open(tmp_path / "one", "train"))
    made_store(tmp_path / "tokens", {"train": [30]}, longest=5)
    with pytest.raises(StoreError, match="tokenizers must be the same"):
        fit_bridge(Store.open(tmp_path / "tokens", "train"), Store.open(tmp_path / "one", "train"))


def cell(prompts=20, seeds=(0, 1), decoded=12, edges=True, **shifts):
    """Scores that are the prompt's number / 100, plus ``shifts``; all but cosine are NaN behind ``decoded``."""
    parts = []
    for seed in seeds:
        for group in (HELD_OUT, EDGES) if edges else (HELD_OUT,):
            base = np.arange(prompts) / 100
            scores = {name: base + shifts.get(f"{name}@{group}", 0.0) + 0.02 * seed for name in METRICS}
            for name in set(METRICS) - {"cosine"}:
                scores[name][decoded:] = np.nan
            ids = [f"p{k:02d}" for k in range(prompts)]
            parts.append(pd.DataFrame({"seed": seed, "split": group, "id": ids, **scores}))
    return pd.concat(parts, ignore_index=True)


def test_edge_drops_are_compared_by_hand_computed_differences():
    cells = {
        0.5: cell(**{f"edge_f1@{EDGES}": -0.25, f"concept@{HELD_OUT}": 0.125, f"concept@{EDGES}": 0.5}),
        0.01: cell(),
        0.0: cell(),
    }
    found = edge_drop_results(cells, SETTINGS, 0.01)
    assert [row["drop"] for row in found["rows"]] == [0.0, 0.01, 0.5]
    assert list(found["rows"][0])[1:] == [
        f"{name}, {words}" for words in ("with edges", "without edges") for name in ("edge F1", "concept", "rest")
    ]
    # Mean of 0 … 11 hundredths is .055, the mean over seeds adds .01.
    last = found["rows"][2]
    assert last["edge F1, with edges"]["value"] == pytest.approx(0.065 - 0.25)
    assert last["edge F1, without edges"]["value"] == pytest.approx(0.065)
    assert last["concept, with edges"]["value"] == pytest.approx(0.065 + 0.5)
    assert last["rest, with edges"]["n"] == 12
    held = {(d["drop"], d["figure"]): d for d in found["differences"]}
    assert set(held) == {(d, f) for d in (0.0, 0.5) for f in ("edge F1, with edges", "concept, without edges")}
    less, more = held[0.5, "edge F1, with edges"], held[0.5, "concept, without edges"]
    assert (less["value"], less["low"], less["high"], less["n"]) == (-0.25, -0.25, -0.25, 12)
    assert (less["verdict"], more["value"], more["verdict"]) == ("less", 0.125, "more")
    assert held[0.0, "concept, without edges"]["verdict"] == "undecided"
    assert "drop 0.5, edge F1, with edges: -0.250 [-0.250, -0.250], less" in found["decides"]


def test_seeds_are_averaged_before_prompts_are_resampled():
    baseline, other = cell(), cell()
    other.loc[other.seed == 0, "concept"] += 0.3
    other.loc[other.seed == 1, "concept"] -= 0.3
    found = edge_drop_results({0.01: baseline, 0.1: other}, SETTINGS, 0.01)
    gap = found["differences"][1]
    assert (gap["figure"], gap["value"], gap["low"], gap["high"]) == ("concept, without edges", 0.0, 0.0, 0.0)


def test_a_difference_that_rounds_to_nothing_is_still_told_from_nothing():
    found = edge_drop_results({0.01: cell(), 0.1: cell(**{f"concept@{HELD_OUT}": 2e-5})}, SETTINGS, 0.01)
    assert (found["differences"][1]["value"], found["differences"][1]["verdict"]) == (0.0, "more")


def test_cells_of_other_prompts_are_not_compared():
    with pytest.raises(DataError, match="other prompts than the baseline's"):
        edge_drop_results({0.01: cell(), 0.1: cell(decoded=11)}, SETTINGS, 0.01)
    with pytest.raises(DataError, match="no prompt has edge_f1"):
        edge_drop_results({0.01: cell(edges=False)}, SETTINGS, 0.01)
    with pytest.raises(ConfigError, match=r"study\.drops: 0\.01, .*missing"):
        edge_drop_results({0.1: cell()}, SETTINGS, 0.01)


def ways():
    plain = cell(seeds=(0,), edges=False).drop(columns="seed")
    forced = plain.assign(concept=plain.concept - 0.5, rest=plain.rest - 0.25)
    return {"the right one": plain, "forced": forced, "mapped": plain}


def test_encoders_are_compared_with_the_first():
    found = encoder_results(ways(), "written by another encoder", SETTINGS)
    assert [row["encoder"] for row in found["rows"]] == ["the right one", "forced", "mapped"]
    assert (found["rows"][0]["both"]["n"], found["rows"][0]["cosine"]["n"]) == (12, 20)
    held = {(d["encoder"], d["figure"]): (d["value"], d["verdict"]) for d in found["differences"]}
    assert held == {
        ("forced", "concept"): (-0.5, "less"),
        ("forced", "rest"): (-0.25, "less"),
        ("mapped", "concept"): (0.0, "undecided"),
        ("mapped", "rest"): (0.0, "undecided"),
    }
    assert found["refused by default"] == "written by another encoder"


def test_pages_and_figure_show_every_row(tmp_path):
    dropped = edge_drop_results({drop: cell() for drop in (0.0, 0.01, 0.1, 0.5)}, SETTINGS, 0.01)
    text = markdown(dropped)
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [row.split(" | ")[0] for row in rows] == ["| 0", "| 0.01", "| 0.1", "| 0.5"]
    assert all(row.count("0.065 [") == 6 for row in rows)
    assert text.startswith(f"# {dropped['title']}\n") and "Decides: paired difference to drop = 0.01" in text
    page = markdown(encoder_results(ways(), "written by another encoder", SETTINGS))
    assert "Refused by default: written by another encoder.\n" in page
    assert all(page.count(f"\n| {name} | ") == 1 for name in ("the right one", "forced", "mapped"))
    figure(dropped, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
