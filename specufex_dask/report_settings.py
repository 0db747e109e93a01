"""The table of the report that says what each stage was made with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from specufex_dask.report_tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

_LONGEST = 160
"""Characters at most of a setting's value."""

_UNITS = {
    "sampling_rate": "Hz",
    "n_samples": "samples",
    "window": "s",
    "max_gap": "s",
    "max_flat": "of the record",
    "bandpass": "Hz",
    "taper": "s",
    "window_length": "s",
    "overlap": "of the window length",
    "nfft": "samples",
    "band": "Hz",
    "time_range": "s",
    "time_pool": "frames",
    "n_patterns": "patterns at the start",
    "n_states": "states",
    "batch_size": "records",
    "max_steps": "steps",
    "n_clusters": "clusters",
    "n_frames": "frames",
    "min_peak": "dB",
    "held_out": "of the events",
    "memory_limit": "bytes",
    "reach": "km",
    "max_distance": "km",
    "max_lag": "s",
    "stress_drop": "bar",
    "n_radii": "source radii",
    "relocated_radii": "source radii",
    "min_error": "m",
    "min_events": "events",
    "min_stations": "stations",
    "n_families": "families",
    "top_km": "km",
    "p_km_s": "km/s",
    "min_links": "picks",
    "n_bootstrap": "draws",
}
"""Units of the settings that have one."""


def settings(stages: Mapping[str, xr.Dataset], apart: Mapping[str, Mapping[str, xr.Dataset]]) -> Table:
    """The parameters that each stage was made with, from its recipe; of stations `apart` those of the first."""
    name, first = next(iter(apart.items()), ("", {}))
    made = {stage: _parameters(dataset) for stage, dataset in stages.items()}
    for stage, dataset in first.items():
        theirs = [_parameters(each[stage]) for each in apart.values() if stage in each]
        same = all(each == theirs[0] for each in theirs)
        made[f"{stage} of {'each station' if same else name}"] = _parameters(dataset)
    rows: list[tuple[str, ...]] = []
    for stage, parameters in made.items():
        named = [stage, *[""] * len(parameters)]
        rows += [
            (named[i], name, _text(value), _unit(name, value)) for i, (name, value) in enumerate(parameters.items())
        ]
    text = "Settings of each stage, from the recipe that is stored with its data."
    return Table(text, ("stage", "setting", "value", "unit"), rows, words=(0, 1, 2, 3))


def _parameters(dataset: xr.Dataset) -> dict[str, object]:
    return _flat(json.loads(dataset.attrs.get("recipe", "{}")).get("parameters", {}))


def _flat(parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters with those inside a parameter named ``outer.inner``."""
    flat: dict[str, object] = {}
    for name, value in parameters.items():
        inner = _flat(value) if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{key}": item for key, item in inner.items()}
    return flat


def _unit(name: str, value: object) -> str:
    return "" if value is None else _UNITS.get(name.rpartition(".")[2], "")


def _text(value: object) -> str:
    """A value of a recipe as a reader would write it.

    >>> _text([15.0, 80.0]), _text(None), _text(True)
    ('15, 80', 'not set', 'yes')
    """
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    if isinstance(value, list):
        text = ", ".join(map(_text, value)) or "none"
    else:
        text = _number(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"
