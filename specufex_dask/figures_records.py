"""Figures of typical records, through the chain: waveform, spectrogram, states, fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import (
    TEXT,
    Array,
    Margins,
    Panel,
    cluster_colour,
    cluster_name,
    colour_bar,
    edges,
    grid,
    image,
    label,
    note,
    png,
    round_ticks,
)
from specufex_dask.figures_clusters import fingerprint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

_HEIGHTS = {"waveform": 0.75, "spectrogram": 1.15, "state_sequence": 0.85, "fingerprint": 1.7}
_BARS = {"spectrogram": "level (dB)", "fingerprint": "fingerprint (1)"}
_TEXTS = {
    "waveform": "the waveform; ",
    "spectrogram": "the spectrogram, in dB above the record's own median; ",
    "state_sequence": "the most probable state of each frame; ",
    "fingerprint": "the fingerprint, which is what was clustered; ",
}


@dataclass(frozen=True)
class Typical:
    """One record and what the chain made of it; a part that could not be had is None."""

    event_id: str
    station_id: str
    cluster: int
    distance: float
    waveform: Array | None = None
    spectrogram: Array | None = None
    state_sequence: Array | None = None
    fingerprint: Array | None = None


@dataclass(frozen=True)
class Scales:
    """The axes that all typical records share: time [s after the first sample], frequency [Hz], levels."""

    time: Array
    frequency: Array
    sampling_rate: float
    states: int
    top_level: float
    top_fingerprint: float
    units: str = "counts"

    def span(self, samples: int) -> tuple[float, float]:
        """First and last time to draw [s]: the whole waveform, or the frames where there is none."""
        return (0.0, samples / self.sampling_rate) if samples else edges(self.time)


def typical_records(records: list[Typical], scales: Scales) -> Panel:
    """A column a record: waveform, spectrogram, state sequence and fingerprint, as far as known."""
    parts = [part for part in _HEIGHTS if any(getattr(record, part) is not None for record in records)]
    heights = [_HEIGHTS[part] for part in parts]
    gaps = [0.46 if part == "fingerprint" else 0.1 for part in parts[1:]]
    margins = Margins(left=0.66, right=0.78, top=0.36, across=0.16)
    figure, axes = grid(6.8, heights, columns=3, margins=margins, gaps=gaps)
    _hide(axes, len(records))
    timed = [part for part in parts if part != "fingerprint"]
    for part, row in zip(parts, axes, strict=True):
        drawn = [_DRAW[part](ax, record, scales) for ax, record in zip(row, records, strict=False)]
        if part in _BARS and drawn[-1] is not None:
            colour_bar(row[len(records) - 1], drawn[-1], _BARS[part])
        _name_axes(part, row, last=part == timed[-1] if timed else False)
    for ax, record in zip(axes[0], records, strict=False):
        note(ax, 0.5, 1.0, f"{record.event_id}\n{record.station_id}", ha="center", va="bottom", fontsize=TEXT - 1)
    return _panel(records, parts, png(figure))


def _panel(records: list[Typical], parts: list[str], picture: bytes) -> Panel:
    cluster = records[0].cluster
    named = ", ".join(f"{record.event_id} at {record.station_id}" for record in records)
    spread = ", ".join(f"{record.distance:.3f}" for record in records)
    return Panel(
        f"Typical records of {cluster_name(cluster)}",
        "The records nearest to the mean fingerprint of the cluster, each of another event, a column each. From the "
        f"top: {''.join(_TEXTS[part] for part in parts)}distance to the mean fingerprint {spread} (1).",
        f"Typical records of {cluster_name(cluster)}: {named}.",
        picture,
        wide=True,
    )


def _hide(axes: list[list[Axes]], used: int) -> None:
    for row in axes:
        for ax in row[used:]:
            ax.set_visible(False)


_NAMES = {
    "waveform": "waveform /\nlargest (1)",
    "spectrogram": "frequency (Hz)",
    "state_sequence": "state (number)",
    "fingerprint": "state (number)",
}


def _name_axes(part: str, row: list[Axes], *, last: bool) -> None:
    label(row[0], y=_NAMES[part])
    for column, ax in enumerate(row):
        if column:
            ax.tick_params(labelleft=False)
        if part == "fingerprint":
            label(ax, x="next state (number)")
        elif last:
            label(ax, x="time (s)")
        else:
            ax.tick_params(labelbottom=False)


def _draw_waveform(ax: Axes, record: Typical, scales: Scales) -> None:
    if record.waveform is None:
        return
    largest = float(np.nanmax(np.abs(record.waveform))) or 1.0
    time = np.arange(record.waveform.size) / scales.sampling_rate
    ax.plot(time, record.waveform / largest, color=cluster_colour(record.cluster), linewidth=0.5)
    ax.set_ylim(-1.1, 1.1)
    ax.set_yticks([-1, 0, 1])
    ax.set_xlim(scales.span(record.waveform.size))
    height = f"{largest:,.0f}" if largest >= 100 else f"{largest:.3g}"  # noqa: PLR2004 - three digits either way
    note(ax, 0.98, 0.0, f"largest {height} {scales.units}", ha="right", va="bottom", fontsize=TEXT - 2)


def _draw_spectrogram(ax: Axes, record: Typical, scales: Scales) -> ScalarMappable | None:
    if record.spectrogram is None:
        return None
    drawn = image(ax, record.spectrogram, scales.time, scales.frequency, vmin=0, vmax=scales.top_level)
    ax.set_xlim(scales.span(0 if record.waveform is None else record.waveform.size))
    return drawn


def _draw_state_sequence(ax: Axes, record: Typical, scales: Scales) -> None:
    if record.state_sequence is None:
        return
    first, last = edges(scales.time)
    borders = np.linspace(first, last, scales.time.size + 1)
    ax.stairs(record.state_sequence, borders, baseline=None, color=cluster_colour(record.cluster), linewidth=1.3)
    ax.set_xlim(scales.span(0 if record.waveform is None else record.waveform.size))
    ax.set_ylim(scales.states - 0.5, -0.5)
    ax.set_yticks(round_ticks(scales.states, 5))


def _draw_fingerprint(ax: Axes, record: Typical, scales: Scales) -> ScalarMappable | None:
    if record.fingerprint is None:
        return None
    return fingerprint(ax, record.fingerprint, record.cluster, scales.top_fingerprint)


_DRAW = {
    "waveform": _draw_waveform,
    "spectrogram": _draw_spectrogram,
    "state_sequence": _draw_state_sequence,
    "fingerprint": _draw_fingerprint,
}
