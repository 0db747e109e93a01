"""Open waveforms lazily: a catalogue, stations and an archive become one row of samples a record."""

from __future__ import annotations

import fnmatch
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from specufex_dask import recipe, schema
from specufex_dask.access import shown
from specufex_dask.anchors import Rows, event_major
from specufex_dask.archive import Archive, Header, MemoryArchive, lengths, open_archive
from specufex_dask.blocks import RECORDS_PER_TASK, in_blocks, map_records
from specufex_dask.cutting import RATE_TOLERANCE, Cut
from specufex_dask.from_obspy import catalog_from_obspy, stations_from_obspy
from specufex_dask.hdf5 import Hdf5Archive
from specufex_dask.ledger import Ledger
from specufex_dask.preprocess import Preprocess, make_preprocess
from specufex_dask.record_blocks import read_block
from specufex_dask.record_rows import by_object, read_together, tasks
from specufex_dask.responses import open_responses, with_units

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike

Array = np.ndarray[Any, Any]
_PROBED = 16


def open_waveforms(
    catalog: xr.Dataset | Any,  # noqa: ANN401 - ObsPy has no types
    stations: xr.Dataset | Any,  # noqa: ANN401 - ObsPy has no types
    *,
    archive: str | Any,  # noqa: ANN401 - ObsPy has no types
    root: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    sampling_rate: float,
    station_id: str | Sequence[str] | None = None,
    window: tuple[float, float] | None = None,
    anchor: str = "origin",
    picks: xr.Dataset | None = None,
    fallback: float | str | None = None,
    n_samples: int | None = None,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    max_gap: float = 0.0,
    max_flat: float = 1 / 3,
    records_per_task: int = RECORDS_PER_TASK,
    dtype: Literal["float32", "float64"] = "float32",
) -> xr.Dataset:
    """Open the waveform of every event at every station, lazily; what cannot be used keeps its place and a flag.

    Parameters
    ----------
    catalog : Dataset of stage ``catalog``, or ObsPy Catalog
        The events.
    stations : Dataset of stage ``stations``, or ObsPy Inventory
        The channels.
    archive : str, path or ObsPy Stream
        A known archive (below `root`): ``"scedc"``, ``"scedc-events"``, ``"ncedc"``,
        ``"ncedc-events"``, ``"earthscope"`` or ``"sds"``. Or a template of the paths or URLs of
        files in any format that ObsPy reads, with the fields ``{event_id}``, ``{network}``,
        ``{station}``, ``{location}``, ``{channel}``, and of the origin time (UTC) ``{year}``,
        ``{month}``, ``{day}``, ``{julday}``, ``{hour}``, ``{minute}``, ``{second}`` (with leading
        zeros); a format may follow a field, as in ``{station:_<5}``. A template without
        ``{event_id}``, ``{minute}`` and ``{second}`` means continuous files, of days or hours:
        all that the window touches are read. Files that end in ``.h5`` or ``.hdf5`` are SpecUFEx's
        own: see `specufex_dask.hdf5`.
    root : path or URL, optional
        What `archive` is below, such as ``"s3://scedc-pds"`` or a folder.
    storage_options : dict, optional
        What opens a URL, as fsspec and s3fs have it: ``{"anon": True}`` for a public bucket, or
        ``key``, ``secret``, ``requester_pays``, ``endpoint_url``. Kept out of recipes, stores and logs.
    sampling_rate : float
        Of the records [Hz]. A file within 0.1 % of it counts as equal.
    station_id : str or list of str, optional
        The channels to use, ``NET.STA.LOC.CHA`` or patterns such as ``"*.HHZ"``; all of
        `stations` unless given.
    window : (float, float), optional
        Start and end of a record [s] relative to the anchor, such as ``(-3, 17)``; it holds
        ``round((end - start) * sampling_rate)`` samples from the one nearest to the start.
        None: a record is a whole file, from its first sample.
    anchor : str
        What the window hangs on: ``"origin"`` (origin time), ``"file_start"`` (first sample of
        the channel) or the name of a phase, such as ``"P"``, whose arrivals are in `picks`.
    picks : Dataset of stage ``picks``, optional
        Of the channel itself, or else of any channel of its station.
    fallback : float or str, optional
        Where there is no such pick, predict the arrival by a velocity of the phase [km/s], such as
        6.0, or a 1-D model such as ``"iasp91"``: see `specufex_dask.predicted.predicted_times`. The
        coordinate ``anchor`` tells which these are. A record without pick and prediction is ``no_pick``.
    n_samples : int, optional
        Length of the records when they are whole files; unless given, the most frequent length
        (the shorter of equals) among the first 16 readable files of evenly spaced records; of
        these only the headers are read. A longer file is used up to this length, a shorter one
        is ``short``.
    preprocess : dict or Preprocess, optional
        Steps that change the samples: see `specufex_dask.preprocess.Preprocess`.
    max_gap : float
        Longest gap that is bridged by a straight line [s]; a longer one makes the record ``gappy``.
    max_flat : float
        Largest share of a record that may lie in one run of equal samples; beyond: ``flat``.
    records_per_task : int
        Records in a task.
    dtype : {"float32", "float64"}
        Of the samples. float32 holds integers up to 2**24 = 16,777,216 exactly.

    Returns
    -------
    Dataset of stage ``waveforms``
        ``waveform`` (record, sample) as recorded [counts], or [m], [m/s] or [m/s2] where
        `preprocess` takes the instrument out, NaN throughout in a record that is not usable,
        ``quality`` (record), coordinates ``event_id``, ``station_id``,
        ``start_time`` (of the first sample, NaT where not known) and, of windows that hang on a
        phase, ``anchor`` (0 picked, 1 predicted, 2 unknown), attribute ``sampling_rate`` [Hz].
        Of files of events, the records are all stations of the first event, then of the second;
        of files of days, they are sorted by station, day and time.
        Waveform, quality and start time are lazy.

    Raises
    ------
    FileNotFoundError, PermissionError
        The folder of the archive does not exist, or may not be read; a file may not be read.
    ValueError
        A parameter that cannot be, or no file from which the length could be learned.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from specufex_dask.catalog import read_catalog, read_stations
    >>> from specufex_dask.simulate import simulate
    >>> with TemporaryDirectory() as folder:
    ...     made = simulate(folder, n_events=3, n_stations=2, seed=0)
    ...     catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    ...     waveforms = open_waveforms(
    ...         catalog, stations, archive=made.archive, window=(0, 10), sampling_rate=made.sampling_rate
    ...     ).compute()
    >>> dict(waveforms.sizes), waveforms.quality.values.tolist()
    ({'record': 6, 'sample': 1000}, [0, 0, 0, 0, 0, 0])
    """
    inventory = stations if hasattr(stations, "networks") else None
    catalog, stations = _inputs(catalog, stations, station_id)
    _check_choices(locals())
    steps = make_preprocess(preprocess, sampling_rate)
    opened = open_archive(archive, root, storage_options, sampling_rate=sampling_rate)
    rows = event_major(catalog, stations, anchor if window else "origin", picks, fallback)
    if isinstance(opened, Hdf5Archive):
        opened = opened.checked(rows, by_time=bool(window) and anchor != "file_start")
    rows, object_ends = by_object(rows, opened, window)
    if window:
        n_samples = round((window[1] - window[0]) * sampling_rate)
    else:
        _check_whole_files(opened, catalog)
        n_samples = n_samples or _length(opened, rows, sampling_rate, resample=steps.resample)
    responses = open_responses(steps, rows, inventory, storage_options)
    steps = replace(steps, inventory=None)  # what is needed of it is in the responses
    how = Cut(sampling_rate, n_samples, window, anchor == "file_start", max_gap, max_flat, steps, responses)
    dataset = _lazy(rows, object_ends, opened, how, records_per_task=records_per_task, dtype=dtype)
    parameters = {
        **how.parameters,
        "anchor": anchor if window else None,
        "archive": opened.identity,
        "dtype": str(np.dtype(dtype)),
    }
    if rows.anchor is not None:  # what the picks come to, whichever others there are
        model = float(fallback) if isinstance(fallback, int) else fallback
        parameters |= {"anchor_times": rows.anchor_ns, "anchors": rows.anchor, "fallback": model}
        dataset = dataset.assign_coords(anchor=("record", rows.anchor))
    stamped = recipe.stamp(dataset, "waveforms", parameters, catalog=catalog, stations=stations)
    return with_units(stamped, responses)


def _inputs(catalog: Any, stations: Any, station_id: str | Sequence[str] | None) -> tuple[xr.Dataset, xr.Dataset]:  # noqa: ANN401 - ObsPy has no types
    catalog = catalog if isinstance(catalog, xr.Dataset) else catalog_from_obspy(catalog)
    stations = stations if isinstance(stations, xr.Dataset) else stations_from_obspy(stations)
    schema.require(catalog, "catalog")
    schema.require(stations, "stations")
    if station_id is None:
        return catalog, stations
    patterns = [station_id] if isinstance(station_id, str) else list(station_id)
    known = stations.station_id.values.tolist()
    chosen = [name for pattern in patterns for name in fnmatch.filter(known, pattern) or [pattern]]
    if unknown := [name for name in chosen if name not in known]:
        msg = f"got station_id {unknown}, expected some of {known}: use NET.STA.LOC.CHA as in the stations."
        raise ValueError(msg)
    return catalog, stations.isel(station=[known.index(name) for name in dict.fromkeys(chosen)])


def _lazy(
    rows: Rows, object_ends: Array | None, archive: Archive, how: Cut, *, records_per_task: int, dtype: DTypeLike
) -> xr.Dataset:
    values = rows.event_id, rows.station_id, rows.origin_ns, rows.anchor_ns
    given, record_bytes = tasks(rows.event_id.size, records_per_task), how.n_samples * np.dtype(dtype).itemsize
    read = given if object_ends is None else read_together(object_ends, record_bytes, records_per_task)
    lazy = map_records(
        read_block,
        [in_blocks(each, read) for each in values],
        {"waveform": ((how.n_samples,), dtype), "quality": ((), "int8"), "start_time": ((), "datetime64[ns]")},
        regrouped=given,
        archive=archive,
        how=how,
        sample_dtype=np.dtype(dtype),
        ledger=Ledger(),
    )
    return xr.Dataset(
        {"waveform": (("record", "sample"), lazy["waveform"]), "quality": ("record", lazy["quality"])},
        coords={
            "event_id": ("record", rows.event_id),
            "station_id": ("record", rows.station_id),
            "start_time": ("record", lazy["start_time"]),
        },
        attrs={"sampling_rate": float(how.sampling_rate)},
    )


def _check_choices(given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for the first parameter that cannot be."""
    window, n_samples, rate = given["window"], given["n_samples"], given["sampling_rate"]
    expectations = {
        "sampling_rate": (rate > 0, "a rate in Hz above 0"),
        "window": (window is None or (len(window) == 2 and window[0] < window[1]), "(start, end) in s, start first"),  # noqa: PLR2004 - two ends
        "n_samples": (n_samples is None or (window is None and n_samples > 1), "None with a window, else 2 or more"),
        "max_gap": (given["max_gap"] >= 0, "a length in s, 0 or more"),
        "max_flat": (0 < given["max_flat"] <= 1, "a share above 0, at most 1"),
        "records_per_task": (given["records_per_task"] >= 1, "1 or more"),
        "dtype": (given["dtype"] in ("float32", "float64", np.float32, np.float64), "'float32' or 'float64'"),
    }
    for name, (holds, expected) in expectations.items():
        if not holds:
            msg = f"got {name}={given[name]!r}, expected {expected}: correct it."
            raise ValueError(msg)
    if window and round((window[1] - window[0]) * rate) < 2:  # noqa: PLR2004 - one sample has no spacing
        msg = f"got window={window!r}, expected at least 2 samples at {rate:g} Hz: make it longer."
        raise ValueError(msg)


def _check_whole_files(archive: Archive, catalog: xr.Dataset) -> None:
    if isinstance(archive, MemoryArchive) and catalog.sizes["event"] > 1:
        msg = (
            f"got window=None with a Stream in memory and {catalog.sizes['event']} events, expected a window: "
            f"pass window=(start, end) in s relative to the origin time."
        )
        raise ValueError(msg)


def _length(archive: Archive, rows: Rows, sampling_rate: float, *, resample: bool) -> int:
    """The most frequent number of samples among a few whole files; of equals the shorter, which loses no record."""
    few, every = (_PROBED, _PROBED**2, _PROBED**3), (rows.event_id.size,)
    found = lengths(archive, _probes(archive, rows, few), at_most=_PROBED)
    found = found or lengths(archive, _probes(archive, rows, every), at_most=_PROBED)
    counts: Counter[int] = Counter()
    for header in found:
        if abs(header.sampling_rate / sampling_rate - 1) <= RATE_TOLERANCE:
            counts[header.n_samples] += 1
        elif resample:
            counts[int((header.n_samples - 1) / header.sampling_rate * sampling_rate + 1e-6) + 1] += 1
    if counts:
        return min(counts, key=lambda length: (-counts[length], length))
    raise _no_length(archive, rows, found, sampling_rate)


def _probes(archive: Archive, rows: Rows, n_places: tuple[int, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The files and channels of evenly spaced records: as many as the first number says, then those between them."""
    n_records = rows.event_id.size
    tried: set[int] = set()
    for n in n_places:
        for i in np.linspace(0, n_records - 1, min(n, n_records)).astype(int).tolist():
            if i not in tried:
                tried.add(i)
                yield (
                    archive.sources(rows.event_id[i], rows.station_id[i], rows.origin_ns[i : i + 1].tolist()),
                    rows.station_id[i],
                )


def _no_length(archive: Archive, rows: Rows, found: list[Header], sampling_rate: float) -> ValueError:
    if found:
        rates = sorted({header.sampling_rate for header in found})
        return ValueError(
            f"got sampling_rate={sampling_rate:g} Hz, expected that of the files, {rates} Hz: "
            f"pass sampling_rate={rates[0]:g}, or preprocess={{'resample': True}}."
        )
    first = archive.sources(rows.event_id[0], rows.station_id[0], rows.origin_ns[:1].tolist())[0]
    return ValueError(
        f"got archive={archive.identity!r}, in which no record can be read (the first would be {shown(first)!r}, "
        f"channel {rows.station_id[0]!r}), expected at least one to learn the number of samples from: "
        f"correct the template, or pass n_samples= or window=."
    )
