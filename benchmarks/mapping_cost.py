"""Time and energy of a partition by the compiler's own models, from the spikes of every neuron.

Counts are exact sums over the synapses: a core's synaptic operations are the spikes that its
synapses carry, its packets the spikes of the neurons that it hears. Every neuron is visited in
every step. Hops are those of the placement that `nmc` chooses on the mesh of the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mapping_placement import mesh_problem
from mapping_rivals import synapses

from nmc.compiler.plugins import find_target
from nmc.hardware.energy import estimate_energy
from nmc.hardware.events import CoreEvents, EventCounts
from nmc.hardware.timing import estimate_latency
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.network import Network
from nmc.passes.base import Context
from nmc.passes.partition.macro import MacroGraph
from nmc.passes.place.auto import best_found

STEPS = 40
"""Steps of an inference."""

TARGET, PROFILE = "loihi1", "sanafe_nahuku"
"""The chip, and the only profile with every time and energy."""


@dataclass(frozen=True)
class Cost:
    """Of one inference: time per step, energy and busiest core."""

    cores: int
    packets: float
    between: float
    step_us: float
    energy_nj: float
    busiest: float


def neuron_parts(network: Network, macro: MacroGraph, part: np.ndarray) -> np.ndarray:
    """(neurons,) core of each neuron, numbered through the populations in their order."""
    names = [p.name for p in network.populations]
    offsets = dict(zip(names, np.cumsum([0, *(p.neurons for p in network.populations)]).tolist(), strict=False))
    found = np.full(sum(p.neurons for p in network.populations), -1, dtype=np.int64)
    for core in range(int(part.max()) + 1):
        for name, boxes in macro.boxes(np.flatnonzero(part == core).tolist()).items():
            shape = network.by_name[name].shape
            for box in boxes:
                axes = np.meshgrid(*(np.arange(*axis) for axis in box), indexing="ij")
                found[np.ravel_multi_index(axes, shape).reshape(-1) + offsets[name]] = core
    return found


def cost_of(network: Network, part: np.ndarray, rates: np.ndarray) -> Cost:
    """What an inference costs with one core per part.

    Args:
        network: layered.
        part: (neurons,) core of each neuron.
        rates: (neurons,) spikes per inference.
    """
    source, target = synapses(network)
    cores = int(part.max()) + 1
    synops = np.bincount(part[target], weights=rates[source], minlength=cores)
    pairs = np.unique(source * cores + part[target])
    sender, hearer = pairs // cores, pairs % cores
    sent = np.bincount(part[sender], weights=rates[sender], minlength=cores)
    received = np.bincount(hearer, weights=rates[sender], minlength=cores)
    spikes = np.bincount(part, weights=rates, minlength=cores)
    neurons = np.bincount(part, minlength=cores)
    _, chip = find_target(TARGET)
    profile = next(p for p in chip.energy if p.name == PROFILE)
    between = np.bincount(part[sender] * cores + hearer, weights=rates[sender], minlength=cores**2)
    flows = between.reshape(cores, cores)
    grid = chip.grid
    problem = mesh_problem(flows + flows.T, grid.tiles_x, grid.tiles_y, grid.cores_per_tile)
    site_of = best_found(problem, Context(chip, DiagnosticSink(), None), 1000)
    x, y = problem.task.x[site_of], problem.task.y[site_of]
    tiles = len(np.unique(x * grid.tiles_y + y))
    by_core = tuple(
        CoreEvents(int(n), float(n) * STEPS, *map(float, counts))
        for n, *counts in zip(neurons, spikes, sent, received, synops, strict=True)
    )
    events = EventCounts(
        neurons=len(part),
        timesteps_total=STEPS,
        synops=float(synops.sum()),
        packets=float(sent.sum()),
        hops_ew=float((flows * np.abs(x[:, None] - x[None])).sum()),
        hops_ns=float((flows * np.abs(y[:, None] - y[None])).sum()),
        spikes=float(spikes.sum()),
        active_updates=float(len(part) * STEPS),
        tiles=tiles,
        cores=by_core,
    )
    energy = estimate_energy(profile, chip, events)
    away = part[sender] != hearer
    return Cost(
        cores,
        float(sent.sum()),
        float(rates[sender][away].sum()),
        estimate_latency(profile, events) / STEPS,
        energy.total,
        float(synops.max()),
    )
