"""Write samples as real digitizers do: miniSEED 2, 512-byte big-endian Steim-2 records of uneven fill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = np.ndarray[Any, Any]
Clock: TypeAlias = "Callable[[Array], Array]"
RECORD_BYTES = 512
"""Length of a record."""
HEADER = np.dtype(
    [
        ("number", "S6"), ("quality", "S1"), ("reserved", "S1"),
        ("station", "S5"), ("location", "S2"), ("channel", "S3"), ("network", "S2"),
        ("year", ">u2"), ("julday", ">u2"), ("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("unused", "u1"),
        ("tick", ">u2"), ("n_samples", ">u2"), ("rate_factor", ">i2"), ("rate_multiplier", ">i2"),
        ("activity", "u1"), ("io", "u1"), ("data_quality", "u1"), ("n_blockettes", "u1"), ("correction", ">i4"),
        ("data_offset", ">u2"), ("first_blockette", ">u2"),
        ("type_1000", ">u2"), ("next_1000", ">u2"), ("encoding", "u1"), ("order", "u1"), ("length", "u1"),
        ("reserved_1000", "u1"),
        ("type_1001", ">u2"), ("next_1001", ">u2"), ("timing_quality", "u1"), ("microsecond", "i1"),
        ("reserved_1001", "u1"), ("n_frames", "u1"),
        ("codes", ">u4"), ("first_sample", ">i4"), ("last_sample", ">i4"), ("data", "V436"),
    ]
)  # fmt: skip
"""A record: fixed header, blockettes 1000 and 1001, the first words of the first Steim frame, the rest."""

_PIECE_SAMPLES = (36, 6000)  # a digitizer closes a record when its buffer is sent, full or not
_JITTER_US = 1  # what a clock does to the times of real records
_FRAMES = 7


def records(samples: Array, station_id: str, clock: Clock, sampling_rate: float, rng: np.random.Generator) -> Array:
    """The records (record,) of type `HEADER` of gapless `samples` [counts].

    Parameters
    ----------
    samples : (sample,) int32
        [counts]
    station_id : str
        ``NET.STA.LOC.CHA``
    clock : callable
        Numbers of samples (record,) to their times (record,) [ns since 1970].
    sampling_rate : float
        [Hz]
    rng : Generator
        Draws where a record ends before it is full, and the clock's microsecond.
    """
    packed = np.frombuffer(bytearray(_packed(samples, station_id, sampling_rate, rng)), HEADER)
    first = np.concatenate(([0], np.cumsum(packed["n_samples"], dtype=np.int64)[:-1]))
    jitter = rng.integers(-_JITTER_US, _JITTER_US, first.size, endpoint=True) * 1000
    jitter[0] = 0
    stamp(packed, station_id, clock(first) + jitter)
    return packed


def stamp(packed: Array, station_id: str, times_ns: Array) -> None:
    """Write into records (record,), in place, numbers, the channel, and the times [ns] of their first samples."""
    network, station, location, channel = station_id.split(".")
    codes = {"station": f"{station:<5}", "location": f"{location:<2}", "channel": channel, "network": f"{network:<2}"}
    for name, code in codes.items():
        packed[name] = code.encode()
    packed["number"] = [b"%06d" % (i % 1_000_000 + 1) for i in range(packed.size)]
    microseconds = np.floor_divide(times_ns + 500, 1000)
    second, fraction = np.divmod(microseconds, 1_000_000)
    day, second = np.divmod(second, 86_400)
    date = day.astype("datetime64[D]")
    packed["year"] = date.astype("datetime64[Y]").astype(int) + 1970
    packed["julday"] = (date - date.astype("datetime64[Y]")).astype(int) + 1
    packed["hour"], packed["minute"], packed["second"] = second // 3600, second // 60 % 60, second % 60
    packed["tick"], packed["microsecond"] = np.divmod(fraction, 100)
    packed["n_blockettes"], packed["next_1000"], packed["type_1001"], packed["next_1001"] = 2, 56, 1001, 0
    packed["timing_quality"], packed["n_frames"] = 100, _FRAMES


def uneven_event_file(path: str, traces: Mapping[str, Array], start_ns: int, sampling_rate: float) -> None:
    """Write the samples [counts] of each channel as one miniSEED file of such records."""
    rng = np.random.default_rng(start_ns)

    def clock(number: Array) -> Array:
        return np.asarray(start_ns + np.rint(number * (1e9 / sampling_rate)).astype(np.int64))

    parts = [records(samples, station_id, clock, sampling_rate, rng) for station_id, samples in traces.items()]
    Path(path).write_bytes(b"".join(part.tobytes() for part in parts))


def _packed(samples: Array, station_id: str, sampling_rate: float, rng: np.random.Generator) -> bytes:
    """Records with the samples, and without the second blockette."""
    from pymseed import DataEncoding, MS3Record

    template = MS3Record()
    network, station, location, channel = station_id.split(".")
    template.sourceid = f"FDSN:{network}_{station}_{location}_{'_'.join(channel)}"
    template.formatversion, template.reclen, template.samprate = 2, RECORD_BYTES, sampling_rate
    template.encoding, template.starttime = DataEncoding.STEIM2, 0  # the times are stamped later
    samples = np.ascontiguousarray(samples, np.int32)
    ends = np.cumsum(rng.integers(*_PIECE_SAMPLES, samples.size // _PIECE_SAMPLES[0] + 1))
    pieces = np.split(samples, ends[ends < samples.size])
    return b"".join(record for piece in pieces for record in template.generate(piece, "i"))
