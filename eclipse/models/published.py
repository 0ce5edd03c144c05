"""The three priors that their authors published, and what belongs to each: data, nothing is fetched here.

Revisions are full commits where a public source names one; None is asked for on import. Which CLIP and decoder belong
to a prior is told by the authors' inference code (eclipse-t2i/eclipse-inference, lambda-eclipse-inference).
"""

from __future__ import annotations

from dataclasses import dataclass

from eclipse.models.checkpoint import Kind


@dataclass(frozen=True)
class Pinned:
    """A repository on Hugging Face; ``revision`` is its full commit, None where none is known."""

    repo: str
    revision: str | None


@dataclass(frozen=True)
class Published:
    """A published prior. ``width`` is that of its embeddings and text states; ``decoder_name`` goes into model ids."""

    repo: str
    revision: str | None
    kind: Kind
    width: int
    parameters: int
    encoder: Pinned
    decoder: Pinned
    decoder_name: str


_VIT_L = Pinned("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41")
_BIG_G = Pinned("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "743c27bd53dfe508a0ade0f50698f99b39d03bec")
_KARLO = Pinned("kakaobrain/karlo-v1-alpha", None)
_KANDINSKY = Pinned("kandinsky-community/kandinsky-2-2-decoder", "9ae140d347fed8ce6e8bb3005dcc1f48543bb8e3")

PRIORS: tuple[Published, ...] = (
    Published("ECLIPSE-Community/ECLIPSE_Karlo_Prior", None, "eclipse", 768, 33_143_040, _VIT_L, _KARLO, "karlo"),
    Published(
        "ECLIPSE-Community/ECLIPSE_KandinskyV22_Prior", None, "eclipse", 1280, 34_193_152, _BIG_G, _KANDINSKY,
        "kandinsky",
    ),
    Published(
        "ECLIPSE-Community/Lambda-ECLIPSE-Prior-v1.0", None, "lambda-eclipse", 1280, 34_849_536, _BIG_G, _KANDINSKY,
        "kandinsky",
    ),
)  # fmt: skip


def known_prior(repo: str) -> Published | None:
    """The entry of this repository."""
    return next((prior for prior in PRIORS if prior.repo == repo), None)


def of_width(width: int) -> Published | None:
    """A published prior whose CLIP and decoder fit embeddings this wide."""
    return next((prior for prior in PRIORS if prior.width == width), None)


def encoder_width(repo: str) -> int | None:
    """Width of the embeddings of this CLIP, where a published prior stands on it."""
    return next((prior.width for prior in PRIORS if prior.encoder.repo == repo), None)
