"""Threshold profiles: layers with more distinct thresholds than a core holds are cut by channels, never broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.mapping import HOST, Routed
from nmc.ir.network import Network
from nmc.ir.neurons import Reset
from nmc.kernels.layerwise import execute_network
from nmc.passes.check import mapping_diagnostics
from nmc.passes.partition import PARTITIONERS, partition_passes
from nmc.passes.partition.count import count_all
from nmc.runtime.simulator import simulate
from tests.passes.networks import Build, lif, readout, weights
from tests.passes.targets import chip, context, loihi, mapped, tight

CHANNELS = 12


def varied(channels: int = CHANNELS, hidden: int = 20) -> Network:
    """A threshold of its own for every channel of a convolution and every neuron of a matrix."""
    rng = np.random.default_rng(0)
    first = Conv2d(weights(rng, channels, 1, 3, 3), (1, 6, 6), pads=(1, 1, 1, 1))
    dense = Dense(weights(rng, hidden, channels * 36), (channels, 6, 6), (hidden,))
    last = Dense(weights(rng, 4, hidden), (hidden,), (4,))
    by_channel = replace(lif(), threshold=rng.permutation(channels).reshape(-1, 1, 1) + 90)
    by_neuron = replace(lif(), threshold=rng.permutation(hidden) + 500, du=1000)
    build = Build((1, 6, 6)).add("a", [("in", first, 1)], neuron=by_channel)
    build.add("b", [("a", dense, 1)], neuron=by_neuron)
    return build.add("out", [("b", last, 1)], neuron=readout()).network()


def profiles(routed: Routed) -> dict[int, set[tuple[object, ...]]]:
    """Counted neuron by neuron from the slices."""
    found: dict[int, set[tuple[object, ...]]] = {}
    for cluster in routed.clusters:
        if cluster.id == HOST:
            continue
        held = found.setdefault(cluster.id, set())
        for piece in cluster.slices:
            population = routed.network.by_name[piece.population]
            threshold = getattr(population.neuron, "threshold", None)
            if threshold is None:
                held.add(("read-out",))
                continue
            full = np.broadcast_to(threshold, population.shape)
            values = full[tuple(slice(*axis) for axis in piece.box)].reshape(-1).tolist()
            held |= {(value, population.neuron.du) for value in values}
    return found


@pytest.mark.parametrize("partitioner", PARTITIONERS)
@pytest.mark.parametrize("limit", [1, 3, 5, 40])
def test_no_core_holds_more_than_the_limit_and_spikes_stay_the_same(partitioner, limit):
    network = varied()
    target = tight(neurons=500, in_axons=None, out_axons=None, synapse_bits=None, threshold_profiles=limit)
    routed = mapped(network, target, partitioner=partitioner, chips=8)
    counts = {number: len(held) for number, held in profiles(routed).items()}
    assert max(counts.values()) <= limit
    assert {n: use.threshold_profiles for n, use in count_all(routed, target).items()} == counts
    # 12 + 20 thresholds and the read-out; cut by channels, not into tiles of the map.
    fewest = -(-(CHANNELS + 20 + 1) // limit)
    assert fewest <= routed.cores_used <= fewest + 4
    samples = np.random.default_rng(1).integers(0, 200, (3, 1, 6, 6))
    wanted, got = execute_network(network, samples), simulate(routed, samples)
    np.testing.assert_array_equal(wanted.readout, got.readout)
    assert wanted.readout.any()


@pytest.mark.parametrize("partitioner", PARTITIONERS)
def test_loihi1_splits_a_layer_of_forty_thresholds(partitioner):
    target = loihi("loihi1")
    assert target.core.threshold_profiles == 16
    routed = mapped(varied(40, 10), target, partitioner=partitioner)
    counts = [len(held) for held in profiles(routed).values()]
    assert max(counts) <= 16
    assert -(-(40 + 10 + 1) // 16) <= len(counts) <= 6


@pytest.mark.parametrize("partitioner", PARTITIONERS)
def test_profiles_over_two_chips_with_cores_missing(partitioner):
    target = replace(
        tight(neurons=80, in_axons=500, out_axons=None, synapse_bits=10**6, threshold_profiles=4),
        grid=chip(tiles_x=3, tiles_y=2, cores_per_tile=2, chips=2, unavailable_cores=(0, 3, 10)).grid,
    )
    routed = mapped(varied(), target, partitioner=partitioner, placer="hill-climb")
    assert max(len(held) for held in profiles(routed).values()) <= 4
    assert {place.chip for number, place in routed.places.items() if number != HOST} == {0, 1}


def test_the_checker_counts_profiles_by_itself():
    target = tight(neurons=500, in_axons=None, out_axons=None, synapse_bits=None, threshold_profiles=3)
    routed = mapped(varied(), target, chips=8)
    assert mapping_diagnostics(routed, target) == ()
    tighter = replace(target, core=replace(target.core, threshold_profiles=2))
    found = mapping_diagnostics(routed, tighter)
    over = sum(len(held) > 2 for held in profiles(routed).values())
    assert len(found) == over > 0
    assert all("has threshold_profiles = 3, 1 over the limit of 2" in d.message for d in found)
    # One threshold, but another reset or another decay: another profile.
    for change in ({"reset": Reset.ZERO}, {"du": 7}, {"dv": 5}):
        network = two_layers(change)
        routed = mapped(network, replace(target, core=replace(target.core, threshold_profiles=None)))
        assert routed.cores_used == 1
        one = replace(target, core=replace(target.core, threshold_profiles=1))
        messages = [d.message for d in mapping_diagnostics(routed, one)]
        assert messages == ["core 0 has threshold_profiles = 2, 1 over the limit of 1"]
    routed = mapped(two_layers({}), replace(target, core=replace(target.core, threshold_profiles=1)))
    assert routed.cores_used == 1


def two_layers(change: dict[str, object]) -> Network:
    rng = np.random.default_rng(0)
    build = Build((4,)).add("a", [("in", Dense(weights(rng, 6, 4), (4,), (6,)), 1)])
    other = replace(lif(), **change)
    return build.add("b", [("a", Dense(weights(rng, 5, 6), (6,), (5,)), 1)], neuron=other).network()


@pytest.mark.parametrize("partitioner", PARTITIONERS)
def test_a_seed_gives_one_partition_of_many_thresholds(partitioner):
    target = tight(neurons=80, in_axons=500, out_axons=None, synapse_bits=10**6, threshold_profiles=4)
    step = partition_passes(partitioner)[-1]
    one, two = (step.run(varied(), context(target, seed=3)).clusters for _ in range(2))
    assert one == two
