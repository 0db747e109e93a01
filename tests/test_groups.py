"""Figures of many groups at once, against those of one group after the other."""

from __future__ import annotations

import numpy as np
import pytest

from specufex_dask.kernels.groups import firsts, means, medians, numbered


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_each_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.choice([0, 1, 2, 4, 5], 37)
    values = rng.normal(size=37)
    found = {"median": medians(values, group, 6), "mean": means(values, group, 6)}
    first = firsts(group, 6)
    for number in range(6):
        own = values[group == number]
        if not len(own):
            assert all(np.isnan(each[number]) for each in found.values())
            assert first[number] == 37
            continue
        assert found["median"][number] == np.median(own)
        assert found["mean"][number] == pytest.approx(own.mean())
        assert first[number] == np.flatnonzero(group == number)[0]


def test_without_members_every_group_is_empty() -> None:
    nothing = np.empty(0, dtype=int)
    assert np.isnan(medians(nothing, nothing, 3)).all()
    assert medians(nothing, nothing, 0).shape == (0,)
    assert firsts(nothing, 2).tolist() == [0, 0]


def test_the_largest_group_is_0_and_equal_ones_go_by_their_first_event() -> None:
    label = np.array([7, 3, 3, 9, 5, 5, 3, -1, -1, 2])
    assert numbered(label, at_least=2).tolist() == [-1, 0, 0, -1, 1, 1, 0, -1, -1, -1]
    assert numbered(label, at_least=1).tolist() == [2, 0, 0, 3, 1, 1, 0, -1, -1, 4]
