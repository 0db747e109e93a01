"""What the Dataset of stage ``repeaters`` holds."""

from __future__ import annotations

from specufex_dask.variables import Schema, coordinate, data

REPEATERS = Schema(
    "repeaters",
    (
        coordinate("event_id", "event", "OT", "", "identity of the event, unique in the catalogue"),
        coordinate("sequence_id", "sequence_id", "iu", "1", "number of the sequence, 0 the largest"),
        data("sequence", "event", "i", "1", "sequence of the event, -1 = none"),
        data("verdict", "event", "i", "", "why the event is in no sequence, 0 = it is in one"),
        data("radius", "event", "f", "m", "radius of the source, NaN without a magnitude"),
        data("correlation", "event", "f", "1", "median correlation with the others of its sequence, NaN if unknown"),
        data("reference", "event", "i", "1", "sequence of the event in the reference, -1 = none", optional=True),
        data("n_events", "sequence_id", "iu", "1", "events of the sequence"),
        data("latitude", "sequence_id", "f", "degrees_north", "mean latitude of the events in the catalogue"),
        data("longitude", "sequence_id", "f", "degrees_east", "mean longitude of the events in the catalogue"),
        data("depth", "sequence_id", "f", "km", "mean depth of the events in the catalogue, positive down"),
        data("magnitude", "sequence_id", "f", "1", "median magnitude of the events"),
        data("moment", "sequence_id", "f", "dyn cm", "seismic moment of the median magnitude"),
        data("slip", "sequence_id", "f", "cm", "slip of one event of this moment"),
        data("slip_rate", "sequence_id", "f", "cm year-1", "slip of one event over the mean interval"),
        data("recurrence", "sequence_id", "f", "d", "mean interval between an event and the next"),
        data("recurrence_median", "sequence_id", "f", "d", "median interval between an event and the next"),
        data("cvr", "sequence_id", "f", "1", "standard deviation (ddof = 0) of the intervals over their mean"),
    ),
)
