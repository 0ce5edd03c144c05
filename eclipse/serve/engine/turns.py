"""Whose picture gets the next free slot."""

from __future__ import annotations

from collections.abc import Sequence

from eclipse.serve.engine.order import Order, Size


class Turns:
    """Jobs take turns picture by picture; sizes take turns load by load.

    All slots draw pictures of one size. When the job that waited longest wants another, the present size gets at most
    ``load`` pictures more, which keeps the slots full; then they run empty, and that job decides the size.
    """

    def __init__(self, load: int) -> None:
        self._load = load
        self._quota = load

    def next(self, orders: Sequence[Order], size: Size | None) -> Order | None:
        """Who is to be served, of ``orders`` (longest unserved first), while pictures of ``size`` are being drawn.

        None where nobody is ready or has to wait. Call :meth:`took` when its picture got the slot.
        """
        ready = [order for order in orders if order.ready]
        if not ready:
            return None
        if size is None or ready[0].size == size:
            self._quota = self._load
            return ready[0]
        if self._quota <= 0:
            return None
        return next((order for order in ready if order.size == size), None)

    def took(self) -> None:
        """The one that :meth:`next` named got its slot."""
        self._quota -= 1
