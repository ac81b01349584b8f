"""What one population of a network sends, sample by sample, in the kernels of the simulator.

Calibration simulates every layer once on all its samples. The kernels of `nmc.kernels.fused` do that many
times as fast as `nmc.kernels.layerwise`, for one layer as for all; what they cannot do is done there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population
from nmc.ir.neurons import Source, spike_levels
from nmc.kernels.fused import FusedLayer, blank_arena, in_vectors, lay_layer, lay_maps, map_of, operands_of
from nmc.kernels.fused_operands import Feed, Maps
from nmc.kernels.fused_steps import pool_layer, run_grouped, run_layers
from nmc.kernels.fused_tables import FEED, GROUPED, READ, SUMS, LayerTables, Layout, Row, scratch_of
from nmc.kernels.layerwise import LaidPopulation, LaidProjection
from nmc.kernels.parallel import parallel
from nmc.kernels.tiers import GROUP, Portable, Tier, adds_pairs, available_tiers

_BYTE, _SIGNED_BYTE = 255, 127


def respond(
    network: Network, population: Population, sent: Mapping[str, Sequence[Array]], samples: Array
) -> list[Array]:
    """(T, n) messages of a population in every sample, channels last.

    Args:
        network: over integers, at least the population, its sources and the projections between them, whose
            windows match (those of every program after align do).
        population: a member of it.
        sent: (T, n) messages of every source, by sample.
        samples: (N, n) integer inputs, as `nmc.kernels.layerwise.joined_channels_last` makes them.
    """
    lone = _lay(network, population)
    if lone is not None:
        return lone.respond(sent, len(samples))
    incoming = tuple(LaidProjection.lay(p) for p in network.incoming[population.name])
    laid = LaidPopulation(population, incoming, network.timesteps, network.input_places.get(population.name))
    out: list[Array] = [np.zeros(0)] * len(samples)

    def one(index: int) -> None:
        heard = {p.source: sent[p.source][index] for p in network.incoming[population.name]}
        out[index], _ = laid.respond(laid.totals(heard), samples[index])

    parallel(one, len(out))
    return out


@dataclass(frozen=True, eq=False)
class _LoneLayer:
    """One population and the messages of its sources, laid out.

    Attributes:
        sources: with their number in the tables.
        layer: the population.
        maps: where messages lie.
        tables: for the kernels; the population is the last layer.
        blank: bytes of all messages, when there are none.
        scratch: sums of one block of a few pixels, at most.
        timesteps: T.
    """

    sources: tuple[Population, ...]
    layer: FusedLayer
    maps: Mapping[Feed, Maps]
    tables: LayerTables
    blank: NDArray[np.uint8]
    scratch: int
    timesteps: int

    def respond(self, sent: Mapping[str, Sequence[Array]], samples: int) -> list[Array]:
        """The messages in every sample, in threads: each has an arena of its own."""
        out: list[Array] = [np.zeros(0)] * samples
        spare: list[tuple[NDArray[np.uint8], LayerTables, Array]] = []
        lock, fastest = threading.Lock(), available_tiers()[0]
        tier: Tier = Portable() if adds_pairs(fastest) and not self.layer.pairs else fastest

        def one(index: int) -> None:
            with lock:
                mine = spare.pop() if spare else self._memory()
            out[index] = self._sample(tier, {p.name: sent[p.name][index] for p in self.sources}, *mine)
            with lock:
                spare.append(mine)

        parallel(one, samples)
        return out

    def _memory(self) -> tuple[NDArray[np.uint8], LayerTables, Array]:
        """Of one thread: messages, tables with a tally of their own, and sums."""
        tables = self.tables._replace(tally=np.zeros_like(self.tables.tally))
        return self.blank.copy(), tables, np.zeros(self.scratch, dtype=np.int32)

    def _sample(
        self, tier: Tier, heard: Mapping[str, Array], arena: NDArray[np.uint8], tables: LayerTables, sums: Array
    ) -> Array:
        """The messages (T, n) in one sample."""
        for number, source in enumerate(self.sources):
            maps = self.maps[source.name, 1]
            channels, height, width = maps.shape
            padded = np.full((maps.steps, height * width, maps.channels), maps.zero, dtype=np.uint8)
            given = heard[source.name][: maps.steps].reshape(maps.steps, -1, channels)
            padded[:, :, :channels] = (given + maps.zero if maps.zero else given).astype(np.uint8)
            grouped = padded.reshape(maps.steps, height, width, -1, GROUP)
            self._view(maps, arena)[:] = grouped.transpose(1, 2, 3, 0, 4)
            pool_layer(arena, tables, number)
        last = len(self.sources)
        if self.layer.cells is not None:
            run_grouped(tier, self.layer.cells, arena, tables, sums, last, last + 1)
        else:
            totals, sample = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
            readouts = np.zeros((0, 0), dtype=np.int32)
            run_layers(tier, arena, tables, sums, totals, sample, readouts, last, last + 1)
        maps = self.layer.maps
        by_step = self._view(maps, arena).transpose(3, 0, 1, 2, 4).reshape(maps.steps, -1, maps.channels)
        # A copy: the arena serves the next sample.
        sent = np.subtract(by_step[:, :, : maps.shape[0]], np.uint8(maps.zero), order="C")
        return sent.reshape(maps.steps, -1).view(np.int8)

    @staticmethod
    def _view(maps: Maps, arena: NDArray[np.uint8]) -> Array:
        """The messages of a population, (H, W, groups of channels, steps, channels of a group)."""
        _, height, width = maps.shape
        top, left = maps.pads[:2]
        whole = arena[maps.offset : maps.offset + maps.bytes]
        grid = whole.reshape(-1, maps.row // maps.pixel, maps.channels // GROUP, maps.held, GROUP)
        return grid[top : top + height, left : left + width, :, : maps.steps]


def _lay(network: Network, population: Population) -> _LoneLayer | None:
    """A population laid out; None where it has no form in bytes, or is driven by an input."""
    incoming = network.incoming[population.name]
    sources = tuple(network.by_name[name] for name in dict.fromkeys(p.source for p in incoming))
    levels = spike_levels(population.neuron)
    if not sources or levels is None or levels[1] > _SIGNED_BYTE or isinstance(population.neuron, Source):
        return None
    if population.name in network.by_input or not all(in_vectors(network, p) for p in (*sources, population)):
        return None
    near = replace(network, populations=(*sources, population))
    places = {p.name: map_of(near, p) for p in near.populations}
    if any(place.most > _BYTE or place.width != 1 for place in places.values()):
        return None
    operands = operands_of(near, incoming, places, population)
    if operands is None:
        return None
    maps = lay_maps(near, {population.name: operands})
    layout = Layout(maps)
    for source in sources:
        layout.add(layout.place(Row(FEED), source, network.timesteps))
    layer = lay_layer(near, population, operands, layout, 0)
    if layer is None or layer.row.kind in (READ, SUMS):
        return None
    if layer.row.kind == GROUPED and layer.cells is None:
        return None
    tables = layout.tables()
    scratch = max(scratch_of(operands, layer.row), 1)
    return _LoneLayer(sources, layer, maps, tables, blank_arena(maps, tables), scratch, network.timesteps)
