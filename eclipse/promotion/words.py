"""The rule and the decision in words, with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eclipse.config.promote import PromoteParams

if TYPE_CHECKING:
    from eclipse.promotion.gate import Verdict

_MEANING = {
    "superior": "shown to be better",
    "non-inferior": "shown not to be worse by {margin:g} or more",
    "inferior": "shown to be worse by more than {margin:g}",
    "inconclusive": "neither shown to be worse by more than {margin:g} nor shown not to be",
}


def rule_words(rule: PromoteParams, metric: str, categories: Sequence[str], splits: Sequence[str]) -> str:
    """The written rule, with what it is applied to here."""
    sure = f"{rule.confidence * 100:g} %"
    wanted = "better than the champion" if rule.require == "superior" else f"worse by less than {rule.margin:g}"
    bound = "0" if rule.require == "superior" else f"{signed(-rule.margin)}"
    text = (
        f"The candidate passes if its {metric} is shown to be {wanted}: the lower bound (one-sided, {sure}) of "
        f"candidate − champion lies above {bound}. Both draw the same prompts of {' and '.join(splits)} with the same "
        f"seeds; the bound is a paired bootstrap over prompts ({rule.bootstrap} resamples)."
    )
    if not categories:
        return text
    unclear = "is told but does not refuse" if rule.inconclusive == "allow" else "refuses as well"
    return (
        f"{text} It is refused if any of {', '.join(categories)} is shown to be worse by more than "
        f"{rule.category_margin:g}, at {sure} over all {len(categories)} together (Holm's correction); a category that "
        f"is neither shown to be worse nor shown not to be {unclear}."
    )


def decision_reasons(primary: Verdict, categories: Sequence[Verdict], rule: PromoteParams) -> tuple[str, ...]:
    """One sentence for the deciding metric, one for each category that speaks against, one for the rest."""
    reasons = [_sentence(primary)]
    wanted = ("superior",) if rule.require == "superior" else ("non-inferior", "superior")
    if primary.verdict not in wanted:
        reasons[0] += f" The rule asks for {rule.require}.{_reach(primary)}"
    unclear = [one for one in categories if one.verdict == "inconclusive"]
    against = [one for one in categories if one.verdict == "inferior"]
    if rule.inconclusive == "refuse":
        against += unclear
    reasons += [_sentence(one) for one in against]
    fine = [one.metric for one in categories if one.verdict in ("non-inferior", "superior")]
    if fine:
        reasons.append(f"Shown not to be worse by {rule.category_margin:g} or more: {', '.join(fine)}.")
    if unclear and rule.inconclusive == "allow":
        reasons.append(f"Neither shown to be worse nor shown not to be: {', '.join(one.metric for one in unclear)}.")
    return tuple(reasons)


def signed(value: float, digits: int | None = None) -> str:
    """``value`` with its sign (a true minus), in ``digits`` decimals or as short as it can be written."""
    text = f"{value:+g}" if digits is None else f"{value:+.{digits}f}"
    return text.replace("-", "−")


def p_words(p: float) -> str:
    """A p-value as it stands in a table."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _sentence(one: Verdict) -> str:
    meaning = _MEANING[one.verdict].format(margin=one.margin)
    low, high = signed(one.low, 3), signed(one.high, 3)
    return f"{one.metric} is {meaning}: {signed(one.difference, 3)} [{low}, {high}] over {one.n} prompts."


def _reach(one: Verdict) -> str:
    """Whether the comparison was large enough to show anything."""
    if one.verdict != "inconclusive" or one.mde <= one.margin:
        return ""
    return (
        f" {one.n} prompts can show differences from {one.mde:.3f} on; raise promote.images, so far as the splits have "
        "prompts, to show smaller ones."
    )
