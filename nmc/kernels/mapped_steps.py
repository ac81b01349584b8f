"""One sample on a mapping, step by step: messages meet synapses, sums meet neurons."""

from __future__ import annotations

import numpy as np

from nmc.kernels.compiled import compiled
from nmc.kernels.neurons import SOURCE, Model, Parameters, State, update
from nmc.kernels.packed_rows import AHEAD, LINE, PLACE_BITS, fetch

_SUM_LIMIT = 1 << 31
"""Accumulators of the chip are narrower than this."""


@compiled()
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
                if length == 1:
                    # Irregular synapses: a loop would cost more than its one round.
                    acc[first] += value * weight[row]
                elif value == 1:
                    for i in range(length):
                        acc[first + i] += weight[row + i]
                else:
                    for i in range(length):
                        acc[first + i] += value * weight[row + i]


@compiled()
def _deliver_rows(rows, stream, slots, values, count, acc, delivered):
    """Apply the messages of one step to the accumulators that a stream of rows reaches."""
    start, into, weight, packed = rows.start[stream], rows.into, rows.weight, rows.packed
    places = np.uint32((1 << PLACE_BITS) - 1)
    for e in range(count):
        slot, value = slots[e], values[e]
        delivered[stream, slot] += 1
        if packed.shape[0] > 0:
            if e + AHEAD < count:
                later = slots[e + AHEAD]
                for i in range(start[later], start[later + 1], LINE):
                    fetch(packed, i)
            for i in range(start[slot], start[slot + 1]):
                both = packed[i]
                acc[both & places] += value * (np.int32(both) >> PLACE_BITS)
            continue
        for i in range(start[slot], start[slot + 1]):
            acc[into[i]] += value * weight[i]


@compiled()
def _sum_projections(tables, piece, step, acc, total, wide):
    """Section 2: bias and shift of each projection's sum, added up; the sums are cleared."""
    overflows = 0
    n = total.shape[0]
    total[:] = 0
    for g in range(tables.groups[piece], tables.groups[piece + 1]):
        first, shifted, begin, end = tables.accumulators[g]
        part, constant = acc[first : first + n], tables.constant[first : first + n]
        live = 1 if begin <= step < end else 0
        if wide:
            for i in range(n):
                overflows += abs(part[i] + live * constant[i]) >= _SUM_LIMIT
        if shifted:
            right, left = tables.right[first : first + n], tables.left[first : first + n]
            for i in range(n):
                total[i] += ((part[i] + live * constant[i]) >> right[i]) << left[i]
        elif live:
            for i in range(n):
                total[i] += part[i] + constant[i]
        else:
            for i in range(n):
                total[i] += part[i]
        part[:] = 0
    return overflows


@compiled()
def _own_of(own, bias, first, n):
    here = slice(first, first + n)
    return Parameters(own.threshold[here], bias[here], own.v0[here], own.second[here])


@compiled()
def _state_of(state, first, n):
    here = slice(first, first + n)
    return State(state.u[here], state.v[here], state.sent[here], state.rest[here])


@compiled()
def _start(state, own):
    state.u[:] = 0
    state.v[:] = own.v0
    state.sent[:] = 0
    state.rest[:] = 0


@compiled()
def run_sample(tables, rows, shape, sample, bias, state, scratch, counts, outputs, out_slots, wide):
    """One sample; ``state`` and ``scratch`` are overwritten, ``counts`` added to, ``outputs`` written."""
    steps, steps_total = shape
    acc, message, total, ring_slot, ring_value, ring_count, active = scratch
    synops, fired, changed, overflows, delivered = counts
    readouts, sent, held = outputs
    depth = ring_count.shape[0]
    never = np.full(total.shape[0], np.iinfo(total.dtype).max, dtype=total.dtype)
    acc[:] = 0
    ring_count[:] = 0
    for t in range(steps_total):
        for s in range(tables.slices.shape[0]):
            start = tables.slices[s, 3]
            active[s] = start <= t < start + tables.slices[s, 5] + steps
        for d in range(tables.delays.shape[0]):
            if tables.delays[d] <= t:
                k = (t - tables.delays[d]) % depth
                _deliver(tables, tables.pair_start[d], ring_slot[k], ring_value[k], ring_count[k], active, acc, synops)
        for stream in range(rows.delay.shape[0]):
            if rows.delay[stream] <= t and active[rows.piece[stream]]:
                k = (t - rows.delay[stream]) % depth
                _deliver_rows(rows, stream, ring_slot[k], ring_value[k], ring_count[k], acc, delivered)
        here = t % depth
        count = 0
        for s in range(tables.slices.shape[0]):
            if not active[s]:
                continue
            first, n = tables.slices[s, 0], tables.slices[s, 1]
            m = tables.models[s]
            model = Model(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9])
            step = t - tables.slices[s, 3]
            out = message[first : first + n]
            cells = _state_of(state, first, n)
            if model.kind == SOURCE:
                out[:] = sample[first : first + n]
                if model.once and step > 0:
                    out[:] = 0
            else:
                own = _own_of(tables.own, bias, first, n)
                if step == 0:
                    _start(cells, own)
                a = total[:n]
                overflows[0] += _sum_projections(tables, s, step, acc, a, wide)
                if step < tables.slices[s, 5]:
                    # It waits: no potential passes a threshold.
                    own = Parameters(never[:n], own.bias, own.v0, never[:n])
                changed[s] += update(model, own, a, cells, out)
            for i in range(n):
                if out[i] != 0:
                    ring_slot[here, count] = first + i
                    ring_value[here, count] = out[i]
                    fired[first + i] += 1
                    count += 1
            step -= tables.slices[s, 5]
            if step < 0:
                continue
            if sent.shape[0] > 0:
                sent[step, first : first + n] = out
            if held.shape[0] > 0:
                held[step, first : first + n] = cells.v
        ring_count[here] = count
        for o in range(out_slots.shape[0]):
            s = out_slots[o, 1]
            step = t - tables.slices[s, 3] - tables.slices[s, 5]
            if active[s] and step >= 0:
                slot = out_slots[o, 0]
                readouts[step, o] = message[slot] if out_slots[o, 2] else state.v[slot]
