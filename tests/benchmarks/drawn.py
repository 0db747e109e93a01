"""Records like those of a seismic network, drawn, and models fitted to them: what the kernels are timed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import specufex_dask as sx
from specufex_dask.kernels import stft

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

_STATES = 8


@dataclass(frozen=True)
class Setting:
    """How a published study makes spectrograms: rates and bands in Hz, windows in samples, `time_range` in s."""

    samples: int
    sampling_rate: float
    window: int
    overlap: int
    nfft: int
    band: tuple[float, float]
    time_range: tuple[float, float] | None = None
    pool: int = 1

    @property
    def frames(self) -> slice:
        """The frames whose centre lies in `time_range`."""
        hop = self.window - self.overlap
        centre = (np.arange((self.samples - self.window) // hop + 1) * hop + self.window / 2) / self.sampling_rate
        if self.time_range is None:
            return slice(0, len(centre))
        inside = np.flatnonzero((centre >= self.time_range[0]) & (centre < self.time_range[1]))
        return slice(int(inside[0]), int(inside[-1]) + 1)

    def matrix(self) -> tuple[Array, Array]:
        """The kernel's DFT of the band, and its bins [Hz]."""
        return stft.band_matrix(self.window, self.nfft, self.sampling_rate, self.band)

    def spectrograms(self, waveforms: Array, matrix: Array) -> Array:
        """Spectrograms (record, frequency, time) [dB] by the kernel, in the precision of `matrix`."""
        levels, _ = stft.spectrograms(
            waveforms, matrix, hop=self.window - self.overlap, frames=self.frames, pool=self.pool
        )
        return levels


SETTINGS = {
    "308 x 200": Setting(2000, 100.0, 50, 49, 2048, (2.0, 17.0), (4.0, 14.0), 5),
    "61 x 51": Setting(2501, 125.0, 64, 16, 512, (5.0, 20.0)),
}
"""By their size, frequency x time: the 2023 study of repeaters, and the tutorial on Amatrice."""


def waveforms(setting: Setting, n_records: int, rng: np.random.Generator) -> Array:
    """Waveforms (record, sample): noise that moves between states, each with a spectrum and loudness of its own."""
    n = setting.samples
    frequency = np.fft.rfftfreq(n, 1 / setting.sampling_rate)[1:]
    low, high = np.log(setting.band).tolist()
    peaks = rng.uniform(low, high, (_STATES, 3, 1))
    widths = rng.uniform(0.05, 0.4, (_STATES, 3, 1))
    spectra = 0.02 + np.exp(-0.5 * ((np.log(frequency) - peaks) / widths) ** 2).sum(axis=1)
    spectra *= 10 ** rng.uniform(-1, 0.5, (_STATES, 1))
    return np.stack([_record(spectra, n, setting.sampling_rate, rng) for _ in range(n_records)])


def _record(spectra: Array, n: int, sampling_rate: float, rng: np.random.Generator) -> Array:
    """One record: a Markov chain of states that last a second on average, with soft changes."""
    changes = np.cumsum(rng.random(n) < 1 / sampling_rate)
    states = rng.integers(len(spectra), size=changes[-1] + 1)[changes]
    taper = np.hanning(int(0.1 * sampling_rate) + 2)
    total = np.zeros(n)
    for state in np.unique(states):
        noise = np.fft.rfft(rng.standard_normal(n))
        noise[0], noise[1:] = 0, noise[1:] * spectra[state]
        total += np.fft.irfft(noise, n) * np.convolve(states == state, taper / taper.sum(), "same")
    return total


def models(setting: Setting, spectrograms: Array, *, n_patterns: int, n_states: int) -> tuple[xr.Dataset, xr.Dataset]:
    """Models of `spectrograms` (record, frequency, time) after a short fit that has not pruned a pattern yet."""
    stage = sx.spectrogram_dataset(
        spectrograms, frequency=setting.matrix()[1], time=np.arange(float(spectrograms.shape[2]))
    )
    nmf = sx.fit_nmf(stage, n_patterns=n_patterns, schedule="published", max_steps=300, tol=None, seed=0)
    activations = sx.compute_activations(stage, nmf)
    hmm = sx.fit_hmm(activations, nmf, n_states=n_states, max_steps=60, tol=None, n_init=1, seed=0)
    assert (nmf.sizes["pattern"], hmm.sizes["state"]) == (n_patterns, n_states)
    return nmf, hmm
