"""Relays that send partial sums as signed spikes hold back one threshold at most, and say so."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import CoreLimits, Target
from nmc.ir.connectivity import Dense
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import PARTS, SUM, Network
from nmc.ir.neurons import LIF, Reset, Signed
from nmc.ir.reference import encode, run
from nmc.ir.verify import verify_program
from nmc.kernels.layerwise import execute_network
from nmc.passes.base import Context
from nmc.passes.check import mapping_diagnostics
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import feasibility
from nmc.passes.partition.signed_relays import threshold_for
from nmc.passes.partition.split_fan_in import SplitFanIn, refusal
from nmc.runtime.simulator import simulate
from tests.passes.networks import SMALL, Build, readout, weights
from tests.passes.targets import chip, context, mapped


def signed_chip(in_axons: int, top: int = 254) -> Target:
    made = chip(CoreLimits(neurons=64, in_axons=in_axons), chips_max=99)
    neurons = replace(made.neurons, models=("lif", "signed"), resets=(Reset.SUBTRACT, Reset.ZERO))
    narrow = replace(made.messages, graded_bits=2)
    return replace(made, neurons=neurons, messages=narrow, weights=replace(made.weights, low=-top, high=top))


def inputs_of(network: Network, count: int = 3) -> np.ndarray:
    spec = network.input
    return np.random.default_rng(3).random((count, *spec.shape)).astype(np.float32) * spec.scale * spec.high


def split(network: Network, target: Target, inputs: np.ndarray) -> tuple[Network, Context]:
    noted = context(target, inputs=inputs)
    made = SplitFanIn("signed").run(network, noted)
    verify_program(made)
    return made, noted


NAMES = ["conv", "residual", "sparse"]


@pytest.mark.parametrize("name", NAMES)
def test_relays_hold_back_one_threshold_at_most(name):
    network = SMALL[name]()
    inputs = inputs_of(network)
    made, _ = split(network, signed_chip(12), inputs)
    relays = [p for p in made.populations if p.name not in network.by_name]
    assert relays
    for sample in encode(network, inputs):
        trace = run(made, sample)
        for relay in relays:
            (parts,) = made.incoming[relay.name]
            assert isinstance(relay.neuron, LIF) and isinstance(relay.neuron.fire, Signed)
            assert parts.name.endswith(PARTS)
            target, source, weight = parts.connectivity.synapses()
            sent = np.asarray(trace.messages[parts.source]).reshape(-1, made.by_name[parts.source].neurons).sum(axis=0)
            sums = np.bincount(target, weight * sent[source], relay.neurons)
            spikes = np.asarray(trace.messages[relay.name]).reshape(-1, relay.neurons).sum(axis=0)
            threshold = int(relay.neuron.threshold)
            assert np.abs(sums - spikes * threshold).max() <= threshold
            # What a spike stands for is what its weight and shift say.
            (total,) = made.outgoing[relay.name]
            whole = next(p for p in network.projections if p.name == total.name.removesuffix(SUM))
            moved = total.connectivity.weight.max() * np.exp2(-total.shift.astype(float))
            np.testing.assert_allclose(moved, threshold * np.exp2(-whole.shift.astype(float)))


@pytest.mark.parametrize("name", ["conv", "sparse"])
def test_what_is_split_fits_is_mapped_and_runs(name):
    network, target = SMALL[name](), signed_chip(12)
    inputs = inputs_of(network)
    made, _ = split(network, target, inputs)
    assert not any("in_axons" in fit.exceeded for fit in feasibility(DemandModel.of(made, target, {})))
    routed = mapped(made, target, partitioner="overlap", chips=90)
    assert mapping_diagnostics(routed, target) == ()
    x = encode(network, inputs)
    np.testing.assert_array_equal(simulate(routed, x).readout, execute_network(made, x).readout)


def test_the_stated_error_holds():
    rng = np.random.default_rng(0)
    small = np.clip(weights(rng, 6, 40), -6, 6)  # Larger ones would let the current wrap: they are not split.
    build = Build((1, 5, 8)).add("out", [("in", Dense(small, (1, 5, 8), (6,)), 1)], neuron=readout())
    network = build.network()
    inputs = inputs_of(network, 4)
    made, noted = split(network, signed_chip(12), inputs)
    note = next(d.message for d in noted.diagnostics.items if d.slug == "fan-in-split")
    stated = float(re.search(r"they hold back ([\d.e+]+) of its potential at most", note)[1])
    x = encode(network, inputs)
    wanted, got = execute_network(network, x).readout, execute_network(made, x).readout
    assert 0 < np.abs(wanted - got).max() <= stated


def test_thresholds_are_weights_of_the_target():
    target = signed_chip(12, top=254)
    for peak in (0, 1, 2, 3, 254, 255, 256, 1000, 131_000):
        found = threshold_for(peak, target)
        assert found.value >= peak
        assert 0 < found.mantissa <= 254 and found.mantissa % target.weights.step == 0
        # The next smaller one of the same exponent would not do.
        assert found.value - (target.weights.step << found.exponent) < max(peak, 1)


def test_unknown_relays_are_refused():
    with pytest.raises(NmcError) as caught:
        SplitFanIn("analog").run(SMALL["conv"](), context(signed_chip(12)))
    assert (caught.value.diagnostics[0].slug, caught.value.exit_code) == ("option-invalid", ExitCode.USAGE)


def test_they_are_used_on_request_only_and_named_where_they_would_help():
    network, target = SMALL["conv"](), signed_chip(12)
    assert SplitFanIn().run(network, context(target)) is network
    assert "--set split-fan-in.relays=signed" in refusal(target, ["in_axons"])
    silent = replace(target, neurons=replace(target.neurons, models=("lif",)))
    assert SplitFanIn("signed").run(network, context(silent)) is network
    assert "signed" not in refusal(silent, ["in_axons"])
