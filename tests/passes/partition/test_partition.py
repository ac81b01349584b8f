"""The partitioners: every limit holds, small layers share cores, what cannot fit is explained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import HOST, whole
from nmc.ir.reference import encode
from nmc.kernels import layerwise
from nmc.passes.base import text_form
from nmc.passes.partition import (
    PARTITIONERS,
    PartitionAuto,
    PartitionGreedy,
    PartitionKernighanLin,
    PartitionMetis,
    PartitionOverlap,
    PartitionTiles,
    partition_passes,
)
from nmc.passes.partition.boxes import middle_box
from nmc.passes.partition.count import count_all
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.tiles import chunk_sizes, tile_cores, tile_shapes
from nmc.passes.partition.traffic import destinations, packets_per_step, traffic
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL, Build, conv_net, lif, readout, resnet20, weights
from tests.passes.targets import chip, context, loihi, mapped, tight


def partition(network, target, name, **options):
    step = partition_passes(name)[-1]
    return step.run(network, context(target, **options))


@pytest.mark.parametrize("partitioner", PARTITIONERS)
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_fit_and_are_clean(name, partitioner):
    routed = mapped(SMALL[name](), tight(neurons=48), partitioner=partitioner)
    assert routed.cores_used > 1
    assert [c.id for c in routed.clusters][:-1] == list(range(routed.cores_used))
    assert routed.clusters[-1].id == HOST


@pytest.mark.parametrize("partitioner", ["overlap", "tiles", "greedy", "kernighan-lin", "metis"])
def test_random_networks_fit_and_are_clean(partitioner):
    for seed in range(40 if partitioner in ("tiles", "greedy") else 12):
        target = tight(neurons=8 + seed, in_axons=300, out_axons=None, synapse_bits=60000, threshold_profiles=None)
        network = random_network(seed)
        routed = mapped(
            network, replace(target, grid=replace(target.grid, chips_max=60)), partitioner=partitioner, chips=60
        )
        assert routed.cores_used >= sum(p.neurons for p in network.populations[1:]) / (8 + seed)


@pytest.mark.parametrize("limit", ["neurons", "in_axons", "out_axons", "synapse_bits"])
@pytest.mark.parametrize("partitioner", ["overlap", "tiles", "greedy", "kernighan-lin", "metis"])
def test_a_tighter_limit_needs_more_cores_and_holds(partitioner, limit):
    network = conv_net()
    loose = partition(network, tight(neurons=256, in_axons=600, out_axons=4000, synapse_bits=10**6), partitioner)
    assert loose.cores_used <= 3
    number = {"neurons": 20, "in_axons": 100, "out_axons": 90, "synapse_bits": 15000}[limit]
    target = tight(**{"neurons": 256, "in_axons": 600, "out_axons": 4000, "synapse_bits": 10**6, limit: number})
    tighter = partition(network, target, partitioner)
    assert tighter.cores_used > loose.cores_used
    used = [use.count(limit) for use in count_all(tighter, target).values()]
    assert number / 3 < max(used) <= number


def test_threshold_profiles_are_a_limit_too():
    rng = np.random.default_rng(0)
    neuron = replace(lif(), threshold=np.arange(8).reshape(8, 1, 1) + 50)
    conv = Conv2d(weights(rng, 8, 1, 3, 3), (1, 6, 6))
    network = Build((1, 6, 6)).add("a", [("in", conv, 1)], neuron=neuron).network()
    target = tight(neurons=256, synapse_bits=10**6, threshold_profiles=3)
    found = partition(network, target, "tiles")
    assert found.cores_used == 3
    assert {use.threshold_profiles for use in count_all(found, target).values()} == {2, 3}


@pytest.mark.parametrize("partitioner", ["overlap", "tiles", "greedy", "kernighan-lin", "metis"])
def test_small_layers_share_a_core(partitioner):
    found = partition(conv_net(), loihi("loihi2"), partitioner)
    assert found.cores_used == 1
    assert {s.population for s in found.by_id[0].slices} == {"a", "b", "out"}
    assert [o.node for o in found.by_id[0].origins] == ["node_a", "node_b", "node_out"]
    assert [s.box for s in found.by_id[0].slices] == [whole(p.shape) for p in found.network.populations[1:]]


@pytest.mark.parametrize("partitioner", ["tiles", "greedy"])
@pytest.mark.parametrize("target", ["loihi1", "loihi2"])
def test_resnet20_is_clean(partitioner, target):
    network = resnet20()
    chosen = loihi(target)
    routed = mapped(network, chosen, partitioner=partitioner, chips=2)
    neurons = sum(p.neurons for p in network.populations) - network.populations[0].neurons
    assert routed.cores_used >= -(-neurons // chosen.core.neurons)
    # The fewest tiles leave few cores half empty even where axons are the limit.
    assert routed.cores_used <= {"loihi1": 190, "loihi2": 95}[target]


def test_host_layers_stay_on_the_host_with_their_axons():
    network = SMALL["host"]()
    found = partition(network, chip(), "tiles")
    host = found.by_id[HOST]
    assert [s.population for s in host.slices] == ["in", "a"]
    assert [(a.projection, a.slice, a.delay) for a in host.axons] == [("in>a", 1, 1)]
    assert {s.population for c in found.clusters if c.id != HOST for s in c.slices} == {"b"}


def test_packets_are_messages_times_destination_cores():
    network = conv_net()
    found = partition(network, tight(), "tiles")
    expected: dict[str, np.ndarray] = {p.name: np.zeros(p.neurons, dtype=int) for p in network.populations}
    for cluster in found.clusters:
        hears: dict[str, set[int]] = {}
        for piece in cluster.slices:
            shape = network.by_name[piece.population].shape
            inside = np.zeros(shape, dtype=bool)
            inside[tuple(slice(*axis) for axis in piece.box)] = True
            for projection in network.incoming[piece.population]:
                target, source, _ = projection.connectivity.synapses()
                hears.setdefault(projection.source, set()).update(source[inside.reshape(-1)[target]].tolist())
        for name, sources in hears.items():
            expected[name][list(sources)] += 1
    for name, count in destinations(found).items():
        np.testing.assert_array_equal(count.reshape(-1), expected[name])
    assert packets_per_step(found) == sum(count.sum() for count in expected.values())
    halved = replace(found, rates={"in": 0.5, "a": 0.25})
    assert packets_per_step(halved) == expected["in"].sum() * 0.5 + expected["a"].sum() * 0.25 + expected["b"].sum()


def test_messages_inside_the_host_are_no_packets():
    found = partition(SMALL["host"](), chip(), "tiles")
    assert (HOST, HOST) not in traffic(found)
    assert all(destination != HOST for _, destination in traffic(found))


def test_rates_are_measured_on_at_most_sixteen_calibration_inputs(monkeypatch):
    network = conv_net()
    inputs = np.random.default_rng(0).random((20, 1, 8, 8)).astype(np.float32)
    seen = []

    def rates(given, encoded):
        seen.append((given, encoded))
        return {"in": 0.75, "a": 0.5, "b": 0.25, "out": 0.0}

    monkeypatch.setattr(layerwise, "message_rates", rates)
    found = partition(network, chip(), "tiles", inputs=inputs)
    assert found.rates == {"in": 0.75, "a": 0.5, "b": 0.25, "out": 0.0}
    assert seen[0][0] is network
    np.testing.assert_array_equal(seen[0][1], encode(network, inputs[:16]))


def test_rates_of_a_real_run():
    network = conv_net()
    inputs = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)
    rates = partition(network, chip(), "auto", inputs=inputs).rates
    assert rates["in"] == pytest.approx(np.count_nonzero(encode(network, inputs)) / (3 * 64))
    assert 0 < rates["a"] < 1


def test_auto_keeps_what_fits_then_what_sends_less():
    network = resnet20()
    target = loihi("loihi1")
    each = [partition(network, target, name) for name in ("tiles", "greedy", "kernighan-lin")]
    fewest = min(found.cores_used for found in each)
    assert fewest >= partition(network, target, "auto").cores_used > target.grid.cores_per_chip
    roomy = replace(target, grid=replace(target.grid, chips=2, chips_max=2))
    best = min(each, key=packets_per_step)
    found = partition(network, roomy, "auto")
    assert packets_per_step(found) <= packets_per_step(best)


@pytest.mark.parametrize("partitioner", PARTITIONERS)
def test_every_layer_that_cannot_fit_is_named_with_the_number_and_the_limit(partitioner):
    rng = np.random.default_rng(0)
    build = Build((300,)).add("wide", [("in", Dense(weights(rng, 20, 300), (300,), (20,)), 1)])
    build.add("fine", [("wide", Dense(weights(rng, 50, 20), (20,), (50,)), 1)])
    build.add("heavy", [("fine", Dense(weights(rng, 10, 50), (50,), (10,)), 1)], neuron=readout())
    network = build.network()
    target = tight(in_axons=200, synapse_bits=2500, out_axons=None)
    with pytest.raises(NmcError) as caught:
        partition(network, target, partitioner)
    assert caught.value.exit_code is ExitCode.DOES_NOT_FIT
    *errors, note = caught.value.diagnostics
    found = {(d.slug, d.origin.node): d for d in errors}
    assert set(found) == {
        ("core-in-axons", "node_wide"),
        ("core-synapse-bits", "node_wide"),
        ("core-synapse-bits", "node_heavy"),
    }
    axons = found["core-in-axons", "node_wide"]
    assert "'wide'" in axons.message and "in_axons = 300, 100 over the core's limit of 200" in axons.message
    assert "(1) let the host compute the layer: --host-input; (2)" in axons.help
    assert (
        "(2) prune: at most 200" in axons.help and "(3) take a target with core.in_axons of at least 300" in axons.help
    )
    heavy = found["core-synapse-bits", "node_heavy"]
    assert f"synapse_bits = {50 * 9 + 50 * 64}, {50 * 73 - 2500} over the core's limit of 2500" in heavy.message
    assert f"(1) give 'fine' fewer neurons: at most {2500 // 73} may be read instead of 50" in heavy.help
    assert f"at most {2500 // 73} non-zero weights per neuron instead of 50" in heavy.help
    assert (note.slug, note.severity) == ("layers-placed", "note")
    cores = 13 if partitioner == "greedy" else 10
    said = f"the other 1 of 3 layers fit, on {cores} of the 24 cores of 1 chip; {24 - cores} cores are left"
    assert note.message == said


@pytest.mark.parametrize(
    ("channels", "out", "limit", "words"),
    [
        (32, 64, 100, "at most 11 input channels per neuron instead of 32 (fewer channels, or groups=4)"),
        (32, 64, 150, "at most 16 input channels per neuron instead of 32 (fewer channels, or groups=2)"),
        (6, 7, 20, "at most 2 input channels per neuron instead of 6 (fewer channels)"),
    ],
)
def test_groups_that_are_named_divide_the_channels(channels, out, limit, words):
    rng = np.random.default_rng(0)
    conv = Conv2d(weights(rng, out, channels, 3, 3), (channels, 3, 3))
    network = Build((channels, 3, 3)).add("a", [("in", conv, 1)]).network()
    with pytest.raises(NmcError) as caught:
        partition(network, tight(in_axons=limit, synapse_bits=None), "tiles")
    assert words in caught.value.diagnostics[0].help


def test_unknown_partitioner():
    with pytest.raises(NmcError) as caught:
        partition_passes("tile")
    assert caught.value.exit_code is ExitCode.USAGE
    assert "'tile'" in str(caught.value) and "'tiles'" in caught.value.diagnostics[0].help


def test_names_and_text_form():
    kinds = [PartitionAuto, PartitionOverlap, PartitionTiles, PartitionGreedy, PartitionKernighanLin, PartitionMetis]
    assert [type(partition_passes(n)[-1]) for n in PARTITIONERS] == kinds
    assert text_form(PartitionAuto()) == "partition-auto"
    texts = [text_form(step) for step in partition_passes("auto", 3)]
    assert texts == ["require-room{chips=3}", "partition-auto{chips=3}"]


def test_same_input_same_partition():
    network = random_network(3)
    first, second = (partition(network, chip(), "auto") for _ in range(2))
    assert first.clusters == second.clusters


def test_tile_shapes_come_by_number_of_tiles():
    assert chunk_sizes(10) == [10, 5, 4, 3, 2, 1]
    groups = list(tile_shapes((4, 6), 12))
    assert [count for count, _ in groups] == sorted({count for count, _ in groups})
    assert groups[0] == (2, [(4, 3), (2, 6)])
    assert middle_box((4, 7), (2, 3)) == ((0, 2, 1), (3, 6, 1))


def test_fewest_tiles_then_fewest_axons():
    rng = np.random.default_rng(0)
    conv = Conv2d(weights(rng, 4, 4, 3, 3), (4, 8, 8), pads=(1, 1, 1, 1))
    network = Build((4, 8, 8)).add("a", [("in", conv, 1)]).network()
    target = tight(neurons=128, in_axons=240, synapse_bits=10**6)
    cores = tile_cores(DemandModel.of(network, target, {}))
    # Two halves of 4 x 8 pixels hear 4 x 5 x 8 sources each; two channel chunks would hear all.
    assert sorted(core.in_axons for core in cores) == [160, 160]
    assert [core.neurons for core in cores] == [128, 128]


def test_errors_do_not_touch_the_sink_of_the_context():
    ctx = context(tight(in_axons=2))
    with pytest.raises(NmcError):
        PartitionTiles().run(conv_net(), ctx)
    assert isinstance(ctx.diagnostics, DiagnosticSink) and not ctx.diagnostics.items
