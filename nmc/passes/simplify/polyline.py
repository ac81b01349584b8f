"""The polyline that comes near to a function: few corners, chosen so that the largest error is small.

All of it is elementary arithmetic in a fixed order; corners are rounded to a coarse grid, so
that the last bit of an exponential decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array
from nmc.kernels.functions import Line

POINTS = 2049
"""Points at which the error is looked at; the error between them is smaller by their distance squared."""

ROUNDS = 40
"""Steps of levelling; the errors of the pieces are equal to a few per cent then."""

GRID = 2.0**-16
"""Corners are multiples of it, relative to the size of the range."""

LEAST = 1e-6
"""Bends smaller than this are left out."""


@dataclass(frozen=True)
class Polyline:
    """``value + sum of slope * relu(side * (x - corner))`` over the hinges.

    Attributes:
        value: at zero.
        hinges: (corner, side, slope); side 1 bends to the right of the corner, -1 to the left.
        error: the largest, over the range.
    """

    value: float
    hinges: tuple[tuple[float, int, float], ...]
    error: float

    def at(self, x: Array) -> Array:
        """Its values."""
        total = np.full(x.shape, self.value)
        for corner, side, slope in self.hinges:
            total = total + slope * np.maximum(side * (x - corner), 0.0)
        return total


def fit_polyline(
    function: Callable[[Array], Array],
    low: float,
    high: float,
    asymptotes: tuple[Line, Line],
    error: float,
    most: int,
) -> Polyline:
    """The polyline with few hinges whose error is at most ``error``, or as small as ``most`` of them allow.

    Zero is a corner where nothing is wrong: hinges on its two sides never add up, which keeps
    the messages of each small. Beyond the range the last piece goes on; where the function has
    come near its asymptote within the range, that is the asymptote.

    Args:
        function: of an array.
        low: end of the range, at most 0.
        high: end of the range, at least 0.
        asymptotes: to the left and to the right.
        error: that is aimed at.
        most: hinges at the most; at least one on each side is made.
    """
    line = _fitted(function, low, high, asymptotes, error, most)
    while line.error > error and error < np.inf:
        # Where so few cannot reach the aim, a nearer one also moves the place where the asymptote begins.
        error *= 1.3
        line = _fitted(function, low, high, asymptotes, error, most)
    return line


def _fitted(
    function: Callable[[Array], Array],
    low: float,
    high: float,
    asymptotes: tuple[Line, Line],
    error: float,
    most: int,
) -> Polyline:
    ends = [(end, line) for end, line in zip((low, high), asymptotes, strict=True) if end != 0]
    sides = [_Side(function, end, line, error) for end, line in ends]
    made = [side.levelled(1) for side in sides]
    while max(side.error for side in made) > error and sum(len(side.corners) - 1 for side in made) < most:
        worst = max(range(len(made)), key=lambda number: made[number].error)
        more = sides[worst].levelled(made[worst].pieces + 1)
        # Where one more does not help, two may.
        made[worst] = more if more.error < made[worst].error else sides[worst].levelled(made[worst].pieces + 2)
    hinges = [hinge for side, bend in zip(sides, made, strict=True) for hinge in side.hinges(bend)]
    line = Polyline(float(function(np.zeros(1))[0]), tuple(hinges), 0.0)
    x = np.linspace(low, high, 2 * POINTS)
    return Polyline(line.value, line.hinges, float(np.abs(line.at(x) - function(x)).max()))


@dataclass(frozen=True, eq=False)
class _Bend:
    """Corners from zero outwards, the values there, and the largest error."""

    corners: Array
    values: Array
    error: float

    @property
    def pieces(self) -> int:
        return len(self.corners) - 1


class _Side:
    """One side of zero, seen as ``f(sign * x)`` over x >= 0.

    Attributes:
        sign: -1 to the left.
        length: of the part with corners.
        tail: slope and value at zero of the asymptote that takes over behind it, or None.
    """

    def __init__(self, function: Callable[[Array], Array], end: float, asymptote: Line, error: float) -> None:
        self.sign = -1 if end < 0 else 1
        self._function = function
        line = (self.sign * asymptote[0], asymptote[1])
        x = np.linspace(0.0, abs(end), POINTS)
        far = np.flatnonzero(np.abs(self.function(x) - (line[0] * x + line[1])) > error / 2)
        first = int(far[-1]) + 1 if len(far) else 1
        self.tail = line if first < POINTS - 1 else None
        self.length = float(x[min(first, POINTS - 1)])

    def function(self, x: Array) -> Array:
        """``f(sign * x)``."""
        return self._function(self.sign * x)

    def levelled(self, pieces: int) -> _Bend:
        """The best corners found for so many pieces: the errors of the pieces become equal."""
        lengths = np.full(pieces, self.length / pieces)
        step, best = GRID * self.length, None
        for _ in range(ROUNDS):
            corners = np.rint(np.append(0.0, np.cumsum(lengths)) / step) * step
            values, errors = self._values(corners)
            if best is None or errors.max() < best.error:
                best = _Bend(corners, values, float(errors.max()))
            # The error of a piece grows with the square of its length.
            ratio = np.maximum(errors.mean(), 1e-12) / np.maximum(errors, 1e-12)
            lengths = np.maximum(lengths * np.clip(ratio**0.3, 0.8, 1.25), 2 * step)
            lengths *= self.length / lengths.sum()
        if best is None:
            raise TypeError("there is at least one round")
        return best

    def _values(self, corners: Array) -> tuple[Array, Array]:
        """Values at the corners that balance the error above and below, and the error of each piece."""
        values = self.function(corners)
        fixed = np.zeros(len(corners), dtype=bool)
        fixed[0] = True
        if self.tail is not None:
            values[-1] = self.tail[0] * corners[-1] + self.tail[1]
            fixed[-1] = True
        points = np.linspace(0.0, 1.0, 65)
        wanted = self.function(corners[:-1, None] + np.diff(corners)[:, None] * points)
        for _ in range(12):
            apart = wanted - (values[:-1, None] + np.diff(values)[:, None] * points)
            above, below = np.maximum(apart.max(axis=1), 0.0), np.minimum(apart.min(axis=1), 0.0)
            inner = np.maximum(above[:-1], above[1:]) + np.minimum(below[:-1], below[1:])
            shift = np.concatenate([[0.0], inner, [above[-1] + below[-1]]]) / 2
            values = np.where(fixed, values, values + shift)
        apart = wanted - (values[:-1, None] + np.diff(values)[:, None] * points)
        return values, np.abs(apart).max(axis=1)

    def hinges(self, bend: _Bend) -> Iterator[tuple[float, int, float]]:
        """(corner, side, slope) of the ReLUs that add up to it."""
        slopes = np.diff(bend.values) / np.diff(bend.corners)
        corners = bend.corners[:-1]
        if self.tail is not None:
            slopes, corners = np.append(slopes, self.tail[0]), bend.corners
        for corner, slope in zip(corners, np.diff(slopes, prepend=0.0), strict=True):
            if abs(slope) > LEAST:
                yield float(self.sign * corner) + 0.0, self.sign, float(slope)
