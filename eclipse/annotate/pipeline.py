"""A captioned dataset to one with subjects, shard by shard: resumable, and divisible among machines."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eclipse.annotate.funnel import Funnel
from eclipse.annotate.models import Models
from eclipse.annotate.records import annotate_records
from eclipse.config.subjects import AnnotateParams
from eclipse.data.manifest import Manifest, Split, load_manifest, verify_shard
from eclipse.data.partial import Note, Partial, digest
from eclipse.data.records import TRAIN, Shard
from eclipse.data.shards import read_shard
from eclipse.errors import ConfigError, DataError
from eclipse.files import read_json, write_json

FUNNEL = "funnel.json"
_VERSION = 1  # of what the pipeline makes of the same input; raise it when that changes


def annotate_dataset(
    params: AnnotateParams,
    dataset: Path,
    out: Path,
    *,
    models: Models | None = None,
    part: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Annotate ``dataset`` with the models and filters of ``params``; write the dataset ``out`` and return the funnel.

    Splits, ids, pictures and the names of shards stay. Killed and run again, it goes on after the last finished shard
    and ends in the same bytes. ``models`` stand in for those of ``params.models``, which are loaded only if there is
    work left.

    ``part`` (i, n) takes every n-th shard, beginning with shard i, 0 ≤ i < n. All parts write to ``<out>.partial``,
    which they have to share, and the one that finds all shards finished publishes ``out``. A part that is not the last
    returns the funnel so far, with ``digest`` None; one that comes after, what was published.

    Returns, and writes to ``<out>/funnel.json``: ``images`` and ``boxes`` as :meth:`Funnel.as_dict` has them,
    ``dropped`` images by rule, ``records`` and ``subjects`` (records by their number of subjects) by split,
    ``shards`` (``done``, ``of``), ``source`` and the manifest's ``digest``. Raises :class:`DataError` for a damaged
    shard or picture, and where no training record is left.
    """
    if part is not None and not 0 <= part[0] < part[1]:
        raise ConfigError(f"part {part[0]}/{part[1]}: write I/N with 0 ≤ I < N, for example 0/4 to 3/4")
    manifest = load_manifest(dataset)
    identity = _identity(params, manifest)
    published = None if part is None else _published(out, identity)
    if published is not None:
        return published
    partial = Partial(out, identity, shared=part is not None)
    work = [(split, shard) for split, content in manifest.splits.items() for shard in content.shards]
    _annotate_shards(params, dataset, work if part is None else work[part[0] :: part[1]], partial, models)
    return _finish(partial, manifest, digest(identity))


def parse_part(text: str) -> tuple[int, int]:
    """``I/N`` as numbers; anything else, or I outside 0 … N − 1, is a :class:`ConfigError`."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise ConfigError(f"part {text!r}: write I/N with 0 ≤ I < N, for example 0/4 to 3/4")
    return int(found[1]), int(found[2])


def _annotate_shards(
    params: AnnotateParams, dataset: Path, work: list[tuple[str, Shard]], partial: Partial, models: Models | None
) -> None:
    with tqdm(total=sum(shard.count for _, shard in work), desc="annotate", unit="record", mininterval=1.0) as bar:
        for split, shard in work:
            if partial.finished(_name(shard)):
                bar.update(shard.count)
                continue
            models = models or Models.load(params.models)
            path = verify_shard(dataset, shard)
            funnel = Funnel()
            records = annotate_records(
                list(read_shard(path)),
                models,
                params.filters,
                funnel,
                batch_size=params.models.batch_size,
                where=str(path),
                advance=bar.update,
            )
            partial.write(_name(shard), split, records, funnel.as_dict())


def _finish(partial: Partial, source: Manifest, params_digest: str) -> dict[str, Any]:
    """Add up what is finished, and publish if it is everything."""
    notes = {_name(shard): partial.note(_name(shard)) for split in source.splits.values() for shard in split.shards}
    done = {name: note for name, note in notes.items() if note is not None}
    summary = {**_counts(source, done), "shards": {"done": len(done), "of": len(notes)}, "digest": None}
    if len(done) == len(notes):
        made = _manifest(source, {name: shard for name, (shard, _) in done.items()}, summary["dropped"], params_digest)
        _check_left(source, made, partial.out)
        summary["digest"] = made.digest
        _publish(partial, made, summary)
    return summary


def _counts(source: Manifest, done: dict[str, Note]) -> dict[str, Any]:
    whole = Funnel()
    records, subjects = {}, {}
    for split, content in source.splits.items():
        funnel = Funnel()
        for name in map(_name, content.shards):
            if name in done:
                funnel.add(done[name][1])
        counts = funnel.as_dict()
        records[split], subjects[split] = counts["images"]["kept"], counts["subjects"]
        whole.add(counts)
    counts = whole.as_dict()
    return {
        "source": source.source + "+subjects",
        "records": records,
        "subjects": subjects,
        "images": counts["images"],
        "boxes": counts["boxes"],
        "dropped": {rule: count for rule, count in counts["images"]["dropped"].items() if count},
    }


def _identity(params: AnnotateParams, manifest: Manifest) -> dict[str, Any]:
    shaping = params.model_dump(mode="json", include={"filters", "models"})
    return {"version": _VERSION, "dataset_digest": manifest.digest, **shaping}


def _name(shard: Shard) -> str:
    return Path(shard.file).stem


def _manifest(
    source: Manifest, shards: dict[str, Shard | None], dropped: dict[str, int], params_digest: str
) -> Manifest:
    """The source's manifest with the shards that have records left, and what was dropped there and here."""
    splits = {}
    for split, content in source.splits.items():
        made = [shards[_name(shard)] for shard in content.shards]
        splits[split] = Split.of([shard for shard in made if shard is not None])
    changes = {
        "source": source.source + "+subjects",
        "params_digest": params_digest,
        "splits": splits,
        "dropped": dict(sorted((Counter(source.dropped) + Counter(dropped)).items())),
    }
    return source.model_copy(update=changes)


def _check_left(source: Manifest, made: Manifest, out: Path) -> None:
    if TRAIN in source.splits and source.splits[TRAIN].count and not made.splits[TRAIN].count:
        raise DataError(f"{out}: no training record is left; removed: {made.dropped}; loosen annotate.filters")


def _publish(partial: Partial, manifest: Manifest, summary: dict[str, Any]) -> None:
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    with partial.publishing(shards) as folder:
        if folder is not None:
            manifest.save(folder)
            write_json(folder / FUNNEL, summary)


def _published(out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The summary that lies in ``out`` if the same models, filters and data made it, else None."""
    if not (out / FUNNEL).is_file() or load_manifest(out).params_digest != digest(identity):
        return None
    return dict(read_json(out / FUNNEL))
