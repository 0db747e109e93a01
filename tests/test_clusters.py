"""Clusters of fingerprints: their numbers, their choice, and the same partition in memory and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from separated import BY_SIZE, fingerprints, separated
from sklearn.metrics import adjusted_rand_score, silhouette_samples

import specufex_dask as sx

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]


def test_clusters_are_numbered_by_size() -> None:
    found = sx.cluster_fingerprints(fingerprints(separated()), n_clusters=3, seed=0)
    np.testing.assert_array_equal(found["cluster"], BY_SIZE)
    assert found["cluster"].dtype.kind == "i"
    vectors = separated().astype("float32")
    for number in range(3):
        np.testing.assert_allclose(found["centroid"][number], vectors[number == BY_SIZE].mean(axis=0), atol=1e-5)
    flat, centres = vectors.reshape(50, -1), found["centroid"].values.reshape(3, -1)
    np.testing.assert_allclose(found["distance"], np.linalg.norm(flat - centres[BY_SIZE], axis=1), rtol=1e-4)


def test_equal_sizes_are_numbered_by_their_centroid() -> None:
    family = np.repeat([0, 1, 2, 3], 12)
    found = sx.cluster_fingerprints(fingerprints(separated(family=family)), n_clusters=4, seed=0)
    centres = found["centroid"].values.reshape(4, -1)
    assert np.bincount(found["cluster"]).tolist() == [12] * 4
    assert centres[:, 0].tolist() == sorted(centres[:, 0])


@pytest.mark.parametrize("seed", range(3))
def test_labels_do_not_depend_on_the_order_of_the_records(seed: int) -> None:
    vectors = separated()
    order = np.random.default_rng(seed).permutation(len(vectors))
    found = sx.cluster_fingerprints(fingerprints(vectors[order]), n_clusters=range(2, 5), seed=seed)
    assert found["mean_silhouette"].values.argmax() == 1
    np.testing.assert_array_equal(found["cluster"], BY_SIZE[order])


def test_an_unusable_record_is_in_no_cluster() -> None:
    unusable = (0, 17, 49)
    found = sx.cluster_fingerprints(fingerprints(separated(), unusable=unusable), n_clusters=range(2, 5), seed=0)
    good = np.setdiff1d(np.arange(50), unusable)
    assert (found["cluster"][list(unusable)] == -1).all()
    assert (found["labels"][:, list(unusable)] == -1).all()
    assert np.isnan(found["silhouette"][list(unusable)]).all()
    assert np.isnan(found["distance"][list(unusable)]).all()
    np.testing.assert_array_equal(found["cluster"][good], BY_SIZE[good])
    assert found["quality"].values.nonzero()[0].tolist() == list(unusable)
    alone = sx.cluster_fingerprints(fingerprints(separated()[good]), n_clusters=range(2, 5), seed=0)
    np.testing.assert_allclose(found["mean_silhouette"], alone["mean_silhouette"], rtol=1e-6)
    np.testing.assert_allclose(found["distance"][good], alone["distance"], rtol=1e-5)


def test_the_number_is_chosen_by_the_silhouette() -> None:
    vectors = separated(noise=0.05)
    found = sx.cluster_fingerprints(fingerprints(vectors), n_clusters=range(2, 7), seed=0)
    flat = vectors.reshape(50, -1).astype("float32")
    assert found["n_clusters"].values.tolist() == [2, 3, 4, 5, 6]
    for row, number in enumerate(found["n_clusters"].values):
        labels = found["labels"].values[row]
        assert set(labels) == set(range(number))
        assert (np.diff(np.bincount(labels)) <= 0).all(), "every partition tried is numbered by size"
        expected = silhouette_samples(flat, labels)
        assert found["mean_silhouette"].values[row] == pytest.approx(expected.mean(), abs=1e-5)
        if number == 3:
            np.testing.assert_allclose(found["silhouette"], expected, atol=1e-4)
    assert found["mean_silhouette"].values.argmax() == 1
    np.testing.assert_array_equal(found["cluster"], found["labels"][1])


@pytest.mark.parametrize("n_clusters", [4, np.int64(4), [4], range(4, 5)])
def test_a_given_number_is_taken(n_clusters: Any) -> None:
    found = sx.cluster_fingerprints(fingerprints(separated()), n_clusters=n_clusters, seed=0)
    assert found["n_clusters"].values.tolist() == [4]
    assert set(found["cluster"].values) == {0, 1, 2, 3}
    assert found.sizes["cluster_id"] == 4


def test_one_cluster_is_all_records() -> None:
    found = sx.cluster_fingerprints(fingerprints(separated()), n_clusters=1, seed=0)
    assert (found["cluster"] == 0).all()
    assert np.isnan(found["silhouette"]).all()
    assert np.isnan(found["mean_silhouette"]).all()
    several = sx.cluster_fingerprints(fingerprints(separated()), n_clusters=[1, 2, 3], seed=0)
    assert several["mean_silhouette"].isnull().values.tolist() == [True, False, False]
    np.testing.assert_array_equal(several["cluster"], BY_SIZE)


@pytest.mark.parametrize(
    ("n_clusters", "text"),
    [
        (0, r"got n_clusters=\[0\], expected a whole number from 1, or different ones to choose from: correct it"),
        ([], r"got n_clusters=\[\], expected a whole number from 1"),
        ([2, 3, 2], r"got n_clusters=\[2, 3, 2\], expected a whole number from 1, or different ones"),
        (51, r"got 50 usable fingerprints, expected at least the 51 of n_clusters: try fewer clusters"),
    ],
)
def test_a_wrong_number_is_named(n_clusters: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sx.cluster_fingerprints(fingerprints(separated()), n_clusters=n_clusters, seed=0)


def test_too_few_usable_records_are_an_error() -> None:
    with pytest.raises(ValueError, match="got 0 usable fingerprints, expected at least the 2 of n_clusters: try fewer"):
        sx.cluster_fingerprints(fingerprints(separated(), unusable=tuple(range(50))), n_clusters=2, seed=0)


def test_fingerprints_that_are_all_alike() -> None:
    twins = np.repeat(separated()[[0, 20]], 10, axis=0)
    found = sx.cluster_fingerprints(fingerprints(twins), n_clusters=2, seed=0)
    assert np.bincount(found["cluster"]).tolist() == [10, 10]
    np.testing.assert_allclose(found["silhouette"], 1)
    np.testing.assert_allclose(found["distance"], 0, atol=1e-6)
    text = "got 20 usable fingerprints of which 2 differ, expected at least the 3 of n_clusters: try fewer clusters"
    with pytest.raises(ValueError, match=text):
        sx.cluster_fingerprints(fingerprints(twins), n_clusters=[2, 3], seed=0)


@pytest.mark.parametrize("n_records", [2, 3])
def test_as_many_clusters_as_records(n_records: int) -> None:
    found = sx.cluster_fingerprints(fingerprints(separated()[:n_records]), n_clusters=n_records, seed=0)
    assert sorted(found["cluster"].values) == list(range(n_records))
    assert (found["silhouette"] == 0).all()


def test_bits_do_not_depend_on_chunks() -> None:
    vectors = np.random.default_rng(0).random((90, 4, 4))  # no families: the borders are a matter of digits
    found = [
        sx.cluster_fingerprints(fingerprints(vectors, chunk=chunk), n_clusters=range(2, 9), seed=0)
        for chunk in (7, 32, None)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0]["labels"], other["labels"])
        np.testing.assert_array_equal(found[0]["mean_silhouette"], other["mean_silhouette"])
        np.testing.assert_array_equal(found[0]["centroid"], other["centroid"])


def test_a_seed_is_a_partition() -> None:
    vectors = np.random.default_rng(0).random((90, 4, 4))
    first, again, other = (
        sx.cluster_fingerprints(fingerprints(vectors), n_clusters=8, seed=seed, n_init=1) for seed in (0, 0, 1)
    )
    xr.testing.assert_identical(first, again)
    assert adjusted_rand_score(first["cluster"], other["cluster"]) < 1


def test_out_of_memory_gives_the_same_partition() -> None:
    pytest.importorskip("dask_ml", reason="dask-ml, an extra, clusters what does not fit in memory")
    made = fingerprints(separated(), unusable=(3, 30))
    inside = sx.cluster_fingerprints(made, n_clusters=range(2, 5), seed=0)
    outside = sx.cluster_fingerprints(made, n_clusters=range(2, 5), seed=0, memory_limit=100)
    np.testing.assert_array_equal(outside["cluster"], inside["cluster"])
    np.testing.assert_array_equal(outside["labels"][:2], inside["labels"][:2])
    np.testing.assert_allclose(outside["centroid"], inside["centroid"], atol=1e-5)
    np.testing.assert_allclose(outside["distance"], inside["distance"], atol=1e-5)
    np.testing.assert_allclose(outside["silhouette"], inside["silhouette"], atol=1e-4)
    np.testing.assert_allclose(outside["mean_silhouette"][:2], inside["mean_silhouette"][:2], atol=1e-4)
    assert outside.attrs["recipe_id"] != inside.attrs["recipe_id"]


def test_blocks_that_fit_are_read_once() -> None:
    """Up to four times memory_limit; more is read at each pass, to the same bits."""
    pytest.importorskip("dask_ml", reason="dask-ml, an extra, clusters what does not fit in memory")
    made = fingerprints(separated())
    read: list[int] = []

    def count(block: Array) -> Array:
        read.append(len(block))
        return block

    counted = made["fingerprint"].data.map_blocks(count, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    made = made.assign(fingerprint=(made["fingerprint"].dims, counted))
    kept = sx.cluster_fingerprints(made, n_clusters=3, seed=0, memory_limit=500)
    assert sum(read) == len(BY_SIZE)
    anew = sx.cluster_fingerprints(made, n_clusters=3, seed=0, memory_limit=400)
    assert sum(read) > 3 * len(BY_SIZE)
    for name in ("cluster", "distance", "silhouette", "centroid"):
        np.testing.assert_array_equal(kept[name], anew[name])


def test_a_checkpoint_is_the_clusters_without_the_work(tmp_path: Path) -> None:
    made, store = fingerprints(separated()), str(tmp_path / "s.zarr")
    first = sx.save(sx.cluster_fingerprints(made, n_clusters=3, seed=0, checkpoint=store), store)

    def fail(_: Array) -> Array:
        msg = "read"
        raise AssertionError(msg)

    trap = made["fingerprint"].data.map_blocks(fail, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    trapped = made.assign(fingerprint=(made["fingerprint"].dims, trap))
    again = sx.cluster_fingerprints(trapped, n_clusters=3, seed=0, checkpoint=store)
    xr.testing.assert_identical(again.compute(), first.compute())
    with pytest.raises(AssertionError, match="read"):
        sx.cluster_fingerprints(trapped, n_clusters=4, seed=0, checkpoint=store)


def test_clusters_know_their_records_and_models() -> None:
    made = fingerprints(separated())
    found = sx.cluster_fingerprints(made, n_clusters=3, seed=0)
    for name in ("event_id", "station_id", "start_time"):
        np.testing.assert_array_equal(found[name], made[name])
    assert (found.attrs["nmf"], found.attrs["hmm"]) == ("one model", "another")
