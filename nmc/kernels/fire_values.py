"""The update of neurons whose messages carry values, in vectors: docs/arithmetic.md section 2.

Has the interface of `nmc.kernels.fire_rules.Firing`; one more vector of state is the largest message so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from nmc.kernels.neurons import GRADED_RELU, SIGMA_DELTA, Model
from nmc.kernels.vectors import I16, I32, I64

MOST = (1 << 31) - 1


class Values(NamedTuple):
    """What neurons of a layer do, as types: tuples of as many ones.

    Attributes:
        delta: one where they receive and send changes.
        rectify: one where they cut values at 0.
    """

    delta: tuple[int, ...] = ()
    rectify: tuple[int, ...] = ()


def values_of(model: Model) -> Values:
    """The values of a graded or sigma-delta model."""
    delta = model.kind == SIGMA_DELTA
    return Values((1,) * delta, (1,) * (bool(model.rectify) if delta else model.kind == GRADED_RELU))


class Valuing:
    """One step of a vector of neurons; no message of them may be larger than a word, which the caller looks at.

    Args:
        builder: of the code.
        lanes: neurons.
        values: numba's type of their `Values`.
    """

    width = 5
    """Vectors of state: sum, messages and changes counted, the last value sent, the largest message."""

    def __init__(self, builder: Any, lanes: int, values: Any) -> None:
        self.builder = builder
        self.kind, self.word = ir.VectorType(I32, lanes), ir.VectorType(I16, lanes)
        self.delta, self.rectify = (len(kind) for kind in values.types)
        self.wait = ir.Constant(I64, 0)

    def _same(self, number: int) -> Any:
        return ir.Constant(self.kind, [number] * self.kind.count)

    def start(self, own: Sequence[Any]) -> list[Any]:
        """The state at the start of a window."""
        return [own[0], *[self._same(0)] * 4]

    def prepared(self, own: Sequence[Any]) -> list[Any]:
        """Parameters as they are."""
        return list(own)

    def tally(self, state: Sequence[Any], steps: Any) -> list[Any]:
        """Messages, and updates that changed something."""
        return list(state[1:3])

    def wait_step(self, state: Sequence[Any], total: Any, own: Sequence[Any]) -> list[Any]:
        """They never wait."""
        return list(state)

    def larger(self, one: Any, other: Any) -> Any:
        """Lane by lane."""
        return self.builder.select(self.builder.icmp_signed(">", one, other), one, other)

    def step(self, state: Sequence[Any], total: Any, own: Sequence[Any]) -> tuple[list[Any], Any]:
        """One step: the state after it, and the messages as words.

        Args:
            state: before it, of `start`.
            total: the sum a.
            own: of `nmc.kernels.fire.own_of`.
        """
        builder, none, (v, count, changed, sent, most) = self.builder, self._same(0), state
        over = none
        if self.delta:
            x = builder.add(v, total)
            # Set in its sign where the sum has left 32 bits.
            over = builder.and_(builder.xor(v, x), builder.xor(total, x))
            value = builder.ashr(x, own[4])
            value = self.larger(value, none) if self.rectify else value
            change = builder.sub(value, sent)
            size = self.larger(change, builder.sub(none, change))
            over = builder.or_(over, size)
            message = builder.select(builder.icmp_signed(">=", size, own[3]), change, none)
            sent, moved = builder.add(sent, message), builder.icmp_signed("!=", x, v)
        else:
            x, moved = v, builder.icmp_signed("!=", total, none)
            message = self.larger(total, none) if self.rectify else total
        some = builder.icmp_signed("!=", message, none)
        size = self.larger(message, builder.sub(none, message))
        # The size of -2^31 is below 0, and so is that of a change that left 32 bits.
        size = builder.select(builder.icmp_signed("<", builder.or_(size, over), none), self._same(MOST), size)
        count = builder.add(count, builder.zext(some, self.kind))
        changed = builder.add(changed, builder.zext(builder.or_(moved, some), self.kind))
        return [x, count, changed, sent, self.larger(size, most)], builder.trunc(message, self.word)
