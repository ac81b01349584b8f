"""What macro-nodes take of a core besides axons: synapse memory, constant axons and thresholds.

Kernels, headers of axon entries, constant axons and thresholds are held once by a core, however
many pixels of a layer it has: they are nets without spikes. Headers are counted for as many slices
as a layer usually has on a core; the cores that are made of the parts are counted exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nmc.ir.connectivity import Conv2d, Dense, IndexArray, Pool, Sparse, size
from nmc.ir.network import Projection
from nmc.passes.partition.assemble import on_host
from nmc.passes.partition.demand import AXON_BITS, DemandModel, digit_counts, index_bits, profiles_of
from nmc.passes.partition.units import IN_AXONS, PROFILES, SYNAPSE_BITS, Unit

SLICES = 2
"""Boxes in which a layer lies on a core, as a rule."""


class Held(NamedTuple):
    """Something that a core holds once for all of some nodes.

    Attributes:
        resource: index of the limit.
        amount: of it.
        pins: the nodes.
    """

    resource: int
    amount: int
    pins: IndexArray


def memory(model: DemandModel, units: tuple[Unit, ...], sizes: IndexArray) -> list[Held]:
    """Adds to ``sizes`` (nodes, resources) what each node takes alone; returns what nodes share."""
    held: list[Held] = []
    profiles: dict[tuple[object, ...], list[IndexArray]] = {}
    for unit in units:
        if on_host(unit.population):
            continue
        for chunk in range(unit.grid[0]):
            nodes = unit.first + chunk * unit.grid[1] + np.arange(unit.grid[1])
            for profile in profiles_of(unit.population, unit.slab(chunk)):
                profiles.setdefault(profile, []).append(nodes)
            for projection in model.network.incoming[unit.population.name]:
                held.extend(_projection(model, projection, unit, chunk, nodes, sizes))
    held.extend(Held(PROFILES, 1, np.concatenate(pins)) for pins in profiles.values())
    return held


def _projection(
    model: DemandModel, projection: Projection, unit: Unit, chunk: int, nodes: IndexArray, sizes: IndexArray
) -> Iterator[Held]:
    """What a projection into one chunk of channels needs."""
    operator, target = projection.connectivity, model.target
    box = unit.slab(chunk)
    channels = np.arange(*box[0])
    bits = target.weights.bits
    index = index_bits(target.core.neurons)
    if isinstance(operator, Dense):
        rows = (operator.weight != 0).reshape(unit.population.shape[0], -1)[channels]
        sizes[nodes, SYNAPSE_BITS] += int(rows.sum()) * (bits + index) // len(nodes)
        yield Held(SYNAPSE_BITS, operator.weight.shape[1] * AXON_BITS * SLICES, nodes)
    elif isinstance(operator, Sparse) and len(nodes) == 1:
        # One place: a chunk is a node, and its axons are those of its own synapses.
        heard = operator.indices[np.isin(operator.rows, channels) & (operator.weight != 0)]
        sizes[nodes, SYNAPSE_BITS] += len(heard) * (bits + index) + len(np.unique(heard)) * AXON_BITS
    elif isinstance(operator, Sparse):
        inside = np.isin(operator.row_channel(), channels) & (operator.weight != 0)
        fed, read = operator.rows[inside] % len(nodes), operator.indices[inside] % size(operator.in_shape[1:])
        sizes[nodes, SYNAPSE_BITS] += np.bincount(fed, minlength=len(nodes)) * (bits + index)
        # The channels of a place that is read have an axon each, once for all places of a box that read it.
        pairs = np.unique(read * len(nodes) + fed)
        first = np.flatnonzero(np.diff(pairs // len(nodes), prepend=-1))
        for readers in np.split(pairs % len(nodes), first[1:]) if len(pairs) else ():
            yield Held(SYNAPSE_BITS, len(channels) * AXON_BITS, nodes[readers])
    else:
        weight = operator.as_conv().weight if isinstance(operator, Pool) else operator.weight
        used = int(np.count_nonzero(weight[channels]))
        if target.weights.shared:
            yield Held(SYNAPSE_BITS, used * bits, nodes)
            yield Held(SYNAPSE_BITS, heard_channels(projection, len(channels)) * AXON_BITS * SLICES, nodes)
        else:
            taps = used if isinstance(operator, Conv2d | Pool) else len(channels)
            sizes[nodes, SYNAPSE_BITS] += taps * (bits + index + AXON_BITS)
    bias = model.biases[projection.name]
    if bias is not None:
        digits, entries = digit_counts(bias[tuple(slice(*axis) for axis in box)])
        sizes[nodes, SYNAPSE_BITS] += -(-entries // len(nodes)) * (bits + index)
        yield Held(IN_AXONS, digits, nodes)
        yield Held(SYNAPSE_BITS, digits * AXON_BITS, nodes)


def heard_channels(projection: Projection, channels: int) -> int:
    """Source channels that so many neighbouring output channels read at most."""
    operator = projection.connectivity
    if isinstance(operator, Conv2d):
        per_group = operator.weight.shape[0] // operator.groups
        heard: int = min(operator.in_shape[0], operator.weight.shape[1] * -(-channels // per_group))
        return heard
    return channels
