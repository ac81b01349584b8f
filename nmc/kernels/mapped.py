"""Execution of a mapping: messages travel by routes to axons, and meet synapses on cores.

Exact: 32-bit integers where the stored weights prove that they suffice, 64-bit integers
otherwise. Samples run in threads, each with its own state, so results and counts do not
depend on the number of threads.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.neurons import LIF, STATE_LIMIT, Source, has_potential, spike_levels
from nmc.kernels.compiled import compiled
from nmc.kernels.fused_run import execute_fused
from nmc.kernels.mapped_run import MappedRun, Progress
from nmc.kernels.mapped_steps import run_sample
from nmc.kernels.mapped_tables import MappedProgram, Tables
from nmc.kernels.neurons import (
    GRADED,
    GRADED_RELU,
    IDEAL,
    INTEGRATOR,
    LIF_LEAKY,
    LIF_PLAIN,
    SIGMA_DELTA,
    Parameters,
    State,
)
from nmc.kernels.parallel import parallel
from nmc.kernels.tiers import Tier, available_tiers

_NARROW = 1 << 30
"""Sums, states and parameters below it cannot overflow 32 bits in one step."""


@compiled()
def _magnitudes(tables, largest, into):
    """Adds |weight| times the largest message of each slot to each accumulator that it reaches."""
    for d in range(tables.pair_start.shape[0]):
        for slot in range(tables.pair_start.shape[1] - 1):
            for p in range(tables.pair_start[d, slot], tables.pair_start[d, slot + 1]):
                fan = tables.pairs[p, 0]
                for r in range(tables.fans[fan, 2], tables.fans[fan, 3]):
                    first = tables.pairs[p, 1] + tables.runs[r, 0]
                    stored = tables.pairs[p, 2] + tables.runs[r, 1]
                    for i in range(tables.runs[r, 2]):
                        into[first + i] += abs(tables.weight[stored + i]) * largest[slot]


def _largest_messages(program: MappedProgram, largest_input: int) -> Array:
    """(slices,) float64: no message is larger."""
    levels = (spike_levels(p.neuron) for p in program.populations)
    return np.array([largest_input if found is None else max(-found[0], found[1]) for found in levels], np.float64)


def _fits_narrow(program: MappedProgram, largest_input: int) -> bool:
    """Whether 32-bit integers are proved to hold every sum and state of a run."""
    tables, network = program.tables, program.network
    if np.isin(tables.slices[:, 2], (GRADED, GRADED_RELU, SIGMA_DELTA)).any() or tables.weight.dtype != np.int16:
        return False
    largest = _largest_messages(program, largest_input)
    sums = np.abs(tables.constant).astype(np.float64)
    _magnitudes(tables, largest[program.slice_of], sums)
    if max(sums.max(initial=0), largest.max(initial=0), tables.models.max(initial=0)) >= _NARROW:
        return False
    sums = sums * 2.0**tables.left
    exponents = [spec.bias_exp for spec in network.inputs if spec.mode == "bias"]
    drive = largest_input * 2.0 ** max(exponents) if exponents else 0.0
    for s, (first, n, model) in enumerate(tables.slices[:, :3]):
        parts = [sums[g : g + n] for g in tables.accumulators[tables.groups[s] : tables.groups[s + 1], 0]]
        total = float(sum(p.max(initial=0) for p in parts))
        threshold, bias, v0, second = (float(np.abs(x[first : first + n]).max(initial=0)) for x in tables.own)
        if max(threshold, bias, v0, second, drive) >= _NARROW:
            return False
        if model == IDEAL and network.timesteps * (total + bias + drive) + threshold + v0 >= _NARROW:
            return False
        if model == LIF_LEAKY and total * 64 >= STATE_LIMIT:
            return False
        if model in (LIF_PLAIN, INTEGRATOR) and total * 64 >= _NARROW:
            return False
    return True


class _Worker:
    """State and counts of one thread."""

    def __init__(self, program: MappedProgram, tables: Tables) -> None:
        slots, dtype = len(tables.own.v0), tables.own.v0.dtype
        # Messages of the last few steps are kept; none outlives the sample.
        depth = min(int(tables.delays.max(initial=0)), program.network.timesteps_total) + 1
        largest = int(tables.slices[:, 1].max(initial=0))
        self.bias = tables.own.bias.copy()
        self.sample = np.zeros(slots, dtype=dtype)
        self.state = State(*(np.zeros(slots, dtype=dtype) for _ in State._fields))
        self.scratch = (
            np.zeros(len(tables.constant), dtype=dtype),
            np.zeros(slots, dtype=dtype),
            np.zeros(largest, dtype=dtype),
            np.zeros((depth, slots), dtype=np.int32),
            np.zeros((depth, slots), dtype=dtype),
            np.zeros(depth, dtype=np.int64),
            np.zeros(len(tables.slices), dtype=np.bool_),
        )
        self.counts = (
            np.zeros(len(program.clusters), dtype=np.int64),
            np.zeros(slots, dtype=np.int64),
            np.zeros(len(tables.slices), dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.zeros((len(program.events.rows.delay), slots), dtype=np.int64),
        )

    def take(self, program: MappedProgram, sample: Array) -> None:
        """Set the messages of sources, and the bias of input populations driven by it."""
        network, slots = program.network, program.slots_by_population
        flat = sample.reshape(-1)
        for name, place in network.input_places.items():
            population, here = network.by_name[name], slots[name]
            values = flat[place][program.neurons[here]]
            if isinstance(population.neuron, Source):
                self.sample[here] = values
            else:
                neuron = population.neuron
                exponent = np.broadcast_to(neuron.bias_exp, population.shape) if isinstance(neuron, LIF) else None
                shift = 0 if exponent is None else exponent.reshape(-1)[program.neurons[here]]
                self.bias[here] = np.left_shift(values, shift)


def _typed(tables: Tables, narrow: bool) -> Tables:
    """The tables with parameters in the type of the state."""
    dtype = np.int32 if narrow else np.int64
    named = ("right", "left", "constant")
    own = Parameters(*(values.astype(dtype) for values in tables.own))
    return tables._replace(own=own, **{name: getattr(tables, name).astype(dtype) for name in named})


@dataclass(frozen=True, eq=False)
class _Job:
    """Inputs, typed tables, the arrays that results are written to, and the steps of each sample."""

    program: MappedProgram
    tables: Tables
    inputs: Array
    out_slots: IndexArray
    readouts: Array
    sent: Array
    held: Array
    totals: IndexArray

    @classmethod
    def prepare(
        cls,
        program: MappedProgram,
        inputs: Array,
        *,
        keep_messages: bool,
        keep_potentials: bool,
        totals: IndexArray | None,
    ) -> _Job:
        """Choose the integer type and make room for the results."""
        network, count, slots = program.network, len(inputs), len(program.neurons)
        steps = network.timesteps
        largest = int(np.abs(inputs).max(initial=0))
        if largest not in program.narrow:
            program.narrow[largest] = _fits_narrow(program, largest)
        tables = _typed(program.events.rest, program.narrow[largest])
        out_slots = np.concatenate([_out_slots(program, name) for name in network.read_outs])
        return cls(
            program,
            tables,
            inputs,
            out_slots,
            np.zeros((count, steps, len(out_slots)), dtype=np.int64),
            np.zeros((count, steps if keep_messages else 0, slots), dtype=np.int64),
            np.zeros((count, steps if keep_potentials else 0, slots), dtype=np.int64),
            np.full(count, network.timesteps_total) if totals is None else totals,
        )

    def run(self, index: int, worker: _Worker) -> None:
        """Run one sample with the state of one thread."""
        network = self.program.network
        worker.take(self.program, self.inputs[index])
        run_sample(
            self.tables,
            self.program.events.rows,
            (network.timesteps, int(self.totals[index])),
            worker.sample,
            worker.bias,
            worker.state,
            worker.scratch,
            worker.counts,
            (self.readouts[index], self.sent[index], self.held[index]),
            self.out_slots,
            self.tables.own.v0.dtype == np.int64,
        )


def _out_slots(program: MappedProgram, name: str) -> IndexArray:
    """(slots, 3): slot, its slice, and whether its message is read and not its potential."""
    here = program.slots_by_population[name]
    by_message = not has_potential(program.network.by_name[name].neuron)
    return np.column_stack([here, program.slice_of[here], np.full(len(here), by_message)]).astype(np.int64)


def execute_mapped(
    program: MappedProgram,
    inputs: Array,
    *,
    keep_messages: bool = False,
    keep_potentials: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> MappedRun:
    """Run integer inputs through a mapping.

    Args:
        program: from `build_tables`.
        inputs: (N, *network.input_shape) int64.
        keep_messages: also return the messages of every slot and step.
        keep_potentials: also return the potentials.
        threads: at most this many; None: one per processor.
        progress: called after every sample.

    Networks without loops run layer by layer where that is proved to be the same (`nmc.kernels.fused`),
    unless potentials are wanted; everything else goes step by step.
    """
    fused = None if keep_potentials else program.fused
    if fused is not None and fused.takes(inputs):
        return execute_fused(
            fused,
            inputs,
            _fastest(),
            keep_messages=keep_messages,
            threads=threads,
            progress=progress,
            beyond=lambda left: execute_steps(program, left, keep_messages=keep_messages, threads=threads),
        )
    return execute_steps(
        program,
        inputs,
        keep_messages=keep_messages,
        keep_potentials=keep_potentials,
        threads=threads,
        progress=progress,
    )


@functools.cache
def _fastest() -> Tier:
    return available_tiers()[0]


def execute_steps(
    program: MappedProgram,
    inputs: Array,
    *,
    keep_messages: bool = False,
    keep_potentials: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    totals: IndexArray | None = None,
) -> MappedRun:
    """`execute_mapped` step by step, whatever the network: messages travel to axons and meet synapses there.

    ``totals``: (N,) steps after which each sample ends, its pipeline steps included; None: all. What would
    come later reads 0 and is not counted.
    """
    kept = {"keep_messages": keep_messages, "keep_potentials": keep_potentials}
    job = _Job.prepare(program, inputs, **kept, totals=totals)
    workers: list[_Worker] = [_Worker(program, job.tables)]
    idle = workers.copy()
    lock, done = threading.Lock(), [0]

    def one(index: int) -> None:
        with lock:
            if not idle:
                workers.append(_Worker(program, job.tables))
                idle.append(workers[-1])
            worker = idle.pop()
        job.run(index, worker)
        with lock:
            idle.append(worker)
            done[0] += 1
            if progress is not None:
                progress("simulate", done[0] / len(inputs))

    parallel(one, len(inputs), threads)
    synops, fired, changed, overflows, delivered = (
        np.sum(parts, axis=0) for parts in zip(*(w.counts for w in workers), strict=True)
    )
    synops += program.events.synops(delivered, len(program.clusters))
    ends = np.cumsum([len(program.slots_by_population[name]) for name in program.network.read_outs])
    return MappedRun(
        dict(zip(program.network.read_outs, np.split(job.readouts, ends[:-1], axis=2), strict=True)),
        job.sent if keep_messages else None,
        job.held if keep_potentials else None,
        synops,
        fired,
        changed,
        int(overflows[0]),
    )
