"""A stretch of samples, as files hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


class UnreadableFileError(Exception):
    """The file is there, and what it holds cannot be read."""


def nearest_sample(since_ns: Any, sampling_rate: Any) -> Any:  # noqa: ANN401 - numbers, or arrays of them
    """The number of the sample nearest to so long after the first one; halfway between two, that of the later."""
    return np.floor(since_ns * sampling_rate / 1e9 + 0.5)


@dataclass(frozen=True)
class Segment:
    """A stretch of samples without a gap: time of the first one (ns since 1970), rate [Hz], samples (sample,)."""

    start_ns: int
    sampling_rate: float
    n_samples: int
    samples: np.ndarray[Any, Any]

    def time_ns(self, index: float) -> int:
        """Time of sample `index` [ns since 1970]."""
        return self.start_ns + round(index * 1e9 / self.sampling_rate)

    def index(self, time_ns: int) -> int:
        """The sample nearest to `time_ns`; halfway between two, the later."""
        return int(nearest_sample(time_ns - self.start_ns, self.sampling_rate))
