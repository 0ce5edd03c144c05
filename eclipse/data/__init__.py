"""Captioned images: records, tar shards, the manifest, and the ways in."""

from eclipse.data.manifest import Manifest, load_manifest, open_split, verify_shard
from eclipse.data.records import EVALUATION_SPLITS, SPLITS, TRAIN, Record
from eclipse.data.shards import ShardWriter, read_shard

__all__ = [
    "EVALUATION_SPLITS",
    "SPLITS",
    "TRAIN",
    "Manifest",
    "Record",
    "ShardWriter",
    "load_manifest",
    "open_split",
    "read_shard",
    "verify_shard",
]
