"""Cut filtered windows around the picks of a phase, and bring together those of each station."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from specufex_dask.anchors import NOT_PHASES
from specufex_dask.blocks import map_records, record_chunked
from specufex_dask.cutting import FLAG, NOT_A_TIME
from specufex_dask.kernels.correlation import prepare
from specufex_dask.preprocess import Preprocess, condition

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

_SECOND_NS = 1e9


@dataclass(frozen=True)
class Window:
    """What is cut: rate [Hz], start after the pick [s], lengths [samples], corners of the band-pass [Hz]."""

    rate: float
    start: float
    n_samples: int
    max_lag: int
    band: tuple[float, float] | None

    @property
    def width(self) -> int:
        """Samples of a window with the lags at either end."""
        return self.n_samples + 2 * self.max_lag


def make_window(
    phase: str, window: tuple[float, float], band: tuple[float, float] | None, max_lag: float, *, rate: float
) -> Window:
    """What the user asked for, at `rate` [Hz], checked."""
    expectations: dict[str, tuple[object, bool, str]] = {
        "phase": (phase, phase not in NOT_PHASES, "the name of a phase in the picks, such as 'P'"),
        "window": (
            window,
            len(window) == 2 and round((window[1] - window[0]) * rate) >= 2,  # noqa: PLR2004 - two ends, two samples
            "(start, end) in s after the pick, start first, two samples or more apart",
        ),
        "max_lag": (max_lag, round(max_lag * rate) >= 1, f"a lag in s of one sample ({1 / rate:g} s) or more"),
        "band": (
            band,
            band is None or (len(band) == 2 and 0 < band[0] < band[1] < rate / 2),  # noqa: PLR2004 - two corners
            f"None, or two corners in Hz with 0 < low < high < {rate / 2:g}",
        ),
    }
    for name, (value, holds, expected) in expectations.items():
        if not holds:
            msg = f"got {name}={value!r}, expected {expected}: correct it."
            raise ValueError(msg)
    corners = None if band is None else (float(band[0]), float(band[1]))
    return Window(rate, float(window[0]), round((window[1] - window[0]) * rate), round(max_lag * rate), corners)


def cut_windows(waveforms: xr.Dataset, anchor_ns: Array, how: Window) -> dict[str, da.Array]:
    """Windows (record, sample), lazily, with their quality and how late they begin [s] (record,).

    `anchor_ns` (record,) are the picks [ns since 1970]. A window begins at the sample nearest to
    where it should, so up to half a sample late or early. One that is not usable is NaN.
    """
    samples = record_chunked(waveforms["waveform"])
    about = [record_chunked(waveforms[name]) for name in ("quality", "start_time")]
    arrays = [array.rechunk((samples.chunks[0],)) for array in (*about, da.from_array(anchor_ns, chunks=-1))]
    outputs: dict[str, tuple[tuple[int, ...], str]] = {
        "window": ((how.width,), "float32"),
        "quality": ((), "int8"),
        "late": ((), "float64"),
    }
    return map_records(_window_block, [samples, *arrays], {**outputs}, how=how)


def _window_block(samples: Array, quality: Array, start_time: Array, anchor_ns: Array, how: Window) -> dict[str, Array]:
    start_ns = start_time.astype("datetime64[ns]").astype(np.int64)
    is_placed = (anchor_ns != NOT_A_TIME) & (start_ns != NOT_A_TIME)
    wanted = np.where(is_placed, anchor_ns - start_ns, 0) / _SECOND_NS + how.start  # seconds after the first sample
    index = np.rint(wanted * how.rate).astype(np.int64)
    first = index - how.max_lag
    fits = (first >= 0) & (first + how.width <= samples.shape[1])
    flag = np.select([quality != 0, ~is_placed, ~fits], [quality, FLAG["no_pick"], FLAG["short"]], 0).astype(np.int8)
    window = np.full((len(samples), how.width), np.nan, np.float32)
    for record in np.flatnonzero(flag == 0):
        flag[record], cut = _cut(samples[record], int(first[record]), how)
        if flag[record] == 0:
            window[record] = cut
    return {"window": window, "quality": flag, "late": index / how.rate - wanted}


def _cut(samples: Array, first: int, how: Window) -> tuple[int, Array]:
    """The flag and the window of one record (sample,), which is filtered as a whole."""
    if not np.isfinite(samples).all():
        return FLAG["not_finite"], samples
    if how.band:
        samples = condition(samples, Preprocess(bandpass=how.band), how.rate)
    window = samples[first : first + how.width]
    is_zero = not window[how.max_lag : how.max_lag + how.n_samples].any()
    return FLAG["constant" if is_zero else "usable"], window


@dataclass(frozen=True)
class StationWindows:
    """The windows of one station as the kernel takes them (event, …), their quality and delay [s] (event,)."""

    windows: Array
    inverse: Array
    quality: Array
    late: Array


def gather(record: Array, windows: Mapping[str, da.Array], max_lag: int) -> Delayed:
    """The `StationWindows` of the events whose records are `record` (event,), -1 for none, lazily."""
    events = np.flatnonzero(record >= 0)
    events = events[np.argsort(record[events], kind="stable")]  # as they lie in the blocks of records
    rows = {name: array[record[events]] for name, array in windows.items()}
    gathered: Delayed = delayed(_gathered)(rows, events, len(record), max_lag)
    return gathered


def _gathered(rows: Mapping[str, Array], events: Array, n_events: int, max_lag: int) -> StationWindows:
    whole = np.full((n_events, rows["window"].shape[1]), np.nan, np.float32)
    flags, delays = np.full(n_events, FLAG["missing"], np.int8), np.zeros(n_events)
    whole[events], flags[events], delays[events] = rows["window"], rows["quality"], rows["late"]
    return StationWindows(*prepare(whole, max_lag), flags, delays)
