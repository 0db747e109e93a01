"""The part of the report on sequences of repeating earthquakes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures_repeaters import recurrence_against_moment, sequences_over_time
from specufex_dask.figures_sequences import sequences_in_place
from specufex_dask.plurals import counted
from specufex_dask.report_sections import Section, Stages
from specufex_dask.report_tables import Table

if TYPE_CHECKING:
    import xarray as xr

_ROWS = 60
"""Sequences at most in the table."""
_COLUMNS = {"recurrence": ",.1f", "cvr": ".3f", "magnitude": ".2f", "depth": ".2f"}
_COMPARED = {
    "n_reference": "events in sequences of the reference (number)",
    "recovered": "share of them that is in a sequence found",
    "n_sequences": "sequences of the reference (number)",
    "whole": "of these found whole, in one (number)",
    "split": "of these spread over several (number)",
    "n_shared": "events in a sequence of both (number)",
    "adjusted_rand": "adjusted Rand index, of these",
    "completeness": "completeness, of these",
    "homogeneity": "homogeneity, of these",
}


def section(stages: Stages) -> Section:
    """How many sequences there are, what became of the other events, and each sequence in figures."""
    found = stages["repeaters"]
    tables = [_verdicts(stages), *_comparison(stages)]
    text = f"{_told(found)} repeat on {'one patch' if found.sizes['sequence_id'] == 1 else 'patches'} of a fault."
    if "candidates" in stages:
        text += f" Before they were relocated and validated once more there were {_told(stages['candidates'])}."
    if not found.sizes["sequence_id"]:
        return Section("repeaters", "Repeating earthquakes", f"No sequence was found. {text}", tables)
    panels = [recurrence_against_moment(found)]
    if "catalog" in stages:
        place = sequences_in_place(found, stages["catalog"], stages.get("relocation"))
        panels = [place, sequences_over_time(found, stages["catalog"]), *panels]
    drawn = [panel for panel in panels if panel is not None]
    return Section("repeaters", "Repeating earthquakes", text, [*tables, sequences(found)], drawn)


def _told(repeaters: xr.Dataset) -> str:
    inside = int((repeaters.sequence.values >= 0).sum())
    of = f"{inside:,} of {counted(repeaters.sizes['event'], 'event')}"
    return f"{of} in {counted(repeaters.sizes['sequence_id'], 'sequence')}"


def _verdicts(stages: Stages) -> Table:
    """Events by what became of them, first by the places of the catalogue and then by those relocated."""
    names = {"candidates": "before relocation", "repeaters": "at last"}
    runs = {told: stages[name] for name, told in names.items() if name in stages}
    words = str(stages["repeaters"].verdict.attrs["flag_meanings"]).split()
    counts = np.stack([np.bincount(each.verdict.values, minlength=len(words)) for each in runs.values()], axis=1)
    rows = [
        (word.replace("_", " "), *(f"{n:,}" for n in row)) for word, row in zip(words, counts, strict=True) if row.any()
    ]
    head = ("what became of the event", *(f"events {told} (number)" for told in runs if len(runs) > 1))
    head = head if len(head) > 1 else (*head, "events (number)")
    return Table("Events in sequences, and why the others are in none.", head, rows)


def _comparison(stages: Stages) -> list[Table]:
    """How what was found without the help of a reference agrees with it, where there is one."""
    runs = [stages[name].attrs for name in ("candidates", "repeaters") if name in stages]
    told = next((attributes["comparison"] for attributes in runs if "comparison" in attributes), None)
    if told is None:
        return []
    compared = json.loads(told)
    rows = [
        (text, f"{compared[name]:{',' if isinstance(compared[name], int) else '.3f'}}")
        for name, text in _COMPARED.items()
    ]
    return [Table("Compared with the reference, before its sequences were added.", ("what", "how much"), rows)]


def sequences(repeaters: xr.Dataset) -> Table:
    """A row of each of the largest sequences."""
    size, slip = repeaters.n_events.values, repeaters.slip.values
    columns = [(repeaters[name].values, form) for name, form in _COLUMNS.items()] + [(size * slip, ",.1f")]
    rows = [
        (f"{i}", f"{size[i]:,}", *(f"{column[i]:{form}}" if np.isfinite(column[i]) else "" for column, form in columns))
        for i in range(min(len(size), _ROWS))
    ]
    which = f"The {_ROWS} largest of {len(size):,} sequences." if len(size) > _ROWS else "The sequences."
    head = ("sequence", "events (number)", "mean interval (days)", "coefficient of variation (1)", "magnitude (median)",
            "depth (km)", "cumulative slip (cm)")  # fmt: skip
    text = "Cumulative slip: that of an event of the median magnitude (Nadeau & Johnson 1998) times the events."
    return Table(f"{which} {text}", head, rows)
