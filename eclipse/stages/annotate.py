"""Stage ``annotate``: a dataset whose records have subjects, from the mini world's renderer or the paper's models."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eclipse.config.params import Params
from eclipse.data.manifest import Manifest, Split, load_manifest, open_split
from eclipse.data.shards import ShardWriter
from eclipse.data.subjects import subjects_of
from eclipse.data.takedown import refuse_taken_down
from eclipse.errors import ConfigError
from eclipse.files import atomic_folder, write_json
from eclipse.world.subjects import annotate_record


def run(params: Params, *, dataset: Path, out: Path, metrics: Path, part: str | None = None) -> dict[str, Any]:
    """Give the captions of a dataset subjects, nouns with pictures, for λ-ECLIPSE.

    Writes the dataset with them to the folder ``out``, and how many records have how many to ``metrics``; returns the
    latter. Splits, ids and pictures stay; captions and subjects are the annotator's (``annotate.by``). ``part`` "I/N"
    divides the models' work among N machines that share ``out``; the renderer's takes seconds and is never divided.
    Raises :class:`ConfigError` where nobody annotates, and :class:`DataError` for a dataset that holds what is on
    data.web.takedown.
    """
    refuse_taken_down(dataset, params.data.web)
    if params.annotate.by == ("models",):
        summary = _annotate_with_models(params, dataset, out, part)
    elif params.annotate.by == ("world",):
        if part is not None:
            raise ConfigError(f"part {part}: the mini world's renderer annotates everything at once; leave it out")
        summary = annotate_world(dataset, out)
    else:
        raise ConfigError("annotate.by: is empty, so nobody annotates; set [world] or [models]")
    write_json(metrics, summary)
    return summary


def _annotate_with_models(params: Params, dataset: Path, out: Path, part: str | None) -> dict[str, Any]:
    from eclipse.annotate.pipeline import annotate_dataset, parse_part  # torch, which the mini world does without

    return annotate_dataset(params.annotate, dataset, out, part=None if part is None else parse_part(part))


def annotate_world(dataset: Path, out: Path) -> dict[str, Any]:
    """Recaption the mini world's ``dataset`` (verified) to ``out``, shard by shard; returns counts.

    ``records`` and ``subjects`` (records by their number of subjects) are by split; ``dropped`` is empty, as the
    renderer knows every subject. Raises :class:`ConfigError` for a dataset of another source.
    """
    manifest = load_manifest(dataset)
    if manifest.source != "world":
        raise ConfigError(
            f"annotate.by: world annotates the mini world only, {dataset} is from {manifest.source!r}; set [models]"
        )
    splits: dict[str, Split] = {}
    subjects: dict[str, dict[str, int]] = {}
    with (
        atomic_folder(out) as folder,
        tqdm(total=sum(s.count for s in manifest.splits.values()), desc="annotate", mininterval=1.0) as bar,
    ):
        for name, split in manifest.splits.items():
            counts: Counter[int] = Counter()
            with ShardWriter(folder, name, max((shard.count for shard in split.shards), default=1)) as writer:
                for record in open_split(dataset, name):
                    annotated = annotate_record(record, name, manifest.seed)
                    counts[len(subjects_of(annotated))] += 1
                    writer.add(annotated)
                    bar.update()
            splits[name] = Split.of(writer.shards)
            subjects[name] = {str(number): counts[number] for number in sorted(counts)}
        annotated_manifest = _manifest(manifest, splits)
        annotated_manifest.save(folder)
    return {
        "source": annotated_manifest.source,
        "digest": annotated_manifest.digest,
        "records": {name: split.count for name, split in splits.items()},
        "subjects": subjects,
        "dropped": {},
    }


def _manifest(manifest: Manifest, splits: dict[str, Split]) -> Manifest:
    """What the annotated dataset says of itself: everything that shaped it is in the dataset that it was made of."""
    digest = hashlib.sha256(f"{manifest.digest} subjects".encode()).hexdigest()
    changes = {"source": f"{manifest.source}+subjects", "params_digest": digest, "splits": splits}
    return manifest.model_copy(update=changes)
