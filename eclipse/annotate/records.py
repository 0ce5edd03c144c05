"""Records to annotated records: the models and the rules, one batch after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from eclipse.annotate import filters
from eclipse.annotate.funnel import Funnel
from eclipse.annotate.interfaces import Box, Corners, Noun, Picture, Proposals
from eclipse.annotate.match import Masked, match
from eclipse.annotate.models import Models
from eclipse.config.subjects import FilterParams
from eclipse.data.crops import crop_on_white
from eclipse.data.images import decode_png, encode_png
from eclipse.data.masks import encode_mask
from eclipse.data.records import Record
from eclipse.data.subjects import Subject, with_subjects

_SIDE = 512  # most pixels of a subject picture's side; CLIPs read 224 to 378


@dataclass
class _Draft:
    """A record on its way; ``caption`` is the one it will have."""

    record: Record
    image: Picture
    caption: str
    nouns: list[Noun] = field(default_factory=list)

    @property
    def phrases(self) -> list[str]:
        return list(dict.fromkeys(noun.phrase for noun in self.nouns))


def annotate_records(
    records: Sequence[Record],
    models: Models,
    params: FilterParams,
    funnel: Funnel,
    *,
    batch_size: int,
    where: str,
    advance: Callable[[int], object] = lambda count: None,
) -> list[Record]:
    """The records that pass every rule, with captions and subjects; ``funnel`` counts the others.

    ``advance`` is told how many records were finished. A damaged picture is a :class:`~eclipse.errors.DataError` that
    names the record behind ``where``.
    """
    kept = []
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        kept += _annotate_batch(batch, models, params, funnel, where)
        advance(len(batch))
    return kept


def _annotate_batch(
    records: Sequence[Record], models: Models, params: FilterParams, funnel: Funnel, where: str
) -> list[Record]:
    images = [decode_png(one.image, f"{where}: {one.id}.png").copy() for one in records]  # torch wants them writable
    drafts = [_Draft(one, image, one.caption) for one, image in zip(records, images, strict=True)]
    funnel.images.entered += len(drafts)
    drafts = [draft for draft in drafts if funnel.image("white", filters.white(draft.image, params))]
    drafts = _described(drafts, models, funnel)
    if not drafts:
        return []
    proposals = models.detector.detect([draft.image for draft in drafts], [draft.phrases for draft in drafts])
    kept = []
    for draft, proposed in zip(drafts, proposals, strict=True):
        chosen = _chosen(draft, proposed, models, params, funnel)
        if chosen is not None:
            kept.append(_annotated(draft, chosen))
    return kept


def _described(drafts: list[_Draft], models: Models, funnel: Funnel) -> list[_Draft]:
    """The drafts with caption and nouns, without those that have none."""
    if drafts and models.captioner is not None:
        captions = models.captioner.captions([draft.image for draft in drafts])
        for draft, caption in zip(drafts, captions, strict=True):
            draft.caption = caption
    drafts = [draft for draft in drafts if funnel.image("caption", bool(draft.caption.strip()))]
    if drafts:
        for draft, nouns in zip(drafts, models.nouns.nouns([draft.caption for draft in drafts]), strict=True):
            draft.nouns = nouns
    return [draft for draft in drafts if funnel.image("nouns", bool(draft.nouns))]


def _chosen(
    draft: _Draft, proposed: Proposals, models: Models, params: FilterParams, funnel: Funnel
) -> list[tuple[Noun, Masked]] | None:
    """The nouns that become subjects; None where the picture is dropped."""
    height, width = draft.image.shape[:2]
    found = boxes_of(proposed, draft.phrases, (height, width), params, funnel)
    if not funnel.image("boxes", filters.boxes(found, params), boxes=len(found)):
        return None
    if not funnel.image("identical", filters.identical(found, params), boxes=len(found)):
        return None
    found = funnel.sift("logit", found, lambda box: filters.logit(box, params))
    found = funnel.sift("ratio", found, lambda box: filters.ratio(box.corners, (height, width), params))
    masks = list(models.segmenter.masks(draft.image, [box.corners for box in found])) if found else []
    masked = [Masked(box, mask) for box, mask in zip(found, masks, strict=True)]
    masked = funnel.sift("mask_share", masked, lambda one: filters.mask_share(one.mask, one.box.corners, params))
    pairs = match(draft.nouns, masked)
    funnel.boxes.dropped["unmatched"] += len(masked) - len(pairs)
    if not funnel.image("subjects", filters.subjects(len(pairs), params), boxes=len(pairs)):
        return None
    funnel.keep(len(pairs))
    return pairs


def boxes_of(
    proposed: Proposals, phrases: Sequence[str], size: tuple[int, int], params: FilterParams, funnel: Funnel
) -> list[Box]:
    """The proposals that pass both thresholds, each with the phrase that suits it best.

    ``size`` is the picture's (height, width); corners are rounded outwards to whole pixels and cut at its edge.
    """
    funnel.boxes.entered += len(proposed.scores)
    scored = filters.box_threshold(proposed.scores, params)
    worded = filters.text_threshold(proposed.words, params)
    places = funnel.sift("box_threshold", range(len(scored)), lambda i: bool(scored[i]))
    places = funnel.sift("text_threshold", places, lambda i: bool(worded[i]))
    best = proposed.words.argmax(1)
    return [
        Box(phrases[int(best[i])], float(proposed.scores[i]), _corners(proposed.boxes[i].tolist(), size))
        for i in places
    ]


def _corners(box: Sequence[float], size: tuple[int, int]) -> Corners:
    height, width = size
    x0, y0 = (int(np.clip(np.floor(value), 0, side)) for value, side in zip(box[:2], (width, height), strict=True))
    x1, y1 = (int(np.clip(np.ceil(value), 0, side)) for value, side in zip(box[2:], (width, height), strict=True))
    return x0, y0, x1, y1


def _annotated(draft: _Draft, chosen: Sequence[tuple[Noun, Masked]]) -> Record:
    side = min(max(draft.image.shape[:2]), _SIDE)
    subjects = [
        (
            Subject(noun.word, noun.span, one.box.corners, encode_mask(one.mask)),
            encode_png(crop_on_white(draft.image, one.mask, size=side)),
        )
        for noun, one in chosen
    ]
    return with_subjects(draft.record, draft.caption, subjects)
