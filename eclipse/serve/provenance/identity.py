"""What a server knows of itself: its priors and where they come from, its frozen models, code and machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

import eclipse
from eclipse.config.decoder import DecoderParams
from eclipse.config.serve import ServeParams
from eclipse.errors import DataError
from eclipse.files import read_json
from eclipse.lineage import git
from eclipse.models.decoder.memory import settled
from eclipse.models.device import pick
from eclipse.releases import Served, ServedPrior
from eclipse.releases.manifest import MANIFEST
from eclipse.serve.provenance.schema import Compute, Data, Frozen, Prior, Registered, Service, Training

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Origin:
    """The sections of a manifest that tell of one prior."""

    prior: Prior
    training: Training
    data: Data


@dataclass(frozen=True)
class Identity:
    """What the manifests of one server have in common, and the ``origins`` of its priors by their hash."""

    frozen: Frozen
    service: Service
    compute: Compute
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @classmethod
    def of(cls, served: Served, params: ServeParams, memory: DecoderParams | None = None) -> Identity:
        """Of a server in this process that serves ``served`` with ``params``, the decoder held as ``memory`` says."""
        frozen = Frozen(encoder_hash=served.encoder_hash, decoder_hash=served.decoder_hash)
        return cls(frozen, service(), compute(params, memory)).knowing(served)

    def knowing(self, served: Served) -> Identity:
        """This identity with the priors of ``served`` too; those known before stay, for pictures on their way.

        A lineage that is not what training and registration write is a :class:`DataError` that names prior and field.
        """
        new = {prior.prior_hash: _origin(prior, served.release) for prior in reversed(served.priors)}
        return replace(self, origins={**self.origins, **new})

    def origin(self, prior_hash: str) -> Origin:
        """Where a prior comes from; :class:`DataError` for one that was never served here."""
        if prior_hash not in self.origins:
            raise DataError(f"the prior {prior_hash[:12]} is none of this server's; load its priors anew")
        return self.origins[prior_hash]


def compute(params: ServeParams, memory: DecoderParams | None = None) -> Compute:
    """The machine and libraries of this process, the shapes that ``params`` give its batches, ``memory``'s precision.

    Without ``memory`` that is the one found for this machine.
    """
    device = pick()
    return Compute(
        device=device.type,
        processor=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        slots=params.slots,
        exact=params.exact,
        prior_batch=params.prior_batch,
        torch=metadata.version("torch"),
        diffusers=metadata.version("diffusers"),
        precision=settled((memory or DecoderParams()).precision, device),
    )


@lru_cache(maxsize=1)
def service() -> Service:
    """Version of this program, and its git commit where its source is checked out or was bundled from a checkout."""
    package = Path(eclipse.__file__).parent
    bundle = package.parent / MANIFEST
    told: dict[str, Any] = {}
    if bundle.is_file():
        told = read_json(bundle)
    # An installed package may lie inside another project's repository: only a tracked file tells its commit.
    elif git(package, "ls-files", "__init__.py"):
        told = {"commit": git(package, "rev-parse", "HEAD"), "dirty": bool(git(package, "status", "--porcelain", "."))}
    return Service(
        name="eclipse-priors", version=eclipse.__version__, commit=told.get("commit"), dirty=told.get("dirty")
    )


def _origin(prior: ServedPrior, release: str) -> Origin:
    try:
        return _described(prior, release)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{prior.folder}: lineage: {first['loc'][-1]}: {first['msg']}; register it again") from None


def _described(prior: ServedPrior, release: str) -> Origin:
    known = prior.lineage.get
    name, version = known("registered.name"), known("registered.version")
    return Origin(
        prior=Prior(
            hash=prior.prior_hash,
            variant=prior.variant,
            role=prior.role,
            release=release,
            registered=Registered(name=name, version=version) if name and version else None,
        ),
        training=Training(
            method=known("method"),
            point=known("point"),
            lam=known("lam"),
            seed=known("seed"),
            steps=known("train_params.steps"),
        ),
        data=Data(
            dataset_digest=known("dataset_digest"),
            store_hash=known("store_hash"),
            dvc_lock=known("eclipse.dvc_lock"),
            commit=known("eclipse.git.commit"),
        ),
    )


@lru_cache(maxsize=1)
def _processor() -> str:
    """The processor's model as the kernel names it, else its architecture."""
    lines = _CPU_INFO.read_text(encoding="utf-8").splitlines() if _CPU_INFO.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
