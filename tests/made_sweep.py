"""A made-up sweep in the files that the stages write, small enough to build in a second."""

import csv
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from eclipse.data.images import encode_png
from eclipse.data.manifest import Manifest, Split
from eclipse.data.masks import box, encode_mask
from eclipse.data.records import Record
from eclipse.data.shards import ShardWriter
from eclipse.data.subjects import subjects_of
from eclipse.evaluate.bootstrap import estimate
from eclipse.evaluate.subject_groups import EDGES, groups_of
from eclipse.files import write_json
from eclipse.world.captions import plain_caption
from eclipse.world.render import render
from eclipse.world.scene import random_scene
from eclipse.world.subjects import annotate_record

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("val_seen", "val_held_out", "test_seen", "test_held_out")
POINTS = ("truth", "text", "projection", "diffusion", "eclipse-0.2", "eclipse-1.0")
ORACLE = ("colour", "shape", "texture", "spatial", "count", "background")
SKILL = {"truth": 0.97, "text": 0.45, "projection": 0.8, "diffusion": 0.84, "eclipse-0.2": 0.9, "eclipse-1.0": 0.86}
COSINE = {"truth": 1.0, "text": 0.62, "projection": 0.94, "diffusion": 0.9, "eclipse-0.2": 0.935, "eclipse-1.0": 0.88}
SUBJECT_REFERENCES = ("truth", "subject", "mean")
SUBJECT_SKILL = {"truth": 0.95, "subject": 0.55, "mean": 0.6, "eclipse-0.2": 0.3, "lambda-0": 0.8, "lambda-0.2": 0.85,
                 "lambda-0.2-edges": 0.75, "lambda-0.5": 0.7}  # fmt: skip
SUBJECT_POINTS = tuple(SUBJECT_SKILL)
MARKUP = " <b>& more</b>"


def make_sweep(
    root: Path, *, prompts: int = 24, kept: int = 16, seeds=(0, 1), points=POINTS, oracle: bool = True
) -> dict:
    """Write dataset, evaluations, details, priors and selection below ``root``; the keyword paths of the stages."""
    pictures = make_dataset(root / "dataset", prompts)
    for point in points:
        for seed in (0,) if point in ("truth", "text") else seeds:
            _evaluation(root, point, seed, pictures, kept, oracle)
            if point not in ("truth", "text"):
                _prior(root / "priors", root / "metrics/train", point, seed, COSINE[point])
    metric = "composition" if oracle else "r1"
    _selection(root / "selected", points, metric)
    return {
        "evaluations": root / "metrics/evaluate",
        "details": root / "evaluate",
        "priors": root / "priors",
        "selected": root / "selected",
        "dataset": root / "dataset",
    }


def make_dataset(folder: Path, prompts: int) -> dict[str, list[tuple[Record, np.ndarray]]]:
    """A dataset of rendered scenes; returns each split's records with their pictures."""
    made = {}
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng(number)
        made[split] = [_drawn(rng, f"{split}-{i:06d}") for i in range(prompts)]
    return _written(folder, made)


def _drawn(rng: np.random.Generator, name: str) -> tuple[Record, np.ndarray]:
    scene = random_scene(rng)
    picture = render(scene, rng)
    objects = [{"box": box(mask), "mask": encode_mask(mask)} for mask in picture.masks]
    meta = {"scene": scene.to_dict(), "objects": objects}
    return Record(name, plain_caption(scene), encode_png(picture.image), meta), picture.image


def _written(folder: Path, made: dict) -> dict:
    splits = {}
    for split, records in made.items():
        with ShardWriter(folder, split, 1000) as writer:
            for record, _ in records:
                writer.add(record)
        splits[split] = Split.of(writer.shards)
    Manifest(source="world", seed=0, params_digest="0" * 64, splits=splits, held_out=("orange square",)).save(folder)
    return made


def _evaluation(root: Path, point: str, seed: int, pictures: dict, kept: int, oracle: bool) -> None:
    folder = root / "evaluate" / f"{point}-{seed}"
    (folder / "images").mkdir(parents=True)
    columns: dict[str, list] = {"split": [], "id": [], "caption": []}
    summary = {}
    for split, records in pictures.items():
        scores = _scores(point, seed, split, len(records), oracle)
        summary[split] = {name: estimate(v, count=200).to_dict() for name, v in scores.items()}
        if oracle:
            summary[split]["fid"] = {"value": 3.0, "low": 2.5, "high": 3.6, "n": len(records)}
        columns["split"] += [split] * len(records)
        columns["id"] += [record.id for record, _ in records]
        columns["caption"] += [record.caption for record, _ in records]
        for name, values in scores.items():
            columns.setdefault(name, []).extend(values)
        np.save(folder / "images" / f"{split}.npy", _noisy(records[:kept], seed, SKILL[point]))
    pq.write_table(pa.table(columns), folder / "per_prompt.parquet")
    seconds = {"prior_per_caption": 0.002, "total": 20.0}
    write_json(
        root / "metrics/evaluate" / f"{point}-{seed}.json",
        {"point": point, "seed": seed, "splits": summary, "seconds": seconds},
    )


def _noisy(records: list, seed: int, skill: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 60 * (1 - skill), (64, 64, 3))
    images = [np.clip(image + noise, 0, 255).astype(np.uint8) for _, image in records]
    return np.array(images, np.uint8).reshape(-1, 64, 64, 3)


def _scores(point: str, seed: int, split: str, count: int, oracle: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([POINTS.index(point), seed, SPLITS.index(split)])
    skill = SKILL[point] - 0.08 * split.endswith("held_out")
    scores = {"cosine": np.clip(COSINE[point] + rng.normal(0, 0.02, count), -1, 1)}
    scores["r1"] = (rng.random(count) < skill).astype(float)
    scores["r5"] = np.maximum(scores["r1"], rng.random(count) < skill)
    if oracle:
        for name in ORACLE:
            scores[name] = (rng.random(count) < skill ** (1 / 5)).astype(float)
        scores["spatial"][::3] = np.nan
        scores["composition"] = np.nanmin([scores[name] for name in ORACLE], axis=0)
    return scores


def _prior(priors: Path, training: Path, point: str, seed: int, cosine: float) -> None:
    folder = priors / f"{point}-{seed}"
    folder.mkdir(parents=True)
    lam = None if point == "diffusion" else 0.0 if point == "projection" else float(point.split("-")[1])
    facts = {"point": point, "lam": lam, "seed": seed, "store_hash": "a" * 64, "encoder_hash": "b" * 64,
             "prior_hash": f"{point}-{seed}".encode().hex().ljust(64, "0"), "mse_reduction": "mean"}  # fmt: skip
    write_json(folder / "training.json", facts)
    write_json(training / f"{point}-{seed}.json", {**facts, "loss": 0.2, "seconds": 41.5})
    with (folder / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["step", "loss", "mse", "contrastive", "lr", "cos_image", "cos_text", "cos_shuffled", "seconds"]
        )
        for step in range(50, 550, 50):
            loss = np.exp(-step / 150) + 0.1 * (1 + (lam or 0)) + 0.005 * seed
            parts = ["", ""] if lam is None else [loss / 2, loss / 2]
            probes = [cosine * (1 - np.exp(-step / 120)), 0.6, 0.2]
            writer.writerow([step, loss, *parts, 1e-3, *probes, step / 12])


def _selection(folder: Path, points, metric: str, favourite: str = "eclipse-0.2") -> None:
    trained = [p for p in points if p not in ("truth", "text")]
    chosen = favourite if favourite in trained else trained[0]
    candidates = [{"point": p, "lam": None, "metric": 0.8, "cosine": 0.9,
                   "verdict": "chosen" if p == chosen else f"{metric} below 0.8900"} for p in trained]  # fmt: skip
    prior_hash = f"{chosen}-0".encode().hex().ljust(64, "0")
    write_json(folder / "selection.json", {
        "point": chosen, "seed": 0, "rule": f"Maximise {metric} on val_held_out (mean over seeds); ties: smallest λ.",
        "split": "val_held_out", "metric": metric, "value": 0.9, "candidates": candidates, "prior_hash": prior_hash,
    })  # fmt: skip
    (folder / "README.md").write_text("# card\n")


def make_study(folder: Path) -> Path:
    """A study's result file and one figure."""
    (folder / "figures").mkdir(parents=True)
    rows = [
        {"size": 400, "λ": 0.2, "composition": {"value": 0.31, "low": 0.25, "high": 0.36}},
        {"size": 6000, "λ": 0.2},
    ]
    (folder / "results.json").write_text(json.dumps({"finding": "λ matters < 1k pairs", "rows": rows}))
    Image.new("RGB", (40, 30), "white").save(folder / "figures" / "sizes.png")
    return folder


def make_subject_sweep(
    root: Path, *, prompts: int = 9, kept: int = 6, points=SUBJECT_POINTS, oracle: bool = True
) -> dict:
    """Write a λ-ECLIPSE sweep below ``root``; the keyword paths of the report.

    The captions of every split have one, two and three subjects in turn; each split's first one ends in MARKUP.
    """
    folder, metrics = root / "subjects", root / "metrics/subjects"
    pictures = _written(folder / "dataset", {split: list(_with_subjects(split, prompts)) for split in SPLITS})
    for point in points:
        _subject_evaluation(folder / "evaluate", metrics / "evaluate", point, pictures, kept, oracle)
        if point not in SUBJECT_REFERENCES:
            _prior(folder / "priors", metrics / "train", point, 0, SUBJECT_SKILL[point])
    lambdas = [point for point in points if point.startswith("lambda-")]
    _selection(folder / "selected", lambdas, "both" if oracle else "cosine", "lambda-0.2")
    _interpolation(folder / "interpolation")
    write_json(metrics / "dataset.json", {"digest": "e" * 64, "splits": {"train": 7}})
    write_json(metrics / "store.json", {"records": 7})
    return {"subjects": folder, "subject_evaluations": metrics / "evaluate"}


def _with_subjects(split: str, prompts: int) -> Iterator[tuple[Record, np.ndarray]]:
    rng = np.random.default_rng(SPLITS.index(split))
    for i in range(prompts):
        for attempt in itertools.count():
            plain, image = _drawn(rng, f"{split}-{i:06d}")
            record = annotate_record(plain, split, attempt)
            if len(subjects_of(record)) == 1 + i % 3:
                break
        yield (record if i else replace(record, caption=record.caption + MARKUP)), image


def _subject_evaluation(details: Path, metrics: Path, point: str, pictures: dict, kept: int, oracle: bool) -> None:
    folder = details / f"{point}-0"
    (folder / "images").mkdir(parents=True)
    columns: dict[str, list] = {"split": [], "id": [], "caption": [], "n_subjects": []}
    for number, group in enumerate((*SPLITS, EDGES) if point.endswith("-edges") else SPLITS):
        records = pictures[group.partition(":")[0]]
        columns["split"] += [group] * len(records)
        columns["id"] += [record.id for record, _ in records]
        columns["caption"] += [record.caption for record, _ in records]
        columns["n_subjects"] += [len(subjects_of(record)) for record, _ in records]
        shown = kept if "held_out" in group else 0
        rng = np.random.default_rng([SUBJECT_POINTS.index(point), number])
        for name, values in _subject_scores(rng, SUBJECT_SKILL[point], len(records), shown, oracle).items():
            columns.setdefault(name, []).extend(values)
        if shown:
            images = _noisy(records[:shown], number, SUBJECT_SKILL[point])
            np.save(folder / "images" / f"{group.replace(':', '_')}.npy", images)
    pq.write_table(pa.table(columns), folder / "per_prompt.parquet")
    scores = {name: np.array(values) for name, values in columns.items() if name not in ("split", "id", "caption")}
    groups = groups_of(np.array(columns["split"]), scores.pop("n_subjects"))
    found = {g: {n: estimate(v[rows], count=200) for n, v in scores.items()} for g, rows in groups.items()}
    splits = {g: {n: e.to_dict() for n, e in entries.items() if e} for g, entries in found.items()}
    seconds = {"prior_per_caption": 0.003, "total": 9.0}
    write_json(metrics / f"{point}-0.json", {"point": point, "seed": 0, "splits": splits, "seconds": seconds})


def _subject_scores(rng: np.random.Generator, skill: float, count: int, shown: int, oracle: bool) -> dict:
    def of_pictures(values: np.ndarray) -> np.ndarray:
        return np.where(np.arange(count) < shown, values, np.nan)

    scores = {name: of_pictures(rng.normal(skill, 0.02, count)) for name in ("clip_i", "clip_t", "edge_f1")}
    scores["cosine"] = rng.normal(skill, 0.02, count)
    if oracle:
        for name in ("concept", "rest", "subject_colour", "subject_shape", "subject_texture", "copy_paste"):
            scores[name] = of_pictures((rng.random(count) < skill).astype(float))
        scores["both"] = np.minimum(scores["concept"], scores["rest"])
        scores["ccd_concept"] = of_pictures(rng.normal(1 - skill, 0.02, count))
        scores["ccd_composition"] = of_pictures(rng.normal(0.5 - skill, 0.02, count))
    return scores


def _interpolation(folder: Path) -> None:
    folder.mkdir()
    Image.new("RGB", (40, 40), "navy").save(folder / "grid.png")
    image = {"ratio": 1.254, "length": 0.5, "paths": 4, "reason": None}
    text = {"ratio": None, "length": None, "paths": 0, "reason": "the corners' captions differ in length"}
    smoothness = {"image": image, "pixels": {**image, "ratio": 2.5}, "text": text}
    write_json(folder / "grid.json", {"mode": "linear", "steps": 7, "smoothness": smoothness})
