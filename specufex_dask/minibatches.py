"""Minibatches of records that stream from many chunks, and the sums over one, taken where its records are.

Records are read in pieces, runs of neighbours in one chunk, and pieces in groups of at least 16
from different chunks; the minibatches of a group take its records in a seeded order. So each
epoch reads every record once, and a minibatch mixes many chunks. A single worker holds two groups,
the one in use and the next, which is read meanwhile; more workers hold their parts of three.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from dask.delayed import delayed

from specufex_dask.sample import LEAST_CHUNKS
from specufex_dask.svi import Branches, Model, Statistics, add_branches
from specufex_dask.workers import Run, addresses, at_once, spread, threads_per_worker, where_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dask.array as da

    from specufex_dask.sample import Records

Array = np.ndarray[Any, np.dtype[Any]]
Params = TypeVar("Params")

Share = tuple[int, Array]
"""What a minibatch takes of one piece: the number of the piece, and the rows in it."""

_ROWS = 16
_MOST_SPAN = 1.25
"""Records that are read for one to fit: those held out are few, and to leave them out costs a copy of the others."""

_MOST_SHARES = 64
_FAN_IN = 8


class Minibatches:
    """The minibatches of a fit, in a seeded order that depends on neither the scheduler nor the workers.

    `largest` is the number of records in the largest minibatch. Where all records fit in
    `memory_limit` bytes of each worker, they are kept there after the first epoch.
    """

    def __init__(self, records: Records, *, largest: int, memory_limit: float, seed: int) -> None:
        self._records, self._seed = records, seed
        self._edges = np.concatenate([[0], np.cumsum(records.array.chunks[0])])
        self._pieces = _pieces(records, self._edges, largest, memory_limit)
        self._groups = _groups(self._pieces, largest, seed)
        self._n_turns = 0
        # Two groups ahead a worker is never idle between two steps; a single worker has no memory for them.
        self._now, self._ahead = _Group([], []), deque(islice(self._groups, min(2, max(1, len(addresses())))))
        self._order, self._taken = np.empty(0, int), 0
        self.kept = len(records.fitted) * records.record_bytes <= memory_limit * max(1, len(addresses()))
        self._n_threads = threads_per_worker() or 1
        self._reader = ThreadPoolExecutor(len(self._ahead), thread_name_prefix="read")
        self._read: dict[int, Future[list[Run]]] = {}
        self._known: dict[int, Future[list[Run]]] = {}

    def take(self, asked: int) -> list[Share]:
        """The next minibatch, of at most `asked` records: the last ones of a group may be fewer."""
        if self._taken == len(self._order):
            self._turn()
        left = len(self._order) - self._taken
        batch = -(-left // -(-left // asked))
        chosen = np.sort(self._order[self._taken : self._taken + batch])
        self._taken += batch
        piece = np.searchsorted(self._now.edges, chosen, side="right") - 1
        return [(self._now.pieces[p], chosen[piece == p] - self._now.edges[p]) for p in np.unique(piece)]

    def skip(self, asked: list[int]) -> None:
        """Go past minibatches that were taken before, without reading their records."""
        for batch in asked:
            self.take(batch)

    @property
    def reading(self) -> str:
        """In words, how the records are read."""
        if self.kept:
            return "all records fit in the memory of the workers and are kept there"
        n_chunks = len({self._pieces[number][0] for number in self._ahead[0].pieces})
        return f"the records do not fit in memory_limit and stream, {n_chunks} chunks at a time"

    def statistics(self, shares: list[Share], model: Model[Params], params: Params, temperature: float) -> Statistics:
        """Sums over the records of `shares`, each taken where its piece is, then added in a fixed tree."""
        add = partial(_added, len(shares))
        local = partial(_sums, partial(model.local_step, params=params, temperature=temperature), add)
        calls = [(rows, runs) for runs in self._lots() if (rows := self._rows(shares, runs))]
        # Of many workers the sums would meet in the scheduler: tasks add them on the way.
        sums = where_held(local, calls) if len(calls) <= _FAN_IN else None
        (total,) = add(*(_by_tasks(local, add, calls) if sums is None else sums)).values()
        return total

    def _lots(self) -> list[list[Run]]:
        """The runs of pieces that are summed together: on each worker as many lots as it has threads."""
        found: dict[str, list[Run]] = {}
        for run in self._loaded():
            found.setdefault(run.worker, []).append(run)
        return [
            runs[thread :: self._n_threads]
            for runs in found.values()
            for thread in range(min(self._n_threads, len(runs)))
        ]

    def _rows(self, shares: list[Share], runs: list[Run]) -> dict[int, tuple[int, Array]]:
        """By place, the shares that are of `runs`: at which piece of them, and the rows of what is held of it."""
        places = chain.from_iterable(run.places for run in runs)
        at = {self._now.pieces[place]: i for i, place in enumerate(places)}
        return {
            place: (at[number], _rows_held(self._pieces[number][1])[rows])
            for place, (number, rows) in enumerate(shares)
            if number in at
        }

    def close(self) -> None:
        """Forget the records that are held."""
        self._reader.shutdown(cancel_futures=True)
        self._read.clear()
        self._known.clear()

    def _turn(self) -> None:
        """Go on to the next group."""
        self._read.pop(self._n_turns, None)
        self._n_turns += 1
        self._now = self._ahead.popleft()
        self._ahead.append(next(self._groups))
        self._order = _even_order(self._now.edges, np.random.default_rng([self._seed, 3, self._n_turns]))
        self._taken = 0

    def _loaded(self) -> list[Run]:
        """The pieces of the group in use, on the workers; those ahead are on their way."""
        for turn, group in enumerate([self._now, *self._ahead], self._n_turns):
            if turn not in self._read:
                self._read[turn] = self._reading(group, turn)
        return self._read[self._n_turns].result()

    def _reading(self, group: _Group, turn: int) -> Future[list[Run]]:
        first = group.pieces[0]
        if first in self._known:
            return self._known[first]
        reading = self._reader.submit(self._load, group, turn)
        if self.kept:
            self._known[first] = reading
        return reading

    def _load(self, group: _Group, turn: int) -> list[Run]:
        lazy = [self._piece(number).astype(self._records.dtype).to_delayed().item() for number in group.pieces]
        # Workers take turns in having a piece more: who has fewer reads meanwhile a larger part of the next group.
        return spread(lazy, first=turn)

    def _piece(self, number: int) -> da.Array:
        """The records of a piece, lazily, with those between them if these are few."""
        array, (chunk, rows) = self._records.array, self._pieces[number]
        # By its place in the whole, not in the chunk: only then dask reads no more of the chunk than this.
        first, last = self._edges[chunk] + rows[[0, -1]]
        piece: da.Array = array[first : last + 1]
        return piece if _is_dense(rows) else piece[rows - rows[0]]


def _is_dense(rows: Array) -> bool:
    return bool(rows[-1] - rows[0] < _MOST_SPAN * len(rows))


def _rows_held(rows: Array) -> Array:
    """Where the `rows` of a chunk that make up a piece are in what is held of it."""
    return rows - rows[0] if _is_dense(rows) else np.arange(len(rows))


def _even_order(edges: Array, rng: np.random.Generator) -> Array:
    """A random order of records in which any run has, to one or two, the same share of each piece.

    Piece p has the records from ``edges[p]`` on. So a minibatch mixes all chunks of its group, and
    all workers that hold them have the same work.
    """
    lengths = np.diff(edges)
    rank = np.concatenate([rng.permutation(length) for length in lengths])
    order: Array = np.argsort((rank + rng.random(len(rank))) / np.repeat(lengths, lengths), kind="stable")
    return order


class _Group:
    """Pieces by their numbers; the records of piece p are those from ``edges[p]`` on."""

    def __init__(self, pieces: list[int], lengths: list[int]) -> None:
        self.pieces, self.edges = pieces, np.concatenate([[0], np.cumsum(lengths, dtype=int)])


def _pieces(records: Records, edges: Array, largest: int, memory_limit: float) -> list[tuple[int, Array]]:
    """Chunk and rows in it of each piece, in the order of the records.

    A piece is a chunk, or less where two groups would not fit in `memory_limit`, or where
    there are fewer than 16 chunks; more than 64 shares of a minibatch would be too small.
    Chunks are cut every so many records, fitted or not: at the edges of the blocks that a store packs them in.
    """
    fitting = records.within(memory_limit / (2 * LEAST_CHUNKS))
    enough = -(-len(records.fitted) // LEAST_CHUNKS)
    span = max(min(fitting, enough), -(-largest // _MOST_SHARES), _ROWS) // _ROWS * _ROWS
    pieces = []
    for chunk, (first, last) in enumerate(pairwise(edges)):
        cuts = np.searchsorted(records.fitted, [*range(first, last, span), last])
        pieces += [(chunk, records.fitted[i:j] - first) for i, j in pairwise(cuts) if i < j]
    return pieces


def _groups(pieces: list[tuple[int, Array]], largest: int, seed: int) -> Iterator[_Group]:
    """Groups of at least 16 pieces and `largest` records, if there are so many, for ever.

    The order in which they are made up goes round the chunks, a piece of each in a round, so the
    pieces of a group are of different chunks. Each epoch has its own order of the groups, which
    stay as they are: read together, their pieces lie evenly over the workers.
    """
    chunks = np.array([chunk for chunk, _ in pieces])
    lengths = [len(rows) for _, rows in pieces]
    enough = max(LEAST_CHUNKS, -(-largest * len(pieces) // sum(lengths)))
    shuffled = np.random.default_rng([seed, 2]).permutation(len(pieces))
    order = shuffled[np.argsort(_occurrence(chunks[shuffled]), kind="stable")]
    cuts = np.array_split(order, max(1, len(pieces) // enough))
    groups = [_Group(group.tolist(), [lengths[piece] for piece in group]) for group in cuts]
    for epoch in range(2**31):
        for number in np.random.default_rng([seed, 4, epoch]).permutation(len(groups)):
            yield groups[number]


def _occurrence(chunks: Array) -> Array:
    """How often the chunk of each entry occurred before it."""
    order = np.argsort(chunks, kind="stable")
    ordered = chunks[order]
    first = np.searchsorted(ordered, ordered, side="left")
    result = np.empty(len(chunks), int)
    result[order] = np.arange(len(chunks)) - first
    return result


def _sums(
    local_step: Callable[[Array], Statistics],
    add: Callable[[Branches], Branches],
    rows: dict[int, tuple[int, Array]],
    *held: list[Array],
) -> Branches:
    """The sums over the `rows` of pieces that are held in lists, by the place of each among the shares."""
    pieces = list(chain.from_iterable(held))
    sums: Branches = {}
    for place, (at, chosen) in rows.items():
        sums[0, place] = local_step(pieces[at] if len(chosen) == len(pieces[at]) else pieces[at][chosen])
    return add(sums)


def _added(n_shares: int, *branches: Branches) -> Branches:
    return add_branches({place: each for some in branches for place, each in some.items()}, n_shares)


def _by_tasks(
    local: Callable[..., Branches], add: Callable[..., Branches], calls: list[tuple[Any, list[Run]]]
) -> list[Branches]:
    """The sums of all `calls`, by tasks that bring all that is needed along: a task's result has one worker alone."""
    sums = [
        delayed(partial(local, rows), pure=False, traverse=False)(*(run.held for run in runs)) for rows, runs in calls
    ]
    while len(sums) > _FAN_IN:
        sums = [delayed(add, pure=False)(*sums[i : i + _FAN_IN]) for i in range(0, len(sums), _FAN_IN)]
    return at_once(sums)[0]
