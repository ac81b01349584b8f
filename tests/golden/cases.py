"""Traces that were seen in Lava 0.10 (fixed point), as data.

The last ones use rules that Lava has no fixed-point process for; they were computed by hand.

Left out, because the arithmetic page excludes them: du = dv = 4096 (the registers have 12
bits) and a negative bias exponent (the register is unsigned).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nmc.ir.neurons import Binary, Burst, Fire, Reset, Signed


@dataclass(frozen=True)
class Golden:
    """A neuron, its input sums and what it must do.

    Attributes:
        first: input sum of the first step.
        every: input sum of every step.
        v, s, u: expected in each step, v after reset; u empty where it was not recorded.
    """

    name: str
    v: tuple[int, ...]
    s: tuple[int, ...]
    u: tuple[int, ...] = ()
    first: int = 0
    every: int = 0
    du: int = 4095
    dv: int = 0
    vth: int = 1000
    bias: tuple[int, int] = (0, 0)
    v0: int = 0
    reset: Reset = field(default=Reset.ZERO)
    fire: Fire = field(default=Binary())
    refractory: int = 0


_DECAY_U = (192, 144, 108, 81, 60, 45, 33, 24, 18, 13)
_DECAY_V = (192, 312, 381, 414, 422, 414, 395, 369, 340, 310)
_NONE = (0,) * 10

_TERNARY = Signed(np.array(2), guarded=False)

GOLDEN = (
    Golden("both-leak", _DECAY_V, _NONE, _DECAY_U, first=3, du=1023, dv=512, vth=100),
    Golden(
        "both-leak-negative",
        tuple(-v for v in _DECAY_V),
        _NONE,
        tuple(-u for u in _DECAY_U),
        first=-3,
        du=1023,
        dv=512,
        vth=100,
    ),
    Golden(
        "du-0-still-leaks",
        (192, 383, 573, 762, 950, 1137, 1323, 1508, 1692, 1875),
        _NONE,
        (192, 191, 190, 189, 188, 187, 186, 185, 184, 183),
        first=3,
        du=0,
    ),
    Golden("strict-compare", (192, 0) * 4, (0, 1) * 4, (192,) * 8, every=3, vth=3),
    Golden("four-steps", (64, 128, 192, 0) * 2, (0, 0, 0, 1) * 2, (64,) * 8, every=1, vth=3),
    Golden("bias-5-0", (5, 10, 15, 20), (0,) * 4, (0,) * 4, bias=(5, 0)),
    Golden("bias-minus-5-3", (-40, -80, -120, -160), (0,) * 4, (0,) * 4, bias=(-5, 3)),
    Golden("bias-100-6", (6400, 12800, 19200), (0,) * 3, (0,) * 3, bias=(100, 6)),
    Golden(
        "u-reaches-its-top",
        (0, 8386560, 0, 8382465),
        (1, 0, 1, 0),
        (8388608, 8386560, 8384512, 8382465),
        first=131072,
        du=0,
        vth=131071,
    ),
    Golden(
        "u-wraps-down",
        (-8388544, -8388607, -8388607, -8388607),
        (0, 0, 0, 0),
        (-8388544, -8386496, -8384448, -8382401),
        first=131073,
        du=0,
        vth=131071,
    ),
    Golden("u-wraps-up", (0,), (1,), (8388608,), first=-131072, du=0, vth=131071),
    Golden(
        "v-saturates",
        (0, 524160, 1048320),
        (1, 0, 0),
        (0, 0, 0),
        bias=(4095, 7),
        v0=8388000,
        vth=131071,
    ),
    Golden(
        "subtractive",
        (300, 600, 260, 560, 220, 520, 180, 480, 140, 440, 100, 400, 60, 360, 20, 320, 620, 280, 580, 240),
        (0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1),
        bias=(300, 0),
        vth=10,
        reset=Reset.SUBTRACT,
    ),
    Golden("subtractive-overload", (860, 1720, 2580), (1, 1, 1), bias=(1500, 0), vth=10, reset=Reset.SUBTRACT),
    Golden("zero-overload", (0, 0, 0), (1, 1, 1), bias=(1500, 0), vth=10),
    Golden("ternary-up", (64, 128, 0) * 2, (0, 0, 1) * 2, (64,) * 6, every=1, vth=2, fire=_TERNARY),
    Golden("ternary-down", (-64, -128, 0) * 2, (0, 0, -1) * 2, (-64,) * 6, every=-1, vth=2, fire=_TERNARY),
    # 4, then -2 in each step: one spike is taken back, no more.
    Golden(
        "guarded",
        (128, 0, 0, -128, -256),
        (1, 0, -1, 0, 0),
        first=6,
        every=-2,
        vth=2,
        reset=Reset.SUBTRACT,
        fire=Signed(np.array(0)),
    ),
    # Four thresholds exactly: above three of them only.
    Golden("burst", (64, 64), (3, 0), first=4, vth=1, reset=Reset.SUBTRACT, fire=Burst(3)),
    Golden("burst-to-zero", (0, 0, 0), (3, 1, 1), first=2, every=2, vth=1, fire=Burst(3)),
    Golden(
        "refractory",
        (138, 138, 138, 52),
        (1, 0, 0, 1),
        (256, 128, 64, 32),
        first=4,
        du=2047,
        vth=2,
        bias=(10, 0),
        reset=Reset.SUBTRACT,
        refractory=2,
    ),
)
