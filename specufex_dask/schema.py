"""What each stage's Dataset must hold: dimensions, kinds, units, one sentence a variable.

One declaration serves the checks, the attributes that are written to the store, and the docs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.relocation_schema import RELOCATION
from specufex_dask.repeaters_schema import REPEATERS
from specufex_dask.variables import Schema, Variable
from specufex_dask.variables import coordinate as _coordinate
from specufex_dask.variables import data as _data

if TYPE_CHECKING:
    import xarray as xr

VERSION = 1
"""Version of the stored layout and of the numbers in it, raised when either changes; another one is refused."""

QUALITY = (
    "usable",
    "missing",
    "unreadable",
    "short",
    "gappy",
    "wrong_sampling_rate",
    "constant",
    "flat",
    "not_finite",
    "zero_median",
    "too_quiet",
    "no_pick",
    "no_response",
)
"""Why a record is not usable; a record's flag is the position in this tuple (0 = usable)."""

ANCHORS = ("picked", "predicted", "unknown")
"""How the phase is known that a record's window hangs on; the flag is the position in this tuple."""

_FLAGS = {"quality": QUALITY, "anchor": ANCHORS}

_EVENT_ID = "identity of the event, unique in the catalogue"
_STATION_ID = "NET.STA.LOC.CHA of the channel"
_RECORD = (
    _coordinate("event_id", "record", "OT", "", _EVENT_ID),
    _coordinate("station_id", "record", "OT", "", _STATION_ID),
    _coordinate("start_time", "record", "M", "", "time of the first sample (UTC)"),
    _coordinate("anchor", "record", "iu", "1", "how the phase is known that the window hangs on", optional=True),
)
_QUALITY = _data("quality", "record", "iu", "1", "0 = usable, otherwise the reason why not")
_FREQUENCY = _coordinate("frequency", "frequency", "f", "Hz", "centre of the frequency bin")
_TIME = _coordinate("time", "time", "f", "s", "centre of the frame after the first sample")

_STAGES = (
    Schema(
        "catalog",
        (
            _coordinate("event_id", "event", "OT", "", _EVENT_ID),
            _data("origin_time", "event", "M", "", "origin time (UTC)"),
            _data("latitude", "event", "f", "degrees_north", "latitude of the hypocentre"),
            _data("longitude", "event", "f", "degrees_east", "longitude of the hypocentre"),
            _data("depth", "event", "f", "km", "depth of the hypocentre, positive down"),
            _data("magnitude", "event", "f", "1", "magnitude, NaN where unknown"),
        ),
    ),
    Schema(
        "stations",
        (
            _coordinate("station_id", "station", "OT", "", _STATION_ID),
            _data("latitude", "station", "f", "degrees_north", "latitude of the station"),
            _data("longitude", "station", "f", "degrees_east", "longitude of the station"),
            _data("elevation", "station", "f", "m", "elevation of the station above sea level"),
        ),
    ),
    Schema(
        "picks",
        (
            _data("event_id", "pick", "OT", "", _EVENT_ID),
            _data("station_id", "pick", "OT", "", _STATION_ID),
            _data("phase", "pick", "OT", "", "phase name, such as P or S"),
            _data("time", "pick", "M", "", "arrival time (UTC)"),
            _data("weight", "pick", "f", "1", "weight of the pick, 0 to 1"),
        ),
    ),
    Schema(
        "waveforms",
        (
            *_RECORD,
            _data("waveform", "record sample", "f", "counts", "ground motion as recorded"),
            _QUALITY,
        ),
    ),
    Schema(
        "spectrograms",
        (
            *_RECORD,
            _FREQUENCY,
            _TIME,
            _data(
                "spectrogram", "record frequency time", "f", "dB", "magnitude above its record's median, clipped at 0"
            ),
            _QUALITY,
        ),
    ),
    Schema(
        "nmf",
        (
            _FREQUENCY,
            _data("dictionary", "frequency pattern", "f", "1", "spectral patterns, posterior mean of W"),
            _data("dictionary_shape", "frequency pattern", "f", "1", "Gamma shape of W"),
            _data("dictionary_rate", "frequency pattern", "f", "1", "Gamma rate of W"),
            _data("weight", "pattern", "f", "1", "weight of each pattern, posterior mean of A"),
            _data("weight_shape", "pattern", "f", "1", "Gamma shape of A"),
            _data("weight_rate", "pattern", "f", "1", "Gamma rate of A"),
            _data("gain", "pattern", "f", "1", "sum of the dictionary over frequency"),
            _data("history_step", "step", "iu", "1", "number of the global step", optional=True),
            _data("history_step_size", "step", "f", "1", "step size rho", optional=True),
            _data("history_batch", "step", "iu", "1", "records in the minibatch", optional=True),
            _data("history_size", "step", "iu", "1", "patterns alive", optional=True),
            _data("history_score", "step", "f", "1", "held-out score, NaN where not taken", optional=True),
        ),
    ),
    Schema(
        "activations",
        (
            *_RECORD,
            _TIME,
            _data("activation", "record pattern time", "f", "dB", "activation of each pattern, posterior mean of V"),
            _QUALITY,
        ),
    ),
    Schema(
        "hmm",
        (
            _data("emission", "state pattern", "f", "dB", "expected gain times activation of each state"),
            _data("emission_shape", "state pattern", "f", "1", "Gamma shape of the emission B"),
            _data("emission_rate", "state pattern", "f", "1", "Gamma rate of the emission B"),
            _data("gain", "pattern", "f", "1", "gain of the patterns that the model was fitted with"),
            _data("mean_initial", "state", "f", "1", "mean initial distribution of the fitted records", optional=True),
            _data("mean_transition", "state next_state", "f", "1", "mean transitions of fitted records", optional=True),
            _data("history_step", "step", "iu", "1", "number of the global step", optional=True),
            _data("history_step_size", "step", "f", "1", "step size rho", optional=True),
            _data("history_batch", "step", "iu", "1", "records in the minibatch", optional=True),
            _data("history_size", "step", "iu", "1", "states", optional=True),
            _data("history_score", "step", "f", "1", "held-out score, NaN where not taken", optional=True),
        ),
    ),
    Schema(
        "fingerprints",
        (
            *_RECORD,
            _TIME,
            _data(
                "fingerprint",
                "record state next_state",
                "f",
                "1",
                "occupancy of the state times the root of its transition",
            ),
            _data("transition", "record state next_state", "f", "1", "expected transition counts with their prior"),
            _data("state_sequence", "record time", "i", "1", "most probable state of each frame, -1 = unusable"),
            _data("initial", "record state", "f", "1", "expected initial counts with their prior", optional=True),
            _data(
                "state_probability", "record state time", "f", "1", "posterior probability of each state", optional=True
            ),
            _QUALITY,
        ),
    ),
    Schema(
        "clusters",
        (
            *_RECORD,
            _coordinate("n_clusters", "n_clusters", "iu", "1", "number of clusters tried"),
            _data("cluster", "record", "i", "1", "0 the largest, -1 = none, or unusable, -2 = unlike anything seen"),
            _data("distance", "record", "f", "1", "distance of the fingerprint to its centroid"),
            _data("silhouette", "record", "f", "1", "silhouette of the record"),
            _data("centroid", "cluster_id state next_state", "f", "1", "mean fingerprint of the cluster"),
            _data("labels", "n_clusters record", "i", "1", "cluster of the record for each number tried"),
            _data("mean_silhouette", "n_clusters", "f", "1", "mean silhouette for each number tried"),
            _data("silhouette_error", "n_clusters", "f", "1", "standard error of mean_silhouette", optional=True),
            _data("cluster_silhouette", "cluster_id", "f", "1", "mean silhouette of the cluster", optional=True),
            _data("linkage", "merge link", "f", "1", "tree of the leaves as SciPy has it", optional=True),
            _data("leaf", "record", "i", "1", "leaf of the record in the tree, -1 = unusable", optional=True),
            _QUALITY,
        ),
    ),
    Schema(
        "events",
        (
            _coordinate("event_id", "event", "OT", "", _EVENT_ID),
            _data("cluster", "event", "i", "1", "cluster of the event, -1 = none"),
            _data("n_stations", "event", "iu", "1", "records of the event that are usable"),
            _data("agreement", "event", "f", "1", "share of the stations that agree with the cluster"),
        ),
    ),
    Schema(
        "correlations",
        (
            _coordinate("event_id_1", "record", "OT", "", "identity of the first event of the pair"),
            _coordinate("event_id_2", "record", "OT", "", "identity of the second event of the pair"),
            _coordinate("station_id", "record", "OT", "", _STATION_ID),
            _coordinate("phase", "record", "OT", "", "phase whose picks the windows hang on"),
            _data("correlation", "record", "f", "1", "largest correlation coefficient of the two waveforms"),
            _data("lag", "record", "f", "s", "how much later after its pick the phase comes in the first event"),
            _QUALITY,
        ),
    ),
    REPEATERS,
    RELOCATION,
)
SCHEMAS = {schema.stage: schema for schema in _STAGES}


def validate(dataset: xr.Dataset, stage: str) -> xr.Dataset:
    """Return `dataset` with the stage's attributes, after checking it against its schema.

    A missing variable, a wrong dimension or a wrong kind raises ``ValueError`` that says what
    was got, what was expected and what to do. Nothing is computed.
    """
    for variable in SCHEMAS[stage].variables:
        if variable.name not in dataset.variables:
            if variable.optional:
                continue
            msg = (
                f"{stage}: got a Dataset without {variable.name!r} (it has {sorted(map(str, dataset.variables))}), "
                f"expected {variable.name} {variable.dims}: {variable.description}. "
                f"Pass the Dataset of the stage {stage!r}."
            )
            raise ValueError(msg)
        _check(dataset[variable.name], variable, stage)
    attributes = {v.name: _attributes(v) for v in SCHEMAS[stage].variables if v.name in dataset.variables}
    named = dataset.assign_attrs(stage=stage, schema_version=VERSION)
    for name, extra in attributes.items():
        named[name].attrs.update(extra)
    return named


def record_coordinates(dataset: xr.Dataset) -> dict[str, xr.DataArray]:
    """What `dataset` says of each of its records, for a stage made of them: ids, times, anchors."""
    return {each.name: dataset[each.name] for each in _RECORD if each.name in dataset.coords}


def require(dataset: xr.Dataset, stage: str) -> None:
    """Raise ``ValueError`` unless `dataset` is a Dataset of `stage`."""
    found = dataset.attrs.get("stage")
    if found != stage:
        msg = f"got a Dataset of stage {found!r}, expected {stage!r}: pass what {_MAKERS[stage]} returns."
        raise ValueError(msg)


_MAKERS = {
    "catalog": "read_catalog",
    "stations": "read_stations",
    "picks": "read_picks",
    "waveforms": "open_waveforms",
    "spectrograms": "compute_spectrograms",
    "nmf": "fit_nmf or nmf_model",
    "activations": "compute_activations",
    "hmm": "fit_hmm or hmm_model",
    "fingerprints": "compute_fingerprints",
    "clusters": "cluster_fingerprints",
    "events": "merge_stations",
    "correlations": "correlate",
    "repeaters": "find_repeaters",
    "relocation": "run_hypodd or read_hypodd",
}


def _check(array: xr.DataArray, variable: Variable, stage: str) -> None:
    if array.dims != variable.dims:
        msg = (
            f"{stage}: got {variable.name} with dims {tuple(map(str, array.dims))}, expected {variable.dims}: "
            f"rename or transpose it."
        )
        raise ValueError(msg)
    if array.dtype.kind not in variable.kinds:
        msg = (
            f"{stage}: got {variable.name} of dtype {array.dtype}, expected one of kind {variable.kinds!r} "
            f"(f float, i and u integer, M time, O and T string): convert it with astype."
        )
        raise ValueError(msg)


def _attributes(variable: Variable) -> dict[str, object]:
    attributes: dict[str, object] = {"long_name": variable.description}
    if variable.units:
        attributes["units"] = variable.units
    if variable.name in _FLAGS:
        attributes["flag_values"] = np.arange(len(_FLAGS[variable.name]), dtype="int8")
        attributes["flag_meanings"] = " ".join(_FLAGS[variable.name])
    return attributes
