"""Turn events into ObsPy's Catalog and QuakeML, in which comments name the cluster of each event."""

from __future__ import annotations

import io
import re
from copy import copy
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import places, schema
from specufex_dask.fetching import fetch, is_place
from specufex_dask.from_obspy import event_name, load
from specufex_dask.reading import load_obspy, quiet_obspy

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import xarray as xr

_M_PER_KM = 1000.0
_N_SHOWN = 3
_AUTHOR = "specufex_dask"
_CLUSTER = re.compile(r"cluster \d+ \(specufex_dask; .*\)")
_EVENTS_AT_A_TIME = 1000
_Comments = dict[str, list[tuple[str, str]]]
_ID = re.compile(r"[\w\-.*()~'][\w\-.*()+~'=,;]*")


def to_catalog(
    catalog: xr.Dataset | str | os.PathLike[str] | Any,  # noqa: ANN401 - ObsPy has no types
    clusters: xr.Dataset | None = None,
) -> Any:  # noqa: ANN401 - ObsPy has no types
    """Make an ObsPy Catalog, in which a comment of each event names its cluster.

    Parameters
    ----------
    catalog : Dataset of stage ``catalog``, ObsPy Catalog, path or URL
        The events. Of an ObsPy Catalog, or a file that ObsPy reads, such as QuakeML, all is kept:
        picks, magnitudes, moment tensors. What is given is not changed.
    clusters : Dataset of stage ``clusters`` or ``events``, optional
        An event has a comment for each usable record, ``cluster 3 (specufex_dask; NC.BSG..DPZ)``,
        or one over all stations, ``cluster 3 (specufex_dask; 5 stations, agreement 0.80)``;
        comments are a standard part of QuakeML. Those of a former call are replaced.

    Returns
    -------
    obspy.core.event.Catalog
        The events in their order. From a Dataset each has one origin, a magnitude where it is
        known, and a resource id that ends in its ``event_id``.

    Raises
    ------
    ValueError
        No event of the clusters is in the catalogue; an ``event_id`` cannot stand in QuakeML.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import specufex_dask as sx
    >>> with TemporaryDirectory() as folder:
    ...     made = sx.simulate(folder, n_events=2, n_stations=1, seed=0)
    ...     catalog = sx.to_catalog(sx.read_catalog(made.catalog))
    >>> len(catalog), len(catalog[0].origins)
    (2, 1)
    """
    given, comments = _matched(catalog, clusters)
    return _annotated(given, comments)


def write_quakeml(
    path: str | os.PathLike[str],
    catalog: xr.Dataset | str | os.PathLike[str] | Any,  # noqa: ANN401 - ObsPy has no types
    clusters: xr.Dataset | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write QuakeML in which a comment of each event names its cluster, in the place of a file that is there.

    Parameters
    ----------
    path : path or URL
        The file to write, whole or not at all.
    catalog : Dataset of stage ``catalog``, ObsPy Catalog, path or URL
        The events: see `to_catalog`. With the file that the study was made with, its picks and
        magnitudes are in the new one too.
    clusters : Dataset of stage ``clusters`` or ``events``, optional
        Who is in which cluster.
    storage_options : dict, optional
        Of fsspec, for a URL to write to; not kept anywhere.

    Raises
    ------
    PermissionError, OSError
        Nothing may be written there, or its store fails.
    ValueError
        As `to_catalog`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import specufex_dask as sx
    >>> with TemporaryDirectory() as folder:
    ...     made = sx.simulate(folder, n_events=2, n_stations=1, seed=0)
    ...     catalog = sx.read_catalog(made.catalog)
    ...     sx.write_quakeml(f"{folder}/families.xml", catalog)
    ...     sx.read_catalog(f"{folder}/families.xml").event_id.equals(catalog.event_id)
    True
    """
    target = places.at(path, storage_options)
    given, comments = _matched(catalog, clusters)
    content, end = io.BytesIO(), b""
    for piece in _pieces(given):
        text = _quakeml(_annotated(piece, comments))
        begin, stop = text.find(b"<event ") if end else 0, text.rindex(b"</eventParameters>")
        content.write(text[begin:stop])
        end = text[stop:]
    content.write(end)
    places.write(target, content.getvalue())


def _pieces(given: Any) -> Iterator[Any]:  # noqa: ANN401 - ObsPy has no types
    """A Dataset by some events at a time: ObsPy's objects take up 16 kB an event. An ObsPy Catalog as it is."""
    if hasattr(given, "dims"):
        for start in range(0, given.sizes["event"], _EVENTS_AT_A_TIME):
            yield given.isel(event=slice(start, start + _EVENTS_AT_A_TIME))
    else:
        yield given


def _quakeml(catalog: Any) -> bytes:  # noqa: ANN401 - ObsPy has no types
    content = io.BytesIO()
    with quiet_obspy():
        catalog.write(content, format="QUAKEML", nsmap=getattr(catalog, "nsmap", None))
    return content.getvalue()


def _matched(catalog: Any, clusters: xr.Dataset | None) -> tuple[Any, _Comments]:  # noqa: ANN401 - ObsPy has no types
    """The events as they were given, and what is said of each; ``ValueError`` if that is of none of them."""
    given, comments = _given(catalog), _comments(clusters)
    names = _names(given)
    if comments and not comments.keys() & set(names):
        msg = (
            f"got clusters of events {[*comments][:_N_SHOWN]} …, none of which is in the catalogue "
            f"({names[:_N_SHOWN]} …), expected the same event_id in both: pass the catalogue of the study."
        )
        raise ValueError(msg)
    if hasattr(given, "dims") and (wrong := [name for name in names if not _ID.fullmatch(name)]):
        msg = (
            f"got {len(wrong)} event_id that cannot stand in QuakeML ({', '.join(map(repr, wrong[:_N_SHOWN]))} …), "
            f"expected letters, digits and any of -.*()_~'+=,;: rename them, or pass the QuakeML that they are from."
        )
        raise ValueError(msg)
    return given, comments


def _annotated(given: Any, comments: _Comments) -> Any:  # noqa: ANN401 - ObsPy has no types
    """The events `given` as an ObsPy Catalog, with their comments."""
    obspy = load_obspy()
    with quiet_obspy():
        events = _made(given) if hasattr(given, "dims") else iter(given)
        commented = [_commented(event, name, comments) for event, name in zip(events, _names(given), strict=True)]
        if hasattr(given, "dims"):
            return obspy.core.event.Catalog(commented, resource_id=f"smi:local/catalog/{given.attrs['recipe_id']}")
        whole = copy(given)
        whole.events = commented
    return whole


def _given(catalog: Any) -> Any:  # noqa: ANN401 - ObsPy has no types
    """A Dataset of stage ``catalog``, or an ObsPy Catalog."""
    if hasattr(catalog, "events"):
        return catalog
    if not is_place(catalog):
        schema.require(catalog, "catalog")
        return catalog
    files = fetch(catalog)
    expected = "a file of events such as QuakeML, or what read_catalog returns of another"
    return reduce(add, [load(file, "read_events", expected) for file in files])


def _names(given: Any) -> list[str]:  # noqa: ANN401 - ObsPy has no types
    if hasattr(given, "dims"):
        return [str(name) for name in given.event_id.values]
    return [event_name(str(event.resource_id)) for event in given]


def _comments(clusters: xr.Dataset | None) -> _Comments:
    """What is said of each event, each with the channel that says it; nothing of what is in no cluster."""
    if clusters is None:
        return {}
    said: _Comments = {}
    for event_id, cluster, by, whose in _memberships(clusters):
        if cluster >= 0:
            said.setdefault(event_id, []).append((f"cluster {cluster} (specufex_dask; {by})", whose))
    return said


def _memberships(clusters: xr.Dataset) -> Iterator[tuple[str, int, str, str]]:
    if clusters.attrs.get("stage") != "events":
        schema.require(clusters, "clusters")
    ids, labels = clusters.event_id.values.tolist(), clusters.cluster.values.tolist()
    if "station_id" not in clusters.coords:
        shares = zip(clusters.n_stations.values.tolist(), clusters.agreement.values.tolist(), strict=True)
        notes = [f"{n} stations, agreement {share:.2f}" for n, share in shares]
        yield from zip(ids, labels, notes, ["events"] * len(ids), strict=True)
        return
    stations = clusters.station_id.values.tolist()
    yield from zip(ids, labels, stations, stations, strict=True)


def _commented(event: Any, name: str, comments: _Comments) -> Any:  # noqa: ANN401 - ObsPy has no types
    """A copy of `event` with the comments of its name, in the place of former ones; all else is shared."""
    from obspy.core.event import Comment, CreationInfo

    named = copy(event)
    named.comments = [each for each in event.comments if not _CLUSTER.fullmatch(str(each.text))]
    for text, whose in comments.get(name, ()):
        resource_id = f"smi:local/comment/{name}/{whose}" if _ID.fullmatch(name) else None
        named.comments.append(Comment(text=text, resource_id=resource_id, creation_info=CreationInfo(author=_AUTHOR)))
    return named


def _made(catalog: xr.Dataset) -> Iterator[Any]:
    """An ObsPy Event for each event of `catalog`."""
    from obspy import UTCDateTime
    from obspy.core.event import Event, Magnitude, Origin

    times = catalog.origin_time.values.astype("datetime64[ns]").astype(np.int64).tolist()
    numbers = [catalog[name].values.tolist() for name in ("latitude", "longitude", "depth", "magnitude")]
    for name, time_ns, latitude, longitude, depth, size in zip(_names(catalog), times, *numbers, strict=True):
        origin = Origin(
            resource_id=f"smi:local/origin/{name}",
            time=UTCDateTime(ns=time_ns),
            latitude=latitude,
            longitude=longitude,
            depth=None if np.isnan(depth) else depth * _M_PER_KM,
        )
        magnitudes = [] if np.isnan(size) else [Magnitude(resource_id=f"smi:local/magnitude/{name}", mag=size)]
        yield Event(resource_id=f"smi:local/event/{name}", origins=[origin], magnitudes=magnitudes)
