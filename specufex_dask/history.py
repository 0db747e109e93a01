"""What a fit did, step by step, and whether its held-out score still rises."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from specufex_dask.plurals import counted
from specufex_dask.svi import LAST_STEPS, Schedule, Step

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]
Params = TypeVar("Params")


@dataclass
class History:
    """What a fit did: one row a global step; the score is NaN in steps where it was not taken."""

    steps: list[Step] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    stopped: str = ""
    seen: int = 0

    @property
    def number(self) -> int:
        """Number of the last step, 0 before the first."""
        return self.steps[-1].number if self.steps else 0

    def record(self, step: Step, size: int, score: float) -> None:
        """Append one row; `seen` counts the records that the steps took."""
        self.seen += step.batch
        self.steps.append(step)
        self.sizes.append(size)
        self.scores.append(score)

    @property
    def last_score(self) -> float:
        """The last score taken, NaN before the first."""
        return next((score for score in reversed(self.scores) if not math.isnan(score)), math.nan)

    def best_step(self, first: int) -> int:
        """Number of the step from `first` on with the best score, the later of equals; of the last step without any."""
        return max(self._looks(first), default=(math.nan, self.number))[1]

    def settled(self, tol: float, window: int, first: int) -> bool:
        """Whether the last `window` scores after step `first` are no better by the share `tol` than those before."""
        scores = [score for score, _ in self._looks(first)]
        if len(scores) <= window:
            return False
        before, recent = max(scores[:-window]), max(scores[-window:])
        return recent - before < tol * abs(before)

    def _looks(self, first: int) -> list[tuple[float, int]]:
        """The scores from step `first` on, and the numbers of their steps."""
        rows = zip(self.scores, (step.number for step in self.steps), strict=True)
        return [(score, number) for score, number in rows if number >= first and not math.isnan(score)]


@dataclass
class State(Generic[Params]):
    """Where a fit stands: all it needs to go on, with the same bits."""

    params: Params
    best: Params
    history: History


def begin(params: Params, history: History | None = None) -> State[Params]:
    """The state before the first step, or before those that follow `history`."""
    return State(params, params, history or History())


def after(history: History, schedule: Schedule, max_steps: int | None) -> Schedule:
    """`schedule` for a fit that goes on after `history`: `max_steps` more, by default 250."""
    return replace(schedule, max_steps=history.number + (max_steps or LAST_STEPS)) if history.steps else schedule


def history_variables(history: History) -> dict[str, tuple[str, Array]]:
    """The history as variables (step,) of a model's Dataset."""
    return {
        "history_step": ("step", np.array([step.number for step in history.steps])),
        "history_step_size": ("step", np.array([step.size for step in history.steps])),
        "history_batch": ("step", np.array([step.batch for step in history.steps])),
        "history_size": ("step", np.array(history.sizes)),
        "history_score": ("step", np.array(history.scores)),
    }


def history_of(model: xr.Dataset) -> History:
    """The history of a model that was fitted; ``ValueError`` for one that was given."""
    if "history_step" not in model:
        msg = "got start=a model without a history, expected one that a fit returned: fit one, or load it from a store."
        raise ValueError(msg)
    names = ("step", "batch", "step_size", "size", "score")
    history = History()
    for number, batch, rho, size, score in zip(*(model[f"history_{n}"].values.tolist() for n in names), strict=True):
        history.record(Step(number, batch, 1.0, rho), size, score)
    return history


def model_score(model: xr.Dataset) -> tuple[float, str]:
    """The held-out score of a `model`, and in words after how many steps; NaN and nothing where none was taken."""
    if "history_score" not in model or not np.isfinite(model["history_score"].values).any():
        return math.nan, ""
    number, last = model["history_step"].values, int(model["history_step"].values[-1])
    best = int(model.attrs.get("best_step", last))  # the last of a model that was stored before it said so
    part = "" if best == last else f"{best:,} of "
    return float(model["history_score"].values[number == best][0]), f"after {part}{counted(last, 'step')}"
