"""What all figures of the report share: size, type, colours, and the step from a figure to a PNG.

Figures are built as objects on the Agg canvas; nothing here reads or changes pyplot's global state,
so reports may be made in threads.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = np.ndarray[Any, Any]

UNUSABLE = -1
"""Cluster of the records that could not be used."""

SHOWN = 15
"""Clusters that figures show at most: the largest."""

GREY = "#8a8a8a"
INK = "#222222"
DPI = 150
TEXT = 8.5
MAP = "viridis"

_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#332288",
    "#44AA99",
)
_MARKERS = "osD^v<>pPX"


@dataclass(frozen=True)
class Panel:
    """A finished figure: its PNG, what it is called, what it shows and how to read it."""

    title: str
    caption: str
    alt: str
    png: bytes
    wide: bool = False


def cluster_colour(cluster: int) -> str:
    """The colour of a cluster in every figure; -1 (unusable) is grey.

    Ten colours that stay apart for colour-blind readers; the eleventh cluster takes the first
    again, with another marker.

    >>> cluster_colour(0), cluster_colour(-1)
    ('#0072B2', '#8a8a8a')
    """
    return GREY if cluster == UNUSABLE else _COLOURS[cluster % len(_COLOURS)]


def cluster_marker(cluster: int) -> str:
    """The marker of a cluster in scatter plots, so that colour is not the only sign."""
    turn = cluster + cluster // len(_COLOURS)
    return "x" if cluster == UNUSABLE else _MARKERS[turn % len(_MARKERS)]


def cluster_name(cluster: int) -> str:
    """How a cluster is called in legends and tables."""
    return "unusable" if cluster == UNUSABLE else f"cluster {cluster}"


def cluster_map(cluster: int) -> LinearSegmentedColormap:
    """A colour map from white over the cluster's colour to nearly black, for its fingerprints."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    middle = np.array(to_rgb(cluster_colour(cluster)))
    return LinearSegmentedColormap.from_list(f"cluster {cluster}", [(1, 1, 1), tuple(middle), tuple(0.25 * middle)])


@dataclass(frozen=True)
class Margins:
    """Room around and between the axes of a figure [inches]."""

    left: float = 0.6
    right: float = 0.12
    bottom: float = 0.46
    top: float = 0.1
    across: float = 0.15
    down: float = 0.12


def grid(
    width: float,
    heights: Sequence[float],
    *,
    columns: int = 1,
    margins: Margins = Margins(),
    gaps: Sequence[float] = (),
    sharex: bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure `width` inches wide with one row of axes for each of `heights` [inches].

    `gaps` [inches] are the rooms between the rows where they differ from the margins' ``down``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    gaps = [*(gaps or [margins.down] * (len(heights) - 1)), 0.0]
    height = sum(heights) + margins.top + margins.bottom + sum(gaps)
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    across = (width - margins.left - margins.right - margins.across * (columns - 1)) / columns
    rows: list[list[Axes]] = []
    y = height - margins.top
    for row_height, gap in zip(heights, gaps, strict=True):
        y -= row_height
        row: list[Axes] = []
        for column in range(columns):
            x = margins.left + column * (across + margins.across)
            shared = rows[0][column] if sharex and rows else None
            box = (x / width, y / height, across / width, row_height / height)
            row.append(_plain(figure.add_axes(box, sharex=shared)))
        rows.append(row)
        y -= gap
    if sharex:
        for row in rows[:-1]:
            for ax in row:
                ax.tick_params(labelbottom=False)
    return figure, rows


def _plain(ax: Axes) -> Axes:
    ax.tick_params(labelsize=TEXT, colors=INK, width=0.6, length=3)
    for side, spine in ax.spines.items():
        spine.set(linewidth=0.6, color=INK, visible=side in ("left", "bottom"))
    return ax


def label(ax: Axes, *, x: str = "", y: str = "") -> None:
    """Name the axes of `ax`, with units."""
    if x:
        ax.set_xlabel(x, fontsize=TEXT, color=INK, labelpad=2)
    if y:
        ax.set_ylabel(y, fontsize=TEXT, color=INK, labelpad=3)


@dataclass(frozen=True)
class Entry:
    """A line of a legend."""

    text: str
    colour: str
    marker: str = "s"


def count_axis(ax: Axes, largest: float, text: str) -> None:
    """Label the y axis of a count, in thousands or millions where the numbers would not fit."""
    from matplotlib.ticker import FuncFormatter

    scale, unit = next((s, u) for s, u in ((1, "number"), (1e3, "thousand"), (1e6, "million")) if largest < 2e4 * s)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:,g}"))
    label(ax, y=f"{text} ({unit})")


def legend_room(entries: Sequence[Entry]) -> float:
    """The room above the axes [inches] that a legend of these entries takes."""
    return 0.12 + 0.17 * -(-len(entries) // _columns(entries))


def _columns(entries: Sequence[Entry]) -> int:
    """Columns of a legend, at most four, so that its rows are equally full."""
    rows = max(1, -(-len(entries) // 4))
    return max(1, -(-len(entries) // rows))


def legend(ax: Axes, entries: Sequence[Entry]) -> None:
    """A legend above `ax`; an empty marker (triangle of a station) is drawn as an outline."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=entry.marker, markersize=5, color=entry.colour, label=entry.text,
               markerfacecolor="white" if entry.colour == INK else entry.colour)
        for entry in entries
    ]  # fmt: skip
    room = {"handlelength": 1, "handletextpad": 0.3, "borderaxespad": 0.1, "columnspacing": 1, "labelspacing": 0.3}
    ax.legend(
        handles=handles,
        fontsize=TEXT - 1,
        frameon=False,
        ncols=_columns(entries),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        **room,
    )


def plain_log(ax: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5 times each power of ten."""
    ax.set_yscale("log")
    _plain_numbers(ax, (1, 2, 5))


def _plain_numbers(ax: Axes, factors: tuple[float, ...]) -> None:
    """Plain numbers at these times each power of ten on a logarithmic y axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    ax.yaxis.set_major_locator(LogLocator(subs=factors))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())


def note(ax: Axes, x: float, y: float, text: str, **settings: Any) -> None:  # noqa: ANN401 - passed on to matplotlib
    """Write `text`, taken literally, at a place in fractions of `ax`."""
    style: dict[str, Any] = {"transform": ax.transAxes, "fontsize": TEXT, "color": INK, "parse_math": False}
    ax.text(x, y, text, **(style | settings))


def colour_bar(
    ax: Axes, drawn: ScalarMappable, text: str, *, gap: float = 0.08, width: float = 0.1, log: bool = False
) -> None:
    """A colour scale to the right of `ax`; `gap` and `width` in inches.

    A logarithmic one has plain numbers, and arrows for what lies beyond its ends.
    """
    figure = ax.figure
    across = figure.get_figure(root=True).get_figwidth()
    box = ax.get_position()
    bar = figure.add_axes((box.x1 + gap / across, box.y0, width / across, box.height))
    figure.colorbar(drawn, cax=bar, extend="both" if log else "neither")
    if log:
        _plain_numbers(bar, (1, 1.5, 2, 3, 5, 7))
    bar.tick_params(labelsize=TEXT - 0.5, colors=INK, width=0.6, length=2)
    bar.set_ylabel(text, fontsize=TEXT, color=INK, labelpad=2)
    for spine in bar.spines.values():
        spine.set_linewidth(0.4)


def image(ax: Axes, values: Array, x: Array, y: Array, **settings: Any) -> AxesImage:  # noqa: ANN401 - passed on to matplotlib
    """Draw `values` (y, x) at the evenly spaced centres `x` and `y`, the first row at the bottom."""
    style = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": MAP}
    return ax.imshow(values, extent=(*edges(x), *edges(y)), **(style | settings))


def edges(centres: Array) -> tuple[float, float]:
    """The outer edges of evenly spaced cells with these centres.

    >>> edges(np.array([0.5, 1.0, 1.5]))
    (0.25, 1.75)
    """
    half = 0.5 * float(centres[1] - centres[0]) if len(centres) > 1 else 0.5
    return float(centres[0]) - half, float(centres[-1]) + half


def at_most(values: Array, count: int) -> Array:
    """`values`, or `count` of them evenly picked in their order, first and last kept."""
    if len(values) <= count:
        return values
    return np.asarray(values[np.linspace(0, len(values) - 1, count).round().astype(int)])


def round_ticks(count: int, most: int) -> Array:
    """At most `most` whole numbers below `count`, in equal steps (1, 2, 5, 10, 20 and so on).

    >>> round_ticks(15, 4)
    array([ 0,  5, 10])
    """
    steps = (factor * 10**power for power in range(9) for factor in (1, 2, 5))
    step = next(step for step in steps if -(-count // step) <= most)
    return np.arange(0, count, step)


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes that depend on nothing but what is drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
