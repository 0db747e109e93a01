"""Read waveform files: each file once, nothing raised for what a file holds.

MiniSEED is decoded by libmseed, any other format by ObsPy, under one lock: its readers register
process-wide C callbacks on every call, so two reads at the same time can call back into freed
memory; and `warnings` filters are process-wide too. The bytes of a file are fetched outside of the
lock. Several processes decode side by side.
"""

from __future__ import annotations

import glob
import io
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from specufex_dask.miniseed import Table, is_miniseed, table
from specufex_dask.objects import DamagedObjectError, Objects, counts, is_url
from specufex_dask.segments import Segment, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Result = TypeVar("Result")

_DECODING = threading.RLock()
_INTEGRITY = "integrity check"
_EVER = (-(2**62), 2**62)


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
        The file holds nothing that can be read.
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
            counts.n_again += 1
        return read()
    except DamagedObjectError as error:  # which was asked for often enough
        raise UnreadableFileError(path) from error


def _read(
    path: str, wanted: Collection[str], objects: Objects, span_ns: tuple[int, int] | None, *, header_only: bool
) -> Contents:
    content = read_bytes(path, objects)
    if is_miniseed(content):
        # Not by ObsPy: of numbers without a code it reads as many as a header tells, past the end of their record.
        with suppress(UnreadableFileError):  # for libmseed, that is: ObsPy may see one in it
            return _by_libmseed(table(content), wanted, span_ns or _EVER, header_only=header_only)
    return _wanted(_decode_any(content, path, {"headonly": header_only}), wanted, header_only=header_only)


def read_bytes(path: str, objects: Objects) -> bytes:
    """The content of the file or object `path`, uncompressed; errors are those of `read_parts`."""
    return joined(read_parts(path, objects), path)


def joined(parts: list[bytes], path: str) -> bytes:
    """The content, uncompressed, of the file or object `path` that `parts` make up."""
    return _uncompressed(parts[0] if len(parts) == 1 else b"".join(parts), path)


def read_parts(path: str, objects: Objects) -> list[bytes]:
    """The parts of the file or object `path`; errors are those of `Objects.read_parts` and of `read_file`."""
    try:
        return objects.read_parts(path)
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


def _by_libmseed(records: Table, wanted: Collection[str], span_ns: tuple[int, int], *, header_only: bool) -> Contents:
    segments: dict[str, list[Segment]] = {}
    damaged = set()
    for name in wanted:
        rows = records.rows(name, *span_ns)
        parts = records.headers(rows) if header_only else records.decode(rows).values()
        sound = [part for part in parts if part is not None and 0 < part.sampling_rate < float("inf")]
        damaged |= {name} if len(sound) < len(rows) else set()
        segments |= {name: _joined(sound)} if sound else {}
    return Contents(segments, frozenset(damaged), is_broken=not header_only and records.damaged)


def _joined(parts: list[Segment]) -> list[Segment]:
    """`parts`, which are in the order of their times; those that follow each other, to half a sample, as one."""
    runs: list[list[Segment]] = []
    n_samples = 0
    for part in parts:
        head = runs[-1][0] if runs else part
        alike = (part.sampling_rate, part.samples.dtype) == (head.sampling_rate, head.samples.dtype)
        if runs and alike and head.index(part.start_ns) == n_samples:
            runs[-1].append(part)
        else:
            runs.append([part])
            n_samples = 0
        n_samples += part.n_samples
    whole = [(sum(part.n_samples for part in run), np.concatenate([part.samples for part in run])) for run in runs]
    return [replace(run[0], n_samples=n, samples=samples) for run, (n, samples) in zip(runs, whole, strict=True)]


def _decode_any(content: bytes, path: str, options: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """The traces of a file in any format, and ObsPy's warnings."""
    try:
        return _decode(content, path, options)
    except UnreadableFileError:
        if is_url(path):
            raise
    return _decode(None, path, options)  # of some formats the samples are in a file beside this one


def _decode(content: bytes | None, path: str, options: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """The traces of the `content` of a file, or of the one at `path`, and ObsPy's warnings."""
    obspy = load_obspy()
    with quiet_obspy() as messages:
        try:
            stream = obspy.read(glob.escape(path) if content is None else io.BytesIO(content), **options)
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
    """Not a log of characters, nor a rate that no time follows from, nor fewer samples than the header tells."""
    is_whole = part.samples.size in {0, part.n_samples}  # none are there where only headers were asked for
    return is_whole and part.samples.dtype.kind in "iuf" and 0 < part.sampling_rate < float("inf")


def segment(trace: Any, *, header_only: bool = False) -> Segment:  # noqa: ANN401 - ObsPy has no types
    """The Segment of an ObsPy Trace."""
    stats = trace.stats
    samples = np.empty(0) if header_only else np.asarray(trace.data)
    return Segment(int(stats.starttime.ns), float(stats.sampling_rate), int(stats.npts), samples)
