"""Counts of finished clusters against the limits, as docs/formats.md section 3 defines them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.mapping import HOST, Cluster, Partitioned
from nmc.ir.network import Network
from nmc.passes.partition.demand import Mask, bias_of, digit_counts, profiles_of, synapse_bits
from nmc.passes.partition.geometry import Geometry, geometries
from nmc.passes.partition.limits import CoreUse
from nmc.passes.partition.traffic import destinations, heard_by, heard_of


def count_limits(
    cluster: Cluster,
    network: Network,
    target: Target,
    *,
    out_axons: int = 0,
    shapes: Mapping[str, Geometry] | None = None,
) -> CoreUse:
    """What a cluster takes of its core.

    Args:
        cluster: not the host's.
        network: the network that it is a part of.
        target: gives the widths, and whether weights are shared.
        out_axons: destination cores of its neurons, summed: a matter of the whole mapping.
        shapes: the geometries of the network, where the caller has them.
    """
    known = geometries(network) if shapes is None else shapes
    kernels: dict[str, Mask] = {}
    constants: dict[str, int] = {}
    synapses = 0
    profiles: set[tuple[object, ...]] = set()
    for piece in cluster.slices:
        population = network.by_name[piece.population]
        profiles |= profiles_of(population, piece.box)
        for projection in network.incoming[piece.population]:
            geometry = known[projection.name]
            if geometry.kernel and target.weights.shared:
                rows, used = geometry.stored(piece.box)
                held = kernels.setdefault(projection.name, np.zeros(geometry.stored_shape, dtype=np.bool_))
                held[rows] |= used
            else:
                synapses += geometry.synapses(piece.box)
            bias = bias_of(projection, population.shape, piece.box)
            if bias is not None:
                digits, entries = digit_counts(bias)
                constants[projection.name] = max(constants.get(projection.name, 0), digits)
                synapses += entries
    headers = _headers(cluster, target, known)
    constant_axons = sum(constants.values())
    heard = heard_by(Partitioned(network, (cluster,)), cluster)
    return CoreUse(
        neurons=cluster.neurons,
        in_axons=sum(int(np.count_nonzero(found.mask)) for found in heard.values()) + constant_axons,
        out_axons=out_axons,
        synapse_bits=synapse_bits(
            target,
            cluster.neurons,
            sum(int(mask.sum()) for mask in kernels.values()),
            synapses,
            headers + constant_axons,
        ),
        threshold_profiles=len(profiles),
    )


def _headers(cluster: Cluster, target: Target, shapes: Mapping[str, Geometry]) -> int:
    """Axon entries: source channels where the kernel is shared, source neurons where not."""
    headers = 0
    for axon in cluster.axons:
        mask = heard_of(axon.region).mask
        shared = shapes[axon.projection].kernel and target.weights.shared
        headers += int(mask.reshape(len(mask), -1).any(axis=1).sum()) if shared else int(np.count_nonzero(mask))
    return headers


def count_all(partitioned: Partitioned, target: Target) -> Mapping[int, CoreUse]:
    """The counts of every core, by cluster id; the host has no limits and is left out."""
    network = partitioned.network
    shapes = geometries(network)
    fan_out = destinations(partitioned)
    return {
        cluster.id: count_limits(
            cluster,
            network,
            target,
            out_axons=sum(
                int(fan_out[s.population][tuple(slice(*axis) for axis in s.box)].sum()) for s in cluster.slices
            ),
            shapes=shapes,
        )
        for cluster in partitioned.clusters
        if cluster.id != HOST
    }
