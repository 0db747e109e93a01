"""The sum over the bytes of a record of version 3 of miniSEED."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(1)
def _crc_table() -> tuple[int, ...]:
    made = []
    for i in range(256):
        value = i
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        made.append(value)
    return tuple(made)


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli) of `content`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    lookup, value = _crc_table(), 0xFFFFFFFF
    for byte in content:
        value = lookup[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF
