"""Neuron models. Their equations are section 2 of docs/arithmetic.md.

Parameters are arrays that broadcast to the population's shape: ``()``, ``(C, 1, 1)`` or
the full shape. Integers (int64) after quantization, float64 before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from nmc.ir.connectivity import Array

STATE_LIMIT = 1 << 23
"""M of the arithmetic page: v saturates at +-(M - 1), u wraps at M (24-bit state of Loihi)."""

NO_MEMORY = 4095
"""The du of a current without memory."""


class Reset(StrEnum):
    """What a spike does to the potential."""

    SUBTRACT = "subtract"
    ZERO = "zero"


@dataclass(frozen=True, eq=False)
class LIF:
    """Leaky integrate-and-fire in Loihi's fixed point: u decays by du, v by dv (12 bit).

    Attributes:
        threshold: mantissa; the compare is ``v > threshold << 6``.
        bias_mant, bias_exp: the bias is ``bias_mant << bias_exp``, in units of v.
        v0: potential at the start of the window.
    """

    threshold: Array
    bias_mant: Array
    bias_exp: Array
    v0: Array
    du: int = NO_MEMORY
    dv: int = 0
    reset: Reset = Reset.SUBTRACT

    @property
    def bias(self) -> Array:
        """The effective bias, in units of v."""
        return np.left_shift(self.bias_mant, self.bias_exp)


@dataclass(frozen=True, eq=False)
class IF:
    """Ideal integrate-and-fire: ``v += a + bias``, fires at ``v >= threshold``."""

    threshold: Array
    bias: Array
    v0: Array
    reset: Reset = Reset.SUBTRACT


@dataclass(frozen=True, eq=False)
class Integrator:
    """The read-out: integrates like a LIF without leak and never fires."""

    bias_mant: Array
    bias_exp: Array
    v0: Array

    @property
    def bias(self) -> Array:
        """The effective bias, in units of v (64 per unit of synaptic sum)."""
        return np.left_shift(self.bias_mant, self.bias_exp)


@dataclass(frozen=True, eq=False)
class IdealIntegrator:
    """The read-out of a network before quantization: ``v += a + bias`` over reals."""

    bias: Array


@dataclass(frozen=True)
class GradedReLU:
    """``s = max(a, 0)``: the message carries the value."""


@dataclass(frozen=True)
class Graded:
    """``s = a``: a linear graded population (a read-out)."""


@dataclass(frozen=True)
class Source:
    """The host sends one message of ``bits`` bits (signed or not) per neuron and step."""

    bits: int = 8
    signed: bool = False


Neuron = LIF | IF | Integrator | IdealIntegrator | GradedReLU | Graded | Source
