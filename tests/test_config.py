from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from specufex_dask.config import run
from specufex_dask.study import read_study

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SMALLEST: dict[str, Any] = {
    "store": "study.zarr",
    "seed": 0,
    "catalog": "events.csv",
    "stations": "stations.csv",
    "waveforms": {"archive": "{event_id}.mseed", "sampling_rate": 100},
    "spectrograms": {"window_length": 0.5, "band": [2, 20]},
}


def _mistake(**changes: Any) -> str:
    """What a study says of itself after `changes`, the headline apart."""
    with pytest.raises(ValueError, match=r"^the study has mistakes; correct each line and run it again:\n") as error:
        read_study(SMALLEST | changes)
    return str(error.value).partition("\n")[2]


def test_settings_become_keyword_arguments(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "store: s3://bucket/study.zarr\nseed: 7\ndtype: float64\ncatalog: {source: events.csv}\n"
        "stations: stations.csv\nwaveforms: {archive: 'in/{event_id}.mseed', sampling_rate: 100, station_id: all}\n"
        "spectrograms: {window_length: 0.5, band: [2, 20]}\nnmf: {tol: 1e-3, seed: 1}\nhmm:\n"
    )
    study = read_study(file)
    assert study.store == "s3://bucket/study.zarr"
    assert study.report == str(tmp_path / "study.html")
    assert study.arguments["catalog"]["source"] == str(tmp_path / "events.csv")
    assert study.arguments["stations"] == {"source": str(tmp_path / "stations.csv")}
    waveforms = study.arguments["waveforms"]
    assert waveforms["archive"] == str(tmp_path / "in" / "{event_id}.mseed")
    assert waveforms["station_id"] is None
    assert waveforms["dtype"] == "float64"
    assert study.arguments["spectrograms"]["band"] == (2.0, 20.0)
    assert study.arguments["nmf"] == {"seed": 1, "tol": 1e-3, "dtype": "float64"}
    assert study.arguments["hmm"]["seed"] == 7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": 1}, "got seeds=1, expected one of activations, candidates, catalog, "),
        ({"seeds": 1}, "Did you mean 'seed'?"),
        ({"nmf": {"n_pattern": 30}}, "got nmf.n_pattern=30, expected one of "),
        ({"nmf": {"n_pattern": 30}}, "Did you mean 'n_patterns'?"),
        ({"nmf": {"n_patterns": "many"}}, "got nmf.n_patterns='many', expected an integer."),
        ({"nmf": {"n_patterns": 0}}, "got nmf.n_patterns=0, expected a whole number from 1: correct it."),
        ({"nmf": 75}, "got nmf=75, expected the keys "),
        ({"nmf": {"checkpoint": "x"}}, "got nmf.checkpoint='x', expected one of "),
        ({"spectrograms": {"window_length": 1, "band": [20, 2]}}, "got spectrograms.band=[20, 2], expected two freq"),
        ({"spectrograms": {"window_length": 1, "band": 2}}, "expected a list [a number, a number]"),
        (
            {"spectrograms": {"window_length": 1, "band": [1, 2], "overlap": 1}},
            "got spectrograms.overlap=1, expected a",
        ),
        ({"clusters": {"n_clusters": 1}}, "got clusters.n_clusters=1, expected an integer from 2, or a list of them."),
        (
            {"clusters": {"n_clusters": []}},
            "got clusters.n_clusters=[], expected an integer from 2, or a list of them.",
        ),
        ({"dtype": "float16"}, "got dtype='float16', expected one of float32, float64."),
        ({"nmf": {"schedule": "slow"}}, "got nmf.schedule='slow', expected 'growing' or 'published': correct it."),
        ({"hmm": {"tol": -1}}, "got hmm.tol=-1.0, expected None or a number from 0: correct it."),
        (
            {"fingerprints": {"keep": ["all"]}},
            "got fingerprints.keep=['all'], expected names out of initial, state_prob",
        ),
        ({"seed": -1}, "got seed=-1, expected a number from 0."),
        ({"seed": 1.5}, "got seed=1.5, expected an integer."),
        ({"waveforms": {"archive": "x"}}, "got no waveforms.sampling_rate, expected a number."),
        ({"seed": None}, "got seed=None, expected an integer."),
        ({"waveforms": {}}, "got no waveforms.archive, expected text."),
        ({"catalog": "${NO_SUCH_FOLDER}/c.csv"}, "expected the environment variable NO_SUCH_FOLDER to be set: export"),
        (
            {"waveforms": {"archive": "x", "sampling_rate": 1, "preprocess": {"demeaned": True}}},
            "got waveforms.preprocess.demeaned=True, expected one of bandpass, ",
        ),
        (
            {"waveforms": {"archive": "x", "sampling_rate": 1, "preprocess": {"bandpass": 5}}},
            "got waveforms.preprocess.bandpass=5, expected a list [a number, a number] or null.",
        ),
    ],
)
def test_a_mistake_names_key_value_and_what_is_allowed(changes: dict[str, Any], says: str) -> None:
    assert says in _mistake(**changes)


def test_a_seed_is_asked_for_once() -> None:
    study = {key: value for key, value in SMALLEST.items() if key != "seed"}
    with pytest.raises(ValueError, match=r"- got no seed, expected an integer\.$") as error:
        read_study(study)
    assert str(error.value).count("seed") == 1


def test_every_mistake_is_told_at_once() -> None:
    told = _mistake(nmf={"n_pattern": 1}, hmm={"n_states": 1}, colour="red").split("\n")
    assert [re.split("[ =]", line)[2] for line in told] == ["colour", "nmf.n_pattern", "hmm.n_states"]


def test_nothing_is_read_before_all_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        pytest.fail("the catalog was read")

    monkeypatch.setattr("specufex_dask.config.SECTIONS", [])
    monkeypatch.setattr("specufex_dask.config._make", read)
    with pytest.raises(ValueError, match=r"n_clustres"):
        run(SMALLEST | {"clusters": {"n_clustres": 3}})


@pytest.mark.parametrize(
    ("override", "section", "expected"),
    [
        ("waveforms.station_id=[A, B]", "waveforms", {"station_id": ["A", "B"]}),
        ("nmf.n_patterns=30", "nmf", {"n_patterns": 30}),
        ("spectrograms.band = [1, 5]", "spectrograms", {"band": (1.0, 5.0)}),
        ("clusters.n_clusters=3", "clusters", {"n_clusters": 3}),
        ("seed=3", "hmm", {"seed": 3}),
        ("store=other.zarr", "store", {"store": "other.zarr"}),
        ("store.store=s3://bucket/other.zarr", "store", {"store": "s3://bucket/other.zarr"}),
    ],
)
def test_an_override_replaces_one_setting(override: str, section: str, expected: dict[str, Any]) -> None:
    before, after = read_study(SMALLEST), read_study(SMALLEST, overrides=[override])
    assert after.arguments[section] == before.arguments[section] | expected


def test_another_place_of_the_store_keeps_its_options() -> None:
    options = {"key": "me", "secret": "hidden"}
    study = SMALLEST | {"store": {"store": "s3://bucket/study.zarr", "storage_options": options}}
    moved = read_study(study, overrides=["store.store=s3://bucket/other.zarr", "report.path=other.html"])
    assert moved.arguments["store"] == {"store": "s3://bucket/other.zarr", "storage_options": options}
    assert moved.report == "other.html"


@pytest.mark.parametrize("override", ["nmf.n_patterns", "=3", ""])
def test_an_override_without_a_key_or_value_is_told(override: str) -> None:
    with pytest.raises(ValueError, match=r"expected section\.key=value, such as waveforms\.station_id=all"):
        read_study(SMALLEST, overrides=[override])


def test_a_mapping_given_is_not_changed() -> None:
    study = SMALLEST | {"nmf": {"n_patterns": 20}}
    read_study(study, overrides=["nmf.n_patterns=30"])
    assert study["nmf"] == {"n_patterns": 20}


def test_the_file_of_the_published_study_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECUFEX_DASK_DATA", "data")
    study = read_study(NOTEBOOKS / "gorner.yaml")
    assert study.arguments["waveforms"]["station_id"] == ["4D.G7J1..SHZ"]
    assert study.arguments["clusters"]["n_clusters"] == list(range(2, 11))
    all_stations = read_study(NOTEBOOKS / "gorner.yaml", overrides=["waveforms.station_id=all"])
    assert all_stations.arguments["waveforms"]["station_id"] is None
    assert all_stations.arguments["events"] == {"n_families": 3}


@pytest.mark.parametrize(("text", "says"), [("[1, 2]", "that holds list, expected the keys"), ("a: [", "is not YAML")])
def test_a_file_that_is_no_study_is_told(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_study(file)
