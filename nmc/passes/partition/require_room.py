"""Large networks are refused before they are mapped, where no mapping can fit the chips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import IndexArray, Shape, size
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink, ExitCode, NmcError
from nmc.ir.network import Network, Population
from nmc.passes.base import Context
from nmc.passes.partition.assemble import chip_populations
from nmc.passes.partition.boxes import halved, middle_box
from nmc.passes.partition.demand import Core, DemandModel
from nmc.passes.partition.feasibility import LayerFit, feasibility, least_cores
from nmc.passes.partition.limits import LIMITS, CoreUse, binding_limit
from nmc.passes.partition.unfit import report_unfit

LARGE = 1_000_000
"""Neurons from which on mapping takes long: smaller networks are mapped, and the exact cores are named."""

NAMED = 3
"""Layers that are named at most."""

SPARE = 0.05
"""Cores beyond those of the tiles, which leave some unfilled at the edges of layers."""

WORSE = 1.5
"""Tiles of fewer channels are tried until they take so many times the cores of the best."""


@dataclass(frozen=True)
class RequireRoom:
    """Refuse a large network that needs more cores than there are, or of which a neuron exceeds a core.

    The fewest cores are a bound that no partition can beat, counted in milliseconds per layer; the
    mapping itself, which would take minutes to say the same, is not tried.

    Attributes:
        chips: chips that may be used; None: the target's own number.
    """

    name: ClassVar[str] = "require-room"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    chips: int | None = None

    def run(self, program: Network, context: Context) -> Network:
        """The same network.

        Raises:
            NmcError: it does not fit (exit 4), with what each layer needs.
        """
        if sum(p.neurons for p in chip_populations(program)) <= LARGE:
            return program
        model = DemandModel.of(program, context.target, {})
        fits = feasibility(model)
        sink = DiagnosticSink()
        for population in (program.by_name[fit.layer] for fit in fits if fit.exceeded):
            report_unfit(model, population, _unread(population), sink)
        if sink.errors:
            others = sum(not fit.exceeded for fit in fits)
            sink.note("layers-placed", f"nothing was mapped; the other {others} of {len(fits)} layers fit one by one")
            raise NmcError(sink.items, ExitCode.DOES_NOT_FIT)
        chips = self.chips or context.target.grid.chips
        least, limit = least_cores(model)
        if least > chips * context.target.grid.cores_per_chip:
            raise _refusal(model, fits, least, limit, chips)
        return program


def _unread(population: Population) -> IndexArray:
    """No destinations: output axons depend on the mapping."""
    return np.zeros(population.shape, dtype=np.int64)


def _refusal(model: DemandModel, fits: tuple[LayerFit, ...], least: int, limit: str, chips: int) -> NmcError:
    grid = model.target.grid
    available = chips * grid.cores_per_chip
    ranked = sorted(fits, key=lambda fit: -fit.least)
    largest = ranked[0]
    tiles = estimated_cores(model)
    would_do = -(-tiles // grid.cores_per_chip)
    message = (
        f"the network needs at least {least} cores, because of {limit}, and {least - available} more than the "
        f"{available} of {chips} chip{'s' if chips > 1 else ''} of target '{model.target.name}'; in equal tiles it "
        f"takes about {tiles}; layer '{largest.layer}' takes most, at least {largest.least}, because of {largest.limit}"
    )
    more = (
        f"--chips {would_do}"
        if would_do <= grid.chips_max
        else f"fewer cores: at most {grid.chips_max} chips can be joined, {would_do} would be needed"
    )
    advice = next(entry for entry in LIMITS if entry.name == largest.limit).help
    help = f"any of these may help: (1) {more}; (2) in '{largest.layer}': {advice}; (3) a target with larger cores"
    origin = model.network.by_name[largest.layer].origin
    named = ", ".join(f"'{fit.layer}' {fit.least} ({fit.limit})" for fit in ranked[:NAMED])
    note = f"nothing was mapped; cores by layer at least: {named}; `nmc check` lists all {len(fits)} layers"
    return NmcError(
        [
            Diagnostic("too-many-cores", message, "error", origin, help),
            Diagnostic("layers-placed", note, "note"),
        ],
        ExitCode.DOES_NOT_FIT,
    )


def estimated_cores(model: DemandModel) -> int:
    """Cores that the best equal tiles of every layer take, where layers of less than a core share one.

    Layers that hear the same neurons share axons on a core, which tiles of single layers know nothing
    of: partitions take fewer cores as a rule.
    """
    layers = [_tiled(model, population) for population in chip_populations(model.network)]
    total = sum(cores if cores < 1 else np.ceil(cores) for cores in layers)
    return max(int(np.ceil(total * (1 + SPARE))), least_cores(model)[0]) + 1


def _tiled(model: DemandModel, population: Population) -> float:
    """Cores of one layer in equal tiles: of every number of channels that halving leads to, the largest that fit."""
    channels, *places = population.shape
    found = np.inf
    while channels:
        tile: Shape = (channels, *places)
        share = _filling(model, population, tile)
        while share > 1 and size(tile[1:]) > 1:
            tile = halved(tile, 1 + int(np.argmax(tile[1:])))
            share = _filling(model, population, tile)
        if share <= 1:
            count = size(tuple(-(-n // step) for n, step in zip(population.shape, tile, strict=True)))
            if count * share >= found * WORSE:
                break
            found = min(found, count * share)
        channels = channels // 2
    return float(found) if np.isfinite(found) else float(population.neurons)


def _filling(model: DemandModel, population: Population, tile: Shape) -> float:
    """How full a tile in the middle makes a core; more than 1 where it does not fit."""
    target: Target = model.target
    if size(tile) > target.core.neurons:
        return size(tile) / target.core.neurons
    use: CoreUse = Core(model).use_with(model.demand(population.name, middle_box(population.shape, tile)))
    return binding_limit(use, target.core)[1]
