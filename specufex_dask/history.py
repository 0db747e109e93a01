"""What a fit did, step by step, and whether its held-out score still rises."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.svi import LAST_STEPS, Schedule, Step

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]


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

    def is_best(self, first: int) -> bool:
        """Whether no score from step `first` on is better than the last one (or the fit has not come so far)."""
        return self.steps[-1].number < first or not any(score > self.scores[-1] for score in self._looks(first))

    def settled(self, tol: float, window: int, first: int) -> bool:
        """Whether the last `window` scores after step `first` are no better by the share `tol` than those before."""
        scores = self._looks(first)
        if len(scores) <= window:
            return False
        before, recent = max(scores[:-window]), max(scores[-window:])
        return recent - before < tol * abs(before)

    def _looks(self, first: int) -> list[float]:
        rows = zip(self.steps, self.scores, strict=True)
        return [score for step, score in rows if step.number >= first and not math.isnan(score)]


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
