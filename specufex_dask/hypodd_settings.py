"""What a relocation is told: velocities, weights, limits; and HypoDD's control files that hold it, hypoDD.inp."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from specufex_dask.catalog_formats import wrong_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specufex_dask.fetching import File

FILES = (
    "dt.cc", "dt.ct", "event.sel", "station.sel", "hypoDD.loc", "hypoDD.reloc", "hypoDD.sta", "hypoDD.res", "hypoDD.src"
)  # fmt: skip
"""The files that hypoDD.inp names, in its order."""

_OFF = -999
_MAX_LAYERS = 30
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")
_BOTH, _CROSS, _CATALOG = 3, 1, 2
_WEIGHTS = 10
_SVD_EVENTS = 30
_DAMPING = 0.05


@dataclass(frozen=True)
class LayeredModel:
    """Flat layers: depth of each top [km], P velocity [km/s], and Vp/Vs of each, or one of all.

    Raises
    ------
    ValueError
        The tops do not rise in depth, a velocity or ratio is not positive, or the counts differ.

    Examples
    --------
    >>> LayeredModel(top_km=(0, 5), p_km_s=(5.0, 6.2)).s_km_s
    (2.89..., 3.58...)
    """

    top_km: tuple[float, ...]
    p_km_s: tuple[float, ...]
    vp_vs: tuple[float, ...] | float = 1.73

    def __post_init__(self) -> None:
        deeper = all(a < b for a, b in zip(self.top_km, self.top_km[1:], strict=False))
        if not (deeper and len(self.top_km) == len(self.p_km_s) == len(self.ratios) > 0):
            msg = (
                f"got tops {self.top_km} km of layers with P velocities {self.p_km_s} and Vp/Vs {self.vp_vs}, expected "
                f"as many of each, the tops from above down: correct the model."
            )
            raise ValueError(msg)
        if min(*self.p_km_s, *self.ratios) <= 0:
            msg = f"got velocities {self.p_km_s} and Vp/Vs {self.vp_vs}, expected positive ones: correct the model."
            raise ValueError(msg)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Vp/Vs of each layer."""
        return self.vp_vs if isinstance(self.vp_vs, tuple) else (self.vp_vs,) * len(self.p_km_s)

    @property
    def s_km_s(self) -> tuple[float, ...]:
        """S velocity [km/s] of each layer."""
        return tuple(p / ratio for p, ratio in zip(self.p_km_s, self.ratios, strict=True))


@dataclass(frozen=True)
class Weights:
    """The weights of some iterations: a line of hypoDD.inp; a cutoff below 0 is none.

    A residual cutoff below 1 is in seconds, from 1 on a multiple of the deviation (MAD) of the
    residuals; a distance cutoff [km] is of the two events of a pair. `damping` of None is 5 % of
    the root of the number of data, which keeps the condition number where Waldhauser (2001) would
    have it, at 40 to 80.
    """

    iterations: int
    cross_p: float = 1.0
    cross_s: float = 0.5
    cross_residual: float = _OFF
    cross_distance_km: float = _OFF
    catalog_p: float = 1.0
    catalog_s: float = 0.5
    catalog_residual: float = _OFF
    catalog_distance_km: float = _OFF
    damping: float | None = None


FROM_CATALOG = (
    Weights(5, catalog_residual=10, catalog_distance_km=10),
    Weights(5, catalog_residual=6, catalog_distance_km=8),
)
"""For picks alone: cutoffs that tighten."""

FROM_BOTH = (
    Weights(5, cross_p=0.01, cross_s=0.01, catalog_residual=10, catalog_distance_km=10),
    Weights(5, cross_distance_km=2, catalog_p=0.01, catalog_s=0.005, catalog_residual=7, catalog_distance_km=10),
    Weights(5, 1.0, 0.5, 6, 0.5, 0.001, 0.0005, 7, 10),
)
"""Picks first, for where everything lies; then correlations, for how near ones lie to each other."""


@dataclass(frozen=True)
class Settings:
    """How to relocate. `weights` of None are `FROM_BOTH`, or `FROM_CATALOG` where there are no correlations.

    `svd` of None chooses the exact solution by singular values for up to 30 events, and damped
    LSMR for more. Limits below 0 are none.
    """

    model: LayeredModel
    weights: tuple[Weights, ...] | None = None
    cross: bool = True
    catalog: bool = True
    phases: str = "PS"
    max_station_km: float = 500.0
    min_links_cross: int = 0
    min_links_catalog: int = 8
    min_pair_station_km: float = _OFF
    max_pair_station_km: float = _OFF
    max_gap: float = _OFF
    from_centroid: bool = False
    svd: bool | None = None
    remove_airquakes: bool = True
    cluster: int = 0
    events: tuple[int, ...] = ()

    def schedule(self, *, cross: bool) -> tuple[Weights, ...]:
        """The weights in their order, for data with or without correlations."""
        return self.weights or (FROM_BOTH if cross else FROM_CATALOG)

    def by_svd(self, n_events: int) -> bool:
        """Whether `n_events` are relocated by singular values."""
        return n_events <= _SVD_EVENTS if self.svd is None else self.svd


def settings_lines(settings: Settings, *, cross: bool, n_events: int, n_data: int) -> list[str]:
    """The lines of hypoDD.inp, version 2."""
    use_cross, model = cross and settings.cross, settings.model
    kinds = _BOTH if use_cross and settings.catalog else _CROSS if use_cross else _CATALOG
    names = [name if use_cross or name != "dt.cc" else "" for name in FILES[:-1]]
    phases = {"P": 1, "S": 2}.get(settings.phases, 3)
    limits = (settings.min_pair_station_km, settings.max_pair_station_km, settings.max_gap)
    schedule = settings.schedule(cross=use_cross)
    return [
        "hypoDD_2",
        *(line for name, shown in zip(FILES, [*names, ""], strict=True) for line in (f"* {name}", shown)),
        "* IDAT IPHA DIST",
        f"{kinds} {phases} {settings.max_station_km:g}",
        "* OBSCC OBSCT MINDIST MAXDIST MAXGAP",
        f"{settings.min_links_cross} {settings.min_links_catalog} " + " ".join(f"{limit:g}" for limit in limits),
        "* ISTART ISOLV IAQ NSET",
        f"{2 - settings.from_centroid} {2 - settings.by_svd(n_events)} {settings.remove_airquakes:d} {len(schedule)}",
        "* NITER WTCCP WTCCS WRCC WDCC WTCTP WTCTS WRCT WDCT DAMP",
        *(" ".join(f"{value:g}" for value in _row(each, n_data)) for each in schedule),
        "* IMOD, then TOP [km], VEL [km/s] and RATIO, each to -9",
        "1",
        *(" ".join(f"{each:g}" for each in (*row, -9)) for row in (model.top_km, model.p_km_s, model.ratios)),
        "* CID (0 = all)",
        f"{settings.cluster}",
        "* ID",
        *(" ".join(map(str, settings.events[i : i + 8])) for i in range(0, len(settings.events), 8)),
    ]


def _row(weights: Weights, n_data: int) -> list[float]:
    *numbers, damping = vars(weights).values()
    return [*numbers, max(round(_DAMPING * n_data**0.5, 1), 1.0) if damping is None else damping]


def read_settings(file: File) -> tuple[Settings, dict[str, str]]:
    """Settings from a hypoDD.inp of version 1 or 2, and the names of the files by those in `FILES`.

    Raises
    ------
    ValueError
        A line is not what belongs in its place, or asks for a 3-D model, straight rays or an
        azimuthal gap, which only HypoDD itself knows.
    """
    second, lines = _told(file)
    rows = _Rows(file, ((i, line) for i, line in lines[len(FILES) :] if line.strip()))
    kinds, phases, distance = rows.take(3, "IDAT IPHA DIST")
    links = rows.take(5 if second else 2, "OBSCC OBSCT MINDIST MAXDIST MAXGAP")
    limits = [each if each >= 0 else _OFF for each in (*links[2:], _OFF, _OFF, _OFF)[:3]]
    solution = rows.take(4 if second else 3, "ISTART ISOLV IAQ NSET")
    weights = tuple(_weights(rows.take(_WEIGHTS, "NITER … DAMP, ten numbers")) for _ in range(int(solution[-1])))
    model = _model(rows, int(rows.take(1, "IMOD")[0]) if second else 0)
    cluster = int(rows.take(1, "CID")[0])
    settings = Settings(
        model=model,
        weights=weights,
        cross=kinds in {_CROSS, _BOTH},
        catalog=kinds in {_CATALOG, _BOTH},
        phases={1: "P", 2: "S"}.get(int(phases), "PS"),
        max_station_km=distance,
        min_links_cross=int(links[0]),
        min_links_catalog=int(links[1]),
        min_pair_station_km=limits[0],
        max_pair_station_km=limits[1],
        max_gap=limits[2],
        from_centroid=solution[0] == 1,
        svd=solution[1] == 1,
        remove_airquakes=not second or solution[2] == 1,
        cluster=cluster,
        events=tuple(int(each) for row in rows.rest() for each in row),
    )
    return settings, file_names(file)


def file_names(file: File) -> dict[str, str]:
    """The names of the files in a hypoDD.inp, empty for none, by those in `FILES`."""
    return {kind: line.strip() for kind, (_, line) in zip(FILES, _told(file)[1], strict=False)}


class _Rows:
    """The lines that are left of a control file, as numbers."""

    def __init__(self, file: File, lines: Iterator[tuple[int, str]]) -> None:
        self.file, self.lines = file, lines

    def take(self, count: int, expected: str) -> list[float]:
        """The numbers at the start of the next line; `count` of them at least."""
        number, line = next(self.lines, (0, "the end of the file"))
        found = _numbers(line)
        if len(found) < count:
            raise wrong_line(self.file, number, line, f"{expected} as in hypoDD.inp")
        return found[:count] if count > 1 else found

    def rest(self) -> list[list[float]]:
        return [_numbers(line) for _, line in self.lines]


def _told(file: File) -> tuple[bool, list[tuple[int, str]]]:
    """Whether it is of version 2, and its lines without comments; a blank one stands for a file that there is not."""
    every = enumerate(file.content.decode("latin-1").splitlines(), start=1)
    lines = [(i, line) for i, line in every if not line.startswith("*")]
    second = bool(lines) and lines[0][1].strip().lower() == "hypodd_2"
    return second, lines[1:] if second else lines


def _numbers(line: str) -> list[float]:
    found = []
    for word in line.split():
        if not _NUMBER.fullmatch(word):
            break
        found.append(float(word.lower().replace("d", "e")))
    return found


def _weights(row: list[float]) -> Weights:
    cutoffs = {3, 4, 7, 8}
    values = [_OFF if i in cutoffs and each < 0 else each for i, each in enumerate(row)]
    return Weights(int(values[0]), *values[1:])


def _model(rows: _Rows, kind: int) -> LayeredModel:
    if kind == 0:
        count, ratio = rows.take(2, "NLAY RATIO")
        top, velocity = (tuple(rows.take(int(count), f"{name} of each layer")[: int(count)]) for name in ("TOP", "VEL"))
        return LayeredModel(top, velocity, ratio)
    if kind == 1:
        top, velocity, ratios = (
            _ended(rows.take(1, f"{name} of each layer, then -9")) for name in ("TOP", "VEL", "RATIO")
        )
        return LayeredModel(top, velocity, ratios)
    name = PurePosixPath(rows.file.name).name
    msg = (
        f"got {name} with IMOD {kind}, expected 0 or 1, flat layers: choose one of these, or relocate with an external "
        f"hypoDD on PATH."
    )
    raise ValueError(msg)


def _ended(row: list[float]) -> tuple[float, ...]:
    """A row of a model without the -9 at its end."""
    return tuple(row[:-1] if row[-1] in {-9.0, -999.0} else row)[:_MAX_LAYERS]
