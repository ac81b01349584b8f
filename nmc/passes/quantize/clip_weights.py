"""Finer steps for few bits: the scale of each channel at which its stored weights are off by least.

A channel whose largest weight fills the range has the widest step. With few bits a narrower
step, at which the largest weights are clipped, leaves less error, because the rounding of the
others makes up for what they lose. A shortcut has one weight, which may be off by an eighth
with four bits: scales at which it is stored as it is are tried too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, Conv2d, Dense, Skip
from nmc.ir.network import Projection
from nmc.kernels.calibrate_solve import ordered_product
from nmc.kernels.propagate import column_groups
from nmc.kernels.rounding import covariance
from nmc.passes.quantize.fixed_point import WeightGrid
from nmc.passes.quantize.round_weights import input_vectors, round_weights

FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6)
"""Steps tried, relative to the one that clips nothing."""

FACTOR_RANGE = (0.55, 1.1)
"""Of the steps at which a shortcut is exact."""

LEVELS_MAX = 31
"""Levels of a sign (6 bits) up to which steps are tried: with more, clipping gains nothing."""

COLUMNS_MAX = 2304
"""Inputs of a neuron up to which steps are tried: a covariance of more takes too long."""


def coarse(grid: WeightGrid) -> bool:
    """Whether weights have so few levels that narrower steps may be better."""
    return grid.top // grid.step <= LEVELS_MAX


@dataclass(frozen=True, eq=False)
class Channels:
    """A projection, the shortcuts beside it, and how they are stored as long as nothing is clipped.

    Attributes:
        main: the projection, over reals.
        skips: shortcuts to the same population.
        messages: by source, (N, n) integers on calibration inputs, channels last.
        scales: of the sources.
        shift: (C,) of the main projection.
        scale: (C,) real value of one unit of the message.
    """

    main: Projection
    skips: Sequence[Projection]
    messages: Mapping[str, Array]
    scales: Mapping[str, Array]
    shift: Array
    scale: Array


def best_factors(channels: Channels, grid: WeightGrid, allowed: Array, shift_range: tuple[int, int]) -> Array:
    """(C,) what to multiply the scale of each channel with.

    Args:
        channels: of one population.
        grid: the weights that the target stores.
        allowed: (C,) smallest factor.
        shift_range: right shifts that the target has.
    """
    connectivity = channels.main.connectivity
    ones = np.ones(len(channels.scale))
    if not coarse(grid) or not isinstance(connectivity, Conv2d | Dense):
        return ones
    if column_groups(connectivity)[1].shape[1] > COLUMNS_MAX:
        return ones
    vectors = input_vectors(connectivity, channels.messages[channels.main.source])
    spread = covariance(vectors)
    best, least = ones, np.full(len(ones), np.inf)
    for factor in (*(value * ones for value in FACTORS), *_exact(channels, grid)):
        tried = np.where(factor >= allowed, factor, 1.0)
        error = _error(channels, grid, tried, spread, shift_range)
        best, least = np.where(error < least, tried, best), np.minimum(error, least)
    return best


def _exact(channels: Channels, grid: WeightGrid) -> Iterator[Array]:
    """Factors at which the weight of a shortcut is a stored one."""
    levels = grid.top // grid.step
    for skip in channels.skips:
        if not isinstance(skip.connectivity, Skip):
            continue
        ratio = np.abs(skip.connectivity.weight * channels.scales[skip.source]) / channels.scale
        for level in range(levels // 2 + 1, levels + 1):
            factor = np.where(ratio > 0, ratio, 1.0) / level
            yield factor * np.exp2(np.floor(np.log2(FACTOR_RANGE[1] / factor)))


def _error(channels: Channels, grid: WeightGrid, factor: Array, spread: Array, shift_range: tuple[int, int]) -> Array:
    """(C,) variance of what rounding changes the sums by, in real values."""
    connectivity, source = channels.main.connectivity, channels.main.source
    step = channels.scale * factor * np.exp2(-channels.shift.astype(np.float64))
    stored = round_weights(connectivity, channels.messages[source], grid, channels.scales[source], 1.0 / step)
    groups, columns = column_groups(connectivity)
    by_column = np.broadcast_to(channels.scales[source], connectivity.in_shape[:1])[columns]
    rows = (len(step), *(1,) * (connectivity.weight.ndim - 1))
    wanted = connectivity.weight.reshape(groups, -1, columns.shape[1]) * by_column[:, None]
    off = (stored * step.reshape(rows)).reshape(wanted.shape) - wanted
    total = np.concatenate([(ordered_product(off[g], spread[g]) * off[g]).sum(axis=1) for g in range(groups)])
    for skip in channels.skips:
        if isinstance(skip.connectivity, Skip):
            real = skip.connectivity.weight * channels.scales[skip.source]
            unit = channels.scale * factor
            room = grid.top / np.maximum(np.abs(real) / unit, 1e-300)
            own = np.clip(np.floor(np.log2(room) + 1e-9), *shift_range)
            change = grid.round(real / unit * np.exp2(own)) * unit * np.exp2(-own) - real
            values = channels.messages[skip.source].reshape(-1, len(step)).astype(np.float64)
            total = total + np.square(change) * values.var(axis=0)
    return np.asarray(total)
