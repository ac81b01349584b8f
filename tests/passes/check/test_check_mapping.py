"""The checker: clean mappings pass untouched, findings say what, where and how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, Place
from nmc.passes.check import CheckMapping, mapping_diagnostics
from nmc.passes.check import reach as recounting
from nmc.passes.partition.count import count_all
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL, conv_net, residual_net
from tests.passes.targets import chip, context, mapped, tight


def by_slug(routed, target):
    found: dict[str, list[str]] = {}
    for diagnostic in mapping_diagnostics(routed, target):
        found.setdefault(diagnostic.slug, []).append(diagnostic.message)
    return found


def test_a_clean_mapping_is_returned_as_it_is():
    routed = mapped(conv_net(), chip())
    assert CheckMapping().run(routed, context(chip())) is routed


def test_all_findings_come_at_once():
    routed = mapped(residual_net(), chip())
    first, *others = routed.clusters
    late = replace(first, axons=(replace(first.axons[0], delay=9), *first.axons[1:]))
    broken = replace(
        routed,
        clusters=(late, *others),
        routes=routed.routes[1:],
        places={**routed.places, others[0].id: Place(0, 3, 9, 0)},
    )
    with pytest.raises(NmcError) as caught:
        CheckMapping().run(broken, context(tight(in_axons=60)))
    assert caught.value.exit_code is ExitCode.GATE
    slugs = {d.slug for d in caught.value.diagnostics}
    assert slugs >= {"mapping-delay", "mapping-route", "mapping-place", "mapping-path", "mapping-limit"}


@pytest.mark.parametrize("limit", ["neurons", "in_axons", "out_axons", "synapse_bits"])
def test_limits_are_recounted(limit):
    routed = mapped(conv_net(), chip())
    found = by_slug(routed, tight(**{limit: 5}))
    assert set(found) == {"mapping-limit"}
    assert all(f"{limit} = " in text and "over the limit of 5" in text for text in found["mapping-limit"])
    over = [use for use in count_all(routed, chip()).values() if use.count(limit) > 5]
    assert len(found["mapping-limit"]) == len(over) > 1


def test_dropped_axons_are_counted_in_synapses():
    network = conv_net()
    routed = mapped(network, chip())
    axon, cluster = next((a, c) for c in routed.clusters for a in c.axons if a.projection == "b>out")
    kept = tuple(a for a in cluster.axons if a is not axon)
    broken = replace(routed, clusters=tuple(replace(c, axons=kept) if c is cluster else c for c in routed.clusters))
    ((start, stop, _),) = cluster.slices[axon.slice].box
    synapses = np.count_nonzero(network.projections[2].connectivity.weight[start:stop])
    (text,) = by_slug(broken, chip())["mapping-synapse"]
    assert f"of the {synapses} synapses of 'b>out' {synapses} have no axon and 0 have several" in text


def test_unavailable_cores_and_the_host():
    routed = mapped(conv_net(), chip())
    assert "not available" in by_slug(routed, chip(unavailable_cores=(1,)))["mapping-place"][0]
    assert "its port is at (1, 1)" in by_slug(routed, chip(host_port=(1, 1)))["mapping-place"][0]


def test_a_population_of_the_host_on_a_core_and_the_other_way():
    network = SMALL["host"]()
    routed = mapped(network, chip())
    populations = tuple(replace(p, on_host=p.name == "b") for p in network.populations)
    moved = replace(routed, network=replace(network, populations=populations))
    texts = by_slug(moved, chip())["mapping-host"]
    assert "'a' lies on the host" in texts
    assert any(text.startswith("'b' lies on core") for text in texts)
    assert HOST in routed.by_id


@pytest.mark.parametrize("listed", [0, 10**9])
@pytest.mark.parametrize("seed", range(8))
def test_both_ways_of_counting_agree_with_the_synapses(seed, listed, monkeypatch):
    monkeypatch.setattr(recounting, "LISTED", listed)
    rng = np.random.default_rng(seed)
    networks = [make() for make in SMALL.values()] + [random_network(seed)]
    for projection in (p for network in networks for p in network.projections):
        operator = projection.connectivity
        target, source, _ = operator.synapses()
        targets = rng.random(int(np.prod(operator.out_shape))) < 0.3
        found = recounting.reach(operator, targets)
        expected = np.bincount(source[targets[target]], minlength=int(np.prod(operator.in_shape)))
        np.testing.assert_array_equal(found.per_source, expected)
        if isinstance(operator, Conv2d):
            assert found.kernel is not None and found.kernel.shape == operator.weight.shape
