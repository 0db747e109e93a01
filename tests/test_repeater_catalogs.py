"""Catalogues of repeaters as others publish them, and what is said of those that are damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import repeating

import specufex_dask as sx
from specufex_dask.config import run
from specufex_dask.summary import summary

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "YR,MO,DY,HR,MN,SC,DAYS,LAT,LON,DEP,EX,EY,EZ,MAG,DMAG,DMAGE,CCm,evID\n"
FIRST = "#,2,37.2,-121.6,6.7,0.7,0.1,66.0,245.4,1.1,55.0,215.2,1.2,0.9,R0.0005.184.0,,,\n"
SECOND = FIRST.replace("R0.0005.184.0", "R0.0007.7791.0")
EVENT = "1984,4,30,16,10,25.000,121,37.2,-121.6,6.7,1.0,0.9,2.4,0.6,0.7,0.03,0.88,{}\n"


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_sequences_in_blocks_are_named_after_their_heads(tmp_path: Path) -> None:
    lines = [HEAD, FIRST, EVENT.format("017"), EVENT.format("018"), SECOND, EVENT.format("9"), EVENT.format("21")]
    read = sx.read_repeaters(_written(tmp_path / "blocks.csv", "".join(lines)))
    assert read.event_id.values.tolist() == ["017", "018", "9", "21"]
    assert read.sequence.values.tolist() == ["R0.0005.184.0"] * 2 + ["R0.0007.7791.0"] * 2


def test_files_are_joined_and_their_columns_named(tmp_path: Path) -> None:
    names = {"event_id": "evid", "sequence": "family"}
    for i, rows in enumerate(("e0,A,2.1\ne1,-,1.0\n", "e2,A,2.0\ne3,,1.1\n")):
        _written(tmp_path / f"part{i}.csv", f"evid,family,magnitude\n{rows}")
    read = sx.read_repeaters(str(tmp_path / "part*.csv"), columns=names, none="-")
    assert read.event_id.values.tolist() == ["e0", "e1", "e2", "e3"]
    assert read.sequence.values.tolist() == ["A", "", "A", ""]
    repeaters = sx.find_repeaters(repeating.merged([-1] * 4), repeating.catalog(np.zeros(4), 2.0), reference=read)
    assert repeaters.reference.values.tolist() == [0, -1, 0, -1]
    assert repeaters.sequence.values.tolist() == [0, -1, 0, -1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("event_id,family\na,b\n", r"got .* with the columns \['event_id', 'family'\], expected 'sequence' among them"),
        ("event_id,sequence\n,b\n", r"got event_id '' in line 2 of .*, expected a value in every line"),
        ("event_id,sequence\na,b\na,c\n", r"got a catalogue of repeaters with the event 'a' 2 times, expected each"),
        (HEAD + EVENT.format(1), r"in line 2 of .*\.csv, expected '#', a number of events, … and a name: correct it"),
        (HEAD + FIRST.replace("2", "two", 1), r"got '#,two,37\.2.* expected '#', a number of events"),
        (HEAD + FIRST + EVENT.format(1) + SECOND, r"in line 4 of .*, expected 1 more event of R0\.0005\.184\.0:"),
        (HEAD + FIRST, r"got .*\.csv, which ends in R0\.0005\.184\.0, expected 2 more events of it: get it again\."),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sx.read_repeaters(_written(tmp_path / "wrong.csv", text))


def test_a_study_unites_its_sequences_with_those_of_a_reference(tmp_path: Path) -> None:
    """The first two events lie where they may repeat, by the reference alone; the run is the same once more."""
    made = sx.simulate(tmp_path / "made", n_events=8, n_stations=1, sampling_rate=50.0, seed=0)
    rows = "sim000000,A\nsim000001,A\nsim000002,\n"
    _written(tmp_path / "known.csv", f"event_id,sequence\n{rows}")
    study: dict[str, Any] = {
        "store": str(tmp_path / "s.zarr"), "seed": 0, "catalog": made.catalog, "stations": made.stations,
        "waveforms": {"archive": made.archive, "sampling_rate": 50.0},
        "spectrograms": {"window_length": 0.5, "overlap": 0.5, "nfft": 64, "band": [2.0, 15.0]},
        "nmf": {"n_patterns": 4, "max_steps": 20}, "hmm": {"n_states": 3, "max_steps": 20, "n_init": 1},
        "clusters": {"n_clusters": 7, "method": "ward"}, "reference": str(tmp_path / "known.csv"),
        "candidates": {"n_radii": 1e6, "magnitude_window": 9.0},
    }  # fmt: skip
    told: list[str] = []
    for _ in range(2):
        run(study, announce=lambda stage, dataset, _: told.append(f"{stage}: {summary(stage, dataset)}"))
    assert told[-2] == "reference: 2 of 3 events in 1 sequence"
    assert told[: len(told) // 2] == told[len(told) // 2 :]
    candidates = sx.load(study["store"], "repeaters", group="candidates")
    ours = dict(zip(candidates.event_id.values.tolist(), candidates.sequence.values.tolist(), strict=True))
    assert ours["sim000000"] == ours["sim000001"] >= 0
    assert json.loads(candidates.attrs["comparison"])["n_reference"] == 2


def test_the_published_catalogues_agree(data_dir: Path) -> None:
    """The 1,024 events of the study's own file have the sequences that the catalogue of 2021 gives them."""
    folder = data_dir / "res_catalogs"
    whole = sx.read_repeaters(folder / "NCA_REPQcat_20210919_noMeta_v2.csv")
    columns = {"event_id": "event_ID", "sequence": "RID"}
    study = sx.read_repeaters(folder / "NCADDiff_5km_2019_500mFault_WS21.csv", columns=columns, none="0")
    assert (whole.sizes["event"], len(set(whole.sequence.values.tolist()))) == (27_674, 7_713)
    inside = study.sequence.values != ""
    assert (len(inside), inside.sum(), len(set(study.sequence.values[inside].tolist()))) == (3_968, 1_024, 144)
    named = dict(zip(whole.event_id.values.tolist(), whole.sequence.values.tolist(), strict=True))
    rows = zip(study.event_id.values[inside].tolist(), study.sequence.values[inside].tolist(), strict=True)
    assert [event for event, sequence in rows if named[event] != sequence] == []
    catalog, name = repeating.published(data_dir)
    alone = repeating.merged([-1]).assign_coords(event_id=("event", catalog.event_id.values[:1]))
    repeaters = sx.find_repeaters(alone, catalog, reference=whole)
    assert (repeaters.reference.values[repeating.numbered(name) >= 0] >= 0).all()
