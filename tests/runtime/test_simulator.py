"""Counters of the simulator against counts from the reference's trace and the list of synapses."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, box_indices
from nmc.ir.neurons import IF, LIF, NO_MEMORY, Graded, GradedReLU, Integrator
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Device
from nmc.runtime.simulator import Simulator, simulate
from nmc.testing.random_networks import random_inputs, random_network
from tests.programs import graph_of_everything, ideal_network, tiny_routed
from tests.property.random_mapping import random_mapping


def homes(routed):
    """(population, flat neuron) -> id of the cluster that holds it."""
    found = {}
    for cluster in routed.clusters:
        for piece in cluster.slices:
            shape = routed.network.by_name[piece.population].shape
            found.update({(piece.population, int(n)): cluster.id for n in box_indices(piece.box, shape)})
    return found


def recount(routed, inputs):
    """Section 5 of the arithmetic page, neuron by neuron, from the reference's messages."""
    network, home = routed.network, homes(routed)
    count = Counter()
    by_core = {name: Counter() for name in ("synops", "sent", "received", "spikes")}
    spikes = Counter()
    targets = {}
    for q in network.projections:
        late = network.by_name[q.source].start + q.delay - network.by_name[q.target].start
        for target, source, _ in zip(*q.connectivity.synapses(), strict=True):
            targets.setdefault((q.source, int(source)), []).append((home[q.target, int(target)], late))
    for sample in inputs:
        trace = reference.run(network, sample)
        for name, messages in trace.messages.items():
            fired = messages.reshape(len(messages), -1) != 0
            sent = np.count_nonzero(fired, axis=0)
            spikes[name] += int(sent.sum())
            for neuron in np.flatnonzero(sent):
                times, at, meets = int(sent[neuron]), home[name, int(neuron)], targets.get((name, int(neuron)), [])
                by_core["spikes"][at] += times
                for core, late in meets:
                    # What comes back after the window is lost.
                    on_time = fired[max(-late, 0) : max(len(fired) - max(late, 0), 0), neuron]
                    by_core["synops"][core] += int(np.count_nonzero(on_time))
                for core in {core for core, _ in meets}:
                    if core == at == HOST:
                        continue
                    by_core["sent"][at] += times
                    by_core["received"][core] += times
                    a, b = routed.places[at], routed.places[core]
                    count["ew"] += times * abs(a.x - b.x)
                    count["ns"] += times * abs(a.y - b.y)
    return count, by_core, spikes


def nonzero(counts):
    return {key: value for key, value in counts.items() if value}


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_counters_are_those_of_the_reference(seed, host):
    network = random_network(seed)
    if host:
        first = network.populations[1].name
        populations = tuple(replace(p, on_host=p.name == first) for p in network.populations)
        network = replace(network, populations=populations)
    routed = random_mapping(network, seed)
    inputs = random_inputs(network, 3, seed)
    got = simulate(routed, inputs).counters
    count, by_core, spikes = recount(routed, inputs)
    assert nonzero(got.spikes_by_population) == nonzero(spikes)
    assert got.spikes == sum(spikes.values())
    assert nonzero(got.synops_by_core) == by_core["synops"]
    assert got.host_ops == by_core["synops"][HOST]
    assert got.synops == sum(by_core["synops"].values()) - got.host_ops
    assert nonzero(got.packets_by_core) == by_core["sent"]
    assert nonzero(got.packets_received_by_core) == by_core["received"]
    assert nonzero(got.spikes_by_core) == by_core["spikes"]
    assert got.packets == sum(by_core["sent"].values())
    assert (got.hops_ew, got.hops_ns, got.hops) == (count["ew"], count["ns"], count["ew"] + count["ns"])
    chip = sum(c.neurons for c in routed.clusters if c.id != HOST)
    assert got.neuron_updates == chip * network.timesteps_total * 3
    assert got.samples == 3 and got.overflows == 0
    assert (got.host_ops > 0) == host


def active(network, trace, name):
    """Updates of a population that changed something."""
    population = network.by_name[name]
    neuron, sent = population.neuron, trace.messages[name]
    if isinstance(neuron, Graded | GradedReLU):
        total = sum(
            np.stack([reference.projected(q, m).reshape(population.shape) for m in trace.messages[q.source]])
            for q in network.incoming[name]
        )
        return np.count_nonzero(total)
    held = trace.potentials[name]
    before = np.concatenate([np.broadcast_to(neuron.v0, held[:1].shape), held[:-1]])
    return np.count_nonzero((held != before) | (sent != 0))


@pytest.mark.parametrize("kind", ["rate", "reset-zero", "graded"])
def test_active_updates(kind):
    for seed in range(5):
        network = random_network(seed, kind=kind)
        inputs = random_inputs(network, 2, seed)
        models = (LIF, IF, Integrator, Graded, GradedReLU)
        names = [p.name for p in network.populations if isinstance(p.neuron, models)]
        assert all(getattr(network.by_name[n].neuron, "du", NO_MEMORY) == NO_MEMORY for n in names)
        traces = [reference.run(network, x) for x in inputs]
        wanted = sum(active(network, t, n) for t in traces for n in names)
        counters = simulate(random_mapping(network, seed), inputs).counters
        assert counters.active_updates == wanted > 0
        assert sum(v for core, v in counters.active_by_core.items() if core != HOST) == wanted


def test_zero_weights_and_zero_messages_are_no_work():
    network = random_network(2, kind="rate")
    blank = tuple(
        replace(q, connectivity=q.connectivity.with_weight(q.connectivity.weight * 0)) for q in network.projections
    )
    empty = replace(network, projections=blank)
    counters = simulate(random_mapping(empty, 1), random_inputs(network, 2, 1)).counters
    assert counters.synops == counters.packets == 0
    graded = random_network(2, kind="graded")
    quiet = replace(graded, projections=tuple(replace(q, bias=None) for q in graded.projections))
    nothing = np.zeros((1, *graded.by_name[graded.input.population].shape), dtype=np.int64)
    counters = simulate(random_mapping(quiet, 1), nothing).counters
    assert (counters.spikes, counters.synops, counters.packets, counters.hops) == (0, 0, 0, 0)
    assert counters.neuron_updates > 0


@pytest.mark.parametrize("seed", [0, 4, 7, 9])
def test_the_curve_is_the_readout_of_shorter_runs(seed):
    network = random_network(seed, kind="rate")
    inputs = random_inputs(network, 2, 5)
    run = simulate(random_mapping(network, seed), inputs, curve=True)
    assert run.curves[0].shape == (2, network.timesteps, *run.readout.shape[1:])
    assert np.array_equal(run.curves[0][:, -1], run.readout)
    for steps in range(1, network.timesteps):
        shorter = replace(network, timesteps=steps)
        wanted = np.stack([reference.run(shorter, x).readout for x in inputs])
        assert np.array_equal(run.curves[0][:, steps - 1], wanted)


def test_only_what_was_asked_for_is_kept():
    network = random_network(1)
    routed, inputs = random_mapping(network, 1), random_inputs(network, 2, 1)
    plain = simulate(routed, inputs)
    assert not plain.trace.messages and not plain.trace.potentials and plain.curves is None
    sent = simulate(routed, inputs, trace=frozenset({"messages"}))
    assert set(sent.trace.messages) == set(network.by_name) and not sent.trace.potentials


def test_progress_ends_at_one():
    network = random_network(1)
    seen = []
    simulate(
        random_mapping(network, 1), random_inputs(network, 7, 1), progress=lambda text, part: seen.append((text, part))
    )
    assert len(seen) == 7 and sorted(seen)[-1] == ("simulate", 1.0)


def test_the_device_runs_artifacts():
    device: Device = Simulator()
    assert device.name == "sim" and device.missing() is None
    routed = tiny_routed()
    artifact = Artifact({}, routed, graph_of_everything(), ideal_network(), b"", {}, {})
    inputs = random_inputs(routed.network, 3, 0)
    run = device.execute(artifact, inputs, trace=frozenset({"potentials"}))
    assert np.array_equal(run.readout, np.stack([reference.run(routed.network, x).readout for x in inputs]))
    assert run.trace.potentials and not run.trace.messages


@pytest.mark.parametrize("change", [lambda x: x[:, :-1], lambda x: x.astype(np.float32), lambda x: x[0]])
def test_inputs_that_do_not_fit(change):
    network = random_network(1)
    with pytest.raises(NmcError) as caught:
        simulate(random_mapping(network, 1), change(random_inputs(network, 2, 1)))
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.diagnostics[0].slug == "data-shape"
