"""Integrate-and-fire in vectors that every processor has: what follows the sums of `nmc.kernels.dot`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nmc.kernels.fire_rules import OWN, SHARED, Firing
from nmc.kernels.fire_values import Values, Valuing
from nmc.kernels.tiers import GROUP, LANES, ROWS
from nmc.kernels.vectors import I8, I32, I64, Pointers, align_stack, check, joined, loop, pieces


def _shift(typing, vectors, tables, sums, places):
    """Adds shifted sums to the first rows: ``sums[row] = (fresh ? 0 : sums[row]) + ((part >> right) << left)``.

    ``vectors`` is a tuple of as many ones. ``places``, all int64: where in ``sums`` (int32) the first rows
    begin, and those of ``vectors * LANES`` to be shifted, how many there are, where in the ``shifts`` (int32) of
    ``tables`` the right and the left ones are, and whether they are the first.
    """
    check({"tables": tables, "sums": sums}, {"shifts": types.int32, "sums": types.int32})
    count = len(vectors)
    signature = types.void(vectors, tables, sums, types.UniTuple(types.int64, 6))

    def codegen(context, builder, sig, args):
        _emit_shift(count, context, builder, sig, args)
        return context.get_dummy_value()

    return signature, codegen


shift: Any = intrinsic(_shift)


def _emit_shift(vectors: int, context: Any, builder: Any, signature: Any, args: Any) -> None:
    pointers = Pointers(context, builder, signature, args, ("vectors", "tables", "sums"))
    into, at, rows, right, left, first = cgutils.unpack_tuple(builder, args[3])
    kind = ir.VectorType(I32, LANES)
    fresh = builder.icmp_signed("!=", first, ir.Constant(I64, 0))

    def place(origin: Any, vector: int) -> Any:
        return builder.add(origin, ir.Constant(I64, vector * LANES))

    down = [pointers.load("shifts", place(right, vector), kind) for vector in range(vectors)]
    up = [pointers.load("shifts", place(left, vector), kind) for vector in range(vectors)]
    none = ir.Constant(kind, [0] * LANES)

    def step(index: Any, values: list[Any]) -> list[Any]:
        row = builder.mul(index, ir.Constant(I64, vectors * LANES))
        for vector in range(vectors):
            sums = pointers.load("sums", place(builder.add(at, row), vector), kind)
            total = builder.shl(builder.ashr(sums, down[vector]), up[vector])
            here = place(builder.add(into, row), vector)
            before = builder.select(fresh, none, pointers.load("sums", here, kind))
            pointers.store("sums", here, builder.add(before, total))
        return values

    loop(builder, rows, [], step)


def own_of(pointers: Pointers, place: Any, part: int, lanes: int) -> list[Any]:
    """Parameters of one part of a block, from blocks of (OWN, LANES) int32 at ``place`` on."""
    builder = pointers.builder
    block, inside = divmod(part * lanes, LANES)
    first = builder.add(place, ir.Constant(I64, block * OWN * LANES + inside))
    kind = ir.VectorType(I32, lanes)
    return [pointers.load("own", builder.add(first, ir.Constant(I64, n * LANES)), kind) for n in range(OWN)]


def tally_up(pointers: Pointers, place: Any, part: int, lanes: int, counts: list[Any]) -> None:
    """Add spikes and changes of one part to blocks of (2, LANES) int32 at ``place`` on."""
    builder = pointers.builder
    block, inside = divmod(part * lanes, LANES)
    for which, value in enumerate(counts):
        at = builder.add(place, ir.Constant(I64, block * 2 * LANES + inside + which * LANES))
        pointers.store("tally", at, builder.add(pointers.load("tally", at, value.type), value))


def send(pointers: Pointers, firing: Firing | Valuing, place: Any, group_pitch: Any, messages: list[Any]) -> None:
    """Messages of some steps, one after the other, into maps of groups of channels: four bytes or two words.

    Args:
        pointers: of the arguments.
        firing: whose `step` made them.
        place: of the first group at the first step.
        group_pitch: from group to group.
        messages: of a vector of neurons, for each step.
    """
    builder, steps, lanes = pointers.builder, len(messages), int(messages[0].type.count)
    if isinstance(firing, Firing) and steps % GROUP == 0:
        quads = [firing.bytes_of(messages[n : n + GROUP]) for n in range(0, steps, GROUP)]
        whole = joined(builder, [_turned(builder, quad, I64) for quad in quads])
        order = _by_group(steps, lanes)
    else:
        side = 2
        if isinstance(firing, Firing):
            side, byte = GROUP, ir.VectorType(I8, lanes)
            messages = [builder.trunc(firing.bytes_of([message]), byte) for message in messages]
        whole = joined(builder, messages)
        groups = range(lanes // side)
        order = [[step * lanes + side * g + c for step in range(steps) for c in range(side)] for g in groups]
    for g, piece in enumerate(pieces(builder, whole, order)):
        pointers.store("arena", builder.add(place, builder.mul(group_pitch, ir.Constant(I64, g))), piece)


def _turned(builder: Any, values: Any, kind: Any) -> Any:
    """Bytes of four steps for each of four channels, from those of four channels for each step, or the other way round.

    ``kind`` is that of the elements that are returned: of groups of channels (16 bytes each), pairs of int64.
    """
    bits = int(values.type.count) * int(values.type.element.width)
    count = bits // 8
    order = [16 * g + 4 * c + s for g in range(count // 16) for s in range(4) for c in range(4)]
    (turned,) = pieces(builder, builder.bitcast(values, ir.VectorType(I8, count)), [order])
    return builder.bitcast(turned, ir.VectorType(kind, bits // int(kind.width)))


def _by_group(steps: int, lanes: int) -> list[list[int]]:
    """For each group of channels its pairs of 8 bytes, four steps after the other."""
    return [
        [q * lanes // 2 + 2 * g + half for q in range(steps // GROUP) for half in range(2)]
        for g in range(lanes // GROUP)
    ]


def load_messages(pointers: Pointers, place: Any, group_pitch: Any, steps: int, lanes: int) -> list[Any]:
    """The inverse of `send`: (lanes,) int32 for each step."""
    builder, kind = pointers.builder, ir.VectorType(I32, lanes)
    some = ir.VectorType(I8, GROUP * steps) if steps % GROUP else ir.VectorType(I64, steps // 2)
    found = [
        pointers.load("arena", builder.add(place, builder.mul(group_pitch, ir.Constant(I64, g))), some)
        for g in range(lanes // GROUP)
    ]
    whole = joined(builder, found)
    if steps % GROUP:
        order = [
            [g * GROUP * steps + step * GROUP + c for g in range(lanes // GROUP) for c in range(GROUP)]
            for step in range(steps)
        ]
        return [builder.zext(piece, kind) for piece in pieces(builder, whole, order)]
    groups = _by_group(steps, lanes)
    size = len(groups[0])
    back = [[g * size + 2 * q + half for g in range(len(groups)) for half in range(2)] for q in range(steps // GROUP)]
    words = [_turned(builder, quad, I32) for quad in pieces(builder, whole, back)]
    low = ir.Constant(kind, [255] * lanes)
    return [
        builder.and_(builder.lshr(word, ir.Constant(kind, [8 * n] * lanes)), low) for word in words for n in range(4)
    ]


def _fire(typing, cells, vectors, pixels, constant, arena, tables, sums, shared, places):
    """The neurons of ``vectors * LANES`` channels of a few pixels over a window, the state in registers.

    ``cells`` are `Cells` or `Values`, ``shared`` the numbers of `Firing`; ``vectors`` and ``pixels`` are tuples of
    as many ones; ``constant`` is not empty where every step has the same sums. ``places``, all int64, in this order:

    * steps in which the neurons may send.
    * ``sums`` (int32), in units of v: first, from step to step; pixels and vectors follow each other.
    * the ``own`` (int32) of ``tables``, blocks (OWN, LANES): first, from pixel to pixel.
    * ``arena`` (uint8), the messages: first, from pixel to pixel, from group to group of four channels.
    * the ``tally`` (int32) of ``tables``, blocks (2, LANES) to which spikes and updates that changed v are added:
      first, from pixel to pixel.
    * where in ``sums`` a vector is that becomes the largest of it and of all messages that carry values.
    """
    wanted: dict[str, types.Type] = {
        "sums": types.int32,
        "own": types.int32,
        "arena": types.uint8,
        "tally": types.int32,
    }
    check({"arena": arena, "tables": tables, "sums": sums}, wanted)
    counts, same = (len(vectors), len(pixels)), bool(len(constant))
    numbers = types.UniTuple(types.int64, 11)
    signature = types.void(cells, vectors, pixels, constant, arena, tables, sums, SHARED, numbers)

    def codegen(context, builder, sig, args):
        _Fire(counts, same, context, builder, sig, args).emit()
        return context.get_dummy_value()

    return signature, codegen


fire: Any = intrinsic(_fire)


class _Fire:
    """The generator of one form of `fire`."""

    def __init__(
        self, counts: tuple[int, int], constant: bool, context: Any, builder: Any, signature: Any, args: Any
    ) -> None:
        self.builder, (vectors, pixels) = builder, counts
        align_stack(builder)
        names = ("cells", "vectors", "pixels", "constant", "arena", "tables", "sums")
        self.pointers = Pointers(context, builder, signature, args, names)
        cells = signature.args[0]
        self.firing: Firing | Valuing = (
            Valuing(builder, LANES, cells) if cells.instance_class is Values else Firing(builder, LANES, cells, args[7])
        )
        (
            self.steps,
            self.at,
            self.stride,
            self.mine,
            self.owned,
            self.out,
            self.apart,
            self.pitch,
            self.blocks,
            self.next_block,
            self.peak,
        ) = cgutils.unpack_tuple(builder, args[8])
        self.kind = ir.VectorType(I32, LANES)
        self.parts = [(pixel, vector) for pixel in range(pixels) for vector in range(vectors)]
        read = [own_of(self.pointers, self.along(self.mine, self.owned, p), v, LANES) for p, v in self.parts]
        self.own = [self.firing.prepared(own) for own in read]
        # Messages of so many steps find room in registers.
        self.together = 2 * ROWS // max(len(self.parts), 2)
        self.fixed = self.sums_at(ir.Constant(I64, 0)) if constant else None

    def along(self, start: Any, pitch: Any, pixel: int) -> Any:
        """A place, some pixels on."""
        return self.builder.add(start, self.builder.mul(pitch, ir.Constant(I64, pixel)))

    def sums_at(self, index: Any) -> list[Any]:
        """The sums of a step."""
        first = self.builder.add(self.at, self.builder.mul(index, self.stride))
        places = [self.builder.add(first, ir.Constant(I64, n * LANES)) for n in range(len(self.parts))]
        return [self.pointers.load("sums", place, self.kind) for place in places]

    def of(self, values: list[Any], which: int) -> list[Any]:
        """The state of one vector of neurons."""
        return values[self.firing.width * which : self.firing.width * (which + 1)]

    def emit(self) -> None:
        """The whole window."""
        builder, steps, together = self.builder, self.steps, ir.Constant(I64, self.together)
        state = [value for own in self.own for value in self.firing.start(own)]
        if self.fixed is None:
            state = loop(builder, self.firing.wait, state, self.waiting)
        rounds = builder.sdiv(steps, together)
        done = builder.mul(rounds, together)
        none = ir.Constant(I64, 0)
        state = loop(builder, rounds, state, lambda index, values: self.some(self.together, none, index, values))
        left = builder.sub(steps, done)
        state = loop(builder, left, state, lambda index, values: self.some(1, done, index, values))
        for which, (pixel, vector) in enumerate(self.parts):
            counted = self.firing.tally(self.of(state, which), self.steps)
            tally_up(self.pointers, self.along(self.blocks, self.next_block, pixel), vector, LANES, counted)
            if isinstance(self.firing, Valuing):
                before = self.pointers.load("sums", self.peak, self.kind)
                largest = self.firing.larger(before, self.of(state, which)[4])
                self.pointers.store("sums", self.peak, largest)

    def waiting(self, index: Any, values: list[Any]) -> list[Any]:
        """One step in which nobody sends."""
        totals = self.sums_at(index)
        after = [self.firing.wait_step(self.of(values, n), totals[n], own) for n, own in enumerate(self.own)]
        return [value for state in after for value in state]

    def some(self, count: int, first: Any, index: Any, values: list[Any]) -> list[Any]:
        """A few steps and their messages."""
        builder, states = self.builder, [self.of(values, which) for which in range(len(self.parts))]
        begin = builder.add(first, builder.mul(index, ir.Constant(I64, count)))
        sent = [list[Any]() for _ in self.parts]
        for row in range(count):
            step = builder.add(begin, ir.Constant(I64, row))
            totals = self.fixed or self.sums_at(builder.add(step, self.firing.wait))
            for which, own in enumerate(self.own):
                states[which], message = self.firing.step(states[which], totals[which], own)
                sent[which].append(message)
        line = builder.add(self.out, builder.mul(begin, ir.Constant(I64, GROUP)))
        for which, (pixel, vector) in enumerate(self.parts):
            side = 2 if isinstance(self.firing, Valuing) else GROUP
            groups = builder.mul(self.pitch, ir.Constant(I64, vector * LANES // side))
            place = builder.add(self.along(line, self.apart, pixel), groups)
            send(self.pointers, self.firing, place, self.pitch, sent[which])
        return [value for state in states for value in state]
