"""Networks, one layer after the other over the whole window, many samples in threads.

Exact and equal to `nmc.ir.reference`, but it knows nothing of cores: calibration and the
stages before ``mapped`` run here. Needs matched windows (every program after align has
them), so a layer may consume all T messages of its sources before the next layer starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    STATE_LIMIT,
    Graded,
    GradedReLU,
    IdealIntegrator,
    Integrator,
    Reset,
    Source,
)
from nmc.ir.reference import per_channel
from nmc.kernels.integrate import ideal, lif
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import Plan, from_channels_last, plan, row_sums, to_channels_last


@dataclass(frozen=True, eq=False)
class NetworkRun:
    """Results of `execute_network`, in C order.

    Attributes:
        readouts: of the outputs, in order, (N, *population shape): v at the window's end, or the message.
        counts: by population, (N, *shape): messages summed over the window.
        messages, potentials: by population, (N, T, *shape), if kept.
    """

    readouts: tuple[Array, ...]
    counts: Mapping[str, Array] = field(default_factory=dict)
    messages: Mapping[str, Array] = field(default_factory=dict)
    potentials: Mapping[str, Array] = field(default_factory=dict)

    @property
    def readout(self) -> Array:
        """Of the first output."""
        return self.readouts[0]


def _flat(values: Array, shape: Shape) -> Array:
    """A neuron parameter as (n,), channels last."""
    return to_channels_last(np.broadcast_to(per_channel(values, shape), shape), shape)


@dataclass(frozen=True, eq=False)
class LaidProjection:
    """A projection with its kernel layout; messages and sums are (M, n), channels last."""

    projection: Projection
    narrow: Plan
    wide: Plan
    reach: float

    @classmethod
    def lay(cls, projection: Projection) -> LaidProjection:
        """Lay out a projection."""
        connectivity = projection.connectivity
        if not np.issubdtype(connectivity.weight.dtype, np.integer):
            laid = plan(connectivity, np.float64)
            return cls(projection, laid, laid, np.inf)
        low, high = row_sums(connectivity, -1, 1)
        return cls(
            projection, plan(connectivity, np.int32), plan(connectivity, np.int64), float(max(-low.min(), high.max()))
        )

    def sums(self, messages: Array) -> Array:
        """((W m + b) >> k) for (M, n_in) messages: (M, n_out)."""
        shape = self.projection.connectivity.out_shape
        integer = np.issubdtype(self.projection.connectivity.weight.dtype, np.integer)
        dtype: type[np.generic] = np.float64
        laid = self.wide
        if integer:
            # |sum| <= reach * largest message: int32 is exact while that stays below 2^31.
            largest = float(np.abs(messages).max(initial=0))
            fits = self.reach * largest < 2**31 - 1
            dtype, laid = (np.int32, self.narrow) if fits else (np.int64, self.wide)
        total: Array = np.zeros((len(messages), size(shape)), dtype=dtype)
        source = messages if messages.dtype == np.int8 else messages.astype(dtype)
        laid.add(np.ascontiguousarray(source), total)
        if self.projection.bias is not None:
            total = total + _flat(self.projection.bias, shape)
        if integer and np.any(self.projection.shift):
            shift = _flat(self.projection.shift, shape)
            total = np.left_shift(np.right_shift(total, np.maximum(shift, 0)), np.maximum(-shift, 0))
        return total


@dataclass(frozen=True, eq=False)
class LaidPopulation:
    """A population with its incoming projections laid out."""

    population: Population
    incoming: tuple[LaidProjection, ...]
    timesteps: int
    is_input: bool = False

    @classmethod
    def lay(cls, network: Network, population: Population) -> LaidPopulation:
        """Lay out one population of a network."""
        incoming = tuple(LaidProjection.lay(p) for p in network.incoming[population.name])
        return cls(population, incoming, network.timesteps, population.name == network.input.population)

    def totals(self, messages: Mapping[str, Array]) -> Array:
        """A of each step of the window, (T, n), from the sources' (T, n) messages."""
        total: Array = np.zeros((self.timesteps, self.population.neurons), dtype=np.int32)
        for laid in self.incoming:
            sent = messages[laid.projection.source]
            total = total + (laid.sums(sent[:1]) if _constant(sent) else laid.sums(sent))
        return total

    def respond(self, total: Array, sample: Array, *, keep: bool = False) -> tuple[Array, Array]:
        """(messages, potentials) over the window, each (T, n); potentials (0, n) if not kept.

        Integrators keep their potential always: it is the read-out.
        """
        neuron, shape = self.population.neuron, self.population.shape
        match neuron:
            case Source():
                return np.broadcast_to(sample, (self.timesteps, len(sample))), np.zeros((0, len(sample)))
            case LIF():
                bias = _flat(neuron.bias, shape)
                if self.is_input:
                    bias = np.left_shift(sample, _flat(neuron.bias_exp, shape))
                return lif(
                    total,
                    bias=bias,
                    v0=_flat(neuron.v0, shape),
                    threshold=_flat(neuron.threshold, shape),
                    du=neuron.du,
                    dv=neuron.dv,
                    subtract=neuron.reset is Reset.SUBTRACT,
                    keep_potentials=keep,
                )
            case IF():
                return ideal(
                    total,
                    bias=sample if self.is_input else _flat(neuron.bias, shape),
                    v0=_flat(neuron.v0, shape),
                    threshold=_flat(neuron.threshold, shape),
                    subtract=neuron.reset is Reset.SUBTRACT,
                    keep_potentials=keep,
                )
            case Integrator():
                return np.zeros(total.shape, np.int8), _saturating(
                    _flat(neuron.v0, shape), (total.astype(np.int64) << 6) + _flat(neuron.bias, shape)
                )
            case IdealIntegrator():
                return np.zeros(total.shape, np.int8), np.cumsum(total + _flat(neuron.bias, shape), axis=0)
            case GradedReLU():
                return np.maximum(total, 0), np.zeros((0, total.shape[1]))
            case Graded():
                return total, np.zeros((0, total.shape[1]))


def _saturating(v0: Array, steps: Array) -> Array:
    held = np.empty_like(steps)
    v = v0
    for t in range(len(steps)):
        v = np.clip(v + steps[t], -(STATE_LIMIT - 1), STATE_LIMIT - 1)
        held[t] = v
    return held


def _constant(sent: Array) -> bool:
    """Whether every step's messages are one and the same vector (a source's are)."""
    return len(sent) > 1 and sent.strides[0] == 0


def execute_network(
    network: Network,
    inputs: Array,
    *,
    counts: bool = False,
    keep: bool = False,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> NetworkRun:
    """Run a network (real or integer) on integer inputs (N, *input population shape).

    Args:
        network: any aligned or not yet aligned network.
        inputs: as `nmc.ir.reference.encode` makes them.
        counts: also return message sums of every population.
        keep: also return all messages and potentials (memory: N * T * neurons).
        threads: over samples; results do not depend on it.
        progress: called with 1 after each sample.
    """
    laid = [LaidPopulation.lay(network, p) for p in network.populations]
    spec = network.by_name[network.input.population]
    flat_inputs = to_channels_last(inputs, spec.shape)
    runs: list[NetworkRun | None] = [None] * len(inputs)

    def one(index: int) -> None:
        runs[index] = _run_sample(network, laid, flat_inputs[index], counts, keep)
        progress(1)

    parallel(one, len(inputs), threads)
    done = [run for run in runs if run is not None]
    if not done:
        raise ValueError("no samples")
    shapes = {p.name: p.shape for p in network.populations}

    def stacked(parts: list[Mapping[str, Array]]) -> dict[str, Array]:
        return {name: from_channels_last(np.stack([p[name] for p in parts]), shapes[name]) for name in parts[0]}

    readouts = stacked([dict(zip(network.read_outs, run.readouts, strict=True)) for run in done])
    return NetworkRun(
        tuple(readouts[spec.population] for spec in network.outputs),
        stacked([run.counts for run in done]),
        stacked([run.messages for run in done]),
        stacked([run.potentials for run in done]),
    )


def _run_sample(network: Network, laid: list[LaidPopulation], sample: Array, counts: bool, keep: bool) -> NetworkRun:
    sent: dict[str, Array] = {}
    held: dict[str, Array] = {}
    summed: dict[str, Array] = {}
    last: dict[str, Array] = {}
    for population in laid:
        name = population.population.name
        read = name in network.read_outs
        messages, potentials = population.respond(population.totals(sent), sample, keep=keep or read)
        sent[name] = messages
        if keep and len(potentials):
            held[name] = potentials
        if counts:
            summed[name] = messages.sum(axis=0, dtype=np.int64 if messages.dtype != np.float64 else np.float64)
        if read:
            last[name] = potentials[-1] if len(potentials) else messages[-1]
    return NetworkRun(tuple(last[name] for name in network.read_outs), summed, sent if keep else {}, held)


def message_rates(network: Network, inputs: Array) -> dict[str, float]:
    """Non-zero messages per neuron and step of the window, by population."""
    laid = [LaidPopulation.lay(network, p) for p in network.populations]
    flat_inputs = to_channels_last(inputs, network.by_name[network.input.population].shape)
    fired = np.zeros((len(inputs), len(laid)))

    def one(index: int) -> None:
        sent: dict[str, Array] = {}
        for number, population in enumerate(laid):
            messages, _ = population.respond(population.totals(sent), flat_inputs[index])
            sent[population.population.name] = messages
            fired[index, number] = np.count_nonzero(messages) / messages.size

    parallel(one, len(inputs))
    return {p.population.name: float(rate) for p, rate in zip(laid, fired.mean(axis=0), strict=True)}


@dataclass(frozen=True, eq=False)
class AnalogStep:
    """One population of `analog`: its pre-activation, (N, n) float64, channels last."""

    population: Population
    drive: Array


def analog(network: Network, inputs: Array) -> Iterator[AnalogStep]:
    """The rate-limit of a network before quantization, population by population.

    A spiking population's message stands for its mean over the window, without clipping:
    ``relu(drive) / scale`` with drive = W m + bias. Memory of populations that
    nobody reads any more is freed.
    """
    left = {name: len(projections) for name, projections in network.outgoing.items()}
    values: dict[str, Array] = {}
    for population in network.populations:
        shape, neuron = population.shape, population.neuron
        if isinstance(neuron, Source):
            values[population.name] = to_channels_last(inputs, shape).astype(np.float64)
            continue
        drive = np.zeros((len(inputs), population.neurons))
        for projection in network.incoming[population.name]:
            laid = LaidProjection.lay(projection)
            source = values[projection.source]
            part = np.zeros((len(inputs), population.neurons))
            parallel(_one_row(laid, source, part), len(inputs))
            drive += part
            left[projection.source] -= 1
            if left[projection.source] == 0:
                del values[projection.source]
        if population.name == network.input.population:
            drive += to_channels_last(inputs, shape)
        if isinstance(neuron, IF | IdealIntegrator):
            drive += _flat(neuron.bias, shape)
        yield AnalogStep(population, drive)
        message = np.maximum(drive, 0.0)
        if population.name == network.input.population and isinstance(neuron, IF):
            message /= _flat(neuron.threshold, shape)
        elif isinstance(neuron, IF):
            message /= _flat(network.scales[population.name], shape)
        values[population.name] = message


def _one_row(laid: LaidProjection, source: Array, out: Array) -> Callable[[int], None]:
    def one(index: int) -> None:
        out[index] = laid.sums(source[index : index + 1])[0]

    return one
