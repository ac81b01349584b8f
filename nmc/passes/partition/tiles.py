"""Sequential tiles: each population is cut into equal boxes, small ones share cores.

Populations are taken from the last to the first, so that the destination cores of a
population's neurons are known when its own tile is chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from nmc.ir.connectivity import IndexArray, Shape, size
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Box, Partitioned
from nmc.ir.network import Network, Population
from nmc.passes.base import Context, Program
from nmc.passes.partition.assemble import assemble, chip_populations, fan_out
from nmc.passes.partition.boxes import middle_box, tiling
from nmc.passes.partition.demand import Core, Demand, DemandModel
from nmc.passes.partition.rates import measured_rates
from nmc.passes.partition.unfit import raise_unfit, report_unfit

OPEN_CORES = 64
"""Cores that a tile may still join: the last so many that were opened."""


@dataclass(frozen=True)
class PartitionTiles:
    """Cut every population into the fewest equal tiles, then the tiles with the fewest packets."""

    name: ClassVar[str] = "partition-tiles"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Program]] = Network
    produces: ClassVar[type[Program]] = Partitioned

    def run(self, program: Program, context: Context) -> Program:
        """Partition the network.

        Raises:
            NmcError: a layer fits no core, however small its tiles (exit 4), with all such layers.
        """
        if not isinstance(program, Network):
            raise TypeError(f"{self.name} needs a Network")
        model = DemandModel.of(program, context.target, measured_rates(program, context))
        return assemble(model, tile_cores(model))


def tile_cores(model: DemandModel) -> list[Core]:
    """Cores filled with tiles.

    Raises:
        NmcError: see `PartitionTiles.run`.
    """
    sink = DiagnosticSink()
    cores: list[Core] = []
    for population in reversed(chip_populations(model.network)):
        demands = choose_tiles(model, population, fan_out(model, population, cores), sink)
        for demand in demands:
            pack(model, cores, demand)
    raise_unfit(model, cores, sink)
    return cores


def pack(model: DemandModel, cores: list[Core], demand: Demand) -> None:
    """Add a slice to the open core that already hears most of its sources, or to a new one."""
    limits = model.target.core
    best, best_overlap = None, -1.0
    for core in reversed(cores[-OPEN_CORES:]):
        if not core.fits(demand, limits):
            continue
        overlap = core.overlap(demand)
        if overlap > best_overlap:
            best, best_overlap = core, overlap
    if best is None:
        best = Core(model)
        cores.append(best)
    best.add(demand)


def chunk_sizes(n: int) -> list[int]:
    """The sizes ceil(n / k): those that cut an axis of length n into as equal chunks as can be."""
    return sorted({-(-n // k) for k in range(1, n + 1)}, reverse=True)


def tile_shapes(shape: Shape, neurons_max: int) -> Iterator[tuple[int, list[Shape]]]:
    """Tile shapes of at most ``neurons_max`` neurons, grouped by how many tiles they make, fewest first."""
    by_count: dict[int, list[Shape]] = {}
    for tile in itertools.product(*(chunk_sizes(n) for n in shape)):
        if size(tile) <= neurons_max:
            count = size(tuple(-(-n // step) for n, step in zip(shape, tile, strict=True)))
            by_count.setdefault(count, []).append(tile)
    for count in sorted(by_count):
        yield count, by_count[count]


def choose_tiles(model: DemandModel, population: Population, fan_out: IndexArray, sink: DiagnosticSink) -> list[Demand]:
    """The demands of the tiles of one population: fewest tiles, then fewest packets.

    Args:
        model: of the network.
        population: on the chip.
        fan_out: destination cores of each neuron, in the population's shape.
        sink: takes one error per limit that even a single neuron exceeds.

    Returns:
        one demand per tile, in C order; empty if none fits.
    """
    limits, shape, name = model.target.core, population.shape, population.name
    too_large: list[Shape] = []
    for _, shapes in tile_shapes(shape, limits.neurons):
        ranked: list[tuple[float, Shape]] = []
        for tile in shapes:
            if any(all(a >= b for a, b in zip(tile, other, strict=True)) for other in too_large):
                continue
            demand = model.demand(name, middle_box(shape, tile), fan_out)
            if Core(model).fits(demand, limits):
                cost = sum(model.rate(i.source) * len(i.neurons) for i in demand.inputs)
                ranked.append((cost, tile))
            elif size(tile) > 1:
                too_large.append(tile)
        for _, tile in sorted(ranked):
            demands = demands_if_all_fit(model, name, tiling(shape, tile), fan_out)
            if demands is not None:
                return demands
    report_unfit(model, population, fan_out, sink)
    return []


def demands_if_all_fit(
    model: DemandModel, name: str, boxes: tuple[Box, ...], fan_out: IndexArray
) -> list[Demand] | None:
    """The demands of all boxes, or None if one of them alone exceeds a limit of a core."""
    demands = []
    for box in boxes:
        demand = model.demand(name, box, fan_out)
        if not Core(model).fits(demand, model.target.core):
            return None
        demands.append(demand)
    return demands
