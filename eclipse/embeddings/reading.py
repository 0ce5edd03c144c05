"""A dataset's shards as the encoder wants them: verified, tokenised, pictures decoded, ahead of it and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from eclipse.data.manifest import Manifest, open_split, verify_shard
from eclipse.data.records import Record, Shard
from eclipse.data.shards import read_shard
from eclipse.embeddings.ahead import Workers, ahead
from eclipse.embeddings.pictures import Order, Prepared, prepare
from eclipse.embeddings.subjects import SubjectPlan, check_alike, is_annotated, plan_subjects
from eclipse.errors import DataError
from eclipse.models.clip import FrozenClip

_WEB = "img2dataset"  # a manifest's source; annotation adds to the name, as in img2dataset+subjects


@dataclass(frozen=True)
class Reader:
    """How the records of one dataset are read for ``clip``, ``batch_size`` at once.

    ``annotated``: all of them must have subjects, otherwise none may. ``web``: nobody chose the records one by one, so
    pictures have any size; elsewhere that is an error. A caption of the web over the context is cut, as the papers'
    models see it, and the tokenizer's markers are left out of it, unless ``annotated``: a subject's noun is known by
    its place in the whole caption, so there both are errors, as they are elsewhere.
    """

    clip: FrozenClip
    batch_size: int
    annotated: bool
    web: bool


@dataclass(frozen=True)
class ReadShard:
    """One shard: its name in the store, what errors call it, its records and their tokens int64 [N, context].

    ``changed`` captions were cut (None where none may be). ``batches`` of pictures belong to it.
    """

    name: str
    where: str
    records: Sequence[Record]
    tokens: Tensor
    changed: int | None
    subjects: SubjectPlan | None
    batches: int


_Call = Callable[[], Prepared]
_Item = ReadShard | _Call


def open_reader(clip: FrozenClip, dataset: Path, manifest: Manifest, batch_size: int) -> Reader:
    """The reader for ``dataset``, whose first record says whether it is annotated."""
    first = next(open_split(dataset, first_split(dataset, manifest)))
    return Reader(clip, batch_size, is_annotated(first), manifest.source.partition("+")[0] == _WEB)


def first_split(dataset: Path, manifest: Manifest) -> str:
    """The split that stands for the dataset: training, where it holds records."""
    filled = [name for name, split in manifest.splits.items() if split.count]
    if not filled:
        raise DataError(f"{dataset}: holds no records; check what the dataset stage dropped")
    return "train" if "train" in filled else filled[0]


@contextmanager
def open_shards(
    reader: Reader, dataset: Path, work: Sequence[tuple[str, Shard]], workers: int
) -> Iterator[Iterator[tuple[ReadShard, Iterator[Prepared]]]]:
    """The shards ``work`` of ``dataset`` in order, each with its pictures, to be read before the next shard.

    Pictures come in batches: those of the records, then those of their subjects. With ``workers`` processes the next
    shards are read while one is used; memory then holds two shards' files and, prepared, two batches of pictures for
    each process. Raises :class:`DataError` for a shard whose hash is wrong, before anything of it is used, and for a
    record that cannot be read; it names shard and record.
    """
    with Workers(workers) as pool:
        items = _items(reader, dataset, work, pool)
        if workers:
            with closing(ahead(items, 2 * workers + 2)) as stream:
                yield _shards(stream)
        else:
            yield _shards(items)


def read_tokens(reader: Reader, records: Sequence[Record], where: str) -> tuple[Tensor, int | None]:
    """Tokens int64 [N, context] of the captions, and how many had to be changed (None where none may be)."""
    captions = [record.caption for record in records]
    if reader.web and not reader.annotated:
        return reader.clip.tokenize_any(captions)
    try:
        return reader.clip.tokenize(captions), None
    except DataError:
        # Rare, so the culprit is looked for only now.
        for record in records:
            try:
                reader.clip.tokenize([record.caption])
            except DataError as error:
                raise DataError(f"{where}: record {record.id}: {error}") from None
        raise


def orders(reader: Reader, records: Sequence[Record], subjects: SubjectPlan | None, where: str) -> Iterator[Order]:
    """What is to be prepared of a shard: the records' pictures in batches, then those of the subjects."""
    fit, size = reader.clip.fit, reader.batch_size
    for i in range(0, len(records), size):
        batch = records[i : i + size]
        names = tuple(f"{where}: record {record.id}: image" for record in batch)
        contents = tuple(record.image for record in batch)
        yield Order(contents, names, fit, alike=not reader.web, edges=reader.annotated)
    if subjects is None:
        return
    for i in range(0, len(subjects.names), size):
        contents, names = subjects.pictures[i : i + size], subjects.names[i : i + size]
        yield Order(contents, names, fit, alike=False, edges=False)


def _shards(items: Iterator[_Item]) -> Iterator[tuple[ReadShard, Iterator[Prepared]]]:
    """The shards among ``items``; the calls that follow each are its pictures."""
    for item in items:
        if not isinstance(item, ReadShard):
            raise RuntimeError("a shard's pictures must be read before the next shard")
        yield item, _prepared(items, item.batches)


def _prepared(items: Iterator[_Item], count: int) -> Iterator[Prepared]:
    for _ in range(count):
        call = next(items)
        assert not isinstance(call, ReadShard)
        yield call()


def _items(reader: Reader, dataset: Path, work: Sequence[tuple[str, Shard]], pool: Workers) -> Iterator[_Item]:
    for name, shard in work:
        path = verify_shard(dataset, shard)
        records = list(read_shard(path))
        where = str(path)
        check_alike(records, reader.annotated, where)
        tokens, changed = read_tokens(reader, records, where)
        subjects = plan_subjects(reader.clip, records, where) if reader.annotated else None
        todo = list(orders(reader, records, subjects, where))
        yield ReadShard(name, where, records, tokens, changed, subjects, len(todo))
        for order in todo:
            yield pool.submit(prepare, order)
