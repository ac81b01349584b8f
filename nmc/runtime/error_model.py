"""How far a layer of a correct compile may lie from the analog network.

The model follows mean-square errors through the network, channel by channel, in the units
of the analog values. For a population ``t`` with messages of real value ``s`` per unit:

```
E_t = sum over projections and taps of W^2 * E_source      what its inputs bring along
    + sum over projections and taps of dW^2 * X_source     rounding of the weights
    + own^2                                                its own code
    + mean(max(y - top, 0)^2)                              clipping at the calibrated top
bound_t = SAFETY * sqrt(mean of E_t over channels)
```

* ``W``: the real weight between analog values: the weight before quantization by the
  scale of its source. ``dW``: its difference from the stored weight, at most half a step of
  the stored grid. ``X``: mean square of the source's value.
* ``own``: rate code: ``s / T / sqrt(12)``, the rms of rounding a count; with reset to zero a
  rate r is the inverse of a whole number of steps, which adds ``s * r^2 / sqrt(3)``. Graded
  code and sigma-delta: ``s / sqrt(3)``, the rms of a floor. Source: ``s / sqrt(12)``.
* ``top``: ``s`` for spikes (one in every step), ``s`` times the levels of bursts, the largest code
  of a source, none for graded.
* Errors of different taps count as independent, a ReLU as not enlarging them, spikes as
  arriving evenly. Only a dense layer that reads maps (C, H, W) also counts errors that are
  equal all over a channel (`coherent_gain`). None of this is exact; `SAFETY` stands for the rest.

The bound is about coding, T and scales. It does not know what the layer should compute, so
that a wrong weight, sign, bias, delay or window lies outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Pool, Sparse, size
from nmc.ir.layers import LayerGraph
from nmc.ir.network import PARTS, REST, SUM, Network, Population, Projection
from nmc.ir.neurons import IF, LIF, Graded, GradedReLU, Reset, SigmaDelta, Source, spike_levels
from nmc.ir.reference import per_channel
from nmc.kernels.graph import execute_graph
from nmc.kernels.propagate import column_groups

SAFETY = 3.0
"""Measured on trained networks of 4 to 20 layers, T = 8 to 128, both codes and resets: rms errors
are 0.05 to 0.55 of the bound, most of them a quarter."""


def code_scale(network: Network, population: Population) -> Array:
    """Real value of one message unit (spikes: of one spike in every step), per channel, (C,)."""
    if population.name in network.read_outs:
        return np.zeros(population.shape[0])
    scale = np.asarray(network.scales[population.name], dtype=np.float64)
    full = np.broadcast_to(per_channel(scale, population.shape), population.shape)
    return np.asarray(full.reshape(population.shape[0], -1).max(axis=1))


def squares_by_channel(values: Array) -> Array:
    """Mean square over samples and positions, (C,), of values (N, C, ...)."""
    return np.asarray(np.square(values.reshape(len(values), values.shape[1], -1)).mean(axis=(0, 2)))


def squared_gain(connectivity: Connectivity, weight_squares: Array, source: Array) -> Array:
    """For each output channel, the sum over the taps of one neuron of ``weight^2 * source[channel]``.

    Args:
        connectivity: gives the taps; borders count as full.
        weight_squares: of the shape of its weights.
        source: (input channels,).

    Returns:
        (output channels,): the mean over the channel's neurons.
    """
    channels = connectivity.out_shape[0]
    if isinstance(connectivity, Sparse):
        total = np.zeros(channels)
        np.add.at(total, connectivity.row_channel(), weight_squares * source[connectivity.column_channel()])
        return total / size(connectivity.out_shape[1:])
    groups, columns = column_groups(connectivity)
    taps = size(connectivity.kernel) if isinstance(connectivity, Pool) else 1
    columns = columns[:, : columns.shape[1] // taps]
    # The squares may be a view of one number for each row: no product is held as large as the weights.
    rows = np.einsum("grn,gn->gr", weight_squares.reshape(groups, -1, columns.shape[1]), source[columns])
    return np.asarray(taps * rows.reshape(channels, -1).mean(axis=1))


def coherent_gain(connectivity: Connectivity, source: Array) -> Array:
    """What errors that are equal all over a channel add, for each output channel: dense read-outs of maps.

    Neurons that see the same constant background round alike, so their errors add up instead
    of averaging out: the sum over source channels of ``(sum of W over the map)^2 * source``.

    Args:
        connectivity: any; 0 unless it is dense over (C, H, W).
        source: (input channels,).
    """
    channels = connectivity.out_shape[0]
    if not isinstance(connectivity, Dense) or len(connectivity.in_shape) < 3:
        return np.zeros(channels)
    weight = connectivity.weight.reshape(size(connectivity.out_shape), connectivity.in_shape[0], -1).sum(axis=2)
    return np.asarray((np.square(weight) * source).sum(axis=1).reshape(channels, -1).mean(axis=1))


def _by_row(values: Array, connectivity: Connectivity) -> Array:
    """Values per output channel, () or (C,), as broadcastable to the weights."""
    return values[connectivity.row_channel()] if values.ndim else values


def _by_column(values: Array, connectivity: Connectivity) -> Array:
    """Values per input channel, (C,), as broadcastable to the weights."""
    return np.asarray(values[connectivity.column_channel()])


@dataclass(frozen=True, eq=False)
class _Link:
    """A projection before and after quantization, in message units of the quantized source.

    Attributes:
        real: weights before quantization; ``stored``: after it, shifted.
        grid: smallest step of ``stored``, broadcastable to it.
    """

    connectivity: Connectivity
    real: Array
    stored: Array
    grid: Array

    @classmethod
    def between(cls, real: Projection, after: Projection, ratio: Array, rest: Projection | None = None) -> _Link:
        """Pair two projections; ``ratio`` is the source's unit after by its unit before, (C,).

        Each synapse may have two stored weights: the second ones are those of ``rest``.
        """
        connectivity = after.connectivity
        weight = real.connectivity.weight * _by_column(ratio, connectivity)
        stored, grid = cls._stored(after)
        if rest is not None:
            added, grid = cls._stored(rest)
            stored = stored + added
        return cls(connectivity, weight, stored, grid)

    @staticmethod
    def _stored(projection: Projection) -> tuple[Array, Array]:
        """Stored weights behind their shift, and their step."""
        weight = projection.connectivity.weight
        factor = np.exp2(-_by_row(projection.shift.astype(np.float64), projection.connectivity))
        return weight * factor, max(int(np.gcd.reduce(weight, axis=None)), 1) * factor


def _units(links: Sequence[_Link], channels: int) -> Array:
    """Real value of one unit of the stored weights, by output channel: least squares over all projections."""
    product, square = np.zeros(channels), np.zeros(channels)
    for link in links:
        rows = np.broadcast_to(link.connectivity.row_channel(), link.stored.shape).reshape(-1)
        np.add.at(product, rows, (link.real * link.stored).reshape(-1))
        np.add.at(square, rows, np.square(link.stored).reshape(-1))
    return np.where(square > 0, product / np.where(square > 0, square, 1.0), 0.0)


def _rounding(link: _Link, unit: Array, power: Array) -> Array:
    """Mean-square error that the rounding of weights brings, by output channel.

    The residual of each weight counts as far as rounding can explain it, half a grid step.
    """
    unit = _by_row(unit, link.connectivity)
    residual = np.minimum(np.abs(link.real - unit * link.stored), np.abs(unit) * link.grid / 2)
    return squared_gain(link.connectivity, np.square(residual), power)


def _own(network: Network, population: Population, scale: Array, wanted: Array) -> Array:
    """Mean-square error of a population's own code on the values it should have, by channel."""
    spread = (-1, *(1,) * (wanted.ndim - 2))
    match population.neuron:
        case LIF(reset=reset) | IF(reset=reset):
            levels = spike_levels(population.neuron) or (0, 1)
            top = scale.reshape(spread) * levels[1]
            own = np.square(scale / network.timesteps) / 12 + squares_by_channel(np.maximum(wanted - top, 0.0))
            if reset is Reset.ZERO:
                rate = np.clip(wanted / np.where(top > 0, top, 1.0), 0.0, 1.0)
                own = own + squares_by_channel(np.square(rate)) * np.square(scale) / 3
            return own
        case Source():
            spec = network.by_input[population.name]
            low, high = spec.low * scale, spec.high * scale
            excess = wanted - np.clip(wanted, low.reshape(spread), high.reshape(spread))
            return np.square(scale) / 12 + squares_by_channel(excess)
        case GradedReLU() | Graded():
            return np.square(scale) / 3
        case SigmaDelta(threshold=threshold):
            # What has not been sent yet: less than the threshold, of messages that stand for T of theirs.
            unit = scale / network.timesteps
            return np.asarray(np.square(unit) * (1 / 3 + np.square(np.max(threshold) - 1.0)))
    return np.zeros(population.shape[0])


def inner_values(network: Network, graph: LayerGraph, x: Array, wanted: Mapping[str, Array]) -> dict[str, Array]:
    """The analog values of populations that ONNX has no tensor for: the halves of a LeakyRelu, say.

    Args:
        network: made from the graph.
        graph: simplified.
        x: (N, ...) as the graph takes them.
        wanted: by population, what is known already.

    Returns:
        by population, (N, *shape).
    """
    names = [name for name in network.by_name if name not in wanted and name in graph.by_name]
    values = execute_graph(graph, x, names)
    return {name: values[name].reshape(len(x), *network.by_name[name].shape) for name in names}


def error_bounds(
    network: Network, spiking: Network, wanted: Mapping[str, Array], inner: Mapping[str, Array] | None = None
) -> dict[str, float]:
    """The bound on the rms error of every population whose values are known.

    Args:
        network: quantized.
        spiking: the same before quantization: real weights.
        wanted: by population, (N, *shape): what ONNX Runtime says, sign-split like the population.
        inner: the same of populations that get no bound: their sizes count where others read them.
    """
    known = {**(inner or {}), **wanted}
    errors: dict[str, Array] = {}
    powers: dict[str, Array] = {}
    bounds: dict[str, float] = {}
    for population in network.populations:
        scale, values = code_scale(network, population), known.get(population.name)
        values = np.zeros((1, *population.shape)) if values is None else values
        error = _own(network, population, scale, values) + _incoming(network, spiking, population, errors, powers)
        errors[population.name], powers[population.name] = error, squares_by_channel(values)
        if population.name in wanted:
            bounds[population.name] = SAFETY * float(np.sqrt(error.mean()))
    return bounds


def _in_one_step(network: Network, projection: Projection, real: Projection) -> Projection | None:
    """The quantized projection that was cut into partial sums, as it was before.

    Args:
        network: quantized, with relays.
        projection: from the relays, with ones or another unit as weights.
        real: the projection before quantization.
    """
    parts = next(p for p in network.projections if p.name == real.name + PARTS)
    shape, operator = real.connectivity.weight.shape, parts.connectivity
    if not isinstance(operator, Conv2d):
        return None  # Cut synapse by synapse: its rounding is not known weight by weight.
    groups = real.connectivity.groups if isinstance(real.connectivity, Conv2d) else 1
    weight = operator.weight.reshape(groups, operator.groups // groups, shape[0] // groups, -1).swapaxes(1, 2)
    unit, shift = int(projection.connectivity.weight.max()), projection.shift
    relay = network.by_name[parts.target].neuron
    if isinstance(relay, LIF):
        # A signed spike weighs `unit` and stands for a threshold of the sum.
        shift, unit = shift + (int(relay.threshold) // unit).bit_length() - 1, 1
    whole = real.connectivity.with_weight(weight.reshape(shape).astype(np.int64) * unit)
    return replace(projection, source=parts.source, connectivity=whole, shift=shift)


def _incoming(
    network: Network,
    spiking: Network,
    population: Population,
    errors: Mapping[str, Array],
    powers: Mapping[str, Array],
) -> Array:
    """Mean-square error that a population's inputs and weights bring, by channel."""
    total = np.zeros(population.shape[0])
    before = {p.name: p for p in spiking.projections}
    links: list[tuple[_Link, Array]] = []
    for projection in network.incoming[population.name]:
        stored: Projection | None = projection
        real = before.get(projection.name)
        if projection.name.endswith(REST):
            continue  # its weights count with those whose rest they are
        if real is None and projection.name.endswith(SUM):
            real = before.get(projection.name.removesuffix(SUM))
            stored = real and _in_one_step(network, projection, real)
        if real is None:
            continue  # made by a later pass; what it relays is counted where it comes from
        old = code_scale(spiking, spiking.by_name[real.source])
        new = code_scale(network, network.by_name[real.source])
        in_messages = np.where(old > 0, 1.0 / np.square(np.where(old > 0, old, 1.0)), 0.0)
        moved = errors[real.source] * in_messages
        total += squared_gain(real.connectivity, np.square(real.connectivity.weight), moved)
        total += coherent_gain(real.connectivity, moved)
        if network.is_integer and stored is not None:
            ratio = np.where(old > 0, new / np.where(old > 0, old, 1.0), 0.0)
            squares = np.where(new > 0, powers[real.source] / np.square(np.where(new > 0, new, 1.0)), 0.0)
            rest = next((p for p in network.projections if p.name == projection.name + REST), None)
            links.append((_Link.between(real, stored, ratio, rest), squares))
    unit = _units([link for link, _ in links], population.shape[0])
    for link, squares in links:
        total += _rounding(link, unit, squares)
    return total
