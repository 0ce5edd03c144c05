"""The four annotation models together, from parameters."""

from __future__ import annotations

from dataclasses import dataclass

from eclipse.annotate.interfaces import Captioner, Detector, NounFinder, Segmenter
from eclipse.config.subjects import AnnotatorParams


@dataclass(frozen=True)
class Models:
    """One of each kind; without a ``captioner`` the records' own captions stay."""

    captioner: Captioner | None
    nouns: NounFinder
    detector: Detector
    segmenter: Segmenter

    @classmethod
    def load(cls, params: AnnotatorParams) -> Models:
        """The paper's kinds of models; raises :class:`~eclipse.errors.ConfigError` naming the one that is not there.

        spaCy is first: what is most often missing is told before gigabytes are read.
        """
        from eclipse.annotate.captioner import Blip2Captioner
        from eclipse.annotate.detector import GroundingDino
        from eclipse.annotate.nouns import SpacyNouns
        from eclipse.annotate.segmenter import SamSegmenter

        nouns = SpacyNouns(params.nouns)
        captioner = Blip2Captioner(params.captioner) if params.captioner else None
        return cls(captioner, nouns, GroundingDino(params.detector), SamSegmenter(params.segmenter))
