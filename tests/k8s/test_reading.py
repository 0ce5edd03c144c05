"""Small readings that the rules stand on: quantities, selectors, shell scripts, differences."""

from __future__ import annotations

from decimal import Decimal

import pytest

from k8s.check.commands import faults, split
from k8s.check.quantities import quantity
from k8s.check.schema import differences
from k8s.check.selectors import matches


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("2", "2"), (3, "3"), ("1Ki", "1024"), ("1k", "1000"), ("1.5Gi", "1610612736"), ("1e3", "1000")],
)
def test_a_quantity_is_the_number_that_it_stands_for(text, number):
    assert quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "2 Gi", "2GB", "two"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="no quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_a_selector_chooses_as_the_api_server_does(selector, chosen):
    assert matches(selector, {"a": "1"}) is chosen


def test_a_script_is_read_command_by_command():
    script = 'cd /results && python -m dvc repro\nif x; then exec python -m eclipse table --out "$OUT"; fi\n'
    assert list(split(["bash", "-euc", script])) == [
        ["python", "-m", "dvc", "repro"],
        ["python", "-m", "eclipse", "table", "--out", "$OUT"],
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["python", "-m", "dvc", "repro", "--force"], None),
        (["python", "-m", "dvc", "repo"], "no such command"),
        (["python", "-m", "flows.train_prior"], None),
        (["python", "-m", "flows.train_priors"], "no such module"),
        (["mlflow", "server", "--allowed-hosts=x"], None),
        (["mlflow", "server", "--alowed-hosts=x"], "--alowed-hosts"),
        (["prefect", "worker", "start", "--pool", "cluster"], None),
        (["prefect", "wroker", "start"], "no such command"),
        (["torchrun", "--nproc-per-node", "2", "-m", "eclipse", "train"], "needs --store"),
        (["eclipse", "table", "--verbos"], "--verbos"),
    ],
)
def test_a_command_is_known_or_told(words, told):
    found = list(faults(words))
    assert any(told in text for text in found) if told else not found


def test_a_model_that_drops_or_changes_a_value_is_told():
    given = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert list(differences(given, {"a": {"b": 1, "c": [1, 2]}})) == []
    assert list(differences(given, {"a": {"c": [1, 3]}})) == ["a.b: unknown key", "a.c[1]: 2 would become 3"]
