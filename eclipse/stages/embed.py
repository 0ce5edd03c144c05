"""Stage ``embed``: the frozen CLIP over every shard of a dataset, into the embedding store."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eclipse.config.params import Params
from eclipse.data.manifest import Manifest, Shard, load_manifest, open_split, verify_shard
from eclipse.data.shards import read_shard
from eclipse.embeddings.extract import embed_records, estimate_statics
from eclipse.embeddings.header import VERSION, Header
from eclipse.embeddings.quantise import Statics
from eclipse.embeddings.writer import StoreWriter, shard_name
from eclipse.errors import DataError
from eclipse.files import write_json
from eclipse.models.clip import FrozenClip

SAMPLE = 2048  # captions that the channel statistics are estimated from


def run(params: Params, *, dataset: Path, frozen: Path, out: Path, metrics: Path) -> dict[str, Any]:
    """Embed ``dataset`` with the CLIP in ``frozen``/clip; write the store ``out`` and its figures ``metrics``.

    One store shard for each dataset shard. Killed and run again, it goes on after the last finished shard and ends in
    the same bytes. Raises :class:`DataError` for a dataset shard whose hash is wrong, before anything of it is used.
    """
    manifest = load_manifest(dataset)
    clip = FrozenClip.load(frozen / "clip")
    facts = _facts(clip, manifest)
    writer = StoreWriter(out, {"version": VERSION, "store": params.store.model_dump(mode="json"), **facts})
    statics = _statics(params, dataset, manifest, clip, writer)
    total = sum(split.count for split in manifest.splits.values())
    with tqdm(total=total, desc="embed", unit="record", mininterval=1.0) as bar:
        for name, shard in _shards(manifest):
            if writer.finished(name):
                bar.update(shard.count)
                continue
            path = verify_shard(dataset, shard)
            records = list(read_shard(path))
            batch_size = params.store.batch_size
            embedded = embed_records(clip, records, statics, batch_size=batch_size, where=str(path), advance=bar.update)
            writer.write_shard(name, records, embedded, statics, params.store)
    header = writer.publish(facts, params.store, {k: len(v.shards) for k, v in manifest.splits.items()})
    summary = _summary(header, writer)
    write_json(metrics, summary)
    return summary


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


def _statics(params: Params, dataset: Path, manifest: Manifest, clip: FrozenClip, writer: StoreWriter) -> Statics:
    found = writer.statics()
    if found is not None:
        return found
    filled = [name for name, split in manifest.splits.items() if split.count]
    if not filled:
        raise DataError(f"{dataset}: holds no records; check what the dataset stage dropped")
    split = "train" if "train" in filled else filled[0]
    sample = list(islice(open_split(dataset, split), SAMPLE))
    statics = estimate_statics(clip, sample, batch_size=params.store.batch_size, where=f"{dataset} ({split})")
    writer.write_statics(statics)
    return statics


def _shards(manifest: Manifest) -> list[tuple[str, Shard]]:
    return [
        (shard_name(name, i), shard) for name, split in manifest.splits.items() for i, shard in enumerate(split.shards)
    ]


def _summary(header: Header, writer: StoreWriter) -> dict[str, Any]:
    """Counts, sizes and errors; ``cosine`` is the mean cosine of z_x to its own z_y, the modality gap's other side."""
    splits = {}
    for split, content in header.splits.items():
        notes = [writer.notes(shard_name(split, i)) for i in range(len(content.shards))]
        cosine = sum(note["cosine"] * entry.count for note, entry in zip(notes, content.shards, strict=True))
        splits[split] = {"count": content.count, "cosine": cosine / content.count if content.count else None}
    entries = [entry for content in header.splits.values() for entry in content.shards]
    count = sum(entry.count for entry in entries)
    return {
        "splits": splits,
        "tokens_per_caption": sum(entry.tokens for entry in entries) / count + 1,
        "bytes_per_record": sum(entry.bytes for entry in entries) / count,
        "max_error": header.max_error,
        "spread_error": header.spread_error,
    }
