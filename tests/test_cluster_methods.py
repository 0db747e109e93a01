"""Ways to cluster beside k-means in memory: hierarchies, clusterers, projections, station by station, dask-ml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.cluster.hierarchy import fcluster, linkage
from separated import BY_SIZE, FAMILY, fingerprints, separated
from sklearn.cluster import DBSCAN, HDBSCAN, OPTICS, Birch, KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import specufex_dask as sx
from specufex_dask import kmeans, projection
from specufex_dask.vectors import Vectors

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize("method", ["ward", "single"])
def test_one_tree_is_cut_at_many_numbers(method: str) -> None:
    vectors = separated(noise=0.1)
    found = sx.cluster_fingerprints(
        fingerprints(vectors, unusable=(4,)), n_clusters=range(2, 40), method=method, seed=0
    )
    good = np.setdiff1d(np.arange(50), [4])
    tree = linkage(vectors[good].reshape(49, -1).astype("float32"), method)
    np.testing.assert_allclose(found["linkage"], tree, rtol=1e-6, atol=1e-9)
    assert found["leaf"].values[good].tolist() == list(range(49))
    assert found["leaf"].values[4] == -1
    for row, number in enumerate(found["n_clusters"].values):
        labels = found["labels"].values[row]
        assert labels[4] == -1
        assert adjusted_rand_score(labels[good], fcluster(tree, number, "maxclust")) == 1
        assert (np.diff(np.bincount(labels[good])) <= 0).all()
    chosen = found["cluster"].values
    assert found["mean_silhouette"].values.argmax() == found.sizes["cluster_id"] - 2
    for number in range(found.sizes["cluster_id"]):
        np.testing.assert_allclose(
            found["centroid"][number], vectors.astype("float32")[chosen == number].mean(axis=0), rtol=1e-4
        )


@pytest.mark.parametrize(
    "clusterer",
    [
        DBSCAN(eps=0.3), OPTICS(min_samples=4, cluster_method="dbscan", eps=0.3),
        Birch(n_clusters=3, threshold=0.1), GaussianMixture(3, covariance_type="diag", random_state=0),
        HDBSCAN(min_cluster_size=5, copy=True), KMeans(3, n_init=3, random_state=0),
    ],
    ids=lambda clusterer: type(clusterer).__name__,
)  # fmt: skip
def test_any_clusterer_of_scikit_learn(clusterer: Any) -> None:
    found = sx.cluster_fingerprints(fingerprints(separated()), method=clusterer, seed=0)
    np.testing.assert_array_equal(found["cluster"], BY_SIZE)
    assert found["n_clusters"].values.tolist() == [3]
    assert not hasattr(clusterer, "labels_"), "the instance is the user's, a copy is fitted"
    assert type(clusterer).__name__ in found.attrs["recipe"]


def test_noise_is_in_no_cluster_and_without_silhouette() -> None:
    vectors = separated()
    vectors[[3, 40]] += 5 * np.arange(1, 3)[:, None, None]
    found = sx.cluster_fingerprints(fingerprints(vectors, unusable=(7,)), method=DBSCAN(eps=0.3), seed=0)
    outside = [3, 7, 40]
    assert (found["cluster"].values[outside] == -1).all()
    assert found["quality"].values[outside].tolist() == [0, 3, 0]
    assert np.isnan(found["distance"].values[outside]).all()
    assert np.isnan(found["silhouette"].values[outside]).all()
    inside = np.setdiff1d(np.arange(50), outside)
    np.testing.assert_array_equal(found["cluster"].values[inside], BY_SIZE[inside])
    assert float(found["mean_silhouette"][0]) == pytest.approx(found["silhouette"].values[inside].mean())


def test_what_a_method_cannot_do_is_named() -> None:
    made = fingerprints(separated())
    with pytest.raises(
        ValueError, match=r"got no cluster from DBSCAN.*all records are noise to it, loosen its parameters"
    ):
        sx.cluster_fingerprints(made, method=DBSCAN(eps=1e-9), seed=0)
    with pytest.raises(ValueError, match=r"got fingerprints larger than memory_limit for DBSCAN.*raise memory_limit"):
        sx.cluster_fingerprints(made, method=DBSCAN(), seed=0, memory_limit=10)
    for method in ("kmedoids", 3):
        with pytest.raises(
            ValueError, match=f"got method={method!r}, expected 'kmeans', 'ward', 'single' or an instance"
        ):
            sx.cluster_fingerprints(made, method=method, seed=0)
    with pytest.raises(ValueError, match="got n_components=10, expected a number from 1 to the 9 entries"):
        sx.cluster_fingerprints(made, project="pca", n_components=10, seed=0)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["pca", "svd"])
def test_axes_are_scikit_learns(kind: str, lazy: bool) -> None:  # noqa: FBT001
    vectors = np.random.default_rng(0).normal(size=(300, 8)) * np.arange(1, 9) + 3
    given = Vectors(da.from_array(vectors, chunks=(70, 8))) if lazy else Vectors(vectors)
    found = projection.fit(given, kind, 3)
    theirs = (PCA(3) if kind == "pca" else TruncatedSVD(3, algorithm="arpack")).fit(vectors)
    np.testing.assert_allclose(np.abs(found.axes), np.abs(theirs.components_), atol=1e-8)
    points = found.onto(given, 1e9)
    np.testing.assert_allclose(found.back(points.array), theirs.inverse_transform(theirs.transform(vectors)), atol=1e-8)
    streamed = found.onto(given, 0) if lazy else points
    np.testing.assert_allclose(np.asarray(streamed.array), points.array)


@pytest.mark.parametrize("kind", ["pca", "svd"])
def test_a_projection_clusters_in_fewer_dimensions(kind: Any) -> None:
    made = fingerprints(separated())
    found = sx.cluster_fingerprints(made, n_clusters=3, project=kind, n_components=2, seed=0)
    np.testing.assert_array_equal(found["cluster"], BY_SIZE)
    flat, centres = made["fingerprint"].values.reshape(50, -1), found["centroid"].values.reshape(3, -1)
    apart = np.linalg.norm(flat[:, None] - centres, axis=2)
    np.testing.assert_array_equal(apart.argmin(axis=1), BY_SIZE)
    np.testing.assert_allclose(found["distance"], apart.min(axis=1), rtol=1e-5)
    streamed = sx.cluster_fingerprints(made, n_clusters=3, project=kind, n_components=2, seed=0, memory_limit=500)
    np.testing.assert_array_equal(streamed["cluster"], BY_SIZE)


def test_stations_are_clustered_by_themselves(tmp_path: Path) -> None:
    """Of one model of all stations, or of a model each: the same as one call a station."""
    names = ("X.A..Z", "X.B..Z")
    made = fingerprints(np.repeat(separated(), 2, axis=0), stations=names, chunk=16)
    store = str(tmp_path / "s.zarr")
    found = sx.cluster_stations(made, n_clusters=range(2, 5), seed=0, checkpoint=store)
    assert list(found) == list(names)
    for name, clusters in found.items():
        own = made.isel(record=np.flatnonzero(made["station_id"].values == name))
        xr.testing.assert_identical(clusters, sx.cluster_fingerprints(own, n_clusters=range(2, 5), seed=0))
        np.testing.assert_array_equal(clusters["cluster"], BY_SIZE)
        sx.save(clusters, store, group=name)
    again = sx.cluster_stations(made, n_clusters=range(2, 5), seed=0, checkpoint=store)
    assert again["X.B..Z"]["cluster"].chunks is not None, "as the store holds it"
    models = [fingerprints(separated(), stations=(name,), hmm=name) for name in names]
    apart = sx.cluster_stations(models, n_clusters=3, method="ward", seed=0)
    assert [clusters.attrs["hmm"] for clusters in apart.values()] == list(names)
    with pytest.raises(ValueError, match=r"got two Datasets with records of station_id 'X.A..Z', expected those of a"):
        sx.cluster_stations([models[0], models[0]], n_clusters=3, seed=0)
    with pytest.raises(ValueError, match="got group='x', expected none: the group of a station is its station_id"):
        sx.cluster_stations(made, n_clusters=3, seed=0, group="x")


def test_an_empty_cluster_is_put_where_records_are_far_from_theirs() -> None:
    pytest.importorskip("dask_ml", reason="dask-ml, an extra, clusters what does not fit in memory")
    flat = separated().reshape(50, -1)
    start = np.stack([flat[FAMILY == 1].mean(axis=0), flat[FAMILY == 2].mean(axis=0), np.full(9, 1e3)])
    labels, _, centres = kmeans.streamed(Vectors(da.from_array(flat, chunks=(16, 9))), [start], tol=0)
    assert adjusted_rand_score(labels[0], FAMILY) == 1
    np.testing.assert_allclose(centres[0][labels[0][0]], flat[FAMILY == 0].mean(axis=0))


def test_dask_ml_and_scikit_learn_part_the_gorner_fingerprints_alike(data_dir: Path) -> None:
    pytest.importorskip("dask_ml", reason="dask-ml, an extra, clusters what does not fit in memory")
    golden = np.load(data_dir / "gorner2007/golden/golden_every4th.npz")
    flat = golden["fingerprint"].reshape(len(golden["fingerprint"]), -1)
    for n_clusters in (2, 3, 6, 10):
        rng = np.random.default_rng(n_clusters)
        start = flat[rng.choice(len(flat), n_clusters, replace=False)]
        theirs = KMeans(n_clusters, init=start, n_init=1, tol=0, max_iter=1000).fit(flat)
        labels, _, centres = kmeans.streamed(Vectors(da.from_array(flat, chunks=(100, 225))), [start], tol=0)
        np.testing.assert_array_equal(labels[0], theirs.labels_)
        np.testing.assert_allclose(centres[0], theirs.cluster_centers_, atol=1e-10)
