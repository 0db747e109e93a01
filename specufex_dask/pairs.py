"""Which pairs of events to compare: those that share a cluster, or lie within reach of each other.

All pairs of 10⁶ events are 5·10¹¹, so pairs are never looked for among all: members of a cluster are
listed, and neighbours come from a tree of the hypocentres, block by block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from specufex_dask import schema
from specufex_dask.pair_search import Search, Sharing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = np.ndarray[Any, np.dtype[Any]]

_EARTH_RADIUS_KM = 6371.0
MAX_PAIRS = 20_000_000
"""Pairs beyond which the search is refused, unless the user says otherwise."""


def find_pairs(
    clusters: xr.Dataset | Sequence[xr.Dataset] = (),
    *,
    catalog: xr.Dataset | None = None,
    reach: float | None = None,
    max_distance: float | None = None,
    max_pairs: int = MAX_PAIRS,
) -> xr.Dataset:
    """Find the pairs of events that share a cluster or lie within reach of each other, each pair once.

    Two events share a cluster where any of the `clusters` gives both the same one at the same
    station. The order is that of the catalogue: of the first event, then of the second, which is
    the later of the two.

    Parameters
    ----------
    clusters
        Datasets with cluster (record,), event_id and station_id, as `cluster_fingerprints`
        returns them; or with cluster (event,), which are taken as one station's. Cluster -1 is none.
    catalog
        Dataset of stage ``catalog``: the events and their order; without it those of `clusters`.
    reach
        Events within this distance of each other [km], depth included, are a pair whatever their
        clusters.
    max_distance
        Of events that share a cluster, pairs farther apart than this [km] are left out, and so
        are those with an event whose place is not known.
    max_pairs
        Most pairs to return.

    Returns
    -------
    xarray.Dataset
        event_id_1, event_id_2 (pair,). `pair_blocks` gives the same pairs block by block.

    Raises
    ------
    ValueError
        If there would be more than `max_pairs`, neither clusters nor a reach are given, distances
        are asked for without a catalogue, or an event is not in it.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> ids = np.array(["a", "b", "c", "d"], dtype=object)
    >>> events = xr.Dataset({"cluster": ("event", [0, 1, 0, 0])}, coords={"event_id": ("event", ids)})
    >>> pairs = find_pairs(events)
    >>> list(zip(pairs.event_id_1.values.tolist(), pairs.event_id_2.values.tolist()))
    [('a', 'c'), ('a', 'd'), ('c', 'd')]
    """
    ids, blocks = pair_blocks(clusters, catalog=catalog, reach=reach, max_distance=max_distance, max_pairs=max_pairs)
    positions = np.concatenate([np.empty((0, 2), dtype=np.int64), *blocks])
    return xr.Dataset({f"event_id_{i + 1}": ("pair", ids[positions[:, i]]) for i in range(2)})


def pair_blocks(
    clusters: xr.Dataset | Sequence[xr.Dataset] = (),
    *,
    catalog: xr.Dataset | None = None,
    reach: float | None = None,
    max_distance: float | None = None,
    max_pairs: int = MAX_PAIRS,
) -> tuple[Array, Iterator[Array]]:
    """Return the event_id of all events (event,), and the pairs of `find_pairs` as blocks of their positions (pair, 2).

    A block is drawn when it is asked for, from about two million candidates, so memory does not
    grow with the number of pairs. Parameters and errors are those of `find_pairs`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> ids = np.array(["a", "b", "c"], dtype=object)
    >>> events = xr.Dataset({"cluster": ("event", [0, 1, 0])}, coords={"event_id": ("event", ids)})
    >>> ids, blocks = pair_blocks(events)
    >>> [block.tolist() for block in blocks]
    [[[0, 2]]]
    """
    several = [clusters] if isinstance(clusters, xr.Dataset) else list(clusters)
    _check(several, catalog, reach=reach, max_distance=max_distance)
    ids = _event_ids(several, catalog)
    sharing = [Sharing.of(labels, name) for each in several for name, labels in _labels(each, ids)]
    if max_distance is None:
        _refuse_large(sharing, max_pairs)
    search = Search(len(ids), sharing, reach, max_distance, _points(catalog))
    return ids, _limited(search.blocks(), max_pairs)


def places(names: Array, among: Array) -> Array:
    """Where each of `names` (name,) is in `among`, -1 where it is not."""
    return np.asarray(pd.Index(among.astype(object)).get_indexer(pd.Index(names.astype(object))))


def _check(
    clusters: list[xr.Dataset], catalog: xr.Dataset | None, *, reach: float | None, max_distance: float | None
) -> None:
    if not clusters and reach is None:
        msg = "got neither clusters nor reach, expected one of them: all pairs of a catalogue are too many to compare."
        raise ValueError(msg)
    for name, distance in (("reach", reach), ("max_distance", max_distance)):
        if distance is not None and not distance > 0:
            msg = f"got {name}={distance!r}, expected a distance in km above 0: correct it."
            raise ValueError(msg)
        if distance is not None and catalog is None:
            msg = f"got {name}={distance!r} without a catalogue, expected where the events are: pass catalog=."
            raise ValueError(msg)
    if max_distance is not None and not clusters:
        msg = f"got max_distance={max_distance!r} without clusters, whose pairs it bounds: pass it as reach=."
        raise ValueError(msg)
    if catalog is not None:
        schema.require(catalog, "catalog")


def _event_ids(clusters: list[xr.Dataset], catalog: xr.Dataset | None) -> Array:
    """The events in order (event,)."""
    named = [each["event_id"].values.astype(object) for each in clusters]
    if catalog is None:
        return np.asarray(pd.unique(np.concatenate(named)))
    ids = catalog["event_id"].values.astype(object)
    for each in named:
        if strangers := sorted(set(each.tolist()) - set(ids.tolist())):
            msg = (
                f"got {len(strangers)} events in the clusters that the catalogue does not hold, the first "
                f"{strangers[0]!r}, expected none: pass the catalogue that the waveforms were opened with."
            )
            raise ValueError(msg)
    return np.asarray(ids)


def _labels(clusters: xr.Dataset, ids: Array) -> Iterator[tuple[str, Array]]:
    """The cluster of each event (event,), -1 for none, at each station, with the station's name."""
    position = places(clusters["event_id"].values, ids)
    cluster = clusters["cluster"].values
    stations = clusters["station_id"].values.astype(object) if "station_id" in clusters else np.full(len(cluster), "")
    codes, names = pd.factorize(stations)
    for code, name in enumerate(names.tolist()):
        labels, here = np.full(len(ids), -1), codes == code
        labels[position[here]] = cluster[here]
        yield name, labels


def _points(catalog: xr.Dataset | None) -> Array:
    """Hypocentres (event, 3) [km] from the centre of a round Earth, where distances are right anywhere."""
    if catalog is None:
        return np.empty((0, 3))
    latitude, longitude = (np.radians(catalog[name].values) for name in ("latitude", "longitude"))
    east = np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)])
    return np.asarray(((_EARTH_RADIUS_KM - catalog["depth"].values) * east).T)


def _refuse_large(sharing: list[Sharing], max_pairs: int) -> None:
    """Raise ``ValueError`` where the clusters of one station alone have too many pairs."""
    for each in sharing:
        n_pairs = int(each.counts.sum())
        if n_pairs > max_pairs:
            sizes = np.bincount(each.labels[each.labels >= 0])
            at = f" at {each.station_id}" if each.station_id else ""
            msg = (
                f"got clusters{at} with {n_pairs:,} pairs of events (cluster {sizes.argmax()} has {sizes.max():,} "
                f"members), expected at most max_pairs={max_pairs:,}: pass max_distance= in km to leave out those far "
                f"apart, cluster more finely, or raise max_pairs."
            )
            raise ValueError(msg)


def _limited(blocks: Iterator[Array], max_pairs: int) -> Iterator[Array]:
    n_pairs = 0
    for block in blocks:
        n_pairs += len(block)
        if n_pairs > max_pairs:
            msg = (
                f"got {n_pairs:,} pairs of events before the end of the catalogue, expected at most "
                f"max_pairs={max_pairs:,}: pass a smaller reach= or max_distance=, cluster more finely, or raise "
                f"max_pairs."
            )
            raise ValueError(msg)
        yield block
