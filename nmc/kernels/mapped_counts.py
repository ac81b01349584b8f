"""What the messages of a run did on the mesh: packets and links by cluster.

Slots of a slice that send to the same cluster mostly follow each other. What such a stretch of slots sent is a
difference of two running totals, so that all destinations of a large network are counted in no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.kernels.mapped_tables import MappedProgram


@dataclass(frozen=True, eq=False)
class Stretches:
    """Slots in a row whose packets go one way.

    Attributes:
        first, end: (R,) slots: the first, and the first that is not in the stretch.
        source, destination: (R,) positions of the clusters.
        hops_ew, hops_ns: (R,) links that a packet crosses.
    """

    first: IndexArray
    end: IndexArray
    source: IndexArray
    destination: IndexArray
    hops_ew: IndexArray
    hops_ns: IndexArray


@dataclass(frozen=True, eq=False)
class MeshCounts:
    """What was counted, by position of the cluster (clusters,) where nothing else is said.

    Attributes:
        sent: packets that leave a cluster; ``received``: those that arrive there.
        spikes: messages of its neurons; ``active``: updates of them that changed something.
        by_slice: (slices,) messages.
        hops_ew, hops_ns: links crossed, of all.
    """

    sent: IndexArray
    received: IndexArray
    spikes: IndexArray
    active: IndexArray
    by_slice: IndexArray
    hops_ew: int
    hops_ns: int


def lay_stretches(program: MappedProgram) -> Stretches:
    """The destinations of a program, packets only, as stretches."""
    ways = program.destinations
    kept = np.flatnonzero(ways.packet)
    kept = kept[np.lexsort((ways.slot[kept], ways.cluster[kept]))]
    slot = ways.slot[kept]
    source = program.tables.slices[program.slice_of[slot], 4]
    columns = (source, ways.cluster[kept], ways.hops_ew[kept], ways.hops_ns[kept])
    breaks = np.diff(slot) != 1
    for column in columns:
        breaks |= np.diff(column) != 0
    first = np.flatnonzero(np.concatenate([np.ones(min(len(slot), 1), dtype=np.bool_), breaks]))
    last = np.append(first, len(slot))[1:] - 1
    return Stretches(slot[first], slot[last] + 1, *(column[first] for column in columns))


def mesh_counts(program: MappedProgram, fired: IndexArray, changed: IndexArray) -> MeshCounts:
    """The counts of a run.

    Args:
        program: the mapping.
        fired: (slots,) messages of each.
        changed: (slices,) updates that changed something.
    """
    before, ways = np.concatenate([[0], np.cumsum(fired)]), program.stretches
    packets = before[ways.end] - before[ways.first]
    first, count, cluster = program.tables.slices[:, [0, 1, 4]].T
    by_slice = before[first + count] - before[first]

    def total(group: IndexArray, values: IndexArray) -> IndexArray:
        totals = np.zeros(len(program.clusters), dtype=np.int64)
        np.add.at(totals, group, values)
        return totals

    return MeshCounts(
        total(ways.source, packets),
        total(ways.destination, packets),
        total(cluster, by_slice),
        total(cluster, changed),
        by_slice,
        int((packets * ways.hops_ew).sum()),
        int((packets * ways.hops_ns).sum()),
    )
