"""Proofs of the integers: they are roundings of the real network, and fit the chip.

A quantized population is right if there is one unit per channel in which all of its stored
numbers, weights, threshold, bias, initial potential and the decode scale, are the real ones
rounded. The unit is not asked of the pass: every stored number confines it to an interval,
and the intervals must have a point in common.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    NO_MEMORY,
    STATE_LIMIT,
    IdealIntegrator,
    Integrator,
    Signed,
    Source,
    spike_levels,
)
from nmc.ir.origin import Origin
from nmc.ir.reference import per_channel
from nmc.kernels.propagate import row_sums
from nmc.passes.quantize.fixed_point import WeightGrid, weight_grid

UNIT = 64
"""Units of v per unit of a synaptic sum (docs/arithmetic.md section 2)."""

ELEMENTS = 1 << 20
"""Weights looked at together."""

Problem = tuple[str, Origin | None]


class _Units:
    """Interval of the real value of one unit, per channel."""

    def __init__(self, channels: int) -> None:
        self.low, self.high = np.zeros(channels), np.full(channels, np.inf)

    def confine(self, real: Array, stored: Array, half: Array, rows: Array) -> None:
        """``real`` lies within ``unit * (stored +- half)``; all of them broadcastable, ``rows`` the channels."""
        real, stored, half, rows = np.broadcast_arrays(real, stored, half * (1 + 1e-9) + 1e-9, rows)
        size_, facing = np.abs(real), stored * np.where(real < 0, -1.0, 1.0)
        zero = size_ == 0
        least = np.where(zero, 0.0, size_ / np.maximum(facing + half, 1e-300))
        most = np.where(zero | (facing <= half), np.inf, size_ / np.where(facing > half, facing - half, 1.0))
        # What was zero stays zero: no unit makes anything else of it.
        least = np.where(zero & (np.abs(stored) > half), np.inf, least)
        np.maximum.at(self.low, rows.reshape(-1), least.reshape(-1))
        np.minimum.at(self.high, rows.reshape(-1), most.reshape(-1))

    def broken(self) -> Array:
        """(n,) channels without any possible unit."""
        return np.flatnonzero(self.low > self.high * (1 + 1e-9))


def rounding_problems(before: Network, after: Network, target: Target, bits: int | None) -> Iterator[Problem]:
    """The integers of a spiking network are its reals, rounded.

    Populations over graded messages are judged by their layers' errors (`nmc.runtime.error_model`).
    """
    grid = weight_grid(target.weights, bits)
    for population in after.populations:
        old = before.by_name.get(population.name)
        if old is None or not isinstance(old.neuron, IF | IdealIntegrator):
            continue
        if population.name in after.by_input:
            yield from _input_problems(old, population, after)
            continue
        units = _Units(population.shape[0])
        pairs = _pairs(before, after, population.name)
        for real, stored in pairs:
            _confine_weights(units, real, stored, grid, _cut(population))
        floors = sum(bool(np.any(stored.shift > 0)) for _, stored in pairs)
        yield from _confine_neuron(units, old, population, floors)
        for was, now in zip(before.outputs, after.outputs, strict=True):
            if now.population == population.name:
                scale = np.broadcast_to(now.scale / was.scale * UNIT, units.low.shape)
                units.confine(scale, np.ones(1), np.zeros(1), np.arange(len(scale)))
        broken = units.broken()
        if len(broken):
            yield (
                f"the integers of '{population.name}' are no rounding of its real weights, threshold, bias and "
                f"decode scale in {len(broken)} of {len(units.low)} channels, the first of them {broken[0]}",
                population.origin,
            )
    yield from _scale_problems(before, after)


def _pairs(before: Network, after: Network, name: str) -> list[tuple[Projection, Projection]]:
    known = {p.name: p for p in before.projections}
    return [(known[p.name], p) for p in after.incoming[name] if p.name in known]


def _cut(population: Population) -> Array:
    """(C,) share by which the largest weights may have been cut: a threshold that takes a level moves the unit."""
    if not isinstance(population.neuron, LIF):
        return np.zeros(population.shape[0])
    full = np.broadcast_to(population.neuron.threshold, population.shape).reshape(population.shape[0], -1)
    return np.asarray(0.5 / full.min(axis=1))


def _confine_weights(units: _Units, real: Projection, stored: Projection, grid: WeightGrid, cut: Array) -> None:
    connectivity = stored.connectivity
    old, new, rows = real.connectivity.weight, connectivity.weight, connectivity.row_channel()
    by_row = np.exp2(-np.broadcast_to(stored.shift, units.low.shape).astype(np.float64))
    for part in _blocks(new):
        factor = by_row[rows[part]]
        more = np.where(np.abs(new[part]) >= grid.top, 1.01 * cut[rows[part]] * grid.top, 0.0)
        half = grid.step / 2 + more
        units.confine(old[part], new[part] * factor, half * factor, rows[part])


def _blocks(weight: Array) -> Iterator[slice]:
    """Parts of a weight array along its first axis: a large one is never copied whole."""
    length = max(ELEMENTS * len(weight) // max(weight.size, 1), 1)
    return (slice(first, first + length) for first in range(0, len(weight), length))


def _confine_neuron(units: _Units, old: Population, new: Population, floors: int) -> Iterator[Problem]:
    """Threshold, bias and initial potential; the rules that a neuron follows are the same."""
    real, stored = old.neuron, new.neuron
    rows = np.arange(len(units.low)).reshape(-1, *(1,) * (len(new.shape) - 1))
    if isinstance(real, IF) and isinstance(stored, LIF):
        # A threshold of one is the smallest there is: what is below it is raised.
        half = np.where(stored.threshold == 1, 1.0, 0.5)
        units.confine(real.threshold, stored.threshold, half, rows)
        units.confine(real.v0, stored.v0 / UNIT, np.asarray(0.5 / UNIT), rows)
        if isinstance(real.fire, Signed) and isinstance(stored.fire, Signed):
            units.confine(real.fire.lower, stored.fire.lower, np.asarray(0.5), rows)
        rules = (real.reset, type(real.fire), getattr(real.fire, "levels", 1), getattr(real.fire, "guarded", True))
        if rules != (
            stored.reset,
            type(stored.fire),
            getattr(stored.fire, "levels", 1),
            getattr(stored.fire, "guarded", True),
        ):
            yield f"the neurons of '{new.name}' fire or reset by another rule", new.origin
        if (stored.du, stored.dv, stored.refractory) != (NO_MEMORY, real.dv, 0):
            yield f"the neurons of '{new.name}' leak or rest otherwise than the real ones", new.origin
    elif isinstance(real, IdealIntegrator) and isinstance(stored, Integrator):
        if np.any(stored.v0):
            yield f"the read-out '{new.name}' starts from another potential than 0", new.origin
    else:
        yield f"'{new.name}' became a {type(stored).__name__} of a {type(real).__name__}", new.origin
        return
    # Each right shift floors; half a unit of the sum for each puts the mean back.
    bias = stored.bias / UNIT - floors / 2
    half = np.exp2(stored.bias_exp.astype(np.float64)) / (2 * UNIT)
    units.confine(per_channel(real.bias, new.shape), bias, half, rows)


def _input_problems(old: Population, new: Population, network: Network) -> Iterator[Problem]:
    """An input driven by its bias: its unit is one count of the integer input."""
    real, stored = old.neuron, new.neuron
    if not isinstance(real, IF) or not isinstance(stored, LIF):
        yield f"the input '{new.name}' became a {type(stored).__name__}", new.origin
        return
    exponent = network.by_input[new.name].bias_exp
    unit = float(1 << exponent)
    apart = np.abs(stored.threshold * UNIT - real.threshold * unit).max()
    start = np.abs(stored.v0 - real.v0 * unit).max()
    if apart > UNIT / 2 or start > UNIT / 2 or np.any(stored.bias_exp != exponent) or stored.reset is not real.reset:
        yield f"the neurons of the input '{new.name}' are no rounding of the real ones", new.origin


def _scale_problems(before: Network, after: Network) -> Iterator[Problem]:
    """What a spike is worth does not depend on how weights are stored."""
    for population in before.populations:
        spiking = isinstance(population.neuron, IF) and population.name in after.by_name
        if spiking and not np.array_equal(before.scales[population.name], after.scales[population.name]):
            yield f"a spike of '{population.name}' is worth something else than before", population.origin


def limit_problems(network: Network, target: Target) -> Iterator[Problem]:
    """Every stored number fits the width that the target has for it."""
    limits, neurons = target.weights, target.neurons
    for projection in network.projections:
        weight = projection.connectivity.weight
        if weight.size:
            low, high = int(weight.min()), int(weight.max())
            odd = any(bool(np.any(weight[part] % limits.step)) for part in _blocks(weight))
            if low < limits.low or high > limits.high or odd:
                yield (
                    f"'{projection.name}' has weights {low} to {high}{' between the steps' if odd else ''}; the target "
                    f"stores multiples of {limits.step} from {limits.low} to {limits.high}",
                    projection.origin,
                )
        least, most = int(projection.shift.min()), int(projection.shift.max())
        below = limits.exponent_min is not None and -most < limits.exponent_min
        above = limits.exponent_max is not None and -least > limits.exponent_max
        if below or above or not 1 <= projection.delay <= limits.delay_max:
            yield (
                f"'{projection.name}' has exponents {-most} to {-least} and the delay {projection.delay}, beyond the "
                "target's",
                projection.origin,
            )
    for population in network.populations:
        neuron = population.neuron
        if isinstance(neuron, LIF) and int(np.max(neuron.threshold)) > neurons.threshold_max:
            yield f"a threshold of '{population.name}' exceeds {neurons.threshold_max}", population.origin
        if isinstance(neuron, LIF | Integrator) and (
            int(np.abs(neuron.bias_mant).max()) > neurons.bias_mantissa_max
            or int(neuron.bias_exp.max()) > neurons.bias_exponent_max
        ):
            yield f"a bias of '{population.name}' exceeds the target's mantissa or exponent", population.origin


def accumulator_problems(network: Network) -> Iterator[Problem]:
    """No sum of a spiking network reaches 2^17, where the current of a LIF would wrap: bounds of the stored weights."""
    for population in network.populations:
        if not isinstance(population.neuron, LIF | Integrator) or not network.incoming[population.name]:
            continue
        low, high = 0.0, 0.0
        for projection in network.incoming[population.name]:
            source = network.by_name[projection.source].neuron
            if isinstance(source, Source):
                spec = network.by_input[projection.source]
                reach: tuple[int, int] | None = (spec.low, spec.high)
            else:
                reach = spike_levels(source)
            if reach is None:
                return
            least, most = row_sums(projection.connectivity, *reach)
            factor = np.exp2(-projection.shift.astype(np.float64))
            low, high = low + np.floor(least * factor), high + np.floor(most * factor)
        worst = float(max(-np.min(low), np.max(high)))
        if worst * UNIT >= STATE_LIMIT:
            yield f"a sum of '{population.name}' may reach {worst:.0f}; the current wraps at 2^17", population.origin
