"""Parameters of the decision between a candidate prior and the champion: what is compared, and the gate's rule."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eclipse.config.section import Section


class PromoteParams(Section):
    """The written rule below which a promotion needs ``--override --reason``."""

    splits: tuple[str, ...] = Field(("test_seen", "test_held_out"), min_length=1)
    """Evaluation splits whose prompts candidate and champion are compared on, with the same seeds."""
    images: int = Field(200, ge=1)
    """Prompts of each split that both draw."""
    metric: str = "composition"
    """What decides for text-to-image priors; where nothing judges pictures give ``r1_all`` or ``cosine``."""
    subjects_metric: str = "both"
    """What decides for λ-ECLIPSE priors."""
    require: Literal["non-inferior", "superior"] = "non-inferior"
    """``non-inferior``: the lower bound of candidate − champion lies above −margin; ``superior``: above zero."""
    margin: float = Field(0.05, ge=0)
    """How much worse the deciding metric may be at most."""
    categories: tuple[str, ...] = ("colour", "shape", "texture", "spatial", "count", "background")
    """Metrics looked at beside the deciding one; those that the evaluation does not have are left out."""
    category_margin: float = Field(0.1, ge=0)
    """The same for each category."""
    inconclusive: Literal["allow", "refuse"] = "allow"
    """What becomes of a candidate with a category that is shown neither to be worse nor not to be; one that is shown to
    be worse by more than its margin is always refused."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """One-sided confidence of each verdict; over the categories it holds together (Holm's correction)."""
    bootstrap: int = Field(10_000, ge=1000)
    """Resamples over prompts, the same for candidate and champion."""
    seed: int = Field(0, ge=0)
    """Seed of the resampling and of the sheet's choice and order of prompts."""
    sheet_prompts: int = Field(24, ge=1)
    """Prompts shown side by side on the review sheet."""
