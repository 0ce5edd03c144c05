"""From wanted pictures to their image embeddings: the text and the prior phase."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eclipse.errors import DataError
from eclipse.models.api import predict
from eclipse.models.checkpoint import Prior, kind_of
from eclipse.models.clip import FrozenClip, TextEncoding
from eclipse.models.decoder import Decoder
from eclipse.personalize.generate import encode
from eclipse.personalize.interpolate import BETWEEN
from eclipse.serve.engine.models import LoadedPrior
from eclipse.serve.engine.order import Embeds
from eclipse.serve.types import Blend, Drawing, Prompt, Source, Wanted

Observe = Callable[[str, float], None]

_PROMPTS = 64  # encoded prompts that are kept: a job's pictures share theirs


@dataclass(frozen=True)
class Need:
    """Wanted picture ``index`` of a job, to be embedded by ``prior``; ``drawing`` None where it is not drawn."""

    index: int
    wanted: Wanted
    prior: LoadedPrior
    drawing: Drawing | None


@dataclass(frozen=True)
class Question:
    """One ẑ_x: of ``prompt``, by ``prior``, with the noise of ``seed``."""

    prior: LoadedPrior
    prompt: Prompt
    seed: int


@dataclass(frozen=True)
class Encoded:
    """What a prior reads of ``prompt``: its text, and the vector [1, P] of its edges if it has any."""

    prompt: Prompt
    text: TextEncoding
    control: Tensor | None


@dataclass(frozen=True)
class _Answer:
    embeds: Tensor
    text_seconds: float
    prior_seconds: float


class Embedder:
    """The text encoder and the priors; ``decoder`` says which embedding stands for "no picture" with it.

    With ``exact`` each prompt passes both alone, so that its ẑ_x has the bits that it has everywhere else in this
    package, whatever is asked for beside it. Otherwise prompts of one prior share a packed call: equal up to rounding.
    """

    def __init__(self, clip: FrozenClip, decoder: Decoder, *, exact: bool, observe: Observe) -> None:
        self._clip = clip
        self._exact = exact
        self._observe = observe
        self._kept: OrderedDict[str | int, Encoded] = OrderedDict()
        self.nothing = clip.encode_nothing()
        self.negative = decoder.negative(lambda: self.nothing)

    def embed(self, needs: Sequence[Need]) -> list[Embeds | Exception]:
        """The embeddings of ``needs``, or what went wrong with each."""
        questions = [_questions(need) for need in needs]
        answers = iter(self.answer([question for asked in questions for question in asked]))
        results: list[Embeds | Exception] = []
        for need, asked in zip(needs, questions, strict=True):
            found = [next(answers) for _ in asked]
            errors = [item for item in found if isinstance(item, Exception)]
            results.append(errors[0] if errors else self._joined(need, [x for x in found if isinstance(x, _Answer)]))
        return results

    def encoded(self, prompt: Prompt) -> tuple[Encoded, float]:
        """``prompt`` encoded, now or before, and the seconds that it took now."""
        key = id(prompt) if prompt.subjects or prompt.control is not None else prompt.text
        known = self._kept.get(key)
        if known is not None and (known.prompt is prompt or isinstance(key, str)):
            self._kept.move_to_end(key)
            return known, 0.0
        began = time.perf_counter()
        text = encode(self._clip, prompt.text, prompt.subjects)
        control = None if prompt.control is None else self._clip.encode_image(prompt.control[None])
        seconds = time.perf_counter() - began
        self._observe("text", seconds)
        self._kept[key] = Encoded(prompt, text, control)
        if len(self._kept) > _PROMPTS:
            self._kept.popitem(last=False)
        return self._kept[key], seconds

    def answer(self, questions: Sequence[Question]) -> list[_Answer | Exception]:
        """ẑ_x [P] of each of ``questions``, or what went wrong with it; one failing stops no other."""
        results: list[_Answer | Exception | None] = [None] * len(questions)
        groups: dict[int, list[tuple[int, Encoded, float]]] = defaultdict(list)
        for number, question in enumerate(questions):
            try:
                encoded, seconds = self.encoded(question.prompt)
                _check_kind(question)
            except Exception as error:
                results[number] = error
                continue
            groups[number if self._exact else -id(question.prior)].append((number, encoded, seconds))
        for group in groups.values():
            for number, answer in self._predict(questions, group):
                results[number] = answer
        return [result for result in results if result is not None]

    def _predict(
        self, questions: Sequence[Question], group: Sequence[tuple[int, Encoded, float]]
    ) -> list[tuple[int, _Answer | Exception]]:
        """Answers to questions of one prior, in one call; where that fails, each in its own."""
        prior = questions[group[0][0]].prior.prior
        began = time.perf_counter()
        try:
            embeds = predict(
                prior,
                _together([encoded.text for _, encoded, _ in group]),
                seeds=[questions[number].seed for number, _, _ in group],
                control_embeds=self._control(prior, [encoded.control for _, encoded, _ in group]),
            )
        except Exception as error:
            if len(group) == 1:
                return [(group[0][0], error)]
            return [answer for item in group for answer in self._predict(questions, [item])]
        seconds = (time.perf_counter() - began) / len(group)
        for _ in group:
            self._observe("prior", seconds)
        return [
            (number, _Answer(row, text_seconds, seconds))
            for (number, _, text_seconds), row in zip(group, embeds, strict=True)
        ]

    def _control(self, prior: Prior, given: Sequence[Tensor | None]) -> Tensor | None:
        if kind_of(prior) != "lambda-eclipse":
            return None
        return torch.cat([self.nothing if control is None else control for control in given])

    def _joined(self, need: Need, answers: Sequence[_Answer]) -> Embeds:
        seconds = {
            "text": sum(answer.text_seconds for answer in answers),
            "prior": sum(answer.prior_seconds for answer in answers),
        }
        sources, negative = len(_prompts(need.wanted.source)), self.negative[0]
        embeds = answers[0].embeds
        if isinstance(need.wanted.source, Blend):
            between = BETWEEN[need.wanted.source.mode]
            ends = [answer.embeds.double() for answer in answers[:2]]
            embeds = between(ends[0], ends[1], need.wanted.source.at).to(embeds.dtype)
        if len(answers) > sources:
            negative = answers[-1].embeds
        return Embeds(need.index, embeds, negative if _guided(need.drawing) else None, seconds)


def _prompts(source: Source) -> tuple[Prompt, ...]:
    return (source,) if isinstance(source, Prompt) else (source.first, source.second)


def _guided(drawing: Drawing | None) -> bool:
    return drawing is not None and drawing.guidance > 1


def _questions(need: Need) -> list[Question]:
    prompts = list(_prompts(need.wanted.source))
    if need.drawing is not None and _guided(need.drawing) and need.drawing.negative_prompt:
        prompts.append(Prompt(need.drawing.negative_prompt))
    return [Question(need.prior, prompt, need.wanted.seed) for prompt in prompts]


def _check_kind(question: Question) -> None:
    prompt = question.prompt
    given = [name for name, there in (("subjects", prompt.subjects), ("edges", prompt.control is not None)) if there]
    if given and kind_of(question.prior.prior) != "lambda-eclipse":
        raise DataError(
            f"model: {question.prior.name.model} takes no {' and no '.join(given)}; ask for a λ-ECLIPSE prior"
        )


def _together(texts: Sequence[TextEncoding]) -> TextEncoding:
    if len(texts) == 1:
        return texts[0]
    return TextEncoding(
        torch.cat([text.text_states for text in texts]),
        torch.cat([text.lengths for text in texts]),
        torch.cat([text.prompt_embeds for text in texts]),
    )
