"""Proofs by execution: integer networks that carry values, and what read-outs say on average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Pool, Shape, Sparse, size
from nmc.ir.layers import Head, LayerGraph
from nmc.ir.network import Network, OutputSpec, Population, Projection
from nmc.ir.neurons import Graded, GradedReLU, Integrator, SigmaDelta
from nmc.ir.origin import Origin
from nmc.ir.reference import encode, per_channel
from nmc.kernels.graph import execute_graph
from nmc.kernels.integrate import flat as channels_flat
from nmc.kernels.layerwise import LaidPopulation, LaidProjection, execute_network, joined_channels_last
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import from_channels_last, to_channels_last
from nmc.runtime.error_model import squared_gain, squares_by_channel

Problem = tuple[str, Origin | None]

SAFETY = 4.0
"""On the rms error that rounding brings; what is measured is 0.2 to 1.8 of it without this."""

UNIT = 64
"""Units of v per unit of a sum (the ``<< 6`` of docs/arithmetic.md)."""

CANCELLING = 3
"""Steps that a weight may be off where the errors of all are to cancel; 2.4 have been seen."""

SEEN_LEAST = 8
"""Messages of a channel from which on something is said about them."""

OFFSET_SHARE = 0.02
"""Of the rms of an output: its mean error on what it was calibrated on is below it, as its bias is stored so finely."""

OFFSET_ERRORS = 8.0
"""Standard errors of the mean: below, samples may differ that much by chance."""


def graded_problems(before: Network, after: Network, x: Array, step: int) -> Iterator[Problem]:
    """Every graded population is its real drive on what its sources really send, to the rounding of its weights.

    Errors of the layers before do not count, so a layer is judged by its own integers alone. What is off on
    average does not count either: calibration moves each bias for it.

    Args:
        before: over reals.
        after: over integers.
        x: calibration inputs.
        step: of the stored weights.
    """
    known = {p.name: p for p in before.projections}
    for population, sent in _layers(after, x):
        pairs = [(known[p.name], p) for p in after.incoming[population.name] if p.name in known]
        if not isinstance(population.neuron, Graded | GradedReLU) or not pairs:
            continue
        unit = _ratio(before, after, population)
        drive = sum(_drive(before, after, real, sent[real.source].messages) for real, _ in pairs)
        message = sent[population.name].messages
        seen = message > 0 if isinstance(population.neuron, GradedReLU) else np.ones(message.shape, dtype=np.bool_)
        found = _spread(message * channels_flat(unit, population.shape) - drive, seen, len(unit))
        variance = len(pairs) * np.square(unit) / 3
        for _, stored in pairs:
            coarse = np.broadcast_to(np.exp2(-stored.shift.astype(np.float64)), unit.shape) * unit * step
            connectivity = stored.connectivity
            squares = (np.square(coarse) * _alike(connectivity) / 12)[connectivity.row_channel()]
            squares = np.broadcast_to(squares, connectivity.weight.shape)
            variance = variance + squared_gain(connectivity, squares, sent[stored.source].power)
        bound = SAFETY * np.sqrt(variance)
        if np.any(found > bound):
            variance = variance + sum(_cancelling(before, after, pair, step, sent) for pair in pairs)
            bound = SAFETY * np.sqrt(variance)
        worst = int(np.argmax(found / bound))
        if not np.all(found <= bound):
            yield (
                f"channel {worst} of '{population.name}' strays from its real drive by {found[worst]:.3g} rms; "
                f"rounding explains {bound[worst]:.3g}",
                population.origin,
            )


def _cancelling(
    before: Network, after: Network, pair: tuple[Projection, Projection], step: int, sent: Mapping[str, _Sent]
) -> Array:
    """(C,) variance of what weights are off by that were rounded so that errors cancel.

    Behind sources that hardly vary such rounding moves weights by more than half a step, for others to
    make up for it: as far as they are moved by `CANCELLING` steps at the most, it counts.
    """
    real, stored = pair
    connectivity, rows = stored.connectivity, stored.connectivity.row_channel()
    unit = _ratio(before, after, after.by_name[stored.target])
    factor = (np.exp2(-stored.shift.astype(np.float64)) * unit)[rows]
    wanted = real.connectivity.weight * _ratio(before, after, after.by_name[real.source])[connectivity.column_channel()]
    moved = np.minimum(np.abs(connectivity.weight * factor - wanted), CANCELLING * step * factor)
    return squared_gain(connectivity, np.square(moved), sent[stored.source].power)


def _alike(connectivity: Connectivity) -> float:
    """Synapses of a neuron from one channel: what they hear is alike, so the errors of their weights add up."""
    match connectivity:
        case Dense():
            return float(size(connectivity.in_shape[1:]))
        case Conv2d():
            return float(size(connectivity.weight.shape[2:]))
        case Pool():
            return float(size(connectivity.kernel))
        case Sparse():
            synapses = connectivity.rows * connectivity.in_shape[0] + connectivity.column_channel()
            return float(np.unique(synapses, return_counts=True)[1].max(initial=1))
        case _:
            return 1.0


def _spread(error: Array, seen: Array, channels: int) -> Array:
    """(C,) rms of what an error varies by within each channel, where it is seen; 0 where hardly anything is.

    Args:
        error: (N, n), channels last.
        seen: likewise.
        channels: C.
    """
    values, kept = (part.reshape(-1, channels) for part in (error, seen))
    count = kept.sum(axis=0)
    several = np.maximum(count, 1)
    values = np.where(kept, values, 0.0)
    mean = values.sum(axis=0) / several
    squares = np.where(kept, np.square(values - mean), 0.0).sum(axis=0)
    return np.where(count >= SEEN_LEAST, np.sqrt(squares / several), 0.0)


def _ratio(before: Network, after: Network, population: Population) -> Array:
    """(C,) units of ``before``'s messages in one of ``after``'s."""
    channels = population.shape[0]
    return np.broadcast_to(after.scales[population.name] / before.scales[population.name], (channels,)).astype(float)


@dataclass(frozen=True, eq=False)
class _Sent:
    """What a population sends on some inputs.

    Attributes:
        messages: (N, n), channels last.
        power: (C,) their mean squares.
    """

    messages: Array
    power: Array

    @classmethod
    def of(cls, messages: Array, shape: Shape) -> _Sent:
        """The messages of a population of this shape."""
        values = messages.reshape(len(messages), -1, shape[0]).transpose(0, 2, 1)
        return cls(messages, squares_by_channel(values.astype(np.float64)))


def _layers(network: Network, x: Array) -> Iterator[tuple[Population, Mapping[str, _Sent]]]:
    """Each population of a network of one step, with what it and its sources send.

    One layer is laid out at a time, and what nobody hears any more is freed.
    """
    flat = joined_channels_last(network, encode(network, x))
    left = {name: len(outgoing) for name, outgoing in network.outgoing.items()}
    sent: dict[str, _Sent] = {}
    for population in network.populations:
        messages = _respond(LaidPopulation.lay(network, population), sent, flat)
        sent[population.name] = _Sent.of(messages, population.shape)
        yield population, sent
        for projection in network.incoming[population.name]:
            left[projection.source] -= 1
            if left[projection.source] == 0:
                del sent[projection.source]


def _respond(laid: LaidPopulation, sent: Mapping[str, _Sent], flat: Array) -> Array:
    """The messages of a population, (N, n), for the joined inputs ``flat``."""
    sources = {p.projection.source: sent[p.projection.source].messages for p in laid.incoming}
    rows: list[Array] = [np.zeros(0)] * len(flat)

    def one(index: int) -> None:
        total = laid.totals({name: values[index : index + 1] for name, values in sources.items()})
        rows[index] = laid.respond(total, flat[index])[0][0]

    parallel(one, len(flat))
    return np.stack(rows)


def _drive(before: Network, after: Network, real: Projection, messages: Array) -> Array:
    """What a real projection delivers of integer messages, (N, n) channels last."""
    source = after.by_name[real.source]
    return LaidProjection.lay(real).sums(messages * channels_flat(_ratio(before, after, source), source.shape))


def change_problems(before: Network, after: Network, x: Array) -> Iterator[Problem]:
    """The changes that a sigma-delta population sends add up to the graded activation, rounded once.

    Args:
        before: the graded network over integers.
        after: the same that sends changes.
        x: calibration inputs.
    """
    run = execute_network(after, encode(after, x), counts=True)
    for population in after.populations:
        neuron = population.neuron
        if not isinstance(neuron, SigmaDelta):
            continue
        drive: Array = np.zeros(())
        for projection in before.incoming[population.name]:
            source = after.by_name[projection.source]
            laid = LaidProjection.lay(_unshifted(projection))
            sums = laid.sums(to_channels_last(run.counts[projection.source], source.shape)).astype(np.float64)
            shift = per_channel(np.asarray(projection.shift, dtype=np.float64), population.shape)
            # A graded projection rounds by half a unit before its shift; one rounding behind all needs none.
            half = np.where(shift > 0, 0.5, 0.0)
            drive = drive + from_channels_last(sums, population.shape) * np.exp2(-shift) - half
        wanted = np.maximum(drive, 0.0) if neuron.rectify else drive
        if neuron.rectify is not isinstance(before.by_name[population.name].neuron, GradedReLU):
            yield f"'{population.name}' became {'' if neuron.rectify else 'no '}rectifier", population.origin
        apart = float(np.abs(run.counts[population.name] - wanted).max())
        limit = float(np.max(neuron.threshold))
        if not apart <= limit + 1e-9:
            yield (
                f"the changes of '{population.name}' add up to values that are off by {apart:.3g} (limit {limit:g})",
                population.origin,
            )


def _unshifted(projection: Projection) -> Projection:
    return Projection(
        projection.name,
        projection.source,
        projection.target,
        projection.connectivity,
        projection.origin,
        bias=projection.bias,
    )


def same_integers(before: Network, after: Network, x: Array) -> Iterator[Problem]:
    """A network that is cut up otherwise to fit cores: every population sends the same, every read-out is the same."""
    inputs = encode(before, x)
    wanted, found = (execute_network(network, inputs, counts=True) for network in (before, after))
    for population in before.populations:
        counts = found.counts.get(population.name)
        if counts is None or not np.array_equal(counts, wanted.counts[population.name]):
            yield f"'{population.name}' sends other messages than before", population.origin
    if not all(map(np.array_equal, wanted.readouts, found.readouts)):
        yield "the read-outs are others than before", None


def _by_channel(values: Array, shape: Shape) -> Array:
    """(C,) the largest in each channel."""
    return np.asarray(np.broadcast_to(values, shape).reshape(shape[0], -1).max(axis=1))


def _mean_rounding(network: Network, spec: OutputSpec, x: Array) -> Array:
    """(C,) what the rounding of weights may move a read-out by on average, where its bias cannot make up for it.

    A large bias sets the unit in which the weights are stored, so that correcting it rounds them anew.
    """
    run = execute_network(network, encode(network, x), counts=True)
    shape = network.by_name[spec.population].shape
    variance: Array = np.zeros(shape[0])
    for projection in network.incoming[spec.population]:
        connectivity = projection.connectivity
        step = max(int(np.gcd.reduce(connectivity.weight, axis=None)), 1)
        coarse = UNIT * step * np.exp2(-projection.shift.astype(np.float64)) * spec.scale
        rows = np.broadcast_to(coarse, shape[:1])[connectivity.row_channel()]
        squares = np.broadcast_to(np.square(rows) / 12, connectivity.weight.shape) * _alike(connectivity)
        variance = variance + squared_gain(connectivity, squares, squares_by_channel(run.counts[projection.source]))
    return np.asarray(SAFETY * np.sqrt(variance))


def offset_problems(
    graph: LayerGraph, network: Network, x: Array, readouts: tuple[Array, ...], *, whole: bool
) -> Iterator[Problem]:
    """Calibrated read-outs are right on average: their bias takes up what the layers before leave.

    Args:
        graph: simplified.
        network: calibrated and quantized.
        x: calibration inputs.
        readouts: of the network on them.
        whole: they are all that it was calibrated on, so that no chance is left.
    """
    ends = [graph.by_name[name] for name in graph.outputs]
    tails = [graph.by_name[end.inputs[0]] if isinstance(end.op, Head) else end for end in ends]
    wanted = execute_graph(graph, x, [tail.name for tail in tails])
    for number, (spec, tail) in enumerate(zip(network.outputs, tails, strict=True)):
        neuron, shape = network.by_name[spec.population].neuron, network.by_name[spec.population].shape
        if not isinstance(neuron, Integrator):
            continue
        found = readouts[number] * per_channel(spec.scale, shape)
        error = (found - wanted[tail.name].reshape(found.shape)).reshape(len(x), shape[0], -1).mean(axis=2)
        mean, chance = np.abs(error.mean(axis=0)), error.std(axis=0) / np.sqrt(len(x))
        # A bias is stored in steps, and each counts once in every step of the window.
        steps = _by_channel(np.exp2(neuron.bias_exp.astype(float)) * per_channel(spec.scale, shape), shape)
        bound = OFFSET_SHARE * float(np.sqrt(np.square(wanted[tail.name]).mean())) + steps * network.timesteps
        if not whole:
            bound = np.maximum(2.5 * bound, OFFSET_ERRORS * chance)
        if np.any(mean > bound):
            bound = bound + _mean_rounding(network, spec, x)
        if np.any(mean > bound):
            worst = int(np.argmax(mean - bound))
            yield (
                f"output '{spec.name or tail.name}' is off by {mean[worst]:.3g} on average in channel {worst} "
                f"(limit {bound[worst]:.3g})",
                tail.origin,
            )
