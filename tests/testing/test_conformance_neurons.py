"""The suite's networks for neuron kinds: alive, within the target's widths, on any target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.backends.api import Options, Payload
from nmc.backends.loihi.backend import LoihiBackend
from nmc.hardware.target import Target
from nmc.ir import reference
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.ir.verify import verify_program
from nmc.testing.conformance import checks, family
from nmc.testing.conformance.bench import Bench, Case, neuron_cases
from nmc.testing.conformance.neuron_networks import neuron_inputs, neuron_kinds, neuron_network

TARGETS = LoihiBackend().targets()


def narrow() -> Target:
    """A chip of 4-bit weights, 6-bit messages and 6-bit thresholds that names every neuron."""
    target = TARGETS["loihi2"]
    return replace(
        target,
        neurons=replace(target.neurons, threshold_max=63, bias_mantissa_max=15, refractory_max=2),
        messages=replace(target.messages, graded_bits=6, input_bits=1),
        weights=replace(target.weights, bits=4, step=1, low=-7, high=7, delay_max=1),
    )


CASES = [(name, kind) for name, target in {**TARGETS, "narrow": narrow()}.items() for kind in neuron_kinds(target)]


def test_kinds_are_those_that_the_target_names() -> None:
    assert neuron_kinds(TARGETS["loihi1"]) == ("recurrent", "refractory")
    assert neuron_kinds(TARGETS["loihi2"]) == ("recurrent", "signed", "burst", "refractory", "sigma-delta")
    deltas = replace(TARGETS["loihi2"], neurons=replace(TARGETS["loihi2"].neurons, models=("sigma-delta", "burst")))
    assert neuron_kinds(deltas) == ("sigma-delta",)


@pytest.mark.parametrize("name,kind", CASES)
def test_networks_use_what_they_are_for(name: str, kind: str) -> None:
    target = TARGETS.get(name) or narrow()
    network = neuron_network(kind, target)
    verify_program(network)
    inputs = reference.encode(network, neuron_inputs(network, 4))
    traces = [reference.run(network, sample) for sample in inputs]
    for population in network.populations[:-1]:
        sent = np.stack([trace.messages[population.name] for trace in traces])
        assert 0.01 < np.count_nonzero(sent) / sent.size < 0.95, population.name
        if kind == "signed" and population.name != "input":
            assert sent.min() == -1
        if kind in ("burst", "sigma-delta") and population.name != "input":
            assert sent.max() > 1
            assert (sent.min() < 0) == (kind == "sigma-delta" and population.name == "first")
        assert np.abs(sent).max() < 1 << max(1, target.messages.graded_bits)
    assert bool(network.recurrent) == (kind == "recurrent")
    if kind == "recurrent":
        still = replace(network, projections=tuple(q for q in network.projections if q.name not in network.recurrent))
        without = [reference.run(still, sample) for sample in inputs]
        assert any(
            not np.array_equal(a.messages["first"], b.messages["first"]) for a, b in zip(traces, without, strict=True)
        )


class OnNarrow(LoihiBackend):
    def targets(self) -> dict[str, Target]:
        return {"loihi2": narrow()}

    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {"cores.txt": repr(routed.clusters).encode()}


@pytest.mark.parametrize("kind", neuron_kinds(narrow()))
def test_numbers_fit_a_narrow_chip(kind: str) -> None:
    bench, case = Bench(OnNarrow), Case("loihi2", kind, "neurons")
    artifact = bench.compile(case)
    assert artifact.routed.cores_used > 1
    checks.stored_numbers(bench, case, artifact)
    checks.simulator(bench, case, artifact)


def test_a_neuron_that_the_target_does_not_name_is_found() -> None:
    bench, case = Bench(LoihiBackend), Case("loihi2", "burst", "neurons")
    artifact = bench.compile(case)
    checks.stored_numbers(bench, case, artifact)
    with pytest.raises(AssertionError, match="burst"):
        checks.stored_numbers(bench, replace(case, target="loihi1"), artifact)


def test_a_named_neuron_that_is_refused_is_found() -> None:
    class WithoutEmitter(LoihiBackend):
        def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
            if routed.network.recurrent:
                raise NmcError.single("no-loops", "this chip has no loops", ExitCode.DOES_NOT_FIT)
            return super().emit(routed, target, options)

    assert [case.network for case in neuron_cases({"loihi1": TARGETS["loihi1"]})] == ["recurrent", "refractory"]
    family.named_neurons_run(Bench(LoihiBackend), "loihi1")
    with pytest.raises(AssertionError, match="loihi1-recurrent-neurons is refused: this chip has no loops"):
        family.named_neurons_run(Bench(WithoutEmitter), "loihi1")
