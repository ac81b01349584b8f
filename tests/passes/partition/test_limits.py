"""The counts of docs/formats.md section 3, worked out by hand, and the same from two sides."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.hardware.target import CoreLimits
from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Slice, whole
from nmc.passes.check.coverage import check_synapses
from nmc.passes.check.reach import Recount
from nmc.passes.check.recount import core_counts, packets_sent
from nmc.passes.check.routes import heard
from nmc.passes.check.structure import Parts
from nmc.passes.partition.count import count_all, count_limits
from nmc.passes.partition.demand import digit_counts, index_bits
from nmc.passes.partition.limits import LIMITS, CoreUse, binding_limit
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL, Build, lif
from tests.passes.targets import chip, mapped, tight


def one_core(network, name, axons):
    population = network.by_name[name]
    return Cluster(0, (Slice(name, whole(population.shape)),), axons, (population.origin,))


def test_shared_kernel():
    weight = np.full((2, 3, 3, 3), 4)
    weight[:, :, 0, 0] = 0
    network = Build((3, 5, 5)).add("a", [("in", Conv2d(weight, (3, 5, 5)), 1)]).network()
    # No window starts at the top left tap: that corner of the input is never heard.
    region = (((0, 3, 1), (0, 1, 1), (1, 5, 1)), ((0, 3, 1), (1, 5, 1), (0, 5, 1)))
    cluster = one_core(network, "a", (AxonGroup("in>a", 0, region, 1),))
    use = count_limits(cluster, network, chip())
    assert use == CoreUse(neurons=18, in_axons=72, out_axons=0, synapse_bits=48 * 9 + 3 * 64, threshold_profiles=1)
    # Without sharing each of the 48 * 9 synapses is stored, with 5 bits to name one of 18 neurons.
    alone = count_limits(cluster, network, chip(shared=False))
    assert alone.synapse_bits == 48 * 9 * (9 + 5) + 72 * 64


def test_matrix_constant_axons_and_thresholds():
    weight = np.array([[2, 0, 4], [6, 0, 0]])
    bias = np.array([-127 * 127, 126])
    neuron = lif()
    build = Build((3,)).add("a", [("in", Dense(weight, (3,), (2,)), 1)], neuron=neuron, bias=bias)
    network = build.network()
    region = (((0, 3, 2),),)
    cluster = one_core(network, "a", (AxonGroup("in>a", 0, region, 1),))
    use = count_limits(cluster, network, chip(), out_axons=7)
    # Three synapses and two non-zero digits, 1 bit to name one of 2 neurons; 2 axons and 3 constant ones.
    assert use == CoreUse(
        neurons=2, in_axons=2 + 3, out_axons=7, synapse_bits=5 * (9 + 1) + 5 * 64, threshold_profiles=1
    )


@pytest.mark.parametrize(
    ("magnitudes", "expected"),
    [([0], (0, 0)), ([126], (1, 1)), ([127], (2, 1)), ([128, 1], (2, 3)), ([127**2 - 1], (2, 2)), ([127**3], (4, 1))],
)
def test_digits(magnitudes, expected):
    assert digit_counts(np.array(magnitudes)) == expected


@pytest.mark.parametrize(("neurons", "bits"), [(0, 0), (1, 0), (2, 1), (3, 2), (1024, 10), (1025, 11)])
def test_index_bits(neurons, bits):
    assert index_bits(neurons) == bits


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_each_limit_holds_up_to_its_number_and_not_beyond(limit):
    limits = CoreLimits(**{name.name: 10 for name in LIMITS})
    assert not CoreUse(**{limit.name: 10}).exceeded(limits)
    assert CoreUse(**{limit.name: 11}).exceeded(limits) == (limit,)
    assert limit.slug == "core-" + limit.name.replace("_", "-")
    assert f"core.{limit.name}" in limit.sentence
    assert binding_limit(CoreUse(**{limit.name: 5}), limits) == (limit.name, 0.5)


def test_unpublished_limits_do_not_bind():
    limits = CoreLimits(neurons=10)
    assert not CoreUse(neurons=1, in_axons=10**9, synapse_bits=10**12).exceeded(limits)
    assert binding_limit(CoreUse(neurons=1, in_axons=10**9), limits) == ("neurons", 0.1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("partitioner", ["tiles", "greedy"])
def test_partitioner_and_checker_count_the_same(partitioner, shared):
    networks = [make() for make in SMALL.values()] + [random_network(seed) for seed in range(12)]
    for network in networks:
        target = chip(
            CoreLimits(neurons=40, in_axons=300, out_axons=900, synapse_bits=60000, threshold_profiles=40),
            shared=shared,
        )
        routed = mapped(network, target, partitioner=partitioner, chips=8, check=False)
        parts = Parts(routed, DiagnosticSink())
        recount, sent = Recount(network), packets_sent(parts)
        recounted = {
            cluster.id: core_counts(
                parts,
                recount,
                target,
                cluster,
                check_synapses(parts, recount, cluster, parts.sink),
                heard(parts, cluster),
                sent.get(cluster.id, 0),
            )
            for cluster in routed.clusters
            if cluster.id != HOST
        }
        assert not parts.sink.items
        counted = count_all(routed, target)
        assert {n: vars(use) for n, use in counted.items()} == recounted
        assert HOST not in counted
        assert not any(use.exceeded(target.core) for use in counted.values())


def test_out_axons_count_destination_cores_not_synapses():
    routed = mapped(SMALL["conv"](), tight())
    counted = count_all(routed, tight())
    sent = {number: 0 for number in counted}
    for route in routed.routes:
        if route.source != HOST:
            population = routed.by_id[route.source].slices[route.slice].population
            mask = np.zeros(routed.network.by_name[population].shape, dtype=bool)
            for box in route.region:
                mask[tuple(slice(*axis) for axis in box)] = True
            sent[route.source] += int(mask.sum())
    assert {n: use.out_axons for n, use in counted.items()} == sent
    assert sum(sent.values()) > 0
