"""Every waveform file of ObsPy's own tests, and real ones with defects: opened as ObsPy does, or flagged, and why."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from specufex_dask.archive import PathTemplate
from specufex_dask.cutting import Cut
from specufex_dask.ledger import Ledger
from specufex_dask.miniseed import is_miniseed, table
from specufex_dask.preprocess import Preprocess
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.record_blocks import read_block
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Array = np.ndarray[Any, Any]
_MOST_TRACES = 8
"""Of a file; some have thousands of the same kind."""
NOTHING = load_obspy().Trace(np.zeros(9), {"station": "A"})
OBSPY = Path(load_obspy().__file__).parent
CHARACTERS, NO_RATE, APART = "a log of characters", "a sampling rate of 0", "stretches that overlap and disagree"
FLAGGED: dict[str, tuple[set[str], str]] = {
    "io/alsep/tests/data/wth.1.5.mini": ({"gappy", "short"}, APART),
    "io/alsep/tests/data/wth.5.6.mini": ({"gappy", "short"}, APART),
    "io/ascii/tests/data/mseed2ascii_miniseed_record.txt": ({"unreadable"}, "fewer samples than its header tells"),
    "io/mseed/src/libmseed/test/data/text-encoded.mseed": ({"unreadable"}, CHARACTERS),
    "io/mseed/tests/data/encoding/fullASCII_bigEndian.mseed": ({"unreadable"}, CHARACTERS),
    "io/mseed/tests/data/encoding/fullASCII_littleEndian.mseed": ({"unreadable"}, CHARACTERS),
    "io/mseed/tests/data/encoding/smallASCII_bigEndian.mseed": ({"unreadable"}, CHARACTERS),
    "io/mseed/tests/data/encoding/smallASCII_littleEndian.mseed": ({"unreadable"}, CHARACTERS),
    "io/mseed/tests/data/rt130_sr0_cropped.mseed": ({"unreadable"}, NO_RATE),
    "io/reftek/tests/data/2015282_225051_0ae4c_1_1.msd": ({"short"}, APART),
    "io/reftek/tests/data/2015282_225051_0ae4c_1_2.msd": ({"short"}, APART),
    "io/reftek/tests/data/225051000_00008656": ({"short"}, APART),
    "io/seg2/tests/data/20130107_103041000.CET.3c.cont.0.seg2.gz": ({"gappy"}, "three channels of one name"),
}
"""The files that ObsPy opens and of which records are flagged. Not here: what is constant, or not finite."""
_AH, _MSEED, _LIBMSEED = "io/ah/tests/data/", "io/mseed/tests/data/", "io/mseed/src/libmseed/test/data/"
_SUM, _SAC, _HYP = "another sum over the samples", "another length than its header tells", "NonLinLoc taken for SAC"
BROKEN = {
    f"{_AH}ah1.c": "a record of an unknown type",
    f"{_AH}ah1.t": "a record of an unknown type",
    f"{_AH}ah2.c": "source code",
    f"{_AH}ah2.f-e": "source code",
    f"{_AH}ah2.t": "a record of an unknown type",
    "io/ascii/tests/data/slist_unknown.ascii": "samples of an unknown type",
    "io/ascii/tests/data/tspair_unknown.ascii": "samples of an unknown type",
    "io/css/tests/data/test_css_3.wfdisc": "its samples are in a file that is not there",
    "io/gse2/tests/data/GRF_031102_0225.GSE.wrong_chksum": _SUM,
    "io/gse2/tests/data/broken_head.gse2": _SUM,
    "io/gse2/tests/data/loc_RJOB20050831023349.z.wrong_chksum": _SUM,
    f"{_LIBMSEED}corrupt-blockettes-wrongnext.mseed": "a blockette beyond the record",
    f"{_LIBMSEED}invalid-blockette-offset.mseed": "fewer samples than its header tells",
    f"{_MSEED}infinite-loop.mseed": "fewer samples than its header tells",
    "io/nlloc/tests/data/nlloc_post_version_6.hyp": _HYP,
    "io/nlloc/tests/data/nlloc_rejected.hyp": _HYP,
    "io/sac/tests/data/seism-longer.sac": _SAC,
    "io/sac/tests/data/seism-shorter.sac": _SAC,
    "GRF_031102_0225.GSE.wrong_chksum": _SUM,
}
"""The files that ObsPy takes for waveforms and cannot open, and why: all records are unreadable."""


def _files(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Names below the folders, and paths, of what may be a waveform."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in {".py", ".pyc"} and (folder != OBSPY or "data" in path.parts):
                yield str(path.relative_to(folder)) if folder == OBSPY else path.name, path


def _traces(path: Path) -> list[Any] | None:
    """What ObsPy reads by the name of the file; None if it reads nothing."""
    with quiet_obspy():
        try:
            return list(load_obspy().read(str(path)))
        except Exception:  # noqa: BLE001 - of whatever class
            return None


@lru_cache(1)
def _formats() -> list[Any]:
    """Of each format that ObsPy reads, the function that says whether a file is of it."""
    names = [entry.name for entry in entry_points(group="obspy.plugin.waveform")]
    return [
        entry.load() for name in names for entry in entry_points(group=f"obspy.plugin.waveform.{name}", name="isFormat")
    ]


def _is_claimed(path: Path) -> bool:
    """Whether one of ObsPy's formats says that the file is its own."""
    if not path.stat().st_size:
        return False
    with quiet_obspy():
        for is_format in _formats():
            try:
                if is_format(str(path)):
                    return True
            except Exception:  # noqa: BLE001, S112 - so it is not
                continue
    return False


def _records(archive: PathTemplate, traces: list[Any]) -> Iterator[tuple[Any, str, int, Array]]:
    """Each trace with the flag, the start [ns] and the samples of the record that is all of it."""
    for rate, n_samples in dict.fromkeys((trace.stats.sampling_rate, trace.stats.npts) for trace in traces):
        alike = [trace for trace in traces if (trace.stats.sampling_rate, trace.stats.npts) == (rate, n_samples)]
        ends = (0.0, n_samples / (rate or 1.0))
        how = Cut(rate or 1.0, n_samples, ends, False, 0.0, 1.0, Preprocess())  # noqa: FBT003 - the order of Cut
        names = np.array([trace.id for trace in alike], object)
        times = np.array([trace.stats.starttime.ns for trace in alike])
        block = read_block(
            names, names, times, times, archive=archive, how=how, sample_dtype=np.dtype("f8"), ledger=Ledger()
        )
        flags = [QUALITY[i] for i in block["quality"].tolist()]
        yield from zip(alike, flags, block["start_time"].astype(np.int64).tolist(), block["waveform"], strict=True)


def _as_day(path: Path, traces: list[Any], folder: Path, number: int) -> PathTemplate:
    """The file in the place of continuous ones."""
    times = [trace.stats.starttime - 70 for trace in traces] + [trace.stats.endtime + 70 for trace in traces]
    for year in range(min(times).year, max(times).year + 1):
        (folder / f"{number}_{year:04d}").symlink_to(path)
    return PathTemplate(str(folder / f"{number}_{{year}}"))


def _headers(path: Path) -> list[Any]:
    """Something to ask a file for that ObsPy cannot open: in miniSEED, records by their headers."""
    if not is_miniseed(content := path.read_bytes()):
        return [NOTHING]
    obspy, records = load_obspy(), table(content)
    found = []
    for row, name in enumerate(records.station_id.tolist()):
        codes = dict(zip(("network", "station", "location", "channel"), name.split("."), strict=True))
        times = {"starttime": obspy.UTCDateTime(ns=int(records.start_ns[row])), "delta": 1 / records.sampling_rate[row]}
        found.append(obspy.Trace(np.zeros(records.n_samples[row]), {**codes, **times}))
    return found


def _flag(trace: Any, flag: str, start_ns: int, samples: Array) -> str:
    """The flag of the whole `trace`, empty where that is as it should be: samples bit for bit, or a true reason."""
    expected = np.asarray(trace.data)
    if flag == "usable":
        assert samples.tobytes() == expected.astype("f8").tobytes(), trace
        assert abs(start_ns - trace.stats.starttime.ns) < 1000, trace
        return ""
    assert np.isnan(samples).all()
    is_constant = flag == "constant" and np.ptp(expected) == 0
    return "" if is_constant or (flag == "not_finite" and not np.isfinite(expected).all()) else flag


def _check(folders: list[Path], folder: Path) -> tuple[Counter[str], dict[str, set[str]], set[str]]:
    """Counts of files and records; the flags of the files that have any; the files that are broken."""
    counts, flags, broken = Counter[str](), dict[str, set[str]](), set[str]()
    for number, (name, path) in enumerate(_files(folders)):
        traces, template = _traces(path), PathTemplate(str(path).replace("{", "{{").replace("}", "}}"))
        counts["files"] += 1
        if traces is None:
            assert {flag for _, flag, *_ in _records(template, _headers(path))} == {"unreadable"}, name
            is_broken = _is_claimed(path)
            broken |= {name} if is_broken else set()
            counts["broken files" if is_broken else "files that are no waveforms"] += 1
            continue
        counts[f"files of {traces[0].stats._format}"] += 1
        long = [trace for trace in traces if trace.stats.npts > 1][:_MOST_TRACES]
        days = [_as_day(path, long, folder, number)] if long and traces[0].stats._format == "MSEED" else []
        for archive in (template, *days):
            found = [_flag(*each) for each in _records(archive, long)]
            counts["records"] += len(found)
            counts["flagged records"] += len(found) - found.count("")
            flags.setdefault(name, set()).update(set(found) - {""})
    return counts, {name: each for name, each in flags.items() if each}, broken


@pytest.mark.slow
def test_every_file_of_obspy_is_opened_or_flagged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], show_table: Any
) -> None:
    counts, flags, broken = _check([OBSPY], tmp_path)
    _show(show_table, "files inside ObsPy", counts)
    assert flags == {name: expected for name, (expected, _) in FLAGGED.items()}
    assert broken == {name for name in BROKEN if "/" in name}
    assert counts["files"] == len(list(_files([OBSPY])))
    assert capfd.readouterr() == ("", "")


def test_every_odd_file_is_opened_or_flagged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], data_dir: Path, show_table: Any
) -> None:
    counts, flags, broken = _check([data_dir / "odd_files"], tmp_path)
    _show(show_table, "odd files", counts)
    assert flags == {}
    assert broken == {name for name in BROKEN if "/" not in name}
    assert counts["files"] == len(list(_files([data_dir / "odd_files"])))
    assert capfd.readouterr() == ("", "")


def _show(show_table: Any, title: str, counts: Counter[str]) -> None:
    show_table(title, [("what", "count"), *sorted(counts.items(), key=lambda each: -each[1])])
