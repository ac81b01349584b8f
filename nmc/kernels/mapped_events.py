"""Irregular synapses of core tables as rows: what the messages of a slot add, one synapse behind the other.

The pairs of a slot lead to fans, and fans to runs: made for convolutions, whose fans and weights are
shared. Where runs are short, a message would spend more time on finding synapses than on adding
them; here such pairs of all cores are laid out once, slot by slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.kernels.compiled import compiled
from nmc.kernels.mapped_tables import MappedProgram, Tables
from nmc.kernels.packed_rows import pack

_SHORT = 4
"""Synapses of an average run below which rows are faster."""

_MOST = 1 << 26
"""Synapses that are laid out at most: half a gigabyte."""


class Rows(NamedTuple):
    """Streams of synapses; those of a stream have one delay, and slices with one window.

    Attributes:
        delay: (streams,); ``piece``: (streams,) a slice with the window of the targets.
        start: (streams, slots + 1) first synapse of each slot.
        into: (S,) accumulator, unsigned: it needs no test for negative ones; ``weight``: (S,) int16 or int64.
        packed: (S,) both, in place of them, where they fit: `nmc.kernels.packed_rows.pack`.
    """

    delay: IndexArray
    piece: IndexArray
    start: IndexArray
    into: NDArray[np.uint32]
    weight: Array
    packed: NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Events:
    """A program's tables, split.

    Attributes:
        rows: synapses laid out.
        rest: the tables with the pairs that are not.
        meets: (slots, cluster, synapses) of each laid-out pair, and its stream.
    """

    rows: Rows
    rest: Tables
    meets: tuple[IndexArray, IndexArray, IndexArray, IndexArray]

    def synops(self, delivered: IndexArray, clusters: int) -> IndexArray:
        """Synaptic operations by cluster of the messages that (streams, slots) say were delivered."""
        slot, cluster, weights, stream = self.meets
        # Sums of integers, exact in float64 as long as they are below 2^53.
        found = np.bincount(cluster, weights=delivered[stream, slot] * weights, minlength=clusters)
        return np.rint(found).astype(np.int64)


@compiled()
def _lengths(tables, total):
    """Weights in the runs of each fan."""
    for f in range(tables.fans.shape[0]):
        for r in range(tables.fans[f, 2], tables.fans[f, 3]):
            total[f] += tables.runs[r, 2]


@compiled()
def _lay(tables, pairs, into, weight):
    """The synapses of some pairs, one behind the other; zeros are left out of nothing."""
    at = 0
    for p in pairs:
        fan = tables.pairs[p, 0]
        for r in range(tables.fans[fan, 2], tables.fans[fan, 3]):
            first, stored = tables.pairs[p, 1] + tables.runs[r, 0], tables.pairs[p, 2] + tables.runs[r, 1]
            for i in range(tables.runs[r, 2]):
                into[at], weight[at] = first + i, tables.weight[stored + i]
                at += 1


def lay_events(program: MappedProgram) -> Events:
    """Lay out the pairs whose runs are short."""
    tables = program.tables
    fans, pairs, count = tables.fans, tables.pairs, len(program.neurons)
    lengths = np.zeros(len(fans), dtype=np.int64)
    _lengths(tables, lengths)
    short = lengths < _SHORT * np.maximum(fans[:, 3] - fans[:, 2], 1)
    of_pair = lengths[pairs[:, 0]]
    chosen = short[pairs[:, 0]]
    if of_pair[chosen].sum() > _MOST:
        chosen[:] = False
    delay, slot = _owners(tables, count)
    windows, window = np.unique(tables.slices[:, [3, 5]], axis=0, return_inverse=True)
    streams = len(windows) * len(tables.delays)
    stream = delay * len(windows) + window.reshape(-1)[fans[pairs[:, 0], 0]]
    order = np.flatnonzero(chosen)
    order = order[np.lexsort((slot[order], stream[order]))]
    into = np.zeros(int(of_pair[order].sum()), dtype=np.uint32)
    weight = np.zeros(len(into), dtype=tables.weight.dtype)
    _lay(tables, order, into, weight)
    key = stream[order] * count + slot[order]
    ends = np.concatenate([[0], np.cumsum(np.bincount(key, weights=of_pair[order], minlength=streams * count))])
    start = np.stack([ends[n * count : (n + 1) * count + 1] for n in range(streams)]).astype(np.int64)
    pieces = np.array([np.flatnonzero(window.reshape(-1) == n)[0] for n in range(len(windows))], dtype=np.int64)
    packed = pack(into, weight)
    if len(packed) > 0:
        into, weight = into[:0], weight[:0]
    delays = np.repeat(tables.delays, len(windows))
    rows = Rows(delays, np.tile(pieces, len(tables.delays)), start, into, weight, packed)
    meets = (slot[order], fans[pairs[order, 0], 1].astype(np.int64), pairs[order, 3].astype(np.int64), stream[order])
    return Events(rows, _rest(tables, chosen, delay, slot, count), meets)


def _owners(tables: Tables, count: int) -> tuple[IndexArray, IndexArray]:
    """Number of the delay, and slot, of each pair."""
    slots = [np.repeat(np.arange(count), np.diff(starts)) for starts in tables.pair_start]
    delays = [np.full(len(found), number) for number, found in enumerate(slots)]
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([none, *delays]), np.concatenate([none, *slots])


def _rest(tables: Tables, chosen: NDArray[np.bool_], delay: IndexArray, slot: IndexArray, count: int) -> Tables:
    """The tables without the chosen pairs."""
    if not chosen.any():
        return tables
    kept = np.bincount((delay * count + slot)[~chosen], minlength=len(tables.delays) * count)
    ends = np.concatenate([[0], np.cumsum(kept)])
    starts = [ends[n * count : (n + 1) * count + 1] for n in range(len(tables.delays))]
    start = np.array(starts, dtype=np.int32).reshape(len(tables.delays), count + 1)
    return tables._replace(pairs=np.ascontiguousarray(tables.pairs[~chosen]), pair_start=start)
