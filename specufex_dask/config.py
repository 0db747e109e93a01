"""One YAML file, one validated study, one run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import xarray as xr

import specufex_dask
from specufex_dask import settings
from specufex_dask.recipe import stamp
from specufex_dask.runs import holding
from specufex_dask.sections import SECTIONS, Section
from specufex_dask.study import Study, read_study

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    Announce = Callable[[str, xr.Dataset, float], None]
    Made = xr.Dataset | dict[str, xr.Dataset]


def run(
    study: str | os.PathLike[str] | Mapping[str, Any],
    *,
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    announce: Announce | None = None,
) -> Study:
    """Run a study from catalog to report, computing only what its store does not hold yet.

    Parameters
    ----------
    study
        Path of a YAML file, or its content as a mapping. See `read_study`.
    overrides
        ``"section.key=value"`` each, the value in YAML; they replace what the study says.
    overwrite
        Replace a stored stage that was made with other parameters, instead of refusing.
    announce
        Called after each stage with its name, its Dataset and the seconds that it took.

    Returns
    -------
    Study
        Where the store and the report are, and every argument that was used.

    Raises
    ------
    ValueError
        For each key or value that is not allowed, before anything is read; and whatever the
        stages say of their input.
    BusyStoreError
        If another process is writing to the store.

    Examples
    --------
    >>> import specufex_dask as sx, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> run({"store": f"{folder}/study.zarr", "nmf": {"n_pattern": 30}})
    Traceback (most recent call last):
        ...
    ValueError: ...Did you mean 'n_patterns'?...
    """
    checked = read_study(study, overrides=overrides)
    made: dict[str, Made] = {}
    with holding(checked.place):
        for section in (s for s in SECTIONS if s.stage in checked.arguments):
            start = time.perf_counter()
            made[section.stage] = _make(section, checked, made, overwrite=overwrite)
            if announce:
                took = (time.perf_counter() - start) / len(_listed(made[section.stage]))
                for dataset in _listed(made[section.stage]):
                    announce(section.stage, dataset, took)
        (waveforms,) = _listed(made["waveforms"])
        options = checked.arguments["store"].get("storage_options")
        specufex_dask.report(checked.store, waveforms=waveforms, storage_options=options, **checked.arguments["report"])
    return checked


def _make(section: Section, study: Study, made: Mapping[str, Made], *, overwrite: bool) -> Made:
    """Make one stage from those before it: once, for each station, or for each value of a parameter."""
    if section.by_station and study.by_station:
        return {
            name: _one(section, study, _at(name, section, study, made), group=name, overwrite=overwrite)
            for name in _names(_listed(made["waveforms"])[0])
        }
    several = study.arguments[section.stage].get(section.over)
    if not isinstance(several, list):
        return _one(section, study, made, group=section.group, overwrite=overwrite)
    found = {
        value: _one(section, study, made, group=value, overwrite=overwrite, given={section.over: value})
        for value in several
    }
    return stamp(xr.concat(found.values(), "record"), section.stage, {section.over: several}, **found)


def _one(
    section: Section,
    study: Study,
    made: Mapping[str, Made],
    *,
    group: str | None,
    overwrite: bool,
    given: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Make one Dataset, and save it unless it is a lazy link between two others."""
    named = {stage: made[stage] for stage in (*section.optional, *section.named) if stage in made}
    arguments = {**study.arguments[section.stage], **named, **(given or {})}
    if "checkpoint" in settings.accepted(section.call) and not overwrite:
        arguments |= {"checkpoint": study.store, "storage_options": study.arguments["store"].get("storage_options")}
        arguments |= {"group": group} if group else {}
    inputs = [list(each.values()) if isinstance(each, dict) else each for each in (made[s] for s in section.inputs)]
    dataset: xr.Dataset = section.call(*inputs, **arguments)
    if section.lazy:
        return dataset
    return specufex_dask.save(dataset, **study.arguments["store"], group=group, overwrite=overwrite)


def _at(name: str, section: Section, study: Study, made: Mapping[str, Made]) -> dict[str, Made]:
    """What there is of one station; its waveforms are opened by themselves, so that no other's are read."""
    part: dict[str, Made] = {stage: each[name] if isinstance(each, dict) else each for stage, each in made.items()}
    if "waveforms" in section.inputs:
        waveforms = next(each for each in SECTIONS if each.stage == "waveforms")
        part["waveforms"] = _one(waveforms, study, part, group=None, overwrite=False, given={"station_id": [name]})
    return part


def _names(waveforms: xr.Dataset) -> list[str]:
    """The stations of waveforms, in the order of their first records."""
    return [str(name) for name in dict.fromkeys(waveforms["station_id"].values.tolist())]


def _listed(made: Made) -> list[xr.Dataset]:
    return list(made.values()) if isinstance(made, dict) else [made]
