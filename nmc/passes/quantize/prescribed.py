"""Populations whose step is prescribed: the fine sums of a file that brings its quantization along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import REST, Network, Population, Projection
from nmc.ir.reference import per_channel
from nmc.kernels.layerwise import LaidProjection
from nmc.kernels.propagate import largest_products
from nmc.passes.convert.convert_rate import scale_sources
from nmc.passes.quantize.fit_graded import SUM_ROOM, Fitted, GradedFit, largest_sums
from nmc.passes.quantize.fixed_point import by_output


def prescribed_step(network: Network, population: Population) -> float | None:
    """The step of the message of a population whose synapses are two weights each; None for others."""
    split = any(p.name.endswith(REST) for p in network.incoming[population.name])
    return network.codes[population.name].scale if split else None


@dataclass(frozen=True, eq=False)
class _Stored:
    """The integers of one projection, and the real weights that they leave."""

    weight: Array
    shift: Array
    rest: Array


def fit_prescribed(
    fit: GradedFit,
    population: Population,
    incoming: tuple[Projection, ...],
    scales: Mapping[str, Array],
    messages: Mapping[str, Array],
    reach: Mapping[str, Array],
    top: Array,
    step: float,
) -> tuple[Fitted, float] | None:
    """Integer projections whose sums have one step; each synapse is the sum of two stored weights.

    A projection whose name ends in `REST`, of weight 0 over reals, stores what the rounding of the
    one before it has left, with a shift of its own.

    Args:
        fit: limits and grid.
        population: what is fitted.
        incoming: its projections over reals.
        scales: real value of a message, by source.
        messages: integer messages by source on calibration inputs, (N, n) channels last.
        reach: largest size of a message, by source.
        top: (C,) largest activations.
        step: the real value of one unit of the message.

    Returns:
        the projections, and the most that stored weights and shifts change a sum by on the calibration inputs,
        in real units; None where the target cannot hold such messages, weights or sums.
    """
    if float(top.max()) > fit.widest * step:
        return None
    stored: list[Projection] = []
    rest, apart = np.zeros(0), 0.0
    for number, projection in enumerate(incoming):
        connectivity = projection.connectivity
        split = projection.name.endswith(REST)
        real = rest if split else scale_sources(connectivity, scales[projection.source]).weight
        biases = [] if number else [p.bias for p in incoming if p.bias is not None]
        beside = sum((float(np.abs(bias).max()) for bias in biases), 0.0)
        found = _rounded(fit, replace(projection, connectivity=connectivity.with_weight(real)), reach, beside, step)
        if found is None:
            return None
        rest = found.rest
        apart += step / 2 if np.any(found.shift > 0) else 0.0
        if number + 1 == len(incoming) or not incoming[number + 1].name.endswith(REST):
            left = replace(projection, connectivity=connectivity.with_weight(rest), bias=None)
            apart += float(np.abs(LaidProjection.lay(left).sums(messages[projection.source])).max(initial=0.0))
        bias = _stored_bias(biases, population, found.shift, step)
        weights = connectivity.with_weight(found.weight)
        stored.append(replace(projection, connectivity=weights, shift=found.shift, bias=bias))
    return Fitted(stored, np.full(population.shape[0], step), None), apart


def _stored_bias(biases: list[Array], population: Population, shift: Array, step: float) -> Array | None:
    """Real biases before a shift, and the half unit that makes a rounding of its floor; None where all is 0."""
    total = np.where(shift > 0, np.exp2(shift - 1.0), 0.0)
    for bias in biases:
        shape = population.shape if bias.ndim > 1 or total.ndim > 1 else total.shape
        total = per_channel(total, shape) + per_channel(bias, shape) * per_channel(np.exp2(shift) / step, shape)
    whole = np.rint(total).astype(np.int64)
    return whole if whole.any() else None


def _rounded(
    fit: GradedFit, real: Projection, reach: Mapping[str, Array], beside: float, step: float
) -> _Stored | None:
    """Weights in units of the source's message, stored with the largest shifts for which they and their sums fit.

    Args:
        fit: limits and grid.
        real: over reals.
        reach: largest size of a message, by source.
        beside: largest bias that is added to a sum.
        step: the real value of one unit of the message.
    """
    connectivity = real.connectivity
    largest = np.maximum(largest_products(connectivity) / step, 1e-200)
    sums = np.maximum((largest_sums(connectivity, reach[real.source]) + beside) / step, 1e-200)
    room = np.minimum(fit.grid.top / largest, SUM_ROOM * fit.sum_limit / sums)
    wanted = np.floor(np.log2(room) + 1e-9)
    if np.any(wanted < fit.shift_min):
        return None
    shift = np.minimum(wanted, fit.shift_max).astype(np.int64)
    unit = by_output(connectivity, np.exp2(shift) / step)
    weight = fit.grid.round(connectivity.weight * unit)
    return _Stored(weight, shift, connectivity.weight - weight / unit)
