"""Label selectors, as the API server reads them."""

from __future__ import annotations

from typing import Any

from k8s.check.rendered import Object


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector chooses these labels. None chooses nothing, an empty one everything."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or [])


def _holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    if expression["operator"] == "In":
        return value in values
    if expression["operator"] == "NotIn":
        return value not in values
    return (value is not None) == (expression["operator"] == "Exists")
