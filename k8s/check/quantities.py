"""Kubernetes' quantities (``500m``, ``2Gi``) as exact numbers, and what pods ask for."""

from __future__ import annotations

import re
from collections import defaultdict
from decimal import Decimal
from typing import Any

from k8s.check.pods import Pod
from k8s.check.rendered import dig

Amounts = defaultdict[str, Decimal]
"""Resource → how much of it; nothing of what is not there."""

_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?$")
_DECIMAL = {"m": Decimal("0.001"), **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)}}
_BINARY = {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}


def quantity(value: Any) -> Decimal:
    """The number that a quantity stands for. Raises ``ValueError`` for a text that is none."""
    match = _QUANTITY.match(str(value))
    if not match or match[1].strip("+-.") == "":
        raise ValueError(f"{value!r} is no quantity")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix[:1] in {"e", "E"} and len(suffix) > 1 and suffix not in _BINARY:
        return number * Decimal(10) ** int(suffix[1:])
    return number * (_DECIMAL | _BINARY).get(suffix, Decimal(1))


def asked(pod: Pod, what: str) -> Amounts:
    """What one pod asks for, ``what`` being ``requests`` or ``limits``: its containers' sum, or the largest of its
    init containers where that is more. A missing request is the limit, as the API server sets it."""
    running: Amounts = defaultdict(Decimal)
    largest: Amounts = defaultdict(Decimal)
    mains = {id(container) for _, container in pod.main()}
    for _, container in pod.containers():
        resources = dig(container, "resources", default={})
        limits = dig(resources, "limits", default={}) if what == "requests" else {}
        for name, value in {**limits, **dig(resources, what, default={})}.items():
            if id(container) in mains:
                running[name] += quantity(value)
            else:
                largest[name] = max(largest[name], quantity(value))
    for name, amount in largest.items():
        running[name] = max(running[name], amount)
    return running


def plain(amount: Decimal) -> str:
    """A number without exponent or trailing zeros."""
    return f"{amount.normalize():f}"
