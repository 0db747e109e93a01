"""Fingerprints of families far apart, and the stage made of any fingerprints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import draws
import numpy as np
import xarray as xr

from specufex_dask.recipe import digest, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]

SIZES = (10, 25, 15)
FAMILY = np.repeat([0, 1, 2], SIZES)
BY_SIZE = np.array([2, 0, 1])[FAMILY]
"""The number of each family, the largest 0."""


def fingerprints(
    vectors: Array,
    *,
    unusable: tuple[int, ...] = (),
    chunk: int | None = 8,
    stations: Sequence[str] = ("XX.AAA..HHZ",),
    hmm: str = "another",
) -> xr.Dataset:
    """The stage ``fingerprints`` of given fingerprints (record, state, next_state)."""
    n_records = len(vectors)
    quality = np.zeros(n_records, "int8")
    quality[list(unusable)] = 3
    values = vectors.astype("float32")
    values[list(unusable)] = np.nan
    square = ("record", "state", "next_state")
    dataset = xr.Dataset(
        {
            "fingerprint": (square, values), "transition": (square, values),
            "state_sequence": (("record", "time"), np.zeros((n_records, 2), "int8")), "quality": ("record", quality),
        },
        coords=draws.identities(n_records, stations) | {"time": np.arange(2.0)},
        attrs={"nmf": "one model", "hmm": hmm},
    )  # fmt: skip
    made = stamp(dataset, "fingerprints", {}, content=digest(values.tobytes().hex()))
    return made if chunk is None else made.chunk(record=chunk)


def separated(seed: int = 0, *, noise: float = 0.02, family: Array = FAMILY, n_states: int = 3) -> Array:
    """Fingerprints of families far apart."""
    rng = np.random.default_rng(seed)
    centres = rng.random((family.max() + 1, n_states, n_states))
    return centres[family] + noise * rng.normal(size=(len(family), n_states, n_states))
