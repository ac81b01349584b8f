"""What layers need at least: no mapping needs less, and the widest neuron is found."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.hardware.target import CoreLimits
from nmc.ir.mapping import HOST
from nmc.passes.partition.assemble import chip_populations
from nmc.passes.partition.demand import Core, DemandModel
from nmc.passes.partition.feasibility import feasibility, least_cores
from nmc.passes.partition.limits import LIMITS
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL
from tests.passes.targets import chip, loihi, mapped

ROOMY = chip(CoreLimits(neurons=64, in_axons=400, out_axons=2000, synapse_bits=200000, threshold_profiles=100))


def networks():
    return [*(make() for make in SMALL.values()), *(random_network(seed) for seed in range(10))]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("partitioner", ["tiles", "overlap"])
def test_no_mapping_needs_less(partitioner, shared):
    for network in networks():
        target = chip(ROOMY.core, shared=shared)
        routed = mapped(network, target, partitioner=partitioner, chips=8)
        model = DemandModel.of(network, target, {})
        cores, limit = least_cores(model)
        assert cores <= routed.cores_used and limit in {known.name for known in LIMITS}
        holders: dict[str, set[int]] = {}
        for cluster in routed.clusters:
            for piece in cluster.slices:
                holders.setdefault(piece.population, set()).add(cluster.id)
        for fit in feasibility(model):
            assert fit.least == fit.cores[fit.limit] == max(fit.cores.values()) <= len(holders[fit.layer] - {HOST})


def test_the_widest_neuron_is_that_of_all_neurons():
    for network in networks():
        model = DemandModel.of(network, ROOMY, {})
        for fit in feasibility(model):
            population = network.by_name[fit.layer]
            every = np.ndindex(*population.shape)
            boxes = [tuple((int(a), int(a) + 1, 1) for a in at) for at in every]
            widest = max(Core(model).use_with(model.demand(fit.layer, box)).in_axons for box in boxes)
            assert fit.fan_in <= widest
            # Sources that two projections share, and constant axons, are not looked at in the search.
            plain = len(network.incoming[fit.layer]) == 1 and network.incoming[fit.layer][0].bias is None
            assert fit.fan_in == widest or not plain


def test_limits_that_one_neuron_exceeds_are_named():
    network = SMALL["conv"]()
    fits = {fit.layer: fit for fit in feasibility(DemandModel.of(network, chip(CoreLimits(64, 40)), {}))}
    assert fits["out"].exceeded == ("in_axons",) and fits["a"].exceeded == ()
    assert set(fits["a"].cores) == {"neurons", "in_axons"}
    assert "partial sums need graded messages" in fits["out"].refused("partial sums need graded messages").fix


def test_shared_kernels_count_once():
    small = CoreLimits(64, synapse_bits=10000)
    network = SMALL["conv"]()
    needs = {
        shared: {f.layer: f for f in feasibility(DemandModel.of(network, chip(small, shared=shared), {}))}
        for shared in (True, False)
    }
    assert needs[True]["b"].cores["synapse_bits"] < needs[False]["b"].cores["synapse_bits"]


def test_host_layers_need_no_cores():
    network = SMALL["host"]()
    fits = feasibility(DemandModel.of(network, loihi("loihi2"), {}))
    assert [fit.layer for fit in fits] == [p.name for p in chip_populations(network)] == ["b"]
    document = fits[0].to_dict()
    assert document["least"] == 1 and document["fix"] == "" and document["exceeded"] == []
