"""Turn records into ObsPy's Stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import schema
from specufex_dask.reading import load_obspy

if TYPE_CHECKING:
    import xarray as xr

_N_SHOWN = 3


def to_stream(waveforms: xr.Dataset) -> Any:  # noqa: ANN401 - ObsPy has no types
    """Make an ObsPy Stream of the usable records: one Trace each, in their order.

    Parameters
    ----------
    waveforms : Dataset of stage ``waveforms``
        As many records as fit in memory: choose with ``waveforms.isel(record=…)``.

    Returns
    -------
    obspy.Stream
        Traces with the codes of the channel, time of the first sample and sampling rate; and
        ``stats.event_id`` and ``stats.units``, which only our own programs know.

    Raises
    ------
    ValueError
        The time of a usable record is not known, as of HDF5 archives.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import specufex_dask as sx
    >>> with TemporaryDirectory() as folder:
    ...     made = sx.simulate(folder, n_events=2, n_stations=1, seed=0)
    ...     catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    ...     waveforms = sx.open_waveforms(
    ...         catalog, stations, archive=made.archive, window=(0, 10), sampling_rate=made.sampling_rate
    ...     )
    ...     stream = sx.to_stream(waveforms)
    >>> len(stream), stream[0].stats.npts, stream[0].stats.sampling_rate
    (2, 1000, 100.0)
    """
    schema.require(waveforms, "waveforms")
    records = waveforms.compute()
    times = records.start_time.values.astype("datetime64[ns]")
    usable = np.flatnonzero(records.quality.values == 0)
    if unknown := [str(records.event_id.values[i]) for i in usable if np.isnat(times[i])]:
        msg = (
            f"got {len(unknown)} records whose start is not known (events {', '.join(unknown[:_N_SHOWN])} …), expected "
            f"the time of their first sample: assign it with waveforms.assign_coords(start_time=('record', times))."
        )
        raise ValueError(msg)
    obspy = load_obspy()
    units, rate = records.waveform.attrs.get("units", ""), float(records.attrs["sampling_rate"])
    stream = obspy.Stream()
    for i in usable:
        codes = str(records.station_id.values[i]).split(".")
        header = dict(zip(("network", "station", "location", "channel"), codes, strict=True))
        start = obspy.UTCDateTime(ns=int(times[i].astype(np.int64)))
        extra = {"event_id": str(records.event_id.values[i]), "units": units}
        stream.append(
            obspy.Trace(records.waveform.values[i], {**header, **extra, "starttime": start, "sampling_rate": rate})
        )
    return stream
