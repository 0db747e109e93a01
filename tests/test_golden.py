"""The published results of the Gorner icequakes (Sawi et al. 2022), from raw waveforms and published parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import specufex_dask as sx

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr


@pytest.fixture(scope="module")
def gorner(data_dir: Path) -> Path:
    return data_dir / "gorner2007"


@pytest.fixture(scope="module")
def waveforms(gorner: Path) -> xr.Dataset:
    return sx.open_waveforms(
        sx.read_catalog(gorner / "events.csv"),
        sx.read_stations(gorner / "channels.csv"),
        station_id=["4D.G7J1..SHZ"],
        archive=f"{gorner}/events_mseed/{{event_id}}.mseed",
        sampling_rate=1000.0,
    )


@pytest.fixture(scope="module")
def models(gorner: Path) -> tuple[xr.Dataset, xr.Dataset]:
    published = np.load(gorner / "golden/model_params.npz")
    nmf = sx.nmf_model(
        dictionary_shape=published["W1"], dictionary_rate=published["W2"],
        weight_shape=published["A1"], weight_rate=published["A2"], frequency=published["fSTFT"],
    )  # fmt: skip
    return nmf, sx.hmm_model(emission_shape=published["B1"], emission_rate=published["B2"], nmf=nmf)


def _spectrograms(waveforms: xr.Dataset, dtype: str) -> xr.Dataset:
    return sx.compute_spectrograms(
        waveforms, window_length=0.08, overlap=0.25, nfft=4096, band=(15.0, 80.0), dtype=dtype
    ).compute()


def _golden_records(stage: xr.Dataset, golden: dict[str, Any]) -> xr.Dataset:
    """The golden events, whose ids lost their leading zero."""
    ids = list(stage.event_id.values)
    return stage.isel(record=[ids.index(f"0{name}") for name in golden["event_ID"]])


def test_every_published_result_in_float64(
    gorner: Path, waveforms: xr.Dataset, models: tuple[xr.Dataset, xr.Dataset]
) -> None:
    golden = dict(np.load(gorner / "golden/golden_every4th.npz"))
    spectrograms = _spectrograms(waveforms, "float64")
    reasons = spectrograms.quality.values
    assert (reasons == 0).sum() == 1457
    short = spectrograms.event_id.values[reasons == 3]
    assert set(short) == {"070625130742", "070628162442", "070704234122"}
    nmf, hmm = models
    activations = _golden_records(sx.compute_activations(spectrograms, nmf, dtype="float64"), golden)
    relative = np.abs(activations.activation.values - golden["H"]).max() / golden["H"].max()
    assert relative <= 1e-10
    keep = ("initial", "state_probability")
    fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm, keep=keep, dtype="float64")
    got = _golden_records(fingerprints, golden).compute()
    differences = {
        name: float(np.abs(got[name].values - golden[theirs]).max())
        for name, theirs in (
            ("transition", "A"),
            ("initial", "Ppi"),
            ("state_probability", "gam"),
            ("fingerprint", "fingerprint"),
        )
    }
    print(f"\nlargest differences from the published results, float64: activation {relative:.1e}", differences)
    assert max(differences.values()) <= 1e-10
    assert (got.state_sequence.values == golden["gam"].argmax(axis=1)).all()


def test_fingerprints_in_float32(gorner: Path, waveforms: xr.Dataset, models: tuple[xr.Dataset, xr.Dataset]) -> None:
    golden = dict(np.load(gorner / "golden/golden_every4th.npz"))
    got = _golden_records(sx.compute_fingerprints(_spectrograms(waveforms, "float32"), *models), golden)
    assert got.fingerprint.dtype == np.float32
    difference = float(np.abs(got.fingerprint.values - golden["fingerprint"]).max())
    print(f"\nlargest difference of a fingerprint from the published one, float32: {difference:.1e}")
    assert difference <= 1e-4
