"""A table of the records: what became of each, and what was read for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import ledger, places, schema, shards
from specufex_dask.store import load, stages

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import pandas as pd

    from specufex_dask.places import Place, Remote

STAGES = ("clusters", "fingerprints", "activations", "spectrograms", "waveforms")
"""Where the quality of records stands, the last stage first: each adds reasons of its own."""

_READ_FOR = ("spectrograms", "waveforms")  # stages of a store for which the archive is read


def quality_table(
    source: xr.Dataset | str | os.PathLike[str] | Remote,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Tell of every record, in a row each, whether it is usable or why not, and what was read for it.

    Parameters
    ----------
    source
        A store (a path, or a URL), of which the last whole stage is taken; or a Dataset of records,
        whose table has the first three columns alone.
    group, storage_options
        Group above the stages', and what fsspec opens a URL with, as given to `save`.

    Returns
    -------
    pandas.DataFrame
        ``event_id``, ``station_id``, ``quality`` (a name out of ``schema.QUALITY``) and, if the
        store has a ledger of what was read from the archive, ``object`` (the file or URL; with
        ``; `` between several), ``n_bytes`` (share of the record in what was read of these
        [bytes]: they add up to all that was read) and ``attempts`` (1, and 1 more each time that
        something was asked for again; 0 where there was nothing to look for). These are missing
        values where a part of the ledger is lost.

    Raises
    ------
    ValueError
        If there are no records in `source`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import specufex_dask as sx
    >>> with TemporaryDirectory() as folder:
    ...     made = sx.simulate(f"{folder}/data", n_events=3, n_stations=2, seed=0)
    ...     waveforms = sx.open_waveforms(
    ...         sx.read_catalog(made.catalog), sx.read_stations(made.stations),
    ...         archive=made.archive, sampling_rate=made.sampling_rate, window=(0, 10),
    ...     )
    ...     _ = sx.save(waveforms, f"{folder}/study.zarr")
    ...     table = sx.quality_table(f"{folder}/study.zarr")
    >>> table[["event_id", "station_id", "quality", "attempts"]].tail(2)
        event_id    station_id quality  attempts
    4  sim000002  XX.S001..HHZ  usable         1
    5  sim000002  XX.S002..HHZ  usable         1
    """
    if isinstance(source, xr.Dataset):
        return _flags(source)
    store = places.at(source, storage_options)
    whole = stages(store, group=group)
    stage = next((name for name in STAGES if name in whole), None)
    if stage is None:
        msg = (
            f"got {store} with {whole or 'no stage'}, expected one of {', '.join(STAGES)}, whole: save one there "
            f"first, or name its group."
        )
        raise ValueError(msg)
    return with_ledger(_flags(load(store, stage, group=group)), store, group)


def with_ledger(table: pd.DataFrame, store: Place, group: str | None) -> pd.DataFrame:
    """`table` of records with the columns of the ledger in `store`, if there is one."""
    for stage in _READ_FOR:
        held = shards.attributes(store, stage if group is None else f"{group}/{stage}")
        rows = ledger.read(ledger.beside(store, held["identity"])) if held else None
        if rows is not None:
            return table.merge(rows, on=["event_id", "station_id"], how="left")
    return table


def _flags(dataset: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    if not {"quality", "event_id", "station_id"} <= set(map(str, dataset.variables)):
        stage = dataset.attrs.get("stage")
        msg = f"got a Dataset of stage {stage!r} without records, expected one of {', '.join(STAGES)}: pass one."
        raise ValueError(msg)
    ids = {name: dataset[name].values.astype(object) for name in ("event_id", "station_id")}
    flags = np.asarray(dataset["quality"].values, np.int64)
    return pd.DataFrame({**ids, "quality": np.array(schema.QUALITY, dtype=object)[flags]})
