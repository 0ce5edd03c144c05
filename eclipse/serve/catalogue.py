"""The priors that are served, by the ids that requests give them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from eclipse.releases import Served, ServedPrior
from eclipse.serve.answers import ModelCard
from eclipse.serve.errors import ApiError

_OWNER = "eclipse"


@dataclass(frozen=True)
class Catalogue:
    """What one release serves, since ``loaded`` (Unix time)."""

    served: Served
    loaded: int = field(default_factory=lambda: int(time.time()))

    def choose(self, asked: str | None, *, subjects: bool) -> ServedPrior:
        """The prior ``asked`` for, else the champion of the variant that a request with or without subjects needs.

        :class:`ApiError` 404 for one that is not served, 400 for one that takes no subjects where there are some.
        """
        variant = "lambda-eclipse" if subjects else "eclipse"
        if asked is None:
            prior = self._champion(variant) or (None if subjects else self._champion("lambda-eclipse"))
            if prior is None:
                raise ApiError(
                    404,
                    "no prior that takes subjects or edges is served; promote a λ-ECLIPSE prior",
                    param="model",
                    code="model_not_found",
                )
            return prior
        prior = self.get(asked)
        if subjects and prior.variant != variant:
            raise ApiError(
                400, f"{asked} takes no subjects and no edges; leave model out, or give a λ-ECLIPSE one", param="model"
            )
        return prior

    def get(self, asked: str) -> ServedPrior:
        """The prior of this id; :class:`ApiError` 404 naming those that there are."""
        prior = self.find(asked)
        if prior is not None:
            return prior
        known = ", ".join(prior.model for prior in self.served.priors)
        raise ApiError(
            404, f"the model {asked[:100]!r} is not served; there are {known}", param="model", code="model_not_found"
        )

    def find(self, model: str) -> ServedPrior | None:
        """The prior of this id, if it is served."""
        return next((prior for prior in self.served.priors if prior.model == model), None)

    def card(self, prior: ServedPrior) -> ModelCard:
        """What ``GET /v1/models`` says of a prior."""
        return ModelCard(
            id=prior.model,
            created=self.loaded,
            owned_by=_OWNER,
            variant=prior.variant,
            role=prior.role,
            version=prior.version,
            prior_hash=prior.prior_hash,
            release=self.served.release,
            lineage=prior.lineage,
        )

    def _champion(self, variant: str) -> ServedPrior | None:
        found = (prior for prior in self.served.priors if prior.variant == variant and prior.role == "champion")
        return next(found, None)
