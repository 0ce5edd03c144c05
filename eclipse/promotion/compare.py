"""Candidate and champion on the same prompts: present data, present frozen models, equal seeds, whatever their age."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eclipse import __version__
from eclipse.config.params import Params
from eclipse.config.promote import PromoteParams
from eclipse.data.records import SPLITS
from eclipse.embeddings.header import HEADER, Header, read_header, store_hash
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.files import read_json
from eclipse.models.checkpoint import load_prior, prior_hash
from eclipse.models.decoder.memory import settled
from eclipse.models.device import pick
from eclipse.promotion.gate import check_metric
from eclipse.promotion.measured import Measured, keep, measure_subjects, measure_text, read
from eclipse.releases.digests import tree_digest_of
from eclipse.report.results import heading

Variant = Literal["eclipse", "lambda-eclipse"]
REFERENCE: dict[str, str] = {"eclipse": "text", "lambda-eclipse": "mean"}
"""What a first candidate is held against: the sweep's point without a prior of its kind."""


@dataclass(frozen=True)
class Side:
    """One of the two: a registered prior in the folder ``prior``, or a reference point, which has no version.

    ``prior`` of the reference ``mean`` is the text-only baseline that it is made of. ``dataset`` is the digest of the
    data that a prior was trained on.
    """

    point: str
    prior: Path | None
    prior_hash: str | None = None
    version: str | None = None
    encoder_hash: str | None = None
    dataset: str | None = None

    @classmethod
    def of(cls, prior: Path, version: str) -> Side:
        """The prior in a downloaded folder; its training.json says how it was made."""
        made = read_json(prior / "training.json")
        point, encoder, dataset = (made.get(key) for key in ("point", "encoder_hash", "dataset_digest"))
        return cls(str(point), prior, prior_hash(prior), version, encoder, dataset)

    @classmethod
    def reference(cls, variant: Variant, baseline: Path) -> Side:
        """What stands in for a champion where there is none yet; ``baseline`` is λ-ECLIPSE's text-only prior."""
        if variant == "eclipse":
            return cls(REFERENCE[variant], None)
        made = read_json(baseline / "training.json")
        return cls(REFERENCE[variant], baseline, encoder_hash=made.get("encoder_hash"))


@dataclass(frozen=True)
class Ground:
    """What both are measured on: a store, its dataset and the frozen models, as they are now."""

    variant: Variant
    store: Path
    dataset: Path
    frozen: Path

    @classmethod
    def of(
        cls, variant: Variant, *, store: Path | None = None, dataset: Path | None = None, frozen: Path | None = None
    ) -> Ground:
        """What the graph made for ``variant`` in this directory, where nothing else is given."""
        made = Path("artifacts/subjects") if variant == "lambda-eclipse" else Path("artifacts")
        return cls(variant, store or made / "store", dataset or made / "dataset", frozen or Path("artifacts/frozen"))

    def facts(self) -> dict[str, str]:
        """Digests of the store, the data that it was made of, its CLIP, and all frozen models.

        What is not checked out here is left out.
        """
        facts = {}
        if (self.store / HEADER).is_file():
            header = read_header(self.store)
            facts = {
                "store_hash": store_hash(self.store),
                "dataset_digest": header.dataset_digest,
                "encoder_hash": header.weights_hash,
            }
        if self.frozen.is_dir():
            facts["frozen_digest"] = tree_digest_of(self.frozen)
        return facts


def params_digest(params: Params) -> str:
    """SHA-256 of every parameter that the comparison and the gate depend on; how much is shown does not count."""
    rule = params.promote.model_dump(mode="json", exclude={"sheet_prompts"})
    # Whoever signs may have another machine, so what is left to the machine does not count.
    return _digest({"promote": rule, "evaluate": _measuring(params, params.decoder.precision)})


def rule_of(rule: PromoteParams, variant: Variant) -> tuple[PromoteParams, str]:
    """The rule as it applies to ``variant``, and the metric that decides.

    Scores of λ-ECLIPSE are told apart by what they are of: ``colour`` is that of its subjects (``subject_colour``), and
    ``rest`` is all else that the caption asks. Raises :class:`ConfigError` for a metric of which less is better.
    """
    metric = rule.metric
    if variant == "lambda-eclipse":
        metric = rule.subjects_metric
        rule = rule.model_copy(update={"categories": (*(f"subject_{name}" for name in rule.categories), "rest")})
    for name in (metric, *rule.categories):
        if heading(name).lower:
            raise ConfigError(f"promote: {name}: less is better there; choose metrics of which more is")
    return rule, metric


def check_encoder(side: Side, who: str, header: Header) -> None:
    """Refuse a prior that was trained between another CLIP and decoder: its embeddings mean nothing here."""
    if side.encoder_hash is not None and side.encoder_hash != header.weights_hash:
        raise CheckpointError(
            f"{who}: was trained on another CLIP ({side.encoder_hash[:12]} instead of {header.weights_hash[:12]}); the "
            "two cannot be compared, register priors of the new CLIP under a name of their own (serve.decoder)"
        )


def measure(side: Side, ground: Ground, params: Params, cache: Path) -> Measured:
    """Draw and judge the first ``promote.images`` prompts of each split of ``promote.splits`` that holds any.

    What is measured is kept below ``cache``, by prior, store, frozen models and parameters, and read from there the
    next time. Raises :class:`ConfigError` when the deciding metric cannot be measured here.
    """
    key = {
        **ground.facts(),
        "point": side.point,
        "prior_hash": None if side.prior is None else prior_hash(side.prior),
        "evaluate": _measuring(params, settled(params.decoder.precision, pick())),
        "splits": params.promote.splits,
        "images": params.promote.images,
        "version": __version__,
    }
    folder = cache / _digest(key)[:16]
    if not folder.is_dir():
        measured = _measure(side, ground, params)
        check_metric(measured.table, rule_of(params.promote, ground.variant)[1])
        keep(folder, measured, key)
    return read(folder)


def _measuring(params: Params, precision: str) -> dict[str, Any]:
    """What pictures and scores depend on; of the decoder's settings what is not float32, whole and uncompiled.

    Where weights lie changes no pixel, and tiles only where they are asked for: one covers a picture of its own size.
    """
    kept = {"seed", "diffusion_steps", "diffusion_guidance", "decode"}
    found = params.evaluate.model_dump(mode="json", include=kept)
    asked = {"precision": precision, "tiled": bool(params.decoder.tiled), "compile": params.decoder.compile}
    otherwise = {name: value for name, value in asked.items() if value not in ("auto", "fp32", False)}
    return {**found, "decoder": otherwise} if otherwise else found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _measure(side: Side, ground: Ground, params: Params) -> Measured:
    rule = params.promote
    filled = {name for name, split in read_header(ground.store).splits.items() if split.count}
    names = [name for name in SPLITS if name in filled and name in rule.splits]
    if not names:
        raise DataError(
            f"{ground.store}: has no records in {', '.join(rule.splits)}; set promote.splits to what it has"
        )
    kind: Variant = "eclipse" if side.point == "mean" else ground.variant
    prior = None if side.prior is None else load_prior(side.prior, device=pick(), kind=kind)
    evaluate = params.evaluate.model_copy(update={"images": rule.images, "subject_images": rule.images})
    by_variant = measure_subjects if ground.variant == "lambda-eclipse" else measure_text
    return by_variant(
        side.point,
        prior,
        names,
        store=ground.store,
        dataset=ground.dataset,
        frozen=ground.frozen,
        params=evaluate,
        memory=params.decoder,
    )
