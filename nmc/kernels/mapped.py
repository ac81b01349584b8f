"""Execution of a mapping: messages travel by routes to axons, and meet synapses on cores.

Exact: 32-bit integers where the stored weights prove that they suffice, 64-bit integers
otherwise. Samples run in threads, each with its own state, so results and counts do not
depend on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.neurons import LIF, STATE_LIMIT
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

_LIMIT = STATE_LIMIT
_SUM_LIMIT = 1 << 31
_NARROW = 1 << 30

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done."""


@numba.njit(nogil=True, cache=True)
def _deliver(tables, pair_start, slots, values, count, active, acc, synops):
    """Apply the messages of one step and delay to the accumulators of active slices."""
    weight, runs, pairs = tables.weight, tables.runs, tables.pairs
    for e in range(count):
        slot = slots[e]
        value = values[e]
        for p in range(pair_start[slot], pair_start[slot + 1]):
            if not active[pairs[p, 0]]:
                continue
            synops[pairs[p, 1]] += pairs[p, 4]
            for r in range(pairs[p, 2], pairs[p, 3]):
                first, stored, length = runs[r, 0], runs[r, 1], runs[r, 2]
                dest = acc[first : first + length]
                row = weight[stored : stored + length]
                if value == 1:
                    for i in range(length):
                        dest[i] += row[i]
                else:
                    for i in range(length):
                        dest[i] += value * row[i]


@numba.njit(nogil=True, cache=True)
def _sum(tables, piece, acc, total, wide):
    """Section 2: bias and shift of each projection's sum, added up; the sums are cleared."""
    overflows = 0
    n = total.shape[0]
    total[:] = 0
    for g in range(tables.groups[piece], tables.groups[piece + 1]):
        first = tables.accumulators[g, 0]
        part = acc[first : first + n]
        constant = tables.constant[first : first + n]
        if wide:
            for i in range(n):
                if abs(part[i] + constant[i]) >= _SUM_LIMIT:
                    overflows += 1
        if tables.accumulators[g, 1]:
            right, left = tables.right[first : first + n], tables.left[first : first + n]
            for i in range(n):
                total[i] += ((part[i] + constant[i]) >> right[i]) << left[i]
        else:
            for i in range(n):
                total[i] += part[i] + constant[i]
        part[:] = 0
    return overflows


@numba.njit(nogil=True, cache=True)
def _lif_plain(total, bias, threshold, subtract, v, message):
    changed = 0
    for i in range(total.shape[0]):
        u = total[i] << 6
        u -= 2 * _LIMIT * (u > _LIMIT)
        u += 2 * _LIMIT * (u <= -_LIMIT)
        before = v[i]
        x = min(max(before + u + bias[i], -(_LIMIT - 1)), _LIMIT - 1)
        fired = x > threshold[i]
        message[i] = fired
        x = x - threshold[i] * fired if subtract else x * (not fired)
        v[i] = x
        changed += (x != before) | fired
    return changed


@numba.njit(nogil=True, cache=True)
def _decay(x, k):
    d = (np.int64(abs(x)) * (4096 - k)) >> 12
    return d if x >= 0 else -d


@numba.njit(nogil=True, cache=True)
def _lif_leaky(total, bias, threshold, du, dv, subtract, u, v, message):
    changed = 0
    for i in range(total.shape[0]):
        current = _decay(u[i], du + 1) + (np.int64(total[i]) << 6)
        current -= 2 * _LIMIT * (current > _LIMIT)
        current += 2 * _LIMIT * (current <= -_LIMIT)
        before = v[i]
        x = min(max(_decay(before, dv) + current + bias[i], -(_LIMIT - 1)), _LIMIT - 1)
        fired = x > threshold[i]
        message[i] = fired
        x = x - threshold[i] * fired if subtract else x * (not fired)
        changed += (x != before) | (u[i] != current) | fired
        u[i] = current
        v[i] = x
    return changed


@numba.njit(nogil=True, cache=True)
def _ideal(total, bias, threshold, subtract, v, message):
    changed = 0
    for i in range(total.shape[0]):
        before = v[i]
        x = before + total[i] + bias[i]
        fired = x >= threshold[i]
        message[i] = fired
        x = x - threshold[i] * fired if subtract else x * (not fired)
        v[i] = x
        changed += (x != before) | fired
    return changed


@numba.njit(nogil=True, cache=True)
def _integrate(total, bias, v, message):
    changed = 0
    for i in range(total.shape[0]):
        before = v[i]
        v[i] = min(max(before + (total[i] << 6) + bias[i], -(_LIMIT - 1)), _LIMIT - 1)
        message[i] = 0
        changed += v[i] != before
    return changed


@numba.njit(nogil=True, cache=True)
def _update(tables, piece, total, bias, u, v, message):
    """One step of a slice's neurons; how many of them changed."""
    model, subtract = tables.slices[piece, 2], tables.slices[piece, 7] != 0
    first, n = tables.slices[piece, 0], tables.slices[piece, 1]
    threshold = tables.threshold[first : first + n]
    changed = 0
    if model == LIF_PLAIN:
        changed = _lif_plain(total, bias, threshold, subtract, v, message)
    elif model == LIF_LEAKY:
        du, dv = tables.slices[piece, 5], tables.slices[piece, 6]
        changed = _lif_leaky(total, bias, threshold, du, dv, subtract, u, v, message)
    elif model == IDEAL:
        changed = _ideal(total, bias, threshold, subtract, v, message)
    elif model == INTEGRATOR:
        changed = _integrate(total, bias, v, message)
    elif model == GRADED_RELU:
        for i in range(n):
            message[i] = max(total[i], 0)
            changed += total[i] != 0
    elif model == GRADED:
        for i in range(n):
            message[i] = total[i]
            changed += total[i] != 0
    return changed


@numba.njit(nogil=True, cache=True)
def _run_sample(tables, shape, sample, bias, state, counts, outputs, out_slots, out_graded, wide):
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
                overflows[0] += _sum(tables, s, acc, a, wide)
                changed[s] += _update(
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
                readouts[t - tables.slices[s, 3], o] = message[slot] if out_graded else v[slot]


@numba.njit(nogil=True, cache=True)
def _magnitudes(tables, from_source, known, unknown):
    """Sums of |weight| into each accumulator: from spiking slots, and from sources of messages."""
    for d in range(tables.pair_start.shape[0]):
        for slot in range(tables.pair_start.shape[1] - 1):
            into = unknown if from_source[slot] else known
            for p in range(tables.pair_start[d, slot], tables.pair_start[d, slot + 1]):
                for r in range(tables.pairs[p, 2], tables.pairs[p, 3]):
                    first, stored = tables.runs[r, 0], tables.runs[r, 1]
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
        readouts: (N, T, outputs) int64 read-out after each step of the output's window.
        messages, potentials: (N, T, slots) int64, or None where not kept.
        synops: (clusters,) synaptic operations at each.
        fired: (slots,) messages sent by each.
        changed: (slices,) neuron updates that changed something.
        overflows: sums of magnitude 2^31 and more.
    """

    readouts: Array
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
        depth = int(tables.delays.max(initial=0)) + 1
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
    network, count, steps = program.network, len(inputs), program.network.timesteps
    largest = int(np.abs(inputs).max(initial=0))
    narrow = _fits_narrow(program, largest)
    tables = _typed(program.tables, narrow)
    here = program.slots_by_population[network.output.population]
    out_slots = np.column_stack([here, program.slice_of[here]]).astype(np.int64)
    graded = len(here) > 0 and int(tables.slices[program.slice_of[here[0]], 2]) in (GRADED, GRADED_RELU, SOURCE)
    slots = len(tables.v0)
    readouts = np.zeros((count, steps, len(here)), dtype=np.int64)
    sent = np.zeros((count, steps if keep_messages else 0, slots), dtype=np.int64)
    held = np.zeros((count, steps if keep_potentials else 0, slots), dtype=np.int64)
    workers: list[_Worker] = []
    idle: list[_Worker] = []
    lock, done = threading.Lock(), [0]

    def one(index: int) -> None:
        with lock:
            if not idle:
                workers.append(_Worker(program, tables))
                idle.append(workers[-1])
            worker = idle.pop()
        worker.take(program, inputs[index])
        _run_sample(
            tables,
            (steps, network.timesteps_total),
            worker.sample,
            worker.bias,
            worker.state,
            worker.counts,
            (readouts[index], sent[index], held[index]),
            out_slots,
            graded,
            not narrow,
        )
        with lock:
            idle.append(worker)
            done[0] += 1
            if progress is not None:
                progress("simulate", done[0] / count)

    parallel(one, count, threads)
    fresh = workers or [_Worker(program, tables)]
    synops, fired, changed, overflows = (sum(parts) for parts in zip(*(w.counts for w in fresh), strict=True))
    return MappedRun(
        readouts,
        sent if keep_messages else None,
        held if keep_potentials else None,
        np.asarray(synops),
        np.asarray(fired),
        np.asarray(changed),
        int(np.asarray(overflows)[0]),
    )
