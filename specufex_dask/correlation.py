"""Correlate the waveforms of pairs of events at each station, around their P or S picks.

Each record is filtered and cut once; the windows of a station are brought together once, and the
pairs are gone through in blocks that need nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed

from specufex_dask import schema
from specufex_dask.anchors import anchor_times
from specufex_dask.kernels import correlation as kernel
from specufex_dask.paired_events import RESULTS, Known, Paired, known_results, paired_events, require_same
from specufex_dask.phase_windows import StationWindows, cut_windows, gather, make_window
from specufex_dask.recipe import digest, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]

PAIRS_PER_TASK = 65_536
"""Correlations in a task, and in a shard of the store, unless the user says otherwise."""


def correlate(
    waveforms: xr.Dataset,
    pairs: xr.Dataset | Sequence[xr.Dataset],
    *,
    picks: xr.Dataset,
    phase: str = "P",
    window: tuple[float, float] = (-0.3, 1.7),
    band: tuple[float, float] | None = (1.0, 10.0),
    max_lag: float = 0.5,
    known: xr.Dataset | Sequence[xr.Dataset] = (),
    pairs_per_task: int = PAIRS_PER_TASK,
) -> xr.Dataset:
    r"""Correlate, lazily, the waveforms of each pair of events at each station, around the picks of a phase.

    The window of the first event is held still, and that of the second slides below it by up to
    `max_lag` either way. The correlation coefficient of each lag is that of the samples that meet
    there; the largest one, and its lag between the samples, are those of the cosine through it and
    its two neighbours (Schaff & Waldhauser 2005, Bull. Seism. Soc. Am. 95, have it by a parabola).

    Parameters
    ----------
    waveforms
        What `open_waveforms` returns, long enough to hold the window and `max_lag` at either end.
    pairs
        event_id_1 and event_id_2 (pair,), as `find_pairs` returns them; or clusters, as
        `find_pairs` takes them.
    picks
        Dataset of stage ``picks``, of the channel itself or of another one of its station.
    phase
        The phase of the picks to correlate around, such as ``"P"`` or ``"S"``.
    window
        Start and end [s] relative to the pick.
    band
        Corners of a zero-phase Butterworth band-pass [Hz] of the whole record; None for none.
    max_lag
        Largest lag [s].
    known
        Earlier results, such as `load` returns, for the same waveforms, picks and parameters: what
        they hold is taken from there, and only other pairs are computed. They are read at once, so
        the new results may replace them: ``save(..., overwrite=True)``.
    pairs_per_task
        Correlations in a task, and in a shard of the store.

    Returns
    -------
    xarray.Dataset
        Stage ``correlations``: correlation (record,), lag (record,) [s] and quality (record,), with
        event_id_1, event_id_2, station_id and phase. A record is one pair at one channel: all pairs
        in their order at the first channel, then at the second. The lag is positive where the
        phase comes later after its pick in the first event: a line of HypoDD's ``dt.cc`` has
        ``DT = (pick_1 - origin_1) - (pick_2 - origin_2) + lag``. It is NaN where the largest
        correlation lies at an end of the lags, which is then no maximum. Both are NaN where a
        record is not usable; `quality` says why, of the first event if both are not:
        its own flag, or ``no_pick``, ``missing`` (no such record), ``short`` (window and lags reach
        beyond it), ``not_finite`` or ``constant`` (nothing but zeros).

    Raises
    ------
    ValueError
        If a parameter cannot be, an event of a pair is not in the waveforms, a pair comes twice,
        there is no pick of the phase, or `known` was made otherwise.

    Notes
    -----
    The filtered windows of all records, window and twice `max_lag` long, are held until their
    station is done, on the workers: 1.2 GB for a million records at 100 Hz and the defaults. For
    more, open the waveforms of one station at a time and save under its group. Phases have groups
    as well: ``save(correlate(..., phase="S"), store, group="S")``.

    The energies are those of the samples that meet, as in ObsPy's ``correlate_template`` with
    ``normalize="full"``. Full energies of cut windows, as in its ``xcorr_pick_correction``, pull
    large lags towards 0 and their correlations down.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from specufex_dask.catalog import read_catalog, read_picks, read_stations
    >>> from specufex_dask.pairs import find_pairs
    >>> from specufex_dask.simulate import simulate
    >>> from specufex_dask.waveforms import open_waveforms
    >>> with TemporaryDirectory() as folder:
    ...     made = simulate(folder, n_events=6, n_stations=2, repeating=1.0, seed=0)
    ...     catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    ...     waveforms = open_waveforms(
    ...         catalog, stations, archive=made.archive, window=(-3, 12), sampling_rate=made.sampling_rate
    ...     )
    ...     pairs = find_pairs(catalog=catalog, reach=0.1)
    ...     correlations = correlate(waveforms, pairs, picks=read_picks(made.quakeml), phase="P").compute()
    >>> float(correlations.correlation.max()) > 0.9
    True
    """
    schema.require(waveforms, "waveforms")
    if pairs_per_task < 1:
        msg = f"got pairs_per_task={pairs_per_task!r}, expected 1 or more: correct it."
        raise ValueError(msg)
    how = make_window(phase, window, band, max_lag, rate=float(waveforms.attrs["sampling_rate"]))
    paired = paired_events(pairs, waveforms)
    event_id, station_id = (waveforms[name].values.astype(object) for name in ("event_id", "station_id"))
    anchor_ns = anchor_times(phase, picks, event_id, station_id, np.zeros(len(event_id), np.int64))
    # The picks as what they come to, whichever others there are.
    parameters = {"phase": phase, "window": window, "band": how.band, "max_lag": max_lag, "picks": anchor_ns}
    earlier = [known] if isinstance(known, xr.Dataset) else list(known)
    for each in earlier:
        require_same(each, parameters, waveforms)
    found = known_results(paired, earlier)
    windows = cut_windows(waveforms, anchor_ns, how)
    stations = [
        gather(np.where(_needed(paired, found, number), record, -1), windows, how.max_lag)
        for number, record in enumerate(paired.record)
    ]
    lazy = _lazy(paired, stations, found, how.rate, pairs_per_task)
    dataset = paired.dataset(phase).assign({name: ("record", values) for name, values in lazy.items()})
    content = digest(*paired.event_id[paired.positions].ravel().tolist())
    return stamp(dataset, "correlations", parameters, waveforms=waveforms, pairs=content)


def _needed(paired: Paired, found: Known, station: int) -> Array:
    """Which events (event,) have a pair at `station` of which nothing is known."""
    n_pairs = len(paired.positions)
    lacking = ~found.is_known[station * n_pairs : (station + 1) * n_pairs]
    needed = np.zeros(len(paired.event_id), dtype=bool)
    needed[paired.positions[lacking]] = True
    return needed


def _lazy(
    paired: Paired, stations: list[Delayed], found: Known, rate: float, pairs_per_task: int
) -> dict[str, da.Array]:
    """The results (record,), a task for each block of records; those at several stations need the windows of each."""
    positions = delayed(paired.positions, traverse=False)
    n_pairs = len(paired.positions)
    parts: dict[str, list[da.Array]] = {name: [da.empty(0, dtype=dtype)] for name, dtype in RESULTS.items()}
    for first in range(0, paired.n_records, pairs_per_task):
        last = min(first + pairs_per_task, paired.n_records)
        touched = range(first // n_pairs, -(-last // n_pairs))
        runs = [(max(first - s * n_pairs, 0), min(last - s * n_pairs, n_pairs)) for s in touched]
        all_known = bool(found.is_known[first:last].all())
        needed = [None if all_known else stations[s] for s in touched]
        block = delayed(_correlate_block)(positions, runs, needed, found.between(first, last), rate)
        for name, dtype in RESULTS.items():
            parts[name].append(da.from_delayed(block[name], (last - first,), dtype))
    return {name: da.concatenate(each[1:] or each) for name, each in parts.items()}


def _correlate_block(
    positions: Array,
    runs: list[tuple[int, int]],
    stations: list[StationWindows | None],
    known: dict[str, Array] | None,
    rate: float,
) -> dict[str, Array]:
    """Results of a block of records: the pairs `runs` at each of `stations`, but for those that are `known`."""
    n_records = sum(last - first for first, last in runs)
    known = known or {"is_known": np.zeros(n_records, dtype=bool)}
    results = {name: known.get(name, np.empty(n_records, dtype)).copy() for name, dtype in RESULTS.items()}
    place = 0
    for (first, last), station in zip(runs, stations, strict=True):
        lacking = np.flatnonzero(~known["is_known"][place : place + last - first])
        if station is not None and lacking.size:
            for name, values in _correlate(positions[first + lacking], station, rate).items():
                results[name][place + lacking] = values
        place += last - first
    return results


def _correlate(pairs: Array, station: StationWindows, rate: float) -> dict[str, Array]:
    """Results of the `pairs` (pair, 2) at one station."""
    first, second = np.ascontiguousarray(pairs.T)
    correlation, lag = kernel.correlate(station.windows, station.inverse, first, second)
    quality = np.where(station.quality[first] != 0, station.quality[first], station.quality[second])
    seconds = station.late[first] - station.late[second] - lag / rate
    return {"correlation": correlation, "lag": seconds, "quality": quality}
