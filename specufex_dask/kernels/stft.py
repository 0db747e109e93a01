"""Band-limited spectrograms as matrix products.

Only the bins of a band are wanted, so window, detrending, zero-padding, DFT and scaling are one
real matrix, and the frames of all records go through it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray[Any, np.dtype[Any]]

RECORDS_PER_PRODUCT = 16
"""Records in one inner block, counted from the start of the chunk, so that bits do not depend on the chunk."""


def band_matrix(frame_length: int, nfft: int, sampling_rate: float, band: tuple[float, float]) -> tuple[Array, Array]:
    """Matrix (2 bins, frame_length) that takes a frame to the real and imaginary part of each bin, and the bins [Hz].

    The frame's mean is removed, a Tukey(0.25) window applied and the DFT scaled as SciPy's
    ``spectrogram(..., scaling="spectrum", mode="magnitude")`` does.
    """
    frequency = np.fft.rfftfreq(nfft, 1.0 / sampling_rate)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    window = tukey(frame_length, 0.25)
    phase = -2j * np.pi * np.outer(np.nonzero(inside)[0], np.arange(frame_length)) / nfft
    transform = np.exp(phase) * (window / window.sum())
    # Removing the mean of a frame is a projection: apply it to the matrix once, not to each frame.
    transform -= transform.mean(axis=1, keepdims=True)
    return np.concatenate([transform.real, transform.imag]), frequency[inside]


def tukey(n: int, taper: float) -> Array:
    """Periodic Tukey window (n,) whose cosine tapers cover the fraction `taper` (SciPy's ``get_window``)."""
    position = np.arange(n) / n
    edge = np.minimum(position, 1.0 - position)
    return np.where(edge < taper / 2, 0.5 * (1.0 - np.cos(2.0 * np.pi * edge / taper)), 1.0)


def magnitudes(waveforms: Array, matrix: Array, *, hop: int, frames: slice, pool: int) -> Array:
    """Magnitudes (record, bin, time) of `waveforms` (record, sample), mean-pooled by `pool` frames along time."""
    with np.errstate(invalid="ignore"):  # a record that holds an infinity becomes NaN, and is flagged
        centred = (waveforms - waveforms.mean(axis=1, keepdims=True, dtype=np.float64)).astype(matrix.dtype)
        view = sliding_window_view(centred, matrix.shape[1], axis=1)[:, ::hop][:, frames]
        n_time = view.shape[1] // pool
        parts = np.matmul(matrix, np.ascontiguousarray(view[:, : n_time * pool]).swapaxes(1, 2))
    return _pooled_magnitude(parts, pool)


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _pooled_magnitude(parts: Array, pool: int) -> Array:
    n_records, n_rows, n_frames = parts.shape
    n_bins, n_time = n_rows // 2, n_frames // pool
    pooled = np.empty((n_records, n_bins, n_time), parts.dtype)
    row = np.empty(n_frames, parts.dtype)
    for r in range(n_records):
        for f in range(n_bins):
            real, imaginary = parts[r, f], parts[r, n_bins + f]
            for i in range(n_frames):
                row[i] = np.sqrt(real[i] * real[i] + imaginary[i] * imaginary[i])
            for t in range(n_time):
                total = parts.dtype.type(0)
                for i in range(t * pool, (t + 1) * pool):
                    total += row[i]
                pooled[r, f, t] = total / parts.dtype.type(pool)
    return pooled


def decibels(magnitude: Array) -> tuple[Array, Array]:
    """dB above each record's own median, clipped below at 0, and the medians (record,).

    A record whose median is 0 or not finite gets NaN throughout.
    """
    median = np.median(magnitude.reshape(len(magnitude), -1), axis=1)
    reference = np.where(median > 0, median, np.nan)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log10(magnitude / reference.astype(magnitude.dtype))
    level *= 20
    return np.maximum(level, 0, out=level), median


def spectrograms(waveforms: Array, matrix: Array, *, hop: int, frames: slice, pool: int) -> tuple[Array, Array]:
    """Spectrograms [dB] (record, frequency, time) of `waveforms` (record, sample), and the medians (record,)."""
    levels, medians = [], []
    for start in range(0, len(waveforms), RECORDS_PER_PRODUCT):
        block = waveforms[start : start + RECORDS_PER_PRODUCT]
        level, median = decibels(magnitudes(block, matrix, hop=hop, frames=frames, pool=pool))
        levels.append(level)
        medians.append(median)
    return np.concatenate(levels), np.concatenate(medians)
