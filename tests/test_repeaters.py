"""Sequences of repeating earthquakes found in clusters, against the rules taken literally and the published ones."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import repeating
import xarray as xr

import specufex_dask as sx
from specufex_dask.patches import Criteria, Sources
from specufex_dask.rupture import source_radius
from specufex_dask.validation import VERDICTS, verdicts

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

RADIUS = float(source_radius(np.array(2.0)))
"""Of magnitude 2: 52.6 m."""


def _verdicts(repeaters: xr.Dataset) -> list[str]:
    return [VERDICTS[code] for code in repeaters.verdict.values]


def _settled(north: Array, magnitude: Array, members: list[int]) -> list[int]:
    """The rules of one cluster, one event at a time, all events on one meridian."""

    def fit(magnitudes: list[float], middle: float, radii: float = 2) -> list[int]:
        size = float(np.median(magnitudes))
        reach = radii * float(source_radius(np.array(size)))
        near = [i for i in members if abs(north[i] - middle) <= reach]
        return [i for i in near if abs(magnitude[i] - size) <= 0.3 + 1e-6]

    size = np.median(magnitude[members])
    kept = [i for i in members if abs(magnitude[i] - size) <= 0.3 + 1e-6]
    if not kept:
        return []
    away = np.abs(north[kept] - np.median(north[kept])).round(3)
    kept = fit(magnitude[kept].tolist(), float(north[kept[int(away.argmin())]]), radii=4)
    for number in range(100):
        if not kept:
            return []
        found = fit(magnitude[kept].tolist(), float(north[kept].mean()))
        if number >= 20:
            found = [i for i in found if i in kept]
        if found == kept:
            break
        kept = found
    return kept if len(kept) >= 2 else []


@pytest.mark.parametrize("seed", range(5))
def test_validation_is_the_rule_taken_literally(seed: int) -> None:
    rng = np.random.default_rng(seed)
    north, magnitude = rng.normal(0, 80, 400), rng.normal(2, 0.25, 400).round(2)
    cluster = rng.integers(-1, 60, 400)
    sources = Sources.of_catalog(repeating.catalog(north, magnitude), use_depth=True)
    found = verdicts(cluster, sources, Criteria()) == 0
    literal = [i for k in range(60) for i in _settled(north, magnitude, np.flatnonzero(cluster == k).tolist())]
    assert np.flatnonzero(found).tolist() == sorted(literal)
    assert 50 < found.sum() < 350
    assert (verdicts(np.where(found, cluster, -1), sources, Criteria())[found] == 0).all(), "what passed passes again"


def test_magnitudes_are_bounded_on_both_sides() -> None:
    catalog = repeating.catalog(np.zeros(6), [2.0, 2.3, 1.7, 2.31, 1.69, 2.0])
    repeaters = sx.find_repeaters(repeating.merged(np.zeros(6)), catalog)
    assert _verdicts(repeaters) == ["in_sequence"] * 3 + ["other_magnitude"] * 2 + ["in_sequence"]
    wide = sx.find_repeaters(repeating.merged(np.zeros(6)), catalog, magnitude_window=0.4)
    assert wide.n_events.values.tolist() == [6]


def test_ruptures_that_do_not_overlap_are_left_out() -> None:
    catalog = repeating.catalog([0, 10, -10, 1.9 * RADIUS, 4 * RADIUS], 2.0)
    repeaters = sx.find_repeaters(repeating.merged(np.zeros(5)), catalog)
    assert _verdicts(repeaters) == ["in_sequence"] * 4 + ["too_far"]
    weak = sx.find_repeaters(repeating.merged(np.zeros(5)), catalog, stress_drop=1.0)
    assert weak.n_events.values.tolist() == [5], "a low stress drop makes sources large"
    near = sx.find_repeaters(repeating.merged(np.zeros(5)), catalog, n_radii=1.0)
    assert near.n_events.values.tolist() == [3]


def test_depth_counts_unless_it_is_not_to() -> None:
    catalog = repeating.catalog(np.zeros(4), 2.0, depth_m=[5000, 5010, 4990, 5200])
    assert _verdicts(sx.find_repeaters(repeating.merged(np.zeros(4)), catalog))[3] == "too_far"
    flat = sx.find_repeaters(repeating.merged(np.zeros(4)), catalog, use_depth=False)
    assert flat.sequence.values.tolist() == [0, 0, 0, 0]


def test_strangers_do_not_shift_the_patch() -> None:
    """A mean of all places lies 2 km from every event, and of all magnitudes 0.4 from the five."""
    catalog = repeating.catalog([0, 5, -5, 8, 3, 6000, 5000], [2.0, 2.1, 1.9, 2.0, 2.0, 3.4, 3.4])
    repeaters = sx.find_repeaters(repeating.merged(np.zeros(7)), catalog)
    assert repeaters.sequence.values.tolist() == [0] * 5 + [-1] * 2


def test_places_are_right_at_the_date_line() -> None:
    longitude = [179.9999, -179.9999, 179.9999, -179.9]
    catalog = repeating.catalog(np.zeros(4), 2.0, longitude=longitude)
    assert sx.find_repeaters(repeating.merged(np.zeros(4)), catalog).sequence.values.tolist() == [0, 0, 0, -1]


def test_sequences_are_numbered_by_size_and_every_event_has_its_verdict() -> None:
    north = [0, 1000, 1005, 1010, 5, 3000, 0, 0, np.nan]
    catalog = repeating.catalog(np.nan_to_num(north), [2, 2, 2, 2, 2, 2, 2, np.nan, 2])
    repeaters = sx.find_repeaters(repeating.merged([1, 0, 0, 0, 1, 2, -1, 1, 3]), catalog)
    assert repeaters.sequence.values.tolist() == [1, 0, 0, 0, 1, -1, -1, -1, -1]
    assert _verdicts(repeaters) == [
        *["in_sequence"] * 5, "too_few", "no_cluster", "no_place", "too_few",
    ]  # fmt: skip
    np.testing.assert_allclose(repeaters.radius.values[:7], RADIUS)
    assert repeaters.recurrence.values.tolist() == [365.0, 4 * 365.0]
    assert repeaters.verdict.attrs["flag_meanings"].split() == list(VERDICTS)


def test_that_number_is_taken_that_lets_most_events_pass() -> None:
    """Two clusters mix two places, four part them, six tear them."""
    catalog = repeating.catalog([0, 5, 10, 15, 900, 905, 910, 915], 2.0)
    labels = [[0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 2, 3, 4, 5, 5]]
    repeaters = sx.find_repeaters(repeating.station("XX.A..Z", labels), catalog)
    assert json.loads(repeaters.attrs["n_clusters"]) == {"XX.A..Z": 2}
    assert repeaters.sequence.values.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_stations_are_united() -> None:
    catalog = repeating.catalog([0, 5, 10, 15, 20, 25], 2.0)
    stations = [
        repeating.station("XX.A..Z", [[0, 0, 0, 1, 2]], [0, 1, 2, 3, 4]),
        repeating.station("XX.B..Z", [[0, 1, 1, 2]], [1, 2, 3, 5]),
        repeating.station("XX.C..Z", [[0, 0, 0]], [0, 1, 5]),
    ]
    union = sx.find_repeaters(stations, catalog)
    assert union.sequence.values.tolist() == [0, 0, 0, 0, -1, 0]
    assert sx.find_repeaters(stations, catalog, min_stations=2).sequence.values.tolist() == [0, 0, -1, -1, -1, -1]
    assert _verdicts(union)[4] == "too_few"
    both = xr.concat(stations[:2], dim="record", data_vars="minimal", coords="minimal", compat="override")
    both = both.assign_attrs(stations[0].attrs)
    assert sx.find_repeaters(both, catalog).sequence.values.tolist() == [0, 0, 0, 0, -1, -1]


def test_what_links_chain_is_validated_as_a_whole() -> None:
    catalog = repeating.catalog(np.arange(5) * 1.5 * RADIUS, 2.0)
    chain = [repeating.station(f"XX.{n}..Z", [[0, 0]], [n, n + 1]) for n in range(4)]
    assert sx.find_repeaters(chain, catalog).sequence.values.tolist() == [-1, 0, 0, 0, -1]


def _ring(events: list[int], value: float, station: str = "XX.A..Z") -> list[tuple[int, int, str, float]]:
    return [(one, two, station, value) for i, one in enumerate(events) for two in events[i + 1 :]]


def test_neighbours_that_are_alike_join() -> None:
    """A correlation above 0.9, or above the cluster's own, is needed, and place and size as well."""
    catalog = repeating.catalog([0, 5, 10, 15, 20, 4 * RADIUS, 8], [2, 2, 2, 2, 2, 2, 2.5])
    rows = _ring([0, 1, 2], 0.8)
    rows += [(3, i, "XX.A..Z", 0.85) for i in range(3)] + [(i, 4, "XX.A..Z", 0.75) for i in range(3)]
    rows += [(i, j, "XX.A..Z", 0.99) for i in range(3) for j in (5, 6)]
    label = repeating.merged([0, 0, 0, -1, -1, -1, -1])
    repeaters = sx.find_repeaters(label, catalog, correlations=repeating.correlations(rows))
    assert repeaters.sequence.values.tolist() == [0, 0, 0, 0, -1, -1, -1]
    np.testing.assert_allclose(repeaters.correlation.values[[0, 3]], [0.8, 0.85], rtol=1e-6)
    eager = sx.find_repeaters(label, catalog, correlations=repeating.correlations(rows), expand_above=0.7)
    assert eager.sequence.values.tolist() == [0, 0, 0, 0, 0, -1, -1]


def test_an_event_joins_the_cluster_that_it_is_most_like() -> None:
    catalog = repeating.catalog([0, 5, 60, 65, 30], 2.0)
    rows = [*_ring([0, 1], 0.9), *_ring([2, 3], 0.9)]
    rows += [(0, 4, "XX.A..Z", 0.92), (1, 4, "XX.A..Z", 0.93), (2, 4, "XX.A..Z", 0.95), (3, 4, "XX.A..Z", 0.97)]
    label = repeating.merged([0, 0, 1, 1, -1])
    repeaters = sx.find_repeaters(label, catalog, correlations=repeating.correlations(rows))
    assert repeaters.sequence.values.tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("away", "magnitude", "correlation", "one"),
    [(0.8, 2.1, 0.96, 1), (1.2, 2.1, 0.96, 2), (0.8, 2.4, 0.96, 2), (0.8, 2.1, 0.94, 2)],
)
def test_clusters_of_one_patch_become_one(away: float, magnitude: float, correlation: float, one: int) -> None:
    """The largest event of each is its template, of equally large ones the last."""
    north = [0, 2, away * RADIUS, away * RADIUS + 2]
    catalog = repeating.catalog(north, [1.9, 2.0, magnitude, magnitude])
    rows = [*_ring([0, 1], 0.9), *_ring([2, 3], 0.9), (1, 3, "XX.A..Z", correlation), (0, 2, "XX.A..Z", 0.5)]
    found = sx.find_repeaters(repeating.merged([0, 0, 1, 1]), catalog, correlations=repeating.correlations(rows))
    assert found.sizes["sequence_id"] == one


def test_a_station_goes_by_its_own_correlations_and_without_them_by_size_and_place_alone() -> None:
    """Unusable correlations count for nothing, and of the phases of a pair the median does."""
    catalog = repeating.catalog([0, 5, 10, 15], 2.0)
    stations = [repeating.station(f"XX.{name}..Z", [[0, 0, -1, -1]]) for name in "AB"]
    rows = [(0, 1, "XX.B..Z", 0.8), *[(i, 2, "XX.B..Z", value) for i in (0, 1) for value in (0.7, 0.95, 0.99)]]
    rows += [(i, 3, "XX.C..Z", 0.99) for i in (0, 1)]
    known = repeating.correlations(rows)
    assert sx.find_repeaters(stations[0], catalog, correlations=known).sequence.values.tolist() == [0, 0, -1, -1]
    assert sx.find_repeaters(stations, catalog, correlations=known).sequence.values.tolist() == [0, 0, 0, -1]
    useless = known.assign(quality=known.quality + 1)
    assert sx.find_repeaters(stations, catalog, correlations=useless).sequence.values.tolist() == [0, 0, -1, -1]


def test_correlations_part_what_is_not_alike() -> None:
    """Of a pair the median of phases and stations counts: one station alike by chance links nobody."""
    catalog = repeating.catalog([0, 2, 4, 6, 8], 2.0)
    rows = [(0, 1, "XX.A..Z", 0.96), (0, 1, "XX.B..Z", 0.97), (0, 1, "XX.C..Z", 0.2)]
    rows += [(2, 3, "XX.A..Z", 0.98), (1, 2, "XX.A..Z", 0.3), (1, 2, "XX.A..Z", 0.99), (3, 4, "XX.A..Z", 0.4)]
    settings: dict[str, Any] = {"correlations": repeating.correlations(rows), "min_correlation": 0.95}
    one = sx.find_repeaters(repeating.merged(np.zeros(5)), catalog, **settings, converge_above=1.0)
    assert one.sequence.values.tolist() == [0, 0, 1, 1, -1]
    two = sx.find_repeaters(repeating.merged(np.zeros(5)), catalog, **settings, min_correlated_stations=2)
    assert two.sequence.values.tolist() == [0, 0, -1, -1, -1]
    assert _verdicts(two)[2:] == ["not_alike"] * 3


def test_what_the_union_has_left_out_joins_what_it_is_like() -> None:
    """Event 2 has no cluster at any station; event 3 is alike as well, but too far away, and 4 not alike."""
    catalog = repeating.catalog([0, 5, 10, 5 * RADIUS, 15], 2.0)
    stations = [repeating.station("XX.A..Z", [[0, 0]], [0, 1]), repeating.station("XX.B..Z", [[0, 0]], [0, 1])]
    rows = [(0, 1, "XX.A..Z", 0.97), (0, 1, "XX.B..Z", 0.97)]
    rows += [(i, 2, f"XX.{name}..Z", value) for i in (0, 1) for name, value in (("A", 0.5), ("B", 0.96), ("C", 0.99))]
    rows += [(i, 3, "XX.C..Z", 0.99) for i in (0, 1)] + [(i, 4, "XX.C..Z", 0.9) for i in (0, 1)]
    correlations = repeating.correlations(rows)
    found = sx.find_repeaters(stations, catalog, correlations=correlations, min_correlation=0.95, expand_above=1.0)
    assert found.sequence.values.tolist() == [0, 0, 0, -1, -1]
    assert _verdicts(found) == ["in_sequence"] * 3 + ["no_cluster"] * 2
    without = sx.find_repeaters(stations, catalog, correlations=correlations, expand_above=1.0)
    assert without.sequence.values.tolist() == [0, 0, -1, -1, -1]


def test_the_stage_is_saved_and_loaded(tmp_path: Path) -> None:
    catalog = repeating.catalog([0, 5, 900, 905], 2.0)
    found = sx.find_repeaters(
        repeating.merged([0, 0, 1, 1]), catalog, reference=repeating.reference(["a", "a", "", ""])
    )
    sx.save(found, tmp_path / "s.zarr")
    again = sx.load(tmp_path / "s.zarr", "repeaters").compute()
    xr.testing.assert_identical(again.drop_attrs(), found.drop_attrs())
    assert again.attrs == found.attrs
    none = sx.find_repeaters(repeating.merged([0, 1, 2, 3]), catalog)
    sx.save(none, tmp_path / "none.zarr")
    assert sx.load(tmp_path / "none.zarr", "repeaters").sizes["sequence_id"] == 0
    other = sx.find_repeaters(repeating.merged([0, 0, 1, 1]), catalog, magnitude_window=0.2)
    assert other.attrs["recipe_id"] != found.attrs["recipe_id"]


def test_four_times_the_events_take_about_four_times_as_long() -> None:
    def seconds(n_events: int) -> float:
        rng = np.random.default_rng(0)
        family = rng.integers(0, n_events // 5, n_events)
        catalog = repeating.catalog(family * 30.0 + rng.normal(0, 15, n_events), rng.normal(2, 0.2, n_events))
        labels = np.where(rng.random((2, n_events)) < 0.9, family, -1)
        station = repeating.station("XX.A..Z", labels)
        start = time.process_time()
        sx.find_repeaters(station, catalog)
        return time.process_time() - start

    seconds(2_000)
    assert seconds(80_000) < 9 * seconds(20_000)


def test_wrong_inputs_are_named() -> None:
    catalog, label = repeating.catalog([0, 5], 2.0), repeating.merged([0, 0])
    stranger = repeating.station("XX.A..Z", [[0, 0]], [0, 7])
    with pytest.raises(ValueError, match=r"got clusters of events that the catalogue does not hold, such as 'e7'"):
        sx.find_repeaters(stranger, catalog)
    with pytest.raises(ValueError, match=r"got the event 'e1' twice at XX.A..Z, expected one record of an event"):
        sx.find_repeaters(repeating.station("XX.A..Z", [[0, 0]], [1, 1]), catalog)
    one = repeating.station("XX.A..Z", [[0, 0]])
    with pytest.raises(ValueError, match=r"got two Datasets with clusters of 'XX.A..Z', expected one"):
        sx.find_repeaters([one, one], catalog)
    with pytest.raises(ValueError, match=r"got min_stations=2 with clusters of 1 stations, expected at most as many"):
        sx.find_repeaters(label, catalog, min_stations=2)
    with pytest.raises(ValueError, match=r"got min_events=1, expected 2 or more"):
        sx.find_repeaters(label, catalog, min_events=1)
    with pytest.raises(ValueError, match=r"got stress_drop=0, expected bars above 0"):
        sx.find_repeaters(label, catalog, stress_drop=0)
    with pytest.raises(ValueError, match=r"got a catalogue without any magnitude, expected that of most events"):
        sx.find_repeaters(label, repeating.catalog([0, 5], np.nan))
    with pytest.raises(ValueError, match=r"got no Dataset, expected the stage clusters of one station or more"):
        sx.find_repeaters([], catalog)
    with pytest.raises(ValueError, match=r"got a Dataset of stage 'catalog', expected 'clusters'"):
        sx.find_repeaters(catalog, catalog)
    with pytest.raises(ValueError, match=r"got a reference with \['event_id', 'family'\], expected event_id and seq"):
        sx.find_repeaters(label, catalog, reference=repeating.reference([0, 0]).rename(sequence="family"))
    with pytest.raises(ValueError, match=r"got a reference with the event 'e0' twice, expected each event once"):
        sx.find_repeaters(label, catalog, reference=repeating.reference([0, 0], [0, 0]))
