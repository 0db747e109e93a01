"""Partitions of vectors by k-means, by a hierarchy or by any clusterer of scikit-learn, numbered by size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from specufex_dask import hierarchy, kmeans
from specufex_dask.blocks import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from specufex_dask.vectors import Vectors

Array = np.ndarray[Any, np.dtype[Any]]

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Partitions:
    """Labels (n_clusters, record) and centroids of each number tried, and what else is known of them.

    Distances (n_clusters, record) to the centroids, the records that the search began with, the tree.
    """

    labels: Array
    centroids: list[Array]
    distance: Array | None = None
    sampled: Array | None = None
    tree: hierarchy.Hierarchy | None = None

    def moved(self, move: Callable[[Array], Array]) -> Partitions:
        """The same with centroids that went through `move`."""
        return replace(self, centroids=[move(each) for each in self.centroids], distance=None)


def described(method: object) -> object:
    """A method as a recipe has it."""
    if isinstance(method, str) and method in {"kmeans", "ward", "single"}:
        return method
    if isinstance(method, str) or not hasattr(method, "fit_predict"):
        msg = (
            f"got method={method!r}, expected 'kmeans', 'ward', 'single' or an instance of a clusterer of "
            f"scikit-learn: correct it."
        )
        raise ValueError(msg)
    settings = method.get_params() if hasattr(method, "get_params") else {}
    return {"class": f"{type(method).__module__}.{type(method).__qualname__}"} | settings


def partitions(vectors: Vectors, method: object, tried: list[int], *, seed: int, n_init: int) -> Partitions:
    """Partitions of `vectors` by `method`; a clusterer of the user's own makes one, whatever the numbers `tried`."""
    if not isinstance(method, str):
        return _by_clusterer(method, vectors)
    if method != "kmeans":
        tree = hierarchy.hierarchy(vectors, method, seed=seed, most_clusters=max(tried))
        labels, centroids = zip(*(_canonical(*tree.cut(k)) for k in tried), strict=True)
        return Partitions(np.stack(labels), list(centroids), tree=tree)
    if vectors.in_memory:
        found = kmeans.in_memory(vectors.array, tried, seed, n_init)
        (number, distance), chosen = kmeans.nearest(vectors, found), None
    else:
        number, distance, found, chosen = _streamed(vectors, tried, seed, n_init)
    labels, centroids = zip(*(_canonical(*each) for each in zip(number, found, strict=True)), strict=True)
    return Partitions(np.stack(labels), list(centroids), distance, chosen)


def _streamed(vectors: Vectors, tried: list[int], seed: int, n_init: int) -> tuple[Array, Array, list[Array], Array]:
    """k-means by dask-ml from the centres of a sample, and that sample; as fine as scikit-learn's."""
    rng = np.random.default_rng([seed, 0])
    chosen = np.sort(rng.choice(len(vectors), min(kmeans.SAMPLE, len(vectors)), replace=False))
    sampled = vectors.rows(chosen)
    tolerance = _TOLERANCE * float(sampled.var(axis=0, dtype=np.float64).mean())
    labels, distance, centres = kmeans.streamed(vectors, kmeans.in_memory(sampled, tried, seed, n_init), tol=tolerance)
    return labels, distance, centres, chosen


def _by_clusterer(method: Any, vectors: Vectors) -> Partitions:  # noqa: ANN401 - scikit-learn has no types
    from sklearn.base import clone

    if not vectors.in_memory:
        msg = (
            f"got fingerprints larger than memory_limit for {method!r}, expected them to fit: raise memory_limit, "
            f"project them on fewer components or use kmeans or ward."
        )
        raise ValueError(msg)
    with threadpool_limits(limits=1, user_api="openmp"), one_blas_thread():
        labels = np.asarray(clone(method).fit_predict(vectors.array))
    number = np.unique(labels[labels >= 0], return_inverse=True)[1]
    if not len(number):
        msg = (
            f"got no cluster from {method!r}, expected one or more: all records are noise to it, loosen its parameters."
        )
        raise ValueError(msg)
    whole = np.full(len(labels), -1)
    whole[labels >= 0] = number
    n_found = int(number.max()) + 1
    labels, centroids = _canonical(whole, hierarchy.means(vectors, whole, n_found))
    return Partitions(labels[None], [centroids])


def _canonical(labels: Array, centroids: Array) -> tuple[Array, Array]:
    """Number the clusters by size, the largest 0; equal sizes by their centroid."""
    sizes = np.bincount(labels[labels >= 0], minlength=len(centroids))
    order = np.lexsort([*centroids.T[::-1], -sizes])
    number = np.append(np.argsort(order), -1)  # noise, -1, takes the last
    return number[labels].astype("int32"), centroids[order]
