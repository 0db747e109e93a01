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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from specufex_dask.miniseed import is_broken, is_miniseed
from specufex_dask.objects import DamagedObjectError, Objects, is_url
from specufex_dask.segments import Segment, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Result = TypeVar("Result")

_DECODING = threading.RLock()
_MARGIN_SECONDS = 10.0  # a sample of the slowest channels that are in use
_INTEGRITY = "integrity check"


@dataclass(frozen=True)
class Contents:
    """The wanted channels of one file, those whose samples are damaged, and whether it has other bytes than records."""

    segments: dict[str, list[Segment]]
    damaged: frozenset[str] = frozenset()
    is_broken: bool = False


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
    path: str,
    wanted: Collection[str],
    *,
    objects: Objects | None = None,
    span_ns: tuple[int, int] | None = None,
    header_only: bool = False,
) -> Contents:
    """Return the segments of the channels `wanted` (``NET.STA.LOC.CHA``) in the file or object `path`.

    `span_ns` (first, last) leaves out what lies outside of it where the format can skip
    (miniSEED); `header_only` leaves out the samples. A damaged channel does not take the other
    channels of its file with it. What comes damaged through a network is fetched once more.

    Raises
    ------
    FileNotFoundError
        No such file.
    PermissionError
        The file may not be read: a mistake of the set-up, not of one record.
    UnreadableFileError
        The file holds nothing that ObsPy can read.
    """
    objects = objects or Objects()
    return once_more(
        path,
        lambda: _read(path, wanted, objects, span_ns, header_only=header_only),
        lambda contents: not contents.damaged and not contents.is_broken,
    )


def once_more(path: str, read: Callable[[], Result], is_sound: Callable[[Result], bool]) -> Result:
    """What `read` makes of the object `path`; where that is damaged and came through a network, a second time.

    ``UnreadableFileError`` where nothing can be made of it, or its bytes were asked for in vain.
    """
    try:
        if is_url(path):
            with suppress(UnreadableFileError):
                found = read()
                if is_sound(found):
                    return found
        return read()
    except DamagedObjectError as error:  # which was asked for often enough
        raise UnreadableFileError(path) from error


def _read(
    path: str, wanted: Collection[str], objects: Objects, span_ns: tuple[int, int] | None, *, header_only: bool
) -> Contents:
    content = read_bytes(path, objects)
    options: dict[str, Any] = {"headonly": header_only}
    if not is_miniseed(content):
        return _wanted(_decode(content, path, options), wanted, header_only=header_only)
    options["format"] = "MSEED"
    if span_ns is not None:
        options.update(_span(span_ns))
    try:
        names = {"sourcename": next(iter(wanted))} if len(wanted) == 1 else {}
        contents = _wanted(_decode(content, path, {**options, **names}), wanted, header_only=header_only)
    except UnreadableFileError:
        contents = _channel_by_channel(content, path, wanted, options)
    # ObsPy goes past what it takes for no record, and says nothing.
    return replace(contents, is_broken=not header_only and is_broken(content))


def read_bytes(path: str, objects: Objects) -> bytes:
    """The content of the file or object `path`, uncompressed; errors are those of `Objects.read` and `read_file`."""
    try:
        content = objects.read(path)
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error
    except PermissionError as error:
        if is_url(path):
            raise
        msg = (
            f"got 'permission denied' for {path}, expected a file that this user may read: "
            f"change its permissions, or run as a user that has them."
        )
        raise PermissionError(msg) from error
    except (FileNotFoundError, ConnectionError):
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
