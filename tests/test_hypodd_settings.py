from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from specufex_dask.fetching import File
from specufex_dask.hypodd_settings import FILES, LayeredModel, Weights, read_settings, settings_lines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["example1", "example3", "amatrice2016"])
def test_control_files_are_read_and_written(data_dir: Path, name: str) -> None:
    source = data_dir / "relocation" / name / "hypoDD.inp"
    found, names = read_settings(File(source.name, source.read_bytes()))
    assert names["dt.ct"] == "dt.ct"
    assert (names["dt.cc"] == "") == (name == "amatrice2016") == (not found.cross)
    layers = {"example1": 10, "example3": 14, "amatrice2016": 30}[name]
    assert len(found.model.top_km) == len(found.model.s_km_s) == layers
    assert found.svd == (name == "example1")
    assert found.remove_airquakes == (name != "example3")
    last = {
        "example1": Weights(3, 1, 0.5, 4, 1, 0.01, 0.005, 8, 2, 20),
        "example3": Weights(5, 1, 0.5, 5, 0.2, 0.001, 0.0005, 7, 10, 100),
        "amatrice2016": Weights(5, 1, 0.5, 10, 10, 1, 0.5, 6, 8, 200),
    }[name]
    assert found.weights is not None
    assert found.weights[-1] == last
    text = "\n".join(settings_lines(found, cross=found.cross, n_events=3, n_data=9)).encode()
    again, kinds = read_settings(File("hypoDD.inp", text))
    assert again == replace(found, model=replace(found.model, vp_vs=found.model.ratios))
    assert [kinds[kind] for kind in FILES[1:3]] == ["dt.ct", "event.sel"]


def test_control_files_of_version_1_are_read() -> None:
    files = "dt.cc\ndt.ct\nevent.sel\nstation.sel\n\nhypoDD.reloc\n\n\n\n"
    text = f"{files}3 3 200\n0 8\n1 2 1\n4 1 .5 -9 -9 1 .5 1d1 4 80 x\n"
    found, names = read_settings(File("hypoDD.inp", f"{text}2 1.73\n0 5.\n5 6\n0\n12 13\n14\n".encode()))
    assert found.from_centroid
    assert found.weights == (Weights(4, 1, 0.5, -999, -999, 1, 0.5, 10, 4, 80),)
    assert (found.model, found.events) == (LayeredModel((0, 5), (5, 6), 1.73), (12, 13, 14))
    assert names["hypoDD.reloc"] == "hypoDD.reloc"
    three = text.replace("dt.cc\n", "hypoDD_2\ndt.cc\n").replace("0 8\n1 2 1", "0 8 -9 -9 -9\n1 2 1 1") + "9\nvel.dat\n"
    with pytest.raises(
        ValueError, match=r"got hypoDD\.inp with IMOD 9, expected 0 or 1, flat layers: choose one of these"
    ):
        read_settings(File("hypoDD.inp", three.encode()))
    with pytest.raises(ValueError, match=r"got '0 8' in line 12 of hypoDD.inp, expected OBSCC OBSCT MINDIST"):
        read_settings(File("hypoDD.inp", f"hypoDD_2\n{text}".encode()))


def test_a_model_that_cannot_be_is_told() -> None:
    with pytest.raises(ValueError, match=r"got tops \(0, 5, 3\) km of layers .* expected as many of each"):
        LayeredModel((0, 5, 3), (4, 5, 6))
    with pytest.raises(ValueError, match=r"got velocities \(4, 0\) and Vp/Vs 1.73, expected positive ones"):
        LayeredModel((0, 5), (4, 0))
