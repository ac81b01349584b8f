"""Weights that are whole multiples of one step: those of a file that brings its integers along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Sparse
from nmc.ir.network import Projection
from nmc.passes.convert.convert_rate import scale_sources
from nmc.passes.quantize.fixed_point import WeightGrid

TOLERANCE = 1e-4
"""Steps by which a weight may lie beside a whole one: float32 moves an integer of 8 bits by 1e-5."""

EQUAL = 1e-6
"""Relative difference of two steps that are one: they are products of float32 numbers."""


@dataclass(frozen=True, eq=False)
class WholeFit:
    """How the integers of a file are stored.

    Attributes:
        scale: (C,) real value of one unit of the message.
        shifts: by projection, (C,) right shifts of its sums.
        of_file: whether the message is the file's integer, less the zero point.
    """

    scale: Array
    shifts: Mapping[str, Array]
    of_file: bool


@dataclass(frozen=True)
class ShiftRange:
    """Right shifts that a sum may have.

    Attributes:
        low, high: the least and the largest.
    """

    low: int
    high: int

    def take(self, wanted: Array) -> Array:
        """The nearest whole shifts."""
        return np.clip(wanted, self.low, self.high).astype(np.int64)


def fit_whole(
    main: list[Projection],
    scales: Mapping[str, Array],
    grid: WeightGrid,
    wanted: Array,
    allowed: ShiftRange,
    step: float | None,
) -> WholeFit | None:
    """Shifts with which the weights of all projections are stored as the integers that they are.

    A message then has the value of one unit of the sums, times a power of two. It is the step
    that the file has there where a power of two makes it so; else the nearest that is wanted,
    the same for all channels where their sums have one unit.

    Args:
        main: over reals.
        scales: real value of a message, by source.
        grid: the stored weights.
        wanted: (C,) the real value of a message that is come near to from below.
        allowed: shifts.
        step: of the file's integers, if it has any there.

    Returns:
        None where some weights are no such integers, or sums of several projections have no common unit.
    """
    units = {}
    for projection in main:
        unit = whole_unit(projection.connectivity, scales[projection.source], grid)
        if unit is None:
            return None
        units[projection.name] = unit
    first = units[main[0].name]
    offsets = {name: np.log2(first / unit) for name, unit in units.items()}
    if any(np.any(np.abs(offset - np.rint(offset)) > EQUAL) for offset in offsets.values()):
        return None
    common = bool(np.all(np.abs(first / first[0] - 1) <= EQUAL))
    shift, of_file = np.floor(np.log2(wanted / first)), False
    if common:
        shift = np.full(len(first), shift.max())
    if common and step is not None:
        exact = float(np.log2(step / first[0]))
        of_file = abs(exact - round(exact)) <= EQUAL and allowed.low <= round(exact) <= allowed.high
        shift = np.full(len(first), round(exact)) if of_file else shift
    own = allowed.take(shift)
    shifts = {name: own + np.rint(offset).astype(np.int64) for name, offset in offsets.items()}
    if any(np.any(s < allowed.low) or np.any(s > allowed.high) for s in shifts.values()):
        return None
    scale = np.full(len(first), step) if of_file and step is not None else first * np.exp2(own)
    return WholeFit(scale, shifts, of_file)


def whole_unit(connectivity: Connectivity, sources: Array, grid: WeightGrid) -> Array | None:
    """(C,) the value of one unit of a sum whose stored weights are exactly the real ones.

    One step for the whole tensor is tried before one for each channel; the smallest integers
    are taken. A channel without weights has the largest unit of the others.

    Args:
        connectivity: over reals.
        sources: ``()`` or (source channels,) real value of one message.
        grid: the stored weights.

    Returns:
        None where the weights of some channel are no multiples of one step within the grid.
    """
    if isinstance(connectivity, Sparse):
        return None
    rows = scale_sources(connectivity, sources).weight.reshape(connectivity.out_shape[0], -1)
    rows = np.asarray(rows, dtype=np.float64)
    largest = np.abs(rows).max(axis=1)
    if not largest.any():
        return None
    levels = np.arange(1, grid.top // grid.step + 1)
    for number in levels:
        if _are_whole(rows, np.array([[largest.max() / number]]), slice(None)).all():
            return np.full(len(rows), largest.max() / number / grid.step)
    steps = np.zeros(len(rows))
    open_rows = np.flatnonzero(largest)
    for number in levels:
        whole = _are_whole(rows, largest[open_rows, None] / number, open_rows)
        steps[open_rows[whole]] = largest[open_rows[whole]] / number
        open_rows = open_rows[~whole]
    if len(open_rows):
        return None
    return np.where(steps > 0, steps, steps.max()) / grid.step


def _are_whole(rows: Array, step: Array, which: Array | slice) -> Array:
    """Of some rows, whether all weights are whole multiples of a step; a few weights decide against most steps."""
    few = rows[which, :: max(rows.shape[1] // 16, 1)] / step
    likely = (np.abs(few - np.rint(few)) <= TOLERANCE).all(axis=1)
    if not likely.any():
        return np.asarray(likely)
    numbers = rows[which] / step
    return np.asarray((np.abs(numbers - np.rint(numbers)) <= TOLERANCE).all(axis=1))
