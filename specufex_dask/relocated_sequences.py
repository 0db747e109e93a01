"""Relocate the events of each sequence of repeating earthquakes by themselves, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specufex_dask import recipe, schema
from specufex_dask.hypodd import run_hypodd, write_hypodd
from specufex_dask.hypodd_pairs import Pairing
from specufex_dask.hypodd_settings import FROM_BOTH, FROM_CATALOG, LayeredModel, Settings

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import xarray as xr


def relocate_sequences(
    catalog: xr.Dataset,
    stations: xr.Dataset,
    picks: xr.Dataset,
    repeaters: xr.Dataset,
    *,
    folder: str | os.PathLike[str],
    top_km: Sequence[float],
    p_km_s: Sequence[float],
    vp_vs: float = 1.73,
    correlations: xr.Dataset | None = None,
    min_correlation: float = 0.7,
    min_links: int = 4,
    external: bool | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Relocate the events of each sequence by double differences, each sequence by itself, from its centroid.

    Events of a sequence lie metres apart, which correlations resolve and picks do not. So they begin
    at one place, where their rays are alike, and the correlations count from the first iteration on:
    picks would first move them by a hundred metres, and across a layer's top to other rays.

    Parameters
    ----------
    catalog, stations, picks
        Datasets of these stages.
    repeaters
        What `find_repeaters` returns, of which sequence (event,) is used.
    folder
        Where HypoDD's files are written, a folder for each sequence.
    top_km, p_km_s, vp_vs
        The layers: depths of their tops [km], P velocities [km/s], and the ratio of P to S velocities.
    correlations
        What `correlate` returns, of P or S or both: their lags give differential times.
    min_correlation
        The least correlation whose lag is used.
    min_links
        Picks that two events share at least, to be paired.
    external, n_bootstrap, seed
        As `run_hypodd` takes them.

    Returns
    -------
    Dataset of stage ``relocation``
        As `run_hypodd` returns it, of the events in sequences.

    Raises
    ------
    ValueError
        As `write_hypodd` and `run_hypodd` raise it.
    FileNotFoundError
        `external` is True and there is no program ``hypoDD``.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np, xarray as xr, specufex_dask as sx
    >>> from specufex_dask.recipe import stamp
    >>> with TemporaryDirectory() as folder:
    ...     made = sx.simulate(folder, n_events=8, n_stations=6, n_sequences=2, seed=0)
    ...     catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    ...     sequence = np.genfromtxt(made.truth, delimiter=",", skip_header=1, usecols=2, dtype=int)
    ...     truth = {"cluster": ("event", sequence), "n_stations": ("event", np.full(8, 6)),
    ...              "agreement": ("event", np.ones(8))}
    ...     events = stamp(xr.Dataset(truth, coords={"event_id": catalog.event_id}), "events", {})
    ...     relocation = sx.relocate_sequences(
    ...         catalog, stations, sx.read_picks(made.quakeml), sx.find_repeaters(events, catalog),
    ...         folder=f"{folder}/hypodd", top_km=[0, 1, 4, 10], p_km_s=[3.8, 5.0, 5.8, 6.4],
    ...     )
    >>> bool(relocation.latitude.notnull().all())
    True
    """
    schema.require(repeaters, "repeaters")
    settings = Settings(
        LayeredModel(top_km=tuple(top_km), p_km_s=tuple(p_km_s), vp_vs=vp_vs),
        weights=FROM_CATALOG if correlations is None else FROM_BOTH[1:],
        min_links_catalog=min_links,
        from_centroid=True,
    )
    written = write_hypodd(
        catalog,
        stations,
        picks,
        folder,
        settings=settings,
        pairing=Pairing(min_links=min_links, min_observations=min_links),
        correlations=correlations,
        min_correlation=min_correlation,
        sequence=repeaters["sequence"].values,
    )
    found = run_hypodd(written, external=external, n_bootstrap=n_bootstrap, seed=seed)
    parameters = {
        "top_km": list(top_km), "p_km_s": list(p_km_s), "vp_vs": vp_vs, "min_correlation": min_correlation,
        "min_links": min_links, "n_bootstrap": n_bootstrap, "seed": seed,
    }  # fmt: skip
    inputs = {"catalog": catalog, "stations": stations, "picks": picks, "repeaters": repeaters}
    inputs |= {} if correlations is None else {"correlations": correlations}
    return recipe.stamp(found, "relocation", parameters, **inputs)
