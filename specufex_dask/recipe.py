"""Recipes: what a Dataset was made from, as a hash, so that nothing is computed twice or mixed up."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import tokenize

from specufex_dask import schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

_IDS = ("event_id", "event_id_1", "event_id_2", "station_id")


def stamp(dataset: xr.Dataset, stage: str, parameters: Mapping[str, object], **inputs: xr.Dataset | str) -> xr.Dataset:
    """Validate `dataset` as `stage` and write its recipe into its attributes.

    The recipe holds the stage, its parameters and the identities of its inputs (Datasets, or
    strings that name them). Equal recipes mean equal data, bit for bit, on one kind of
    processor.
    """
    named = schema.validate(dataset, stage)
    return named.assign_attrs(recipe(stage, parameters, **inputs))


def recipe(stage: str, parameters: Mapping[str, object], **inputs: xr.Dataset | str) -> dict[str, str]:
    """Return the attributes ``recipe`` (JSON) and ``recipe_id`` (its hash) of a Dataset to be made."""
    content = {
        "stage": stage,
        "schema_version": schema.VERSION,
        "parameters": {name: _plain(value) for name, value in parameters.items()},
        "inputs": {name: value if isinstance(value, str) else identity(value) for name, value in inputs.items()},
    }
    text = json.dumps(content, sort_keys=True)
    return {"recipe": text, "recipe_id": digest(text)}


def identity(dataset: xr.Dataset) -> str:
    """The recipe of `dataset`, its sizes and the records, events or stations that it holds, as one hash.

    A selection or another order of the same data is another identity. A Dataset without a
    recipe (made by hand) is identified by its content.
    """
    if "recipe_id" not in dataset.attrs:
        return digest(tokenize(dataset))
    ids = [dataset[name].values for name in _IDS if name in dataset.coords]
    sizes = ",".join(f"{name}={size}" for name, size in sorted(dataset.sizes.items()))
    return digest(dataset.attrs["recipe_id"], sizes, *("\n".join(map(str, values.ravel())) for values in ids))


def difference(ours: str, theirs: str) -> list[str]:
    """Sentences that name each entry in which two recipes (JSON) differ, ours first."""
    left, right = json.loads(ours), json.loads(theirs)
    sentences = []
    for part in ("parameters", "inputs"):
        for name in sorted(left[part].keys() | right[part].keys()):
            pair = left[part].get(name, "not given"), right[part].get(name, "not given")
            if pair[0] != pair[1]:
                sentences.append(f"{name} is {pair[0]!r} now and was {pair[1]!r}")
    if left["schema_version"] != right["schema_version"]:
        sentences.append(f"schema_version is {left['schema_version']} now and was {right['schema_version']}")
    return sentences


def digest(*texts: str) -> str:
    """A short hash of `texts`, the same on every machine."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def _plain(value: object) -> Any:  # noqa: ANN401 - JSON takes values of many types
    """`value` as JSON knows it; arrays by their content."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return digest(str(value.dtype), str(value.shape), value.tobytes().hex())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(item) for item in value]
    return str(value)
