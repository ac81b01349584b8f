"""The update of spiking neurons in vectors: docs/arithmetic.md section 2, one generator for all models and rules.

What a model does not have costs nothing: `Cells` says, by its type, what is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types

from nmc.ir.neurons import STATE_LIMIT
from nmc.kernels.neurons import BINARY, BURST, LIF_LEAKY, SIGNED, Model
from nmc.kernels.vectors import I8, I32, splat

OWN = 5
"""Parameters that each neuron has of its own: v0, bias, bar, step and the lower threshold."""

FRACTION = 12
"""Decays count in 2^-12."""

SHARED = types.UniTuple(types.int64, 9)
"""The numbers of `Firing` as an argument of an intrinsic."""


class Cells(NamedTuple):
    """What neurons of a layer do, as types: tuples of as many ones.

    Attributes:
        rule: as many as the number of the firing rule.
        leaky: one where currents or potentials decay.
        rests: one where neurons rest after a message.
    """

    rule: tuple[int, ...] = ()
    leaky: tuple[int, ...] = ()
    rests: tuple[int, ...] = ()


def cells_of(model: Model) -> Cells:
    """The cells of a spiking model."""
    leaky = int(model.kind == LIF_LEAKY)
    return Cells((1,) * model.rule, (1,) * leaky, (1,) * int(model.refractory > 0))


class Firing:
    """One step of a vector of neurons.

    ``x = clip(decayed v + total + bias)``; the message is what the rule makes of x, and is taken from it.

    Args:
        builder: of the code.
        lanes: neurons.
        cells: numba's type of their `Cells`; None: they fire once, leak nothing and never rest.
        numbers: what they share, one tuple of int64: v stays within +- the first; -1 where a message subtracts, 0
            where it resets to zero; steps in which they wait; what stands for no message; largest burst; -1 where a
            signed rule is not guarded, else 0; what of 4096 is left of u and of v; steps of rest.
    """

    def __init__(self, builder: Any, lanes: int, cells: Any, numbers: Any) -> None:
        self.builder = builder
        self.kind, self.byte = ir.VectorType(I32, lanes), ir.VectorType(I8, lanes)
        self.rule, self.leaky, self.rests = (0, 0, 0) if cells is None else (len(kind) for kind in cells.types)
        limit, keep, self.wait, zero, levels, free, keep_u, keep_v, rest = cgutils.unpack_tuple(builder, numbers)
        self.high, self.low = self._all(limit), self._all(builder.neg(limit))
        self.mask, self.zero, self.levels, self.free = (self._all(number) for number in (keep, zero, levels, free))
        self.keep_u, self.keep_v, self.rest = (self._all(number) for number in (keep_u, keep_v, rest))

    def _all(self, number: Any) -> Any:
        return splat(self.builder, self.builder.trunc(number, I32), self.kind.count)

    def _same(self, number: int) -> Any:
        return ir.Constant(self.kind, [number] * self.kind.count)

    @property
    def width(self) -> int:
        """Vectors of state: potential, spikes and changes counted; messages added up, current, rest where there are."""
        return 3 + (self.rule == SIGNED) + self.leaky + self.rests

    def start(self, own: Sequence[Any]) -> list[Any]:
        """The state at the start of a window, of what `own_of` returns."""
        return [own[0], *[self._same(0)] * (self.width - 1)]

    def tally(self, state: Sequence[Any], steps: Any) -> list[Any]:
        """Spikes and updates that changed something, of the state after as many steps besides those of waiting."""
        if self.rule != BINARY:
            return list(state[1:3])
        fired, all_steps = self._all(steps), self._all(self.builder.add(steps, self.wait))
        return [self.builder.add(fired, state[1]), self.builder.add(all_steps, state[2])]

    def bytes_of(self, messages: Sequence[Any]) -> Any:
        """Messages of `step`, four at most, as the bytes of 32 bits."""
        builder = self.builder
        if self.rule != BINARY:
            places = [builder.shl(message, self._same(8 * n)) for n, message in enumerate(messages)]
            return reduce(builder.or_, places)
        idle = [builder.and_(message, self._same(1 << 8 * n)) for n, message in enumerate(messages)]
        return builder.xor(reduce(builder.or_, idle), self._same(sum(1 << 8 * n for n in range(len(messages)))))

    def prepared(self, own: Sequence[Any]) -> list[Any]:
        """What `own_of` returns, with what is computed of it once."""
        builder = self.builder
        if self.rule == BINARY:
            # What a spike leaves at most; behind a reset to zero, nothing.
            return [*own, builder.and_(builder.sub(self.high, own[3]), self.mask)]
        if self.rule != BURST:
            return list(own)
        kind = ir.VectorType(ir.FloatType(), self.kind.count)
        one = ir.Constant(kind, [1.0] * self.kind.count)
        return [*own, builder.fdiv(one, builder.sitofp(own[3], kind))]

    def _decayed(self, x: Any, kept: Any) -> Any:
        """``sign(x) * ((|x| * kept) >> 12)`` in 32 bits: in two parts, because the product needs 36."""
        builder, parts = self.builder, self._same(FRACTION)
        sign = builder.ashr(x, self._same(31))
        size = builder.sub(builder.xor(x, sign), sign)
        high = builder.mul(builder.lshr(size, parts), kept)
        low = builder.lshr(builder.mul(builder.and_(size, self._same((1 << FRACTION) - 1)), kept), parts)
        return builder.sub(builder.xor(builder.add(high, low), sign), sign)

    def _current(self, u: Any, total: Any) -> Any:
        """The current after a step; it wraps."""
        builder, whole = self.builder, self._same(2 * STATE_LIMIT)
        u = builder.add(self._decayed(u, self.keep_u), total)
        above = builder.icmp_signed(">", u, self._same(STATE_LIMIT))
        u = builder.select(above, builder.sub(u, whole), u)
        below = builder.icmp_signed("<=", u, self._same(-STATE_LIMIT))
        return builder.select(below, builder.add(u, whole), u)

    def _burst(self, x: Any, own: Sequence[Any]) -> Any:
        """How many thresholds a potential is beyond.

        A product with the reciprocal in float32 is off by less than one, because bursts are bytes: what is left then
        says whether it is one too many or too few.
        """
        builder, (_, _, bar, taken, _, share), none = self.builder, own, self._same(0)
        x = builder.sub(x, builder.sub(bar, taken))
        many = builder.fptosi(builder.fmul(builder.sitofp(x, share.type), share), self.kind)
        many = builder.select(builder.icmp_signed(">", many, self.levels), self.levels, many)
        many = builder.select(builder.icmp_signed("<", many, none), none, many)
        left = builder.sub(x, builder.mul(many, taken))
        more = builder.and_(builder.icmp_signed(">=", left, taken), builder.icmp_signed("<", many, self.levels))
        less = builder.and_(builder.icmp_signed("<", left, none), builder.icmp_signed(">", many, none))
        return builder.sub(builder.add(many, builder.zext(more, self.kind)), builder.zext(less, self.kind))

    def _signed(self, x: Any, own: Sequence[Any], sent: Any) -> Any:
        """1 beyond the threshold, -1 below the lower one."""
        builder, (_, _, bar, _, lower), none = self.builder, own, self._same(0)
        some = builder.icmp_signed("!=", builder.select(builder.icmp_signed(">", sent, none), sent, self.free), none)
        back = builder.and_(builder.icmp_signed("<", x, builder.neg(lower)), some)
        up = builder.zext(builder.icmp_signed(">=", x, bar), self.kind)
        return builder.sub(up, builder.zext(back, self.kind))

    def wait_step(self, state: Sequence[Any], total: Any, own: Sequence[Any]) -> list[Any]:
        """One step in which no potential is compared with a threshold: the state after it; arguments as `step`."""
        builder = self.builder
        x, changed, more = self._potential(state, total, own)
        x = self._clipped(x)
        moved = self._either(changed, builder.icmp_signed("!=", x, state[0]))
        step = self._same(-1 if self.rule == BINARY else 1)
        counted = builder.not_(moved) if self.rule == BINARY else moved
        return [x, state[1], builder.select(counted, builder.add(state[2], step), state[2]), *more]

    def step(self, state: Sequence[Any], total: Any, own: Sequence[Any]) -> tuple[list[Any], Any]:
        """One step: the state after it, and the messages, in the form of `bytes_of`.

        Args:
            state: before it, of `start`.
            total: the sum, in units of v.
            own: of `prepared`.
        """
        builder = self.builder
        x, changed, more = self._potential(state, total, own)
        # A neuron that still rests stays as it is.
        awake = builder.icmp_signed("==", more[-1], self._same(0)) if self.rests else None
        if self.rule == BINARY:
            after, counted, fired, message = self._once(state, x, changed, awake, own)
        else:
            after, counted, fired, message = self._often(state, x, changed, awake, own, more)
        if awake is not None:
            later = builder.select(awake, more[-1], builder.sub(more[-1], self._same(1)))
            more[-1] = builder.select(fired, self.rest, later)
        return [after, *counted, *more], message

    def _once(
        self, state: Sequence[Any], x: Any, changed: Any, awake: Any, own: Sequence[Any]
    ) -> tuple[Any, list[Any], Any, Any]:
        """The potential after a step with one spike at most, both counts, who fired, and a mask of who did not.

        Who fires is beyond its threshold and never below the smallest potential; who does not is never above the
        largest. So either limit meets one of the two, and each step waits for four operations of the one before.
        What is counted is less the steps without a spike, and less those in which nothing happened at all: `tally`
        makes the two counts of them. Nothing is inverted, of which the optimiser would make comparisons.
        """
        builder, (_, _, bar, taken, _, cap) = self.builder, own
        idle = builder.ashr(builder.sub(x, bar), self._same(31))
        if awake is not None:
            idle = builder.or_(idle, builder.sext(builder.not_(awake), self.kind))
        reset, x = self._least(builder.sub(x, taken), cap), self._most(x, self.low)
        after = builder.xor(builder.and_(builder.xor(x, reset), idle), reset)
        moved = self._either(changed, builder.icmp_signed("!=", x, state[0]))
        still = builder.select(moved, state[2], builder.add(state[2], idle))
        fired = builder.icmp_signed("==", idle, self._same(0)) if self.rests else None
        return after, [builder.add(state[1], idle), still], fired, idle

    def _often(
        self, state: Sequence[Any], x: Any, changed: Any, awake: Any, own: Sequence[Any], more: list[Any]
    ) -> tuple[Any, list[Any], Any, Any]:
        """The same with any other rule, and the messages; those that a guarded rule adds up are kept in ``more``."""
        builder = self.builder
        x = self._clipped(x)
        moved = self._either(changed, builder.icmp_signed("!=", x, state[0]))
        many = self._burst(x, own) if self.rule == BURST else self._signed(x, own, more[0])
        many = many if awake is None else builder.select(awake, many, self._same(0))
        fired = builder.icmp_signed("!=", many, self._same(0))
        if self.rule == SIGNED:
            more[0] = builder.add(more[0], many)
        taken = builder.mul(many, own[3])
        after = builder.select(fired, builder.and_(builder.sub(x, taken), self.mask), x)
        counts = [builder.zext(some, self.kind) for some in (fired, builder.or_(moved, fired))]
        counted = [builder.add(before, count) for before, count in zip(state[1:3], counts, strict=True)]
        return after, counted, fired, builder.add(many, self.zero)

    def _potential(self, state: Sequence[Any], total: Any, own: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
        """The potential before anything fires or limits it, whether the current changed, and the rest of the state."""
        builder, (v, _, _, *more) = self.builder, state
        x, changed = v, None
        if self.leaky:
            place = int(self.rule == SIGNED)
            current = self._current(more[place], total)
            changed, x, total = builder.icmp_signed("!=", current, more[place]), self._decayed(v, self.keep_v), current
            more[place] = current
        x = builder.add(x, builder.add(total, own[1]))
        if self.rests:
            x = builder.select(builder.icmp_signed("==", more[-1], self._same(0)), x, v)
        return x, changed, list(more)

    def _least(self, one: Any, other: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", one, other), one, other)

    def _most(self, one: Any, other: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", one, other), one, other)

    def _clipped(self, x: Any) -> Any:
        return self._least(self._most(x, self.low), self.high)

    def _either(self, changed: Any, moved: Any) -> Any:
        return moved if changed is None else self.builder.or_(changed, moved)
