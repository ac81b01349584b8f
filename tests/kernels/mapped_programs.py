"""Small mapped programs with sums that can be followed by hand."""

import numpy as np

from nmc.ir.connectivity import Dense
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Place, Route, Routed, Slice, whole
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Graded, GradedReLU, Integrator, Source
from nmc.ir.origin import Origin

ORIGIN = Origin("node", "Gemm", "y")


def lif(threshold, **options):
    zero = np.zeros((), dtype=np.int64)
    return LIF(np.asarray(threshold), zero, zero, zero, **options)


def integrator():
    zero = np.zeros((), dtype=np.int64)
    return Integrator(zero, zero, zero)


def chain(weights, neurons, *, timesteps=4, shifts=None, biases=None, signed=True):
    """Source -> one population per weight matrix, all dense, delay 1."""
    populations = [Population("x", (weights[0].shape[1],), Source(16, signed), ORIGIN)]
    projections = []
    for i, (weight, neuron) in enumerate(zip(weights, neurons, strict=True)):
        before = populations[-1]
        target = Population(f"p{i}", (weight.shape[0],), neuron, ORIGIN, before.start + 1)
        shift = np.asarray(shifts[i] if shifts else 0)
        bias = None if biases is None else np.asarray(biases[i])
        dense = Dense(weight, before.shape, target.shape)
        projections.append(
            Projection(f"{before.name}>{target.name}", before.name, target.name, dense, ORIGIN, 1, shift, bias)
        )
        populations.append(target)
    spec = InputSpec("x", populations[0].shape, 1.0, -(2**15), 2**15)
    outputs = (OutputSpec(populations[-1].name, np.ones(()), populations[-1].shape),)
    scales = {p.name: np.ones(1) for p in populations}
    return Network("chain", tuple(populations), tuple(projections), (spec,), outputs, timesteps, scales)


def one_core_each(network):
    """Every population on its own core, in a row; the source on the host at (0, 0)."""
    ids = {p.name: HOST if isinstance(p.neuron, Source) else i for i, p in enumerate(network.populations)}
    places = {number: Place(0, max(number, 0), 0) for number in ids.values()}
    clusters = tuple(
        Cluster(
            ids[p.name],
            (Slice(p.name, (whole(p.shape)[0],)),),
            tuple(
                AxonGroup(q.name, 0, (whole(network.by_name[q.source].shape),), q.delay)
                for q in network.incoming[p.name]
            ),
            (p.origin,),
        )
        for p in network.populations
    )
    routes = tuple(
        Route(
            ids[q.source],
            0,
            (whole(network.by_name[q.source].shape),),
            ids[q.target],
            tuple((x, 0) for x in range(max(ids[q.source], 0), ids[q.target] + 1)),
        )
        for q in network.projections
    )
    return Routed(network, clusters, {}, places, routes)


def graded_chain(weights, **options):
    neurons = [GradedReLU()] * (len(weights) - 1) + [Graded()]
    return chain(weights, neurons, timesteps=1, **options)
