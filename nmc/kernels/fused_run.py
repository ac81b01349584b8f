"""Samples through a fused program, in threads, with the counts of the mapping."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.neurons import LIF, Source
from nmc.kernels.fire_values import Values
from nmc.kernels.fused import FusedLayer, FusedProgram
from nmc.kernels.fused_counts import count, places_of
from nmc.kernels.fused_gather import Gather, Gatherer, chosen
from nmc.kernels.fused_steps import collect_layer, pool_layer, run_grouped, run_layers
from nmc.kernels.fused_tables import READ, SUMS, VALUES, own_of
from nmc.kernels.fused_values import run_values
from nmc.kernels.integrate import flat
from nmc.kernels.layerwise import joined_channels_last
from nmc.kernels.mapped_run import MappedRun, Progress
from nmc.kernels.neurons import IDEAL, model_of
from nmc.kernels.parallel import parallel
from nmc.kernels.tiers import GROUP, LANES, Portable, Tier, adds_pairs, words_of


class Worker:
    """The messages and counts of one thread."""

    def __init__(self, fused: FusedProgram, tier: Tier, gathered: Collection[int] | None = None) -> None:
        self.fused, self.tier, self.gathered = fused, tier, gathered
        self.arena = fused.blank.copy()
        # Bias and tally are this thread's own; what else is in the tables is only read.
        own, tally = fused.tables.own.copy(), np.zeros_like(fused.tables.tally)
        self.tables = fused.tables._replace(own=own, tally=tally)
        self.sums = np.zeros(fused.scratch, dtype=np.int32)
        self.totals = np.zeros(fused.totals, dtype=np.int32)
        self.largest = np.zeros(len(fused.layers), dtype=np.int64)
        columns = sum(layer.population.neurons for layer in fused.layers if reads(layer))
        self.readouts = np.zeros((fused.program.network.timesteps, columns), dtype=np.int32)
        self.sent = np.zeros(self.readouts.shape if len(fused.limits) > 0 else (0, 0), dtype=np.int64)
        # Where the layers are not run by one call: neurons of their own, other neurons, or another tier.
        found = next((layer.cells for layer in fused.layers if isinstance(layer.cells, Values)), None)
        self.forms = [(self.tier_of(layer), layer.cells or found) for layer in fused.layers]
        # A first result does not wait for more kernels to be compiled.
        self.chooses = gathered is None
        self._gather({number: fused.program.gathers[number] for number in gathered or ()})

    def _choose(self) -> None:
        """Let layers add up rows where the rates of the calibration, or else of the last sample, make that faster."""
        rates = self.fused.program.routed.rates
        known = all(layer.population.name in rates for layer in self.fused.layers)
        self._gather(chosen(self.fused, self.tier, rates if known else self._rates()))
        self.chooses = False

    def _gather(self, plans: Mapping[int, Gather]) -> None:
        """Let these layers add up rows, and find out which layers one call can run."""
        forms, layers = self.forms, self.fused.layers
        self.gatherer = Gatherer(plans, self.fused)
        alone = {n for n, layer in enumerate(layers) if layer.row.kind == SUMS or n in plans}
        breaks = {n for n in range(len(layers)) if forms[n] != forms[n - 1]}
        self.cuts = sorted({0, len(layers)} | alone | {n + 1 for n in alone} | breaks)

    def _rates(self) -> dict[str, float]:
        """Messages per neuron and step of the last sample, by population."""
        return {x.population.name: float(np.mean(self.view(x) != x.maps.zero)) for x in self.fused.layers}

    def tier_of(self, layer: FusedLayer) -> Tier:
        """The tier, or the portable one for a layer whose products might saturate it."""
        return Portable() if adds_pairs(self.tier) and not layer.pairs else self.tier

    def view(self, layer: FusedLayer) -> Array:
        """The messages of a layer in the arena, (H, W, groups of channels, steps, channels of a group)."""
        maps = layer.maps
        _, height, width = maps.shape
        top, left = maps.pads[:2]
        whole = self.arena[maps.offset : maps.offset + maps.bytes]
        side = GROUP // maps.width
        whole = whole if maps.width == 1 else whole.view(np.int16)
        grid = whole.reshape(-1, maps.row // maps.pixel, maps.channels // side, maps.held, side)
        return grid[top : top + height, left : left + width, :, : maps.steps]

    def messages(self, layer: FusedLayer) -> Array:
        """(T, n) messages of a layer, channels last."""
        maps, steps = layer.maps, self.fused.program.network.timesteps
        if layer.row.kind == VALUES and reads(layer):
            return self._columns(self.sent, layer)
        channels, height, width = maps.shape
        by_step = self.view(layer).transpose(3, 0, 1, 2, 4).reshape(maps.steps, height, width, -1)[..., :channels]
        seen = by_step.reshape(maps.steps, -1).astype(np.int64) - maps.zero
        return np.broadcast_to(seen, (steps, seen.shape[1])) if maps.constant else seen

    def run(self, sample: Array) -> dict[str, Array] | None:
        """One sample (n,), as `joined_channels_last` makes it: the read-outs (T, n) of what is read.

        None where messages that carry values do not fit; nothing is counted then.
        """
        fused = self.fused
        if len(fused.limits) > 0:
            return self._values(sample)
        drives = self._drive(sample)
        read: dict[str, Array] = {}
        for begin, end in zip(self.cuts, self.cuts[1:], strict=False):
            layer = fused.layers[begin]
            tier = self.tier_of(layer)
            if layer.row.kind == SUMS:
                read[layer.population.name] = self._by_neurons(begin, layer, tier, drives.get(layer.population.name))
            elif begin in self.gatherer.plans:
                self.gatherer.run(self.arena, self.tables, begin)
            elif layer.cells is not None:
                run_grouped(tier, layer.cells, self.arena, self.tables, self.sums, begin, end)
            else:
                run_layers(tier, self.arena, self.tables, self.sums, self.totals, sample, self.readouts, begin, end)
        if self.chooses:
            self._choose()
        return self._read(read)

    def _read(self, found: dict[str, Array]) -> dict[str, Array]:
        """The read-outs (T, n) of what is read, those that are found already among them."""
        read = {x.population.name: self._columns(self.readouts, x) for x in self.fused.layers if reads(x)} | found
        return {name: read[name] for name in self.fused.program.network.read_outs}

    def _columns(self, values: Array, layer: FusedLayer) -> Array:
        """(T, n) what stands for a layer among the read-outs, or among their messages."""
        return values[:, layer.row.column : layer.row.column + layer.population.neurons]

    def _values(self, sample: Array) -> dict[str, Array] | None:
        """`run` of a network whose messages carry values."""
        network, tally = self.fused.program.network, self.tables.tally.copy()
        words, scratch = self.arena.view(np.int16), (self.tables, self.sums, self.fused.limits)
        # How many steps there are decides what is compiled.
        tier, constant = words_of(self.tier), (1,) * (network.timesteps == 1)
        for begin, end in zip(self.cuts, self.cuts[1:], strict=False):
            cells, ends = self.forms[begin][1] or Values(), (self.readouts, self.sent, begin, end)
            if not run_values(tier, cells, constant, self.arena, words, *scratch, sample, self.largest, *ends):
                self.tables.tally[:] = tally
                return None
        return self._read({})

    def _drive(self, sample: Array) -> dict[str, Array]:
        """The drive of the input populations that spike, by name; those in vectors have it in their tables."""
        network, drives = self.fused.program.network, dict[str, Array]()
        for layer in self.fused.layers:
            population, row = layer.population, layer.row
            if population.name not in network.input_places or isinstance(population.neuron, Source):
                continue
            drive = sample[network.input_places[population.name]]
            if isinstance(population.neuron, LIF):
                drive = np.left_shift(drive, flat(population.neuron.bias_exp, population.shape))
            drives[population.name] = drive
            own = own_of(population, row.padded, int(model_of(population.neuron).kind != IDEAL), drive)
            self.tables.own[row.own : row.own + own.size] = own.reshape(-1)
        return drives

    def _by_neurons(self, number: int, layer: FusedLayer, tier: Tier, drive: Array | None) -> Array:
        """A layer whose sums alone are vectors: its potentials (T, n)."""
        if layer.neurons is None:
            raise TypeError("a layer of vectors")
        channels, height, width = layer.maps.shape
        steps, row = self.fused.program.network.timesteps, layer.row
        collect_layer(tier, self.arena, self.tables, number, self.sums, self.totals)
        totals = self.totals[: steps * height * width * row.padded].reshape(steps, height * width, -1)
        total = np.ascontiguousarray(totals[:, :, :channels]).reshape(steps, -1)
        neurons, wait = layer.neurons.at_rest(drive), layer.population.wait
        total = np.concatenate([total, np.zeros((wait, total.shape[1]), dtype=total.dtype)])
        _, waited = neurons.silent().advance(total[:wait], keep=True)
        messages, potentials = neurons.advance(total[wait:], keep=True)
        sent = np.full((steps, height, width, row.padded), layer.maps.zero, dtype=np.uint8)
        sent[..., :channels] += messages.reshape(steps, height, width, channels).astype(np.uint8)
        grouped = sent.reshape(steps, height, width, -1, GROUP)
        self.view(layer)[:] = grouped.transpose(1, 2, 3, 0, 4)
        pool_layer(self.arena, self.tables, number)
        moved = np.diff(np.concatenate([neurons.own.v0[None], waited, potentials]), axis=0) != 0
        moved[wait:] |= messages != 0
        places = places_of(row)
        self.tables.tally[places] += np.count_nonzero(messages, axis=0)
        self.tables.tally[places + LANES] += np.count_nonzero(moved, axis=0)
        return potentials


def reads(layer: FusedLayer) -> bool:
    """Whether the kernels write what is read of a layer."""
    return layer.row.kind == READ or (layer.row.kind == VALUES and layer.row.column >= 0)


def execute_fused(
    fused: FusedProgram,
    inputs: Array,
    tier: Tier,
    *,
    keep_messages: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    beyond: Callable[[Array], MappedRun] | None = None,
    gathered: Collection[int] | None = None,
) -> MappedRun:
    """Run integer inputs (N, *network.input_shape) that ``fused.takes``.

    Args:
        fused: from `nmc.kernels.fused.fuse`.
        inputs: int64.
        tier: one of `nmc.kernels.dot.available_tiers`.
        keep_messages: also return the messages of every slot and step.
        threads: at most this many; None: one per processor.
        progress: called after every sample.
        gathered: numbers of the layers that add up rows of weights; None: those that are faster so. Results are equal.
        beyond: runs samples whose messages carry values and do not fit; without it they are an error.

    Raises:
        OverflowError: there are such samples, and no ``beyond``.
    """
    program, network = fused.program, fused.program.network
    flat_inputs = joined_channels_last(network, inputs)
    order, slots, steps = fused.order, program.slots_by_population, network.timesteps
    readouts = {n: np.zeros((len(inputs), steps, len(order[n])), dtype=np.int64) for n in network.read_outs}
    sent = np.zeros((len(inputs), steps if keep_messages else 0, len(program.neurons)), dtype=np.int64)
    workers: list[Worker] = []
    lock, done, fits = threading.Lock(), [0], np.ones(len(inputs), dtype=np.bool_)
    idle: list[Worker] = []

    def one(index: int) -> None:
        with lock:
            if not idle:
                workers.append(_worker(fused, tier, gathered))
                idle.append(workers[-1])
            worker = idle.pop()
        read = worker.run(flat_inputs[index])
        for name, potentials in ({} if read is None else read).items():
            readouts[name][index] = potentials[:, order[name]]
        fits[index] = read is not None
        if keep_messages and read is not None:
            for layer in fused.layers:
                name = layer.population.name
                sent[index][:, slots[name]] = worker.messages(layer)[:, order[name]]
        with lock:
            idle.append(worker)
            done[0] += 1
            if progress is not None:
                progress("simulate", done[0] / len(inputs))

    parallel(one, len(inputs), threads)
    fired, changed, synops = _counts(fused, workers, flat_inputs[fits])
    fused.spare.extend(workers)
    run = MappedRun(readouts, sent if keep_messages else None, None, synops, fired, changed, overflows=0)
    return run if fits.all() else _completed(run, inputs, np.flatnonzero(~fits), beyond)


def _completed(
    run: MappedRun, inputs: Array, where: IndexArray, beyond: Callable[[Array], MappedRun] | None
) -> MappedRun:
    """A run with the samples that ``beyond`` has to make of it."""
    if beyond is None:
        raise OverflowError("messages or sums leave their integers")
    other = beyond(inputs[where])
    for name, values in other.readouts.items():
        run.readouts[name][where] = values
    if run.messages is not None and other.messages is not None:
        run.messages[where] = other.messages
    return replace(
        run,
        synops=run.synops + other.synops,
        fired=run.fired + other.fired,
        changed=run.changed + other.changed,
        overflows=other.overflows,
    )


def _worker(fused: FusedProgram, tier: Tier, gathered: Collection[int] | None) -> Worker:
    """A spare worker of this kind, or a new one: making it costs more than an image."""
    try:
        worker = fused.spare.pop()
    except IndexError:
        return Worker(fused, tier, gathered)
    same = isinstance(worker, Worker) and (worker.tier, worker.gathered) == (tier, gathered)
    return worker if isinstance(worker, Worker) and same else Worker(fused, tier, gathered)


def _counts(fused: FusedProgram, workers: list[Worker], inputs: Array) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Messages by slot, updates that changed something by slice, operations by cluster; the workers forget them.

    ``inputs``: (N, n) samples that were run, whose messages the sources sent.
    """
    program = fused.program
    changed, synops = (np.zeros(len(of), dtype=np.int64) for of in (program.populations, program.clusters))
    fired = np.empty(len(program.neurons), dtype=np.int64)
    for number, worker in enumerate(workers):
        count(
            worker.tables.tally,
            fused.counting,
            inputs if number == 0 else inputs[:0],
            number == 0,
            fired,
            changed,
            synops,
        )
    return fired, changed, synops
