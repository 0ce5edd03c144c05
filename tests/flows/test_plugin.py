"""A flow's bare name as its default deployment, and nothing else changed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from flows.plugin import accept_bare_names


def _client(**deployments: list[str]):
    class Client:
        asked: list[str] = []  # noqa: RUF012

        async def read_deployments(self, **_):
            return [SimpleNamespace(name=name, tags=tags) for name, tags in deployments.items()]

        async def read_deployment_by_name(self, name):
            self.asked.append(name)

    accept_bare_names(Client)
    accept_bare_names(Client)
    return Client()


def _read(client, name):
    asyncio.run(client.read_deployment_by_name(name))
    return client.asked


def test_the_tagged_one_or_the_only_one():
    assert _read(_client(mini=["default"], large=[]), "train-prior") == ["train-prior/mini"]
    assert _read(_client(only=[]), "train-prior") == ["train-prior/only"]


def test_names_with_a_slash_and_unknown_ones_stay():
    assert _read(_client(mini=["default"]), "train-prior/large") == ["train-prior/large"]
    assert _read(_client(), "none") == ["none"]


def test_a_choice_is_the_persons():
    with pytest.raises(ValueError, match="name one of f/a, f/b"):
        _read(_client(a=[], b=[]), "f")
