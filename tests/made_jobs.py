"""Jobs for the engine, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse.serve.engine import Engine
from eclipse.serve.types import Drawing, Drawn, Event, Job, Prompt, Source, Wanted


def drawing(**changes) -> Drawing:
    return Drawing(**({"steps": 3, "scheduler": "dpm++", "guidance": 3.0, "height": 64, "width": 64} | changes))


def job(*seeds: int, text: str = "a red star", source: Source | None = None, model: str = "text", **changes) -> Job:
    """A picture for each of ``seeds``; ``changes`` are those of the job or of its drawing."""
    own = {key: changes.pop(key) for key in ("partial_images", "seconds") if key in changes}
    wanted = tuple(Wanted(source or Prompt(text), seed) for seed in seeds)
    return Job(model, wanted, drawing(**changes), **own)


async def events(engine: Engine, asked: Job) -> list[Event]:
    return [event async for event in engine.submit(asked)]


async def pictures(engine: Engine, asked: Job) -> list[Drawn]:
    return drawn(await events(engine, asked))


def drawn(found: Sequence[Event]) -> list[Drawn]:
    return sorted((event for event in found if isinstance(event, Drawn)), key=lambda event: event.index)
