"""Every planted fault is refused, and the mapping that it was planted in is clean."""

from __future__ import annotations

import pytest

from nmc.ir.diagnostic import NmcError
from nmc.passes.check import CheckMapping, mapping_diagnostics
from nmc.testing.faults import FAULTS, plant_faults
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL
from tests.passes.targets import chip, context, loihi, mapped, tight

MAPPINGS = [
    ("conv", "tiles", "row-major"),
    ("residual", "greedy", "hill-climb"),
    ("grouped", "tiles", "hill-climb"),
    ("sparse", "greedy", "row-major"),
    ("host", "tiles", "row-major"),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "partitioner", "placer"), MAPPINGS)
def test_every_fault_is_refused(name, partitioner, placer, seed):
    target = chip()
    routed = mapped(SMALL[name](), target, partitioner=partitioner, placer=placer)
    assert mapping_diagnostics(routed, target) == ()
    planted = plant_faults(routed, seed)
    assert len(planted) >= 30
    missed = [fault for fault, spoiled in planted if not mapping_diagnostics(spoiled, target)]
    assert missed == []


def test_every_kind_of_fault_is_planted_somewhere():
    target = chip()
    planted = {
        fault
        for name, partitioner, placer in MAPPINGS
        for fault, _ in plant_faults(mapped(SMALL[name](), target, partitioner=partitioner, placer=placer), 0)
    }
    assert planted == {fault.__name__.replace("_", " ") for fault in FAULTS}
    assert len(FAULTS) >= 30


def test_a_fault_stops_the_pass_with_all_findings():
    target = chip()
    routed = mapped(SMALL["conv"](), target)
    spoiled = dict(plant_faults(routed, 1))["missing core"]
    with pytest.raises(NmcError) as caught:
        CheckMapping().run(spoiled, context(target))
    slugs = {d.slug for d in caught.value.diagnostics}
    assert {"mapping-neuron"} <= slugs
    assert all(slug.startswith("mapping-") for slug in slugs)


@pytest.mark.parametrize("seed", range(12))
def test_faults_in_random_networks_are_refused(seed):
    target = tight(neurons=32, in_axons=400, out_axons=None, synapse_bits=120000, threshold_profiles=None)
    routed = mapped(random_network(seed), target, partitioner="auto", placer="auto", chips=4)
    missed = [fault for fault, spoiled in plant_faults(routed, seed) if not mapping_diagnostics(spoiled, target)]
    assert missed == []


def test_a_mapping_on_one_core_is_clean_too():
    target = loihi("loihi2")
    routed = mapped(SMALL["conv"](), target)
    assert routed.cores_used == 1
    missed = [fault for fault, spoiled in plant_faults(routed, 0) if not mapping_diagnostics(spoiled, target)]
    assert missed == []
