"""A model as small as one can be: the mean of the records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from specufex_dask import svi

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Mean:
    """Params are the mean (entry,) of the records (record, entry); `seen` notes the minibatches."""

    seen: list[list[float]] = field(default_factory=list)

    def local_step(self, records: Array, params: Array, temperature: float) -> svi.Statistics:
        assert temperature >= 1
        assert params.shape == records.shape[1:]
        self.seen.append(records[:, 0].tolist())
        return records.sum(axis=0), np.array(len(records))

    def global_step(self, params: Array, total: svi.Statistics, step: svi.Step) -> Array:
        summed, number = total
        moved: Array = (1 - step.size) * params + step.size * summed / number
        return moved

    def prune(self, params: Array) -> Array:
        return params

    def score(self, records: Array, params: Array) -> tuple[float, float]:
        return -float(((records - params) ** 2).sum()), float(records.size)

    def size(self, params: Array) -> int:
        return len(params)
