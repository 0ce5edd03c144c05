"""Plots as inline SVG that follows the page's light or dark colours. Same numbers, same bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from eclipse.evaluate.bootstrap import Estimate
from eclipse.evaluate.summary import Row, has_edges, lam, takes_subjects
from eclipse.report.results import is_reference, measured, short_label

# Okabe and Ito's palette, told apart with every common colour blindness.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_RAMP = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00")
_INK, _LINE, _PAPER = "#010203", "#010204", "#010205"  # stand-ins that become the page's own colours
_CSS = {_INK: "var(--ink)", _LINE: "var(--line)", _PAPER: "var(--paper)"}
_MARKERS = {"projection": "s", "diffusion": "D", "eclipse": "o"}
_DASHES: tuple[object, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "eclipse",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.facecolor": "none",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
}
CURVES = {
    "loss": "training loss (log scale)",
    "cos_image": "cosine to the image",
    "cos_text": "cosine to the caption",
    "cos_shuffled": "cosine to another caption's image",
}


def lambda_figure(rows: Sequence[Row], metrics: Sequence[tuple[str, str]]) -> str:
    """SVG: each (name, title) of ``metrics`` against λ on seen and held-out test captions, with 95 % intervals.

    λ is spaced evenly (its values are not); the ceiling, the floor and the diffusion baseline, which have no λ, are
    horizontal lines at their held-out value.
    """
    swept = sorted((row for row in rows if lam(row.point) is not None), key=lambda row: lam(row.point) or 0.0)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            1, len(metrics), figsize=(5.3 * len(metrics), 3.7), squeeze=False, layout="constrained"
        )
        for axis, (name, title) in zip(axes[0], metrics, strict=True):
            _lambda_panel(axis, swept, name)
            _references(axis, [row for row in rows if lam(row.point) is None], name)
            axis.set_title(title)
            axis.set_xlabel("λ (weight of the contrastive term; 0 = projection)")
            axis.set_ylabel(title)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
        return _svg(figure, "lambda")


def _lambda_panel(axis: Axes, swept: Sequence[Row], name: str) -> None:
    for split, colour, marker, shift in (("test_seen", BLUE, "o", -0.05), ("test_held_out", VERMILLION, "s", 0.05)):
        found = [(i, measured(row, split, name)) for i, row in enumerate(swept)]
        points = [(i + shift, interval) for i, interval in found if interval is not None]
        if points:
            _errorbars(axis, points, color=colour, marker=marker, label=split.replace("test_", "").replace("_", "-"))
    axis.set_xticks(range(len(swept)), [f"{lam(row.point):g}" for row in swept])
    axis.set_xlim(-0.4, max(len(swept) - 0.6, 0.4))


def _errorbars(axis: Axes, points: Sequence[tuple[float, Estimate]], **style: Any) -> None:
    x, intervals = zip(*points, strict=True)
    values = [i.value for i in intervals]
    axis.errorbar(x, values, yerr=_reach(*intervals), capsize=3, markersize=5, linewidth=1.6, **style)


def _reach(*intervals: Estimate) -> list[list[float]]:
    """Lengths of error bars below and above; never negative, which rounding could make them."""
    below = [max(i.value - i.low, 0.0) for i in intervals]
    return [below, [max(i.high - i.value, 0.0) for i in intervals]]


def _references(axis: Axes, rows: Iterable[Row], name: str) -> None:
    dashes = {"truth": _DASHES[1], "text": _DASHES[2], "diffusion": _DASHES[3]}
    colours = {"truth": _INK, "text": _INK, "diffusion": PURPLE}
    for row in rows:
        interval = measured(row, "test_held_out", name)
        if interval is not None and row.point in dashes:
            label = f"{short_label(row.point)} (held-out)"
            axis.axhline(
                interval.value, linestyle=dashes[row.point], color=colours[row.point], linewidth=1.3, label=label
            )


def pareto_figure(rows: Sequence[Row], metric: str, title: str, split: str = "test_held_out") -> str:
    """SVG: ``metric`` (composition) against image cosine (concept) on ``split``; filled points are not dominated."""
    points = [
        (row, measured(row, split, "cosine"), measured(row, split, metric)) for row in rows if not is_reference(row)
    ]
    known = [(row, x, y) for row, x, y in points if x is not None and y is not None]
    efficient = efficient_points([(row.point, x.value, y.value) for row, x, y in known])
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
        path = sorted((lam(row.point), x.value, y.value) for row, x, y in known if lam(row.point) is not None)
        axis.plot([p[1] for p in path], [p[2] for p in path], color=_LINE, linewidth=1.6, zorder=1)
        colours = method_colours(row.point for row, _, _ in known)
        for i, (row, x, y) in enumerate(sorted(known, key=lambda item: item[1].value)):
            colour = colours[row.point]
            look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if row.point in efficient else _PAPER}
            marker = _MARKERS[row.point.partition("-")[0]]
            bars: dict[str, Any] = {"xerr": _reach(x), "yerr": _reach(y)}
            axis.errorbar([x.value], [y.value], **bars, fmt=marker, markersize=8, linewidth=1.1, **look)
            place: dict[str, Any] = {"xytext": (7, -15 if i % 2 else 7), "textcoords": "offset points"}
            axis.annotate(short_label(row.point), (x.value, y.value), **place, fontsize=9)
        axis.margins(0.14)
        axis.set_xlabel("concept: cosine to the true image embedding, held-out (right is better)")
        axis.set_ylabel(f"{title}, held-out (up is better)")
        return _svg(figure, "pareto")


def subject_pareto(rows: Sequence[Row], split: str) -> str:
    """SVG: composition (``rest``) against ``concept`` on ``split``; filled points are not dominated."""
    points = [(row, measured(row, split, "concept"), measured(row, split, "rest")) for row in rows]
    known = [(row, x, y) for row, x, y in points if x is not None and y is not None]
    efficient = efficient_points([(row.point, x.value, y.value) for row, x, y in known])
    plain = [item for item in known if item[0].point.startswith("lambda-") and not item[0].point.endswith("-edges")]
    path = sorted(((lam(row.point) or 0.0), x.value, y.value) for row, x, y in plain)
    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(6.8, 4.6), layout="constrained")
        axis.plot([p[1] for p in path], [p[2] for p in path], color=_LINE, linewidth=1.6, zorder=1)
        for row, x, y in known:
            colour, marker = _subject_look(row.point)
            bars: dict[str, Any] = {"xerr": _reach(x), "yerr": _reach(y)}
            look: dict[str, Any] = {"color": colour, "markerfacecolor": colour if row.point in efficient else _PAPER}
            axis.errorbar([x.value], [y.value], **bars, fmt=marker, markersize=8, linewidth=1.1, **look)
            place: dict[str, Any] = {"xytext": (6, -26 if has_edges(row.point) else 20), "textcoords": "offset points"}
            axis.annotate(_subject_name(row.point), (x.value, y.value), **place, fontsize=9, color=colour)
        axis.plot([], [], "o", color=BLUE, label="λ-ECLIPSE")
        axis.plot([], [], "^", color=VERMILLION, label="λ-ECLIPSE trained with edges")
        axis.plot([], [], "s", color=GREEN, label="ECLIPSE, text only")
        axis.legend(loc="lower left", fontsize=9)
        axis.margins(0.14)
        axis.set_xlabel("concept: share of subjects wholly right (right is better)")
        axis.set_ylabel("composition: rest of the caption right (up is better)")
        return _svg(figure, "subject-pareto")


def _subject_name(point: str) -> str:
    if takes_subjects(point):
        return f"λ {lam(point):g}"
    return "text only" if lam(point) is not None else short_label(point)


def _subject_look(point: str) -> tuple[str, str]:
    """Colour and marker: λ-ECLIPSE without and with edges, the text-only baseline, and what is no prior."""
    if point.startswith("lambda-"):
        return (VERMILLION, "^") if point.endswith("-edges") else (BLUE, "o")
    return (GREEN, "s") if point.startswith("eclipse-") else (PURPLE, "D")


def efficient_points(points: Iterable[tuple[str, float, float]]) -> set[str]:
    """Names of those (name, x, y) that no other point beats in both x and y (at least equal in both, better in one)."""
    listed = list(points)

    def beaten(x: float, y: float) -> bool:
        return any(a >= x and b >= y and (a > x or b > y) for _, a, b in listed)

    return {name for name, x, y in listed if not beaten(x, y)}


def curves_figure(curves: Mapping[tuple[str, int], Mapping[str, Sequence[float]]]) -> str:
    """SVG: loss and probes against optimiser step, one colour for each point, one line for each seed.

    ``curves`` maps (point, seed) to columns of equal length, among them ``step``; a missing value is NaN.
    """
    points = list(dict.fromkeys(point for point, _ in curves))
    colours = method_colours(points)
    looks = {p: {"color": colours[p], "linestyle": _DASHES[i % len(_DASHES)]} for i, p in enumerate(points)}
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(10.6, 6.2), sharex=True, layout="constrained")
        for axis, (name, title) in zip(axes.flat, CURVES.items(), strict=True):
            for (point, _), columns in curves.items():
                _curve(axis, columns, name, looks[point])
            axis.set_title(title)
        _log_scale(axes[0][0])
        for axis in axes[1]:
            axis.set_xlabel("optimiser step")
        for point in points:
            axes[0][0].plot([], [], label=short_label(point), **looks[point])
        figure.legend(loc="outside lower center", ncols=6, fontsize=9)
        return _svg(figure, "curves")


def _curve(axis: Axes, columns: Mapping[str, Sequence[float]], name: str, look: Mapping[str, Any]) -> None:
    values = columns.get(name, [math.nan] * len(columns["step"]))
    known = [(step, value) for step, value in zip(columns["step"], values, strict=True) if math.isfinite(value)]
    if known:
        axis.plot(*zip(*known, strict=True), linewidth=1.3, **look)


def _log_scale(axis: Axes) -> None:
    if axis.lines:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())


def method_colours(points: Iterable[str]) -> dict[str, str]:
    """A colour for each point: fixed for projection and diffusion, blue to orange for ECLIPSE in order of λ."""
    fixed = {"projection": GREEN, "diffusion": PURPLE}
    listed = list(dict.fromkeys(points))
    eclipse = sorted((p for p in listed if p not in fixed), key=lambda p: lam(p) or 0.0)
    spaced = [_RAMP[round(i * (len(_RAMP) - 1) / max(len(eclipse) - 1, 1))] for i in range(len(eclipse))]
    return {**dict(zip(eclipse, spaced, strict=True)), **{p: fixed[p] for p in listed if p in fixed}}


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with plt.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=empty)
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)  # several figures share one page: keep ids apart
    for colour, css in _CSS.items():
        text = text.replace(colour, css)
    return text
