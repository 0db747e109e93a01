"""Numbers of things in words: one station, but two stations."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`number` of things that are called `noun`, or `plural` if they are not just `noun` with an s.

    Examples
    --------
    >>> counted(1, "station"), counted(1460, "event"), counted(0, "frequency", "frequencies")
    ('1 station', '1,460 events', '0 frequencies')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
