"""A recurrent reservoir on cores, step by step: 10,000 leaky neurons, a million synapses, about 5 % of them firing.

    python benchmarks/reservoir.py [--neurons 10000] [--fan-out 100] [--cores 40] [--timesteps 2000] [--repeats 5]

Random synapses, seeded; every neuron has a bias of its own that makes it fire every twentieth step or so.
Prints steps per second of one thread by processor time, the firing rate, and whether a shorter run of a
smaller reservoir equals the reference interpreter. Brian2 is run on the same synapses where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import sys
import time

import numpy as np

from nmc.ir import reference
from nmc.ir.connectivity import Dense, sparse_from_synapses
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Place, Route, Routed, Slice, whole
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Integrator, Source
from nmc.ir.origin import Origin
from nmc.kernels.mapped import execute_mapped
from nmc.kernels.mapped_tables import build_tables

ORIGIN = Origin("reservoir", "RNN", "y")


def network_of(neurons: int, fan_out: int, timesteps: int, seed: int = 0) -> Network:
    """One input, the reservoir, and a read-out of ten neurons."""
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(neurons), fan_out)
    target = rng.integers(0, neurons, len(source))
    weight = rng.integers(-20, 21, len(source))
    shape = (neurons,)
    loop = sparse_from_synapses(target, source, weight, shape, shape)
    lif = LIF(
        threshold=np.asarray(1000),
        bias_mant=rng.integers(1500, 5100, shape),
        bias_exp=np.asarray(0),
        v0=rng.integers(0, 64000, shape),
        du=1024,
        dv=128,
    )
    populations = (
        Population("in", (1,), Source(8), ORIGIN, on_host=True),
        Population("reservoir", shape, lif, ORIGIN, start=1),
        Population("out", (10,), Integrator(*(np.zeros((), dtype=np.int64) for _ in range(3))), ORIGIN, start=2),
    )
    projections = (
        Projection("in>reservoir", "in", "reservoir", Dense(rng.integers(-9, 10, (neurons, 1)), (1,), shape), ORIGIN),
        Projection("loop", "reservoir", "reservoir", loop, ORIGIN),
        Projection("read", "reservoir", "out", Dense(rng.integers(-9, 10, (10, neurons)), shape, (10,)), ORIGIN),
    )
    spec = InputSpec("in", (1,), 1.0, 0, 255)
    return Network(
        "reservoir",
        populations,
        projections,
        (spec,),
        (OutputSpec("out", np.ones(()), (10,)),),
        timesteps,
        {p.name: np.ones(()) for p in populations},
    )


def mapping_of(network: Network, cores: int) -> Routed:
    """Neurons in order on cores of equal size; every core hears all of them."""
    count = network.by_name["reservoir"].neurons
    edges = np.linspace(0, count, cores + 1).astype(int)
    pieces = [Slice("reservoir", ((int(a), int(b), 1),)) for a, b in itertools.pairwise(edges)]
    groups = (AxonGroup("in>reservoir", 0, (whole((1,)),), 1), AxonGroup("loop", 0, (whole((count,)),), 1))
    clusters = [Cluster(HOST, (Slice("in", whole((1,))),), (), (ORIGIN,))]
    clusters += [Cluster(number, (piece,), groups, (ORIGIN,)) for number, piece in enumerate(pieces)]
    read = AxonGroup("read", 0, (whole((count,)),), 1)
    clusters.append(Cluster(cores, (Slice("out", whole((10,))),), (read,), (ORIGIN,)))
    places = {HOST: Place(0, 0, 0), **{number: Place(0, number % 8, number // 8) for number in range(cores + 1)}}
    routes = [Route(HOST, 0, (whole((1,)),), number) for number in range(cores)]
    routes += [
        Route(number, 0, (piece.box,), other) for number, piece in enumerate(pieces) for other in range(cores + 1)
    ]
    return Routed(network, tuple(clusters), places=places, routes=tuple(routes))


def equals_reference() -> bool:
    """Whether a small reservoir on cores is the reference, spike by spike."""
    network = network_of(200, 20, 60)
    program, sample = build_tables(mapping_of(network, 3)), np.array([[7]])
    run = execute_mapped(program, sample, keep_messages=True)
    trace = reference.run(network, sample[0])
    slots = program.slots_by_population["reservoir"]
    wanted = trace.messages["reservoir"].reshape(60, -1)[:, program.neurons[slots]]
    return run.messages is not None and np.array_equal(run.messages[0][:, slots], wanted)


def main() -> int:
    """Print the speed; 1 where a result differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("neurons", 10000), ("fan-out", 100), ("cores", 40), ("timesteps", 2000), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    network = network_of(arguments.neurons, arguments.fan_out, arguments.timesteps)
    program = build_tables(mapping_of(network, arguments.cores))
    execute_mapped(program, np.array([[0]]), threads=1)
    seconds, rates = [], []
    for number in range(arguments.repeats):
        begin = time.process_time()
        run = execute_mapped(program, np.array([[number + 1]]), threads=1)
        seconds.append(time.process_time() - begin)
        rates.append(run.fired.sum() / (arguments.neurons * arguments.timesteps))
    equal = equals_reference()
    steps = arguments.timesteps / statistics.median(seconds)
    synapses = len(network.projections[1].connectivity.weight)
    print(
        f"{arguments.neurons:,} neurons, {synapses:,} synapses, {100 * statistics.median(rates):.1f} % firing: "
        f"{steps:,.0f} steps/s, {steps * synapses * statistics.median(rates) / 1e6:,.0f} M events/s, "
        f"small one equal to the reference: {equal}"
    )
    for rival in ("brian2", "nest"):
        if importlib.util.find_spec(rival) is None:
            print(f"{rival}: not run (not installed)")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
