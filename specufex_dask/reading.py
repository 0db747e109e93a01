"""Read waveform files through ObsPy: each file once, nothing raised for what a file holds.

ObsPy's miniSEED reader registers process-wide C callbacks on every call, so two reads at the same
time can call back into freed memory; and `warnings` filters are process-wide too. Decoding
therefore happens under one lock. Nothing is lost by it: the reader's Python half holds the
interpreter lock anyway (two threads without the lock are slower than one), and the bytes of a file
are fetched outside of it. Several processes decode side by side.
"""

from __future__ import annotations

import io
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_DECODING = threading.RLock()
_MARGIN_SECONDS = 10.0  # a sample of the slowest channels that are in use
_FIXED_HEADER_BYTES = 48
_INTEGRITY = "integrity check"


class UnreadableFileError(Exception):
    """The file is there, and what it holds cannot be read."""


@dataclass(frozen=True)
class Segment:
    """A stretch of samples without a gap: time of the first one (ns since 1970), rate [Hz], samples (sample,)."""

    start_ns: int
    sampling_rate: float
    n_samples: int
    samples: np.ndarray[Any, Any]

    def time_ns(self, index: float) -> int:
        """Time of sample `index` [ns since 1970]."""
        return self.start_ns + round(index * 1e9 / self.sampling_rate)

    def index(self, time_ns: int) -> int:
        """The sample nearest to `time_ns`; halfway between two, the later."""
        return int(np.floor((time_ns - self.start_ns) * self.sampling_rate / 1e9 + 0.5))


@dataclass(frozen=True)
class Contents:
    """The wanted channels of one file, and those whose samples are damaged."""

    segments: dict[str, list[Segment]]
    damaged: frozenset[str] = frozenset()


@contextmanager
def quiet_obspy() -> Iterator[list[str]]:
    """Let one caller at a time into ObsPy; its warnings become the texts of the list.

    A message of libmseed that is not UTF-8 raises inside a C callback, where nobody can catch
    it; it would be printed. Such a message is dropped.
    """
    texts: list[str] = []
    with _DECODING, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usual = sys.unraisablehook

        def drop(unraisable: sys.UnraisableHookArgs) -> None:
            if not isinstance(unraisable.exc_value, UnicodeDecodeError):
                usual(unraisable)

        sys.unraisablehook = drop
        try:
            yield texts
        finally:
            sys.unraisablehook = usual
            texts.extend(str(entry.message) for entry in caught)


def load_obspy() -> Any:  # noqa: ANN401 - a module without types
    """The module ObsPy; importing it warns too."""
    with quiet_obspy():
        import obspy
    return obspy


def read_file(
    path: str, wanted: Collection[str], *, span_ns: tuple[int, int] | None = None, header_only: bool = False
) -> Contents:
    """Return the segments of the channels `wanted` (``NET.STA.LOC.CHA``) in the file `path`.

    `span_ns` (first, last) leaves out what lies outside of it where the format can skip
    (miniSEED); `header_only` leaves out the samples. A damaged channel does not take the other
    channels of its file with it.

    Raises
    ------
    FileNotFoundError
        No such file.
    PermissionError
        The file may not be read: a mistake of the set-up, not of one record.
    UnreadableFileError
        The file holds nothing that ObsPy can read.
    """
    content = _bytes(path)
    options: dict[str, Any] = {"headonly": header_only}
    if not _is_miniseed(content):
        return _wanted(_decode(content, path, options), wanted, header_only=header_only)
    options["format"] = "MSEED"
    if span_ns is not None:
        options.update(_span(span_ns))
    try:
        names = {"sourcename": next(iter(wanted))} if len(wanted) == 1 else {}
        return _wanted(_decode(content, path, {**options, **names}), wanted, header_only=header_only)
    except UnreadableFileError:
        return _channel_by_channel(content, path, wanted, options)


def _bytes(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read()
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error
    except PermissionError as error:
        msg = (
            f"got 'permission denied' for {path}, expected a file that this user may read: "
            f"change its permissions, or run as a user that has them."
        )
        raise PermissionError(msg) from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableFileError(path) from error
    return _uncompressed(content, path)


def _uncompressed(content: bytes, path: str) -> bytes:
    import bz2
    import gzip

    try:
        if content[:2] == b"\x1f\x8b":
            return gzip.decompress(content)
        if content[:3] == b"BZh":
            return bz2.decompress(content)
    except Exception as error:
        raise UnreadableFileError(path) from error
    return content


def _is_miniseed(content: bytes) -> bool:
    """Whether a miniSEED data record opens the file; spares ObsPy's search through all its formats."""
    return (
        len(content) >= _FIXED_HEADER_BYTES and content[6:7] in b"DRQM" and content[:6].strip(b"0123456789 \0") == b""
    )


def _span(span_ns: tuple[int, int]) -> dict[str, Any]:
    time = load_obspy().UTCDateTime
    first, last = (time(ns=end) for end in span_ns)
    return {"starttime": first - _MARGIN_SECONDS, "endtime": last + _MARGIN_SECONDS}


def _decode(content: bytes, path: str, options: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """The traces of a file, and ObsPy's warnings."""
    obspy = load_obspy()
    with quiet_obspy() as messages:
        try:
            stream = obspy.read(io.BytesIO(content), **options)
        # A damaged file makes ObsPy's readers raise whatever the damage leads to: struct.error,
        # IndexError, MemoryError, their own classes, a plain Exception.
        except Exception as error:
            raise UnreadableFileError(path) from error
    return list(stream), messages


def _wanted(decoded: tuple[list[Any], list[str]], wanted: Collection[str], *, header_only: bool) -> Contents:
    traces, messages = decoded
    segments: dict[str, list[Segment]] = {}
    for trace in traces:
        if (name := trace.id) in wanted and trace.stats.npts:
            segments.setdefault(name, []).append(segment(trace, header_only=header_only))
    failed = [text for text in messages if _INTEGRITY in text]
    damaged = {name for name in wanted if any(text.startswith(name.replace(".", "_") + "_") for text in failed)}
    damaged |= {name for name, parts in segments.items() if not all(map(_usable, parts))}
    return Contents(segments, frozenset(damaged))


def _usable(part: Segment) -> bool:
    """Not a log of characters, nor a rate that no time follows from."""
    return part.samples.dtype.kind in "iuf" and 0 < part.sampling_rate < float("inf")


def _channel_by_channel(content: bytes, path: str, wanted: Collection[str], options: dict[str, Any]) -> Contents:
    """What can be had of a miniSEED file that cannot be decoded as a whole, or lacks what was asked for.

    ObsPy raises the same plain Exception for "no such channel", "nothing in this span" and
    "damaged"; the headers of the whole file tell them apart.
    """
    headers, _ = _decode(content, path, {"format": "MSEED", "headonly": True})
    present = {trace.id for trace in headers} & set(wanted)
    segments: dict[str, list[Segment]] = {}
    damaged: set[str] = set()
    for name in sorted(present):
        try:
            decoded = _decode(content, path, {**options, "sourcename": name})
        except UnreadableFileError:
            if _overlaps(headers, name, options):
                damaged.add(name)
            continue
        part = _wanted(decoded, {name}, header_only=options["headonly"])
        segments.update(part.segments)
        damaged |= part.damaged
    return Contents(segments, frozenset(damaged))


def _overlaps(headers: list[Any], name: str, options: dict[str, Any]) -> bool:
    if "starttime" not in options:
        return True
    return any(
        trace.id == name and trace.stats.starttime <= options["endtime"] and trace.stats.endtime >= options["starttime"]
        for trace in headers
    )


def segment(trace: Any, *, header_only: bool = False) -> Segment:  # noqa: ANN401 - ObsPy has no types
    """The Segment of an ObsPy Trace."""
    stats = trace.stats
    samples = np.empty(0) if header_only else np.asarray(trace.data)
    return Segment(int(stats.starttime.ns), float(stats.sampling_rate), int(stats.npts), samples)
