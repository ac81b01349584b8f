"""The graph of single neurons: irregular and recurrent connections, one net per sending neuron."""

from __future__ import annotations

import numpy as np

from nmc.hardware.target import CoreLimits
from nmc.ir.connectivity import Array, IndexArray
from nmc.kernels.partition_graph import graph_of
from nmc.passes.partition.macro import MacroGraph, limits_of
from nmc.passes.partition.units import IN_AXONS, NEURONS, RESOURCES


def neuron_graph(
    source: IndexArray, target: IndexArray, rates: Array, limits: CoreLimits, *, own_core: bool = False
) -> MacroGraph:
    """The graph of some neurons; its nodes are the neurons.

    Args:
        source: (synapses,) neuron that sends, ascending; pairs are distinct.
        target: (synapses,) neuron that hears.
        rates: (neurons,) messages of each.
        limits: of a core: neurons and input axons count.
        own_core: whether a packet to the sender's own core counts.
    """
    neurons = len(rates)
    itself = source == target
    own = np.zeros(neurons, dtype=np.bool_)
    own[source[itself]] = True
    source, target = source[~itself], target[~itself]
    senders = np.flatnonzero(own | (np.bincount(source, minlength=neurons) > 0))
    starts = np.searchsorted(source, np.append(senders, neurons)).astype(np.int64)
    sizes = np.zeros((neurons, len(RESOURCES)), dtype=np.int64)
    sizes[:, NEURONS] = 1
    graph = graph_of(
        sizes,
        senders.astype(np.int32),
        rates[senders],
        # Where a neuron hears itself, the packet to its own core is a constant.
        own[senders] | (not own_core),
        own[senders],
        np.full(len(senders), IN_AXONS, dtype=np.int64),
        np.ones(len(senders), dtype=np.int64),
        starts,
        target.astype(np.int32),
    )
    return MacroGraph((), graph, limits_of(limits))
