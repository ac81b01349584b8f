"""Proofs between the stages of a network: what each pass promises is looked at again, with numbers.

Each proof is written from what the two programs mean and shares no code with the pass. A
failed one stops the compile: the pass is wrong, whatever the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from nmc.compiler.prove_executed import change_problems, graded_problems, same_integers
from nmc.compiler.prove_relays import relay_problems
from nmc.compiler.prove_stored import accumulator_problems, limit_problems, rounding_problems
from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, Connectivity, Sparse, size
from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.ir.layers import Head, Layer, LayerGraph
from nmc.ir.mapping import Partitioned, Placed, Routed
from nmc.ir.network import Network, OutputSpec, Population
from nmc.ir.neurons import IF, Burst, IdealIntegrator, Reset
from nmc.ir.origin import Origin
from nmc.ir.reference import encode
from nmc.ir.samples import joined, parted
from nmc.kernels.graph import execute_graph
from nmc.kernels.integrate import Neurons
from nmc.kernels.layerwise import analog
from nmc.kernels.propagate import from_channels_last
from nmc.passes.base import Pass, Program
from nmc.passes.quantize.fixed_point import weight_grid

EXACT = 1e-8
"""Relative to the largest value: both sides are sums of the same terms in float64, in another order."""

LEAST = 1e-4
"""Part of the largest value of a network below which the values of a layer are not taken by their own size."""

Problem = tuple[str, Origin | None]
"""What is wrong, and the ONNX node that it concerns."""


@dataclass(frozen=True, eq=False)
class StageProofs:
    """What is proved after each pass.

    Attributes:
        inputs: (N, ...) float32 calibration inputs; few.
        more: of them, for networks of one step.
        target: whose limits the stored integers keep.
    """

    inputs: Array
    more: Array
    target: Target

    @classmethod
    def of(cls, graph: LayerGraph, inputs: Array, target: Target) -> StageProofs:
        """With as many of the calibration inputs as cost little for a network of this size."""
        values = sum(size(layer.shape) for layer in graph.layers)
        count = min(max(VALUES // max(values, 1), 1), SAMPLES_MOST)
        return cls(inputs[: min(count, SAMPLES)], inputs[:count], target)

    def after(self, step: Pass, before: Program, after: Program) -> None:
        """Prove one pass.

        Raises:
            NmcError: ``stage-differs`` with all that its result has no right to; exit 70.
        """
        if after is before:
            return
        sink = DiagnosticSink()
        for message, origin in self._problems(step, before, after):
            sink.error("stage-differs", f"after pass {step.name}: {message}", origin=origin)
        sink.raise_errors(ExitCode.INTERNAL)

    def _problems(self, step: Pass, before: Program, after: Program) -> Iterator[Problem]:
        match before, after:
            case LayerGraph(), LayerGraph():
                yield from _ends_problems(before, after)
            case LayerGraph(), Network():
                yield from conversion_problems(before, after, self.inputs, getattr(step, "initial", 0.5))
            case Network(), Network():
                yield from self._network_problems(step, before, after)
            case Network(), Partitioned():
                yield from _same_network(before, after)
                yield from _window_problems(before, self.target)
            case Partitioned(), Partitioned():
                yield from _same_network(before.network, after)
                yield from _mapping_problems(before, after)
            case _:
                pass

    def _network_problems(self, step: Pass, before: Network, after: Network) -> Iterator[Problem]:
        if step.stage == "partition":
            if getattr(step, "exact", True):
                yield from same_integers(before, after, self.inputs)
            else:  # Signed relays come close, and say how close.
                yield from relay_problems(before, after, self.inputs)
        else:
            yield from _topology_problems(before, after)
        if step.stage == "align":
            yield from _alignment_problems(before, after, self.target)
        if after.is_integer and not before.is_integer:
            bits = getattr(step, "bits", None)
            if after.is_graded:
                yield from graded_problems(before, after, self.more, weight_grid(self.target.weights, bits).step)
            yield from rounding_problems(before, after, self.target, bits)
        elif before.is_graded and not after.is_graded:
            yield from change_problems(before, after, self.inputs)
        if after.is_integer:
            yield from limit_problems(after, self.target)
            yield from accumulator_problems(after)


def _ends_problems(before: LayerGraph, after: LayerGraph) -> Iterator[Problem]:
    """A graph keeps its inputs and outputs."""
    for word, old, new in (
        ("inputs", [(la.name, la.shape) for la in before.inputs], [(la.name, la.shape) for la in after.inputs]),
        (
            "output shapes",
            [before.by_name[name].shape for name in before.outputs],
            [after.by_name[name].shape for name in after.outputs],
        ),
        ("names of outputs", list(before.output_names), list(after.output_names)),
    ):
        if old != new:
            yield f"its {word} are {new}, they were {old}", None


def decoded_inputs(network: Network, inputs: Array) -> Array:
    """What integer inputs stand for, as samples of the ONNX file's shapes: the inverse of `encode`."""
    shapes = [network.by_name[spec.population].shape for spec in network.inputs]
    parts = []
    for spec, part in zip(network.inputs, parted(inputs, shapes), strict=True):
        values = part.reshape(len(part), part.shape[1], -1)
        if spec.split_sign:
            half = values.shape[1] // 2
            values = values[:, :half] - values[:, half:]
        perm = spec.perm or tuple(range(len(spec.shape)))
        moved = values.reshape(len(part), *(spec.shape[axis] for axis in perm))
        parts.append(moved.transpose(0, *(1 + np.argsort(perm))) * spec.scale)
    return joined(parts)


def _code_problems(graph: LayerGraph, network: Network, x: Array, seen: Array) -> Iterator[Problem]:
    """The input code keeps every calibration value to half a step; a code of the file's own may cut them."""
    shapes = [spec.shape for spec in network.inputs]
    parts = zip(graph.inputs, network.inputs, parted(x, shapes), parted(seen, shapes), strict=True)
    for layer, spec, given, found in parts:
        values = given.astype(np.float64)
        if layer.name in graph.codes:
            values = np.clip(values, spec.low * spec.scale, spec.high * spec.scale)
        apart = float(np.abs(found - values).max(initial=0.0))
        if not apart <= spec.scale * (0.5 + 1e-3):
            yield (
                f"the code of the input is off by {apart:.3g}, more than half its step of {spec.scale:.3g}",
                network.by_name[spec.population].origin,
            )


def conversion_problems(graph: LayerGraph, network: Network, x: Array, start: float = 0.5) -> Iterator[Problem]:
    """The mean drive of every population is the value of its layer, and neurons answer as they should.

    A network before quantization has an exact meaning for large T (`nmc.kernels.layerwise.analog`).

    Args:
        graph: before.
        network: over reals.
        x: (N, ...) float32 inputs.
        start: the potential that spiking neurons shall start from, in thresholds.
    """
    inputs = encode(network, x)
    seen = decoded_inputs(network, inputs)
    yield from _code_problems(graph, network, x, seen)
    tails = [_tail(graph, name) for name in graph.outputs]
    names = {tail.name for tail in tails} | {p.name for p in network.populations if p.name in graph.by_name}
    wanted = execute_graph(graph, seen, names)
    largest = max((float(np.abs(values).max(initial=0.0)) for values in wanted.values()), default=0.0)
    drives: dict[str, Array] = {}
    for step in analog(network, inputs):
        population = step.population
        drive = from_channels_last(step.drive, population.shape)
        if population.name in network.read_outs:
            drives[population.name] = drive
        if population.name in network.by_input or population.name not in graph.by_name:
            continue
        value = drive if isinstance(population.neuron, IdealIntegrator) else _activated(population, drive)
        yield from _apart(f"'{population.name}'", value, wanted[population.name], population.origin, largest)
        yield from _response_problems(network, population, start)
    for spec, name, tail in zip(network.outputs, graph.outputs, tails, strict=True):
        yield from _output_problems(network, spec, graph.by_name[name], drives)
        steps = network.timesteps if isinstance(network.by_name[spec.population].neuron, IdealIntegrator) else 1
        scale = spec.scale.reshape(-1, *(1,) * (drives[spec.population].ndim - 2)) if spec.scale.ndim else spec.scale
        value = drives[spec.population] * scale * steps
        yield from _apart(f"output '{spec.name or name}'", value, wanted[tail.name], tail.origin, largest)


def _activated(population: Population, drive: Array) -> Array:
    linear = type(population.neuron).__name__ == "Graded"
    return drive if linear else np.maximum(drive, 0.0)


def _tail(graph: LayerGraph, name: str) -> Layer:
    """The layer behind an output whose value leaves the chip."""
    end = graph.by_name[name]
    return graph.by_name[end.inputs[0]] if isinstance(end.op, Head) else end


def _output_problems(network: Network, spec: OutputSpec, end: Layer, drives: dict[str, Array]) -> Iterator[Problem]:
    head = type(end.op).__name__.lower() if isinstance(end.op, Head) else ""
    if spec.head != head or spec.shape != end.shape:
        yield f"the output is a '{spec.head}' of shape {spec.shape}, it was '{head}' of {end.shape}", end.origin


def _apart(what: str, found: Array, wanted: Array, origin: Origin, largest: float) -> Iterator[Problem]:
    # Differences of equal values are nothing but the rounding of those.
    scale = max(float(np.abs(wanted).max(initial=0.0)), LEAST * largest, 1e-12)
    error = float(np.abs(found.reshape(wanted.shape) - wanted).max(initial=0.0)) / scale
    if not error <= EXACT:
        yield f"{what} stands for values that differ by {error:.2g} of the largest (limit {EXACT:g})", origin


SAMPLES = 2
"""Calibration inputs on which a pass is proved: a wrong rewrite shows on the first."""

SAMPLES_MOST = 16
"""Of a graded network, whose inputs take one step each."""

VALUES = 1 << 22
"""Values of layers that a proof computes, but for a first sample."""

DRIVES = 16
"""Constant drives that a neuron is tried with."""


def _response_problems(network: Network, population: Population, start: float) -> Iterator[Problem]:
    """A neuron with subtractive reset answers a constant drive with it, to one spike; on average, better.

    With reset to zero or a leak the worth of a spike is fitted to the activations, so no drive alone can judge it.
    What starts at half a threshold rounds; what shall ``start`` elsewhere is as far from rounding on average.
    """
    neuron = population.neuron
    if not isinstance(neuron, IF) or neuron.reset is not Reset.SUBTRACT or neuron.dv:
        return
    channels, steps = population.shape[0], network.timesteps
    scale = np.broadcast_to(np.asarray(network.scales[population.name], dtype=np.float64), (channels,))
    levels = neuron.fire.levels if isinstance(neuron.fire, Burst) else 1
    # Spread over the range without any regularity that T could share.
    share = 0.95 * (np.arange(1, DRIVES + 1) * 0.6180339887 % 1.0) * levels
    one = Population("tried", (channels * DRIVES,), _one_by_channel(neuron, population, DRIVES), population.origin)
    drive = np.repeat(scale, DRIVES) * np.tile(share, channels)
    counts, _ = Neurons.lay(one, real=True).at_rest().advance(np.tile(drive, (steps, 1)))
    found = counts.sum(axis=0, dtype=np.float64).reshape(channels, DRIVES) - share * steps
    found -= start - 0.5
    worst, mean = float(np.abs(found).max()), float(np.abs(found.mean(axis=1)).max())
    if not (worst <= 1.0 + 1e-6 and mean <= 0.3):
        yield (
            f"'{population.name}' answers constant drives with up to {worst:.2g} spikes too many or too few "
            f"(limit 1), {mean:.2g} on average (limit 0.3)",
            population.origin,
        )


def _one_by_channel(neuron: IF, population: Population, times: int) -> IF:
    """The neurons of a population without bias, ``times`` for each channel."""

    def first(values: Array) -> Array:
        full = np.broadcast_to(values, population.shape).reshape(population.shape[0], -1)
        return np.repeat(full[:, 0], times)

    return replace(neuron, threshold=first(neuron.threshold), v0=first(neuron.v0), bias=np.zeros(()))


def _same_geometry(one: Connectivity, other: Connectivity) -> bool:
    """Whether two operators differ in their weights' values alone."""
    if type(one) is not type(other) or one.weight.shape != other.weight.shape:
        return False
    if isinstance(one, Sparse) and isinstance(other, Sparse):
        same = np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices)
        return same and (one.in_shape, one.out_shape) == (other.in_shape, other.out_shape)
    names = ("in_shape", "out_shape", "stride", "pads", "dilation", "groups", "kernel")
    return all(getattr(one, name, None) == getattr(other, name, None) for name in names)


def _topology_problems(before: Network, after: Network) -> Iterator[Problem]:
    """Later passes keep populations and projections: who is there, who reads whom, and through what."""
    known = {p.name: p for p in after.projections}
    for population in before.populations:
        now = after.by_name.get(population.name)
        if now is None or now.shape != population.shape:
            yield f"population '{population.name}' of {population.shape} is {now and now.shape}", population.origin
    for projection in before.projections:
        other = known.get(projection.name)
        if other is None:
            yield f"projection '{projection.name}' is gone", projection.origin
        elif (other.source, other.target) != (projection.source, projection.target):
            ends = f"'{other.source}' to '{other.target}'"
            yield f"projection '{projection.name}' leads from {ends}", projection.origin
        elif not _same_geometry(projection.connectivity, other.connectivity):
            yield f"projection '{projection.name}' has other synapses", projection.origin
    read, kept = ([(s.population, s.head, s.shape, s.name) for s in n.outputs] for n in (before, after))
    if read != kept:
        yield "the outputs read other populations, or in another way", None
    if before.inputs != after.inputs:
        yield "the code of the input is another one", None


def _alignment_problems(before: Network, after: Network, target: Target) -> Iterator[Problem]:
    """Windows and delays agree, nobody waits longer than for its latest source, and nothing else has changed."""
    for old in before.populations:
        new = after.by_name.get(old.name)
        if new is not None and new.neuron is not old.neuron:
            yield f"the neurons of '{old.name}' are others", old.origin
    known = {p.name: p for p in after.projections}
    for projection in before.projections:
        now = known.get(projection.name)
        if now is not None and (now.connectivity, now.shift, now.bias) != (
            projection.connectivity,
            projection.shift,
            projection.bias,
        ):
            yield f"the weights of '{projection.name}' are others", projection.origin
    if any((p.start, p.wait) != (q.start, q.wait) for p, q in zip(before.populations, after.populations, strict=False)):
        yield from _window_problems(after, target)


def _window_problems(network: Network, target: Target) -> Iterator[Problem]:
    for population in network.populations:
        forward = [p for p in network.incoming[population.name] if p.name not in network.recurrent]
        arrivals = {p.name: network.by_name[p.source].sends_from + p.delay for p in forward}
        wrong = {name: step for name, step in arrivals.items() if step != population.start}
        if wrong:
            listed = ", ".join(f"'{name}' at {step}" for name, step in wrong.items())
            yield (
                f"'{population.name}' starts at step {population.start}, but is reached by {listed}",
                population.origin,
            )
            continue
        # It may start later only where a step earlier one of its own projections would wait too long.
        sent = [p.delay for p in network.outgoing[population.name] if p.name not in network.recurrent]
        if forward and min(p.delay for p in forward) > 1 and max(sent, default=0) < target.weights.delay_max:
            yield f"every projection to '{population.name}' waits longer than one step", population.origin


def _same_network(network: Network, mapping: Partitioned) -> Iterator[Problem]:
    if mapping.network is not network:
        yield "the mapping carries another network than the one that was quantized", None


def _mapping_problems(before: Partitioned, after: Partitioned) -> Iterator[Problem]:
    """Placing moves no neuron, routing no cluster."""
    if isinstance(after, Placed) and before.clusters != after.clusters:
        yield "clusters hold other neurons or axons than the partition made", None
    if isinstance(before, Placed) and isinstance(after, Routed) and before.places != after.places:
        yield "clusters lie elsewhere than they were placed", None
    if before.rates != after.rates:
        yield "the measured rates are others", None
