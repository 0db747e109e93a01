"""Read damaged files, in a process that may die of one: ``python fuzz_runner.py folder first last [data]``.

The number of the input is written down before it is read. An input that takes too long ends the
process with the traceback of where it hangs.
"""

from __future__ import annotations

import faulthandler
import io
import itertools
import json
import os
import resource
import signal
import sys
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fuzz_hdf5 import as_h5py_reads, hdf5_bases
from fuzz_inputs import IN_SAMPLES, Base, Window, damaged, large_base, small_bases

from specufex_dask.archive import PathTemplate
from specufex_dask.cutting import NOT_A_TIME, Cut
from specufex_dask.hdf5 import Hdf5Archive
from specufex_dask.ledger import Ledger
from specufex_dask.miniseed import table
from specufex_dask.preprocess import Preprocess
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.record_blocks import read_block
from specufex_dask.schema import QUALITY
from specufex_dask.segments import UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from specufex_dask.archive import Archive

Array = np.ndarray[Any, Any]
SECONDS_AN_INPUT = 20
"""Of the processor."""
MOST_BYTES = 1 << 29
"""How much more memory the process may ever have had than before the first input."""
ASKED_FOR, USED = "VmPeak", "VmHWM"
"""Kinds of memory. The HDF5 library asks for as much as a damaged file says, if it can get it, and does not use it."""
HDF5 = 3
"""Of every five inputs this one is in HDF5; these come last, for after them nobody knows what others ask for."""
YEAR = "{year}.ms"


@dataclass
class Tally:
    """What came of inputs, by reader: counts of records by their outcome, and the failures."""

    counts: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """A way to read: where to put the content of a file so that it is taken, and the archive that takes it."""

    put: Callable[[Path, object, bytes, str], Archive]
    forget: Callable[[Path, object], None]
    most_excused: float = 0.05
    """Which share of the records may be as the damaged file says, and not right."""
    memory: str = ASKED_FOR


def _put_event(folder: Path, number: object, content: bytes, year: str) -> PathTemplate:  # noqa: ARG001 - one signature
    (folder / "event").write_bytes(content)
    return PathTemplate(str(folder / "event"))


def _put_day(folder: Path, number: object, content: bytes, year: str) -> PathTemplate:  # noqa: ARG001
    (folder / f"{year}.ms").write_bytes(content)
    return PathTemplate(str(folder / YEAR))


def _put_object(folder: Path, number: object, content: bytes, year: str) -> PathTemplate:  # noqa: ARG001
    import fsspec

    fsspec.filesystem("memory").pipe_file(f"/fuzz/{number}/{year}.ms", content)
    return PathTemplate(f"memory://fuzz/{number}/{YEAR}", in_order=True)


def _put_hdf5(folder: Path, number: object, content: bytes, year: str) -> Hdf5Archive:  # noqa: ARG001
    path = folder / f"{number}.h5"  # of another name each: blocks of files are kept by name, size and time
    path.write_bytes(content)
    return Hdf5Archive(PathTemplate(str(path)), sampling_rate=100.0)


def _forget_hdf5(folder: Path, number: object) -> None:
    (folder / f"{number}.h5").unlink()


def _forget_object(folder: Path, number: object) -> None:  # noqa: ARG001
    import fsspec

    fsspec.filesystem("memory").rm(f"/fuzz/{number}", recursive=True)


def _keep(folder: Path, number: object) -> None:
    """Files are written over."""


READERS = {
    "event file": Reader(_put_event, _keep),
    "day file": Reader(_put_day, _keep),
    "byte ranges of a day": Reader(_put_object, _forget_object),
    "HDF5": Reader(_put_hdf5, _forget_hdf5, most_excused=0.5, memory=USED),
}


def chosen(number: int, data: Path | None) -> tuple[str, Base, bytes, list[str]]:
    """The reader, the sound file, its damaged content and the kinds of damage of the input `number`."""
    rng = np.random.default_rng([20_000, number])
    reader = "byte ranges of a day" if number % 8 == 7 else ("event file", "day file")[number % 2]
    reader = "HDF5" if number % 5 == HDF5 else reader
    bases = hdf5_bases() if reader == "HDF5" else small_bases(data)
    sound = large_base() if reader == "byte ranges of a day" else bases[int(rng.integers(len(bases)))]
    content, kinds = damaged(sound, rng)
    return reader, sound, content, kinds


def read(
    reader: str, sound: Base, content: bytes, folder: Path, number: object
) -> list[tuple[Window, str, int, Array]]:
    """Each window with its flag, its start [ns] and its samples, as a run would read them."""
    year = str(np.datetime64(sound.windows[0].start_ns, "ns").astype("datetime64[Y]"))  # NaT in HDF5, which has none
    archive = READERS[reader].put(folder, number, content, year)
    found = []
    try:
        for window in sound.windows:
            event, name = np.array([[window.event_id], [window.station_id]], object)
            time = np.array([0 if window.event_id else window.start_ns])
            ends = None if window.event_id else (0.0, window.n_samples / window.sampling_rate)
            how = Cut(window.sampling_rate, window.n_samples, ends, False, 0.0, 1.0, Preprocess())  # noqa: FBT003
            block = read_block(
                event, name, time, time, archive=archive, how=how, sample_dtype=np.dtype("float64"), ledger=Ledger()
            )
            flag, start = QUALITY[int(block["quality"][0])], int(block["start_time"].astype(np.int64)[0])
            found.append((window, flag, start, block["waveform"][0]))
    finally:
        READERS[reader].forget(folder, number)
    return found


def is_right(sound: Base, window: Window, start_ns: int, samples: Array) -> bool:
    """Whether `samples` are those of the sound file at their time, to half a sample, near the window."""
    if abs(start_ns - window.start_ns) > 0.51e9 / window.sampling_rate:
        return False
    for part in sound.truth[window.name]:
        first = part.index(start_ns)
        if first >= 0 and np.array_equal(part.samples[first : first + samples.size], samples):
            return True
    return False


def is_told(content: bytes, sound: Base, window: Window, start_ns: int, samples: Array) -> bool:
    """Whether another reader finds the `samples` in the damaged file too."""
    if window.event_id:
        return as_h5py_reads(content, window, samples)
    return is_valid(content, sound, window, start_ns, samples)


def is_valid(content: bytes, sound: Base, window: Window, start_ns: int, samples: Array) -> bool:
    """Whether ObsPy finds those of the samples that are not right at that time in the damaged file, and nothing wrong.

    It is asked for the file, and for each record, as in a file it takes all for coded as the first is.
    """
    known = np.zeros(samples.size, bool)
    for part in sound.truth[window.name]:
        first = part.index(start_ns)
        there = part.samples[max(first, 0) : max(first + samples.size, 0)]
        at = max(-first, 0)
        known[at : at + there.size] |= samples[at : at + there.size] == there
    return _is_there([content, *_records(content, sound)], window, start_ns, samples, known)


def _records(content: bytes, sound: Base) -> list[bytes]:
    """What may be records of the damaged file: by the headers that are read in it, and where records were."""
    places = sorted({*sound.places, len(content)})
    with suppress(UnreadableFileError):
        found = table(content)
        told = zip(found.first_byte.tolist(), found.last_byte.tolist(), strict=True)
        return [content[first:last] for first, last in {*pairwise(places), *told}]
    return [content[first:last] for first, last in pairwise(places)]


def _is_there(parts: list[bytes], window: Window, start_ns: int, samples: Array, known: Array) -> bool:
    for trace in itertools.chain.from_iterable(map(_sound, parts)):
        if trace.id == window.station_id and trace.stats.sampling_rate > 0:
            at = round((trace.stats.starttime.ns - start_ns) * trace.stats.sampling_rate / 1e9)
            low, high = max(at, 0), min(at + trace.stats.npts, samples.size)
            if low < high:
                known[low:high] |= trace.data[low - at : high - at] == samples[low:high]
    return bool(known.all())


def _sound(content: bytes) -> list[Any]:
    """What ObsPy reads, unless it finds anything wrong."""
    obspy = load_obspy()
    with quiet_obspy() as messages:
        try:
            stream = list(obspy.read(io.BytesIO(content), format="MSEED"))
        except Exception:  # noqa: BLE001 - ObsPy raises whatever the damage leads to
            return []
    if any("Invalid word order" in text for text in messages):  # of which ObsPy takes plain numbers for the other one
        stream += [obspy.Trace(_swapped(trace), trace.stats) for trace in stream]
    return [] if any("integrity" in text for text in messages) else stream


def _swapped(trace: Any) -> Array:
    """The samples of `trace`, as if each had been written in the other byte order."""
    is_short = trace.stats.mseed.encoding == "INT16"  # which ObsPy makes longer
    swapped: Array = trace.data.astype("int16" if is_short else trace.data.dtype).byteswap()
    return swapped


def _n_bits(sound: bytes, content: bytes) -> int:
    """How many bits were turned over: two in one record may leave its sum as it was."""
    n_bytes = min(len(sound), len(content))
    a, b = (np.frombuffer(each, np.uint8, n_bytes) for each in (sound, content))
    return int(np.bitwise_count(a ^ b).sum())


def examine(number: int, folder: Path, data: Path | None, tally: Tally) -> None:
    """Read the input `number` and say what came of it."""
    reader, sound, content, kinds = chosen(number, data)
    tally.counts["inputs"] += 1
    strict = sound.is_checked and set(kinds) <= IN_SAMPLES and _n_bits(sound.content, content) < 2
    for window, flag, start_ns, samples in read(reader, sound, content, folder, number):
        if flag != "usable":
            tally.counts[flag] += 1
            if not np.isnan(samples).all() or (flag == "missing" and start_ns != NOT_A_TIME):
                tally.failures.append(f"{number}: a {flag} record has samples")
        elif is_right(sound, window, start_ns, samples):
            tally.counts["right"] += 1
        elif not strict and is_told(content, sound, window, start_ns, samples):
            tally.counts["as the damaged file says"] += 1
            for kind in kinds:
                tally.excused[kind] += 1
        else:
            tally.failures.append(f"{number}: {reader}, {sound.name}, {kinds}: wrong samples of {window.name}")


def peak_bytes(kind: str) -> int:
    """The most memory of a `kind` that this process ever had; where that is not told, what it used."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [each for each in status.read_text().splitlines() if each.startswith(kind)]
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(folder: Path, first: int, last: int, data: Path | None) -> None:
    """Examine the inputs `first` to before `last`; write the tallies, by reader, to ``folder/tally.json``."""
    warnings.simplefilter("error")
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # and then the process ends, as it does of this signal
    tallies = {name: Tally() for name in READERS}
    # Once, so that what is loaded later is not counted as memory.
    for i, sound in enumerate((*small_bases(data), large_base(), *hdf5_bases())):
        for reader in [name for name in READERS if (name == "HDF5") == bool(sound.windows[0].event_id)]:
            found = read(reader, sound, sound.content, folder, f"sound {i}")
            assert all(flag == "usable" and is_right(sound, w, start, x) for w, flag, start, x in found), sound.name
    numbers = sorted(range(first, last), key=lambda number: number % 5 == HDF5)
    before = {kind: peak_bytes(kind) for kind in (ASKED_FOR, USED)}
    with (folder / "number").open("wb", buffering=0) as file:
        for number in numbers:
            os.pwrite(file.fileno(), b"%010d" % number, 0)
            signal.setitimer(signal.ITIMER_PROF, SECONDS_AN_INPUT)
            reader = chosen(number, data)[0]
            tally = tallies[reader]
            try:
                examine(number, folder, data, tally)
            except Exception as error:  # noqa: BLE001 - none may come
                tally.failures.append(f"{number}: {error!r}")
            kind = READERS[reader].memory
            grown = peak_bytes(kind) - before[kind]
            if grown > MOST_BYTES:
                tally.failures.append(f"{number}: {grown >> 20} MiB of {kind}")
                before[kind] += grown
    signal.setitimer(signal.ITIMER_PROF, 0)
    (folder / "tally.json").write_text(json.dumps({name: vars(tally) for name, tally in tallies.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
