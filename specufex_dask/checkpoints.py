"""Where a fit stands, in a file beside the store: written whole or not at all, read without unpickling.

A fit that was killed goes on from its last checkpoint and ends with the bits of one that was
not, for all that is random in it is keyed by its seed and the numbers of its steps.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from zipfile import BadZipFile

import numpy as np

from specufex_dask import faults, places, runs, svi
from specufex_dask.history import History, State
from specufex_dask.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from specufex_dask.fits import Fit
    from specufex_dask.places import Location, Place

Params = TypeVar("Params")
Arrays = dict[str, np.ndarray[Any, Any]]

EVERY_SECONDS = 10.0
"""A fit is not stored again before so many seconds went by."""

_UNSTORED = (
    "got %s for the checkpoint of %s, expected to write %s: free space there. The fit goes on; if it were killed, it "
    "would begin again at the last checkpoint that was written."
)
_log = logging.getLogger("specufex_dask")
_ROWS = ("number", "batch", "temperature", "size")


@dataclass
class Checkpoint(Generic[Params]):
    """The file of a fit of one recipe, whose parameters are a dataclass of arrays of the type `kind`."""

    path: Place
    store: Location
    recipe_id: str
    kind: type[Params]

    def read(self) -> list[State[Params]] | None:
        """The states that were stored; None if there are none that can be read, or those of another recipe.

        Raises ``OSError`` where it is not known whether there are any: a bucket that does not answer.
        """
        content = self._content()
        if content is None:
            return None
        try:
            with np.load(BytesIO(content), allow_pickle=False) as arrays:
                about = json.loads(arrays["about"].tobytes())
                if about["recipe_id"] != self.recipe_id:
                    return None
                return [self._state(arrays, f"{i}.", stopped) for i, stopped in enumerate(about["stopped"])]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def _content(self) -> bytes | None:
        try:
            return places.read(self.path)
        except FileNotFoundError:
            return None
        except OSError:
            if isinstance(self.path, Path):
                return None
            raise

    def write(self, states: list[State[Params]], max_steps: int, seconds: float) -> None:
        """Store `states` in the place of those that were stored.

        Raises ``OSError`` where that cannot be written, such as of a full disk; the old one stays.
        """
        runs.still_held(self.store)
        longest = max((state.history for state in states), key=lambda history: history.number)
        about = {
            "recipe_id": self.recipe_id,
            "stopped": [state.history.stopped for state in states],
            "step": longest.number,
            "max_steps": max_steps,
            "score": longest.last_score,
            "size": longest.sizes[-1],
            "seconds": seconds,
        }
        arrays: Arrays = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        for i, state in enumerate(states):
            arrays |= {f"{i}.{name}": values for name, values in _arrays(state).items()}
        content = BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        places.write(self.path, content.getvalue())

    def _state(self, arrays: Any, prefix: str, stopped: str) -> State[Params]:  # noqa: ANN401 - an open npz file
        def params(which: str) -> Params:
            names = [field.name for field in fields(cast("Any", self.kind))]
            return self.kind(**{name: arrays[f"{prefix}{which}.{name}"] for name in names})

        number, batch, temperature, size = (arrays[f"{prefix}step.{name}"].tolist() for name in _ROWS)
        history = History(stopped=stopped)
        rows = zip(number, batch, temperature, size, strict=True)
        sizes, scores = (arrays[f"{prefix}history.{name}"].tolist() for name in ("sizes", "scores"))
        for row, alive, score in zip(rows, sizes, scores, strict=True):
            history.record(svi.Step(*row), alive, score)
        return State(params("params"), params("best"), history)


def _arrays(state: State[Any]) -> Arrays:
    found: Arrays = {}
    for which in ("params", "best"):
        params = getattr(state, which)
        found |= {f"{which}.{field.name}": getattr(params, field.name) for field in fields(params)}
    history = state.history
    found |= {f"step.{name}": np.array([getattr(step, name) for step in history.steps]) for name in _ROWS}
    return found | {"history.sizes": np.array(history.sizes), "history.scores": np.array(history.scores)}


@contextmanager
def kept(
    store: Location | None, stage: str, group: str | None, recipe_id: str, kind: type[Params]
) -> Iterator[Checkpoint[Params] | None]:
    """The checkpoint of a fit beside `store`, which no other run may write to meanwhile; None without a store."""
    if store is None:
        yield None
        return
    with runs.holding(store):
        yield Checkpoint(runs.checkpoint_path(store, stage, group), store, recipe_id, kind)


def run(
    fit: Fit[Params],
    start: Callable[[Any], list[State[Params]]],
    checkpoint: Checkpoint[Params] | None,
    *,
    title: str,
    unit: str,
) -> State[Params]:
    """Run `fit` with a progress bar, from its `checkpoint` where there is one, else from ``start(sample)``.

    `title` and `unit` (``"patterns"``) are for the display.
    """
    again = f"fit again{', which goes on from the last checkpoint' if checkpoint else ''}."
    with faults.explained(title, lambda: "it", again):
        sample = fit.sample()
        stored = checkpoint.read() if checkpoint else None
        states = stored or start(sample.records)
        if stored:
            _log.info("%s goes on from step %d", title, max(state.history.number for state in stored))
        with _following(fit, states, checkpoint, title, unit) as tell:
            return fit.run(states, sample, tell=tell)


@contextmanager
def _following(
    fit: Fit[Params], states: list[State[Params]], checkpoint: Checkpoint[Params] | None, title: str, unit: str
) -> Iterator[Callable[[list[State[Params]]], None]]:
    """What is to be called with each new list of states: it moves the bar, and stores them every few seconds."""
    begun = stored = time.monotonic()
    failed = False
    done = sum(state.history.number for state in states)
    with progress(title, total=len(states) * fit.schedule.max_steps - done, unit="steps") as advance:

        def tell(states: list[State[Params]]) -> None:
            nonlocal stored, done, failed
            reached = sum(state.history.number for state in states)
            last = states[0].history
            advance(max(0, reached - done), note=f"{last.sizes[-1]} {unit}, held-out score {last.last_score:.4f}")
            done = reached
            if checkpoint and time.monotonic() - stored >= EVERY_SECONDS:
                try:
                    checkpoint.write(states, fit.schedule.max_steps, time.monotonic() - begun)
                except OSError as error:  # what a fit loses by being ended is more than its checkpoint
                    if not failed:
                        _log.warning(_UNSTORED, error, title, checkpoint.path)
                    failed = True
                stored = time.monotonic()

        yield tell
