"""One YAML file, one validated study, one run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import specufex_dask
from specufex_dask import settings
from specufex_dask.runs import holding
from specufex_dask.study import SECTIONS, Section, Study, read_study

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    import xarray as xr

    Announce = Callable[[str, xr.Dataset, float], None]


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
    made: dict[str, xr.Dataset] = {}
    with holding(checked.place):
        for section in (s for s in SECTIONS if s.stage in checked.arguments):
            start = time.perf_counter()
            made[section.stage] = _make(section, checked, made, overwrite=overwrite)
            if announce:
                announce(section.stage, made[section.stage], time.perf_counter() - start)
        specufex_dask.report(checked.place, waveforms=made["waveforms"], **checked.arguments["report"])
    return checked


def _make(section: Section, study: Study, made: Mapping[str, xr.Dataset], *, overwrite: bool) -> xr.Dataset:
    """Make one stage from those before it, and save it unless it is a lazy link between two others."""
    optional = {stage: made[stage] for stage in section.optional if stage in made}
    arguments = study.arguments[section.stage] | optional
    if "checkpoint" in settings.accepted(section.call) and not overwrite:
        arguments |= {"checkpoint": study.store, "storage_options": study.arguments["store"].get("storage_options")}
    dataset: xr.Dataset = section.call(*(made[stage] for stage in section.inputs), **arguments)
    return dataset if section.lazy else specufex_dask.save(dataset, **study.arguments["store"], overwrite=overwrite)
