"""Recipes: equal ones mean equal data, and what a stage must hold to get one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import draws
import numpy as np
import pytest
import xarray as xr

import specufex_dask as sx
from specufex_dask.recipe import difference, digest, identity, recipe, stamp
from specufex_dask.schema import QUALITY, SCHEMAS, VERSION, validate


def test_a_recipe_holds_stage_parameters_and_inputs() -> None:
    spectrograms = draws.spectrograms()
    made = recipe("nmf", {"seed": 0, "band": (1, np.float64(2.5)), "tol": None}, spectrograms=spectrograms, code="x")
    text = json.loads(made["recipe"])
    assert text == {
        "stage": "nmf", "schema_version": VERSION, "parameters": {"seed": 0, "band": [1, 2.5], "tol": None},
        "inputs": {"spectrograms": identity(spectrograms), "code": "x"},
    }  # fmt: skip
    assert made["recipe_id"] == digest(made["recipe"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"k": 1}, {"k": 2}),
        ({"k": 1}, {"k": 1, "more": None}),
        ({"k": (1, 2)}, {"k": (2, 1)}),
        ({"k": np.arange(3.0)}, {"k": np.arange(3.0) + 1e-12}),
        ({"k": np.arange(3.0)}, {"k": np.arange(3.0).reshape(3, 1)}),
        ({"k": np.zeros(2)}, {"k": np.zeros(2, "f4")}),
        ({"k": {"a": [1]}}, {"k": {"a": [1.5]}}),
    ],
    ids=str,
)
def test_another_parameter_is_another_recipe(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert recipe("nmf", one)["recipe_id"] != recipe("nmf", other)["recipe_id"]
    assert recipe("nmf", one) == recipe("nmf", dict(one))
    assert recipe("nmf", one)["recipe_id"] != recipe("hmm", one)["recipe_id"]


def test_the_way_a_parameter_is_given_does_not_matter() -> None:
    ways: list[dict[str, Any]] = [
        {"a": 1, "k": [1, 2, 3]}, {"k": (1, 2, 3), "a": np.int64(1)}, {"a": 1, "k": range(1, 4)},
    ]  # fmt: skip
    assert len({recipe("nmf", way)["recipe_id"] for way in ways}) == 1


def test_differences_are_named() -> None:
    spectrograms = draws.spectrograms()
    ours = recipe("nmf", {"seed": 1, "tol": None}, spectrograms=spectrograms)["recipe"]
    theirs = recipe("nmf", {"seed": 2}, spectrograms="another")["recipe"]
    assert difference(ours, ours) == []
    assert difference(ours, theirs) == [
        "seed is 1 now and was 2",
        "tol is None now and was 'not given'",
        f"spectrograms is {identity(spectrograms)!r} now and was 'another'",
    ]
    older = json.dumps(json.loads(ours) | {"schema_version": 0})
    assert difference(ours, older) == [f"schema_version is {VERSION} now and was 0"]


@pytest.mark.parametrize(
    "changed",
    [
        lambda d: d.isel(record=slice(0, 39)),
        lambda d: d.isel(record=slice(None, None, -1)),
        lambda d: d.isel(time=slice(0, 10)),
        lambda d: d.assign_attrs(recipe_id="another"),
        lambda d: d.assign_coords(station_id=("record", np.full(40, "YY.B..Z", dtype=object))),
    ],
    ids=["fewer", "reversed", "shorter", "recipe", "station"],
)
def test_a_selection_is_another_identity(changed: Any) -> None:
    assert identity(changed(draws.spectrograms())) != identity(draws.spectrograms())


def test_an_identity_survives_chunking_saving_and_loading(tmp_path: Path) -> None:
    spectrograms = draws.spectrograms()
    same = [spectrograms.chunk(record=5), spectrograms.compute(), sx.save(spectrograms, tmp_path / "s.zarr")]
    same += [sx.load(tmp_path / "s.zarr", "spectrograms").drop_encoding()]
    assert {identity(dataset) for dataset in same} == {identity(spectrograms)}


def test_an_identity_is_the_same_in_another_process() -> None:
    """Python's own hash of a string is not."""
    program = "import draws; from specufex_dask.recipe import identity; print(identity(draws.spectrograms()))"
    folder = str(Path(draws.__file__).parent)
    program = f"import sys; sys.path.insert(0, {folder!r}); {program}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == identity(draws.spectrograms())


def test_a_dataset_made_by_hand_is_its_content() -> None:
    made = [xr.Dataset({"x": ("record", [1.0, value])}) for value in (2.0, 2.0, 3.0)]
    assert identity(made[0]) == identity(made[1])
    assert identity(made[0]) != identity(made[2])


def test_a_stamp_writes_what_the_schema_says() -> None:
    spectrograms = draws.spectrograms()
    assert spectrograms.attrs["stage"] == "spectrograms"
    assert spectrograms.attrs["schema_version"] == VERSION
    assert set(map(str, spectrograms.variables)) <= {v.name for v in SCHEMAS["spectrograms"].variables}
    for variable in (v for v in SCHEMAS["spectrograms"].variables if v.name in spectrograms.variables):
        attributes = spectrograms[variable.name].attrs
        assert attributes["long_name"] == variable.description
        assert attributes.get("units", "") == variable.units
    assert len(QUALITY) == len(set(QUALITY))
    assert QUALITY[0] == "usable"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            lambda d: d.drop_vars("quality"),
            r"spectrograms: got a Dataset without 'quality' \(it has .*\), expected quality .* Pass the Dataset of",
        ),
        (
            lambda d: d.transpose("record", "time", "frequency"),
            r"got spectrogram with dims \('record', 'time', 'frequency'\), expected .*: rename or transpose it",
        ),
        (
            lambda d: d.assign(quality=d["quality"].astype(float)),
            r"spectrograms: got quality of dtype float64, expected one of kind 'iu' .*: convert it with astype",
        ),
        (
            lambda d: d.assign_coords(start_time=("record", np.arange(40.0))),
            r"got start_time of dtype float64",
        ),
    ],
    ids=["missing", "dims", "dtype", "time"],
)
def test_a_dataset_that_does_not_fit_its_schema_is_refused(changed: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        stamp(changed(draws.spectrograms()), "spectrograms", {})


def test_validating_computes_nothing_and_changes_nothing() -> None:
    def fail(_: Any) -> Any:
        msg = "computed"
        raise AssertionError(msg)

    spectrograms = draws.spectrograms()
    trap = spectrograms["spectrogram"].data.map_blocks(fail, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    trapped = spectrograms.assign(spectrogram=(spectrograms["spectrogram"].dims, trap))
    named = validate(trapped, "spectrograms")
    assert named["spectrogram"].attrs["units"] == "dB"
    assert trapped["spectrogram"].attrs == {}
    stamp(trapped, "spectrograms", {})
