"""Where a record's samples lie: a template of file paths, HDF5 files, or an ObsPy Stream in memory."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import recipe
from specufex_dask.access import shown
from specufex_dask.hdf5 import Hdf5Archive, is_hdf5
from specufex_dask.objects import Objects, is_url
from specufex_dask.reading import Contents, quiet_obspy, read_file, segment
from specufex_dask.segments import Segment, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_STATION_FIELDS = ("network", "station", "location", "channel")
_TIME_WIDTHS = {"year": 4, "month": 2, "day": 2, "julday": 3, "hour": 2, "minute": 2, "second": 2}
_EVENT_FIELDS = {"event_id", "minute", "second"}
_HOUR_NS = 3_600_000_000_000
LONGEST_RECORD_NS = 60_000_000_000
"""The last record of a continuous file may run so far into the time of the next."""
FIELDS = ("event_id", *_STATION_FIELDS, *_TIME_WIDTHS)
"""The fields that a path template may hold."""


@dataclass(frozen=True)
class Layout:
    """The names of the objects below the root of an archive; `in_order`: of one channel, by time."""

    template: str
    in_order: bool = False


LAYOUTS = {
    "scedc": Layout(
        "continuous_waveforms/{year}/{year}_{julday}/"
        "{network:_<2}{station:_<5}{channel}{location:_<2}_{year}{julday}.ms",
        in_order=True,
    ),
    "scedc-events": Layout("event_waveforms/{year}/{year}_{julday}/{event_id}.ms"),
    "ncedc": Layout(
        "continuous_waveforms/{network}/{year}/{year}.{julday}/"
        "{station}.{network}.{channel}.{location}.D.{year}.{julday}",
        in_order=True,
    ),
    "ncedc-events": Layout("event_waveforms/{year}/{year}.{julday}/NC.{event_id}.NCSS.ms"),
    "earthscope": Layout("miniseed/{network}/{year}/{julday}/{station}.{network}.{year}.{julday}"),
    "sds": Layout("{year}/{network}/{station}/{channel}.D/{network}.{station}.{location}.{channel}.D.{year}.{julday}"),
}
"""Archives known by name: Southern and Northern California (days and events), EarthScope, SeisComP's structure."""


@dataclass(frozen=True)
class _Padded:
    """A number that prints with its leading zeros unless a format says otherwise."""

    value: int
    width: int

    def __format__(self, spec: str) -> str:
        return format(self.value, spec or f"0{self.width}d")


@dataclass(frozen=True)
class PathTemplate:
    """Files or objects whose names follow from the event, the station and the time, such as ``"{event_id}.mseed"``.

    Times are those of the origin. A template without ``{event_id}``, ``{minute}`` and
    ``{second}`` names continuous files (of a day, of an hour): those that the window touches.
    """

    text: str
    objects: Objects = field(default_factory=Objects)
    in_order: bool = False
    fields: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", frozenset(_fields(self.text)))

    @property
    def identity(self) -> str:
        """What a recipe says of the archive: the template, without what may be secret in its URL."""
        return shown(self.text)

    @cached_property
    def is_continuous(self) -> bool:
        """Whether the files are of hours or days, whatever happened in them."""
        return bool(self.fields & _TIME_WIDTHS.keys()) and not self.fields & _EVENT_FIELDS

    @cached_property
    def _period_ns(self) -> int:
        """How long a continuous file lasts."""
        return _HOUR_NS if "hour" in self.fields else 24 * _HOUR_NS

    def sources(self, event_id: str, station_id: str, times_ns: Iterable[int]) -> tuple[str, ...]:
        """The files that hold a record: `times_ns` are its origin, then the ends of its window."""
        origin_ns, *ends_ns = times_ns
        if not self.is_continuous:
            return (_named(self.text, event_id, station_id, origin_ns),)
        period_ns = self._period_ns
        # The last record of a file may run into the time of the next.
        first_ns, last_ns = (ends_ns[0] - LONGEST_RECORD_NS, ends_ns[-1]) if ends_ns else (origin_ns, origin_ns)
        first, last = first_ns // period_ns, last_ns // period_ns
        names = [_continuous(self.text, station_id, i * period_ns) for i in range(first, last + 1)]
        return tuple(dict.fromkeys(names))  # a template may name no day, but the year alone

    def read(
        self, source: str, wanted: Collection[str], *, span_ns: tuple[int, int] | None, header_only: bool = False
    ) -> Contents:
        """See `reading.read_file`."""
        return read_file(source, wanted, objects=self.objects, span_ns=span_ns, header_only=header_only)

    def check(self) -> None:
        """Raise unless the folder that holds the archive is there and may be read."""
        if is_url(self.text):
            self.objects.check(self.text.split("{", 1)[0].rpartition("/")[0])
            return
        fixed = self.text.split("{", 1)[0]
        root = Path(fixed) if fixed.endswith(os.sep) else Path(fixed).parent
        if not root.is_dir():
            msg = (
                f"got archive={self.text!r}, whose folder {str(root)!r} does not exist; expected a template of "
                f"paths such as '/data/{{event_id}}.mseed': correct the path, or mount the disk."
            )
            raise FileNotFoundError(msg)
        if not os.access(root, os.R_OK | os.X_OK):
            msg = (
                f"got 'permission denied' for the folder {str(root)!r} of archive={self.text!r}, expected a folder "
                f"that this user may read: change its permissions, or run as a user that has them."
            )
            raise PermissionError(msg)


@dataclass(frozen=True)
class MemoryArchive:
    """The segments of an ObsPy Stream, by channel; known by the hash of their content."""

    segments: dict[str, list[Segment]]
    identity: str

    def __dask_tokenize__(self) -> str:
        return self.identity

    def sources(self, event_id: str, station_id: str, times_ns: Iterable[int]) -> tuple[str, ...]:  # noqa: ARG002 - the parameters are those of PathTemplate
        """One source for all: the Stream."""
        return ("",)

    def read(
        self,
        source: str,  # noqa: ARG002 - the parameters are those of PathTemplate
        wanted: Collection[str],
        *,
        span_ns: tuple[int, int] | None,  # noqa: ARG002 - the parameters are those of PathTemplate
        header_only: bool = False,  # noqa: ARG002 - the parameters are those of PathTemplate
    ) -> Contents:
        """The segments of the channels `wanted`."""
        return Contents({name: self.segments[name] for name in wanted if name in self.segments})

    def check(self) -> None:
        """Nothing can be missing from memory."""


Archive = PathTemplate | MemoryArchive | Hdf5Archive


def open_archive(
    archive: object,
    root: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    *,
    sampling_rate: float,
) -> Archive:
    """The archive that the user means by a template, a name or an ObsPy Stream, checked as far as it can be now.

    `sampling_rate` [Hz] is that of files which do not tell theirs.
    """
    opened: Archive
    if isinstance(archive, (str, os.PathLike)):
        names = _template(os.fspath(archive), root, Objects(dict(storage_options or {})))
        opened = Hdf5Archive(names, sampling_rate) if is_hdf5(names.text) else names
    elif hasattr(archive, "traces"):
        opened = _from_stream(archive)
    else:
        msg = (
            f"got archive of type {type(archive).__name__}, expected a path template such as "
            f"'/data/{{event_id}}.mseed' or an ObsPy Stream: pass one of these."
        )
        raise TypeError(msg)
    opened.check()
    return opened


def _template(text: str, root: str | os.PathLike[str] | None, objects: Objects) -> PathTemplate:
    layout = LAYOUTS.get(text)
    if layout and root is None:
        msg = (
            f"got archive={text!r} without root, expected the folder or URL below which it lies: "
            f"pass root='s3://…' or a path."
        )
        raise ValueError(msg)
    layout = layout or Layout(text)
    text = layout.template if root is None else f"{os.fspath(root).rstrip('/')}/{layout.template.lstrip('/')}"
    return PathTemplate(text, objects, layout.in_order)


def _from_stream(stream: Any) -> MemoryArchive:  # noqa: ANN401 - ObsPy has no types
    segments: dict[str, list[Segment]] = {}
    with quiet_obspy():
        for trace in stream:
            if trace.stats.npts:
                segments.setdefault(trace.id, []).append(segment(trace))
    texts = [
        f"{name} {part.start_ns} {part.sampling_rate!r} {part.samples.dtype} {part.samples.tobytes().hex()}"
        for name, parts in sorted(segments.items())
        for part in parts
    ]
    return MemoryArchive(segments, "stream:" + recipe.digest(*texts))


def _fields(text: str) -> set[str]:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        msg = f"got archive={shown(text)!r}, expected a path with fields in braces ({error}): close each brace."
        raise ValueError(msg) from error
    if unknown := sorted(names - set(FIELDS)):
        msg = f"got archive={shown(text)!r} with the fields {unknown}, expected some of {list(FIELDS)}: use these."
        raise ValueError(msg)
    return names


def _named(template: str, event_id: str, station_id: str, time_ns: int) -> str:
    values: dict[str, Any] = {"event_id": event_id}
    values.update(zip(_STATION_FIELDS, station_id.split("."), strict=True))
    return template.format_map(values | _calendar(time_ns))


@lru_cache(4096)  # many records are of one file
def _continuous(template: str, station_id: str, begin_ns: int) -> str:
    """The continuous file whose time begins at `begin_ns`."""
    return _named(template, "", station_id, begin_ns)


def _calendar(time_ns: int) -> dict[str, _Padded]:
    day = np.datetime64(time_ns, "ns").astype("datetime64[D]")
    year, month = day.astype("datetime64[Y]"), day.astype("datetime64[M]")
    second = time_ns // 1_000_000_000 % 86_400
    values = {
        "year": year.astype(int) + 1970,
        "month": month.astype(int) % 12 + 1,
        "day": (day - month).astype(int) + 1,
        "julday": (day - year).astype(int) + 1,
        "hour": second // 3600,
        "minute": second // 60 % 60,
        "second": second % 60,
    }
    return {name: _Padded(int(value), _TIME_WIDTHS[name]) for name, value in values.items()}


@dataclass(frozen=True)
class Header:
    """Sampling rate [Hz] and number of samples of a whole file."""

    sampling_rate: float
    n_samples: int


def lengths(archive: Archive, sources: Iterable[tuple[tuple[str, ...], str]], *, at_most: int) -> list[Header]:
    """Sampling rate and number of samples, first to last, of up to `at_most` records that can be read."""
    found: list[Header] = []
    for paths, station_id in sources:
        try:
            parts = archive.read(paths[0], {station_id}, span_ns=None, header_only=True).segments.get(station_id)
        except (FileNotFoundError, UnreadableFileError):
            continue
        if parts:
            rate = parts[0].sampling_rate
            first = min(part.start_ns for part in parts)
            last = max(part.time_ns(part.n_samples - 1) for part in parts)
            found.append(Header(rate, round((last - first) * rate / 1e9) + 1))
        if len(found) == at_most:
            break
    return found
