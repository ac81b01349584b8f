"""The limits of every core, recounted from slices, axons and routes (docs/formats.md section 3)."""

from __future__ import annotations

import math

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, Conv2d, Pool, Skip
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import HOST, Box, Cluster, region_mask
from nmc.ir.network import Population, Projection
from nmc.ir.neurons import IF, LIF, Burst, Integrator, SigmaDelta, Signed
from nmc.passes.check.coverage import Mask, Reaches, heard
from nmc.passes.check.structure import Parts


def core_counts(parts: Parts, reaches: Reaches, target: Target) -> dict[int, dict[str, int]]:
    """By cluster id, what each core holds of each limit; the host has no limits and is left out."""
    sent: dict[int, int] = {}
    for route in parts.routes:
        source = parts.clusters[route.source].slices[route.slice]
        neurons = int(region_mask(route.region, parts.network.by_name[source.population].shape).sum())
        sent[route.source] = sent.get(route.source, 0) + neurons
    counts: dict[int, dict[str, int]] = {}
    for cluster in parts.routed.clusters:
        if cluster.id == HOST:
            continue
        constants = _constant_axons(parts, cluster)
        axons = sum(int(mask.sum()) for mask in heard(parts, cluster.id).values())
        counts[cluster.id] = {
            "neurons": cluster.neurons,
            "in_axons": axons + sum(digits for digits, _ in constants.values()),
            "out_axons": sent.get(cluster.id, 0),
            "synapse_bits": _synapse_bits(parts, reaches, target, cluster, constants),
            "threshold_profiles": len(_profiles(parts, cluster)),
        }
    return counts


def check_limits(parts: Parts, reaches: Reaches, target: Target, sink: DiagnosticSink) -> None:
    """No core exceeds a limit of the target."""
    for number, counts in core_counts(parts, reaches, target).items():
        origins = parts.clusters[number].origins
        for name, count in counts.items():
            limit = getattr(target.core, name)
            if limit is not None and count > limit:
                sink.error(
                    "mapping-limit",
                    f"core {number} has {name} = {count}, {count - limit} over the limit of {limit}",
                    origin=origins[0] if origins else None,
                )


def _slice_bias(projection: Projection, population: Population, box: Box) -> Array | None:
    if projection.bias is None:
        return None
    shape = projection.connectivity.out_shape
    bias = projection.bias
    if bias.ndim == 1 and bias.size == shape[0] and len(shape) > 1:
        bias = np.repeat(bias, math.prod(shape[1:]))
    every = bias.reshape(-1) if bias.size > 1 else np.full(population.neurons, bias.item())
    return every.reshape(population.shape)[tuple(slice(*axis) for axis in box)]


def _constant_axons(parts: Parts, cluster: Cluster) -> dict[str, tuple[int, int]]:
    """By projection with a bias: constant axons, and their synapses (non-zero base-127 digits)."""
    constants: dict[str, tuple[int, int]] = {}
    for _, population, box in parts.slices(cluster):
        for projection in parts.network.incoming[population.name]:
            bias = _slice_bias(projection, population, box)
            if bias is None:
                continue
            digits, synapses = constants.get(projection.name, (0, 0))
            for value, times in zip(*np.unique(np.abs(bias).round(), return_counts=True), strict=True):
                spelled = _base127(int(value))
                digits = max(digits, len(spelled))
                synapses += int(times) * sum(digit != 0 for digit in spelled)
            constants[projection.name] = (digits, synapses)
    return constants


def _base127(value: int) -> list[int]:
    digits = []
    while value:
        value, digit = divmod(value, 127)
        digits.append(digit)
    return digits


def _synapse_bits(
    parts: Parts, reaches: Reaches, target: Target, cluster: Cluster, constants: dict[str, tuple[int, int]]
) -> int:
    width = target.weights.bits
    index = math.ceil(math.log2(cluster.neurons)) if cluster.neurons > 1 else 0
    kernels: dict[str, Mask] = {}
    bits = sum(digits * 64 + synapses * (width + index) for digits, synapses in constants.values())
    for (number, _, name), found in reaches.items():
        if number != cluster.id:
            continue
        if target.weights.shared and found.kernel is not None:
            kernels[name] = kernels[name] | found.kernel if name in kernels else found.kernel
        else:
            bits += int(found.per_source.sum()) * (width + index)
    bits += sum(int(mask.sum()) * width for mask in kernels.values())
    for axon in parts.axons[cluster.id]:
        projection = parts.projections[axon.projection]
        covered = region_mask(axon.region, parts.network.by_name[projection.source].shape)
        is_kernel = isinstance(projection.connectivity, Conv2d | Pool | Skip)
        if target.weights.shared and is_kernel:
            bits += 64 * sum(bool(channel.any()) for channel in covered)
        else:
            bits += 64 * int(covered.sum())
    return bits


def _profiles(parts: Parts, cluster: Cluster) -> set[tuple[object, ...]]:
    profiles: set[tuple[object, ...]] = set()
    for _, population, box in parts.slices(cluster):
        neuron = population.neuron
        if isinstance(neuron, Integrator):
            profiles.add(("no threshold",))
        elif isinstance(neuron, LIF | IF):
            here = tuple(slice(*axis) for axis in box)
            uppers = np.broadcast_to(neuron.threshold, population.shape)[here].reshape(-1).tolist()
            fire = neuron.fire
            rule: tuple[object, ...] = (neuron.reset, fire.levels if isinstance(fire, Burst) else 1)
            lowers = [0] * len(uppers)
            if isinstance(fire, Signed):
                rule = (*rule, fire.guarded)
                lowers = np.broadcast_to(fire.lower, population.shape)[here].reshape(-1).tolist()
            decay = (neuron.du, neuron.dv, neuron.refractory) if isinstance(neuron, LIF) else ()
            profiles |= {(*pair, *rule, *decay) for pair in zip(uppers, lowers, strict=True)}
        elif isinstance(neuron, SigmaDelta):
            values = np.broadcast_to(neuron.threshold, population.shape)[tuple(slice(*axis) for axis in box)]
            profiles |= {(value,) for value in values.reshape(-1).tolist()}
    return profiles
