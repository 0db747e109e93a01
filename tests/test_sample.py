"""The records that a fit sees: which are held out, which are drawn, and from how many chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import draws
import numpy as np
import pytest
from dask.base import compute
from hypothesis import given, settings
from hypothesis import strategies as st

from specufex_dask.blocks import record_chunked
from specufex_dask.sample import draw, event_hash, read, split, together

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

STATIONS = ("XX.A..HHZ", "XX.B..HHZ", "XX.C..HHZ")
RECORD_BYTES = 4 * 2 * 3


def _numbered(n_records: int, *, chunk: int = 8, unusable: Array | None = None) -> xr.Dataset:
    """Records at three stations, event-major, whose values are their own number."""
    base = draws.spectrograms(n_records, n_frequencies=2, n_time=3, chunk=chunk)
    values = da.from_array(np.multiply.outer(np.arange(n_records), np.ones((2, 3))), chunks=(chunk, 2, 3))
    quality = np.zeros(n_records, "int8")
    quality[[] if unusable is None else unusable] = 3
    changed = base.assign(spectrogram=(base["spectrogram"].dims, values), quality=("record", quality))
    return changed.assign_coords(draws.identities(n_records, STATIONS))


def _drawn(dataset: xr.Dataset, **changed: Any) -> tuple[Array, Array, int]:
    """Numbers of the drawn and the held-out records, and the number that could be fitted."""
    parameters: dict[str, Any] = {"held_out": 0.2, "memory_limit": 1e9, "seed": 0, "dtype": "float32"} | changed
    kept = {name: parameters[name] for name in ("held_out", "dtype")}
    records = split(dataset, record_chunked(dataset["spectrogram"]), **kept)
    chosen = draw(records, records.within(parameters["memory_limit"]), parameters["seed"])
    fitted, hidden = compute(together(records, chosen), together(records, records.held_out))
    for values, numbers in ((fitted, chosen), (hidden, records.held_out)):
        assert values.dtype == np.dtype(parameters["dtype"])
        assert values.shape[1:] == (2, 3)
        assert (values == numbers[:, None, None]).all(), "the records read are those chosen, each whole"
    return chosen, records.held_out, len(records.fitted)


def test_the_hash_of_an_event_is_the_same_everywhere() -> None:
    assert event_hash(np.array(["123456789"]))[0] == 0xCBF43926 / 2**32  # the check value of CRC-32
    many = event_hash(np.array([f"event{i}" for i in range(4000)], dtype=object))
    assert ((many >= 0) & (many < 1)).all()
    np.testing.assert_allclose(np.histogram(many, 10, (0, 1))[0] / 4000, 0.1, atol=0.02)


def test_an_event_is_held_out_at_all_its_stations() -> None:
    fitted, hidden, n_usable = _drawn(_numbered(300))
    assert set(fitted).isdisjoint(hidden)
    assert set(fitted) | set(hidden) == set(range(300))
    assert len(fitted) == n_usable
    assert set(fitted // 3).isdisjoint(hidden // 3)
    assert 0.1 < len(hidden) / 300 < 0.3


def test_an_event_stays_held_out_as_data_are_added() -> None:
    _, few, _ = _drawn(_numbered(150))
    _, more, _ = _drawn(_numbered(300), seed=7)
    assert few.tolist() == [record for record in more if record < 150]


def test_an_unusable_record_is_neither_fitted_nor_scored() -> None:
    unusable = np.array([0, 1, 17, 100, 101, 102, 299])
    fitted, hidden, n_usable = _drawn(_numbered(300, unusable=unusable))
    assert set(fitted) | set(hidden) == set(range(300)) - set(unusable)
    assert n_usable == len(fitted)


def test_none_held_out() -> None:
    fitted, hidden, _ = _drawn(_numbered(30), held_out=0.0)
    assert fitted.tolist() == list(range(30))
    assert len(hidden) == 0


@pytest.mark.parametrize("n_records", [1, 2, 3])
def test_where_all_events_would_be_held_out_none_is(n_records: int) -> None:
    fitted, hidden, n_usable = _drawn(_numbered(n_records), held_out=0.9999)
    assert fitted.tolist() == list(range(n_records))
    assert len(hidden) == 0
    assert n_usable == n_records


def test_no_usable_record_is_an_error() -> None:
    text = r"got 9 records of which none is usable, expected at least one: look at quality for the reasons"
    with pytest.raises(ValueError, match=text):
        _drawn(_numbered(9, unusable=np.arange(9)))


def test_the_score_is_taken_on_128_records_spread_over_all() -> None:
    _, hidden, _ = _drawn(_numbered(1500), held_out=0.5)
    assert len(hidden) == 128
    assert len(set(hidden)) == 128
    assert hidden[0] < 30
    assert hidden[-1] > 1470


def test_a_small_memory_takes_some_whole_chunks() -> None:
    """400 of 8000 records in chunks of 8: not one from each chunk, and not all from one."""
    fitted, _, n_usable = _drawn(_numbered(8000), held_out=0.0, memory_limit=400 * RECORD_BYTES)
    assert n_usable == 8000
    assert len(fitted) == 400
    assert (np.diff(fitted) > 0).all()
    chunks, n_taken = np.unique(fitted // 8, return_counts=True)
    assert len(chunks) == 50
    assert (n_taken == 8).all(), "a chunk that is read is used whole"


@pytest.mark.parametrize(("n_records", "chunk", "n_chunks"), [(8000, 500, 16), (8000, 100, 16), (4000, 500, 8)])
def test_at_least_16_chunks_where_there_are_so_many(n_records: int, chunk: int, n_chunks: int) -> None:
    fitted, _, _ = _drawn(_numbered(n_records, chunk=chunk), held_out=0.0, memory_limit=400 * RECORD_BYTES)
    assert len(fitted) == 400
    assert len(np.unique(fitted // chunk)) == n_chunks


def test_chunks_that_are_not_chosen_are_not_read() -> None:
    touched = []

    def touch(block: Array, block_info: Any = None) -> Array:
        if block_info:
            touched.append(block_info[0]["chunk-location"][0])
        return block

    dataset = _numbered(8000, chunk=100)
    traced = dataset["spectrogram"].data.map_blocks(touch, dtype=float, meta=np.empty((0, 0, 0)))
    dataset = dataset.assign(spectrogram=(dataset["spectrogram"].dims, traced))
    fitted, _, _ = _drawn(dataset, held_out=0.0, memory_limit=400 * RECORD_BYTES)
    assert sorted(touched) == sorted(set(fitted // 100))


def test_a_seed_is_a_choice() -> None:
    dataset = _numbered(8000)
    first, again, other = (
        _drawn(dataset, memory_limit=400 * RECORD_BYTES, seed=seed)[0].tolist() for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_the_limit_counts_the_bytes_of_the_precision() -> None:
    dataset = _numbered(800)
    limit = 100 * RECORD_BYTES
    assert len(_drawn(dataset, held_out=0.0, memory_limit=limit)[0]) == 100
    assert len(_drawn(dataset, held_out=0.0, memory_limit=limit, dtype="float64")[0]) == 50
    assert len(_drawn(dataset, held_out=0.0, memory_limit=1)[0]) == 1


@given(chosen=st.sets(st.integers(0, 99), max_size=60), chunk=st.integers(1, 110))
@settings(max_examples=40, deadline=None)
def test_any_records_are_read_in_their_order(chosen: set[int], chunk: int) -> None:
    array = da.from_array(np.arange(200.0).reshape(100, 2), chunks=(chunk, 2))
    wanted = np.array(sorted(chosen), dtype=int)
    np.testing.assert_array_equal(read(array, wanted, "float32"), np.arange(200.0).reshape(100, 2)[wanted])
