"""The fixed headers of miniSEED 2, read side by side: of which records, from when on, at which rate."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
HEADER_BYTES = 64
"""Of a record: the fixed header, and the two blockettes that follow it in the usual files."""

_NS, _DAY_NS = 1_000_000_000, 86_400_000_000_000
FIXED_HEADER_BYTES = 48
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_BLOCKETTE_1000, _BLOCKETTE_1001 = 1000, 1001
_CORRECTION_APPLIED = 2
_FIELDS = {
    # What is read of a header: NumPy type, and the byte where it begins (SEED 2.4, chapter 8).
    "sequence": ("(6,)u1", 0),
    "kind": ("u1", 6),
    "codes": ("S12", 8),
    "code_words": ("(3,)u4", 8),
    "year": (">u2", 20),
    "julday": (">u2", 22),
    "hour": ("u1", 24),
    "minute": ("u1", 25),
    "second": ("u1", 26),
    "fraction": (">u2", 28),
    "n_samples": (">u2", 30),
    "factor": (">i2", 32),
    "multiplier": (">i2", 34),
    "activity": ("u1", 36),
    "correction": (">i4", 40),
    "first_blockette": (">u2", 46),
    "type": (">u2", 48),
    "next": (">u2", 50),
    "length_power": ("u1", 54),
    "type_2": (">u2", 56),
    "next_2": (">u2", 58),
    "microsecond": ("i1", 61),
}
_KINDS, _DIGITS = (np.isin(np.arange(256), list(allowed)) for allowed in (b"DRQM", b"0123456789 \0"))


class IrregularError(Exception):
    """The headers do not make up one table."""


def record_length(content: bytes) -> int:
    """Bytes of the first record of `content`, of which a header is enough."""
    header = _side_by_side(content[:HEADER_BYTES], HEADER_BYTES)
    _check(header)
    return 1 << int(header["length_power"][0])


def read_headers(content: bytes, length: int, announced: int | None = None) -> Array:
    """The headers (record,) of the records of `length` bytes; ``IrregularError`` unless all are usual ones.

    `announced` is the length that they tell, where only the beginning of each record is there.
    """
    headers = _side_by_side(content, length)
    _check(headers, announced or length)
    return headers


def _side_by_side(content: bytes, length: int) -> Array:
    if not content or len(content) % length:
        raise IrregularError
    # Side by side first: a field of records that lie far apart is slow to read, and twenty are read.
    together = np.frombuffer(content, np.uint8).reshape(-1, length)[:, :HEADER_BYTES].copy()
    formats, offsets = zip(*_FIELDS.values(), strict=True)
    fields: Any = {"names": list(_FIELDS), "formats": formats, "offsets": offsets, "itemsize": HEADER_BYTES}
    headers: Array = together.view(np.dtype(fields))[:, 0]
    return headers


def _check(headers: Array, length: int | None = None) -> None:
    """Raise ``IrregularError`` unless all records are miniSEED 2 of one length, with the usual blockettes alone."""
    usual = _KINDS[headers["kind"]] & _DIGITS[headers["sequence"]].all(axis=1)
    usual &= (headers["year"] >= _FIRST_YEAR) & (headers["year"] <= _LAST_YEAR)
    usual &= (headers["first_blockette"] == FIXED_HEADER_BYTES) & (headers["type"] == _BLOCKETTE_1000)
    usual &= (headers["next"] == 0) | ((headers["type_2"] == _BLOCKETTE_1001) & (headers["next_2"] == 0))
    usual &= (headers["length_power"] >= 7) & (headers["length_power"] <= 20)  # noqa: PLR2004 - 128 bytes to 1 MiB
    if length is not None:
        usual &= (1 << headers["length_power"].astype(int)) == length
    if not usual.all():
        raise IrregularError


def fits_its_blockette(record: bytes) -> bool:
    """Whether what libmseed takes for a record has the length that it tells itself, if it does, and a word order.

    Where its length is damaged, libmseed takes all up to the next header for one record. A word order
    that is neither little (0) nor big (1) it takes for big, whatever that of the header is.
    """
    is_big = _FIRST_YEAR <= int.from_bytes(record[20:22], "big") <= _LAST_YEAR
    word = ">u2" if is_big else "<u2"
    place = int(np.frombuffer(record, word, 1, 46)[0])
    while FIXED_HEADER_BYTES <= place <= len(record) - 8:
        kind, following = np.frombuffer(record, word, 2, place).tolist()
        if kind == _BLOCKETTE_1000:
            has_order = is_big or record[place + 5] <= 1
            return has_order and 1 << min(record[place + 6], 30) == len(record)
        if following <= place:
            break
        place = following
    return True


def start_times(headers: Array) -> Array:
    """Times of the first samples [ns since 1970] as the headers tell them, to the microsecond where they do."""
    year = (headers["year"].astype(int) - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    second = headers["hour"].astype(np.int64) * 3600 + headers["minute"].astype(np.int64) * 60 + headers["second"]
    start = (year + headers["julday"] - 1) * _DAY_NS + second * _NS + headers["fraction"].astype(np.int64) * 100_000
    corrected = (headers["activity"] & _CORRECTION_APPLIED) == 0
    start += np.where(corrected, headers["correction"].astype(np.int64) * 100_000, 0)
    precise = (headers["next"] != 0) & (headers["type_2"] == _BLOCKETTE_1001)
    result: Array = start + np.where(precise, headers["microsecond"].astype(np.int64) * 1000, 0)
    return result


def sampling_rates(factor: Array, multiplier: Array) -> Array:
    """Rates [Hz] of the two numbers of a header: each multiplies if positive and divides if negative."""
    first, second = factor.astype(float), multiplier.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate: Array = np.where(first > 0, first, -1.0 / first) * np.where(second > 0, second, -1.0 / second)
    return np.where(np.isfinite(rate), rate, 0.0)


def station_ids(headers: Array) -> Array:
    """``NET.STA.LOC.CHA`` of each header."""
    words, codes = headers["code_words"], headers["codes"]
    if (words == words[:1]).all():  # spares a search among thousands
        names = np.empty(len(codes), dtype=object)
        names[:] = name_of(codes[0].ljust(12)) if len(codes) else ""
        return names
    kinds, inverse = np.unique(codes, return_inverse=True)
    return np.array([name_of(kind.ljust(12)) for kind in kinds.tolist()], dtype=object)[inverse]


def name_of(codes: bytes) -> str:
    """``NET.STA.LOC.CHA`` of the twelve characters of a header: station, location, channel, network."""
    parts = codes[10:12], codes[:5], codes[5:7], codes[7:10]
    return ".".join(part.decode("ascii", "ignore").strip(" \0") for part in parts)
