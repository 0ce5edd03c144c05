"""A made-up sweep in the files that the stages write, small enough to build in a second."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from eclipse.data.manifest import Manifest, Split
from eclipse.data.records import Record
from eclipse.data.shards import ShardWriter
from eclipse.evaluate.bootstrap import estimate
from eclipse.files import write_json
from eclipse.world.captions import plain_caption
from eclipse.world.render import render
from eclipse.world.scene import random_scene

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("val_seen", "val_held_out", "test_seen", "test_held_out")
POINTS = ("truth", "text", "projection", "diffusion", "eclipse-0.2", "eclipse-1.0")
ORACLE = ("colour", "shape", "texture", "spatial", "count", "background")
SKILL = {"truth": 0.97, "text": 0.45, "projection": 0.8, "diffusion": 0.84, "eclipse-0.2": 0.9, "eclipse-1.0": 0.86}
COSINE = {"truth": 1.0, "text": 0.62, "projection": 0.94, "diffusion": 0.9, "eclipse-0.2": 0.935, "eclipse-1.0": 0.88}


def make_sweep(
    root: Path, *, prompts: int = 24, kept: int = 16, seeds=(0, 1), points=POINTS, oracle: bool = True
) -> dict:
    """Write dataset, evaluations, details, priors and selection below ``root``; the keyword paths of the stages."""
    pictures = make_dataset(root / "dataset", prompts)
    for point in points:
        for seed in (0,) if point in ("truth", "text") else seeds:
            _evaluation(root, point, seed, pictures, kept, oracle)
            if point not in ("truth", "text"):
                _prior(root, point, seed)
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
    splits = {}
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng(number)
        made[split] = []
        with ShardWriter(folder, split, 1000) as writer:
            for i in range(prompts):
                scene = random_scene(rng)
                image = render(scene, rng).image
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, format="PNG")
                record = Record(f"{split}-{i:06d}", plain_caption(scene), buffer.getvalue(), {"scene": scene.to_dict()})
                writer.add(record)
                made[split].append((record, image))
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
        noise = np.random.default_rng(seed).normal(0, 60 * (1 - SKILL[point]), (64, 64, 3))
        images = [np.clip(image + noise, 0, 255).astype(np.uint8) for _, image in records[:kept]]
        np.save(folder / "images" / f"{split}.npy", np.array(images, np.uint8).reshape(-1, 64, 64, 3))
    pq.write_table(pa.table(columns), folder / "per_prompt.parquet")
    seconds = {"prior_per_caption": 0.002, "total": 20.0}
    write_json(
        root / "metrics/evaluate" / f"{point}-{seed}.json",
        {"point": point, "seed": seed, "splits": summary, "seconds": seconds},
    )


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


def _prior(root: Path, point: str, seed: int) -> None:
    folder = root / "priors" / f"{point}-{seed}"
    folder.mkdir(parents=True)
    lam = None if point == "diffusion" else 0.0 if point == "projection" else float(point.split("-")[1])
    facts = {"point": point, "lam": lam, "seed": seed, "store_hash": "a" * 64, "encoder_hash": "b" * 64,
             "prior_hash": f"{point}-{seed}".encode().hex().ljust(64, "0"), "mse_reduction": "mean"}  # fmt: skip
    write_json(folder / "training.json", facts)
    write_json(root / "metrics/train" / f"{point}-{seed}.json", {**facts, "loss": 0.2, "seconds": 41.5})
    with (folder / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["step", "loss", "mse", "contrastive", "lr", "cos_image", "cos_text", "cos_shuffled", "seconds"]
        )
        for step in range(50, 550, 50):
            loss = np.exp(-step / 150) + 0.1 * (1 + (lam or 0)) + 0.005 * seed
            parts = ["", ""] if lam is None else [loss / 2, loss / 2]
            probes = [COSINE[point] * (1 - np.exp(-step / 120)), 0.6, 0.2]
            writer.writerow([step, loss, *parts, 1e-3, *probes, step / 12])


def _selection(folder: Path, points, metric: str) -> None:
    trained = [p for p in points if p not in ("truth", "text")]
    chosen = "eclipse-0.2" if "eclipse-0.2" in trained else trained[0]
    candidates = [{"point": p, "lam": None, "metric": SKILL[p], "cosine": COSINE[p],
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
