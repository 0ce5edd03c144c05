"""Stage ``embed``: the frozen CLIP over every shard of a dataset, into the embedding store."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eclipse.config.params import Params
from eclipse.data.manifest import Manifest, Shard, load_manifest
from eclipse.data.takedown import refuse_taken_down
from eclipse.embeddings.ahead import Behind, worker_count
from eclipse.embeddings.extract import Encoded, check_encoded, encode_shard, estimate_statics
from eclipse.embeddings.header import Header, SplitEntry, identity_of
from eclipse.embeddings.meeting import Meeting
from eclipse.embeddings.pace import Pace
from eclipse.embeddings.parts import parse_part, put_together, share
from eclipse.embeddings.ranks import Rank, launched
from eclipse.embeddings.reading import Reader, ReadShard, open_reader, open_shards
from eclipse.embeddings.static_file import StaticFile
from eclipse.embeddings.writer import StoreWriter, shard_name
from eclipse.errors import ConfigError
from eclipse.files import sha256, write_json
from eclipse.models.clip import FrozenClip


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
    bytes as one embedded in one piece on the same kind of machine. Under torchrun each process embeds a range on its
    own GPU, and the last to end puts all together.
    """
    if part is not None and parts is not None:
        raise ConfigError("part and parts: give one of them; part embeds a range of shards, parts puts all together")
    mine = None if part is None else parse_part(part)
    rank = launched() if part is None and parts is None else None
    work = _Work.of(params, dataset, frozen, rank)
    if rank is not None:
        return _as_rank(work, rank, out, metrics)
    if parts is not None:
        put_together(parts, out, work.identity, [name for name, _ in work.shards])
    writer = StoreWriter(out, work.identity)
    if parts is None:
        _embed(work, work.shards if mine is None else share(work.shards, mine), writer)
    if mine is None:
        return _publish(work, writer, metrics)
    writer.publish_part()
    summary = _part_summary(share(work.shards, mine), mine)
    write_json(metrics, summary)
    return summary


@dataclass(frozen=True)
class _Work:
    """One dataset and the encoder for it; ``shards`` are all of its shards by their names in the store."""

    params: Params
    dataset: Path
    manifest: Manifest
    reader: Reader
    workers: int
    facts: dict[str, Any]
    shards: Sequence[tuple[str, Shard]]

    @classmethod
    def of(cls, params: Params, dataset: Path, frozen: Path, rank: Rank | None) -> _Work:
        refuse_taken_down(dataset, params.data.web)
        manifest, store = load_manifest(dataset), params.store
        device = None if rank is None else rank.device()
        clip = FrozenClip.load(frozen / "clip", device=device, precision=store.precision, compile=store.compile)
        reader = open_reader(clip, dataset, manifest, store.batch_size)
        beside = 1 if rank is None else rank.beside
        workers = worker_count(store.workers, gpu=clip.device.type == "cuda", processes=beside)
        return cls(params, dataset, manifest, reader, workers, _facts(clip, manifest), _shards(manifest))

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of(self.params.store, self.facts)


def _embed(work: _Work, shards: Sequence[tuple[str, Shard]], writer: StoreWriter, shared: Path | None = None) -> None:
    """Embed those of ``shards`` that ``writer`` does not have yet, under the statistics in ``shared``, if given."""
    statics = writer.statics(None if shared is None else sha256(shared))
    if statics is None:
        static = _new_static(work) if shared is None else StaticFile.load(shared)
        statics = static.statics
        writer.write_statics(statics, nothing=static.nothing)
    clip, store = work.reader.clip, work.params.store

    def finish(shard: ReadShard, encoded: Encoded) -> None:
        embedded = check_encoded(clip, shard, encoded, statics)
        writer.write_shard(shard.name, shard.records, embedded, statics, store, shard.changed)

    total = sum(shard.count for _, shard in shards)
    with tqdm(total=total, desc="embed", unit="record", mininterval=1.0) as bar:
        todo = [(name, shard) for name, shard in shards if not writer.finished(name)]
        left = sum(shard.count for _, shard in todo)
        bar.update(total - left)
        pace = Pace(len(todo), left, lambda line: None if bar.disable else bar.write(line, file=sys.stderr))
        with (
            open_shards(work.reader, work.dataset, todo, work.workers) as read,
            Behind(thread=work.workers > 0) as behind,
        ):
            for shard, pictures in read:
                encoded = encode_shard(clip, shard, pictures, batch_size=store.batch_size, advance=bar.update)
                pace.shard(len(shard.records))
                behind(finish, shard, encoded)


def _as_rank(work: _Work, rank: Rank, out: Path, metrics: Path) -> dict[str, Any]:
    """Embed the part of ``rank``; put all together if it was the last one missing."""
    meeting, me, own = (
        Meeting(rank.folder(out), out, rank.size, work.identity),
        rank.rank,
        share(work.shards, rank.part),
    )
    told = _part_summary(own, rank.part)
    with meeting.alone(reading=True):
        if _is_over(meeting, metrics):
            return told
    damaged = meeting.damaged(me)  # reads the whole part, so the others are not kept waiting
    with meeting.alone():
        # Once more: with this part finished before, the others may have ended meanwhile.
        if _is_over(meeting, metrics):
            return told
        shared = meeting.static(lambda: _new_static(work))
        meeting.give_back(me, damaged=damaged)
        writer = None if meeting.finished(me) else StoreWriter(meeting.part(me), work.identity)
    if writer is not None:
        _embed(work, own, writer, shared)
    with meeting.alone():
        if _is_over(meeting, metrics):
            return told
        if writer is not None:
            writer.publish_part()
        if not all(meeting.finished(number) for number in range(rank.size)):
            return told
        meeting.put_together([name for name, _ in work.shards])
        summary = _publish(work, StoreWriter(out, work.identity), metrics)
        meeting.end(summary)
    return summary


def _is_over(meeting: Meeting, metrics: Path) -> bool:
    """Whether the store is published already; what else its last process may have left undone is done."""
    summary = meeting.over()
    if summary is None:
        return False
    meeting.clear()
    if not metrics.exists():
        write_json(metrics, summary)
    return True


def _publish(work: _Work, writer: StoreWriter, metrics: Path) -> dict[str, Any]:
    shards = {name: len(split.shards) for name, split in work.manifest.splits.items()}
    summary = _summary(writer.publish(work.facts, work.params.store, shards), writer)
    write_json(metrics, summary)
    return summary


def _part_summary(shards: Sequence[tuple[str, Shard]], part: tuple[int, int]) -> dict[str, Any]:
    return {"part": "{}/{}".format(*part), "shards": len(shards), "records": sum(s.count for _, s in shards)}


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


def _new_static(work: _Work) -> StaticFile:
    statics, clip = estimate_statics(work.reader, work.dataset, work.manifest), work.reader.clip
    return StaticFile(statics, clip.encode_nothing()[0].cpu() if work.reader.annotated else None)


def _shards(manifest: Manifest) -> list[tuple[str, Shard]]:
    return [
        (shard_name(name, i), shard) for name, split in manifest.splits.items() for i, shard in enumerate(split.shards)
    ]


def _summary(header: Header, writer: StoreWriter) -> dict[str, Any]:
    """Counts, sizes and errors.

    Of each split: ``cosine``, the mean cosine of z_x to its own z_y, the modality gap's other side; of annotated data
    ``subjects``: number of subjects → records that have so many; of the web's data ``changed_captions``, those that
    were cut to the context.
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
    if any("changed_captions" in note for note in notes):
        summary["changed_captions"] = sum(note["changed_captions"] for note in notes)
    return summary
