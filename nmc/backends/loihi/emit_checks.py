"""What Lava cannot express is refused before anything is emitted: Lava itself would wrap, clip or hang."""

from __future__ import annotations

import numpy as np

from nmc.backends.loihi.emit_synapses import SPIKING_COLUMNS_MAX, SynapsePlan, carries_values
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import IF, LIF, STATE_LIMIT, Burst, IdealIntegrator, Integrator, SigmaDelta, Signed, Source

DELAY_MAX = 64
"""Steps: a `DelaySparse` waits 0 to 63 steps and its sum leaves one step later."""

THRESHOLD_MAX = (1 << 17) - 1
"""Threshold register of Loihi: 17 bit, unsigned."""

MANTISSA_RANGE = (-4096, 4095)
"""Bias mantissa register of Loihi: 13 bit, signed."""

EXPONENT_MAX = 7
"""Bias exponent register of Loihi: 3 bit."""

WORD = (-(1 << 31), (1 << 31) - 1)
"""Integers of Lava's processes without a register of their own: 32 bit, signed."""

SHIFT_MAX = 31
"""Larger right shifts of 32 bits are not defined."""

DECAY_MAX = 4095
"""Decay registers of Loihi: 12 bit."""


def check_network(network: Network, sink: DiagnosticSink) -> None:
    """Report everything about a network that an emitted program could not do exactly."""
    if not network.is_integer:
        sink.error(
            "lava-not-integer", "the network has real weights; Lava runs integers", help="run the quantize stage"
        )
        return
    _check_input(network, sink)
    for population in network.populations:
        _check_population(population, population.name in network.by_input, sink)
    for projection in network.projections:
        _check_projection(network, projection, sink)


def _check_input(network: Network, sink: DiagnosticSink) -> None:
    for spec in network.inputs:
        population = network.by_name[spec.population]
        wanted = Source if spec.mode == "message" else LIF | IF
        if not isinstance(population.neuron, wanted) or population.start != 0:
            sink.error(
                "lava-input",
                f"the input population is a {type(population.neuron).__name__} that starts at step {population.start}; "
                f"mode '{spec.mode}' cannot drive it",
                origin=population.origin,
            )


def _check_population(population: Population, is_input: bool, sink: DiagnosticSink) -> None:
    neuron, origin = population.neuron, population.origin

    def within(what: str, values: object, low: int, high: int) -> None:
        found = np.asarray(values)
        if found.min() < low or found.max() > high:
            text = f"{what} of {population.name} spans {found.min()} to {found.max()}; Lava takes {low} to {high}"
            sink.error("lava-parameter", text, origin=origin)

    if isinstance(neuron, IdealIntegrator) or (isinstance(neuron, Source) and not is_input):
        text = f"{population.name} is a {type(neuron).__name__}, which has no Lava process here"
        sink.error("lava-neuron", text, origin=origin, help="run the quantize stage")
    if not is_input and population.start < 1:
        sink.error("lava-window", f"{population.name} starts at step 0, before any input arrives", origin=origin)
    if isinstance(neuron, LIF | Integrator):
        within("the bias mantissa", neuron.bias_mant, *MANTISSA_RANGE)
        within("the bias exponent", neuron.bias_exp, 0, EXPONENT_MAX)
        within("the initial potential", neuron.v0, -(STATE_LIMIT - 1), STATE_LIMIT - 1)
    if isinstance(neuron, LIF):
        within("the threshold", neuron.threshold, 0, THRESHOLD_MAX)
        within("the refractory time", neuron.refractory, 0, WORD[1])
        within("the decay of u", neuron.du, 0, DECAY_MAX)
        within("the decay of v", neuron.dv, 0, DECAY_MAX)
    if isinstance(neuron, IF):
        for what, values in (("threshold", neuron.threshold), ("bias", neuron.bias), ("initial potential", neuron.v0)):
            within(f"the {what}", values, *WORD)
    if isinstance(neuron, SigmaDelta):
        within("the threshold", neuron.threshold, 1, WORD[1])
        within("the bias", neuron.v0, *WORD)
        within("the shift", neuron.shift, 0, SHIFT_MAX)
    if isinstance(neuron, LIF | IF) and isinstance(neuron.fire, Signed):
        within("the lower threshold", neuron.fire.lower, 0, THRESHOLD_MAX if isinstance(neuron, LIF) else WORD[1])
    if isinstance(neuron, LIF | IF) and isinstance(neuron.fire, Burst):
        within("the largest burst", neuron.fire.levels, 1, WORD[1])


def _check_projection(network: Network, projection: Projection, sink: DiagnosticSink) -> None:
    name, origin = projection.name, projection.origin
    source, target = network.by_name[projection.source], network.by_name[projection.target]
    recurrent = projection.name in network.recurrent
    if recurrent and projection.bias is not None and np.any(projection.bias):
        sink.error(
            "lava-projection-bias",
            f"{name} leads back and has a bias, which counts only in the steps that its messages reach",
            origin=origin,
            help="move the bias into the neurons",
        )
    if not recurrent and target.start != source.sends_from + projection.delay:
        text = (
            f"{name}: the target's window starts at step {target.start}, not {projection.delay} after its source's "
            f"({source.sends_from})"
        )
        sink.error("lava-window", text, origin=origin, help="run the align stage")
    if projection.delay > DELAY_MAX:
        sink.error("lava-delay", f"{name} waits {projection.delay} steps; Lava at most {DELAY_MAX}", origin=origin)
    weight = projection.connectivity.weight
    if not weight.size:
        return
    low, high = int(weight.min()), int(weight.max())
    mixed = low < 0 < high
    if low < -255 or high > 255 or (mixed and (bool(np.any(weight & 1)) or low < -254)):
        sink.error(
            "lava-weights",
            f"{name} has weights from {low} to {high}; Lava stores even ones in -254..254 where signs are mixed, "
            "else magnitudes up to 255",
            origin=origin,
        )


def check_constants(network: Network, plans: dict[str, SynapsePlan], sink: DiagnosticSink) -> None:
    """Report biases that would need too many constant neurons."""
    for projection in network.projections:
        needed = plans[projection.name].constants
        if needed > SPIKING_COLUMNS_MAX and not carries_values(network.by_name[projection.source]):
            sink.error(
                "lava-projection-bias",
                f"{projection.name} needs {needed} constant neurons for its bias; at most {SPIKING_COLUMNS_MAX}",
                origin=projection.origin,
                help="move the bias into the neurons",
            )
