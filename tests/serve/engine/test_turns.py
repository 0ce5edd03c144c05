"""Whose turn it is: jobs by pictures, sizes by loads."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from eclipse.serve.engine.turns import Turns


@dataclass(eq=False)
class Asked:
    name: str
    size: tuple[int, int]
    ready: deque[int] = field(default_factory=deque)


def asked(name: str, size: int, pictures: int) -> Asked:
    return Asked(name, (size, size), deque(range(pictures)))


def play(orders: list[Asked], slots: int, steps: dict[str, int] | None = None) -> list[list[str]]:
    """What is drawn in each step, by job name; a picture takes ``steps`` of its job (2)."""
    turns, drawing, history = Turns(slots), [], []
    while drawing or any(order.ready for order in orders):
        while len(drawing) < slots:
            order = turns.next(orders, drawing[0][0].size if drawing else None)
            if order is None:
                break
            turns.took()
            orders.remove(order)
            orders.append(order)
            order.ready.popleft()
            drawing.append([order, (steps or {}).get(order.name, 2)])
        assert drawing, "somebody is ready, nothing is drawn, and nobody gets a slot"
        history.append([order.name for order, _ in drawing])
        for item in drawing:
            item[1] -= 1
        drawing = [item for item in drawing if item[1]]
    return history


def test_one_picture_does_not_wait_for_ten():
    history = play([asked("ten", 64, 10), asked("one", 64, 1)], slots=2)
    assert history[0] == ["ten", "one"]
    assert len(history) == 12


def test_jobs_share_the_slots_evenly():
    history = play([asked("a", 64, 4), asked("b", 64, 4), asked("c", 64, 4)], slots=3)
    assert history == [["a", "b", "c"]] * 8


def test_slots_hold_one_size_at_a_time_and_another_size_waits_for_one_load_at_most():
    history = play([asked("small", 64, 9), asked("large", 128, 1)], slots=2)
    assert ["small", "large"] not in history and ["large", "small"] not in history
    assert history.index(["large"]) == 2
    assert sum(step == ["large"] for step in history) == 2


def test_a_size_with_many_jobs_does_not_starve_another():
    many = [asked(f"s{number}", 64, 5) for number in range(4)]
    history = play([*many, asked("large", 128, 2)], slots=2)
    large = [number for number, step in enumerate(history) if "large" in step]
    assert large == [4, 5], "after each of the others once"
    assert history[4] == ["large", "large"], "a turn fills the slots"


def test_the_slots_stay_full_until_another_size_is_next():
    history = play([asked("a", 64, 3), asked("b", 64, 3), asked("large", 128, 1)], slots=2, steps={"a": 2, "b": 3})
    assert history[2] == ["b", "a"] and ["large"] in history


def test_with_nobody_else_waiting_slots_are_refilled_at_once():
    history = play([asked("a", 64, 4)], slots=2, steps={"a": 3})
    assert history == [["a", "a"]] * 6


@given(
    st.lists(st.tuples(st.sampled_from((64, 128, 192)), st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_everything_is_drawn_once_in_one_size_at_a_time(jobs, slots):
    orders = [asked(str(number), size, count) for number, (size, count, _) in enumerate(jobs)]
    steps = {str(number): length for number, (_, _, length) in enumerate(jobs)}
    sizes = {order.name: order.size for order in orders}
    history = play(orders, slots, steps)
    for step in history:
        assert len({sizes[name] for name in step}) == 1 and len(step) <= slots
    for number, (_, count, length) in enumerate(jobs):
        assert sum(step.count(str(number)) for step in history) == count * length
