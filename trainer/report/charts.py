"""The charts of a page, as SVG in data URIs: an image runs no script, whatever a class is called."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from convoy.outside import printable
from convoy.trainer.figures import BINS, Calibration

_TEXT = "#767676"  # 4.5:1 on white and on black
_BLUE, _ORANGE = "#3b82c4", "#d9722e"
_STYLE: dict[str, Any] = {
    "axes.edgecolor": _TEXT, "axes.labelcolor": _TEXT, "axes.spines.right": False, "axes.spines.top": False,
    "axes.titlecolor": _TEXT, "figure.facecolor": "none",
    "axes.facecolor": "none", "font.family": "sans-serif", "font.size": 10, "grid.alpha": 0.3, "grid.color": _TEXT,
    "legend.frameon": False, "legend.labelcolor": _TEXT, "svg.fonttype": "none", "svg.hashsalt": "convoy",
    "text.color": _TEXT, "text.parse_math": False, "xtick.color": _TEXT, "ytick.color": _TEXT,
}  # fmt: skip
_FROM_ZERO = ("learning_rate", "images_per_second", "noise_scale")
_MARGINS = (0.8, 0.12, 0.5, 0.1, 0.8)  # inches: before, behind, below, above, between two axes
LISTED = 20  # runs in a legend
DRAWN = 100  # classes of which a matrix is drawn: of more it cannot be read
NUMBERED = 20  # classes whose confusion matrix has numbers

Draw = Callable[[Sequence[Any]], None]  # of axes of Matplotlib
Size = tuple[float, float]  # (width, height), inches


class Chart(NamedTuple):
    """A picture and what a person who does not see it is told."""

    source: str  # data:image/svg+xml;base64,...
    text: str


def lines(records: Sequence[dict[str, Any]], names: Sequence[tuple[str, str]], text: str) -> Chart | None:
    """A panel for each (field, label), over the epochs: of training, and of the examples that were held out."""
    panels = [(name, label) for name, label in names if any(record.get(name) is not None for record in records)]
    if not panels:
        return None

    def draw(axes: Sequence[Any]) -> None:
        for axis, (name, label) in zip(axes, panels, strict=True):
            for split, colour in (("train", _BLUE), ("eval", _ORANGE)):
                if points := _points(records, split, name):
                    marker = "." if len(points) < 40 else None
                    axis.plot(*zip(*points, strict=True), color=colour, marker=marker, label=split)
            axis.set(xlabel="epoch", ylabel=label)
            if name in _FROM_ZERO:
                axis.set_ylim(0, 1.05 * axis.get_ylim()[1])  # or a thousandth of it would look like a jump
            axis.grid()
        if len(axes[0].lines) > 1:
            axes[0].legend()

    return _chart(draw, (4.4 * len(panels), 3.2), text, columns=len(panels))


def overlaid(runs: Mapping[str, Sequence[dict[str, Any]]], split: str, names: Sequence[str], text: str) -> Chart | None:
    """A panel for each field over the epochs, with a line for each run; None where no run has any of it."""
    lines = {
        name: {run: _points(records, split, name) for run, records in runs.items() if _points(records, split, name)}
        for name in names
    }
    if not any(lines.values()):
        return None

    def draw(axes: Sequence[Any]) -> None:
        from matplotlib import colormaps

        colours = colormaps["tab10" if len(runs) <= 10 else "turbo"]
        for axis, (name, of_runs) in zip(axes, lines.items(), strict=True):
            for number, run in enumerate(runs):
                colour = colours(number if len(runs) <= 10 else number / (len(runs) - 1))
                if run in of_runs:
                    axis.plot(*zip(*of_runs[run], strict=True), color=colour, label=run)
            axis.set(xlabel="epoch", ylabel=f"{split} {name}")
            axis.grid()
        if len(runs) <= LISTED:
            axes[-1].legend(fontsize=8)

    return _chart(draw, (4.4 * len(names), 3.2), text, columns=len(names))


def _points(records: Sequence[dict[str, Any]], split: str, name: str) -> list[tuple[float, float]]:
    """(epoch, value) of a split, NaN for what is none."""
    return [
        (record["epoch"], record[name] if record.get(name) is not None else math.nan)
        for record in records
        if record["split"] == split and name in record
    ]


def shares(seconds: dict[str, float], text: str) -> Chart | None:
    """Seconds by kind, the most first."""
    kinds = sorted(((value, name) for name, value in seconds.items() if value > 0), reverse=True)
    if not kinds:
        return None

    def draw(axes: Sequence[Any]) -> None:
        values, names = zip(*kinds, strict=True)
        bars = axes[0].barh([printable(name.replace("_", " ")) for name in names], values, color=_BLUE)
        total = sum(values)
        axes[0].bar_label(bars, [f"{value:,.1f} s, {value / total:.0%}" for value in values], padding=4)
        axes[0].invert_yaxis()
        axes[0].margins(x=0.25)
        axes[0].set(xlabel="seconds")

    return _chart(draw, (8, 0.6 + 0.34 * len(kinds)), text, named=True)


def balance(examples: Sequence[int], text: str) -> Chart | None:
    """Examples of each class, the most first; None of classes that have equally many."""
    if len(set(examples)) < 2:
        return None

    def draw(axes: Sequence[Any]) -> None:
        axes[0].bar(np.arange(len(examples)), sorted(examples, reverse=True), width=1, color=_BLUE)
        axes[0].set(xlabel="class, by its number of examples", ylabel="training examples", xticks=[])

    return _chart(draw, (6, 2.2), text)


def matrix(confusion: np.ndarray, names: Sequence[str], text: str) -> Chart:
    """A confusion matrix of at most DRAWN classes, coloured by the share of a row."""
    return _chart(*_matrix(confusion, names), text, named=True)


def matrix_png(confusion: np.ndarray, names: Sequence[str]) -> bytes:
    """The same as a PNG on white."""
    return _file(*_matrix(confusion, names), named=True, form="png")


def _matrix(confusion: np.ndarray, names: Sequence[str]) -> tuple[Draw, Size]:
    classes = len(names)

    def draw(axes: Sequence[Any]) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("shares", [(*_rgb(_BLUE), 0.0), (*_rgb(_BLUE), 1.0)])
        rows = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        axis = axes[0]
        if classes <= NUMBERED:
            axis.pcolormesh(rows, cmap=shades, vmin=0, vmax=1, edgecolors=_TEXT, linewidth=0.1)
        else:  # as a picture: ten thousand cells would be megabytes of paths
            extent = (0, classes, classes, 0)
            axis.imshow(rows, cmap=shades, vmin=0, vmax=1, interpolation="nearest", extent=extent)
        labels = [printable(name) if len(name) <= 24 else printable(name[:23]) + "…" for name in names]
        places = np.arange(classes) + 0.5
        size = 9 if classes <= NUMBERED else max(3, 240 / classes)
        axis.set_xticks(places, labels, rotation=90, fontsize=size)
        axis.set_yticks(places, labels, fontsize=size)
        axis.tick_params(length=0)
        axis.set_ylim(classes, 0)
        axis.set(xlabel="taken for", ylabel="is", aspect="equal")
        if classes <= NUMBERED:
            for (row, column), count in np.ndenumerate(confusion):
                if count:
                    colour = "white" if rows[row, column] > 0.5 else _TEXT
                    axis.text(column + 0.5, row + 0.5, f"{count:,}", ha="center", va="center", color=colour, fontsize=8)

    side = min(2 + 0.42 * classes, 9)
    return draw, (side, side)


def reliability(calibration: Calibration, text: str) -> Chart:
    """Accuracy by confidence, and how many examples there are."""

    def draw(axes: Sequence[Any]) -> None:
        edges = np.linspace(0, 1, BINS + 1)
        axes[0].plot([0, 1], [0, 1], color=_TEXT, linestyle=":", label="as sure as right")
        filled = calibration.examples > 0
        axes[0].plot(calibration.confidence[filled], calibration.accuracy[filled], "o-", color=_BLUE, label="this run")
        axes[0].set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        axes[0].grid()
        axes[0].legend()
        axes[1].bar(edges[:-1], calibration.examples, width=1 / BINS, align="edge", color=_BLUE)
        axes[1].set(xlabel="confidence", ylabel="examples", xlim=(0, 1.02))

    return _chart(draw, (8.4, 3.6), text, columns=2)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _chart(draw: Draw, size: Size, text: str, columns: int = 1, named: bool = False) -> Chart:
    """What `draw` makes of a row of axes, for a page; see `_file`."""
    svg = _file(draw, size, columns, named)
    return Chart(f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}", text)


def _file(draw: Draw, size: Size, columns: int = 1, named: bool = False, form: str = "svg") -> bytes:
    """What `draw` makes of a row of axes.

    Args:
      size: of the figure.
      named: whether names of any length stand at the axes. To make room for them the chart is drawn twice.
      form: svg, without a ground, or png, on white.
    """
    from matplotlib import style  # late: it takes half a second
    from matplotlib.figure import Figure

    with style.context(_STYLE):
        figure = Figure(figsize=size, layout="constrained" if named else None)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        if not named:
            _place(figure, size, columns)
        draw(axes)
        how: dict[str, Any] = {"metadata": {"Date": None, "Creator": None}} if form == "svg" else {"facecolor": "white"}
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # text stays text, and the reader's fonts have more
            figure.savefig(file, format=form, **how)
    return file.getvalue()


def _place(figure: Any, size: Size, columns: int) -> None:
    """Leaves room for numbers and labels around axes."""
    width, height = size
    before, behind, below, above, between = _MARGINS
    axis = (width - before - behind - (columns - 1) * between) / columns
    figure.subplots_adjust(before / width, below / height, 1 - behind / width, 1 - above / height, between / axis)
