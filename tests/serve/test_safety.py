"""Outcomes of pictures: what is degenerate, what a checker says, and that its failure never lets a picture pass."""

from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest
from made_manifests import made_drawn, noise

from eclipse.errors import ConfigError
from eclipse.serve import safety
from eclipse.serve.safety import FLAT, Blocked, Degenerate, Ok, is_flat, judge_picture, load_checker
from eclipse.world.render import render
from eclipse.world.scene import Mix, random_scene


class NoReds:
    """A checker as a package might install it."""

    def check(self, image, prompt):
        return Blocked("shows red") if "red" in prompt else Ok()


class Breaks:
    def check(self, image, prompt):
        raise RuntimeError("no model")


class Shrugs:
    def check(self, image, prompt):
        return None


class Unmade:
    def __init__(self):
        raise OSError("no weights")


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    """Entry points as installed packages would have them."""
    names = {"no-reds": "NoReds", "breaks": "Breaks", "shrugs": "Shrugs", "unmade": "Unmade", "gone": "Gone"}
    listed = [EntryPoint(name, f"{__name__}:{value}", safety.GROUP) for name, value in names.items()]
    listed += [EntryPoint("twice", f"{__name__}:NoReds", safety.GROUP)] * 2
    listed += [EntryPoint("number", "math:pi", safety.GROUP), EntryPoint("object", "builtins:object", safety.GROUP)]
    monkeypatch.setattr(safety, "entry_points", lambda group: EntryPoints(listed).select(group=group))


def judged(checker: str | None = None, image=None, prompt="a red star", **drawn):
    return judge_picture(made_drawn(image, **drawn), prompt, load_checker(checker))


def test_an_installed_checker_decides():
    assert judged("no-reds") == Blocked("shows red")
    assert judged("no-reds", prompt="a blue star") == Ok()


def test_without_a_checker_a_picture_passes():
    assert load_checker(None) is None
    assert judged() == Ok()


@pytest.mark.parametrize("checker", ["breaks", "shrugs"])
def test_a_checker_that_fails_blocks(checker, caplog):
    assert judged(checker) == Blocked("checker failed")
    assert "withheld" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-red", r"'no-red' is not installed \(breaks, gone, no-reds, number, object, shrugs, twice, unmade\)"),
        ("twice", "claimed by several packages"),
        ("unmade", "cannot be made .OSError: no weights"),
        ("gone", "cannot be made .AttributeError"),
        ("number", "cannot be made .TypeError"),
        ("object", "has no method check"),
    ],
)
def test_a_service_that_should_check_does_not_start_without_its_checker(name, message):
    with pytest.raises(ConfigError, match=f"^serve.safety_checker: .*{message}"):
        load_checker(name)


def test_numbers_that_are_not_finite_are_no_picture():
    assert judged("no-reds", finite=False) == Degenerate("the decoder's output was not finite")


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 30, 200)])
def test_one_flat_colour_is_no_picture(colour):
    image = np.full((64, 64, 3), colour, np.uint8)
    assert judged("no-reds", image) == Degenerate("the picture is one flat colour")


def test_a_colour_with_the_faintest_noise_is_flat_and_a_speck_is_not():
    rng = np.random.default_rng(0)
    grey = np.full((64, 64, 3), 128)
    assert is_flat((grey + rng.integers(-2, 3, grey.shape)).astype(np.uint8))
    speck = grey.astype(np.uint8)
    speck[30:33, 30:33] = 255
    assert not is_flat(speck)


def test_pictures_of_the_mini_world_are_far_from_flat():
    """Single things on a ground are the flattest of them; docs/provenance.md has the figures."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        image = render(random_scene(rng, Mix(1, 0, 0)), rng).image
        assert image.std(axis=(0, 1)).max() > 5 * FLAT


def test_noise_is_a_picture():
    assert judged(image=noise()) == Ok()
