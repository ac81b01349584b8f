"""Invariants of a `Network`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.network import HEADS, InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    NO_MEMORY,
    Burst,
    Fire,
    IdealIntegrator,
    Integrator,
    SigmaDelta,
    Signed,
    Source,
    has_potential,
)
from nmc.ir.verify_connectivity import (
    Finding,
    array_problems,
    connectivity_problems,
    shape_problems,
)

WEIGHT_LIMIT = 1 << 31
"""No stored integer of a network needs more than 32 bits (sums stay below 2^31)."""

SHIFT_LIMIT = 31
"""Shifts by more than the width of a sum mean nothing."""


def network_findings(network: Network) -> list[Finding]:
    """Names, order, shapes, delays, windows, integer parameters, and the two ends."""
    findings: list[Finding] = []
    order: dict[str, Population] = {}
    integer = network.is_integer
    for population in network.populations:
        if population.name in order:
            findings.append((f"two populations are named '{population.name}'", population.origin))
        order[population.name] = population
        problems = _population_problems(population, integer)
        findings.extend((f"population '{population.name}': {p}", population.origin) for p in problems)
    if network.timesteps < 1:
        findings.append((f"timesteps is {network.timesteps}, at least 1 is needed", None))
    names: set[str] = set()
    for projection in network.projections:
        if projection.name in names:
            findings.append((f"two projections are named '{projection.name}'", projection.origin))
        names.add(projection.name)
        problems = _projection_problems(projection, order, integer)
        findings.extend((f"projection '{projection.name}': {p}", projection.origin) for p in problems)
    findings.extend((message, None) for message in _order_problems(network, order))
    findings.extend((f"window: {message}", None) for message in _window_problems(network, order))
    findings.extend((f"input: {message}", None) for message in _input_problems(network, order))
    findings.extend((f"output: {message}", None) for message in _output_problems(network, order))
    return findings


def _parameter_shapes(shape: Shape) -> list[Shape]:
    """Shapes of a neuron parameter: scalar, one per channel, one per neuron."""
    return [(), (shape[0], *(1,) * (len(shape) - 1)), shape]


def _parameters(population: Population) -> dict[str, Array]:
    """The parameter arrays of a population's neurons, by name."""
    match population.neuron:
        case LIF() as lif:
            lif_parameters = {"threshold": lif.threshold, "bias_mant": lif.bias_mant, "bias_exp": lif.bias_exp}
            return lif_parameters | {"v0": lif.v0} | _fire_parameters(lif.fire)
        case IF() as ideal:
            return {"threshold": ideal.threshold, "bias": ideal.bias, "v0": ideal.v0} | _fire_parameters(ideal.fire)
        case SigmaDelta() as delta:
            return {"threshold": delta.threshold, "v0": delta.v0, "shift": delta.shift}
        case Integrator() as readout:
            return {"bias_mant": readout.bias_mant, "bias_exp": readout.bias_exp, "v0": readout.v0}
        case IdealIntegrator() as readout:
            return {"bias": readout.bias}
    return {}


def _fire_parameters(fire: Fire) -> dict[str, Array]:
    return {"lower": fire.lower} if isinstance(fire, Signed) else {}


def _population_problems(population: Population, integer: bool) -> Iterator[str]:
    neuron = population.neuron
    problems = list(shape_problems(population.shape))
    yield from problems
    if problems:
        return
    if population.start < 0:
        yield f"the window starts at {population.start}"
    if population.wait < 0 or (population.wait and not isinstance(neuron, LIF | IF)):
        yield f"a {type(neuron).__name__} waits {population.wait} steps; only LIF and IF neurons can wait"
    for name, array in _parameters(population).items():
        found = list(array_problems(name, array, _parameter_shapes(population.shape)))
        yield from found
        if found:
            return
        if isinstance(neuron, LIF | Integrator | SigmaDelta) and array.dtype.kind not in "iu":
            yield f"{name} of a {type(neuron).__name__} must be integer, found {array.dtype}"
            return
        if integer and array.dtype.kind == "f" and np.any(array != np.rint(array)):
            yield f"{name} is not integer in an integer network"
        if np.any(np.abs(array) >= WEIGHT_LIMIT) and array.dtype.kind in "iu":
            yield f"{name} reaches {int(np.abs(array).max())}, the limit is 2^31"
    if isinstance(neuron, IdealIntegrator) and integer:
        yield "an IdealIntegrator is left in an integer network"
    if isinstance(neuron, LIF | IF | SigmaDelta) and np.any(neuron.threshold <= 0):
        yield f"a threshold is {neuron.threshold.min()}, it must be positive"
    if isinstance(neuron, LIF | IF):
        yield from _fire_problems(neuron.fire)
    if isinstance(neuron, LIF) and neuron.refractory < 0:
        yield f"a refractory time of {neuron.refractory} steps"
    if isinstance(neuron, SigmaDelta) and not np.all((neuron.shift >= 0) & (neuron.shift <= SHIFT_LIMIT)):
        yield f"a shift is outside 0..{SHIFT_LIMIT}"
    if isinstance(neuron, IF) and not 0 <= neuron.dv <= (0 if integer else NO_MEMORY + 1):
        yield f"an ideal neuron with the leak dv={neuron.dv}{' in an integer network' if integer else ''}"
    if isinstance(neuron, LIF) and not (0 <= neuron.du <= NO_MEMORY and 0 <= neuron.dv <= NO_MEMORY + 1):
        yield f"decays du={neuron.du}, dv={neuron.dv} are outside 0..4095"
    if isinstance(neuron, LIF | Integrator) and (np.any(neuron.bias_exp < 0) or np.any(neuron.bias_exp > SHIFT_LIMIT)):
        yield f"a bias exponent is outside 0..{SHIFT_LIMIT}"
    if isinstance(neuron, Source) and not 1 <= neuron.bits <= 32:
        yield f"messages of {neuron.bits} bits, 1 to 32 are known"


def _fire_problems(fire: Fire) -> Iterator[str]:
    if isinstance(fire, Burst) and not 1 <= fire.levels < WEIGHT_LIMIT:
        yield f"bursts of {fire.levels} levels, at least 1 is needed"
    if isinstance(fire, Signed) and np.any(fire.lower < 0):
        yield f"a lower threshold is {fire.lower.min()}, it stands for its negative and must not be below 0"


def _projection_problems(projection: Projection, order: dict[str, Population], integer: bool) -> Iterator[str]:
    unknown = [name for name in (projection.source, projection.target) if name not in order]
    if unknown:
        yield f"names {unknown}, which are no populations"
        return
    if projection.delay < 1:
        yield f"delay {projection.delay}, at least 1 is needed"
    operator = projection.connectivity
    problems = list(connectivity_problems(operator))
    yield from problems
    if problems:
        return
    source, target = order[projection.source], order[projection.target]
    if size(operator.in_shape) != source.neurons:
        yield f"reads {operator.in_shape}, but '{source.name}' has shape {source.shape}"
    if size(operator.out_shape) != target.neurons:
        yield f"makes {operator.out_shape}, but '{target.name}' has shape {target.shape}"
    channels, weight = operator.out_shape[:1], operator.weight
    if projection.bias is not None:
        yield from array_problems("bias", projection.bias, [(), channels, operator.out_shape])
        if integer and projection.bias.dtype.kind not in "iu":
            yield f"bias is {projection.bias.dtype} in an integer network"
    if not integer and weight.dtype.kind in "iu":
        yield "has integer weights where others are real: quantization is half done"
    if weight.dtype.kind in "iu" and weight.size and np.abs(weight).max() >= WEIGHT_LIMIT:
        yield f"a weight reaches {int(np.abs(weight).max())}, the limit is 2^31"
    found = list(array_problems("shift", projection.shift, [(), channels]))
    yield from found
    if not found and projection.shift.dtype.kind not in "iu":
        yield f"shift is {projection.shift.dtype}, not integer"
    elif not found and np.any(np.abs(projection.shift) > SHIFT_LIMIT):
        yield f"a shift of {int(np.abs(projection.shift).max())} exceeds {SHIFT_LIMIT}"


def _order_problems(network: Network, order: dict[str, Population]) -> Iterator[str]:
    """Sources receive nothing; what leads backwards is recurrent and ends in a spiking population."""
    for projection in network.projections:
        if projection.source not in order or projection.target not in order:
            continue
        if projection.name in network.recurrent and not has_potential(order[projection.target].neuron):
            yield (
                f"projection '{projection.name}' leads backwards into '{projection.target}', whose neurons have no "
                "potential: only those may receive recurrent projections"
            )
        if isinstance(order[projection.target].neuron, Source):
            yield f"projection '{projection.name}' ends in the source '{projection.target}'"


def _window_problems(network: Network, order: dict[str, Population]) -> Iterator[str]:
    """Once aligned (some window starts after 0), starts and delays agree on every forward projection."""
    if all(p.start == 0 for p in network.populations):
        return
    for projection in network.projections:
        known = projection.source in order and projection.target in order
        if not known or projection.name in network.recurrent:
            continue
        source, target = order[projection.source], order[projection.target]
        if target.start != source.sends_from + projection.delay:
            yield (
                f"'{target.name}' starts at {target.start}, but '{projection.name}' delivers from "
                f"{source.sends_from + projection.delay}"
            )


def _input_problems(network: Network, order: dict[str, Population]) -> Iterator[str]:
    if not network.inputs:
        yield "a network has at least one"
    names = [spec.name for spec in network.inputs]
    if len(names) > 1 and ("" in names or len(set(names)) != len(names)):
        yield f"several need names of their own, found {', '.join(map(repr, names))}"
    if len(network.by_input) != len(network.inputs):
        yield "two of them share a population"
    others = [p.name for p in order.values() if isinstance(p.neuron, Source) and p.name not in network.by_input]
    if others:
        yield f"sources {others} are not the input"
    for spec in network.inputs:
        population = order.get(spec.population)
        if population is None:
            yield f"'{spec.population}' is no population"
        else:
            yield from _one_input_problems(network, spec, population)


def _one_input_problems(network: Network, spec: InputSpec, population: Population) -> Iterator[str]:
    if population.start != 0:
        yield f"'{population.name}' starts at {population.start}, the input starts at 0"
    if population.wait:
        yield f"'{population.name}' waits {population.wait} steps, the input cannot wait"
    if any(p.target == population.name for p in network.projections):
        yield f"'{population.name}' receives projections"
    if spec.mode not in ("message", "bias"):
        yield f"mode {spec.mode!r}, known are message and bias"
    elif (spec.mode == "message") != isinstance(population.neuron, Source):
        yield f"mode {spec.mode} does not fit a population of {type(population.neuron).__name__}"
    if size(spec.shape) * (2 if spec.split_sign else 1) != population.neurons:
        yield f"samples of {spec.shape} do not fill '{population.name}' of shape {population.shape}"
    if not (math.isfinite(spec.scale) and spec.scale > 0):
        yield f"scale {spec.scale} is not positive and finite"
    if spec.low > spec.high or max(-spec.low, spec.high) >= WEIGHT_LIMIT:
        yield f"range {spec.low}..{spec.high} is empty or needs more than 32 bits"
    if not 0 <= spec.bias_exp <= SHIFT_LIMIT:
        yield f"bias exponent {spec.bias_exp} is outside 0..{SHIFT_LIMIT}"
    if spec.perm is not None and sorted(spec.perm) != list(range(len(spec.shape))):
        yield f"{spec.perm} is no permutation of the axes of {spec.shape}"


def _output_problems(network: Network, order: dict[str, Population]) -> Iterator[str]:
    if not network.outputs:
        yield "a network has at least one"
    names = [spec.name for spec in network.outputs]
    if len(names) > 1 and ("" in names or len(set(names)) != len(names)):
        yield f"several need names of their own, found {', '.join(map(repr, names))}"
    for spec in network.outputs:
        population = order.get(spec.population)
        if population is None:
            yield f"'{spec.population}' is no population"
        else:
            yield from _read_out_problems(spec, population)
    for name, scale in network.scales.items():
        known = order.get(name)
        if known is None:
            yield f"a scale is given for '{name}', which is no population"
        else:
            shapes = [(), known.shape[:1], *_parameter_shapes(known.shape)]
            yield from (f"'{name}': {p}" for p in array_problems("scale", scale, shapes))


def _read_out_problems(spec: OutputSpec, population: Population) -> Iterator[str]:
    if isinstance(population.neuron, Source):
        yield f"'{population.name}' is a source"
    if spec.head not in HEADS:
        yield f"the host has no '{spec.head}'"
    if size(spec.shape) != (1 if spec.head == "argmax" else population.neurons):
        yield f"outputs of {spec.shape} do not match '{population.name}' of shape {population.shape}"
    yield from array_problems("scale", spec.scale, [(), population.shape[:1], population.shape])
