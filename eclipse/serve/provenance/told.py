"""A picture's chain in words, a line a link, from the file down to the commit."""

from __future__ import annotations

import json
from collections.abc import Iterator

from eclipse.serve.provenance.chain import Chain
from eclipse.serve.provenance.checkout import Standing
from eclipse.serve.provenance.schema import Compute, Manifest, Request, Shown

_WIDTH = 12
_SHORT = 12  # hexadecimal digits of a hash that tell it from all others here


def tell(chain: Chain, name: str) -> str:
    """The chain as text to print. What comes out of the file is shown without control characters."""
    lines = (f"{label:<{_WIDTH}}{text}" for label, text in _lines(chain, name))
    return "\n".join(_printable(line) for line in lines)


def tell_json(chain: Chain) -> str:
    """The chain as JSON, in ASCII: no terminal can be moved by it."""
    return json.dumps(chain.to_json(), indent=2, sort_keys=True)


def tell_compute(compute: Compute) -> str:
    """The machine in words."""
    exact = "exact" if compute.exact else "as many as in use"
    half = "" if compute.precision == "fp32" else f", decoder in {compute.precision}"
    return (
        f"{compute.device} ({compute.processor}, {compute.instructions}, {_count(compute.threads, 'thread')}), "
        f"torch {compute.torch}, diffusers {compute.diffusers}, {_count(compute.slots, 'slot')} ({exact}){half}"
    )


def _lines(chain: Chain, name: str) -> Iterator[tuple[str, str]]:
    said = chain.picture.said
    yield "picture", f"{name}: {said.image.width} × {said.image.height}, its pixels are those of its manifest"
    yield "signature", chain.signature.state + (f" ({chain.signature.key})" if chain.signature.key else "")
    if chain.credentials is not None:
        found = chain.credentials
        source = (found.source_type or "no source type").rpartition("/")[2]
        yield "credentials", f"C2PA {found.state}, signed by {found.signer or 'nobody'}: {source}"
    commit = f", commit {said.service.commit[:_SHORT]}" if said.service.commit else ""
    changed = " (with changed files)" if said.service.dirty else ""
    yield "made", f"{said.created} by {said.service.name} {said.service.version}{commit}{changed}"
    yield "machine", tell_compute(said.compute)
    yield from _request(said.request)
    yield from _models(chain, said)
    yield from _data(chain, said)


def _request(request: Request) -> Iterator[tuple[str, str]]:
    label = "request"
    if request.blend is not None:
        blend = request.blend
        yield label, f"{blend.at:g} of the way ({blend.mode}) from the first prompt to the second:"
        label = ""
    for shown in request.shown:
        yield from _shown(shown, label)
    if request.negative_prompt:
        yield "", f"away from “{request.negative_prompt}”"
    yield (
        "",
        f"seed {request.seed}, {request.steps} steps of {request.scheduler}, guidance {request.guidance:g}, "
        f"{request.width} × {request.height}, asked of {request.model}",
    )


def _shown(shown: Shown, label: str) -> Iterator[tuple[str, str]]:
    yield label, f"“{shown.prompt}”"
    for subject in shown.subjects:
        first, last = subject.span
        yield "", f"subject “{subject.noun}” (characters {first} to {last}), picture {subject.sha256[:_SHORT]}"
    if shown.control:
        yield "", f"edges {shown.control[:_SHORT]}"


def _models(chain: Chain, said: Manifest) -> Iterator[tuple[str, str]]:
    yield "decoder", said.frozen.decoder_hash[:_SHORT] + _where(chain, "decoder")
    yield "encoder", said.frozen.encoder_hash[:_SHORT]
    prior, training = said.prior, said.training
    yield "prior", f"{prior.hash[:_SHORT]}, {prior.variant}" + _where(chain, "prior")
    named = f"{prior.registered.name} version {prior.registered.version}, " if prior.registered else "not registered, "
    yield "", f"{named}{prior.role} of {prior.release}"
    for who, roles in chain.roles.items():
        yield "", f"now {' and '.join(roles) or 'in no role'} ({who})"
    facts = {"λ": training.lam, "steps": training.steps, "seed": training.seed, "method": training.method}
    known = ", ".join(f"{key} {value}" for key, value in facts.items() if value is not None)
    yield "training", f"{training.point or 'unknown point'}: {known or 'nothing else is known'}"


def _data(chain: Chain, said: Manifest) -> Iterator[tuple[str, str]]:
    data = said.data
    links = (("store", data.store_hash), ("dataset", data.dataset_digest), ("dvc_lock", data.dvc_lock))
    for link, hash_ in (*links, ("commit", data.commit)):
        label = link.replace("_", ".")
        yield label, f"{hash_[:_SHORT]}{_where(chain, link)}" if hash_ else "not known of this prior"


def _where(chain: Chain, link: str) -> str:
    found = chain.standing.get(link, Standing("absent"))
    return {"here": f": here, {found.where}", "other": f": {found.where} is another one", "absent": ": not here"}[
        found.has
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _printable(line: str) -> str:
    """A prompt could hold what moves a terminal's cursor or turns its text around."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in line)
