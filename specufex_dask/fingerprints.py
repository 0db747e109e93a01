"""Fingerprints: how each record moves through the states of the HMM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import models, schema
from specufex_dask.blocks import map_records, record_chunked
from specufex_dask.kernels import fingerprint as kernel
from specufex_dask.kernels import nmf as nmf_kernel
from specufex_dask.recipe import identity, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]

_DIMS = {
    "fingerprint": ("record", "state", "next_state"),
    "transition": ("record", "state", "next_state"),
    "initial": ("record", "state"),
    "state_probability": ("record", "state", "time"),
    "state_sequence": ("record", "time"),
}
_OPTIONAL = ("initial", "state_probability")


def compute_fingerprints(
    spectrograms: xr.Dataset,
    nmf: xr.Dataset,
    hmm: xr.Dataset,
    *,
    keep: Sequence[str] = (),
    dtype: DTypeLike = "float32",
) -> xr.Dataset:
    """Compute, lazily, the fingerprint of each record: spectrogram, activation and states in one task.

    With A the record's transition matrix (expected counts in proportion), pi its initial
    distribution, g = 100/101 and v the occupancy sum_n g^n pi A^n (n = 0 ... 100, in proportion),
    the fingerprint is F_ij = v_i sqrt(A_ij) (Sawi et al. 2022).

    Parameters
    ----------
    spectrograms
        spectrogram (record, frequency, time) [dB], at the frequencies of `nmf`.
    nmf, hmm
        The two models; `hmm` was fitted with `nmf`.
    keep
        Further results to keep: ``"initial"`` and ``"state_probability"``.
    dtype
        Precision of the activations and the results; the recursions are float64.

    Returns
    -------
    xarray.Dataset
        Stage ``fingerprints``: fingerprint and transition (record, state, next_state), NaN where
        a record is not usable, state_sequence (record, time), -1 there, and quality (record,).
        transition and initial are expected counts with their priors (0.1/S and 0.01/S).

    Raises
    ------
    ValueError
        If the spectrograms and the two models do not belong together, or `keep` is not known.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=3, max_steps=20, seed=0)
    >>> fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm)
    >>> fingerprints.fingerprint.shape
    (40, 3, 3)
    """
    for dataset, stage in ((spectrograms, "spectrograms"), (nmf, "nmf"), (hmm, "hmm")):
        schema.require(dataset, stage)
    models.require_same_frequencies(spectrograms, nmf)
    models.require_same_patterns(nmf, hmm)
    unknown = set(keep) - set(_OPTIONAL)
    if unknown:
        msg = f"got keep={tuple(keep)!r}, expected names out of {_OPTIONAL}: leave out {sorted(unknown)}."
        raise ValueError(msg)
    sizes = {"state": hmm.sizes["state"], "next_state": hmm.sizes["state"], "time": spectrograms.sizes["time"]}
    names = [name for name in _DIMS if name in keep or name not in _OPTIONAL]
    log_emission, emission_sum = models.emission_of(hmm)
    blocks = map_records(
        _fingerprint_block,
        [record_chunked(spectrograms["spectrogram"]), record_chunked(spectrograms["quality"])],
        {
            name: (
                tuple(sizes[dim] for dim in _DIMS[name][1:]),
                _index_type(hmm.sizes["state"]) if name == "state_sequence" else np.dtype(dtype),
            )
            for name in names
        },
        weights=models.weights_of(nmf, dtype),
        gain=nmf["gain"].values.astype(dtype),
        log_emission=log_emission,
        emission_sum=emission_sum,
        names=names,
        precision=np.dtype(dtype),
    )
    result = xr.Dataset(
        {name: (_DIMS[name], blocks[name]) for name in names} | {"quality": spectrograms["quality"]},
        coords=schema.record_coordinates(spectrograms) | {"time": spectrograms["time"]},
        attrs={"nmf": identity(nmf), "hmm": identity(hmm)},
    )
    parameters = {"keep": sorted(keep), "dtype": np.dtype(dtype).name}
    return stamp(result, "fingerprints", parameters, spectrograms=spectrograms, nmf=nmf, hmm=hmm)


def _fingerprint_block(
    spectrograms: Array,
    quality: Array,
    *,
    weights: nmf_kernel.Weights,
    gain: Array,
    log_emission: Array,
    emission_sum: Array,
    names: list[str],
    precision: np.dtype[Any],
) -> dict[str, Array]:
    activation = nmf_kernel.transform(models.usable_or_zero(spectrograms, quality, precision), weights)
    results = kernel.fingerprints(activation * gain[:, None], log_emission, emission_sum)
    unusable = quality != 0
    for name in names:
        whole = name == "state_sequence"
        kind = _index_type(len(emission_sum)) if whole else precision
        results[name] = results[name].astype(kind, copy=False)
        results[name][unusable] = -1 if whole else np.nan
    return {name: results[name] for name in names}


def _index_type(n_states: int) -> np.dtype[Any]:
    """The smallest integer that numbers the states, and holds -1: int8 up to 128 of them."""
    return np.min_scalar_type(-n_states)
