"""A small convolutional network for `benchmarks/simulation.py`, and a mapping of one population per core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.ir.connectivity import Connectivity, Conv2d, Dense
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Place, Route, Routed, Slice, whole
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Integrator, Source
from nmc.ir.origin import Origin
from nmc.kernels.layerwise import execute_network

ORIGIN = Origin("reference", "Conv", "y")
RATE = 0.1
"""Spikes per neuron and step that the thresholds are set for."""


def reference_network(images: np.ndarray, timesteps: int = 32) -> Network:
    """28 x 28 in, 8, 16 and 32 channels (25,088 neurons), the last behind an average pooling, ten read-outs.

    Random weights of 8 bits; the pooling is part of the third convolution, as a compiler leaves it.

    Args:
        images: (N, 1, 28, 28) bytes that decide the thresholds.
        timesteps: T.
    """
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-90, 110, size=shape)

    pooled = np.repeat(np.repeat(weights(32, 16, 3, 3), 2, axis=2), 2, axis=3)
    # Bytes meet the first weights, and many the last: smaller ones, so that no sum leaves the chip's range.
    operators: list[Connectivity] = [Conv2d(weights(8, 1, 3, 3) // 5, (1, 28, 28), pads=(1, 1, 1, 1))]
    operators.append(Conv2d(weights(16, 8, 3, 3), (8, 28, 28), pads=(1, 1, 1, 1)))
    operators.append(Conv2d(pooled, (16, 28, 28), stride=(2, 2), pads=(2, 2, 2, 2)))
    operators.append(Dense(weights(10, 32 * 14 * 14) // 10, (32, 14, 14), (10,)))
    zero = np.zeros((), dtype=np.int64)
    populations = [Population("in", (1, 28, 28), Source(8), ORIGIN, on_host=True)]
    projections: list[Projection] = []
    network = None
    for number, operator in enumerate(operators, start=1):
        last = number == len(operators)
        neuron = Integrator(zero, zero, zero) if last else LIF(np.asarray(1000), zero, zero, zero)
        populations.append(Population(f"p{number}", operator.out_shape, neuron, ORIGIN, start=number))
        projections.append(Projection(f"q{number}", populations[-2].name, f"p{number}", operator, ORIGIN))
        spec = InputSpec("in", (1, 28, 28), 1.0, 0, 255)
        output = OutputSpec(f"p{number}", np.ones(()), operator.out_shape)
        scales = {p.name: np.ones(()) for p in populations}
        network = Network("reference", tuple(populations), tuple(projections), (spec,), (output,), timesteps, scales)
        for _ in range(0 if last else 3):
            counts = execute_network(network, images.astype(np.int64), counts=True).counts[f"p{number}"]
            factor = max(float(counts.mean()) / timesteps, 1e-3) / RATE
            lif = populations[-1].neuron
            if isinstance(lif, LIF):
                lif = replace(lif, threshold=np.maximum(lif.threshold * factor, 1).astype(np.int64))
            populations[-1] = replace(populations[-1], neuron=lif)
            network = replace(network, populations=tuple(populations))
    if network is None:
        raise ValueError("a network has layers")
    return network


def one_core_each(network: Network) -> Routed:
    """A mapping with a core for each population: what a simulator runs, whatever a chip holds."""
    number = {p.name: HOST if p.on_host else n for n, p in enumerate(network.populations)}
    clusters, routes = [], []
    for population in network.populations:
        incoming = network.incoming[population.name]
        groups = tuple(AxonGroup(q.name, 0, (whole(network.by_name[q.source].shape),), q.delay) for q in incoming)
        piece = Slice(population.name, whole(population.shape))
        clusters.append(Cluster(number[population.name], (piece,), groups, (ORIGIN,)))
        for q in incoming:
            region = (whole(network.by_name[q.source].shape),)
            routes.append(Route(number[q.source], 0, region, number[population.name]))
    places = {n: Place(0, max(n, 0), 0) for n in number.values()}
    return Routed(network, tuple(clusters), places=places, routes=tuple(routes))
