"""The drawings of a study as SVG text, to stand in an HTML page: nothing is loaded from anywhere.

matplotlib takes half a second to import, so that it is imported when something is drawn.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from harness.results.study import Chart, Drawing, Map, Sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 9.0  # inches, of 72 points
_COLOURS = ("#3b6ea5", "#d9822b", "#5a9e6f", "#b0413e", "#7d63a8", "#8a8a8a", "#c2a83e", "#4fb0ae")
_FREE = "#eeeeee"
_HUNDRED = 100  # from here on a figure has three digits without a fraction


def svg(drawing: Drawing) -> str:
    """Return the drawing as an <svg> element; text stays text, so that it can be searched."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A fixed salt: the same record gives the same page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cma", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH, _height(drawing)), layout="constrained")
        axes = figure.subplots()
        _draw(drawing, axes)
        axes.set_title(drawing.title, loc="left", fontsize=10)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _height(drawing: Drawing) -> float:
    if isinstance(drawing, Map):
        return 1.3 + 0.42 * len(drawing.strips)
    if isinstance(drawing, Sequence):
        return 1.0 + 0.26 * len(drawing.steps)
    return 3.2


def _draw(drawing: Drawing, axes: Axes) -> None:
    if isinstance(drawing, Map):
        _map(drawing, axes)
    elif isinstance(drawing, Sequence):
        _sequence(drawing, axes)
    else:
        _chart(drawing, axes)


def _chart(chart: Chart, axes: Axes) -> None:
    wide = 0.8 / max(1, len(chart.curves))
    for number, curve in enumerate(chart.curves):
        style: dict[str, Any] = {"color": _COLOURS[number % len(_COLOURS)], "label": curve.label}
        if chart.kind == "bars":
            places = [x + (number - (len(chart.curves) - 1) / 2) * wide for x in curve.x]
            bars = axes.bar(places, curve.y, wide, **style)
            axes.bar_label(bars, fmt=_figure, fontsize=7)
        elif chart.kind == "points":
            axes.plot(curve.x, curve.y, ".", markersize=3, **style)
        else:
            axes.plot(curve.x, curve.y, ".-", linewidth=1.2, **style)
    if chart.names:
        axes.set_xticks(range(len(chart.names)), chart.names)
    axes.set(xlabel=chart.x, ylabel=chart.y)
    if chart.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    if len(chart.curves) > 1 or not chart.names:
        axes.legend(frameon=False, fontsize=8)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _HUNDRED else f"{value:.3g}"


def _map(drawing: Map, axes: Axes) -> None:
    kinds = list(dict.fromkeys(kind for strip in drawing.strips for _, _, kind in strip.runs))
    colour = {kind: _COLOURS[number % len(_COLOURS)] for number, kind in enumerate(kinds)}
    for row, strip in enumerate(drawing.strips):
        axes.broken_barh([(0, strip.pages)], (row - 0.35, 0.7), facecolors=_FREE)
        for kind in kinds:
            runs = [(first, count) for first, count, what in strip.runs if what == kind]
            axes.broken_barh(
                runs,
                (row - 0.35, 0.7),
                facecolors=colour[kind],
                label=kind if row == _first_with(drawing, kind) else None,
            )
    axes.set_yticks(range(len(drawing.strips)), [strip.label for strip in drawing.strips])
    axes.invert_yaxis()
    axes.set(
        xlabel="page of the stretch",
        xlim=(0, max((strip.pages for strip in drawing.strips), default=1)),
    )
    if kinds:
        axes.figure.legend(frameon=False, fontsize=8, ncols=4, loc="outside lower left")


def _first_with(drawing: Map, kind: str) -> int:
    rows = enumerate(drawing.strips)
    return next(row for row, strip in rows if any(what == kind for _, _, what in strip.runs))


def _sequence(drawing: Sequence, axes: Axes) -> None:
    lanes = list(dict.fromkeys(step.lane for step in drawing.steps))
    for row, step in enumerate(drawing.steps):
        lane = lanes.index(step.lane)
        axes.plot([lane], [row], "o", color=_COLOURS[lane % len(_COLOURS)], markersize=5)
        axes.annotate(
            f"{step.what}  ({step.at:g} {drawing.at})" if drawing.at else step.what,
            (lane, row),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for lane in range(len(lanes)):
        axes.axvline(lane, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_xticks(range(len(lanes)), lanes)
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.2, len(lanes) + 0.2))
    axes.set_yticks([])
    axes.invert_yaxis()
