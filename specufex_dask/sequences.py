"""Repeat times, sizes and slips of sequences of repeating earthquakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask.kernels.groups import means, medians
from specufex_dask.rupture import DAYS_A_YEAR, seismic_moment, slip

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, np.dtype[Any]]

_MICROSECONDS_A_DAY = 86_400 * 10**6


def recurrence(time: Array, sequence: Array, n_sequences: int) -> dict[str, Array]:
    """Mean and median interval [days] and coefficient of variation (sequence,) of the events at `time` (event,).

    An interval lies between one event of the `sequence` (event,), below 0 for none, and the next.
    Their coefficient of variation is the standard deviation, with ddof = 0, over the mean: 0 for
    clockwork and for a single interval, 1 for events at random. NaN without an interval.

    Examples
    --------
    >>> import numpy as np
    >>> time = np.array(["2020-01-01", "2020-01-11", "2020-01-31", "2020-02-10"], dtype="datetime64[ns]")
    >>> {name: values.round(3).tolist() for name, values in recurrence(time, np.zeros(4, int), 1).items()}
    {'recurrence': [13.333], 'recurrence_median': [10.0], 'cvr': [0.354]}
    """
    member = np.flatnonzero((sequence >= 0) & ~np.isnat(time))
    order = member[np.lexsort((time[member], sequence[member]))]
    owner = sequence[order]
    apart = np.diff(time[order].astype("datetime64[us]").astype(np.int64)) / _MICROSECONDS_A_DAY
    same = owner[1:] == owner[:-1]
    interval, group = apart[same], owner[1:][same]
    mean = means(interval, group, n_sequences)
    variance = means((interval - mean[group]) ** 2, group, n_sequences)
    median = medians(interval, group, n_sequences)
    cvr = np.sqrt(variance) / np.where(mean > 0, mean, np.nan)
    return {"recurrence": mean, "recurrence_median": median, "cvr": cvr}


def sequence_table(sequence: Array, events: Mapping[str, Array]) -> xr.Dataset:
    """What is known of each sequence (sequence_id,) of the `events`, the variables of a catalogue (event,).

    Examples
    --------
    >>> import numpy as np
    >>> time = np.array(["2020-01-01", "2021-01-01", "2023-01-01"], dtype="datetime64[ns]")
    >>> events = {name: np.array([1.0, 2.0, 3.0]) for name in ("latitude", "longitude", "depth", "magnitude")}
    >>> table = sequence_table(np.array([0, 0, 0]), {"origin_time": time} | events)
    >>> table.n_events.item(), table.recurrence.item(), round(table.slip.item(), 2)
    (3, 548.0, 8.67)
    """
    n_sequences = int(sequence.max(initial=-1)) + 1
    member = np.flatnonzero(sequence >= 0)
    group = sequence[member]
    place = {n: means(events[n][member], group, n_sequences) for n in ("latitude", "longitude", "depth")}
    magnitude = medians(events["magnitude"][member], group, n_sequences)
    moment = seismic_moment(magnitude)
    times = recurrence(events["origin_time"], sequence, n_sequences)
    found = place | times | {
        "n_events": np.bincount(group, minlength=n_sequences), "magnitude": magnitude, "moment": moment,
        "slip": slip(moment), "slip_rate": slip(moment) / times["recurrence"] * DAYS_A_YEAR,
    }  # fmt: skip
    return xr.Dataset(
        {name: ("sequence_id", values) for name, values in found.items()},
        coords={"sequence_id": np.arange(n_sequences)},
    )
