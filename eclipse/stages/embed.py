"""Stage ``embed``: the frozen CLIP over every shard of a dataset, into the embedding store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eclipse.config.params import Params
from eclipse.data.manifest import Manifest, Shard, load_manifest, open_split, verify_shard
from eclipse.data.shards import read_shard
from eclipse.embeddings.extract import embed_records, estimate_statics
from eclipse.embeddings.header import VERSION, Header, SplitEntry
from eclipse.embeddings.parts import parse_part, put_together, share
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.subjects import is_annotated
from eclipse.embeddings.writer import StoreWriter, shard_name
from eclipse.errors import ConfigError, DataError
from eclipse.files import write_json
from eclipse.models.clip import FrozenClip

SAMPLE = 2048  # captions that the channel statistics are estimated from


def run(
    params: Params,
    *,
    dataset: Path,
    frozen: Path,
    out: Path,
    metrics: Path,
    part: str | None = None,
    parts: Path | None = None,
) -> dict[str, Any]:
    """Embed ``dataset`` with the CLIP in ``frozen``/clip; write the store ``out`` and its figures ``metrics``.

    Of annotated records, subject pictures and edges are embedded too; a dataset has subjects in all records or in none.

    One store shard for each dataset shard. Killed and run again, it goes on after the last finished shard and ends in
    the same bytes. Raises :class:`DataError` for a dataset shard whose hash is wrong, before anything of it is used.

    ``part`` "I/N" embeds the I-th of N ranges of shards, counted from 0, into the folder ``out``, which is then no
    store yet. ``parts`` is the folder that holds all N of these; they are put together, and the store has the same
    bytes as one embedded in one piece on the same kind of machine.
    """
    if part is not None and parts is not None:
        raise ConfigError("part and parts: give one of them; part embeds a range of shards, parts puts all together")
    mine = None if part is None else parse_part(part)
    manifest = load_manifest(dataset)
    clip = FrozenClip.load(frozen / "clip")
    facts = _facts(clip, manifest)
    identity = {"version": VERSION, "store": params.store.model_dump(mode="json"), **facts}
    work: Sequence[tuple[str, Shard]] = _shards(manifest)
    if parts is not None:
        put_together(parts, out, identity, [name for name, _ in work])
    writer = StoreWriter(out, identity)
    if parts is None:
        work = work if mine is None else share(work, mine)
        _embed(params, dataset, manifest, work, clip, writer)
    if mine is not None:
        writer.publish_part()
        summary: dict[str, Any] = {"part": part, "shards": len(work), "records": sum(s.count for _, s in work)}
    else:
        header = writer.publish(facts, params.store, {k: len(v.shards) for k, v in manifest.splits.items()})
        summary = _summary(header, writer)
    write_json(metrics, summary)
    return summary


def _embed(
    params: Params,
    dataset: Path,
    manifest: Manifest,
    work: Sequence[tuple[str, Shard]],
    clip: FrozenClip,
    writer: StoreWriter,
) -> None:
    """Embed the shards ``work`` that ``writer`` does not have yet."""
    first = _first_split(dataset, manifest)
    annotated = any(is_annotated(record) for record in islice(open_split(dataset, first), 1))
    statics = writer.statics() or _new_statics(params, dataset, first, clip, writer, annotated=annotated)
    batch_size = params.store.batch_size
    with tqdm(total=sum(s.count for _, s in work), desc="embed", unit="record", mininterval=1.0) as bar:
        for name, shard in work:
            if writer.finished(name):
                bar.update(shard.count)
                continue
            path = verify_shard(dataset, shard)
            records = list(read_shard(path))
            embedded = embed_records(
                clip,
                records,
                statics,
                batch_size=batch_size,
                where=str(path),
                annotated=annotated,
                advance=bar.update,
            )
            writer.write_shard(name, records, embedded, statics, params.store)


def _facts(clip: FrozenClip, manifest: Manifest) -> dict[str, Any]:
    """What the store's header says of its encoder and dataset."""
    return {
        "encoder": clip.name,
        "weights_hash": clip.weights_hash,
        "tokenizer_hash": clip.tokenizer_hash,
        "state_dim": clip.state_dim,
        "projection_dim": clip.projection_dim,
        "context_length": clip.context_length,
        "logit_scale": clip.logit_scale,
        "dataset_digest": manifest.digest,
    }


def _first_split(dataset: Path, manifest: Manifest) -> str:
    """The split that stands for the dataset: training, where it holds records."""
    filled = [name for name, split in manifest.splits.items() if split.count]
    if not filled:
        raise DataError(f"{dataset}: holds no records; check what the dataset stage dropped")
    return "train" if "train" in filled else filled[0]


def _new_statics(
    params: Params, dataset: Path, split: str, clip: FrozenClip, writer: StoreWriter, *, annotated: bool
) -> Statics:
    sample = list(islice(open_split(dataset, split), SAMPLE))
    statics = estimate_statics(clip, sample, batch_size=params.store.batch_size, where=f"{dataset} ({split})")
    writer.write_statics(statics, nothing=clip.encode_nothing()[0].cpu() if annotated else None)
    return statics


def _shards(manifest: Manifest) -> list[tuple[str, Shard]]:
    return [
        (shard_name(name, i), shard) for name, split in manifest.splits.items() for i, shard in enumerate(split.shards)
    ]


def _summary(header: Header, writer: StoreWriter) -> dict[str, Any]:
    """Counts, sizes and errors.

    Of each split: ``cosine``, the mean cosine of z_x to its own z_y, the modality gap's other side; of annotated data
    ``subjects``: number of subjects → records that have so many.
    """
    entries = [entry for content in header.splits.values() for entry in content.shards]
    count = sum(entry.count for entry in entries)
    return {
        "splits": {split: _split_summary(split, content, writer) for split, content in header.splits.items()},
        "tokens_per_caption": sum(entry.tokens for entry in entries) / count + 1,
        "bytes_per_record": sum(entry.bytes for entry in entries) / count,
        "max_error": header.max_error,
        "spread_error": header.spread_error,
    }


def _split_summary(split: str, content: SplitEntry, writer: StoreWriter) -> dict[str, Any]:
    notes = [writer.notes(shard_name(split, i)) for i in range(len(content.shards))]
    cosine = sum(note["cosine"] * entry.count for note, entry in zip(notes, content.shards, strict=True))
    summary = {"count": content.count, "cosine": cosine / content.count if content.count else None}
    if any("subjects" in note for note in notes):
        subjects = sum((Counter(note["subjects"]) for note in notes), Counter[str]())
        summary["subjects"] = dict(sorted(subjects.items()))
    return summary
