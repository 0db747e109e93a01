"""What the kernels need of fitted models (Datasets), and whether data and models belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.kernels import nmf as nmf_kernel
from specufex_dask.kernels.gamma import digamma
from specufex_dask.recipe import identity

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]


def weights_of(nmf: xr.Dataset, dtype: DTypeLike) -> nmf_kernel.Weights:
    """Weights of the local step at temperature 1, of an NMF Dataset."""
    names = ("dictionary_shape", "dictionary_rate", "weight_shape", "weight_rate")
    return nmf_kernel.weights(*(nmf[name].values.astype(float) for name in names), 1.0, dtype)


def emission_of(hmm: xr.Dataset) -> tuple[Array, Array]:
    """E ln B (state, pattern) and the sum of E B over patterns (state,), of an HMM Dataset."""
    shape, rate = hmm["emission_shape"].values.astype(float), hmm["emission_rate"].values.astype(float)
    return digamma(shape) - np.log(rate), (shape / rate).sum(axis=1)


def require_same_frequencies(spectrograms: xr.Dataset, nmf: xr.Dataset) -> None:
    """Raise ``ValueError`` unless the spectrograms have the bins that the dictionary was fitted on."""
    got, expected = spectrograms["frequency"].values, nmf["frequency"].values
    if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-6, atol=1e-9):
        msg = (
            f"got spectrograms of {_bins(got)}, expected those of the model, {_bins(expected)}: "
            f"compute them with the band, nfft and sampling rate that the model was fitted with."
        )
        raise ValueError(msg)


def require_same_patterns(nmf: xr.Dataset, hmm: xr.Dataset) -> None:
    """Raise ``ValueError`` unless `hmm` was made with the patterns of `nmf`."""
    if nmf.sizes["pattern"] != hmm.sizes["pattern"] or not np.allclose(nmf["gain"], hmm["gain"], rtol=1e-6):
        msg = (
            f"got an HMM of {hmm.sizes['pattern']} patterns with another gain than the NMF model of "
            f"{nmf.sizes['pattern']}, expected an HMM fitted with this NMF model: pass the pair that belongs together."
        )
        raise ValueError(msg)


def require_activations_of(activations: xr.Dataset, nmf: xr.Dataset) -> None:
    """Raise ``ValueError`` unless `activations` were computed with the model `nmf`."""
    if activations.sizes["pattern"] != nmf.sizes["pattern"] or activations.attrs.get("nmf") not in (None, identity(nmf)):
        msg = (
            f"got activations of {activations.sizes['pattern']} patterns of another NMF model, expected those of the "
            f"given one with {nmf.sizes['pattern']}: pass compute_activations(spectrograms, nmf)."
        )
        raise ValueError(msg)


def require_positive(name: str, values: Array) -> None:
    """Raise ``ValueError`` unless all `values` of the Gamma parameter `name` are above 0 and finite."""
    wrong = ~((values > 0) & np.isfinite(values))
    if wrong.any():
        msg = f"got {name} with {wrong.sum()} entries that are not above 0 and finite, expected a Gamma parameter: correct them."
        raise ValueError(msg)


def usable_or_zero(spectrograms: Array, quality: Array, dtype: DTypeLike) -> Array:
    """`spectrograms` (record, …) with zeros in the place of records that are not usable."""
    clean = spectrograms.astype(dtype, copy=True)
    clean[quality != 0] = 0
    return clean


def _bins(frequency: Array) -> str:
    return f"{frequency.size} bins from {frequency[0]:.6g} to {frequency[-1]:.6g} Hz" if frequency.size else "no bins"
