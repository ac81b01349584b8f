"""The checker: clean mappings pass untouched, findings say what, where and how much."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import CoreLimits
from nmc.ir.connectivity import Conv2d, Pool
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, Place
from nmc.passes.check import CheckMapping, mapping_diagnostics
from nmc.passes.check import reach as recounting
from nmc.passes.check.reach import Recount
from nmc.passes.partition.count import count_all
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL, Build, conv_net, residual_net, weights
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


def boxes_of(rng, shape, count=4):
    """Random boxes of a shape, some of them strided."""
    for _ in range(count):
        box = []
        for n in shape:
            start = int(rng.integers(0, n))
            box.append((start, int(rng.integers(start + 1, n + 1)), int(rng.integers(1, 4))))
        yield tuple(box)


def neurons_of(box, shape):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*axis) for axis in box)] = True
    return mask.reshape(-1)


@pytest.mark.parametrize("listed", [-1, 10**9])
@pytest.mark.parametrize("seed", range(8))
def test_both_ways_of_counting_agree_with_the_synapses(seed, listed, monkeypatch):
    monkeypatch.setattr(recounting, "LISTED", listed)
    rng = np.random.default_rng(seed)
    for network in [*(make() for make in SMALL.values()), random_network(seed)]:
        recount = Recount(network)
        for projection in network.projections:
            target, source, _ = projection.connectivity.synapses()
            shape, targets = (network.by_name[name].shape for name in (projection.source, projection.target))
            for box in boxes_of(rng, targets):
                into = neurons_of(box, targets)[target]
                expected = np.bincount(source[into], minlength=int(np.prod(shape)))
                found = recount.reach(projection, box)
                regions = [region for region in [(b,) for b in boxes_of(rng, shape, 3)] if rng.random() < 0.8]
                held = sum((neurons_of(region[0], shape).astype(int) for region in regions), np.zeros(len(expected)))
                coverage = found.against(regions)
                assert coverage.synapses == expected.sum()
                assert coverage.dropped == expected[held == 0].sum()
                assert coverage.doubled == expected[held > 1].sum()
                assert coverage.idle == np.count_nonzero(held[expected == 0])


@pytest.mark.parametrize("seed", range(8))
def test_stored_kernel_entries_are_those_of_some_synapse(seed):
    rng = np.random.default_rng(seed)
    for network in [*(make() for make in SMALL.values()), random_network(seed)]:
        recount = Recount(network)
        for projection in network.projections:
            operator = projection.connectivity
            if not isinstance(operator, Conv2d | Pool):
                continue
            # Every entry of the kernel has a number of its own, which its synapses show.
            conv = operator.as_conv() if isinstance(operator, Pool) else operator
            numbers = np.arange(1, conv.weight.size + 1).reshape(conv.weight.shape) * (conv.weight != 0)
            target, _, entry = conv.with_weight(numbers).synapses()
            shape = network.by_name[projection.target].shape
            for box in boxes_of(rng, shape):
                taps = recount.taps(projection, box)
                used = np.zeros(recount.kernel(projection).shape, dtype=bool)
                used[taps.channels] |= taps.taps
                entries = np.unique(entry[neurons_of(box, shape)[target]])
                assert recount.kernel(projection)[used].sum() == len(entries)


def test_memory_is_that_of_populations_and_not_of_cores():
    """Counted in windows, core by core: full arrays for every slice would take ten times as much."""
    rng = np.random.default_rng(0)
    shape = (16, 40, 40)
    build = Build((3, 40, 40)).add("a", [("in", Conv2d(weights(rng, 16, 3, 3, 3), (3, 40, 40), pads=(1, 1, 1, 1)), 1)])
    for before, name in ("ab", "bc"):
        build.add(name, [(before, Conv2d(weights(rng, 16, 16, 3, 3), shape, pads=(1, 1, 1, 1)), 1)])
    network = build.network()
    target = chip(CoreLimits(neurons=512, in_axons=4096), tiles_x=16, tiles_y=8, chips_max=1)
    routed = mapped(network, target)
    assert routed.cores_used > 100
    tracemalloc.start()
    assert mapping_diagnostics(routed, target) == ()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    full = 8 * network.by_name["a"].neurons
    assert peak < 10 * full < routed.cores_used * full / 10
