"""Spectrograms in dB above each record's own median, of one band of frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import schema
from specufex_dask.blocks import map_records, record_chunked
from specufex_dask.kernels import stft
from specufex_dask.recipe import digest, stamp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]

_FLAG = {reason: np.int8(value) for value, reason in enumerate(schema.QUALITY)}


def compute_spectrograms(
    waveforms: xr.Dataset,
    *,
    band: tuple[float, float],
    window_length: float,
    overlap: float = 0.5,
    nfft: int | None = None,
    time_range: tuple[float, float] | None = None,
    time_pool: int = 1,
    min_peak: float = 0.0,
    dtype: DTypeLike = "float32",
) -> xr.Dataset:
    """Compute, lazily, the spectrogram of each waveform in dB above its own median, clipped below at 0.

    Magnitudes are those of ``scipy.signal.spectrogram`` with a Tukey(0.25) window, constant
    detrend and ``scaling="spectrum"``; the bins of `band` are kept, divided by their median over
    the record, and turned into 20 log10 (Holtzman et al. 2018).

    Parameters
    ----------
    waveforms
        What `open_waveforms` returns: waveform (record, sample).
    band
        Lowest and highest frequency kept [Hz], both included.
    window_length
        Length of a frame [s], rounded to whole samples.
    overlap
        Share of a frame that the next one covers, 0 to below 1, rounded to whole samples.
    nfft
        Length of the zero-padded transform [samples]; None is the length of the frame.
    time_range
        Keep the frames whose centre lies in [start, end) [s after the first sample]; None keeps all.
    time_pool
        Number of neighbouring frames averaged (before the median); a rest is dropped.
    min_peak
        A record whose largest value is below this [dB] is flagged ``too_quiet``.
    dtype
        Precision of the computation and the result, ``"float32"`` or ``"float64"``.

    Returns
    -------
    xarray.Dataset
        Stage ``spectrograms``: spectrogram (record, frequency, time) [dB], NaN where a record is
        not usable, and quality (record,).

    Raises
    ------
    ValueError
        If a parameter is out of its range or leaves no frequency or no frame.

    Examples
    --------
    >>> import tempfile, specufex_dask as sx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     study = sx.simulate(folder, n_events=4, n_stations=1, seed=0)
    ...     waveforms = sx.open_waveforms(
    ...         sx.read_catalog(study.catalog), sx.read_stations(study.stations),
    ...         archive=study.archive, sampling_rate=study.sampling_rate,
    ...     )
    ...     spectrograms = sx.compute_spectrograms(waveforms, window_length=0.64, overlap=0.25, band=(1, 20)).compute()
    >>> spectrograms.spectrogram.dims
    ('record', 'frequency', 'time')
    """
    schema.require(waveforms, "waveforms")
    rate = float(waveforms.attrs["sampling_rate"])
    length = round(window_length * rate)
    hop = length - round(overlap * length)
    _check(waveforms, band, length, hop, nfft=nfft, pool=time_pool)
    matrix, frequency = stft.band_matrix(length, nfft or length, rate, (float(band[0]), float(band[1])))
    frames, time = _frames(waveforms.sizes["sample"], length, hop, rate, time_range=time_range, pool=time_pool)
    if not frequency.size:
        msg = (
            f"got band={band!r} Hz, which holds no bin of nfft={nfft or length} at {rate:g} Hz: widen it or raise nfft."
        )
        raise ValueError(msg)
    blocks = map_records(
        _spectrogram_block,
        [record_chunked(waveforms["waveform"]), record_chunked(waveforms["quality"])],
        {"spectrogram": ((frequency.size, time.size), np.dtype(dtype)), "quality": ((), np.dtype("int8"))},
        matrix=matrix.astype(dtype), hop=hop, frames=frames, pool=time_pool, min_peak=min_peak,
    )  # fmt: skip
    result = xr.Dataset(
        {
            "spectrogram": (("record", "frequency", "time"), blocks["spectrogram"]),
            "quality": ("record", blocks["quality"]),
        },
        coords={"frequency": frequency, "time": time} | schema.record_coordinates(waveforms),
    )
    parameters = {
        "band": band, "window_length": window_length, "overlap": overlap, "nfft": nfft, "time_range": time_range,
        "time_pool": time_pool, "min_peak": min_peak, "dtype": np.dtype(dtype).name,
    }  # fmt: skip
    return stamp(result, "spectrograms", parameters, waveforms=waveforms)


def spectrogram_dataset(
    spectrograms: ArrayLike,
    *,
    frequency: ArrayLike,
    time: ArrayLike,
    event_id: ArrayLike | None = None,
    station_id: str = "...",
) -> xr.Dataset:
    """Make the stage ``spectrograms`` of an array that was computed elsewhere.

    Parameters
    ----------
    spectrograms
        Values (record, frequency, time), not negative [dB]; a record that holds a NaN is flagged ``not_finite``.
    frequency, time
        Centres of the bins (frequency,) [Hz] and of the frames (time,) [s].
    event_id
        Identity of each record (record,); None numbers them.
    station_id
        NET.STA.LOC.CHA of the channel.

    Raises
    ------
    ValueError
        If a value is negative or a length does not fit.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0)).sizes["record"]
    40
    """
    values = np.asarray(spectrograms)
    if (values < 0).any():
        msg = f"got spectrograms with {(values < 0).sum()} values below 0, expected dB clipped at 0: clip them."
        raise ValueError(msg)
    ids = np.array([f"{i:08d}" for i in range(len(values))] if event_id is None else np.asarray(event_id), dtype=object)
    clean = np.isfinite(values).all(axis=(1, 2))
    result = xr.Dataset(
        {
            "spectrogram": (("record", "frequency", "time"), values),
            "quality": ("record", np.where(clean, _FLAG["usable"], _FLAG["not_finite"]).astype("int8")),
        },
        coords={
            "frequency": np.asarray(frequency, float),
            "time": np.asarray(time, float),
            "event_id": ("record", ids),
            "station_id": ("record", np.full(len(values), station_id, dtype=object)),
            "start_time": ("record", np.full(len(values), "NaT", dtype="datetime64[ns]")),
        },
    )
    content = digest(str(values.shape), str(values.dtype), np.ascontiguousarray(values).tobytes().hex())
    return stamp(result, "spectrograms", {}, content=content)


def _spectrogram_block(
    waveforms: Array, quality: Array, *, matrix: Array, hop: int, frames: slice, pool: int, min_peak: float
) -> dict[str, Array]:
    spectrograms, median = stft.spectrograms(waveforms, matrix, hop=hop, frames=frames, pool=pool)
    flag = quality.astype("int8")
    # The first reason stands: what was wrong with the samples, then with what became of them.
    for reason, wrong in (
        ("not_finite", ~np.isfinite(waveforms).all(axis=1)),
        ("constant", waveforms.max(axis=1) == waveforms.min(axis=1)),  # else its rounding noise would pass for sound
        ("zero_median", ~(median > 0)),
        ("too_quiet", ~(spectrograms.max(axis=(1, 2)) >= min_peak)),
    ):
        flag[(flag == 0) & wrong] = _FLAG[reason]
    spectrograms[flag != 0] = np.nan
    return {"spectrogram": spectrograms, "quality": flag}


def _frames(
    n_samples: int, length: int, hop: int, rate: float, *, time_range: tuple[float, float] | None, pool: int
) -> tuple[slice, Array]:
    """The frames to keep, and the centre of each pooled frame [s]."""
    centre = (np.arange(max(0, (n_samples - length) // hop + 1)) * hop + length / 2) / rate
    inside = np.ones(centre.size, bool) if time_range is None else (centre >= time_range[0]) & (centre < time_range[1])
    kept = np.flatnonzero(inside)
    n_time = kept.size // pool
    if n_time == 0:
        msg = (
            f"got records of {n_samples / rate:g} s, frames of {length / rate:g} s, time_range={time_range!r} and "
            f"time_pool={pool}, which leave no frame: shorten the frames or widen time_range."
        )
        raise ValueError(msg)
    time = centre[kept[: n_time * pool]].reshape(n_time, pool).mean(axis=1)
    return slice(int(kept[0]), int(kept[0]) + n_time * pool), time


def _check(
    waveforms: xr.Dataset, band: tuple[float, float], length: int, hop: int, *, nfft: int | None, pool: int
) -> None:
    rate, n_samples = float(waveforms.attrs["sampling_rate"]), waveforms.sizes["sample"]
    rules = (
        (
            0 <= band[0] < band[1] <= rate / 2,
            f"band={band!r} Hz",
            f"0 <= low < high <= {rate / 2:g} Hz, half the sampling rate",
        ),
        (
            1 < length <= n_samples,
            f"window_length of {length} samples",
            f"2 to {n_samples} samples, the length of a record",
        ),
        (
            1 <= hop <= length,
            f"an overlap that moves frames by {hop} samples",
            f"1 to {length} samples: overlap from 0 to below 1",
        ),
        (nfft is None or nfft >= length, f"nfft={nfft}", f"at least the {length} samples of a frame"),
        (pool >= 1, f"time_pool={pool}", "a whole number from 1"),
    )
    for holds, got, expected in rules:
        if not holds:
            msg = f"got {got}, expected {expected}: correct it."
            raise ValueError(msg)
