"""Networks without loops, whole windows at a time: every layer as dot products, and its neurons in vectors.

Built from a mapping only after `covers_network` has proved that its tables hold every synapse of the network once.
Where messages are spikes, static bounds prove that no sum leaves 32 bits and no message a byte; where they carry
values, that is looked at while it runs. What it computes and counts is then what the tables say, step by step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import (
    LIF,
    STATE_LIMIT,
    Graded,
    GradedReLU,
    Integrator,
    SigmaDelta,
    Source,
    spike_levels,
)
from nmc.kernels import fused_tables as tables
from nmc.kernels.fire_rules import Cells, cells_of
from nmc.kernels.fire_values import Values, values_of
from nmc.kernels.fused_counts import Counting, lay_counts
from nmc.kernels.fused_operands import Feed, Maps, Sum, lane_of, sums_of
from nmc.kernels.fused_tables import LayerTables, Layout, Operands, Row, chained, own_of
from nmc.kernels.integrate import Neurons
from nmc.kernels.mapped_cover import covers_network
from nmc.kernels.mapped_tables import MappedProgram
from nmc.kernels.neurons import IDEAL, INTEGRATOR, LIF_LEAKY, LIF_PLAIN, model_of, parameters_of
from nmc.kernels.propagate import channels_last, row_sums
from nmc.kernels.tiers import PAIR_LIMIT, ROWS

_WORD = tables.WORD
_BYTE, _MESSAGE = 255, (1 << 15) - 1
_SPIKING = (LIF_PLAIN, LIF_LEAKY, IDEAL)
_MODELS = (*_SPIKING, INTEGRATOR)


@dataclass(frozen=True, eq=False)
class FusedLayer:
    """One population, laid out.

    Attributes:
        maps: where its messages lie.
        row: its numbers in the tables.
        cells: what its neurons do, where their sums go through memory or are words.
        neurons: where only the sums are vectors: spiking ones whose potentials are read; their messages are
            computed by `nmc.kernels.neurons`.
        pairs: whether two products always fit 16 bits.
    """

    population: Population
    maps: Maps
    row: Row
    cells: Cells | Values | None
    neurons: Neurons | None
    pairs: bool = True


@dataclass(frozen=True, eq=False)
class FusedProgram:
    """A mapping as layers.

    Attributes:
        tables: for the kernels.
        blank: bytes of all messages, when there are none.
        limits: (P, 6) float64, of projections of networks whose messages carry values, by number of the layer and of
            its source: what the largest message makes at most of their sum, what is added to it, and both again
            behind the shift. Empty where messages are bytes, which have bounds.
        scratch: sums of one block of a few pixels, at most; ``totals``: sums of one layer.
        spare: memory of threads that no run uses now (`nmc.kernels.fused_run.Worker`).
    """

    program: MappedProgram
    layers: tuple[FusedLayer, ...]
    tables: LayerTables
    blank: NDArray[np.uint8]
    limits: NDArray[np.float64]
    scratch: int
    totals: int
    spare: list[object] = field(default_factory=list)

    def takes(self, inputs: Array) -> bool:
        """Whether these inputs stay within the bounds that were proved."""
        if len(inputs) == 0:
            return False
        network, flat = self.program.network, inputs.reshape(len(inputs), -1)
        places = [(flat[:, network.input_places[name]], spec) for name, spec in network.by_input.items()]
        return all(x.min() >= spec.low and x.max() <= spec.high for x, spec in places)

    @cached_property
    def order(self) -> Mapping[str, IndexArray]:
        """By population, for each of its slots the place of the neuron among all, channels last."""
        program, found = self.program, {}
        for population in program.network.populations:
            place = np.argsort(channels_last(population.shape))
            found[population.name] = place[program.neurons[program.slots_by_population[population.name]]]
        return found

    @cached_property
    def counting(self) -> Counting:
        """Where the numbers of the tally go."""
        return lay_counts(self.program, {layer.population.name: layer.row for layer in self.layers}, self.order)


def fuse(program: MappedProgram) -> FusedProgram | None:
    """The mapping as layers, or None where it has to go step by step."""
    network = program.network
    found = _all_operands(network)
    if found is None or not covers_network(program):
        return None
    maps = lay_maps(network, found)
    layout, layers, column, scratch, totals = Layout(maps), list[FusedLayer](), 0, 1, 1
    for population in network.populations:
        layer = lay_layer(network, population, found[population.name], layout, column)
        if layer is None:
            return None
        layers.append(layer)
        if layer.row.kind == tables.READ or (layer.row.kind == tables.VALUES and layer.row.column >= 0):
            column += population.neurons
        scratch = max(scratch, tables.scratch_of(found[population.name], layer.row))
        if layer.row.kind in (tables.READ, tables.SUMS):
            totals = max(totals, layer.row.steps * layer.row.height * layer.row.width * layer.row.padded)
    laid = layout.tables()
    limits = _limits(network) if _carries_values(network) else np.zeros((0, 6))
    return FusedProgram(program, tuple(layers), laid, blank_arena(maps, laid), limits, scratch, totals)


def blank_arena(maps: Mapping[Feed, Maps], laid: LayerTables) -> NDArray[np.uint8]:
    """The bytes of all messages, when there are none."""
    # Of constant sums a few pixels beyond the last may be read.
    beyond = ROWS * int(laid.segments[:, 3].max(initial=0))
    blank = np.zeros(sum(m.bytes for m in maps.values()) + beyond, dtype=np.uint8)
    for place in maps.values():
        here = blank[place.offset : place.offset + place.bytes]
        (here if place.width == 1 else here.view(np.int16))[:] = place.zero
    return blank


def _all_operands(network: Network) -> dict[str, Operands] | None:
    """The operands of every population; None where one has no form in bytes, or windows do not match."""
    if network.recurrent or not network.is_integer:
        return None
    if not all(in_vectors(network, population) for population in network.populations):
        return None
    found: dict[str, Operands] = {}
    maps = {p.name: map_of(network, p) for p in network.populations}
    for population in network.populations:
        incoming = network.incoming[population.name]
        if maps[population.name].most > (_MESSAGE if maps[population.name].width == 2 else _BYTE):
            return None
        if any(network.by_name[q.source].sends_from + q.delay != population.start for q in incoming):
            return None
        operands = operands_of(network, incoming, maps, population)
        if operands is None:
            return None
        found[population.name] = operands
    return found


def in_vectors(network: Network, population: Population) -> bool:
    """Whether the kernels know such neurons and maps."""
    neuron = population.neuron
    if len(population.shape) not in (1, 3):
        return False
    values = _carries_values(network)
    if isinstance(neuron, Source):
        return values >= neuron.once and population.name in network.by_input
    return isinstance(neuron, Graded | GradedReLU | SigmaDelta) if values else model_of(neuron).kind in _MODELS


def _carries_values(network: Network) -> bool:
    """Whether messages are values, words in vectors, and not spikes."""
    return any(isinstance(p.neuron, Graded | GradedReLU | SigmaDelta) for p in network.populations)


def _levels(network: Network, population: Population) -> tuple[int, int]:
    """Smallest and largest message."""
    levels, spec = spike_levels(population.neuron), network.by_input.get(population.name)
    if levels is not None:
        return levels
    if spec is None:
        raise TypeError(f"{population.name} neither spikes nor takes an input")
    return spec.low, spec.high


def map_of(network: Network, population: Population) -> Maps:
    """The messages of a population, without the padding that its readers want."""
    channels, *rest = population.shape
    height, width = (*rest, 1, 1)[:2]
    if _carries_values(network):
        spec = network.by_input.get(population.name)
        low, high = (-_MESSAGE, _MESSAGE) if spec is None else (spec.low, spec.high)
        # Words of 16 bits without a sign are stored less half of their range.
        zero = -_MESSAGE - 1 if high > _MESSAGE else 0
        steps = 1 if isinstance(population.neuron, Source) and not population.neuron.once else network.timesteps
        most = max(high + zero, -low - zero - 1)
        return Maps((channels, height, width), steps, zero, most, (0, 0, 0, 0), 0, 2)
    low, high = _levels(network, population)
    steps, zero = 1 if isinstance(population.neuron, Source) else network.timesteps, max(-low, 0)
    return Maps((channels, height, width), steps, zero, high + zero, (0, 0, 0, 0), 0)


def operands_of(
    network: Network, incoming: Sequence[Projection], maps: Mapping[str, Maps], population: Population
) -> Operands | None:
    """What reaches a population, in registers throughout where that can be; None where it has no form in bytes."""
    words = maps[population.name].width == 2

    def sums(of: Sequence[Projection]) -> list[Sum] | None:
        # Values are never pooled: their sums need not be words.
        shapes = [(q, network.by_name[q.source].shape, _MESSAGE if words else maps[q.source].most) for q in of]
        return sums_of(shapes, population.shape, words=words)

    def centred(part: Sum) -> bool:
        return not (part.bias.any() or any(maps[name].zero for name, _ in part.sources))

    if _fires(network, population) and not any(maps[q.source].constant for q in incoming):
        lanes = {q.name: lane_of(q, maps[q.source], population.shape) for q in incoming}
        for taken in (lanes, {}):
            left = sums([q for q in incoming if taken.get(q.name) is None])
            chain = None if left is None else chained(left, centred)
            if chain is not None:
                return Operands(chain, [lane for lane in taken.values() if lane is not None], chained=True)
    all_of_them = sums(incoming)
    return None if all_of_them is None else Operands(all_of_them)


def _fires(network: Network, population: Population) -> bool:
    """Whether its messages are computed in vectors."""
    return model_of(population.neuron).kind in _SPIKING and population.name not in network.read_outs


def lay_maps(network: Network, found: Mapping[str, Operands]) -> dict[Feed, Maps]:
    """Places of all messages and their pooled sums, with the padding that their readers want."""
    pads: dict[Feed, list[int]] = {(p.name, 1): [0, 0, 0, 0] for p in network.populations}
    for operands in found.values():
        for feed in operands.feeds:
            pads.setdefault(feed, [0, 0, 0, 0])
        for part in operands.sums:
            for conv, feed in zip(part.convs, part.sources, strict=True):
                pads[feed] = [max(a, b) for a, b in zip(pads[feed], conv.pads, strict=True)]
    maps: dict[Feed, Maps] = {}
    offset = 0
    for (name, side), (top, left, bottom, right) in pads.items():
        whole = map_of(network, network.by_name[name])
        channels, height, width = whole.shape
        maps[name, side] = replace(
            whole,
            shape=(channels, height // side, width // side),
            zero=whole.zero * side * side,
            most=whole.most * side * side,
            pads=(top, left, bottom, right),
            offset=offset,
        )
        offset += maps[name, side].bytes
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


def _fits(network: Network, population: Population, levels: Mapping[str, tuple[int, int]]) -> bool:
    """Whether no sum and no potential leaves 32 bits, and no current wraps."""
    neuron, total = population.neuron, _bounds(network, population, levels)
    # Who fires is never below the smallest potential, who does not never above the largest.
    limits = parameters_of(neuron).threshold
    if limits.min(initial=0) < 0 or (isinstance(neuron, LIF) and limits.max(initial=0) >= STATE_LIMIT - 1):
        return False
    threshold, bias, v0, _ = (float(np.abs(values).max(initial=0)) for values in parameters_of(neuron))
    spec = network.by_input.get(population.name)
    if spec is not None:
        exponent = int(np.max(neuron.bias_exp)) if isinstance(neuron, LIF) else 0
        bias = max(abs(spec.low), abs(spec.high)) * 2.0**exponent
    if model_of(neuron).kind == IDEAL:
        return (network.timesteps + population.wait) * (total + bias) + threshold + v0 < _WORD / 4
    # u does not wrap, so it has no part in what follows.
    return total * 64 < STATE_LIMIT and max(threshold, bias, v0) < _WORD / 4


def lay_layer(
    network: Network, population: Population, operands: Operands, layout: Layout, column: int
) -> FusedLayer | None:
    """One layer, laid out at the end of the tables; None where its numbers do not fit."""
    neuron, place = population.neuron, layout.maps[population.name, 1]
    row = layout.place(Row(tables.FEED), population, network.timesteps)
    if isinstance(neuron, Source):
        row = row._replace(column=network.input_places[population.name].start)
        layout.add(row)
        return FusedLayer(population, place, row, None, None)
    if place.width == 2:
        return _lay_values(network, population, operands, layout, row, column)
    levels = {q.source: _levels(network, network.by_name[q.source]) for q in network.incoming[population.name]}
    if not _fits(network, population, levels):
        return None
    model, constant = model_of(neuron), all(layout.maps[feed].constant for feed in operands.feeds)
    kind = _kind(network, population, constant, operands.chained)
    # What changes in such a neuron is more than its potential.
    if kind == tables.SUMS and model.kind == LIF_LEAKY:
        return None
    lif = model.kind != IDEAL
    rounds = 1 if constant else -(-network.timesteps // ROWS)
    row = tables.with_model(row, model, population.wait)._replace(kind=kind, rounds=rounds, column=column)
    # What an input drives differs from neuron to neuron.
    drive = np.zeros(population.neurons, dtype=np.int64) if population.name in network.by_input else None
    own = own_of(population, row.padded, int(lif), drive)
    fires = kind not in (tables.READ, tables.SUMS)
    laid = layout.add_sums(row, operands, own, 6 if fires and lif else 0)
    return FusedLayer(
        population,
        place,
        laid,
        cells_of(model) if kind == tables.GROUPED else None,
        Neurons.lay(population) if kind == tables.SUMS else None,
        _pairs(operands, layout.maps),
    )


def _lay_values(
    network: Network, population: Population, operands: Operands, layout: Layout, row: Row, column: int
) -> FusedLayer | None:
    """A layer whose messages are words, laid out; None where a parameter does not fit, or it is read and heard."""
    if population.name in network.read_outs and network.outgoing[population.name]:
        return None
    biases = [q.bias for q in network.incoming[population.name] if q.bias is not None]
    own = parameters_of(population.neuron)
    if any(np.abs(values).max(initial=0) > _WORD / 2 for values in (*biases, own.v0, own.threshold)):
        return None
    model, constant = model_of(population.neuron), all(layout.maps[feed].constant for feed in operands.feeds)
    row = tables.with_model(row, model, 0)._replace(
        kind=tables.VALUES,
        rounds=1 if constant else -(-network.timesteps // ROWS),
        column=column if population.name in network.read_outs else -1,
    )
    laid = layout.add_sums(row, operands, own_of(population, row.padded, 0), 0)
    cells = values_of(model) if row.column < 0 else None
    return FusedLayer(population, layout.maps[population.name, 1], laid, cells, None)


def _limits(network: Network) -> NDArray[np.float64]:
    """As `FusedProgram` says."""
    order = {p.name: number for number, p in enumerate(network.populations)}
    found = []
    for projection in network.projections:
        reach = np.maximum(*np.abs(row_sums(projection.connectivity, -1, 1)))
        bias = 0.0 if projection.bias is None else float(np.abs(projection.bias).max(initial=0))
        scale = 2.0 ** -projection.shift.astype(np.float64).reshape(-1)
        # A floor rounds away from 0 at most by one, before what is shifted to the left.
        rest = bias * scale.max() + max(float(scale.max()), 1.0)
        ends = (order[projection.target], order[projection.source])
        found.append((*ends, reach.max(), bias, (reach * scale).max(), rest))
    return np.array(found, dtype=np.float64).reshape(-1, 6)


def _kind(network: Network, population: Population, constant: bool, chained: bool) -> int:
    if isinstance(population.neuron, Integrator):
        return tables.READ
    if not _fires(network, population):
        return tables.SUMS
    if not _plain(population):
        return tables.GROUPED
    if constant:
        return tables.CONSTANT
    return tables.FUSED if chained else tables.GROUPED


def _plain(population: Population) -> bool:
    """Whether neurons fire once in a step, leak nothing and never wait: their sums need not go to memory."""
    return not population.wait and cells_of(model_of(population.neuron)) == Cells()


def _pairs(operands: Operands, maps: Mapping[Feed, Maps]) -> bool:
    """Whether two products always fit 16 bits, whichever they are."""
    most = max((maps[feed].most for feed in operands.feeds), default=0)
    largest = max((int(np.abs(conv.weight).max(initial=0)) for part in operands.sums for conv in part.convs), default=0)
    return 2 * min(largest, 127) * most <= PAIR_LIMIT
