"""Waveform files of many kinds, what is in them, and damage to them drawn from a number."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from castagnoli import crc32c
from replica import channel_day

from specufex_dask.miniseed import table
from specufex_dask.reading import load_obspy, quiet_obspy, segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from specufex_dask.segments import Segment

Array = np.ndarray[Any, Any]
START_NS = 1_590_969_600_000_000_000
"""2020-06-01: far from the ends of a year, so that the file of a year has all windows."""
NAMES = ("XX.A..HHZ", "XX.B.00.HHE", "XX.B.00.HHN")

_FIELDS = {
    # Of the header of version 2: place, and the format of struct.
    "sequence": (0, "B"), "kind": (6, "B"), "codes": (8, "B"), "year": (20, "H"), "julday": (22, "H"),
    "hour": (24, "B"), "minute": (25, "B"), "second": (26, "B"), "fraction": (28, "H"), "n_samples": (30, "H"),
    "factor": (32, "h"), "multiplier": (34, "h"), "activity": (36, "B"), "n_blockettes": (39, "B"),
    "correction": (40, "i"), "data_offset": (44, "H"), "first_blockette": (46, "H"), "type": (48, "H"),
    "next": (50, "H"), "encoding": (52, "B"), "order": (53, "B"), "length": (54, "B"), "type_2": (56, "H"),
    "next_2": (58, "H"), "microsecond": (61, "b"),
}  # fmt: skip
_FIELDS_3 = {
    "flags": (3, "B"), "nanosecond": (4, "I"), "year": (8, "H"), "julday": (10, "H"), "encoding": (15, "B"),
    "rate": (16, "d"), "n_samples": (24, "I"), "name_length": (33, "B"), "extra_length": (34, "H"),
    "data_length": (36, "I"),
}  # fmt: skip
_FIELDS_HDF5 = {f"{kind} at {place}": (place, kind) for kind in "BHIq" for place in range(0, 64, struct.calcsize(kind))}
"""Anything may be at any place of the parts of an HDF5 file."""


@dataclass(frozen=True)
class Window:
    """A record to be read: channel, time of its first sample [ns], samples, rate [Hz], in HDF5 its event."""

    station_id: str
    start_ns: int
    n_samples: int
    sampling_rate: float
    event_id: str = ""

    @property
    def name(self) -> str:
        """What the record is called among those of its file."""
        return " ".join(filter(None, [self.station_id, self.event_id]))


@dataclass(frozen=True)
class Base:
    """A sound file: its segments by channel, windows that lie in them, where its records begin."""

    name: str
    content: bytes
    truth: dict[str, list[Segment]] = field(repr=False)
    windows: tuple[Window, ...] = field(repr=False)
    places: tuple[int, ...] = field(repr=False)
    """The byte at which each record begins, and the end; the records that windows need come more often."""
    is_checked: bool = True
    """Whether each record has a sum over its samples: the last sample of Steim's code, or a CRC."""


def base(name: str, content: bytes, *, is_checked: bool = True, truth: dict[str, list[Segment]] | None = None) -> Base:
    """A sound file with what ObsPy finds in it, unless that is given."""
    found = truth or _by_obspy(content)
    windows = tuple(_windows(found))
    records = table(content)
    needed = [
        records.rows(w.station_id, w.start_ns, w.start_ns + round(w.n_samples / w.sampling_rate * 1e9)) for w in windows
    ]
    rows = np.concatenate([*needed, *needed, np.arange(len(records.first_byte))])
    places = tuple(records.first_byte[rows[rows < len(records.first_byte)]].tolist())
    return Base(name, content, found, windows, places, is_checked)


def _by_obspy(content: bytes) -> dict[str, list[Segment]]:
    obspy, found = load_obspy(), dict[str, list["Segment"]]()
    with quiet_obspy():
        for trace in obspy.read(io.BytesIO(content), format="MSEED"):
            found.setdefault(trace.id, []).append(segment(trace))
    return found


def _windows(truth: dict[str, list[Segment]]) -> list[Window]:
    """For each of a few channels, two windows within its longest segment, one of which begins with it."""
    made = []
    for name, parts in sorted(truth.items())[:3]:
        part = max(parts, key=lambda each: each.n_samples)
        n_samples = max(2, min(400, part.n_samples // 3))
        firsts = [i for i in (0, part.n_samples // 2) if np.ptp(part.samples[i : i + n_samples]) > 0]
        made += [Window(name, part.time_ns(first), n_samples, part.sampling_rate) for first in firsts]
    return made


@lru_cache(1)
def small_bases(data: Path | None) -> tuple[Base, ...]:
    """Event files and days in all encodings, lengths and byte orders; real ones where `data` and ObsPy have them."""
    steim: list[tuple[str, dict[str, Any]]] = [
        ("STEIM1", {}),
        ("STEIM2", {}),
        ("STEIM2", {"byteorder": "<"}),
        ("STEIM1", {"reclen": 4096}),
    ]
    plain: list[tuple[str, dict[str, Any]]] = [
        ("INT32", {}),
        ("FLOAT32", {"byteorder": "<"}),
        ("FLOAT64", {"reclen": 4096}),
        ("INT16", {"reclen": 256}),
    ]
    made = [
        base(f"{kind} {options}", _written(kind, **options), is_checked=kind.startswith("STEIM"))
        for kind, options in (*steim, *plain)
    ]
    made.append(base("a day", channel_day("XX.R001..LHZ", "2020-06-01", 0, sampling_rate=0.5)))
    made.append(_of_version_3())
    return (*made, *_real(data))


@lru_cache(1)
def large_base() -> Base:
    """A day so large that only ranges of it are read."""
    return base("a large day", channel_day("XX.R001..BHZ", "2020-06-01", 0, sampling_rate=20.0))


def _samples(number: int, kind: str) -> Array:
    drawn = np.cumsum(np.random.default_rng(number).integers(-900, 900, 1500))
    dtype = {"INT16": "int16", "FLOAT32": "float32", "FLOAT64": "float64"}.get(kind, "int32")
    return (drawn % 30_000 - 15_000).astype(dtype)


def _written(kind: str, **options: Any) -> bytes:
    obspy, buffer = load_obspy(), io.BytesIO()
    with quiet_obspy():
        stream = obspy.Stream()
        for i, name in enumerate(NAMES):
            codes = dict(zip(("network", "station", "location", "channel"), name.split("."), strict=True))
            header = {**codes, "sampling_rate": 50.0, "starttime": obspy.UTCDateTime(ns=START_NS + i * 123_000)}
            stream.append(obspy.Trace(_samples(i, kind), header))
        stream.write(buffer, format="MSEED", encoding=kind, **{"reclen": 512, **options})
    return buffer.getvalue()


def _of_version_3() -> Base:
    from pymseed import DataEncoding, MS3Record

    from specufex_dask.segments import Segment

    samples, record = _samples(9, "STEIM2"), MS3Record()
    record.sourceid, record.formatversion, record.reclen = "FDSN:XX_A__H_H_Z", 3, 512
    record.samprate, record.encoding, record.starttime = 50.0, DataEncoding.STEIM2, START_NS
    content = b"".join(record.generate(samples, "i"))
    return base("version 3", content, truth={NAMES[0]: [Segment(START_NS, 50.0, samples.size, samples)]})


def _real(data: Path | None) -> list[Base]:
    from pathlib import Path

    found = Path(load_obspy().__file__).parent.glob("io/mseed/tests/data/BW.BGLD.__.EHE.D.2008.001.first_10_records")
    paths = [*sorted(found)]
    if data is not None:
        paths += sorted((data / "gorner2007" / "events_mseed").glob("*.mseed"))[:3]
        paths += sorted((data / "odd_files" / "pnw").glob("uw106*.mseed"))[:3]
    made = [base(path.name, path.read_bytes()) for path in paths]
    return [each for each in made if each.windows]  # some are flat throughout


def damaged(sound: Base, rng: np.random.Generator) -> tuple[bytes, list[str]]:
    """The content of `sound` after one to three kinds of damage, and their names."""
    content, kinds = bytearray(sound.content), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = str(rng.choice(list(DAMAGE)))
        DAMAGE[kind](content, sound, rng)
        kinds.append(kind)
    return bytes(content), kinds


def _record(content: bytearray, sound: Base, rng: np.random.Generator) -> tuple[int, int]:
    """The begin and the end of a record as it was before any damage, within `content`."""
    begin = int(rng.choice(sound.places))
    later = [place for place in sound.places if place > begin]
    return min(begin, len(content)), min(min(later, default=len(content)), len(content))


def _flip(content: bytearray, first: int, end: int, rng: np.random.Generator) -> None:
    for _ in range(rng.choice([1, 2, 8])):
        if first < end:
            content[int(rng.integers(first, end))] ^= 1 << int(rng.integers(8))


def _flip_payload(content: bytearray, sound: Base, rng: np.random.Generator) -> None:
    begin, end = _record(content, sound, rng)
    _flip(content, begin + 64, end, rng)


def _flip_header(content: bytearray, sound: Base, rng: np.random.Generator) -> None:
    begin, end = _record(content, sound, rng)
    _flip(content, begin, min(begin + 64, end), rng)


def _flip_anywhere(content: bytearray, sound: Base, rng: np.random.Generator) -> None:  # noqa: ARG001 - one signature
    _flip(content, 0, len(content), rng)


def _edit(content: bytearray, sound: Base, rng: np.random.Generator) -> None:
    """Another number in a field of the header of one record, or of all."""
    begin, end = _record(content, sound, rng)
    is_third, is_hdf5 = sound.content[:2] == b"MS", sound.content[1:4] == b"HDF"
    fields = _FIELDS_3 if is_third else _FIELDS_HDF5 if is_hdf5 else _FIELDS
    place, kind = fields[str(rng.choice(list(fields)))]
    order = "<" if is_third or is_hdf5 or sound.content[20] not in {7, 8} else ">"
    edited = {begin, *sound.places} if rng.random() < 0.2 else {begin}
    for first in edited:
        if first + 64 <= len(content):
            (old,) = struct.unpack_from(order + kind, content, first + place)
            struct.pack_into(order + kind, content, first + place, _another(old, kind, rng))
            if is_third and rng.random() < 0.8:
                _sign(content, first, end if first == begin else first + 512)


def _another(old: Any, kind: str, rng: np.random.Generator) -> Any:
    if kind == "d":
        return float(rng.choice([0.0, -1.0, 1e300, np.nan, np.inf, old * 2, old + 1e-9]))
    bits, signed = 8 * struct.calcsize(kind), kind.islower()
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    tried = [0, 1, old - 1, old + 1, old * 2, old // 2, old + 64, low, high, 1 << (bits - 1), rng.integers(low, high)]
    return min(max(int(tried[int(rng.integers(len(tried)))]), low), high)


def _sign(content: bytearray, first: int, end: int) -> None:
    """Write the right CRC into a record of version 3, whatever else it says."""
    content[first + 28 : first + 32] = bytes(4)
    content[first + 28 : first + 32] = struct.pack("<I", crc32c(bytes(content[first:end])))


def _cut(content: bytearray, sound: Base, rng: np.random.Generator) -> None:
    begin, end = _record(content, sound, rng)
    del content[int(rng.integers(begin, end + 1)) :]


def _splice(content: bytearray, sound: Base, rng: np.random.Generator) -> None:
    """Bytes taken out, put in from elsewhere, or overwritten."""
    begin, _ = _record(content, sound, rng)
    first = min(begin + int(rng.integers(600)), len(content))
    n_bytes = int(rng.choice([1, 7, 64, 100, 512, 1000]))
    source = int(rng.integers(len(sound.content)))
    piece = [b"", sound.content[source : source + n_bytes], bytes(n_bytes), rng.bytes(n_bytes)][int(rng.integers(4))]
    replaced = n_bytes if not piece or rng.random() < 0.5 else 0
    content[first : first + replaced] = piece


def _shuffle(content: bytearray, sound: Base, rng: np.random.Generator) -> None:
    """A record twice, two in each other's place, or one less."""
    (a, a_end), (b, b_end) = sorted([_record(content, sound, rng), _record(content, sound, rng)])
    first, second = bytes(content[a:a_end]), bytes(content[b:b_end])
    kind = int(rng.integers(4))
    if kind == 0 and a_end <= b:
        content[b:b_end], content[a:a_end] = first, second
    elif kind == 1:
        content[b:b] = first
    elif kind == 2:
        content[b:b_end] = first
    else:
        del content[a:a_end]


DAMAGE: dict[str, Callable[[bytearray, Base, np.random.Generator], None]] = {
    "bits of samples": _flip_payload,
    "bits of a header": _flip_header,
    "bits anywhere": _flip_anywhere,
    "a field": _edit,
    "cut": _cut,
    "splice": _splice,
    "records": _shuffle,
}
"""What can happen to a file."""
IN_SAMPLES = frozenset({"bits of samples", "cut"})
"""Damage that leaves headers as they are: of one bit, where records have a sum over their samples, it is seen."""
