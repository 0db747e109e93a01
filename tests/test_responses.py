"""Instrument responses: as ObsPy takes them out, by epoch, padded, once evaluated; what lacks one, and units."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from archives import events_table

import specufex_dask as sx
from specufex_dask import responses
from specufex_dask.preprocess import Preprocess
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    Array = np.ndarray[Any, Any]

STEPS: dict[str, Any] = {"response": "VEL", "pre_filt": (0.5, 1.0, 30.0, 40.0), "water_level": 60.0}
LATER = "2009-08-24T00:20:03"
EARLIER = "2007-06-01T00:00:00"


@pytest.fixture(scope="module")
def inventory() -> Any:
    """ObsPy's own example: three stations, of which BW.RJOB has epochs with other instruments."""
    obspy = load_obspy()
    with quiet_obspy():
        return obspy.read_inventory()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    """ObsPy's example of a record of three channels at 100 Hz, and the same one two years before."""
    obspy, folder = load_obspy(), tmp_path_factory.mktemp("rjob")
    with quiet_obspy():
        stream = obspy.read()
        for name, start in (("later", LATER), ("earlier", EARLIER), ("before", "1990-01-01")):
            for trace in stream:
                trace.data, trace.stats.starttime = np.rint(trace.data).astype(np.int32), obspy.UTCDateTime(start)
            stream.write(str(folder / f"{name}.mseed"), format="MSEED")
    return str(folder / "{event_id}.mseed")


def traces(archive: str, event_id: str) -> list[Any]:
    with quiet_obspy():
        return list(load_obspy().read(archive.format(event_id=event_id)))


def removed(trace: Any, inventory: Any, **options: Any) -> Array:
    with quiet_obspy():
        data: Array = trace.copy().remove_response(inventory, **options).data
    return data


def opened(archive: str, inventory: Any, steps: dict[str, Any], *events: str, **options: Any) -> xr.Dataset:
    starts = {"later": LATER, "earlier": EARLIER, "before": "1990-01-01"}
    catalog = events_table(list(events), [starts[event] for event in events])
    channels = [f"BW.RJOB..EH{component}" for component in "ZNE"]
    chosen = {"sampling_rate": 100.0, "station_id": channels, "dtype": "float64", **options}
    return sx.open_waveforms(catalog, inventory, archive=archive, preprocess=steps, **chosen)


@pytest.mark.parametrize(
    ("output", "pre_filt", "water_level"),
    [("VEL", (0.5, 1.0, 30.0, 40.0), 60.0), ("DISP", None, 30.0), ("ACC", (0.01, 0.02, 40.0, 45.0), None)],
)
def test_a_record_is_what_obspy_makes_of_it_bit_for_bit(
    archive: str, inventory: Any, output: str, pre_filt: Any, water_level: Any
) -> None:
    steps = {"response": output, "pre_filt": pre_filt, "water_level": water_level}
    waveforms = opened(archive, inventory, steps, "later").compute()
    assert not waveforms.quality.values.any()
    assert waveforms.waveform.attrs["units"] == {"VEL": "m/s", "DISP": "m", "ACC": "m/s2"}[output]
    for trace, ours in zip(traces(archive, "later"), waveforms.waveform.values, strict=True):
        theirs = removed(trace, inventory, output=output, pre_filt=pre_filt, water_level=water_level)
        np.testing.assert_array_equal(ours, theirs)


def test_the_padding_of_a_window_takes_the_taper(archive: str, inventory: Any) -> None:
    """4 s for the second corner of 1 Hz and 3 % of 10 s."""
    assert Preprocess(**STEPS).padding(100.0, 10.0) == 430
    ours = opened(archive, inventory, STEPS, "later", window=(10, 20)).compute()
    (trace, *_) = traces(archive, "later")
    padded = trace.slice(trace.stats.starttime + 5.7, trace.stats.starttime + 24.29)
    given = {"output": "VEL", "pre_filt": STEPS["pre_filt"]}
    np.testing.assert_array_equal(ours.waveform[0], removed(padded, inventory, **given)[430:1430])
    whole = removed(trace, inventory, **given)[1000:2000]
    assert np.abs(ours.waveform[0] - whole).max() < 1e-3 * np.abs(whole).max()
    assert str(ours.start_time.values[0]) == f"{LATER[:-2]}13.000000000"


def test_the_response_is_that_of_the_time_of_the_record(archive: str, inventory: Any) -> None:
    waveforms = opened(archive, inventory, STEPS, "later", "earlier", "before").compute()
    assert [QUALITY[flag] for flag in waveforms.quality.values[::3]] == ["usable", "usable", "no_response"]
    assert np.isnan(waveforms.waveform[6:]).all()
    given = {"output": "VEL", "pre_filt": STEPS["pre_filt"]}
    for i, name in ((0, "later"), (3, "earlier")):
        np.testing.assert_array_equal(
            waveforms.waveform[i], removed(traces(archive, name)[0], inventory, **given), strict=True
        )
    assert np.abs(waveforms.waveform[0] / waveforms.waveform[3]).median() < 0.5


def test_the_other_steps_come_before_and_after(archive: str, inventory: Any) -> None:
    steps = {**STEPS, "demean": True, "taper": 2.0, "bandpass": (2.0, 20.0), "resample": True}
    waveforms = opened(archive, inventory, steps, "later", sampling_rate=50.0).compute()
    assert not waveforms.quality.values.any()
    assert waveforms.sizes["sample"] == 1500
    assert 1e-9 < np.abs(waveforms.waveform).max() < 1e-6


def test_a_response_is_evaluated_once(archive: str, inventory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[int] = []
    usual = responses._evaluated

    def noting(response: Any, spacing: float, n_points: int, output: str) -> tuple[Array, Array]:
        evaluated.append(n_points)
        return usual(response, spacing, n_points, output)

    monkeypatch.setattr(responses, "_evaluated", noting)
    steps = {**STEPS, "water_level": 61.0}  # which no other test has asked for
    waveforms = opened(archive, inventory, steps, "later", "earlier", records_per_task=1)
    assert set(evaluated) == {responses._TRIED_POINTS}  # at once, and small
    evaluated.clear()
    waveforms.compute(scheduler="sync")
    # One instrument of three components, and another before.
    assert len(evaluated) <= 6
    evaluated.clear()
    waveforms.compute(scheduler="sync")
    assert evaluated == []


def test_the_recipe_knows_the_response_wherever_it_came_from(archive: str, inventory: Any, tmp_path: Path) -> None:
    path = tmp_path / "stations.xml"
    with quiet_obspy():
        inventory.write(str(path), format="STATIONXML")
    stations = sx.read_stations(path)
    from_object = opened(archive, inventory, STEPS, "later")
    from_path = opened(archive, stations, {**STEPS, "inventory": str(path)}, "later")
    assert from_object.attrs["recipe_id"] == from_path.attrs["recipe_id"]
    np.testing.assert_array_equal(from_object.waveform, from_path.waveform)
    other = copy.deepcopy(inventory)
    for network in other:
        for station in network:
            for channel in station:
                channel.response.response_stages[0].stage_gain *= 2
    assert opened(archive, other, STEPS, "later").attrs["recipe_id"] != from_object.attrs["recipe_id"]
    plain = opened(archive, inventory, {"demean": True}, "later")
    assert "response" not in json.loads(plain.attrs["recipe"])["parameters"]["preprocess"]
    assert plain.waveform.attrs["units"] == "counts"


def test_workers_are_sent_little(archive: str, inventory: Any) -> None:
    waveforms = opened(archive, inventory, STEPS, "later", "earlier")
    assert len(pickle.dumps(dict(waveforms.waveform.data.dask))) < 200_000


def test_units_stay_with_the_store(archive: str, inventory: Any, tmp_path: Path) -> None:
    saved = sx.save(opened(archive, inventory, STEPS, "later"), tmp_path / "s.zarr")
    assert saved.waveform.attrs["units"] == "m/s"
    assert sx.load(tmp_path / "s.zarr", "waveforms").waveform.attrs["long_name"] == "ground velocity"


def test_a_channel_without_any_response_is_told_at_once(archive: str, inventory: Any) -> None:
    other = copy.deepcopy(inventory)
    for network in other:
        for station in network:
            for channel in station:
                channel.response = None if channel.code == "EHN" else channel.response
    with pytest.raises(ValueError, match=r"without a response for 1 of 3 channels \(BW\.RJOB\.\.EHN …\), expected one"):
        opened(archive, other, STEPS, "later")


def test_what_cannot_be_taken_out_is_told_at_once(archive: str, inventory: Any) -> None:
    for units, reason in (("PA", "its input is in PA"), ("M/S", "it has no stages")):
        other = copy.deepcopy(inventory)
        for network in other:
            for station in network:
                for channel in station:
                    if units == "PA":
                        channel.response.response_stages[0].input_units = units
                    else:
                        channel.response.response_stages = []
        with pytest.raises(ValueError, match=rf"got a response of BW\.RJOB\.\.EH. that cannot be .*\({reason}\)"):
            opened(archive, other, STEPS, "later")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"response": "SPEED"}, "got response='SPEED', expected 'DISP', 'VEL' or 'ACC'"),
        ({"pre_filt": (1, 2, 3, 4)}, "got an inventory or pre_filt without response, expected it too"),
        ({"response": "VEL", "pre_filt": (1, 2, 4, 3)}, "expected four rising frequencies in Hz"),
        ({"response": "VEL", "water_level": -1.0}, "expected a level in dB, 0 or more"),
    ],
)
def test_steps_that_cannot_be_are_named(archive: str, inventory: Any, steps: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(archive, inventory, steps, "later")


def test_an_inventory_is_needed_and_readable(archive: str, inventory: Any, tmp_path: Path) -> None:
    with quiet_obspy():
        inventory.write(str(tmp_path / "stations.xml"), format="STATIONXML")
    stations = sx.read_stations(tmp_path / "stations.xml")
    with pytest.raises(
        ValueError, match="got preprocess with response and inventory of type NoneType, expected the path"
    ):
        opened(archive, stations, STEPS, "later")
    (tmp_path / "none.xml").write_text("<a/>")
    with pytest.raises(ValueError, match=r"none\.xml, which ObsPy cannot read .*expected responses such as those of"):
        opened(archive, stations, {**STEPS, "inventory": str(tmp_path / "none.xml")}, "later")
