"""The NMF of the public package specufex 0.1.1, step by step, by our kernels with its settings.

Its NMF is the same mathematics from another start, with annealing from step -1, one record a
step and N_eff the number of spectrograms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask import svi
from specufex_dask.nmf import GammaPoisson, Posterior

if TYPE_CHECKING:
    from pathlib import Path

_N_SPECTROGRAMS = 20


def test_nmf_states_after_each_stored_step(data_dir: Path) -> None:
    port = np.load(data_dir / "port_golden.npz")
    spectrograms = port["X"].astype(float)
    model = GammaPoisson(75, _N_SPECTROGRAMS, 0)
    params = Posterior(port["nmf_W1_0"], port["nmf_W2_0"], port["nmf_A1_0"].ravel(), port["nmf_A2_0"].ravel())
    for done, record in enumerate(port["nmf_order"][:300], start=1):
        number = done - 2  # the package counts its steps from -1
        tau = 1 + 0.75 ** (number - 1)
        step = svi.Step(number, 1, tau, (250 / (1 + 5 * (tau - 1)) + number) ** -0.51)
        params = model.global_step(params, model.local_step(spectrograms[[record]], params, tau), step)
        if done in (1, 3, 10, 50, 300):
            ours = _sorted(params.dictionary_shape, params.dictionary_rate, params.weight_shape, params.weight_rate)
            stored = _sorted(*(port[f"nmf_{name}_{done}"] for name in ("W1", "W2", "A1", "A2")))
            for name, got, expected in zip(("W1", "W2", "A1", "A2"), ours, stored, strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-8, err_msg=f"{name} after {done} steps")


def _sorted(*parameters: np.ndarray) -> list[np.ndarray]:
    """The parameters (…, pattern) with the patterns in one order: the package sorts its own after every step."""
    order = np.argsort(parameters[0].sum(axis=0))
    return [np.broadcast_to(values, (len(np.atleast_2d(values)), order.size))[:, order] for values in parameters]
