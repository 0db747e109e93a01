"""Which events of each cluster ruptured one patch with one size, found so that strangers do not shift the patch."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.kernels.groups import means, medians
from specufex_dask.patches import Patches

if TYPE_CHECKING:
    from specufex_dask.patches import Criteria, Sources

Array = np.ndarray[Any, np.dtype[Any]]

VERDICTS = ("in_sequence", "no_cluster", "no_place", "other_magnitude", "too_far", "too_few", "not_alike")
"""What became of an event; its verdict is the position in this tuple (0 = in a sequence)."""
IN_SEQUENCE = VERDICTS.index("in_sequence")

_MOST_ROUNDS = 20


def verdicts(label: Array, sources: Sources, criteria: Criteria) -> Array:
    """The verdict (event,) of `VERDICTS` on each event, as a member of the cluster `label` (event,), below 0 for none.

    The patch of a cluster is found from the median of its magnitudes and the event nearest to the median of
    its places first. Then its events are those that fit the median magnitude and the centroid of its events,
    until that is so.
    """
    verdict = np.where(label >= 0, VERDICTS.index("no_place"), VERDICTS.index("no_cluster")).astype(np.int8)
    member = np.flatnonzero((label >= 0) & sources.known)
    names, cluster = np.unique(label[member], return_inverse=True)
    near, alike, kept = _settled(member, cluster, len(names), sources, criteria)
    size = np.bincount(cluster[kept], minlength=len(names))[cluster]
    found = np.where(alike, VERDICTS.index("too_far"), VERDICTS.index("other_magnitude"))
    found[near & alike] = VERDICTS.index("too_few")
    found[kept & (size >= criteria.min_events)] = IN_SEQUENCE
    verdict[member] = found
    return verdict


def _settled(
    member: Array, cluster: Array, n_clusters: int, sources: Sources, criteria: Criteria
) -> tuple[Array, Array, Array]:
    """Whether each member is near enough to its cluster's patch, of its size, and kept (member,) as the rounds end.

    Only the clusters that changed in a round take part in the next.
    """
    everyone = Patches.of((member, cluster), n_clusters, sources, criteria, middle=medians)
    alike = everyone.fit(member, cluster, sources, criteria)[1]
    middle = Patches.of((member[alike], cluster[alike]), n_clusters, sources, criteria, middle=medians)
    first = middle.at_an_event(member[alike], cluster[alike], sources)  # between two patches there is none
    # Of one patch two events may be twice as far apart as an event and the centroid: the mean decides, below.
    fits = first.fit(member, cluster, sources, replace(criteria, n_radii=2 * criteria.n_radii))
    kept: Array = np.asarray(fits.all(axis=0))
    active = np.arange(len(member))
    for number in count():
        inside = active[kept[active]]
        patches = Patches.of((member[inside], cluster[inside]), n_clusters, sources, criteria, middle=means)
        fits[:, active] = patches.fit(member[active], cluster[active], sources, criteria)
        now = fits[:, active].all(axis=0)
        if number >= _MOST_ROUNDS:  # events that come and go for ever: from here on they only go
            now &= kept[active]
        changed = np.zeros(n_clusters, dtype=bool)
        changed[cluster[active][now != kept[active]]] = True
        kept[active] = now
        active = active[changed[cluster[active]]]
        if not len(active):
            break
    return fits[0], fits[1], kept
