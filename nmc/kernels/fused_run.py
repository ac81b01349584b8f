"""Samples through a fused program, in threads, with the counts of the mapping."""

from __future__ import annotations

import threading

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.neurons import LIF
from nmc.kernels.fused import FusedLayer, FusedProgram, lay_own
from nmc.kernels.fused_steps import LayerTables, collect_layer, fire_layer
from nmc.kernels.integrate import flat
from nmc.kernels.layerwise import joined_channels_last
from nmc.kernels.mapped_run import MappedRun, Progress
from nmc.kernels.neurons import LIF_PLAIN, model_of
from nmc.kernels.parallel import parallel
from nmc.kernels.tiers import Portable, Tier, adds_pairs


class _Worker:
    """The messages and counts of one thread."""

    def __init__(self, fused: FusedProgram, tier: Tier) -> None:
        self.fused, self.tier = fused, tier
        self.arena = fused.blank.copy()
        self.tables = [_own_tally(layer.tables) for layer in fused.layers]
        sizes = [layer.population.neurons for layer in fused.layers]
        self.spikes = [np.zeros(n, dtype=np.int64) for n in sizes]
        self.changes = [np.zeros(n, dtype=np.int64) for n in sizes]
        self.sums = np.zeros(max(layer.scratch for layer in fused.layers), dtype=np.int32)

    def tier_of(self, layer: FusedLayer) -> Tier:
        """The tier, or the portable one for a layer whose products might saturate it."""
        return Portable() if adds_pairs(self.tier) and not layer.pairs else self.tier

    def view(self, layer: FusedLayer) -> Array:
        """The messages of a layer in the arena, (H, W, steps, C)."""
        maps = layer.maps
        channels, height, width = maps.shape
        top, left = maps.pads[:2]
        whole = self.arena[maps.offset : maps.offset + maps.bytes]
        grid = whole.reshape(-1, maps.row // maps.pixel, maps.pixel // maps.channels, maps.channels)
        return grid[top : top + height, left : left + width, : maps.steps, :channels]

    def messages(self, layer: FusedLayer) -> Array:
        """(T, n) messages of a layer, channels last."""
        maps, steps = layer.maps, self.fused.program.network.timesteps
        seen = self.view(layer).transpose(2, 0, 1, 3).reshape(maps.steps, -1).astype(np.int64) - maps.zero
        return np.broadcast_to(seen, (steps, seen.shape[1])) if maps.constant else seen

    def run(self, sample: Array) -> dict[str, Array]:
        """One sample (n,), as `joined_channels_last` makes it: the potentials (T, n) of what is read."""
        read: dict[str, Array] = {}
        network = self.fused.program.network
        for number, layer in enumerate(self.fused.layers):
            tables, population = self.tables[number], layer.population
            place = network.input_places.get(population.name)
            drive = None if place is None else sample[place]
            if tables is None:
                sent = sample[place or slice(0)]
                self.view(layer)[:] = (sent + layer.maps.zero).reshape(*layer.maps.shape[1:], 1, -1)
                self.spikes[number] += (sent != 0) * network.timesteps
                continue
            if drive is not None and isinstance(population.neuron, LIF):
                drive = np.left_shift(drive, flat(population.neuron.bias_exp, population.shape))
            if layer.neurons is None:
                if drive is not None:
                    strict = int(model_of(population.neuron).kind == LIF_PLAIN)
                    tables = tables._replace(own=lay_own(population, layer.maps.channels, strict, drive))
                fire_layer(self.tier_of(layer), self.arena, tables, self.sums)
                continue
            potentials = self._by_neurons(number, layer, tables, drive)
            if population.name in network.read_outs:
                read[population.name] = potentials
        return read

    def _by_neurons(self, number: int, layer: FusedLayer, tables: LayerTables, drive: Array | None) -> Array:
        """A layer whose sums alone are vectors: its potentials (T, n)."""
        if layer.neurons is None:
            raise TypeError("a layer of vectors")
        channels, height, width = layer.maps.shape
        steps = self.fused.program.network.timesteps
        totals = np.zeros((steps, height * width * layer.maps.channels), dtype=np.int32)
        collect_layer(self.tier_of(layer), self.arena, tables, self.sums, totals)
        total = totals.reshape(steps, height * width, -1)[:, :, :channels].reshape(steps, -1)
        neurons = layer.neurons.at_rest(drive)
        before = neurons.own.v0
        messages, potentials = neurons.advance(total, keep=True)
        self.view(layer)[:] = messages.reshape(steps, height, width, channels).transpose(1, 2, 0, 3) + layer.maps.zero
        moved = np.diff(potentials, axis=0, prepend=before[None]) != 0
        self.spikes[number] += np.count_nonzero(messages, axis=0)
        self.changes[number] += np.count_nonzero(moved | (messages != 0), axis=0)
        return potentials

    def counted(self) -> list[tuple[IndexArray, IndexArray]]:
        """By layer: spikes and changes of each neuron, channels last."""
        found = []
        for layer, tables, spikes, changes in zip(
            self.fused.layers, self.tables, self.spikes, self.changes, strict=True
        ):
            if tables is None or layer.neurons is not None:
                found.append((spikes, changes))
                continue
            pixels = len(tables.tally)
            tally = tables.tally.astype(np.int64).transpose(2, 0, 1, 3).reshape(2, pixels, -1)
            by_vector = tally[:, :, : layer.maps.shape[0]].reshape(2, -1)
            found.append((by_vector[0], by_vector[1]))
        return found


def _own_tally(tables: LayerTables | None) -> LayerTables | None:
    return None if tables is None else tables._replace(tally=np.zeros_like(tables.tally))


def execute_fused(
    fused: FusedProgram,
    inputs: Array,
    tier: Tier,
    *,
    keep_messages: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> MappedRun:
    """Run integer inputs (N, *network.input_shape) that ``fused.takes``.

    Args:
        fused: from `nmc.kernels.fused.fuse`.
        inputs: int64.
        tier: one of `nmc.kernels.dot.available_tiers`.
        keep_messages: also return the messages of every slot and step.
        threads: at most this many; None: one per processor.
        progress: called after every sample.
    """
    program, network = fused.program, fused.program.network
    flat_inputs = joined_channels_last(network, inputs)
    order, slots, steps = fused.order, program.slots_by_population, network.timesteps
    readouts = {n: np.zeros((len(inputs), steps, len(order[n])), dtype=np.int64) for n in network.read_outs}
    sent = np.zeros((len(inputs), steps if keep_messages else 0, len(program.neurons)), dtype=np.int64)
    workers: list[_Worker] = []
    idle: list[_Worker] = []
    lock, done = threading.Lock(), [0]

    def one(index: int) -> None:
        with lock:
            if not idle:
                workers.append(_Worker(fused, tier))
                idle.append(workers[-1])
            worker = idle.pop()
        for name, potentials in worker.run(flat_inputs[index]).items():
            readouts[name][index] = potentials[:, order[name]]
        if keep_messages:
            for layer in fused.layers:
                name = layer.population.name
                sent[index][:, slots[name]] = worker.messages(layer)[:, order[name]]
        with lock:
            idle.append(worker)
            done[0] += 1
            if progress is not None:
                progress("simulate", done[0] / len(inputs))

    parallel(one, len(inputs), threads)
    fired, changed = _counts(fused, workers)
    return MappedRun(
        readouts, sent if keep_messages else None, None, _synops(fused, fired), fired, changed, overflows=0
    )


def _counts(fused: FusedProgram, workers: list[_Worker]) -> tuple[IndexArray, IndexArray]:
    """Messages by slot, and updates that changed something by slice."""
    program = fused.program
    fired = np.zeros(len(program.neurons), dtype=np.int64)
    changed = np.zeros(len(program.neurons), dtype=np.int64)
    for worker in workers:
        for layer, (spikes, changes) in zip(fused.layers, worker.counted(), strict=True):
            name = layer.population.name
            slots = program.slots_by_population[name]
            fired[slots] += spikes[fused.order[name]]
            changed[slots] += changes[fused.order[name]]
    by_slice = np.zeros(len(program.populations), dtype=np.int64)
    np.add.at(by_slice, program.slice_of, changed)
    return fired, by_slice


def _synops(fused: FusedProgram, fired: IndexArray) -> IndexArray:
    """Synaptic operations by cluster: every message meets the non-zero weights of its pairs."""
    slot, cluster, weights = fused.meets
    # Sums of integers, exact in float64 as long as they are below 2^53.
    found = np.bincount(cluster, weights=fired[slot] * weights, minlength=len(fused.program.clusters))
    return np.rint(found).astype(np.int64)
