"""Cut one record out of the segments of a channel, and say what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from specufex_dask.preprocess import Preprocess, condition, resampled
from specufex_dask.schema import QUALITY
from specufex_dask.segments import nearest_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from specufex_dask.responses import Responses
    from specufex_dask.segments import Segment

Array = np.ndarray[Any, Any]
FLAG = {name: value for value, name in enumerate(QUALITY)}
RATE_TOLERANCE = 1e-3
"""Sampling rates that differ by less, relatively, are the same rate."""
NOT_A_TIME = int(np.iinfo(np.int64).min)
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Cut:
    """How records are cut: rate [Hz], length [samples], window [s], and what counts as a defect."""

    sampling_rate: float
    n_samples: int
    window: tuple[float, float] | None
    from_file_start: bool
    max_gap: float
    max_flat: float
    preprocess: Preprocess
    responses: Responses | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What a recipe says of it."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "responses"}
        said["preprocess"] = self.preprocess.parameters
        return said if self.responses is None else {**said, "responses": self.responses.identity}

    @property
    def window_seconds(self) -> float:
        """Length of a record [s]."""
        return self.n_samples / self.sampling_rate

    @cached_property
    def padding_seconds(self) -> float:
        """What is read beyond either end of a window [s]."""
        if self.window is None:
            return 0.0
        return self.preprocess.padding(self.sampling_rate, self.window_seconds) / self.sampling_rate


class Record(NamedTuple):
    """One record: its quality flag, time of its first sample [ns], samples (sample,) if it is usable."""

    flag: int
    start_ns: int = NOT_A_TIME
    samples: Array | None = None


class _Stretch(NamedTuple):
    """A window with what there is of padding around it, on the grid of one segment."""

    samples: Array
    covered: Array | None
    window_ns: int
    rate: float
    before: int
    n_window: int

    @property
    def window(self) -> slice:
        return slice(self.before, self.before + self.n_window)


def cut_plainly(segments: Sequence[Sequence[Segment]], anchor_ns: Sequence[int], how: Cut) -> list[Record | None]:
    """The record, as of `cut`, of each window that one segment has whole and nothing is done to; None of any other."""
    records: list[Record | None] = [None] * len(segments)
    if how.window is None or how.from_file_start or how.responses or not how.preprocess.does_nothing:
        return records
    which = [i for i, parts in enumerate(segments) if len(parts) == 1 and parts[0].start_ns != NOT_A_TIME]
    parts = [segments[i][0] for i in which]
    begin_ns, rate = np.array([part.start_ns for part in parts]), np.array([part.sampling_rate for part in parts])
    start_ns = np.array(anchor_ns)[which] + round(how.window[0] * _SECOND_NS)
    first = nearest_sample(start_ns - begin_ns, rate).astype(np.int64)
    is_whole = (first >= 0) & (first + how.n_samples <= np.array([part.n_samples for part in parts]))
    is_whole &= abs(rate / how.sampling_rate - 1) <= RATE_TOLERANCE
    window_ns = begin_ns + np.rint(first * 1e9 / rate).astype(np.int64)
    told = zip(which, parts, is_whole.tolist(), first.tolist(), window_ns.tolist(), strict=True)
    for i, part, fits, index, time_ns in told:
        if fits:
            samples = part.samples[index : index + how.n_samples]
            flag = _defect(samples, how.max_flat)
            records[i] = Record(flag, time_ns, None if flag else samples)
    return records


def cut(segments: Sequence[Segment], anchor_ns: int, how: Cut, station_id: str = "") -> Record:
    """Return the record of the channel `station_id` whose window hangs on the time `anchor_ns`.

    The first sample is the one nearest to the start of the window, so the record starts up to
    half a sample early or late; `Record.start_ns` tells the true time. Defects are looked for in
    the samples as the file has them, in the window alone, and the first of these names the
    record: ``missing`` (no sample in the window), ``wrong_sampling_rate``, ``gappy``, ``short``,
    ``not_finite``, ``constant``, ``flat``, ``no_response``. Segments that begin at `NOT_A_TIME`
    make a record that does.
    """
    record = _cut(segments, anchor_ns, how, station_id)
    return record if segments[0].start_ns != NOT_A_TIME else record._replace(start_ns=NOT_A_TIME)


def _cut(segments: Sequence[Segment], anchor_ns: int, how: Cut, station_id: str) -> Record:
    start_ns = _window_start(segments, anchor_ns, how)
    reach_ns = round(how.padding_seconds * _SECOND_NS)
    end_ns = start_ns + round(how.n_samples / how.sampling_rate * _SECOND_NS)
    near = [part for part in segments if _overlaps(part, start_ns - reach_ns, end_ns + reach_ns)]
    if not any(_overlaps(part, start_ns, end_ns) for part in near):
        return Record(FLAG["missing"])
    near.sort(key=lambda part: part.start_ns)
    if not _rates_fit(near, how):
        return Record(FLAG["wrong_sampling_rate"], max(near[0].start_ns, start_ns))
    stretch = _place(near, start_ns, how)
    flag = _coverage(stretch, how.max_gap) or _defect(stretch.samples[stretch.window], how.max_flat)
    if flag:
        return Record(flag, NOT_A_TIME if flag == FLAG["missing"] else stretch.window_ns)
    if how.responses is None:
        return _finish(stretch, start_ns, how)
    response = how.responses.at(station_id, anchor_ns if segments[0].start_ns == NOT_A_TIME else stretch.window_ns)
    if response is None:
        return Record(FLAG["no_response"], stretch.window_ns)
    return _finish(stretch, start_ns, how, partial(how.responses.remove, name=response, sampling_rate=stretch.rate))


def _window_start(segments: Sequence[Segment], anchor_ns: int, how: Cut) -> int:
    offset_ns = round(how.window[0] * _SECOND_NS) if how.window else 0
    if how.window is None or how.from_file_start:
        return min(part.start_ns for part in segments) + offset_ns
    return anchor_ns + offset_ns


def _overlaps(part: Segment, first_ns: int, end_ns: int) -> bool:
    half_ns = 0.5 * _SECOND_NS / part.sampling_rate
    return part.start_ns - half_ns < end_ns and part.time_ns(part.n_samples - 1) + half_ns >= first_ns


def _rates_fit(segments: Sequence[Segment], how: Cut) -> bool:
    rate = segments[0].sampling_rate
    if not how.preprocess.resample:
        rate = how.sampling_rate
    elif how.preprocess.bandpass and how.preprocess.bandpass[1] >= rate / 2:
        return False
    return all(abs(part.sampling_rate / rate - 1) <= RATE_TOLERANCE for part in segments)


def _place(segments: Sequence[Segment], start_ns: int, how: Cut) -> _Stretch:
    """The window that starts nearest to `start_ns`, on the grid of the first segment, with its padding."""
    grid = segments[0]
    padding = how.preprocess.padding(grid.sampling_rate, how.window_seconds) if how.window else 0
    n_window = _n_native(how, grid.sampling_rate)
    first = grid.index(start_ns)
    begin, end = first - padding, first + n_window + padding
    there = slice(max(begin, 0), max(min(end, grid.n_samples), 0))
    window_ns, rate = grid.time_ns(first), grid.sampling_rate
    if len(segments) == 1 and there.start <= first and first + n_window <= there.stop:
        return _Stretch(grid.samples[there], None, window_ns, rate, first - there.start, n_window)
    samples, covered = _joined(segments, begin, end)
    return _Stretch(samples, covered, window_ns, rate, padding, n_window)


def _n_native(how: Cut, rate: float) -> int:
    """Samples at `rate` that span `n_samples` at the rate asked for."""
    if abs(rate / how.sampling_rate - 1) <= RATE_TOLERANCE:
        return how.n_samples
    return int(np.ceil((how.n_samples - 1) * rate / how.sampling_rate - 1e-6)) + 1


def _joined(segments: Sequence[Segment], begin: int, end: int) -> tuple[Array, Array]:
    """Samples `begin` to `end` of the grid of the first segment, and which of them are known.

    Segments are moved to the nearest sample of the grid. Where two overlap and agree, nothing is
    lost; a sample on which they disagree is not known.
    """
    samples = np.zeros(end - begin, dtype=np.result_type(*(part.samples.dtype for part in segments)))
    covered, disputed = np.zeros((2, end - begin), dtype=bool)
    for part in segments:
        at = segments[0].index(part.start_ns) - begin
        low, high = max(at, 0), min(at + part.n_samples, end - begin)
        if low >= high:
            continue
        values = part.samples[low - at : high - at]
        disputed[low:high] |= covered[low:high] & (samples[low:high] != values)
        samples[low:high] = values
        covered[low:high] = True
    return samples, covered & ~disputed


def _coverage(stretch: _Stretch, max_gap: float) -> int:
    """The flag of a window that is not wholly known; gaps up to `max_gap` [s] are bridged by straight lines."""
    if stretch.covered is None or stretch.covered[stretch.window].all():
        return FLAG["usable"]
    known = np.flatnonzero(stretch.covered[stretch.window])
    if known.size == 0:
        return FLAG["missing"]
    gaps = np.diff(known) - 1
    if gaps.size and gaps.max() > max_gap * stretch.rate * (1 + 1e-9):
        return FLAG["gappy"]
    if known[0] > 0 or known[-1] < stretch.n_window - 1:
        return FLAG["short"]
    return FLAG["usable"]


def _defect(samples: Array, max_flat: float) -> int:
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        return FLAG["not_finite"]
    step = int(max_flat * samples.size) // 2  # two of these samples are in any run that is too long
    if step and not (samples[step::step] == samples[:-step:step]).any():
        return FLAG["usable"]
    changes = np.flatnonzero(samples[1:] != samples[:-1])
    if changes.size == 0:
        return FLAG["constant"]
    inner = (changes[1:] - changes[:-1]).max(initial=0)
    longest = max(changes[0] + 1, inner, samples.size - 1 - changes[-1])
    return FLAG["flat"] if longest > max_flat * samples.size else FLAG["usable"]


def _finish(
    stretch: _Stretch, start_ns: int, how: Cut, without_response: Callable[[Array], Array] | None = None
) -> Record:
    stretch = _bridged(stretch)
    steps, same_rate = how.preprocess, abs(stretch.rate / how.sampling_rate - 1) <= RATE_TOLERANCE
    if steps.does_nothing and same_rate:
        return Record(FLAG["usable"], stretch.window_ns, stretch.samples[stretch.window])
    samples = condition(stretch.samples, steps, stretch.rate, without_response)
    begin, first_ns = stretch.before, stretch.window_ns
    if not same_rate:
        samples = resampled(samples, stretch.rate, how.sampling_rate)
        stretch_ns = stretch.window_ns - round(stretch.before / stretch.rate * _SECOND_NS)
        begin = round((start_ns - stretch_ns) * how.sampling_rate / _SECOND_NS)
        begin = max(0, min(begin, samples.size - how.n_samples))
        first_ns = stretch_ns + round(begin / how.sampling_rate * _SECOND_NS)
    window = samples[begin : begin + how.n_samples]
    if not np.isfinite(window).all():
        return Record(FLAG["not_finite"], first_ns)
    return Record(FLAG["usable"], first_ns, window)


def _bridged(stretch: _Stretch) -> _Stretch:
    """`stretch` without unknown samples: gaps in the window bridged, padding cut at the nearest unknown sample."""
    if stretch.covered is None:
        return stretch
    unknown = np.flatnonzero(~stretch.covered)
    stop = stretch.before + stretch.n_window
    low = max((int(i) + 1 for i in unknown if i < stretch.before), default=0)
    high = min((int(i) for i in unknown if i >= stop), default=stretch.covered.size)
    samples, covered = stretch.samples[low:high], stretch.covered[low:high]
    if not covered.all():
        places = np.arange(samples.size)
        samples = np.interp(places, places[covered], samples[covered])
    return stretch._replace(samples=samples, covered=None, before=stretch.before - low)
