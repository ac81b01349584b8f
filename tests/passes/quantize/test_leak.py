"""Rate codes on neurons that leak: the leak is calibrated with, and every executor gives the reference's integers."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.backends.loihi.emit import emit_program
from nmc.backends.loihi.lava_run import TRACES, Job, run_programs
from nmc.compiler.prove_stored import rounding_problems
from nmc.ir import reference
from nmc.ir.network import Network
from nmc.ir.neurons import IF, LIF, Reset
from nmc.ir.reference import decode, encode
from nmc.ir.serial import from_document, to_document
from nmc.ir.verify import verify_program
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.quantize.calibrate_layers import CalibrateLayers
from nmc.passes.quantize.quantize_rate import QuantizeRate
from nmc.runtime.attribution import attribute
from nmc.testing.builders import context_for, residual_graph, small_target
from tests.differential.test_lava import differences as lava_differences
from tests.property.random_mapping import random_mapping
from tests.property.test_mapped_is_reference import differences

RNG = np.random.default_rng(11)
X = RNG.uniform(size=(64, 2, 6, 6)).astype(np.float32)
UNSEEN = RNG.uniform(size=(64, 2, 6, 6)).astype(np.float32)
GRAPH = residual_graph(4)


def leaky(
    decay: int, timesteps: int = 32, reset: Reset = Reset.SUBTRACT, calibrate: bool = True
) -> tuple[Network, Network]:
    """The network over reals and over integers."""
    context = context_for(GRAPH, X)
    real = AlignWindows().run(ConvertRate(timesteps, reset, decay=decay).run(GRAPH, context), context)
    if calibrate:
        real = CalibrateLayers().run(real, context)
    return real, QuantizeRate().run(real, context)


def error(network: Network) -> float:
    """Rms error of the outputs on unseen inputs, relative to their spread."""
    wanted = execute_graph(GRAPH, UNSEEN, ["logits"])["logits"]
    got = decode(network, execute_network(network, encode(network, UNSEEN)).readout)
    return float(np.sqrt(((got - wanted) ** 2).mean()) / wanted.std())


@pytest.mark.parametrize("reset", list(Reset))
def test_a_leak_that_is_calibrated_with_costs_little(reset: Reset) -> None:
    ideal, plain = error(leaky(0, reset=reset)[1]), error(leaky(205, reset=reset, calibrate=False)[1])
    assert plain > 1.5 * ideal
    assert error(leaky(205, reset=reset)[1]) < 1.2 * ideal


@pytest.mark.parametrize("reset", list(Reset))
def test_the_leak_is_stored_and_proved(reset: Reset) -> None:
    real, stored = leaky(300, 8, reset)
    verify_program(real)
    verify_program(stored)
    neurons = [p.neuron for p in stored.populations if isinstance(p.neuron, LIF)]
    assert neurons and all(neuron.dv == 300 for neuron in neurons)
    target = small_target()
    assert list(rounding_problems(real, stored, target, None)) == []
    other = replace(
        stored,
        populations=tuple(
            replace(p, neuron=replace(p.neuron, dv=299)) if isinstance(p.neuron, LIF) else p for p in stored.populations
        ),
    )
    assert any("leak" in message for message, _ in rounding_problems(real, other, target, None))


def test_reals_and_integers_differ_by_rounding_only() -> None:
    real, stored = leaky(205)
    assert abs(error(real) - error(stored)) < 0.05


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("real", [True, False])
def test_layers_and_mapping_leak_like_the_reference(reset: Reset, real: bool) -> None:
    network = leaky(410, 12, reset)[0 if real else 1]
    inputs = encode(network, UNSEEN[:2])
    run = execute_network(network, inputs, keep=True)
    for index, sample in enumerate(inputs):
        wanted = reference.run(network, sample)
        np.testing.assert_allclose(run.readout[index], wanted.readout, rtol=1e-9 if real else 0)
        for name, messages in wanted.messages.items():
            assert np.array_equal(messages, run.messages[name][index])
    if not real:
        assert differences(random_mapping(network, 5), inputs) == []


@pytest.mark.lava
@pytest.mark.parametrize("reset", list(Reset))
def test_lava_leaks_like_the_reference(reset: Reset) -> None:
    network = leaky(410, 12, reset)[1]
    inputs = encode(network, UNSEEN[:2])
    (done,) = run_programs([Job(emit_program(network), network, inputs, TRACES)])
    traces = tuple(reference.run(network, sample) for sample in inputs)
    assert lava_differences(done, traces) == []
    assert any(trace.messages["sum_relu"].any() for trace in traces)


def test_documents_keep_a_leak_and_are_unchanged_without() -> None:
    for decay in (0, 205):
        real = leaky(decay, 8, calibrate=False)[0]
        tree, tensors = to_document(real)
        again = from_document(tree, tensors)
        assert isinstance(again, Network)
        found = [p.neuron for p in again.populations if isinstance(p.neuron, IF)]
        assert found and all(neuron.dv == decay for neuron in found)
        assert ('"dv"' in repr(tree).replace("'", '"')) == (decay > 0)


@pytest.mark.parametrize("reset", list(Reset))
def test_what_constant_inputs_leak_is_no_matter_of_timing(reset: Reset) -> None:
    real, stored = leaky(205, reset=reset)
    values = execute_graph(GRAPH, UNSEEN, ["stem_relu", "first_relu"])
    rows = {row.name: row for row in attribute(stored, real, encode(stored, UNSEEN), values)}
    assert abs(rows["stem_relu"].parts["timing"]) < 0.02 * rows["stem_relu"].error
    for row in rows.values():
        assert sum(row.parts.values()) == pytest.approx(row.error, abs=1e-12)
        assert row.ideal > 0
