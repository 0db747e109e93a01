"""Bayesian NMF (Paisley, Blei & Jordan 2014) on blocks of records, as matrix products.

The responsibilities P (pattern, frequency, time) of the literal form never exist. With
W = exp((E ln W + E ln A) / tau) (frequency, pattern), V = exp(E ln V / tau) (pattern, time) and
R = X / (W V), the sums that the updates need are

    sum_d P X = V * (W' R)        sum_t X P = W * (R V').

Records lie side by side along time, a few at once, so that all of an iteration stays in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from specufex_dask.kernels.gamma import FASTMATH, constants, digamma, tail

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = np.ndarray[Any, np.dtype[Any]]

TRANSFORM_ITERATIONS = 5
_COLUMNS = 256
_RECORDS_PER_BLOCK = 16
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)


@dataclass(frozen=True)
class Weights:
    """What a local step needs of the model: all that does not depend on the record.

    `relative` (frequency, pattern) is exp((E ln W + E ln A) / tau) with each row's largest
    entry 1 (a factor of a row cancels in P); `expected` (frequency, pattern) is E W E A.
    """

    relative: Array
    expected: Array
    tau: float

    @property
    def rate(self) -> Array:
        """Gamma rate of V (pattern,): (1 + sum_d E W E A) / tau."""
        rate: Array = (1.0 + self.expected.sum(axis=0)) / self.tau
        return rate


def weights(
    dictionary_shape: Array,
    dictionary_rate: Array,
    weight_shape: Array,
    weight_rate: Array,
    tau: float,
    dtype: Any,  # noqa: ANN401 - a dtype in any of its spellings
) -> Weights:
    """Weights of a model: Gamma shapes and rates of W (frequency, pattern) and A (pattern,), in float64."""
    log_weight = digamma(dictionary_shape) - np.log(dictionary_rate) + digamma(weight_shape) - np.log(weight_rate)
    log_weight -= log_weight.max(axis=1, keepdims=True)
    expected = (dictionary_shape / dictionary_rate) * (weight_shape / weight_rate)
    # Denormal products make a matrix product several times slower: see `_flush`.
    relative = np.maximum(np.exp(log_weight / tau), _smallest(dtype))
    return Weights(relative.astype(dtype), expected, tau)


def _smallest(dtype: Any) -> float:  # noqa: ANN401 - a dtype in any of its spellings
    """Square root of the smallest normal number: the product of two such is normal."""
    return 1.5 * float(np.sqrt(np.finfo(dtype).tiny))


def local_step(spectrograms: Array, model: Weights, *, prior: float, iterations: int) -> tuple[Array, Array]:
    """Sums of sum_t X P (frequency, pattern) and sum_t E V (pattern,) over `spectrograms` (record, frequency, time).

    `prior` is the Gamma shape 1/K0 of V.
    """
    counts = np.zeros(model.relative.shape)
    activation = np.zeros(model.relative.shape[1])
    rate = model.rate.astype(spectrograms.dtype)[:, None]
    scratch = _Scratch()
    for columns in _side_by_side(spectrograms):
        shape, relative = _iterate(columns, model, rate, prior, iterations, scratch)
        ratio = _ratio(columns, np.matmul(model.relative, relative, out=scratch.reconstruction))
        counts += model.relative * (ratio @ relative.T)
        activation += np.divide(shape, rate, out=shape).sum(axis=1, dtype=np.float64)
    return counts, activation


def transform(spectrograms: Array, model: Weights) -> Array:
    """Activations V1/V2 (record, pattern, time) of `spectrograms` (record, frequency, time), at tau = 1."""
    n_records, _, n_time = spectrograms.shape
    n_patterns = model.relative.shape[1]
    activation = np.empty((n_records, n_patterns, n_time), spectrograms.dtype)
    rate = model.rate.astype(spectrograms.dtype)[:, None]
    scratch, first = _Scratch(), 0
    for columns in _side_by_side(spectrograms):
        shape, _ = _iterate(columns, model, rate, 1.0 / n_patterns, TRANSFORM_ITERATIONS, scratch)
        last = first + columns.shape[1] // n_time
        np.divide(shape, rate, out=shape)
        activation[first:last] = shape.reshape(n_patterns, last - first, n_time).swapaxes(0, 1)
        first = last
    return activation


def held_out_score(spectrograms: Array, seen: Array, model: Weights, *, iterations: int) -> tuple[float, float]:
    """Sums of X ln(lambda) - lambda and of X over the bins of `spectrograms` that are not `seen`.

    V is fitted on the bins that are `seen` (record, frequency, time; boolean) alone; lambda =
    E W E A E V. The held-out score is the first sum over the second.
    """
    likelihood = total = 0.0
    scratch = _Scratch()
    for columns, mask in zip(_side_by_side(spectrograms), _side_by_side(seen), strict=True):
        visible = mask.astype(columns.dtype)
        rate = (1.0 + model.expected.T.astype(columns.dtype) @ visible).astype(columns.dtype)
        shape, _ = _iterate(columns * visible, model, rate, 1.0 / len(rate), iterations, scratch)
        expected = model.expected @ (shape / rate).astype(np.float64)
        hidden, rates = columns[~mask].astype(np.float64), expected[~mask]
        likelihood += float((hidden * np.log(rates) - rates).sum())
        total += float(hidden.sum())
    return likelihood, total


def _side_by_side(records: Array) -> Iterator[Array]:
    """`records` (record, frequency, time) in pieces (frequency, record x time) of a fixed number of records.

    Each piece is written over the one before.
    """
    n_records, n_frequencies, n_time = records.shape
    together = 1
    while together < _RECORDS_PER_BLOCK and together * n_time < _COLUMNS:
        together *= 2
    piece = np.empty((n_frequencies, 0, n_time), records.dtype)
    for first in range(0, n_records, together):
        length = min(together, n_records - first)
        if length != piece.shape[1]:
            piece = np.empty((n_frequencies, length, n_time), records.dtype)
        piece[...] = records[first : first + length].swapaxes(0, 1)
        yield piece.reshape(n_frequencies, -1)


class _Scratch:
    """Arrays of an iteration, used again for the next piece: memory fresh from the system is slow to touch."""

    def __init__(self) -> None:
        self.shape = self.relative = self.reconstruction = np.empty((0, 0))

    def fit(self, columns: Array, n_patterns: int) -> None:
        """Have the sizes that go with `columns` (frequency, column)."""
        if self.reconstruction.shape != columns.shape:
            self.shape = np.empty((n_patterns, columns.shape[1]), columns.dtype)
            self.relative, self.reconstruction = np.empty_like(self.shape), np.empty_like(columns)


def _iterate(
    columns: Array, model: Weights, rate: Array, prior: float, iterations: int, scratch: _Scratch
) -> tuple[Array, Array]:
    """Gamma shape V1 (pattern, column) after `iterations`, and exp(E ln V / tau) up to a factor a column.

    Both are arrays of `scratch`.
    """
    kind = columns.dtype.type
    base, scale = kind(1.0 + (prior - 1.0) / model.tau), kind(1.0 / model.tau)
    transposed = np.ascontiguousarray(model.relative.T)
    scratch.fit(columns, len(transposed))
    shape, relative, reconstruction = scratch.shape, scratch.relative, scratch.reconstruction
    # The start is the same for every pattern and V2 does not enter yet: V cancels, whatever its value.
    reconstruction[...] = model.relative.sum(axis=1, keepdims=True)
    np.matmul(transposed, _ratio(columns, reconstruction), out=shape)
    shape *= scale
    shape += base
    root_rate = rate**-scale
    for _ in range(iterations - 1):
        _exp_digamma(shape, relative, scale, root_rate)
        np.matmul(model.relative, relative, out=reconstruction)
        np.matmul(transposed, _ratio(columns, reconstruction), out=shape)
        _next_shape(shape, relative, base, scale)
    _exp_digamma(shape, relative, scale, root_rate)
    return shape, relative


def _exp_digamma(shape: Array, relative: Array, scale: Any, root_rate: Array) -> None:  # noqa: ANN401 - a scalar of the precision of the arrays
    """Write exp((digamma(V1) - ln V2) / tau) into `relative`, each column up to a factor that prevents underflow."""
    if scale == 1:
        _tails(shape, relative)
        np.exp(relative, out=relative)
        relative *= root_rate
        _times_shifted(shape, relative)
    else:
        relative[...] = digamma(shape)
        relative -= relative.max(axis=0)
        relative *= scale
        np.exp(relative, out=relative)
        relative *= root_rate
    _flush(relative, relative.dtype.type(_smallest(relative.dtype)))


@_jit
def _tails(shape: Array, result: Array) -> None:
    """tail(V1) less the tail of the largest V1 of the column: the factor that it hides is the same for all patterns."""
    numbers = constants(shape)
    n_patterns, n_columns = shape.shape
    largest = shape[0].copy()
    for k in range(1, n_patterns):
        for c in range(n_columns):
            largest[c] = max(largest[c], shape[k, c])
    for c in range(n_columns):
        largest[c] = tail(largest[c], numbers)
    for k in range(n_patterns):
        for c in range(n_columns):
            result[k, c] = tail(shape[k, c], numbers) - largest[c]


@_jit
def _times_shifted(shape: Array, result: Array) -> None:
    eight = constants(shape)[0][6]
    for k in range(shape.shape[0]):
        for c in range(shape.shape[1]):
            result[k, c] *= shape[k, c] + eight


@_jit
def _flush(relative: Array, smallest: Any) -> None:  # noqa: ANN401 - a scalar of the precision of the arrays
    """Zero for what is too small to matter beside the largest of its column, and whose products would be denormal."""
    for k in range(relative.shape[0]):
        for c in range(relative.shape[1]):
            relative[k, c] = relative[k, c] if relative[k, c] >= smallest else 0


@_jit
def _next_shape(shape: Array, relative: Array, base: Any, scale: Any) -> None:  # noqa: ANN401 - a scalar of the precision of the arrays
    for k in range(shape.shape[0]):
        for c in range(shape.shape[1]):
            shape[k, c] = base + scale * (relative[k, c] * shape[k, c])


@_jit
def _ratio(columns: Array, reconstruction: Array) -> Array:
    """X / (W V), written over W V; its floor keeps an entry that underflowed from dividing by 0."""
    floor = columns.dtype.type(1e-30)
    for d in range(columns.shape[0]):
        for c in range(columns.shape[1]):
            reconstruction[d, c] = columns[d, c] / max(reconstruction[d, c], floor)
    return reconstruction
