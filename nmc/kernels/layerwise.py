"""Networks, one layer after the other over the whole window, many samples in threads.

Exact and equal to `nmc.ir.reference`, but it knows nothing of cores: calibration and the
stages before ``mapped`` run here. Needs matched windows (every program after align has
them), so a layer may consume all T messages of its sources before the next layer starts.
Populations on a common loop go step by step together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import IF, LIF, Graded, IdealIntegrator, Integrator, Source
from nmc.ir.samples import joined, parted
from nmc.kernels.integrate import Neurons, flat
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import Plan, from_channels_last, plan, row_sums, to_channels_last
from nmc.kernels.schedule import is_loop, lag, recurrent_groups


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


@dataclass(frozen=True, eq=False)
class LaidProjection:
    """A projection with its kernel layout, made when it is used; messages and sums are (M, n), channels last.

    Attributes:
        reach: of integer weights, the largest size of a sum of messages up to 1.
        lag: steps of the window between a message and its sum.
    """

    projection: Projection
    reach: float
    lag: int = 0

    @classmethod
    def lay(cls, projection: Projection, lag: int = 0) -> LaidProjection:
        """Lay out a projection."""
        connectivity = projection.connectivity
        if not np.issubdtype(connectivity.weight.dtype, np.integer):
            return cls(projection, np.inf, lag)
        low, high = row_sums(connectivity, -1, 1)
        return cls(projection, float(max(-low.min(), high.max())), lag)

    @cached_property
    def narrow(self) -> Plan:
        """Its sums in int32."""
        return plan(self.projection.connectivity, np.int32)

    @cached_property
    def wide(self) -> Plan:
        """Its sums in int64, those of real weights in float64."""
        real = self.projection.connectivity.weight.dtype.kind == "f"
        return plan(self.projection.connectivity, np.float64 if real else np.int64)

    def sums(self, messages: Array) -> Array:
        """((W m + b) >> k) for (M, n_in) messages: (M, n_out)."""
        shape = self.projection.connectivity.out_shape
        integer = np.issubdtype(self.projection.connectivity.weight.dtype, np.integer)
        # |sum| <= reach * largest message: int32 is exact while that stays below 2^31.
        fits = integer and self.reach * float(np.abs(messages).max(initial=0)) < 2**31 - 1
        dtype = np.int32 if fits else np.int64 if integer else np.float64
        laid = self.narrow if fits else self.wide
        total: Array = np.zeros((len(messages), size(shape)), dtype=dtype)
        source = messages if messages.dtype == np.int8 else messages.astype(dtype)
        laid.add(np.ascontiguousarray(source), total)
        if self.projection.bias is not None:
            total = total + flat(self.projection.bias, shape)
        if integer and np.any(self.projection.shift):
            shift = flat(self.projection.shift, shape)
            total = np.left_shift(np.right_shift(total, np.maximum(shift, 0)), np.maximum(-shift, 0))
        return total

    def over_window(self, sent: Array) -> Array:
        """What each step of the window receives, (T, n), of the (T, n) messages of the source."""
        if _constant(sent) and self.lag == 0:
            return self.sums(sent[:1])
        sums, steps = self.sums(sent), len(sent)
        if self.lag == 0:
            return sums
        moved = np.zeros_like(sums)
        first, last = max(self.lag, 0), min(steps, steps + self.lag)
        if first < last:
            moved[first:last] = sums[first - self.lag : last - self.lag]
        return moved


@dataclass(frozen=True, eq=False)
class LaidPopulation:
    """A population with its incoming projections laid out.

    Attributes:
        takes: its part of a sample, where it takes an input.
        is_output: whether its potential is read.
        real: whether its network is one over reals.
    """

    population: Population
    incoming: tuple[LaidProjection, ...]
    timesteps: int
    takes: slice | None = None
    is_output: bool = False
    real: bool = False

    @classmethod
    def lay(cls, network: Network, population: Population) -> LaidPopulation:
        """Lay out one population of a network."""
        name = population.name
        incoming = tuple(LaidProjection.lay(p, lag(network, p)) for p in network.incoming[name])
        ends = network.input_places.get(name), name in network.read_outs
        return cls(population, incoming, network.timesteps, *ends, not network.is_integer)

    def totals(self, messages: Mapping[str, Array]) -> Array:
        """A of each step of the window, (T, n), from those sources' (T, n) messages that are there."""
        total: Array = np.zeros((self.timesteps, self.population.neurons), dtype=np.int32)
        arriving = [laid for laid in self.incoming if laid.projection.source in messages]
        for laid in arriving:
            part = laid.over_window(messages[laid.projection.source])
            # One sum fits the type it comes in; several of them need not.
            total = total + (part if len(arriving) == 1 else part.astype(np.result_type(part, np.int64)))
        return total

    @cached_property
    def neurons(self) -> Neurons:
        """Its neurons."""
        return Neurons.lay(self.population, real=self.real)

    def at_rest(self, sample: Array) -> Neurons:
        """Its neurons at the start of the window of a sample (n,), as `joined_channels_last` makes it."""
        if self.takes is None:
            return self.neurons.at_rest()
        neuron = self.population.neuron
        exponent = flat(neuron.bias_exp, self.population.shape) if isinstance(neuron, LIF) else 0
        return self.neurons.at_rest(np.left_shift(sample[self.takes], exponent))

    def respond(self, total: Array, sample: Array, *, keep: bool = False) -> tuple[Array, Array]:
        """(messages, potentials) over the window, each (T, n); potentials (0, n) if not kept.

        Integrators and the output keep their potential always: it is the read-out.
        """
        neuron = self.population.neuron
        if isinstance(neuron, Source):
            own = sample[self.takes or slice(0)]
            messages: Array = np.broadcast_to(own, (self.timesteps, len(own)))
            if neuron.once:
                messages = np.zeros_like(messages)
                messages[0] = own
            return messages, np.zeros((0, len(own)))
        keep = keep or self.is_output or isinstance(neuron, Integrator | IdealIntegrator)
        neurons, wait = self.at_rest(sample), self.population.wait
        if wait:
            # The T sums come in the first T steps of the window; it sends in the last T.
            total = np.concatenate([total, np.zeros((wait, total.shape[1]), dtype=total.dtype)])
            neurons.silent().advance(total[:wait])
        return neurons.advance(total[wait:], keep=keep)


def _constant(sent: Array) -> bool:
    """Whether every step's messages are one and the same vector (a source's are)."""
    return len(sent) > 1 and sent.strides[0] == 0


@dataclass(frozen=True, eq=False)
class Loop:
    """Populations that wait for each other, in the order of the network."""

    members: tuple[LaidPopulation, ...]

    def respond(self, messages: Mapping[str, Array], sample: Array, *, keep: bool) -> list[tuple[Array, Array]]:
        """What `LaidPopulation.respond` returns, for each member; ``messages`` are those of the others."""
        totals = [laid.totals(messages) for laid in self.members]
        neurons = [laid.at_rest(sample) for laid in self.members]
        kept = [keep or laid.is_output for laid in self.members]
        sent = {
            laid.population.name: np.zeros(total.shape, dtype=cells.message_type(np.result_type(total, np.int64)))
            for laid, total, cells in zip(self.members, totals, neurons, strict=True)
        }
        held: list[list[Array]] = [[] for _ in self.members]
        starts = [laid.population.start for laid in self.members]
        for now in range(min(starts), max(starts) + self.members[0].timesteps):
            for number, laid in enumerate(self.members):
                step = now - starts[number]
                if not 0 <= step < laid.timesteps:
                    continue
                total = totals[number][step : step + 1]
                for arriving in laid.incoming:
                    source, before = sent.get(arriving.projection.source), step - arriving.lag
                    if source is not None and 0 <= before < len(source):
                        total = total + arriving.sums(source[before : before + 1]).astype(
                            np.result_type(total, np.int64)
                        )
                message, potential = neurons[number].advance(total, keep=kept[number])
                sent[laid.population.name][step] = message[0]
                held[number].append(potential)
        return [
            (sent[laid.population.name], np.concatenate(parts)) for laid, parts in zip(self.members, held, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class LaidNetwork:
    """A network laid out: loops and single populations, each after those it hears."""

    parts: tuple[LaidPopulation | Loop, ...]

    @classmethod
    def lay(cls, network: Network) -> LaidNetwork:
        """Lay out a network."""
        parts: list[LaidPopulation | Loop] = []
        for group in recurrent_groups(network):
            members = tuple(LaidPopulation.lay(network, p) for p in group)
            parts.append(Loop(members) if is_loop(network, group) else members[0])
        return cls(tuple(parts))

    def run(self, sample: Array, *, keep: bool = False) -> Iterator[tuple[LaidPopulation, Array, Array]]:
        """Every population with its messages and potentials, (T, n) each, as it is done."""
        sent: dict[str, Array] = {}
        for part in self.parts:
            if isinstance(part, Loop):
                members, responses = part.members, part.respond(sent, sample, keep=keep)
            else:
                members, responses = (part,), [part.respond(part.totals(sent), sample, keep=keep)]
            for laid, (messages, potentials) in zip(members, responses, strict=True):
                sent[laid.population.name] = messages
                yield laid, messages, potentials


def joined_channels_last(network: Network, inputs: Array) -> Array:
    """Integer inputs (N, *network.input_shape) as (N, n): each in the order of its population's axes, one by one."""
    shapes = [network.by_name[name].shape for name in network.by_input]
    parts = parted(inputs, shapes)
    return joined([to_channels_last(part, shape) for part, shape in zip(parts, shapes, strict=True)])


def execute_network(
    network: Network,
    inputs: Array,
    *,
    counts: bool = False,
    keep: bool = False,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> NetworkRun:
    """Run a network (real or integer) on integer inputs (N, *network.input_shape).

    Args:
        network: any aligned or not yet aligned network.
        inputs: as `nmc.ir.reference.encode` makes them.
        counts: also return message sums of every population.
        keep: also return all messages and potentials (memory: N * T * neurons).
        threads: over samples; results do not depend on it.
        progress: called with 1 after each sample.
    """
    laid = LaidNetwork.lay(network)
    flat_inputs = joined_channels_last(network, inputs)
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

    def read(number: int, name: str) -> Array:
        return from_channels_last(np.stack([run.readouts[number] for run in done]), shapes[name])

    return NetworkRun(
        tuple(read(number, spec.population) for number, spec in enumerate(network.outputs)),
        stacked([run.counts for run in done]),
        stacked([run.messages for run in done]),
        stacked([run.potentials for run in done]),
    )


def _run_sample(network: Network, laid: LaidNetwork, sample: Array, counts: bool, keep: bool) -> NetworkRun:
    sent: dict[str, Array] = {}
    held: dict[str, Array] = {}
    summed: dict[str, Array] = {}
    last: dict[str, Array] = {}
    for population, messages, potentials in laid.run(sample, keep=keep):
        name = population.population.name
        if keep:
            sent[name] = messages
        if keep and len(potentials):
            held[name] = potentials
        if counts:
            summed[name] = messages.sum(axis=0, dtype=np.int64 if messages.dtype != np.float64 else np.float64)
        if population.is_output:
            last[name] = potentials[-1] if len(potentials) else messages[-1]
    return NetworkRun(tuple(last[spec.population] for spec in network.outputs), summed, sent, held)


def message_rates(network: Network, inputs: Array) -> dict[str, float]:
    """Non-zero messages per neuron and step of the window, by population."""
    laid = LaidNetwork.lay(network)
    flat_inputs = joined_channels_last(network, inputs)
    place = {p.name: number for number, p in enumerate(network.populations)}
    fired = np.zeros((len(inputs), len(place)))

    def one(index: int) -> None:
        for population, messages, _ in laid.run(flat_inputs[index]):
            fired[index, place[population.population.name]] = np.count_nonzero(messages) / messages.size

    parallel(one, len(inputs))
    return {name: float(rate) for name, rate in zip(place, fired.mean(axis=0), strict=True)}


@dataclass(frozen=True, eq=False)
class AnalogStep:
    """One population of `analog`: its pre-activation, (N, n) float64, channels last."""

    population: Population
    drive: Array


def analog(network: Network, inputs: Array) -> Iterator[AnalogStep]:
    """The rate-limit of a network before quantization, population by population.

    A spiking population's message stands for its mean over the window, without clipping:
    ``relu(drive) / scale`` with drive = W m + bias. Recurrent projections are left out: what
    returns has no mean before it is known. Memory of populations that nobody reads any
    more is freed.
    """
    left = {name: sum(q.name not in network.recurrent for q in out) for name, out in network.outgoing.items()}
    values: dict[str, Array] = {}
    flat_inputs = joined_channels_last(network, inputs)
    for population in network.populations:
        shape, neuron = population.shape, population.neuron
        own = network.input_places.get(population.name)
        if isinstance(neuron, Source):
            values[population.name] = flat_inputs[:, own].astype(np.float64)
            continue
        drive = np.zeros((len(inputs), population.neurons))
        for projection in network.incoming[population.name]:
            if projection.name in network.recurrent:
                continue
            laid = LaidProjection.lay(projection)
            source = values[projection.source]
            part = np.zeros((len(inputs), population.neurons))
            parallel(_one_row(laid, source, part), len(inputs))
            drive += part
            left[projection.source] -= 1
            if left[projection.source] == 0:
                del values[projection.source]
        if own is not None:
            drive += flat_inputs[:, own]
        if isinstance(neuron, IF | IdealIntegrator):
            drive += flat(neuron.bias, shape)
        yield AnalogStep(population, drive)
        message = drive if isinstance(neuron, Graded) else np.maximum(drive, 0.0)
        if own is not None and isinstance(neuron, IF):
            message /= flat(neuron.threshold, shape)
        elif isinstance(neuron, IF):
            message /= flat(network.scales[population.name], shape)
        values[population.name] = message


def _one_row(laid: LaidProjection, source: Array, out: Array) -> Callable[[int], None]:
    def one(index: int) -> None:
        out[index] = laid.sums(source[index : index + 1])[0]

    return one
