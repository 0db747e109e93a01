"""Vectors in fewer dimensions: principal components and truncated singular value decompositions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from specufex_dask.vectors import Vectors

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Projection:
    """A subspace of the vectors: a point of it (entry,) and its orthonormal axes (component, entry)."""

    origin: Array
    axes: Array

    def onto(self, vectors: Vectors, memory_limit: float) -> Vectors:
        """The coordinates (record, component) of `vectors` in the subspace, lazy beyond `memory_limit` bytes."""
        array, n_components = vectors.array, len(self.axes)
        if len(vectors) * n_components * array.dtype.itemsize <= memory_limit:
            return Vectors(np.concatenate([found for _, found in vectors.map(self._coordinates)]))
        return Vectors(
            array.map_blocks(self._coordinates, chunks=(array.chunks[0], (n_components,)), dtype=array.dtype)
        )

    def _coordinates(self, block: Array, _: object = None) -> Array:
        coordinates: Array = ((block - self.origin) @ self.axes.T).astype(block.dtype)
        return coordinates

    def back(self, points: Array) -> Array:
        """Vectors (point, entry) of `points` (point, component) of the subspace.

        What lies outside of it is equally far from all of its points: the one nearest to a
        vector's projection is the one nearest to the vector.
        """
        vectors: Array = points @ self.axes + self.origin
        return vectors


def fit(vectors: Vectors, kind: str, n_components: int) -> Projection:
    """The subspace nearest to `vectors` in the mean square, through their mean (``"pca"``) or through 0 (``"svd"``)."""
    n_entries = vectors.array.shape[1]
    if not 1 <= n_components <= n_entries:
        msg = (
            f"got n_components={n_components}, expected a number from 1 to the {n_entries} entries of a fingerprint: "
            f"correct it."
        )
        raise ValueError(msg)
    total, products = np.zeros(n_entries), np.zeros((n_entries, n_entries))
    for _, (some, product) in vectors.map(_moments):
        total += some
        products += product
    origin = total / len(vectors) if kind == "pca" else np.zeros(n_entries)
    axes = np.linalg.eigh(products - len(vectors) * np.outer(origin, origin))[1].T[::-1][:n_components]
    largest = np.abs(axes).argmax(axis=1)[:, None]
    return Projection(origin, axes * np.sign(np.take_along_axis(axes, largest, axis=1)))


def _moments(block: Array, _: object) -> tuple[Array, Array]:
    exact = block.astype(np.float64)
    return exact.sum(axis=0), exact.T @ exact
