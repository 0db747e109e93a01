"""The sections of a study: which public function makes each stage, from which others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import specufex_dask
from specufex_dask import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Parameter

OPTIONS = "storage_options"
"""The parameter with which a place at a URL is opened."""

_GIVEN = {"checkpoint", "group", "known", "overwrite"}


@dataclass(frozen=True)
class Section:
    """A section of a study: the stage that it makes, the public function that makes it, and from what.

    The Datasets of the stages `inputs` are passed by position, those of `named` by name, and those of
    the stages `optional` by name as well, if the study has them. A `lazy` stage is a link between two
    others and is not saved. A stage `by_station` is made for each station by itself where the study has
    a model for each; one with `over` for each value of that parameter, if several are given.
    `group` is where the stage is saved, if not at the top.
    """

    stage: str
    function: str
    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    lazy: bool = False
    named: tuple[str, ...] = ()
    by_station: bool = False
    over: str = ""
    group: str | None = None

    @property
    def call(self) -> Callable[..., Any]:
        """The public function."""
        function: Callable[..., Any] = getattr(specufex_dask, self.function)
        return function

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What a user may set: the function's parameters less those that a run gives.

        Where a function is for the store of the study, that store's own section says how to open it.
        """
        accepted = settings.accepted(self.call, inputs=len(self.inputs))
        of_store = {OPTIONS} if "checkpoint" in accepted or self.stage == "report" else set()
        wanted = {name: p for name, p in accepted.items() if name not in _GIVEN | of_store}
        if self.over:
            one = wanted[self.over]
            wanted[self.over] = one.replace(annotation=f"{one.annotation} | list[{one.annotation}]")
        return wanted


SECTIONS = (
    Section("catalog", "read_catalog"),
    Section("stations", "read_stations"),
    Section("picks", "read_picks", (), ("catalog",)),
    Section("waveforms", "open_waveforms", ("catalog", "stations"), ("picks",), lazy=True),
    Section("spectrograms", "compute_spectrograms", ("waveforms",), by_station=True),
    Section("nmf", "fit_nmf", ("spectrograms",), by_station=True),
    Section("activations", "compute_activations", ("spectrograms", "nmf"), lazy=True, by_station=True),
    Section("hmm", "fit_hmm", ("activations", "nmf"), by_station=True),
    Section("fingerprints", "compute_fingerprints", ("spectrograms", "nmf", "hmm"), by_station=True),
    Section("clusters", "cluster_fingerprints", ("fingerprints",), by_station=True),
    Section("events", "merge_stations", ("clusters", "catalog")),
    Section("pairs", "find_pairs", ("clusters",), ("catalog",), lazy=True),
    Section("correlations", "correlate", ("waveforms", "pairs"), named=("picks",), over="phase"),
    Section("reference", "read_repeaters", lazy=True),
    Section("candidates", "find_repeaters", ("clusters", "catalog"), ("correlations", "reference"), group="candidates"),
    Section("relocation", "relocate_sequences", ("catalog", "stations", "picks", "candidates"), ("correlations",)),
    Section("repeaters", "find_repeaters", ("candidates", "catalog"), ("correlations", "relocation")),
)
"""The stages' sections, in the order in which a run makes them."""

STORE = Section("store", "save", ("dataset",))
REPORT = Section("report", "report", ("store",))
ALL = (*SECTIONS, STORE, REPORT)
"""Those of a study."""
