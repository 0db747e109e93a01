"""The figures of sequences, by what is drawn in them; how they look was looked at."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import repeating
from pictures import kept_figures

import specufex_dask as sx
from specufex_dask import figures_repeaters

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, kept before they become pictures."""
    return kept_figures(monkeypatch, "repeaters")


def _found(n_sequences: int, *, n_events: int = 3) -> tuple[xr.Dataset, xr.Dataset]:
    cluster = np.repeat(np.arange(n_sequences), n_events)
    north = cluster * 2000.0 + np.tile(np.arange(n_events), n_sequences)
    catalog = repeating.catalog(north, 1.5 + (cluster % 5) / 4)
    return sx.find_repeaters(repeating.merged(cluster), catalog), catalog


def test_every_event_of_a_sequence_is_on_its_line(drawn: list[Figure]) -> None:
    repeaters, catalog = _found(4)
    panel = figures_repeaters.sequences_over_time(repeaters, catalog)
    assert panel is not None
    assert panel.alt == "4 sequences of 3 to 3 events."
    lines, dots = drawn[0].axes[0].collections
    days = (catalog.origin_time.values.astype("datetime64[s]").astype(int) / 86_400).tolist()
    placed = [tuple(each) for each in np.asarray(dots.get_offsets()).tolist()]
    assert sorted(placed) == sorted(zip(days, repeaters.sequence.values.tolist(), strict=True))
    assert len(lines.get_paths()) == 4
    width, height = struct.unpack(">II", panel.png[16:24])
    assert width > height > 100


def test_sequences_are_ordered_by_their_mean_interval(drawn: list[Figure]) -> None:
    """Of the second sequence events lie a year apart, of the first two."""
    catalog = repeating.catalog([0, 2000, 0, 2000, 0, 2000, 0], 2.0)
    repeaters = sx.find_repeaters(repeating.merged([0, 1, 0, -1, 0, 1, 0]), catalog)
    late = repeaters.assign(recurrence=("sequence_id", [730.5, 365.25]))
    assert figures_repeaters.sequences_over_time(late, catalog) is not None
    ax = drawn[0].axes[0]
    assert [each.get_text() for each in ax.get_yticklabels()] == ["1", "0"]
    assert [each.get_text() for each in ax.texts] == ["mean interval\n(years)", "1.0", "2.0"]
    lines = np.asarray(ax.collections[1].get_offsets())[:, 1].tolist()
    assert sorted(lines) == [0, 0, 1, 1, 1, 1]


def test_of_many_sequences_the_largest_are_shown() -> None:
    panel = figures_repeaters.sequences_over_time(*_found(70))
    assert panel is not None
    assert "The 60 largest of 70 sequences are shown." in panel.caption


def test_intervals_are_drawn_against_moments_with_the_line(drawn: list[Figure]) -> None:
    repeaters, _ = _found(6)
    panel = figures_repeaters.recurrence_against_moment(repeaters)
    assert panel is not None
    ax = drawn[0].axes[0]
    open_ones, full, bursts = (np.asarray(each.get_offsets()) for each in ax.collections)
    assert len(open_ones) == len(bursts) == 0
    np.testing.assert_allclose(full[:, 0], repeaters.moment)
    np.testing.assert_allclose(full[:, 1], repeaters.recurrence / 365.25)
    x, y = (np.log10(np.asarray(values, dtype=float)) for values in ax.lines[0].get_data())
    np.testing.assert_allclose(np.diff(y) / np.diff(x), 0.17)
    assert y[0] + np.log10(365.25 * 86_400) == pytest.approx(4.85 + 0.17 * x[0])
    pairs = figures_repeaters.recurrence_against_moment(_found(3, n_events=2)[0], loading_rate=2.5)
    assert pairs is not None
    assert "scaled to a fault loaded at 2.5 cm a year" in pairs.caption
    assert "0 with three events or more" in pairs.alt


def test_bursts_are_drawn_at_the_edge(drawn: list[Figure]) -> None:
    repeaters, _ = _found(3)
    panel = figures_repeaters.recurrence_against_moment(
        repeaters.assign(recurrence=("sequence_id", [365.25, 0.01, 1000.0]))
    )
    assert panel is not None
    (bursts,) = np.asarray(drawn[0].axes[0].collections[2].get_offsets())
    assert bursts[0] == repeaters.moment[1]
    assert 0.02 < bursts[1] < 0.2
    assert "Triangles at the edge: 1 sequence of intervals below 0.0" in panel.caption


def test_nothing_to_draw_is_no_figure() -> None:
    catalog = repeating.catalog([0, 900], 2.0)
    repeaters = sx.find_repeaters(repeating.merged([0, 1]), catalog)
    assert figures_repeaters.sequences_over_time(repeaters, catalog) is None
    assert figures_repeaters.recurrence_against_moment(repeaters) is None
