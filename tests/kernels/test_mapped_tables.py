"""Core tables hold exactly the synapses of the network, and only what the mapping names."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Route, Routed, Slice
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import Source
from nmc.kernels.mapped_runs import slice_neurons
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime.simulator import simulate
from nmc.testing.faults import plant_faults
from nmc.testing.random_networks import random_inputs, random_network
from tests.kernels.mapped_programs import ORIGIN, chain, integrator, lif, one_core_each
from tests.property.random_mapping import random_mapping


def listed(program):
    """(projection's ends, source neuron, target neuron, weight, delay) of every synapse in the tables."""
    t = program.tables
    found = Counter()
    group_of = np.repeat(np.arange(len(t.accumulators)), np.diff(np.append(t.accumulators[:, 0], len(t.constant))))
    slice_of_group = np.repeat(np.arange(len(t.slices)), np.diff(t.groups))
    owner = {
        int(s): program.populations[n].name for n, row in enumerate(t.slices) for s in range(row[0], row[0] + row[1])
    }
    for d, delay in enumerate(t.delays):
        for slot in range(len(program.neurons)):
            for p in range(t.pair_start[d, slot], t.pair_start[d, slot + 1]):
                fan, base, stored, nonzero = (int(v) for v in t.pairs[p])
                piece, _, first, last, _ = (int(v) for v in t.fans[fan])
                present = 0
                for begin, row, length in t.runs[first:last]:
                    for i in range(length):
                        weight = int(t.weight[stored + row + i])
                        if weight == 0:
                            continue
                        present += 1
                        group = group_of[base + begin + i]
                        assert slice_of_group[group] == piece
                        target = int(program.neurons[t.slices[piece, 0] + base + begin + i - t.accumulators[group, 0]])
                        ends = (owner[slot], program.populations[piece].name)
                        found[(*ends, int(program.neurons[slot]), target, weight, int(delay))] += 1
                assert present == nonzero
    return found


@pytest.mark.parametrize("seed", range(25))
def test_tables_hold_the_synapses_of_the_network(seed):
    network = random_network(seed)
    wanted = Counter()
    for q in network.projections:
        for target, source, weight in zip(*q.connectivity.synapses(), strict=True):
            wanted[(q.source, q.target, int(source), int(target), int(weight), q.delay)] += 1
    assert listed(build_tables(random_mapping(network, seed))) == wanted


def test_a_kernel_is_stored_once_and_its_rows_are_single_runs():
    conv = Conv2d(np.arange(1, 8 * 3 * 9 + 1).reshape(8, 3, 3, 3), (3, 6, 6), pads=(1, 1, 1, 1))
    populations = (
        Population("x", (3, 6, 6), Source(), ORIGIN),
        Population("y", (8, 6, 6), integrator(), ORIGIN, 1),
    )
    spec = InputSpec("x", (3, 6, 6), 1.0, 0, 255)
    outputs = (OutputSpec("y", np.ones(()), (8, 6, 6)),)
    projections = (Projection("x>y", "x", "y", conv, ORIGIN),)
    network = Network("conv", populations, projections, (spec,), outputs, 1, {})
    everything = ((0, 3, 1), (0, 6, 1), (0, 6, 1))
    tops = [((0, 8, 1), (a, a + 2, 1), (0, 6, 1)) for a in (0, 2, 4)]
    clusters = (
        Cluster(HOST, (Slice("x", everything),), (), (ORIGIN,)),
        *(
            Cluster(i, (Slice("y", box),), (AxonGroup("x>y", 0, (everything,), 1),), (ORIGIN,))
            for i, box in enumerate(tops)
        ),
    )
    routes = tuple(Route(HOST, 0, (everything,), i) for i in range(3))
    program = build_tables(Routed(network, clusters, {}, {}, routes))
    assert len(program.tables.weight) == conv.weight.size
    # 6 rows meet 3 kernel rows each, less the 2 beyond the border; columns join to runs of 3 or 2 x 8.
    assert len(program.tables.runs) == 6 * (6 * 3 - 2)
    assert set(program.tables.runs[:, 2].tolist()) == {16, 24}


def test_a_slice_counts_its_channels_fastest():
    order = slice_neurons(((0, 2, 1), (1, 3, 1), (0, 3, 2)), (2, 3, 3))
    assert order.tolist() == [3, 12, 5, 14, 6, 15, 8, 17]


def lively():
    """Two spiking layers and a read-out; every synapse and every message counts."""
    weights = [np.full((6, 4), 6), np.full((5, 6), 8), np.full((3, 5), 10)]
    return one_core_each(chain(weights, [lif(40), lif(60), integrator()], timesteps=5))


EVERYTHING = frozenset({"messages", "potentials"})
INPUT = np.array([[3, 5, 7, 9]])


def outcome(routed):
    run = simulate(routed, INPUT, trace=EVERYTHING)
    parts = [run.readout, *run.trace.messages.values(), *run.trace.potentials.values()]
    return np.concatenate([p.reshape(-1) for p in parts])


def with_cluster(routed, position, **changes):
    clusters = list(routed.clusters)
    clusters[position] = replace(clusters[position], **changes)
    return replace(routed, clusters=tuple(clusters))


def faults():
    """(name, mapping) where every one loses, delays or misleads messages."""
    routed = lively()
    for position in (1, 2, 3):
        cluster = routed.clusters[position]
        axon = cluster.axons[0]
        yield f"no axons {position}", with_cluster(routed, position, axons=())
        yield f"late {position}", with_cluster(routed, position, axons=(replace(axon, delay=2),))
        yield f"twice {position}", with_cluster(routed, position, axons=(axon, axon))
        ((start, stop, step),) = axon.region[0]
        yield (
            f"fewer {position}",
            with_cluster(routed, position, axons=(replace(axon, region=(((start, stop - 1, step),),)),)),
        )
        ((start, stop, step),) = cluster.slices[0].box
        shorter = Slice(cluster.slices[0].population, ((start + 1, stop, step),))
        yield f"short slice {position}", with_cluster(routed, position, slices=(shorter,))
    for i, route in enumerate(routed.routes):
        yield f"no route {i}", replace(routed, routes=(*routed.routes[:i], *routed.routes[i + 1 :]))
        ((start, stop, step),) = route.region[0]
        less = replace(route, region=(((start + 1, stop, step),),))
        yield f"stolen neuron {i}", replace(routed, routes=(*routed.routes[:i], less, *routed.routes[i + 1 :]))
        away = replace(route, destination=1 if route.destination != 1 else 2)
        yield f"wrong core {i}", replace(routed, routes=(*routed.routes[:i], away, *routed.routes[i + 1 :]))


@pytest.mark.parametrize(("name", "routed"), list(faults()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_fault_in_the_mapping_changes_what_happens(name, routed):
    assert not np.array_equal(outcome(routed), outcome(lively())), name


def test_a_route_to_a_core_without_axons_changes_nothing_but_packets():
    routed = lively()
    extra = Route(1, 0, (((0, 6, 1),),), 3, ((1, 0), (2, 0), (3, 0)))
    more = replace(routed, routes=(*routed.routes, extra))
    assert np.array_equal(outcome(more), outcome(routed))
    assert simulate(more, INPUT).counters.packets > simulate(routed, INPUT).counters.packets


def broken():
    routed = lively()
    axon = routed.clusters[2].axons[0]
    yield "unknown projection", with_cluster(routed, 2, axons=(replace(axon, projection="a>b"),))
    yield "no such slice", with_cluster(routed, 2, axons=(replace(axon, slice=1),))
    yield "another population's slice", with_cluster(routed, 2, axons=(AxonGroup("x>p0", 0, (((0, 4, 1),),), 1),))
    yield "neurons beyond the source", with_cluster(routed, 2, axons=(replace(axon, region=(((0, 7, 1),),)),))
    yield "no delay", with_cluster(routed, 2, axons=(replace(axon, delay=0),))
    yield "neurons beyond the population", with_cluster(routed, 2, slices=(Slice("p1", ((0, 6, 1),)),))
    yield "unknown population", with_cluster(routed, 2, slices=(Slice("q", ((0, 5, 1),)),), axons=())
    yield "route to nowhere", replace(routed, routes=(replace(routed.routes[0], destination=9),))
    yield "route from no slice", replace(routed, routes=(replace(routed.routes[0], slice=4),))
    yield "route of strange neurons", replace(routed, routes=(replace(routed.routes[0], region=(((0, 9, 1),),)),))


@pytest.mark.parametrize(("name", "routed"), list(broken()), ids=lambda v: v if isinstance(v, str) else "")
def test_what_does_not_exist_is_refused(name, routed):
    with pytest.raises(NmcError) as caught:
        build_tables(routed)
    assert caught.value.exit_code is ExitCode.INTERNAL
    assert {d.slug for d in caught.value.diagnostics} == {"mapping-broken"}


@pytest.mark.parametrize("seed", range(4))
def test_planted_faults_run_or_are_refused(seed):
    network = random_network(seed)
    inputs = random_inputs(network, 1, seed)
    ran = 0
    for _, spoiled in plant_faults(random_mapping(network, seed), seed):
        try:
            simulate(spoiled, inputs)
            ran += 1
        except NmcError as error:
            assert all(d.slug == "mapping-broken" for d in error.diagnostics)
    assert ran > 5


def test_a_network_of_reals_is_refused():
    routed = lively()
    projections = tuple(
        replace(q, connectivity=q.connectivity.with_weight(q.connectivity.weight * 0.5))
        for q in routed.network.projections
    )
    with pytest.raises(NmcError, match="not quantized"):
        build_tables(replace(routed, network=replace(routed.network, projections=projections)))
