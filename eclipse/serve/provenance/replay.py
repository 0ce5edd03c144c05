"""A picture made again from its manifest, and what differs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eclipse.config.decoder import DecoderParams
from eclipse.config.serve import ServeParams
from eclipse.errors import CheckpointError, DataError
from eclipse.models.checkpoint import load_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder, load_decoder
from eclipse.models.device import pick
from eclipse.personalize.edges import control_picture
from eclipse.personalize.generate import PlacedSubject
from eclipse.personalize.picture import load_picture, subject_picture
from eclipse.releases.decoder import REFERENCE, locate, read_reference
from eclipse.serve.engine import LoadedPrior, draw
from eclipse.serve.provenance.canonical import pixels_hash
from eclipse.serve.provenance.checkout import Checkout
from eclipse.serve.provenance.identity import compute, service
from eclipse.serve.provenance.roles import registered_version
from eclipse.serve.provenance.schema import Compute, Manifest, Service, Shown
from eclipse.serve.types import Blend, Drawing, PriorName, Prompt, Wanted


@dataclass(frozen=True)
class Comparison:
    """A picture against the one made again, ``image`` uint8 [H, W, 3].

    ``pixels`` of ``total`` differ, no channel by more than ``largest`` grey levels. ``changes`` name what is not as it
    was when the picture was made and may change its bits.
    """

    image: NDArray[np.uint8]
    pixels: int
    total: int
    largest: int
    changes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether all bits are equal."""
        return self.pixels == 0

    @property
    def told(self) -> str:
        """The comparison in words; what has changed since is told where bits differ."""
        if self.identical:
            return "bit-identical: every pixel is the same"
        changes = self.changes or ("nothing that the manifest tells of has changed since",)
        first = (
            f"not identical: {self.pixels} of {self.total} pixels differ, by at most {self.largest} of 255 grey levels"
        )
        return "\n  ".join((first, *changes))


def replay(
    picture: NDArray[np.uint8],
    said: Manifest,
    checkout: Checkout,
    *,
    subjects: Sequence[Path] = (),
    control: Path | None = None,
    memory: DecoderParams | None = None,
) -> Comparison:
    """Make ``picture`` uint8 [H, W, 3] again as its manifest ``said``, with the models that ``checkout`` or MLflow has.

    ``memory`` says how the decoder is held, None by detection; its precision is the manifest's, whatever that says.

    ``subjects`` and ``control`` are the person's own files; which is which is told by their hashes. A file that is
    missing or none of the picture's is a :class:`DataError`, a model that is nowhere a :class:`CheckpointError`.
    """
    then = said.compute
    params = ServeParams(slots=then.slots, exact=then.exact, prior_batch=then.prior_batch)
    clip = _clip(said.frozen.encoder_hash, checkout)
    wanted = Wanted(_source(said, _pictures(said, clip.image_size, subjects, control)), said.request.seed)
    held = (memory or DecoderParams()).model_copy(update={"precision": then.precision})
    decoder = _decoder(said.frozen.decoder_hash, checkout, clip, held)
    asked = said.request
    drawing = Drawing(asked.steps, asked.scheduler, asked.guidance, asked.height, asked.width, asked.negative_prompt)
    with _prior_folder(said, checkout) as folder, _threads(then.threads):
        name = PriorName(asked.model, said.prior.variant, said.prior.hash)
        drawn = draw(clip, decoder, LoadedPrior(name, load_prior(folder, device=clip.device)), params, wanted, drawing)
        changes = tuple(_changes(said, compute(params, held)))
    return compare(picture, drawn.image, changes)


def compare(first: NDArray[np.uint8], second: NDArray[np.uint8], changes: tuple[str, ...] = ()) -> Comparison:
    """``second`` against ``first``, both uint8 [H, W, 3]."""
    if first.shape != second.shape:
        raise DataError(f"made again it is {second.shape[1]} × {second.shape[0]}; the manifest tells another size")
    difference = np.abs(first.astype(np.int16) - second)
    return Comparison(second, int(difference.any(axis=2).sum()), first[..., 0].size, int(difference.max()), changes)


def _clip(encoder_hash: str, checkout: Checkout) -> FrozenClip:
    for folder in checkout.frozen():
        if (folder / "clip").is_dir():
            clip = FrozenClip.load(folder / "clip", device=pick())
            if clip.weights_hash == encoder_hash:
                return clip
    raise CheckpointError(
        f"no CLIP {encoder_hash[:12]} among the releases, artifacts/frozen and models; run `dvc pull` for the commit "
        "that the manifest names"
    )


def _decoder(digest: str, checkout: Checkout, clip: FrozenClip, memory: DecoderParams) -> Decoder:
    found = checkout.decoder(digest)
    if found is None:
        raise CheckpointError(
            f"no decoder {digest[:12]} among the releases, artifacts/frozen and models; run `dvc pull` for the commit "
            "that the manifest names"
        )
    folder = locate(read_reference(found)) if found.name == REFERENCE else found
    return load_decoder(folder, memory, device=clip.device)


@contextmanager
def _prior_folder(said: Manifest, checkout: Checkout) -> Iterator[Path]:
    found = checkout.prior(said.prior.hash)
    if found is not None:
        yield found
        return
    registered = registered_version(said.prior, checkout.root)
    if registered is None:
        raise CheckpointError(
            f"no prior {said.prior.hash[:12]} among the releases, in artifacts or in MLflow; set MLFLOW_TRACKING_URI, "
            "or run `dvc pull` for the commit that the manifest names"
        )
    registry, version = registered
    with tempfile.TemporaryDirectory() as folder:
        yield registry.download(version, Path(folder) / "prior")


def _pictures(
    said: Manifest, size: int, subjects: Sequence[Path], control: Path | None
) -> dict[str, NDArray[np.uint8]]:
    """The subjects' and edges' pictures by their hashes: all that the manifest tells of, and no others."""
    shown = said.request.shown
    wanted = {subject.sha256: f"subject “{subject.noun}”" for one in shown for subject in one.subjects}
    edges = {one.control: "edges" for one in shown if one.control is not None}
    found = {}
    for file in subjects:
        picture = subject_picture(load_picture(file), size)
        found[_known(picture, wanted, f"--subject {file}")] = picture
    if control is not None:
        lines, _ = control_picture(load_picture(control), size)
        found[_known(lines, edges, f"--canny {control}")] = lines
    missing = [what for hash_, what in (wanted | edges).items() if hash_ not in found]
    if missing:
        raise DataError(
            f"the manifest holds no pictures, only their hashes: give {', '.join(missing)} by --subject or --canny"
        )
    return found


def _known(picture: NDArray[np.uint8], wanted: dict[str, str], given: str) -> str:
    hash_ = pixels_hash(picture)
    if hash_ not in wanted:
        raise DataError(
            f"{given}: has the hash {hash_[:12]}, the manifest tells of "
            f"{', '.join(f'{what} {other[:12]}' for other, what in wanted.items()) or 'none'}; give the very file that "
            "was sent"
        )
    return hash_


def _source(said: Manifest, pictures: dict[str, NDArray[np.uint8]]) -> Prompt | Blend:
    prompts = [_prompt(shown, pictures) for shown in said.request.shown]
    blend = said.request.blend
    return prompts[0] if blend is None else Blend(prompts[0], prompts[1], blend.at, blend.mode)


def _prompt(shown: Shown, pictures: dict[str, NDArray[np.uint8]]) -> Prompt:
    subjects = tuple(PlacedSubject(subject.span, pictures[subject.sha256]) for subject in shown.subjects)
    return Prompt(shown.prompt, subjects, None if shown.control is None else pictures[shown.control])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _changes(said: Manifest, now: Compute) -> Iterator[str]:
    for name, value in said.compute.model_dump().items():
        if value != getattr(now, name):
            yield f"{name}: {value} then, {getattr(now, name)} now"
    if not said.compute.exact:
        yield "exact: false then, so the bits depended on what else was drawn"
    ours = service()
    if ours != said.service:
        yield f"program: {_program(said.service)} then, {_program(ours)} now"


def _program(service: Service) -> str:
    at = f" at commit {service.commit[:12]}" if service.commit else ""
    return f"{service.name} {service.version}{at}{' with changed files' if service.dirty else ''}"
