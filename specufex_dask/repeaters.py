"""From clusters of similar records to sequences of repeating earthquakes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import schema
from specufex_dask.blocks import run_tasks
from specufex_dask.comparison import Comparison, compare_sequences, reference_sequences
from specufex_dask.kernels.groups import numbered
from specufex_dask.kernels.linking import linked
from specufex_dask.patches import Criteria, Sources
from specufex_dask.recipe import stamp
from specufex_dask.rupture import source_radius
from specufex_dask.sequences import sequence_table
from specufex_dask.similarity import Measured, expanded
from specufex_dask.station_sequences import Found, Waveforms, judged, require_clusters, tried_at
from specufex_dask.validation import IN_SEQUENCE, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]


def find_repeaters(
    clusters: xr.Dataset | dict[str, xr.Dataset] | Sequence[xr.Dataset],
    catalog: xr.Dataset,
    *,
    correlations: xr.Dataset | None = None,
    relocation: xr.Dataset | None = None,
    reference: xr.Dataset | None = None,
    magnitude_window: float = 0.3,
    stress_drop: float = 30.0,
    n_radii: float = 2.0,
    use_depth: bool = True,
    min_events: int = 2,
    min_stations: int = 1,
    expand_above: float = 0.9,
    converge_above: float = 0.95,
    min_correlation: float | None = None,
    min_correlated_stations: int = 1,
    relocated_radii: float = 1.0,
    min_error: float = 10.0,
) -> xr.Dataset:
    r"""Find the sequences of earthquakes that ruptured one patch of a fault again and again.

    The steps and defaults are those of Sawi et al. (2023) at the San Andreas fault, at any size:

    1. **Validation.** Of a cluster remain the events whose magnitudes lie within `magnitude_window`
       of their median, above or below, and whose hypocentres lie within `n_radii` source radii of
       their centroid, if these are `min_events`. The radius is that of the median magnitude, for
       a circular rupture of a constant `stress_drop`: (7 M0 / 16 Δσ)^(1/3), M0 = 10^(1.5 M + 16).
    2. **Expansion**, with `correlations`: an event without a cluster joins one that it fits in size
       and place, if the median of its correlations there exceeds the one of the events among
       themselves, or `expand_above`.
    3. Of the numbers of clusters tried at a station that one is taken of which the most events pass.
    4. **Convergence**, with `correlations`: clusters become one if their magnitudes differ by
       `magnitude_window` at most, their centroids lie less than a source radius apart and their
       templates, the largest events, correlate by `converge_above`.
    5. **Union**: events that share a sequence at `min_stations` stations are linked, and so are
       those of a sequence of the `reference`; the connected components are validated once more,
       and what links have chained is parted into its patches.
       With a `relocation` this is done with relocated places: ruptures overlap where an event
       lies within `relocated_radii` radii, and the error of its place, of the centroid.

    With `min_correlation` the `correlations` decide as well, before each validation: events stay
    together where pairs connect them whose correlation is so good in the median of P and S and of
    the stations. So clusters may be coarse, and propose rather than decide. An event that
    the union has left out then joins the sequence that it fits and is so much like.

    Parameters
    ----------
    clusters
        What `cluster_stations` or `cluster_fingerprints` returns, with all numbers of clusters
        tried; or what `merge_stations` or `find_repeaters` itself did, whose clusters or
        sequences are then taken as they are, such as after a relocation.
    catalog
        The events, with their magnitudes, in whose order the result is.
    correlations
        What `correlate` returns, of P or S or (``xarray.concat`` along ``record``) both, for pairs
        that share a cluster or are near (``find_pairs(…, reach=)``).
    relocation
        What `run_hypodd` or `read_hypodd` returns. An event that it does not place is in no sequence.
    reference
        An existing catalogue of repeaters, as of `read_repeaters`: event_id (event,) and sequence (event,), numbers
        from 0 or names, below 0 or empty for none. Events that `catalog` does not hold are left out.
    magnitude_window
        Largest difference of a magnitude from the median.
    stress_drop
        Stress drop [bar].
    n_radii
        Largest distance of an event of the catalogue from the centroid [source radii].
    use_depth
        Whether distances are those of hypocentres; otherwise of epicentres.
    min_events
        Events that a sequence has at least.
    min_stations
        Stations at which two events share a sequence to be linked; 1 is the union of all.
    expand_above, converge_above
        Correlations from which events join a cluster, and clusters become one.
    min_correlation, min_correlated_stations
        If given, the least correlation of two events of a sequence, in the median of phases and
        stations, and at how many stations it must be known after the union; at one station by its own.
    relocated_radii, min_error
        Largest distance of a relocated event from the centroid [source radii], and the least error
        of its place [m] that is added to it.

    Returns
    -------
    xarray.Dataset
        Stage ``repeaters``: sequence (event,), 0 the largest, -1 for none, with the verdict (event,)
        that says why: ``no_cluster`` (or linked to no other event), ``no_place`` (or magnitude, or not relocated),
        ``other_magnitude``, ``too_far``, ``too_few`` or ``not_alike``, of several stations the last
        in this order; radius (event,) [m] and
        correlation (event,). Of each sequence (sequence_id,) n_events, place, magnitude, moment
        [dyn cm], slip [cm], slip_rate [cm/year], recurrence and recurrence_median [days], and cvr.
        Attribute ``n_clusters`` (JSON): the number taken at each station. With a reference also
        reference (event,), and attribute ``comparison`` (JSON): how the sequences found without
        its help agree with it, see `compare_sequences`.

    Raises
    ------
    ValueError
        If records or events are not in the catalogue, no magnitude is known, or a parameter is out
        of its range.

    Notes
    -----
    The patch is found from medians first, and then from the events that fit it, round by round, so
    that a stranger in a cluster does not shift it; the published notebooks test once.

    The median over phases and stations is what tells repeaters from neighbours: their direct waves
    are as much alike, at some stations by chance above any threshold, but not their codas at most
    stations. Thresholds in use range from 0.70 to 0.98 (Gao, Kao & Wang 2021, Geophys. Res. Lett. 48);
    0.95 is the `converge_above` of 2023. What is alike but does not overlap is for the relocation to tell.

    Examples
    --------
    >>> import numpy as np, xarray as xr, specufex_dask as sx
    >>> from specufex_dask.recipe import stamp
    >>> from specufex_dask.tables import catalog_table
    >>> names = np.array(["a", "b", "c", "d", "e"], dtype=object)
    >>> years = np.array(["2001", "2003", "2005", "2007", "2009"], dtype="datetime64[ns]")
    >>> catalog = catalog_table({
    ...     "event_id": names, "origin_time": years, "latitude": 36.0 + np.array([0, 1, 2, 3, 90]) * 1e-4,
    ...     "longitude": np.full(5, -121.0), "depth": np.full(5, 5.0), "magnitude": np.array([2, 2.1, 2, 2.9, 2]),
    ... }, "made by hand")
    >>> one = {"cluster": ("event", np.zeros(5, int)), "n_stations": ("event", np.ones(5, int)),
    ...        "agreement": ("event", np.ones(5))}
    >>> events = stamp(xr.Dataset(one, coords={"event_id": ("event", names)}), "events", {})
    >>> repeaters = sx.find_repeaters(events, catalog)
    >>> repeaters.sequence.values, repeaters.verdict.values  # the fourth is too large, the fifth too far away
    (array([ 0,  0,  0, -1, -1], dtype=int32), array([0, 0, 0, 3, 4], dtype=int8))
    >>> repeaters.recurrence.values.round(), repeaters.cvr.values.round(3)
    (array([730.]), array([0.001]))
    """
    _check(catalog, min_events, min_stations, stress_drop)
    several = [clusters] if isinstance(clusters, xr.Dataset) else _listed(clusters)
    event_id = catalog["event_id"].values.astype(object)
    criteria = Criteria(magnitude_window, stress_drop, n_radii, min_events, use_depth)
    waveforms = None
    if correlations is not None:
        schema.require(correlations, "correlations")
        measured = Measured.of(correlations, event_id)
        waveforms = Waveforms(measured, expand_above, converge_above, min_correlation)
    sources = Sources.of_catalog(catalog, use_depth=use_depth)
    found = _stations(several, event_id, sources, criteria, waveforms)
    last = _Last(sources, criteria, waveforms, min_correlated_stations)
    if relocation is not None:
        schema.require(relocation, "relocation")
        moved = Sources.of_relocation(relocation, catalog, use_depth=use_depth, min_error=min_error)
        last = replace(last, sources=moved, criteria=replace(criteria, n_radii=relocated_radii))
    label = _joined([each.label for each in found.values()], min_stations)
    earlier = np.max([each.verdict for each in found.values()], axis=0)
    sequence, verdict = last.sequences(label, earlier)
    compared = None
    if reference is not None:
        theirs = reference_sequences(reference, event_id)
        compared = theirs, compare_sequences(sequence, theirs)
        sequence, verdict = last.sequences(_joined([label, theirs], 1), earlier)
    result = _dataset(catalog, (sequence, verdict), last, compared)
    numbers = {name: each.n_clusters for name, each in found.items() if name is not None}
    parameters = asdict(criteria) | {
        "min_stations": min_stations, "expand_above": expand_above, "converge_above": converge_above,
        "min_correlation": min_correlation, "min_correlated_stations": min_correlated_stations,
        "relocated_radii": relocated_radii, "min_error": min_error,
    }  # fmt: skip
    given = {"catalog": catalog, "correlations": correlations, "relocation": relocation, "reference": reference}
    inputs = {name: each for name, each in given.items() if each is not None}
    inputs |= {f"clusters_{number}": each for number, each in enumerate(several)}
    return stamp(result.assign_attrs(n_clusters=json.dumps(numbers)), "repeaters", parameters, **inputs)


@dataclass(frozen=True)
class _Last:
    """The last question to all sequences: whether their events are alike and share a patch."""

    sources: Sources
    criteria: Criteria
    waveforms: Waveforms | None
    n_stations: int

    def sequences(self, label: Array, earlier: Array) -> tuple[Array, Array]:
        """The sequence (event,) of each event by `label` (event,), and the verdict on it.

        `earlier` (event,) are the verdicts at the stations, which stand where no station has left the event a label.
        """
        left, verdict = judged(
            label, self.sources, self.criteria, self.waveforms, n_stations=self.n_stations, every_patch=True
        )
        if self.waveforms is not None and self.waveforms.min_correlation is not None:
            pairs, above = self.waveforms.measured.pairs, self.waveforms.min_correlation
            left = expanded(numbered(left, at_least=1), self.sources, pairs, self.criteria, above=above)
            verdict[left >= 0] = IN_SEQUENCE
        verdict = np.where((label < 0) & (left < 0) & (earlier != IN_SEQUENCE), earlier, verdict)
        return numbered(left, at_least=self.criteria.min_events), verdict.astype(np.int8)


def _check(catalog: xr.Dataset, min_events: int, min_stations: int, stress_drop: float) -> None:
    schema.require(catalog, "catalog")
    if catalog.sizes["event"] and not np.isfinite(catalog["magnitude"].values).any():
        msg = (
            "got a catalogue without any magnitude, expected that of most events, as it tells the size of a source: "
            "read the catalogue with its magnitudes."
        )
        raise ValueError(msg)
    for name, value, least in (("min_events", min_events, 2), ("min_stations", min_stations, 1)):
        if value < least:
            msg = f"got {name}={value}, expected {least} or more: correct it."
            raise ValueError(msg)
    if not stress_drop > 0:
        msg = f"got stress_drop={stress_drop}, expected bars above 0, such as 30: correct it."
        raise ValueError(msg)


def _listed(clusters: dict[str, xr.Dataset] | Sequence[xr.Dataset]) -> list[xr.Dataset]:
    several = list(clusters.values()) if isinstance(clusters, dict) else list(clusters)
    if not several:
        msg = "got no Dataset, expected the stage clusters of one station or more: pass what cluster_stations returns."
        raise ValueError(msg)
    return several


def _stations(
    clusters: list[xr.Dataset], event_id: Array, sources: Sources, criteria: Criteria, waveforms: Waveforms | None
) -> dict[str | None, Found]:
    """The sequence of each event at each station."""
    for each in clusters:
        require_clusters(each)
    tried = [station for each in clusters for station in tried_at(each, event_id)]
    names = [station.station_id for station in tried]
    if twice := [name for name in names if names.count(name) > 1]:
        msg = f"got two Datasets with clusters of {twice[0] or 'events'!r}, expected one: leave one out."
        raise ValueError(msg)
    found = run_tasks([(station.best, sources, criteria, waveforms) for station in tried])
    return dict(zip(names, found, strict=True))


def _joined(labels: list[Array], least: int) -> Array:
    """The components (event,) of the events that share a label in `least` of `labels`, -1 for those alone."""
    if least > len(labels):
        msg = f"got min_stations={least} with clusters of {len(labels)} stations, expected at most as many: lower it."
        raise ValueError(msg)
    return numbered(linked(np.stack(labels, axis=1), least), at_least=2)


def _dataset(
    catalog: xr.Dataset, found: tuple[Array, Array], last: _Last, compared: tuple[Array, Comparison] | None
) -> xr.Dataset:
    sequence, verdict = found
    variables = ("origin_time", "latitude", "longitude", "depth", "magnitude")
    table = sequence_table(sequence, {name: catalog[name].values for name in variables})
    alike = np.full(len(sequence), np.nan)
    if last.waveforms is not None:
        alike = last.waveforms.measured.pairs.with_others(sequence)
    flags = {"flag_values": np.arange(len(VERDICTS), dtype="int8"), "flag_meanings": " ".join(VERDICTS)}
    radius = source_radius(catalog["magnitude"].values, stress_drop=last.criteria.stress_drop)
    events: dict[str, Any] = {
        "sequence": ("event", sequence.astype("int32")),
        "verdict": ("event", verdict, flags),
        "radius": ("event", radius),
        "correlation": ("event", alike.astype("float32")),
    }
    result = table.assign(events).assign_coords(event_id=("event", catalog["event_id"].values))
    if compared is None:
        return result
    result = result.assign(reference=("event", compared[0].astype("int32")))
    return result.assign_attrs(comparison=json.dumps(asdict(compared[1])))
