"""Sequences on the map and in depth, by what is drawn; how it looks was looked at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import repeating
from pictures import kept_figures

import specufex_dask as sx
from specufex_dask import figures_sequences

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, kept before they become pictures."""
    return kept_figures(monkeypatch, "sequences")


def _found(n_sequences: int, *, alone: int = 0) -> tuple[xr.Dataset, xr.Dataset]:
    """Sequences of three events every two kilometres to the north, the deeper the further, and events between them."""
    cluster = np.append(np.repeat(np.arange(n_sequences), 3), np.full(alone, -1))
    north = np.append(cluster[: 3 * n_sequences] * 2000.0, 1000.0 + 2000.0 * np.arange(alone))
    catalog = repeating.catalog(north, 2.0, depth_m=4000 + north / 10)
    return sx.find_repeaters(repeating.merged(cluster), catalog), catalog


def _dots(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    others, sequences = (np.asarray(each.get_offsets()) for each in ax.collections)
    return others, sequences[np.argsort(sequences[:, -1])]


def test_sequences_lie_where_their_events_are(drawn: list[Figure]) -> None:
    repeaters, catalog = _found(4, alone=2)
    panel = figures_sequences.sequences_in_place(repeaters, catalog)
    assert panel is not None
    above, section, colours = drawn[0].axes
    others, sequences = _dots(above)
    np.testing.assert_allclose(sequences[:, 1], [-3, -1, 1, 3], atol=0.01)
    np.testing.assert_allclose(sequences[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(others[:, 1], [-2, 0], atol=0.01)
    _, deep = _dots(section)
    np.testing.assert_allclose(deep[:, 1], [4.0, 4.2, 4.4, 4.6])
    np.testing.assert_allclose(np.abs(np.diff(deep[:, 0])), 2, atol=0.01)
    assert (above.get_ylabel(), section.get_ylabel()) == ("north of 36.0270° N (km)", "depth (km)")
    assert (section.get_xlabel(), colours.get_ylabel()) == ("distance along strike (km)", "mean interval (years)")
    assert section.get_ylim()[0] > section.get_ylim()[1], "down is down"
    assert "at the mean of their events in the catalogue" in panel.caption
    assert re.search(r"along their strike, 0 degrees east of north; the scale of depth is \S+ times", panel.caption)
    assert panel.alt == "4 sequences within 0 by 6.01 km, 4 to 4.6 km deep."


def test_a_relocation_moves_the_sequences_and_may_lose_some(drawn: list[Figure]) -> None:
    repeaters, catalog = _found(3)
    moved = catalog.isel(event=np.arange(8)).assign(depth=("event", np.array([5, 6, 7, 8, 8, 8, np.nan, np.nan])))
    moved["latitude"] = moved.latitude.where(moved.depth.notnull())
    panel = figures_sequences.sequences_in_place(repeaters, catalog, moved)
    assert panel is not None
    _, deep = _dots(drawn[0].axes[1])
    assert deep[:, 1].tolist() == [6000.0, 8000.0], "metres within two kilometres"
    assert "at the mean of their relocated events" in panel.caption
    assert panel.caption.endswith(" 1 sequence without a place.")


def test_of_many_other_events_some_are_drawn(drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_sequences, "_POINTS", 5)
    repeaters, catalog = _found(2, alone=20)
    panel = figures_sequences.sequences_in_place(repeaters, catalog)
    assert panel is not None
    assert "Of the others about 5 are drawn, evenly picked." in panel.caption
    assert len(_dots(drawn[0].axes[0])[0]) == 5


def test_the_strike_is_where_sequences_spread_most() -> None:
    away = np.linspace(-3, 3, 20)
    for azimuth in (0.0, 30.0, 90.0, 140.0):
        angle = np.radians(azimuth)
        points = figures_sequences._Points(away * np.sin(angle), away * np.cos(angle), np.zeros(20))
        assert np.degrees(figures_sequences._strike(points)) % 180 == pytest.approx(azimuth, abs=1e-6)
        np.testing.assert_allclose(np.ptp(points.along(angle)), 6)


def test_without_a_sequence_there_is_no_figure() -> None:
    catalog = repeating.catalog([0, 900], 2.0)
    repeaters = sx.find_repeaters(repeating.merged([0, 1]), catalog)
    assert figures_sequences.sequences_in_place(repeaters, catalog) is None
