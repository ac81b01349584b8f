"""Random networks of every kind through the mapping passes: every synapse once, no limit, every packet."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import CoreLimits
from nmc.ir.mapping import HOST, box_indices, region_mask
from nmc.ir.verify import verify_program
from nmc.passes.check import mapping_diagnostics
from nmc.passes.partition.count import count_all
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import exceeded_by_one, widest_demand
from nmc.passes.partition.split_fan_in import SplitFanIn
from nmc.passes.route.loads import loads
from nmc.runtime.simulator import simulate
from nmc.testing.random_networks import KINDS, random_inputs, random_network
from tests.passes.targets import chip, context, mapped

PARTITIONERS = ("tiles", "overlap", "greedy")
PLACERS = ("row-major", "hill-climb", "auto")


def target_for(rng: np.random.Generator, network, kind: str):
    """A chip with limits drawn so that some of them bind and every neuron fits, split where it has to be."""
    limits = CoreLimits(
        neurons=int(rng.integers(8, 80)),
        in_axons=int(rng.integers(20, 200)),
        out_axons=None if rng.random() < 0.5 else 4000,
        synapse_bits=None if rng.random() < 0.5 else 60000,
    )
    made = chip(limits, shared=bool(rng.random() < 0.7), tiles_x=5, tiles_y=4, cores_per_tile=3, chips_max=9)
    return replace(made, messages=replace(made.messages, graded_bits=31))


def mapping_of(seed: int, kind: str):
    rng = np.random.default_rng([seed, *kind.encode()])
    network = random_network(seed, kind=kind)
    target = target_for(rng, network, kind)
    network = SplitFanIn().run(network, context(target))
    model = DemandModel.of(network, target, {})
    chosen = [p for p in network.populations if exceeded_by_one(model, widest_demand(model, p))]
    if chosen:  # Messages without a bound are not split without inputs: give such networks room.
        target = replace(target, core=replace(target.core, in_axons=None, synapse_bits=None))
    partitioner, placer = rng.choice(PARTITIONERS), rng.choice(PLACERS)
    return mapped(network, target, partitioner=str(partitioner), placer=str(placer), chips=9, check=False), target


def synapses_held(routed, projection):
    """(targets, sources) how many axon entries carry each pair: read from slices and regions alone."""
    network = routed.network
    source, target = network.by_name[projection.source], network.by_name[projection.target]
    held = np.zeros((target.neurons, source.neurons), dtype=np.int64)
    for cluster in routed.clusters:
        for axon in cluster.axons:
            if axon.projection == projection.name:
                neurons = box_indices(cluster.slices[axon.slice].box, target.shape)
                held[np.ix_(neurons, np.flatnonzero(region_mask(axon.region, source.shape)))] += 1
    return held


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_every_synapse_is_mapped_once_and_no_limit_is_broken(seed, kind):
    routed, target = mapping_of(seed, kind)
    verify_program(routed)
    assert mapping_diagnostics(routed, target) == ()
    assert not [use for use in count_all(routed, target).values() if use.exceeded(target.core)]
    for projection in routed.network.projections:
        held = synapses_held(routed, projection)
        rows, columns, _ = projection.connectivity.synapses()
        assert (held[rows, columns] == 1).all()
        # An axon reaches a slice only where a synapse of the slice hangs on it.
        assert held.max(initial=0) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_reported_packets_are_those_that_the_simulator_counts(seed, kind):
    routed, _ = mapping_of(seed, kind)
    inputs = random_inputs(routed.network, 2, seed)
    run = simulate(routed, inputs, trace=frozenset({"messages"}))
    spikes = {name: np.count_nonzero(m, axis=(0, 1)) for name, m in run.trace.messages.items()}
    found, counted = loads(routed, spikes), run.counters
    assert found.packets == counted.packets
    for mine, simulated in ((found.sent, counted.packets_by_core), (found.received, counted.packets_received_by_core)):
        assert {k: v for k, v in mine.items() if v} == {k: v for k, v in simulated.items() if v}
    assert (found.hops_ew, found.hops_ns) == (counted.hops_ew, counted.hops_ns)


@pytest.mark.parametrize("seed", range(6))
def test_trees_carry_every_message_once_over_each_link(seed):
    """Against every neuron's own tree, link by link."""
    routed, _ = mapping_of(seed, "rate")
    rng = np.random.default_rng(seed)
    spikes = {p.name: rng.integers(0, 5, p.shape) for p in routed.network.populations}
    found = loads(routed, spikes)
    links: dict = {}
    trees: dict = {}
    ways: dict = {}
    for route in routed.routes:
        if (route.source, route.destination) == (HOST, HOST):
            continue
        name = routed.by_id[route.source].slices[route.slice].population
        for neuron in np.flatnonzero(region_mask(route.region, spikes[name].shape)).tolist():
            ways.setdefault((name, neuron), []).append(list(itertools.pairwise(route.links)))
    for (name, neuron), paths in ways.items():
        count = int(spikes[name].reshape(-1)[neuron])
        for link in itertools.chain.from_iterable(paths):
            links[link] = links.get(link, 0) + count
        for link in {link for path in paths for link in path}:
            trees[link] = trees.get(link, 0) + count
    assert {k: v for k, v in found.links.items() if v} == {k: v for k, v in links.items() if v}
    assert {k: v for k, v in found.trees.items() if v} == {k: v for k, v in trees.items() if v}
    assert all(found.trees[link] <= load for link, load in found.links.items())
    tiles = {tile for route in routed.routes for tile in route.links}
    assert set(found.entries) <= tiles and min(found.entries.values()) >= 1
