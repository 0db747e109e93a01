"""What the Dataset of stage ``relocation`` holds."""

from __future__ import annotations

from specufex_dask.variables import Schema, coordinate, data

RELOCATION = Schema(
    "relocation",
    (
        coordinate("event_id", "event", "OT", "", "identity of the event, unique in the catalogue"),
        coordinate("kind", "kind", "OT", "", "P and S of correlations, P and S of picks"),
        coordinate("source", "source", "OT", "", "correlations, picks"),
        data("origin_time", "event", "M", "", "relocated origin time (UTC)"),
        data("latitude", "event", "f", "degrees_north", "relocated latitude, NaN where it was not possible"),
        data("longitude", "event", "f", "degrees_east", "relocated longitude, NaN where it was not possible"),
        data("depth", "event", "f", "km", "relocated depth, positive down, NaN where it was not possible"),
        data("magnitude", "event", "f", "1", "magnitude, NaN where unknown"),
        data("x", "event", "f", "m", "distance east of the first centre of its cluster"),
        data("y", "event", "f", "m", "distance north of the first centre of its cluster"),
        data("z", "event", "f", "m", "distance down from the first centre of its cluster"),
        *(data(f"error_{axis}", "event", "f", "m", f"standard error of {axis} in its cluster") for axis in "xyz"),
        data("n_data", "event kind", "iu", "1", "differential times of the event that had weight"),
        data("rms", "event source", "f", "s", "root of the mean squared residual of these"),
        data("cluster", "event", "i", "1", "cluster of linked events, 0 the largest, -1 = not relocated"),
    ),
)
