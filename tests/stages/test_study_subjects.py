from pathlib import Path

import open_clip
import pandas as pd
import pytest
import torch
from made_subjects import CLIP, COUNT, make_data, make_frozen, tiny_params

from eclipse.embeddings.store import Store
from eclipse.errors import DataError, StoreError
from eclipse.evaluate.subject_groups import EDGES, HELD_OUT
from eclipse.evaluate.subject_study import METRICS
from eclipse.files import read_json, write_json
from eclipse.models.clip import FrozenClip, save_clip
from eclipse.report.sources import read_studies
from eclipse.stages import embed, evaluate_subjects, study_subjects, train
from eclipse.world.pool import make_pool

TRAINED = 40
DECODED = 5


def params(**changes):
    sections = {
        "train": {"steps": 2, "batch_size": 4, "probe_every": 1},
        "prior": {"layers": 1, "heads": 2, "head_dim": 8},
        "frozen": {"clip": {"steps": 1, "batch_size": 8, "lr": 1e-3}},
        "study": {"bootstrap": 100, "other_clip_steps": 2},
    }
    return tiny_params({"subject_images": DECODED, **changes}, **sections)


def negated(model):
    """The same CLIP with text states, pooled texts and image embeddings of the other sign."""
    with torch.no_grad():
        for part in (model.ln_final, model.visual.attnpool.c_proj):
            part.weight.neg_()
            part.bias.neg_()
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An annotated world and its store, and the same dataset's store by a second CLIP."""
    root = tmp_path_factory.mktemp("study")
    make_frozen(root / "frozen")
    make_data(root, root / "frozen", {**COUNT, "train": TRAINED})
    torch.manual_seed(0)
    save_clip(negated(open_clip.model.CLIP(**CLIP)), CLIP, root / "other" / "clip", name="other")
    embed.run(
        params(), dataset=root / "dataset", frozen=root / "other", out=root / "other-store", metrics=root / "o.json"
    )
    return root


@pytest.fixture
def calls(monkeypatch):
    """What was trained and evaluated, in order; an evaluation of seed ``calls.dies`` is a killed process."""

    class Calls(list):
        dies = None

    found = Calls()
    real_train, real_evaluate = train.run, evaluate_subjects.run

    def spied_train(*args, **kwargs):
        found.append(("train", kwargs["seed"]))
        return real_train(*args, **kwargs)

    def spied_evaluate(*args, **kwargs):
        found.append(("evaluate", kwargs["seed"]))
        if kwargs["seed"] == found.dies:
            raise KeyboardInterrupt
        return real_evaluate(*args, **kwargs)

    monkeypatch.setattr(train, "run", spied_train)
    monkeypatch.setattr(evaluate_subjects, "run", spied_evaluate)
    return found


def edge_drop(made, work, out, drop=0.5, settings=None):
    return study_subjects.edge_drop(
        settings or params(), store=made / "store", evaluation=made / "store", dataset=made / "dataset",
        frozen=made / "frozen", work=work, out=out, drop=drop,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_edge_drop_goes_on_with_what_is_missing(made, tmp_path, calls):
    calls.dies = 1
    with pytest.raises(KeyboardInterrupt):
        edge_drop(made, tmp_path / "work", tmp_path / "0.5.parquet")
    assert calls == [("train", 0), ("evaluate", 0), ("train", 1), ("evaluate", 1)]
    assert not (tmp_path / "0.5.parquet").exists()
    calls.clear()
    calls.dies = None
    assert edge_drop(made, tmp_path / "work", tmp_path / "0.5.parquet") == {"drop": 0.5, "seeds": 2}
    assert calls == [("evaluate", 1)]

    table = pd.read_parquet(tmp_path / "0.5.parquet")
    assert list(table.columns) == ["split", "id", *METRICS, "seed"]
    groups = table.groupby(["seed", "split"])
    assert set(groups.groups) == {(seed, group) for seed in (0, 1) for group in (HELD_OUT, EDGES)}
    assert set(groups.cosine.count()) == {COUNT["test_held_out"]} and set(groups.concept.count()) == {DECODED}
    a, b = (table[(table.seed == seed) & (table.split == EDGES)].cosine.to_numpy() for seed in (0, 1))
    assert (a != b).all()
    recorded = [read_json(path) for path in (tmp_path / "work").glob("*/priors/*/training.json")]
    assert {(r["point"], r["train_params"]["control_drop"]) for r in recorded} == {("lambda-0.2-edges", 0.5)}

    calls.clear()
    edge_drop(made, tmp_path / "work", tmp_path / "0.parquet", drop=0.0)
    assert calls.count(("train", 0)) == calls.count(("train", 1)) == 1, "another drop's priors were taken for its own"


def test_a_study_without_pictures_says_what_it_needs(made, tmp_path):
    with pytest.raises(DataError, match=r"concept.* not measured; set evaluate\.subject_images"):
        edge_drop(made, tmp_path / "work", tmp_path / "0.5.parquet", settings=params(subject_images=0))
    assert not (tmp_path / "0.5.parquet").exists()


def encoders(made, tmp_path, **changes):
    given = {"store": made / "store", "other": made / "other-store", **changes}
    return study_subjects.encoders(
        params(), **given, dataset=made / "dataset", frozen=made / "frozen", work=tmp_path / "work",
        out=tmp_path / "encoders",
    )  # fmt: skip


@pytest.mark.slow
def test_a_foreign_encoder_is_refused_forced_and_mapped(made, tmp_path, calls):
    assert encoders(made, tmp_path) == {"prompts": COUNT["test_held_out"]}
    assert "written by another encoder (other," in read_json(tmp_path / "encoders" / "refusal.json")["refusal"]
    table = pd.read_parquet(tmp_path / "encoders" / "ways.parquet")
    assert set(table.split) == {HELD_OUT}
    ids = Store.open(made / "store", HELD_OUT).table()["id"].to_pylist()
    right, forced, mapped = (table[table.way == way] for way in dict.fromkeys(table.way))
    assert right.id.tolist() == forced.id.tolist() == mapped.id.tolist() == ids
    assert right.both.count() == forced.both.count() == DECODED
    # The second encoder is the first with its signs changed, which a linear map undoes but for the ridge's shrinking.
    apart = abs(forced.cosine.to_numpy() - right.cosine.to_numpy()).mean()
    assert abs(mapped.cosine.to_numpy() - right.cosine.to_numpy()).mean() < 0.2 * apart

    (prior,) = (tmp_path / "work").glob("*/priors/lambda-0.2-0")
    evaluate_subjects.run(
        params(), store=made / "store", frozen=made / "frozen", dataset=made / "dataset", prior=prior,
        out=tmp_path / "details", metrics=tmp_path / "metrics.json", point="lambda-0.2", seed=0,
    )  # fmt: skip
    usual = pd.read_parquet(tmp_path / "details" / "per_prompt.parquet")
    usual = usual[usual.split == HELD_OUT].reset_index(drop=True)
    pd.testing.assert_frame_equal(right.reset_index(drop=True)[list(METRICS)], usual[list(METRICS)])

    calls.clear()
    encoders(made, tmp_path)
    assert calls == [], "the prior was trained again"


def test_a_store_of_the_right_encoder_is_no_foreign_one(made, tmp_path):
    with pytest.raises(StoreError, match="was written by the right encoder"):
        encoders(made, tmp_path, other=made / "store")
    with pytest.raises(StoreError, match="written by another encoder"):
        encoders(made, tmp_path, store=made / "other-store")
    assert not (tmp_path / "work").exists()


def test_the_second_clip_is_a_smaller_one_of_the_same_widths(tmp_path, monkeypatch):
    monkeypatch.setattr(study_subjects, "make_pool", lambda size, *args, **kwargs: make_pool(64, *args, **kwargs))
    found = study_subjects.other_clip(params(), out=tmp_path / "clip", checkpoints=tmp_path / "states")
    clip = FrozenClip.load(tmp_path / "clip")
    assert clip.state_dim == clip.projection_dim == 96 and clip.name == "other-clip"
    mini = FrozenClip.load(Path(__file__).parents[2] / "models" / "mini" / "clip")
    assert found["parameters"] == sum(p.numel() for p in clip.model.parameters())
    assert found["parameters"] < sum(p.numel() for p in mini.model.parameters())
    assert clip.tokenizer_hash == mini.tokenizer_hash
    assert not list((tmp_path / "states").iterdir())


def cells(folder, drops):
    folder.mkdir()
    for drop in drops:
        rows = {"split": [HELD_OUT, EDGES] * 3, "id": ["a", "a", "b", "b", "c", "c"], "seed": 0}
        pd.DataFrame({**rows, **{name: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6] for name in METRICS}}).to_parquet(
            folder / f"{drop}.parquet"
        )


def asked(folder):
    folder.mkdir()
    table = pd.DataFrame({"split": HELD_OUT, "id": ["a", "b"], **{name: [0.0, 1.0] for name in METRICS}})
    pd.concat([table.assign(way=way) for way in ("right", "forced", "mapped")]).to_parquet(folder / "ways.parquet")
    write_json(folder / "refusal.json", {"refusal": "written by another encoder"})


def test_the_report_reads_what_the_summary_writes(tmp_path):
    cells(tmp_path / "drops", ["0", "0.01", "0.1", "0.5", "0.9"])  # 0.9: left by an older study
    asked(tmp_path / "encoders")
    found = study_subjects.summary(
        params(), drops=tmp_path / "drops", encoders=tmp_path / "encoders", out=tmp_path / "out"
    )
    assert found == {"drops": 4, "encoders": 3}
    edges, foreign = read_studies(tmp_path / "out")
    assert edges.title.startswith("How often") and [row[0] for row in edges.rows] == ["0", "0.01", "0.1", "0.5"]
    assert edges.columns[1] == "edge F1, with edges" and edges.rows[0][1].startswith("0.400 [")
    assert [name for name, _ in edges.figures] == ["edge-drop"]
    assert foreign.columns == ("encoder", "concept", "rest", "both", "cosine")
    assert [row[0] for row in foreign.rows] == ["right", "forced", "mapped"]
    assert dict(foreign.remarks)["refused by default"] == "written by another encoder"
    assert all((tmp_path / "out" / name / "README.md").exists() for name in ("edge-drop", "encoders"))


def test_missing_and_foreign_cells_are_named(tmp_path):
    cells(tmp_path / "drops", ["0.0", "0.01", "0.5"])
    asked(tmp_path / "encoders")
    paths = {"drops": tmp_path / "drops", "encoders": tmp_path / "encoders", "out": tmp_path / "out"}
    with pytest.raises(DataError, match=r"no cell of drop 0\.1; run study-edge-drop"):
        study_subjects.summary(params(), **paths)
    (tmp_path / "drops" / "notes.parquet").touch()
    with pytest.raises(DataError, match=r"notes\.parquet: not named DROP\.parquet"):
        study_subjects.summary(params(), **paths)
    assert not (tmp_path / "out").exists()
