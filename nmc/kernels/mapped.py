"""Execution of a mapping: messages travel by routes to axons, and meet synapses on cores.

Exact: 32-bit integers where the stored weights prove that they suffice, 64-bit integers
otherwise. Samples run in threads, each with its own state, so results and counts do not
depend on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numba
import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.neurons import LIF, STATE_LIMIT, Graded, GradedReLU, Source
from nmc.kernels.mapped_neurons import sum_projections, update_neurons
from nmc.kernels.mapped_tables import (
    GRADED,
    GRADED_RELU,
    IDEAL,
    INTEGRATOR,
    LIF_LEAKY,
    LIF_PLAIN,
    SOURCE,
    MappedProgram,
    Tables,
)
from nmc.kernels.parallel import parallel

_NARROW = 1 << 30
"""Sums, states and parameters below it cannot overflow 32 bits in one step."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done."""


@numba.njit(nogil=True, cache=True)
def _deliver(tables, pair_start, slots, values, count, active, acc, synops):
    """Apply the messages of one step and delay to the accumulators of active slices."""
    weight, runs, fans, pairs = tables.weight, tables.runs, tables.fans, tables.pairs
    for e in range(count):
        slot = slots[e]
        value = values[e]
        for p in range(pair_start[slot], pair_start[slot + 1]):
            fan = pairs[p, 0]
            if not active[fans[fan, 0]]:
                continue
            synops[fans[fan, 1]] += pairs[p, 3]
            # Unsigned indices need no test for negative ones, which would keep the loops scalar.
            base, stored = np.uint64(pairs[p, 1]), np.uint64(pairs[p, 2])
            for r in range(fans[fan, 2], fans[fan, 3]):
                first, row = base + np.uint64(runs[r, 0]), stored + np.uint64(runs[r, 1])
                length = np.uint64(runs[r, 2])
                if value == 1:
                    for i in range(length):
                        acc[first + i] += weight[row + i]
                else:
                    for i in range(length):
                        acc[first + i] += value * weight[row + i]


@numba.njit(nogil=True, cache=True)
def _run_sample(tables, shape, sample, bias, state, counts, outputs, out_slots, wide):
    """One sample; ``state`` is scratch, ``counts`` are added to, ``outputs`` are written."""
    steps, steps_total = shape
    acc, u, v, message, total, ring_slot, ring_value, ring_count, active = state
    synops, fired, changed, overflows = counts
    readouts, sent, held = outputs
    depth = ring_count.shape[0]
    acc[:] = 0
    ring_count[:] = 0
    for t in range(steps_total):
        for s in range(tables.slices.shape[0]):
            start = tables.slices[s, 3]
            active[s] = start <= t < start + steps
        for d in range(tables.delays.shape[0]):
            if tables.delays[d] <= t:
                k = (t - tables.delays[d]) % depth
                _deliver(tables, tables.pair_start[d], ring_slot[k], ring_value[k], ring_count[k], active, acc, synops)
        here = t % depth
        count = 0
        for s in range(tables.slices.shape[0]):
            if not active[s]:
                continue
            first, n, model = tables.slices[s, 0], tables.slices[s, 1], tables.slices[s, 2]
            step = t - tables.slices[s, 3]
            out = message[first : first + n]
            if step == 0:
                u[first : first + n] = 0
                v[first : first + n] = tables.v0[first : first + n]
            if model == SOURCE:
                out[:] = sample[first : first + n]
            else:
                a = total[:n]
                overflows[0] += sum_projections(tables, s, acc, a, wide)
                changed[s] += update_neurons(
                    tables, s, a, bias[first : first + n], u[first : first + n], v[first : first + n], out
                )
            for i in range(n):
                if out[i] != 0:
                    ring_slot[here, count] = first + i
                    ring_value[here, count] = out[i]
                    fired[first + i] += 1
                    count += 1
            if sent.shape[0] > 0:
                sent[step, first : first + n] = out
            if held.shape[0] > 0:
                held[step, first : first + n] = v[first : first + n]
        ring_count[here] = count
        for o in range(out_slots.shape[0]):
            s = out_slots[o, 1]
            if active[s]:
                slot = out_slots[o, 0]
                readouts[t - tables.slices[s, 3], o] = message[slot] if out_slots[o, 2] else v[slot]


@numba.njit(nogil=True, cache=True)
def _magnitudes(tables, from_source, known, unknown):
    """Sums of |weight| into each accumulator: from spiking slots, and from sources of messages."""
    for d in range(tables.pair_start.shape[0]):
        for slot in range(tables.pair_start.shape[1] - 1):
            into = unknown if from_source[slot] else known
            for p in range(tables.pair_start[d, slot], tables.pair_start[d, slot + 1]):
                fan = tables.pairs[p, 0]
                for r in range(tables.fans[fan, 2], tables.fans[fan, 3]):
                    first = tables.pairs[p, 1] + tables.runs[r, 0]
                    stored = tables.pairs[p, 2] + tables.runs[r, 1]
                    for i in range(tables.runs[r, 2]):
                        into[first + i] += abs(np.int64(tables.weight[stored + i]))


def _fits_narrow(program: MappedProgram, largest_input: int) -> bool:
    """Whether 32-bit integers are proved to hold every sum and state of a run."""
    tables, network = program.tables, program.network
    models = tables.slices[:, 2]
    if np.any((models == GRADED) | (models == GRADED_RELU)):
        return False
    count = len(tables.constant)
    known, unknown = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    _magnitudes(tables, (models == SOURCE)[program.slice_of], known, unknown)
    sums = known.astype(np.float64) + unknown.astype(np.float64) * largest_input + np.abs(tables.constant)
    if sums.max(initial=0) >= _NARROW or tables.weight.dtype != np.int16:
        return False
    sums = sums * 2.0**tables.left
    drive = largest_input * 2.0 ** int(network.input.bias_exp) if network.input.mode == "bias" else 0.0
    for s, (first, n, model) in enumerate(tables.slices[:, :3]):
        parts = [sums[g : g + n] for g, _ in tables.accumulators[tables.groups[s] : tables.groups[s + 1]]]
        total = float(sum(p.max(initial=0) for p in parts))
        here = slice(first, first + n)
        fixed = [np.abs(x[here]).max(initial=0) for x in (tables.threshold, tables.bias, tables.v0)]
        if max(*fixed, drive) >= _NARROW:
            return False
        if model == IDEAL and network.timesteps * (total + fixed[1] + drive) + fixed[0] + fixed[2] >= _NARROW:
            return False
        if model == LIF_LEAKY and total * 64 >= STATE_LIMIT:
            return False
        if model in (LIF_PLAIN, INTEGRATOR) and total * 64 >= _NARROW:
            return False
    return True


@dataclass(frozen=True, eq=False)
class MappedRun:
    """Raw results of `execute_mapped`.

    Attributes:
        readouts: by population that is read, (N, T, its slots) int64: the read-out after each step of
            its window.
        messages, potentials: (N, T, slots) int64, or None where not kept.
        synops: (clusters,) synaptic operations at each.
        fired: (slots,) messages sent by each.
        changed: (slices,) neuron updates that changed something.
        overflows: sums of magnitude 2^31 and more.
    """

    readouts: Mapping[str, Array]
    messages: Array | None
    potentials: Array | None
    synops: IndexArray
    fired: IndexArray
    changed: IndexArray
    overflows: int


class _Worker:
    """State and counts of one thread."""

    def __init__(self, program: MappedProgram, tables: Tables) -> None:
        slots, dtype = len(tables.v0), tables.v0.dtype
        # Messages of the last few steps are kept; none outlives the sample.
        depth = min(int(tables.delays.max(initial=0)), program.network.timesteps_total) + 1
        largest = int(tables.slices[:, 1].max(initial=0))
        self.bias = tables.bias.copy()
        self.sample = np.zeros(slots, dtype=dtype)
        self.state = (
            np.zeros(len(tables.constant), dtype=dtype),
            np.zeros(slots, dtype=dtype),
            np.zeros(slots, dtype=dtype),
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
        )

    def take(self, program: MappedProgram, sample: Array) -> None:
        """Set the messages of sources, and the bias of an input population driven by it."""
        network, slots = program.network, program.slots_by_population
        flat = sample.reshape(-1)
        for population in network.populations:
            here = slots[population.name]
            values = flat[program.neurons[here]] if len(here) and len(flat) == population.neurons else None
            if values is None:
                continue
            if program.tables.slices[program.slice_of[here[0]], 2] == SOURCE:
                self.sample[here] = values
            elif population.name == network.input.population:
                neuron = population.neuron
                exponent = np.broadcast_to(neuron.bias_exp, population.shape) if isinstance(neuron, LIF) else None
                shift = 0 if exponent is None else exponent.reshape(-1)[program.neurons[here]]
                self.bias[here] = np.left_shift(values, shift)


def _typed(tables: Tables, narrow: bool) -> Tables:
    """The tables with parameters in the type of the state."""
    dtype = np.int32 if narrow else np.int64
    named = ("right", "left", "constant", "threshold", "bias", "v0")
    return tables._replace(**{name: getattr(tables, name).astype(dtype) for name in named})


@dataclass(frozen=True, eq=False)
class _Job:
    """Inputs, typed tables and the arrays that results are written to."""

    program: MappedProgram
    tables: Tables
    inputs: Array
    out_slots: IndexArray
    readouts: Array
    sent: Array
    held: Array

    @classmethod
    def prepare(cls, program: MappedProgram, inputs: Array, *, keep_messages: bool, keep_potentials: bool) -> _Job:
        """Choose the integer type and make room for the results."""
        network, count, slots = program.network, len(inputs), len(program.neurons)
        steps = network.timesteps
        tables = _typed(program.tables, _fits_narrow(program, int(np.abs(inputs).max(initial=0))))
        out_slots = np.concatenate([_out_slots(program, name) for name in network.read_outs])
        return cls(
            program,
            tables,
            inputs,
            out_slots,
            np.zeros((count, steps, len(out_slots)), dtype=np.int64),
            np.zeros((count, steps if keep_messages else 0, slots), dtype=np.int64),
            np.zeros((count, steps if keep_potentials else 0, slots), dtype=np.int64),
        )

    def run(self, index: int, worker: _Worker) -> None:
        """Run one sample with the state of one thread."""
        network = self.program.network
        worker.take(self.program, self.inputs[index])
        _run_sample(
            self.tables,
            (network.timesteps, network.timesteps_total),
            worker.sample,
            worker.bias,
            worker.state,
            worker.counts,
            (self.readouts[index], self.sent[index], self.held[index]),
            self.out_slots,
            self.tables.v0.dtype == np.int64,
        )


def _out_slots(program: MappedProgram, name: str) -> IndexArray:
    """(slots, 3): slot, its slice, and whether its message is read and not its potential."""
    here = program.slots_by_population[name]
    by_message = isinstance(program.network.by_name[name].neuron, Graded | GradedReLU | Source)
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
        inputs: (N, *input population shape) int64.
        keep_messages: also return the messages of every slot and step.
        keep_potentials: also return the potentials.
        threads: at most this many; None: one per processor.
        progress: called after every sample.
    """
    job = _Job.prepare(program, inputs, keep_messages=keep_messages, keep_potentials=keep_potentials)
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
    synops, fired, changed, overflows = (
        np.sum(parts, axis=0) for parts in zip(*(w.counts for w in workers), strict=True)
    )
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
