"""Models as Datasets: made of given parameters, as the kernels need them, and whether they belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import schema
from specufex_dask.kernels import nmf as nmf_kernel
from specufex_dask.kernels.gamma import digamma
from specufex_dask.recipe import identity, stamp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]


def nmf_model(
    *,
    dictionary_shape: ArrayLike,
    dictionary_rate: ArrayLike,
    weight_shape: ArrayLike,
    weight_rate: ArrayLike,
    frequency: ArrayLike,
) -> xr.Dataset:
    """Make an NMF model of given Gamma parameters; the order of the patterns is kept.

    Parameters
    ----------
    dictionary_shape, dictionary_rate
        Gamma shape and rate of W (frequency, pattern).
    weight_shape, weight_rate
        Gamma shape and rate of A (pattern,); (1, pattern) is taken too.
    frequency
        Centres of the frequency bins (frequency,) [Hz].

    Raises
    ------
    ValueError
        If the shapes do not fit each other or an entry is not positive.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> nmf = sx.nmf_model(
    ...     dictionary_shape=np.ones((4, 2)), dictionary_rate=np.ones((4, 2)),
    ...     weight_shape=[1.0, 2.0], weight_rate=[1.0, 1.0], frequency=[1.0, 2.0, 3.0, 4.0],
    ... )
    >>> nmf.gain.values
    array([4., 4.])
    """
    given = {
        "dictionary_shape": np.asarray(dictionary_shape, float),
        "dictionary_rate": np.asarray(dictionary_rate, float),
        "weight_shape": np.asarray(weight_shape, float).ravel(),
        "weight_rate": np.asarray(weight_rate, float).ravel(),
    }
    bins = np.asarray(frequency, float).ravel()
    n_patterns = given["weight_shape"].size
    for name, values in given.items():
        expected = (bins.size, n_patterns) if name.startswith("dictionary") else (n_patterns,)
        if values.shape != expected:
            msg = f"got {name} of shape {values.shape}, expected {expected} (frequency, pattern): transpose or cut it."
            raise ValueError(msg)
        require_positive(name, values)
    return stamp(nmf_dataset(**given, frequency=bins), "nmf", given | {"frequency": bins})


def hmm_model(*, emission_shape: ArrayLike, emission_rate: ArrayLike, nmf: xr.Dataset) -> xr.Dataset:
    """Make an HMM of given Gamma parameters; the order of the states is kept.

    Parameters
    ----------
    emission_shape, emission_rate
        Gamma shape and rate of the emission B (state, pattern).
    nmf
        The NMF model whose patterns the states emit; its gain scales the activations.

    Raises
    ------
    ValueError
        If the shapes do not fit the patterns of `nmf`, or an entry is not positive.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> nmf = sx.nmf_model(
    ...     dictionary_shape=np.ones((4, 2)), dictionary_rate=np.ones((4, 2)),
    ...     weight_shape=[1.0, 2.0], weight_rate=[1.0, 1.0], frequency=[1.0, 2.0, 3.0, 4.0],
    ... )
    >>> sx.hmm_model(emission_shape=np.ones((3, 2)), emission_rate=np.ones((3, 2)), nmf=nmf).sizes["state"]
    3
    """
    schema.require(nmf, "nmf")
    shape, rate = np.asarray(emission_shape, float), np.asarray(emission_rate, float)
    for name, values in {"emission_shape": shape, "emission_rate": rate}.items():
        if values.shape != (*shape.shape[:1], nmf.sizes["pattern"]):
            expected = f"(state, {nmf.sizes['pattern']} patterns)"
            msg = f"got {name} of shape {values.shape}, expected {expected}: transpose or cut it."
            raise ValueError(msg)
        require_positive(name, values)
    given = {"emission_shape": shape, "emission_rate": rate}
    return stamp(hmm_dataset(shape, rate, nmf), "hmm", given, nmf=nmf)


def nmf_dataset(
    dictionary_shape: Array, dictionary_rate: Array, weight_shape: Array, weight_rate: Array, frequency: Array
) -> xr.Dataset:
    """The variables of the stage ``nmf`` from its Gamma parameters; not yet stamped with a recipe."""
    both, pattern = ("frequency", "pattern"), ("pattern",)
    dictionary = dictionary_shape / dictionary_rate
    return xr.Dataset(
        {
            "dictionary": (both, dictionary),
            "dictionary_shape": (both, dictionary_shape),
            "dictionary_rate": (both, np.broadcast_to(dictionary_rate, dictionary_shape.shape).copy()),
            "weight": (pattern, weight_shape / weight_rate),
            "weight_shape": (pattern, weight_shape),
            "weight_rate": (pattern, weight_rate),
            "gain": (pattern, dictionary.sum(axis=0)),
        },
        coords={"frequency": frequency},
    )


def hmm_dataset(shape: Array, rate: Array, nmf: xr.Dataset) -> xr.Dataset:
    """The variables of the stage ``hmm`` from its Gamma parameters; not yet stamped with a recipe."""
    both = ("state", "pattern")
    return xr.Dataset(
        {
            "emission": (both, shape / rate),
            "emission_shape": (both, shape),
            "emission_rate": (both, rate),
            "gain": ("pattern", nmf["gain"].values),
        },
        attrs={"nmf": identity(nmf)},
    )


def weights_of(nmf: xr.Dataset, dtype: DTypeLike) -> nmf_kernel.Weights:
    """Weights of the local step at temperature 1, of an NMF Dataset."""
    names = ("dictionary_shape", "dictionary_rate", "weight_shape", "weight_rate")
    w1, w2, a1, a2 = (nmf[name].values.astype(float) for name in names)
    return nmf_kernel.weights(w1, w2, a1, a2, 1.0, dtype)


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
    if nmf.sizes["pattern"] != hmm.sizes["pattern"] or hmm.attrs.get("nmf") not in (None, identity(nmf)):
        msg = (
            f"got an HMM of {hmm.sizes['pattern']} patterns that was made with another NMF model than the given one of "
            f"{nmf.sizes['pattern']}, expected an HMM of this NMF model: pass the pair that belongs together."
        )
        raise ValueError(msg)


def require_activations_of(activations: xr.Dataset, nmf: xr.Dataset) -> None:
    """Raise ``ValueError`` unless `activations` were computed with the model `nmf`."""
    if activations.sizes["pattern"] != nmf.sizes["pattern"] or activations.attrs.get("nmf") not in (
        None,
        identity(nmf),
    ):
        msg = (
            f"got activations of {activations.sizes['pattern']} patterns of another NMF model, expected those of the "
            f"given one with {nmf.sizes['pattern']}: pass compute_activations(spectrograms, nmf)."
        )
        raise ValueError(msg)


def require_positive(name: str, values: Array) -> None:
    """Raise ``ValueError`` unless all `values` of the Gamma parameter `name` are above 0 and finite."""
    wrong = ~((values > 0) & np.isfinite(values))
    if wrong.any():
        msg = (
            f"got {name} with {wrong.sum()} entries that are not above 0 and finite, expected a Gamma parameter: "
            f"correct them."
        )
        raise ValueError(msg)


def usable_or_zero(spectrograms: Array, quality: Array, dtype: DTypeLike) -> Array:
    """`spectrograms` (record, …) with zeros in the place of records that are not usable."""
    clean = spectrograms.astype(dtype, copy=True)
    clean[quality != 0] = 0
    return clean


def _bins(frequency: Array) -> str:
    return f"{frequency.size} bins from {frequency[0]:.6g} to {frequency[-1]:.6g} Hz" if frequency.size else "no bins"
