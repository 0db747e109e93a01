"""Activations: how strongly each spectral pattern of a dictionary sounds in each record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import models, schema
from specufex_dask.blocks import map_records, record_chunked
from specufex_dask.kernels import nmf as kernel
from specufex_dask.recipe import identity, stamp

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]


def compute_activations(spectrograms: xr.Dataset, nmf: xr.Dataset, *, dtype: DTypeLike = "float32") -> xr.Dataset:
    """Compute, lazily, the activation of each pattern of `nmf` in each record.

    The activation is the posterior mean V1/V2 of V after five local iterations from V1 = 1 with
    the dictionary fixed (prior 1/K, K the number of patterns of `nmf`).

    Parameters
    ----------
    spectrograms
        spectrogram (record, frequency, time) [dB], at the frequencies of `nmf`.
    nmf
        What `fit_nmf` or `nmf_model` returns.
    dtype
        Precision of the computation and the result.

    Returns
    -------
    xarray.Dataset
        Stage ``activations``: activation (record, pattern, time), NaN where a record is not
        usable, and quality (record,).

    Raises
    ------
    ValueError
        If the frequencies of the spectrograms are not those of the model.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> activations = sx.compute_activations(spectrograms, nmf)
    >>> activations.activation.sizes["record"]
    40
    """
    schema.require(spectrograms, "spectrograms")
    schema.require(nmf, "nmf")
    models.require_same_frequencies(spectrograms, nmf)
    n_patterns, n_time = nmf.sizes["pattern"], spectrograms.sizes["time"]
    blocks = map_records(
        _activation_block,
        [record_chunked(spectrograms["spectrogram"]), record_chunked(spectrograms["quality"])],
        {"activation": ((n_patterns, n_time), np.dtype(dtype))},
        weights=models.weights_of(nmf, dtype),
    )
    result = xr.Dataset(
        {"activation": (("record", "pattern", "time"), blocks["activation"]), "quality": spectrograms["quality"]},
        coords=schema.record_coordinates(spectrograms) | {"time": spectrograms["time"]},
        attrs={"nmf": identity(nmf)},
    )
    return stamp(result, "activations", {"dtype": np.dtype(dtype).name}, spectrograms=spectrograms, nmf=nmf)


def _activation_block(spectrograms: Array, quality: Array, weights: kernel.Weights) -> dict[str, Array]:
    activation = kernel.transform(models.usable_or_zero(spectrograms, quality, weights.relative.dtype), weights)
    activation[quality != 0] = np.nan
    return {"activation": activation}
