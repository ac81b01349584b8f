"""From any assignment of macro-nodes to cores that hold every limit: offenders are split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nmc.ir.connectivity import IndexArray
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Box
from nmc.passes.partition.assemble import chip_populations, fan_out
from nmc.passes.partition.demand import Core, Demand, DemandModel
from nmc.passes.partition.greedy import coalesced
from nmc.passes.partition.unfit import raise_unfit, report_unfit


@dataclass
class _Filling:
    """Cores that are being filled.

    Attributes:
        cores: by part; a part that exceeds a limit has several.
        heard: destination cores of each neuron, by population that has been started.
    """

    model: DemandModel
    cores: dict[int, list[Core]] = field(default_factory=dict)
    heard: dict[str, IndexArray] = field(default_factory=dict)

    def all_cores(self) -> list[Core]:
        return [core for part in sorted(self.cores) for core in self.cores[part]]

    def put(self, demand: Demand, part: int) -> bool:
        """Add a macro-node to its part; in pieces where it fits no core. False: a neuron alone does not."""
        limits = self.model.target.core
        opened = self.cores.setdefault(part, [])
        for number, core in enumerate(opened):
            if core.fits(demand, limits):
                core.add(demand)
                return True
            if core.neurons + demand.neurons <= limits.neurons and _only_memory(core, demand):
                # Neighbouring nodes share the headers of their axons once they are one slice.
                opened[number] = core = coalesced(self.model, core, self.heard)
                if core.fits(demand, limits):
                    core.add(demand)
                    return True
        if Core(self.model).fits(demand, limits):
            opened.append(Core(self.model))
            opened[-1].add(demand)
            return True
        name, box = demand.piece.population, demand.piece.box
        if demand.neurons == 1:
            return False
        return all([self.put(self.model.demand(name, half, self.heard[name]), part) for half in _halves(box)])


def _only_memory(core: Core, demand: Demand) -> bool:
    exceeded = core.use_with(demand).exceeded(core.model.target.core)
    return len(core.demands) > 1 and [limit.name for limit in exceeded] == ["synapse_bits"]


def _halves(box: Box) -> tuple[Box, Box]:
    axis = int(np.argmax([stop - start for start, stop, _ in box]))
    start, stop, step = box[axis]
    middle = (start + stop + 1) // 2
    return (
        (*box[:axis], (start, middle, step), *box[axis + 1 :]),
        (*box[:axis], (middle, stop, step), *box[axis + 1 :]),
    )


def legal_cores(model: DemandModel, nodes: Sequence[Demand], parts: IndexArray) -> list[Core]:
    """Cores that hold every limit, one for each part where that is possible.

    Populations are taken from the last to the first: the destination cores of a neuron are
    known when it is put somewhere, so that output axons are counted exactly and once.

    Args:
        model: of the network.
        nodes: macro-nodes that cover the populations on the chip.
        parts: (nodes,) part of each.

    Raises:
        NmcError: a neuron alone exceeds a limit (exit 4), with all such layers.
    """
    sink = DiagnosticSink()
    filling = _Filling(model)
    by_population: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        by_population.setdefault(node.piece.population, []).append(number)
    for population in reversed(chip_populations(model.network)):
        heard = fan_out(model, population, filling.all_cores())
        filling.heard[population.name] = heard
        fits = True
        for number in by_population[population.name]:
            cut = tuple(slice(*axis) for axis in nodes[number].piece.box)
            demand = replace(nodes[number], out_axons=int(heard[cut].sum()))
            fits &= filling.put(demand, int(parts[number]))
        if not fits:
            report_unfit(model, population, heard, sink)
    raise_unfit(model, filling.all_cores(), sink)
    return [coalesced(model, core, filling.heard) for core in filling.all_cores()]
