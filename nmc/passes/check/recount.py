"""The limits of every core, recounted from slices, axons and routes (docs/formats.md section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, Conv2d, Pool, Shape, Skip
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Box, Cluster, box_size
from nmc.ir.network import Projection
from nmc.ir.neurons import IF, LIF, Burst, Integrator, SigmaDelta, Signed
from nmc.passes.check.coverage import Synapses
from nmc.passes.check.reach import Recount
from nmc.passes.check.routes import Held
from nmc.passes.check.structure import Parts
from nmc.passes.check.window import channels_of, region_size

AXON_ENTRY = 64
"""Bits of the header of an axon entry (docs/formats.md section 3)."""


def packets_sent(parts: Parts) -> dict[int, int]:
    """By cluster id: destination cores of its neurons, summed."""
    sent: dict[int, int] = {}
    for route in parts.routes:
        sent[route.source] = sent.get(route.source, 0) + region_size(route.region)
    return sent


def core_counts(
    parts: Parts, recount: Recount, target: Target, cluster: Cluster, synapses: Synapses, wanted: Held, sent: int
) -> dict[str, int]:
    """What a core holds of each limit.

    Args:
        parts: the mapping.
        recount: of its network.
        target: the chip.
        cluster: not the host's.
        synapses: of `check_synapses`.
        wanted: neurons that it hears.
        sent: destination cores of its neurons, summed.
    """
    constants = _constant_axons(parts, recount, cluster)
    axons = sum(int(np.count_nonzero(mask)) for _, mask in wanted.values())
    return {
        "neurons": cluster.neurons,
        "in_axons": axons + sum(digits for digits, _ in constants.values()),
        "out_axons": sent,
        "synapse_bits": _synapse_bits(parts, recount, target, cluster, synapses, constants),
        "threshold_profiles": len(_profiles(parts, cluster)),
    }


def check_limits(cluster: Cluster, counts: Mapping[str, int], target: Target, sink: DiagnosticSink) -> None:
    """A core exceeds no limit of the target."""
    for name, count in counts.items():
        limit = getattr(target.core, name)
        if limit is not None and count > limit:
            sink.error(
                "mapping-limit",
                f"core {cluster.id} has {name} = {count}, {count - limit} over the limit of {limit}",
                origin=cluster.origins[0] if cluster.origins else None,
            )


def _slice_bias(projection: Projection, shape: Shape, box: Box) -> tuple[Array, Box] | None:
    """The bias of the neurons of a box, one value of each axis along which it does not change, and its part."""
    if projection.bias is None:
        return None
    out_shape, bias = projection.connectivity.out_shape, projection.bias
    if bias.ndim == 1 and len(out_shape) > 1:
        bias = bias.reshape(-1, *(1,) * (len(out_shape) - 1))
    if out_shape != shape:
        bias = np.broadcast_to(bias, out_shape).reshape(shape)
    spread = (1,) * (len(shape) - bias.ndim) + bias.shape
    part = tuple((0, 1, 1) if n == 1 else axis for n, axis in zip(spread, box, strict=True))
    cut: Array = bias.reshape(spread)[tuple(slice(*axis) for axis in part)]
    return cut, part


def _constant_axons(parts: Parts, recount: Recount, cluster: Cluster) -> dict[str, tuple[int, int]]:
    """By projection with a bias: constant axons, and their synapses (non-zero base-127 digits)."""
    constants: dict[str, tuple[int, int]] = {}
    for _, population, box in parts.slices(cluster):
        for projection in parts.network.incoming[population.name]:
            sliced = _slice_bias(projection, population.shape, box)
            if sliced is None:
                continue
            bias, part = sliced
            digits, synapses = constants.get(projection.name, (0, 0))
            if (projection.name, part) not in recount.digits:
                recount.digits[projection.name, part] = _base127(np.abs(bias).round().astype(np.int64))
            longest, found = recount.digits[projection.name, part]
            constants[projection.name] = max(digits, longest), synapses + found * (box_size(box) // bias.size)
    return constants


def _base127(values: Array) -> tuple[int, int]:
    """Digits of the largest value, and non-zero digits of all of them."""
    digits = found = 0
    while values.any():
        values, last = np.divmod(values, 127)
        digits += 1
        found += int(np.count_nonzero(last))
    return digits, found


def _synapse_bits(
    parts: Parts,
    recount: Recount,
    target: Target,
    cluster: Cluster,
    synapses: Synapses,
    constants: Mapping[str, tuple[int, int]],
) -> int:
    width = target.weights.bits
    index = math.ceil(math.log2(cluster.neurons)) if cluster.neurons > 1 else 0
    shared = {
        name
        for name in synapses
        if target.weights.shared and isinstance(parts.projections[name].connectivity, Conv2d | Pool | Skip)
    }
    bits = sum(digits * AXON_ENTRY + single * (width + index) for digits, single in constants.values())
    bits += sum(count * (width + index) for name, count in synapses.items() if name not in shared)
    boxes: dict[str, list[Box]] = {}
    for _, population, box in parts.slices(cluster):
        boxes.setdefault(population.name, []).append(box)
    stored = (
        recount.stored(projection, boxes[projection.target])
        for projection in map(parts.projections.__getitem__, shared)
    )
    bits += sum(count * width for count in stored)
    for axon in parts.axons[cluster.id]:
        bits += AXON_ENTRY * (channels_of(axon.region) if axon.projection in shared else region_size(axon.region))
    return bits


def _profiles(parts: Parts, cluster: Cluster) -> set[tuple[object, ...]]:
    profiles: set[tuple[object, ...]] = set()
    for _, population, box in parts.slices(cluster):
        neuron = population.neuron
        if isinstance(neuron, Integrator):
            profiles.add(("no threshold",))
        elif isinstance(neuron, LIF | IF):
            fire = neuron.fire
            rule: tuple[object, ...] = (neuron.reset, fire.levels if isinstance(fire, Burst) else 1)
            lower: Array = np.zeros(())
            if isinstance(fire, Signed):
                rule, lower = (*rule, fire.guarded), fire.lower
            decay = (neuron.du, neuron.dv, neuron.refractory) if isinstance(neuron, LIF) else ()
            pairs = _distinct(population.shape, box, neuron.threshold, lower)
            profiles |= {(*pair, *rule, *decay) for pair in pairs}
        elif isinstance(neuron, SigmaDelta):
            profiles |= _distinct(population.shape, box, neuron.threshold)
    return profiles


def _distinct(shape: Shape, box: Box, *values: Array) -> set[tuple[object, ...]]:
    """Distinct tuples of some parameters over a box; each may be one value, or one along some axes."""
    full = np.broadcast_arrays(*values)
    spread = (1,) * (len(shape) - full[0].ndim) + full[0].shape
    cut = tuple(slice(0, 1) if n == 1 else slice(*axis) for n, axis in zip(spread, box, strict=True))
    columns = [array.reshape(spread)[cut].reshape(-1).tolist() for array in full]
    return set(zip(*columns, strict=True))
