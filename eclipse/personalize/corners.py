"""The corners of an interpolation: a short YAML file, checked before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from eclipse.errors import ConfigError, DataError
from eclipse.files import sha256
from eclipse.personalize.edges import control_picture
from eclipse.personalize.picture import Picture, load_picture, load_subject
from eclipse.personalize.prompt import Span, SubjectArgument, clean, parse_subject, resolve

if TYPE_CHECKING:
    from eclipse.personalize.generate import Request


@dataclass(frozen=True)
class Corner:
    """One corner with its files read and checked; ``spans`` (characters of ``prompt``) and ``pictures`` are subjects'.

    ``canny`` is the file of ``control``, the picture whose edges are to hold.
    """

    prompt: str
    subjects: tuple[SubjectArgument, ...] = ()
    spans: tuple[Span, ...] = ()
    pictures: tuple[Picture, ...] = ()
    canny: Path | None = None
    control: Picture | None = None

    @property
    def caption(self) -> str:
        """What stands beside the corner's picture: the prompt, and which files it uses."""
        used = [f"{subject.name} = {subject.file.name}" for subject in self.subjects]
        used += [f"edges = {self.canny.name}"] if self.canny else []
        return f"{self.prompt} ({', '.join(used)})" if used else self.prompt

    def request(self, size: int, seed: int) -> Request:
        """What ``generate`` would draw for it, with pictures of the CLIP's ``size``."""
        from eclipse.personalize.generate import Request, place_subjects

        placed = place_subjects([subject.file for subject in self.subjects], self.spans, self.pictures, size)
        edges = None if self.control is None else control_picture(self.control, size)[0]
        return Request(self.prompt, (seed,), placed, edges)

    def record(self) -> dict[str, Any]:
        """The corner for grid.json, each file with its SHA-256."""
        return {
            "prompt": self.prompt,
            "subjects": {subject.name: _named(subject.file) for subject in self.subjects},
            "canny": None if self.canny is None else _named(self.canny),
        }


class _Entry(BaseModel):
    """A corner as it is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str
    subjects: dict[str, str] = {}
    canny: str | None = None


class _OnceLoader(yaml.SafeLoader):
    """YAML in which a key written twice is an error instead of the last one winning: a subject would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is written twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_corners(path: Path, *, limit: int, segment: bool = False) -> tuple[Corner, ...]:
    """2 or 4 corners in reading order, with up to ``limit`` subjects each; files are relative to ``path``'s folder.

    A file that is no such list is a :class:`ConfigError` that names the file, the corner (from 1) and the field; nouns
    and pictures that cannot be used (as of ``generate``) are a :class:`DataError` that names file and corner.
    """
    entries = _entries(path)
    if len(entries) not in (2, 4):
        raise ConfigError(f"{path}: {len(entries)} corners; give 2 (a row of pictures) or 4 (a square)")
    return tuple(
        _corner(path, number, _entry(f"{path}: corner {number}", raw), limit, segment)
        for number, raw in enumerate(entries, start=1)
    )


def _entries(path: Path) -> list[Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{path}: no such file; give --grid a YAML list of 2 or 4 corners") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, list):
        raise ConfigError(f"{path}: must hold a list of 2 or 4 corners, each with prompt and subjects")
    return raw


def _entry(where: str, raw: Any) -> _Entry:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: {raw!r} is no mapping; write prompt: …, and subjects: where there are any")
    try:
        entry = _Entry.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(item) for item in error.errors())) from None
    if not entry.prompt.strip():
        raise ConfigError(f"{where}: prompt is empty; write what the picture shall show")
    return entry


def _corner(path: Path, number: int, entry: _Entry, limit: int, segment: bool) -> Corner:
    where = f"{path}: corner {number}"
    prompt = clean(entry.prompt)
    files = {noun: _file(path, f"{where}: subjects.{noun}", name) for noun, name in entry.subjects.items()}
    canny = None if entry.canny is None else _file(path, f"{where}: canny", entry.canny)
    try:
        subjects = tuple(replace(parse_subject(f"{noun}=_"), file=file) for noun, file in files.items())
        spans = tuple(resolve(prompt, subjects, limit=limit))
        pictures = tuple(load_subject(subject.file, segment=segment) for subject in subjects)
        return Corner(prompt, subjects, spans, pictures, canny, None if canny is None else load_picture(canny))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _explain(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "extra_forbidden":
        return f"{field}: unknown field; known: {', '.join(_Entry.model_fields)}"
    if item["type"] == "missing":
        return f"{field} is missing; write what the picture shall show"
    return f"{field}: {item['msg']} (got {item['input']!r})"


def _file(path: Path, where: str, name: str) -> Path:
    picture = path.parent / name
    if not picture.is_file():
        raise ConfigError(f"{where}: {name!r} is no file in {path.parent}; paths are relative to {path.name}")
    return picture


def _named(path: Path) -> dict[str, str]:
    return {"file": str(path), "sha256": sha256(path)}
