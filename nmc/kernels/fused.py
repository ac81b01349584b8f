"""Rate networks whole windows at a time: every layer as dot products fused with integrate-and-fire.

Built from a mapping only after `covers_network` has proved that its tables hold every
synapse of the network once, and only where static bounds prove that no sum leaves 32 bits
and no message a byte. What it computes and counts is then what the tables say, step by step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.network import Network, Population
from nmc.ir.neurons import LIF, STATE_LIMIT, Source, spike_levels
from nmc.kernels.fused_operands import Maps, Segments, Sum, sums_of
from nmc.kernels.fused_steps import LayerTables
from nmc.kernels.integrate import Neurons, flat
from nmc.kernels.mapped_cover import covers_network
from nmc.kernels.mapped_tables import MappedProgram
from nmc.kernels.neurons import BINARY, IDEAL, INTEGRATOR, LIF_PLAIN, model_of, parameters_of
from nmc.kernels.propagate import channels_last, row_sums
from nmc.kernels.tiers import LANES, PAIR_LIMIT, ROWS

_WORD = (1 << 31) - 1
_BYTE = 255
_PLAIN = (LIF_PLAIN, IDEAL, INTEGRATOR)


@dataclass(frozen=True, eq=False)
class FusedLayer:
    """One population, laid out.

    Attributes:
        maps: where its messages lie.
        tables: for the kernels; None for a source.
        neurons: where only the sums are vectors: those of the output and of firing rules other than
            binary; their messages are computed by `nmc.kernels.neurons`.
        scratch: sums of one block of a few pixels.
        pairs: whether two products always fit 16 bits.
    """

    population: Population
    maps: Maps
    tables: LayerTables | None
    neurons: Neurons | None
    scratch: int = 0
    pairs: bool = True


@dataclass(frozen=True, eq=False)
class FusedProgram:
    """A mapping as layers.

    Attributes:
        ranges: by population, the inputs that it takes: the smallest and the largest.
        arena: bytes of all messages.
        blank: the arena without messages.
    """

    program: MappedProgram
    layers: tuple[FusedLayer, ...]
    ranges: Mapping[str, tuple[int, int]]
    blank: NDArray[np.uint8]

    def takes(self, inputs: Array) -> bool:
        """Whether these inputs stay within the bounds that were proved."""
        if not len(inputs):
            return False
        flat, places = inputs.reshape(len(inputs), -1), self.program.network.input_places
        parts = ((flat[:, places[name]], *limits) for name, limits in self.ranges.items())
        return all(bool(part.min() >= low and part.max() <= high) for part, low, high in parts)

    @cached_property
    def order(self) -> Mapping[str, IndexArray]:
        """By population, for each of its slots the place of the neuron among all, channels last."""
        program, found = self.program, {}
        for population in program.network.populations:
            place = np.argsort(channels_last(population.shape))
            found[population.name] = place[program.neurons[program.slots_by_population[population.name]]]
        return found

    @cached_property
    def meets(self) -> tuple[IndexArray, IndexArray, Array]:
        """Slots, clusters, and the non-zero weights that a message of the slot meets at the cluster (float64)."""
        tables, count = self.program.tables, len(self.program.clusters)
        starts = [np.diff(starts) for starts in tables.pair_start]
        slot = np.concatenate([np.zeros(0, np.int64), *(np.repeat(np.arange(len(n)), n) for n in starts)])
        key, where = np.unique(slot * count + tables.fans[tables.pairs[:, 0], 1], return_inverse=True)
        return key // count, key % count, np.bincount(where, weights=tables.pairs[:, 3], minlength=len(key))


def fuse(program: MappedProgram) -> FusedProgram | None:
    """The mapping as layers, or None where it has to go step by step."""
    network = program.network
    sums = _all_sums(network)
    if sums is None or not covers_network(program):
        return None
    maps = _lay_maps(network, sums)
    levels = {p.name: _levels(network, p) for p in network.populations}
    layers: list[FusedLayer] = []
    for population in network.populations:
        layer = _lay_layer(network, population, sums[population.name], maps, levels)
        if layer is None:
            return None
        layers.append(layer)
    blank = np.zeros(sum(m.bytes for m in maps.values()), dtype=np.uint8)
    for place in maps.values():
        blank[place.offset : place.offset + place.bytes] = place.zero
    ranges = {name: (spec.low, spec.high) for name, spec in network.by_input.items()}
    return FusedProgram(program, tuple(layers), ranges, blank)


def _all_sums(network: Network) -> dict[str, list[Sum]] | None:
    """The operands of every population; None where one has no form in bytes, or windows do not match."""
    if network.recurrent or not network.is_integer:
        return None
    found: dict[str, list[Sum]] = {}
    for population in network.populations:
        neuron, incoming = population.neuron, network.incoming[population.name]
        if population.wait:
            return None
        known = isinstance(neuron, Source) and not neuron.once
        if not known and model_of(neuron).kind not in _PLAIN:
            return None
        if any(network.by_name[q.source].start + q.delay != population.start for q in incoming):
            return None
        sums = sums_of([(q, network.by_name[q.source].shape) for q in incoming], population.shape)
        if sums is None or len(population.shape) not in (1, 3):
            return None
        found[population.name] = sums
    return found


def _levels(network: Network, population: Population) -> tuple[int, int]:
    """Smallest and largest message."""
    levels, spec = spike_levels(population.neuron), network.by_input.get(population.name)
    if levels is not None:
        return levels
    if spec is None:
        raise TypeError(f"{population.name} neither spikes nor takes an input")
    return spec.low, spec.high


def _lay_maps(network: Network, sums: Mapping[str, list[Sum]]) -> dict[str, Maps]:
    """Places of all messages, with the padding that their readers want."""
    pads = {p.name: [0, 0, 0, 0] for p in network.populations}
    for parts in sums.values():
        for part in parts:
            for conv, source in zip(part.convs, part.sources, strict=True):
                pads[source] = [max(a, b) for a, b in zip(pads[source], conv.pads, strict=True)]
    maps: dict[str, Maps] = {}
    offset = 0
    for population in network.populations:
        channels, *rest = population.shape
        height, width = rest or (1, 1)
        steps = 1 if isinstance(population.neuron, Source) else network.timesteps
        zero = max(-_levels(network, population)[0], 0)
        top, left, bottom, right = pads[population.name]
        place = Maps((channels, height, width), steps, zero, (top, left, bottom, right), offset)
        maps[population.name] = place
        offset += place.bytes
    return maps


def _bounds(network: Network, population: Population, levels: Mapping[str, tuple[int, int]]) -> float:
    """No sum a of a step is larger; infinite where 32 bits may not hold one of its parts."""
    total = np.zeros(1)
    for projection in network.incoming[population.name]:
        low, high = levels[projection.source]
        bias = 0.0 if projection.bias is None else float(np.abs(projection.bias).max(initial=0))
        right, left = (2.0 ** np.maximum(sign * projection.shift.reshape(-1), 0) for sign in (1, -1))
        # In bytes a weight may stand shifted to the left, and messages count from their zero.
        most = max(-low, 0) + high
        if np.any((row_sums(projection.connectivity, -most, most)[1] + bias) * left > _WORD / 4):
            return np.inf
        worst = np.maximum(*np.abs(row_sums(projection.connectivity, low, high)))
        # A floor rounds away from 0 at most by one.
        total = total + (np.ceil((worst + bias) / right)) * left
    return float(total.max())


def _lay_layer(
    network: Network,
    population: Population,
    sums: list[Sum],
    maps: Mapping[str, Maps],
    levels: Mapping[str, tuple[int, int]],
) -> FusedLayer | None:
    """One layer; None where its numbers do not fit."""
    neuron, place = population.neuron, maps[population.name]
    _, high = levels[population.name]
    if high + place.zero > _BYTE:
        return None
    if isinstance(neuron, Source):
        return FusedLayer(population, place, None, None)
    model, total = model_of(neuron), _bounds(network, population, levels)
    threshold, bias, v0, _ = (float(np.abs(values).max(initial=0)) for values in parameters_of(neuron))
    spec = network.by_input.get(population.name)
    if spec is not None:
        exponent = int(np.max(neuron.bias_exp)) if isinstance(neuron, LIF) else 0
        bias = max(abs(spec.low), abs(spec.high)) * 2.0**exponent
    if model.kind == IDEAL:
        fits = network.timesteps * (total + bias) + threshold + v0 < _WORD / 4
    else:
        # u does not wrap, so it has no part in what follows.
        fits = total * 64 < STATE_LIMIT and max(threshold, bias, v0) < _WORD / 4
    if not fits:
        return None
    by_vector = model.kind != INTEGRATOR and model.rule == BINARY and population.name not in network.read_outs
    tables = _lay_tables(network, population, sums, maps, model.kind == LIF_PLAIN, bool(model.subtract))
    scratch = max(len(sums), 1) * int(tables.grid[4]) * ROWS * 4 * LANES
    most = max(levels[name][1] + maps[name].zero for part in sums for name in part.sources) if sums else 0
    pairs = np.abs(tables.weights.astype(np.int64)).reshape(-1, 2).sum(axis=1).max(initial=0) * most <= PAIR_LIMIT
    neurons = None if by_vector else Neurons.lay(population)
    return FusedLayer(population, place, tables, neurons, scratch, bool(pairs))


def _lay_tables(
    network: Network, population: Population, sums: list[Sum], maps: Mapping[str, Maps], lif: bool, subtract: bool
) -> LayerTables:
    place = maps[population.name]
    channels, (count, height, width) = place.channels, place.shape
    sources = [maps[name] for part in sums for name in part.sources]
    rounds = 1 if all(s.constant for s in sources) else -(-network.timesteps // ROWS)
    segments, blocks = Segments(), []
    for channel in range(0, channels, 2 * LANES):
        vectors = 2 if channel + LANES < channels else 1
        segments.block = len(segments.rows)
        blocks.append((channel, vectors, segments.block))
        here = slice(channel, min(channel + vectors * LANES, count))
        for group, part in enumerate(sums):
            for conv, name in zip(part.convs, part.sources, strict=True):
                segments.add(group, conv, maps[name], here, vectors * LANES)
    blocks.append((channels, 0, len(segments.rows)))
    first, shifts = _lay_sums(sums, maps, channels)
    into = np.zeros((2, channels), dtype=np.int32)
    if len(sums) == 1:
        into[:] = shifts[0]
    into[1] += 6 if lif else 0
    limit, keep = STATE_LIMIT - 1 if lif else _WORD, -1 if subtract else 0
    grid = (height, width, channels, network.timesteps, rounds, limit, keep, place.inner, place.row)
    empty = np.zeros(0, dtype=np.int64)
    return LayerTables(
        np.array(grid, dtype=np.int64),
        np.array([place.pixel, channels], dtype=np.int64),
        np.array(blocks, dtype=np.int64),
        np.array(segments.rows, dtype=np.int64).reshape(-1, 10),
        np.concatenate([empty, *segments.offsets]).astype(np.int64),
        np.concatenate([np.zeros(0, dtype=np.int8), *segments.weights]),
        first,
        shifts,
        into,
        lay_own(population, channels, int(lif)),
        np.zeros((height * width, channels // LANES, 2, LANES), dtype=np.int32),
    )


def _lay_sums(sums: list[Sum], maps: Mapping[str, Maps], channels: int) -> tuple[Array, Array]:
    """What each sum starts from (the projection bias, less what the zeros of messages add), and its shifts."""
    first = np.zeros((max(len(sums), 1), channels), dtype=np.int32)
    shifts = np.zeros((max(len(sums), 1), 2, channels), dtype=np.int32)
    for group, part in enumerate(sums):
        count = len(part.bias)
        start = part.bias.copy()
        for conv, name in zip(part.convs, part.sources, strict=True):
            start -= conv.weight.reshape(count, -1).sum(axis=1) * maps[name].zero
        first[group, :count] = start
        shifts[group, 0, :count], shifts[group, 1, :count] = np.maximum(part.shift, 0), np.maximum(-part.shift, 0)
    return first, shifts


def lay_own(population: Population, channels: int, strict: int, drive: Array | None = None) -> Array:
    """v0, bias, bar and step of each neuron, (pixels, channels / LANES, 4, LANES) int32.

    One pixel stands for all where no parameter differs within a channel. Padding channels never
    fire: their bar is out of reach.

    Args:
        population: spiking.
        channels: in whole vectors.
        strict: 1 where a potential that equals the threshold does not fire.
        drive: (n,) input that takes the place of the bias.
    """
    own, shape = parameters_of(population.neuron), population.shape
    values = [own.v0, own.bias if drive is None else drive, own.threshold + strict, own.threshold]
    by_channel = drive is None and all(v.size == 1 or v.shape == (shape[0], *(1,) * (len(shape) - 1)) for v in values)
    pixels, count = 1 if by_channel else population.neurons // shape[0], shape[0]
    laid = np.zeros((pixels, channels, 4), dtype=np.int32)
    laid[:, :, 2] = _WORD
    for which, value in enumerate(values):
        full = value if value is drive else flat(np.asarray(value), shape)
        laid[:, :count, which] = full.reshape(-1, count)[:pixels]
    return np.ascontiguousarray(laid.reshape(pixels, channels // LANES, LANES, 4).transpose(0, 1, 3, 2))
