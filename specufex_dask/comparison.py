"""Sequences compared with those of a reference: what is found again, and how alike the two partitions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from specufex_dask.pairs import places

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Comparison:
    """How the sequences found agree with a reference.

    Of `n_reference` events in sequences of the reference, `recovered` is the share that is in a
    sequence found. Of the `n_sequences` of the reference, `whole` are found with all their events
    in one, and `split` are spread over several. The rest is of the `n_shared` events that are in a
    sequence of both: the adjusted Rand index (Hubert & Arabie 1985; 1 for equal partitions, 0 for
    chance), and completeness and homogeneity (Rosenberg & Hirschberg 2007: 1 where no sequence of
    the reference is spread over several, and where none found holds parts of several).
    """

    n_reference: int
    recovered: float
    n_sequences: int
    whole: int
    split: int
    n_shared: int
    adjusted_rand: float
    completeness: float
    homogeneity: float


def compare_sequences(sequence: Array, reference: Array) -> Comparison:
    """Compare the `sequence` of each event with that of a `reference` (event,), both -1 for none.

    Examples
    --------
    >>> import numpy as np
    >>> compared = compare_sequences(np.array([0, 0, 1, 1, -1, 0]), np.array([5, 5, 7, 7, 7, -1]))
    >>> compared.recovered, compared.whole, compared.n_shared, compared.adjusted_rand
    (0.8, 1, 4, 1.0)
    """
    from sklearn.metrics import adjusted_rand_score, homogeneity_completeness_v_measure

    known = reference >= 0
    both = known & (sequence >= 0)
    names, theirs = np.unique(reference[known], return_inverse=True)
    ours = sequence[known]
    size = np.bincount(theirs, minlength=len(names))
    parts = np.unique(np.stack([theirs, ours])[:, ours >= 0], axis=1)[0]
    n_parts, n_found = (np.bincount(each, minlength=len(names)) for each in (parts, theirs[ours >= 0]))
    alike = homogeneity_completeness_v_measure(reference[both], sequence[both]) if both.any() else (np.nan,) * 3
    return Comparison(
        n_reference=int(known.sum()),
        recovered=float(both.sum() / max(known.sum(), 1)),
        n_sequences=len(names),
        whole=int(((n_parts == 1) & (n_found == size)).sum()),
        split=int((n_parts > 1).sum()),
        n_shared=int(both.sum()),
        adjusted_rand=float(adjusted_rand_score(reference[both], sequence[both])) if both.any() else np.nan,
        completeness=float(alike[1]),
        homogeneity=float(alike[0]),
    )


def reference_sequences(reference: xr.Dataset, event_id: Array) -> Array:
    """The number of the sequence (event,) that the `reference` has for each of the events `event_id`, -1 for none.

    `reference` holds event_id and sequence (event,), numbers from 0 or names, below 0 or empty for none.
    """
    if not {"event_id", "sequence"} <= set(reference.variables):
        msg = (
            f"got a reference with {sorted(map(str, reference.variables))}, expected event_id and sequence (event,): "
            f"rename what says which event is in which sequence."
        )
        raise ValueError(msg)
    names = reference["event_id"].values.astype(object)
    again = pd.Index(names).duplicated()
    if again.any():
        msg = f"got a reference with the event {names[again][0]!r} twice, expected each event once: remove one."
        raise ValueError(msg)
    values = reference["sequence"].values
    if values.dtype.kind not in "iu":
        values = pd.factorize(np.array([name or None for name in values.tolist()], dtype=object))[0]
    row = places(event_id, names)
    return np.where(row >= 0, np.append(values, -1)[row], -1)
