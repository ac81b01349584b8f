"""Proof that an emitted Lava program is the network: read back, and compared number by number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nmc.backends.api import Payload
from nmc.backends.loihi.emit import read_out_scales
from nmc.backends.loihi.read_program import Emitted, Inputs, Operator, Pick, Process, Synapses, UnknownFormError
from nmc.backends.loihi.read_program import read_program as read
from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Pool, Shape, Skip, Sparse, size
from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    NO_MEMORY,
    Binary,
    Burst,
    Graded,
    GradedReLU,
    Integrator,
    Reset,
    SigmaDelta,
    Signed,
    Source,
    has_potential,
    spike_levels,
)
from nmc.ir.origin import Origin
from nmc.ir.reference import per_channel
from nmc.runtime.stopping import MarginRule

Problem = tuple[str, Origin | None]

RESTORED = ("LIF", "TernaryLIF", "sigma_delta")
"""Processes without a periodic reset: what starts their window is written into them."""

TRIALS = 32
"""Sums that biases and shifts are tried with."""

VALUES = 1 << 22
"""Sums of a population that are tried, but for two of each neuron."""

REACH = 1 << 20
"""They lie between plus and minus that many units of the weights."""


def prove_program(
    payload: Payload, network: Network, program: str, arrays: str, rule: MarginRule | None = None
) -> None:
    """Compare an emitted program with its network, and with the rule by which its samples stop.

    Raises:
        NmcError: ``emission-differs``: they are not the same; exit 70, with all differences.
    """
    sink = DiagnosticSink()
    try:
        emitted = read(payload, program, arrays)
    except UnknownFormError as error:
        sink.error("emission-differs", f"the emitted program has a form that is not known: {error}")
        sink.raise_errors(ExitCode.INTERNAL)
        return
    for message, origin in (*_problems(emitted, network), *_stops(emitted, network, rule)):
        sink.error("emission-differs", f"the emitted program: {message}", origin=origin)
    sink.raise_errors(ExitCode.INTERNAL)


def _stops(emitted: Emitted, network: Network, rule: MarginRule | None) -> Iterator[Problem]:
    """Samples stop by the thresholds and the scales of the read-outs, or never."""
    wanted: dict[str, tuple[float, ...] | None] = {"STOP": None, "SCALES": None}
    if rule is not None:
        wanted = {"STOP": rule.thresholds, "SCALES": read_out_scales(network)}
    for name, values in wanted.items():
        if emitted.constants.get(name) != values:
            yield f"{name} is not what samples stop by", None


def _problems(emitted: Emitted, network: Network) -> Iterator[Problem]:
    populations = network.populations
    numbers = {p.name: number for number, p in enumerate(populations)}
    wanted = {
        "STEPS": network.timesteps,
        "NEURONS": tuple(p.neurons for p in populations),
        "STARTS": tuple(p.sends_from for p in populations),
        "POTENTIALS": tuple(numbers[p.name] for p in populations if has_potential(p.neuron)),
        "LOADED": tuple(n for n, process in enumerate(emitted.processes) if process.name in RESTORED),
        "INPUT": numbers[network.input.population],
        "OUTPUTS": tuple(numbers[name] for name in network.read_outs),
    }
    for name, value in wanted.items():
        if emitted.constants.get(name) != value:
            yield f"{name} is {emitted.constants.get(name)}, not {value}", None
    if len(emitted.processes) != len(populations):
        yield f"it has {len(emitted.processes)} populations, not {len(populations)}", None
        return
    for number, population in enumerate(populations):
        said = _Said(emitted, number, emitted.processes[number], population.neurons)
        wrong = [name for name, same in _population(said, population, network) if not same]
        if wrong:
            yield f"population {number} has another {', '.join(wrong)}", population.origin
    yield from _projections(emitted, network, numbers)


class _Said:
    """What a program says about one population, constant neurons left out."""

    def __init__(self, emitted: Emitted, number: int, process: Process, neurons: int) -> None:
        self.process, self.neurons = process, neurons
        self.loads = {name: (value, start) for n, name, value, start in emitted.loads if n == number}
        self.drives = [values for n, values in emitted.drives if n == number]

    def array(self, name: str, default: int = 0) -> Array:
        """A parameter of each neuron."""
        found = self.process.arguments.get(name, default)
        return np.asarray(found)[: self.neurons] if np.ndim(found) else np.full(self.neurons, found)

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter of all."""
        return self.process.arguments.get(name, default)


def _flat(values: Array, shape: Shape) -> Array:
    return np.broadcast_to(values, shape).reshape(-1)


def _population(said: _Said, population: Population, network: Network) -> Iterator[tuple[str, bool]]:
    """What is compared, and whether it is the same."""
    neuron, shape = population.neuron, population.shape

    def same(name: str, values: Array, default: int = 0) -> bool:
        return bool(np.array_equal(said.array(name, default), _flat(values, shape)))

    count = said.get("shape", (population.neurons,))
    yield "number of neurons", bool(count[0] >= population.neurons)
    match neuron:
        case Source():
            yield "process", said.process.name == "source"
            yield "input", _columns(said.get("0"), population, network) and said.get("once", False) == neuron.once
            return
        case GradedReLU() | Graded():
            wanted = "GradedReluVec" if isinstance(neuron, GradedReLU) else "GradedVec"
            yield "process", said.process.name == wanted
            yield "threshold", same("vth", np.zeros(()))
            return
        case LIF() | Integrator():
            yield from _leaky(said, neuron, population, network)
        case IF():
            yield "process", said.process.name == "IntegrateAndFire"
            yield "threshold", same("vth", neuron.threshold)
            driven = population.name in network.by_input
            yield "bias", bool(said.drives) if driven else same("bias", neuron.bias)
            yield "initial potential", same("v0", neuron.v0)
            yield from _rule(said, neuron, shape)
        case SigmaDelta():
            yield "process", said.process.name in ("sigma_delta", "ShiftedSigmaDelta")
            yield "threshold", same("vth", neuron.threshold)
            yield "initial potential", same("v0", neuron.v0)
            yield "shift", same("shift", neuron.shift)
            yield "rectification", said.get("rectify") == neuron.rectify
    yield from _window(said, population)


def _columns(found: Any, population: Population, network: Network) -> bool:
    """Whether a population takes its own columns of the inputs."""
    place = network.input_places[population.name]
    own = None if len(network.inputs) == 1 else (place.start, place.stop)
    return isinstance(found, Inputs) and found.columns == own


def _window(said: _Said, population: Population) -> Iterator[tuple[str, bool]]:
    """The window starts where it should: by a periodic reset, or by what restores the state."""
    if said.process.name in ("LIF", "TernaryLIF"):
        starts = {start for _, start in said.loads.values()}
        yield "window", starts == {population.start} and "v" in said.loads
    elif said.process.name == "sigma_delta":
        yield "window", said.get("start") == population.start
    else:
        yield "window", said.get("reset_offset") == population.start + 1
        yield "waiting time", said.get("wait", 0) == population.wait


def _leaky(
    said: _Said, neuron: LIF | Integrator, population: Population, network: Network
) -> Iterator[tuple[str, bool]]:
    shape, name = population.shape, said.process.name
    du, dv = (neuron.du, neuron.dv) if isinstance(neuron, LIF) else (NO_MEMORY, 0)
    yield "decay", (said.get("du"), said.get("dv")) == (du, dv)
    if population.name in network.by_input:
        driven = [said.get("bias_mant"), *said.drives]
        yield "input", len(driven) == 2 and all(_columns(values, population, network) for values in driven)
    else:
        yield "bias", bool(np.array_equal(said.array("bias_mant"), _flat(neuron.bias_mant, shape))) and not said.drives
    yield "bias exponent", bool(np.array_equal(said.array("bias_exp"), _flat(neuron.bias_exp, shape)))
    restored = said.loads.get("v", (0, 0))[0]
    start = said.array("v0") if name == "MicrocodeLIF" else np.broadcast_to(restored, (len(np.atleast_1d(restored)),))
    start = start[: population.neurons] if len(start) > 1 else np.full(population.neurons, start[0])
    yield "initial potential", bool(np.array_equal(start, _flat(neuron.v0, shape)))
    if isinstance(neuron, Integrator):
        yield "process", name in ("LIF", "LIFReset")
        yield "threshold", bool(np.all(said.array("vth") >= (1 << 17) - 1))
        return
    key = "vth_hi" if name == "TernaryLIF" else "vth"
    yield "threshold", bool(np.array_equal(said.array(key), _flat(neuron.threshold, shape)))
    yield "process", name in ("LIF", "LIFReset", "TernaryLIF", "MicrocodeLIF")
    if name == "MicrocodeLIF":
        yield "refractory time", bool(np.all(said.array("refractory") == neuron.refractory))
        yield from _rule(said, neuron, shape)
        return
    # The stock neurons reset to zero, and send spikes of 1; TernaryLIF of -1 too.
    yield "reset", neuron.reset is Reset.ZERO and not neuron.refractory
    if name == "TernaryLIF":
        lower = neuron.fire.lower if isinstance(neuron.fire, Signed) and not neuron.fire.guarded else None
        yield "firing rule", lower is not None and bool(np.array_equal(said.array("vth_lo"), -_flat(lower, shape)))
    else:
        yield "firing rule", isinstance(neuron.fire, Binary)


def _rule(said: _Said, neuron: LIF | IF, shape: Shape) -> Iterator[tuple[str, bool]]:
    yield "reset", said.get("subtract", True) == (neuron.reset is Reset.SUBTRACT)
    levels = neuron.fire.levels if isinstance(neuron.fire, Burst) else 1
    yield "largest burst", bool(np.all(said.array("levels", 1) == levels))
    if isinstance(neuron.fire, Signed):
        same = bool(np.array_equal(said.array("lower", -1), _flat(neuron.fire.lower, shape)))
        yield "lower threshold", same and said.get("guarded", False) == neuron.fire.guarded
    else:
        yield "lower threshold", said.get("lower") is None


def _projections(emitted: Emitted, network: Network, numbers: Mapping[str, int]) -> Iterator[Problem]:
    """Every projection has its processes, in order, and what its target receives is the same."""
    calls: list[list[Synapses]] = []
    for call in emitted.synapses:
        if calls and calls[-1][0].operator is call.operator:
            calls[-1].append(call)
        else:
            calls.append([call])
    if len(calls) != len(network.projections):
        yield f"it has {len(calls)} projections, not {len(network.projections)}", None
        return
    by_target: dict[str, list[tuple[Projection, list[Synapses]]]] = {p.name: [] for p in network.populations}
    for number, (projection, group) in enumerate(zip(network.projections, calls, strict=True)):
        wrong = [name for name, same in _projection(group, projection, network, numbers) if not same]
        if wrong:
            yield f"projection {number} has {', '.join(f'another {name}' for name in wrong)}", projection.origin
        else:
            by_target[projection.target].append((projection, group))
    for population in network.populations:
        if not _same_sums(emitted, population, by_target[population.name], numbers):
            yield f"population {numbers[population.name]} receives other biases or shifts", population.origin


def _projection(
    group: list[Synapses], projection: Projection, network: Network, numbers: Mapping[str, int]
) -> Iterator[tuple[str, bool]]:
    source = network.by_name[projection.source]
    ends = numbers[projection.source], numbers[projection.target]
    yield "source or target", all((call.source, call.target) == ends for call in group)
    yield "delay", all(call.delay == projection.delay for call in group)
    gated = projection.name in network.recurrent or network.by_name[projection.target].wait > 0
    yield "gate", all(call.gated == gated for call in group)
    levels = spike_levels(source.neuron)
    bits = 2 if levels is None else levels[1].bit_length() + (levels[0] < 0)
    yield "width of messages", all(call.bits >= bits for call in group)
    yield "synapse", _same_operator(group[0].operator, projection.connectivity)


def _same_operator(found: Operator, wanted: Connectivity) -> bool:
    """Whether a call makes this connectivity: weights and geometry."""
    weight, *rest = found.arguments
    expected: tuple[Any, ...]
    match wanted:
        case Dense():
            name, expected = "dense", ()
        case Conv2d():
            name = "convolution"
            expected = (wanted.in_shape, wanted.stride, wanted.pads, wanted.dilation, wanted.groups)
        case Pool():
            name, expected = "pool", (wanted.in_shape, wanted.kernel, wanted.stride, wanted.pads)
        case Skip():
            name, expected = "skip", (size(wanted.in_shape[1:]),)
        case Sparse():
            shape = (size(wanted.out_shape), size(wanted.in_shape))
            name, expected = "sparse", (wanted.indptr, wanted.indices, shape)
        case _:
            return False
    same = [np.array_equal(np.asarray(one), np.asarray(other)) for one, other in zip(rest, expected, strict=False)]
    return found.name == name and len(rest) == len(expected) and all(same) and np.array_equal(weight, wanted.weight)


def _same_sums(
    emitted: Emitted,
    population: Population,
    groups: list[tuple[Projection, list[Synapses]]],
    numbers: Mapping[str, int],
) -> bool:
    """Whether biases, shifts and constant messages make the same of any weighted sums.

    A bias may be spelled in several ways (digits, halves, an offset behind the shift), so what counts is
    what comes out: it is tried on sums that the weights can make.
    """
    number, rng = numbers[population.name], np.random.default_rng(0)
    trials = int(np.clip(VALUES // population.neurons, 2, TRIALS))
    found = np.zeros((trials, population.neurons), dtype=np.int64)
    wanted = np.zeros_like(found)
    for target, matrix, values in emitted.offsets:
        if target == number and not isinstance(matrix, Pick):
            found += np.asarray(matrix, dtype=np.int64) @ np.array(values, dtype=np.int64)
    for projection, calls in groups:
        shape = projection.connectivity.out_shape
        unit = max(int(np.gcd.reduce(projection.connectivity.weight, axis=None)), 1)
        sums = unit * rng.integers(-REACH, REACH, found.shape)
        bias = np.zeros(shape, dtype=np.int64) if projection.bias is None else per_channel(projection.bias, shape)
        shift = _flat(per_channel(projection.shift, shape), shape)
        wanted += _shifted(sums + _flat(bias, shape), shift)
        constants = _constants(emitted, numbers[projection.source], calls)
        covered = np.zeros(population.neurons, dtype=np.int64)
        for call in calls:
            rows = np.ones(population.neurons, dtype=np.bool_) if call.rows is None else np.asarray(call.rows)
            columns = 0 if call.bias is None else call.bias.astype(np.int64) @ constants[: call.bias.shape[1]]
            found += np.where(rows, _shifted(sums + columns, np.full(population.neurons, -call.exponent)), 0)
            covered += rows
        if np.any(covered != 1):
            return False
    return bool(np.array_equal(found, wanted))


def _shifted(sums: Array, shift: Array) -> Array:
    return np.asarray(np.left_shift(np.right_shift(sums, np.maximum(shift, 0)), np.maximum(-shift, 0)))


def _constants(emitted: Emitted, source: int, calls: list[Synapses]) -> Array:
    """What the constant neurons behind a source send: as many values as its readers take."""
    count = max((call.bias.shape[1] for call in calls if call.bias is not None), default=0)
    process = emitted.processes[source]
    if process.name == "source":
        return np.array(process.arguments["constants"], dtype=np.int64)
    for target, matrix, values in emitted.offsets:
        if target == source and isinstance(matrix, Pick):
            placed = matrix.first == emitted.constants["NEURONS"][source]
            return np.array(values, dtype=np.int64) if placed else np.zeros(count, dtype=np.int64)
    return np.full(count, int(_fires_always(process, emitted.constants["NEURONS"][source])), dtype=np.int64)


def _fires_always(process: Process, neurons: int) -> bool:
    """Whether the constant neurons behind spiking ones fire in every step: their bias alone is beyond the threshold."""

    def tail(name: str) -> Array:
        value = process.arguments.get(name, 0)
        if isinstance(value, Inputs):
            return np.array(value.constants or (0,))
        return np.asarray(value, dtype=np.int64)[neurons:] if np.ndim(value) else np.array([value])

    if process.name == "IntegrateAndFire":
        return bool(np.all(tail("bias") >= tail("vth")))
    drive = np.left_shift(tail("bias_mant"), tail("bias_exp"))
    return bool(np.all(drive > tail("vth_hi" if process.name == "TernaryLIF" else "vth") << 6))
