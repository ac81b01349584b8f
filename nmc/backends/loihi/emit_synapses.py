"""Projections as stock Lava synapse processes.

A `Sparse` computes ``floor(2**weight_exp * (W m))`` over its whole sum. A projection whose
shift differs between channels becomes one process per distinct shift. A projection bias is
part of the shifted sum: constant neurons behind the source's neurons send 1, 127, 127**2,
... and further columns of the same matrix hold the bias's digits. Where the floor is
linear (no right shift) the bias goes through processes of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Conv2d, Dense, Pool, Shape, Skip, Sparse, size
from nmc.ir.network import Network, Population, Projection
from nmc.ir.neurons import spike_levels
from nmc.ir.reference import per_channel

BASE = 127
"""Of the digits of a bias: doubled digits stay within the even weights of Loihi (+-252)."""

SPIKING_COLUMNS_MAX = 256
"""Constant neurons that a spiking source may get: each of its spikes carries at most +-252."""

GRADED_BITS = 24
"""Message width given to Lava where messages carry values; its CPU models do not enforce it."""


@dataclass(frozen=True, eq=False)
class SynapseGroup:
    """One synapse process.

    Attributes:
        shift: right shift of its sum.
        rows: (targets,) bool, the targets it feeds; None: all.
        bias: (targets, constant neurons) weights of the constant columns, or None.
    """

    shift: int
    rows: Array | None
    bias: Array | None


@dataclass(frozen=True, eq=False)
class SynapsePlan:
    """All processes of one projection.

    Attributes:
        constants: constant neurons that its source needs.
        offset: (targets,) added to the target's sum at every step by processes of their own.
    """

    groups: tuple[SynapseGroup, ...]
    constants: int
    offset: Array


def carries_values(population: Population) -> bool:
    """Whether messages of a population are integers, not spikes."""
    return spike_levels(population.neuron) is None


def message_bits(population: Population) -> int:
    """The width of a message for Lava's synapses; 1 for the spikes that are 0 or 1."""
    levels = spike_levels(population.neuron)
    return GRADED_BITS if levels is None else max(1, levels[1].bit_length() + (levels[0] < 0))


def digits(values: Array) -> Array:
    """(n,) integers to (n, k) digits of their sign in base `BASE`: ``sum(d[:, i] * BASE**i)``."""
    columns: list[Array] = []
    left, sign = np.abs(values), np.sign(values)
    while np.any(left) or not columns:
        columns.append(sign * (left % BASE))
        left = left // BASE
    return np.stack(columns, axis=1)


def shares(values: Array) -> Array:
    """(n,) integers to (n, k) parts of at most ``BASE - 1`` each that add up to them."""
    columns = max(1, -(-int(np.abs(values).max()) // (BASE - 1)))
    done = np.minimum(np.abs(values)[:, None], (BASE - 1) * np.arange(columns + 1)[None, :])
    parts: Array = np.sign(values)[:, None] * np.diff(done, axis=1)
    return parts


def constant_messages(count: int) -> tuple[int, ...]:
    """What the constant neurons of a graded population send."""
    return tuple(BASE**i for i in range(count))


def plan_projection(projection: Projection, graded: bool) -> SynapsePlan:
    """Decide the processes of a projection.

    Args:
        projection: integer weights, shift and bias.
        graded: whether the source's messages carry values (constant neurons send powers of
            `BASE`; otherwise they spike in every step).
    """
    shape = projection.connectivity.out_shape
    shifts = np.broadcast_to(per_channel(projection.shift, shape), shape).reshape(-1)
    bias = np.zeros(shape, dtype=np.int64)
    if projection.bias is not None:
        bias = bias + per_channel(projection.bias, shape)
    bias = bias.reshape(-1)
    offset = np.zeros(size(shape), dtype=np.int64)
    groups = []
    distinct = np.unique(shifts)
    for shift in (int(k) for k in distinct):
        rows = shifts == shift
        columns = None
        if shift <= 0:
            offset += np.where(rows, bias << -shift, 0)
        elif np.any(bias[rows]):
            masked = np.where(rows, bias, 0)
            columns, lifted = _bias_columns(projection.connectivity.weight, masked, rows, shift, graded)
            offset += np.where(rows, lifted, 0)
        groups.append(SynapseGroup(shift, rows if len(distinct) > 1 else None, columns))
    constants = max((g.bias.shape[1] for g in groups if g.bias is not None), default=0)
    return SynapsePlan(tuple(groups), constants, offset)


def _bias_columns(weight: Array, bias: Array, rows: Array, shift: int, graded: bool) -> tuple[Array, int]:
    """Columns for a bias inside a sum that is shifted right, and what to add after the shift."""
    split = digits if graded else shares
    if not np.any(weight & 1):
        # An even sum plus an odd bias and the same plus the bias less one have equal halves.
        return 2 * split(bias >> 1), 0
    # Odd weights have one sign (Lava floors odd weights of mixed matrices): give the bias
    # the same sign by whole units of the shifted result, and take these back afterwards.
    positive = bool(weight.min() >= 0)
    units = max(0, -(int(bias.min()) >> shift)) if positive else min(0, -int(bias.max()) >> shift)
    return split(np.where(rows, bias + (units << shift), 0)), -units


def matrix_text(number: int, connectivity: Connectivity, arrays: dict[str, Array]) -> str:
    """The expression that builds the weight matrix in the program; adds its arrays.

    Raises:
        TypeError: a connectivity that the IR does not have.
    """
    key = f"projection_{number}"
    arrays[f"{key}_weight"] = connectivity.weight
    weight = f'a["{key}_weight"]'
    match connectivity:
        case Dense():
            return f"dense({weight})"
        case Conv2d():
            geometry = (connectivity.in_shape, connectivity.stride, connectivity.pads, connectivity.dilation)
            return f"convolution({weight}, {', '.join(map(int_tuple, geometry))}, {int(connectivity.groups)})"
        case Pool():
            pooled = (connectivity.in_shape, connectivity.kernel, connectivity.stride, connectivity.pads)
            return f"pool({weight}, {', '.join(map(int_tuple, pooled))})"
        case Skip():
            return f"skip({weight}, {size(connectivity.in_shape[1:])})"
        case Sparse():
            arrays[f"{key}_indptr"], arrays[f"{key}_indices"] = connectivity.indptr, connectivity.indices
            shape = (size(connectivity.out_shape), size(connectivity.in_shape))
            return f'sparse({weight}, a["{key}_indptr"], a["{key}_indices"], {int_tuple(shape)})'
        case _:
            raise TypeError(f"no Lava form of {type(connectivity).__name__}")


def array_text(key: str, values: Array, shape: Shape, arrays: dict[str, Array]) -> str:
    """The expression for values per neuron, (neurons, ...); stored once per channel where that is enough."""
    per = size(shape[1:])
    by_channel = values.reshape(shape[0], per, *values.shape[1:])
    if per > 1 and np.array_equal(by_channel, np.broadcast_to(by_channel[:, :1], by_channel.shape)):
        arrays[key] = by_channel[:, 0]
        return f'spread(a["{key}"], {per})'
    arrays[key] = values
    return f'a["{key}"]'


def int_tuple(values: Shape) -> str:
    """A tuple of integers as source text, whatever integer type they had."""
    return repr(tuple(int(v) for v in values))


def float_tuple(values: tuple[float, ...]) -> str:
    """A tuple of numbers as source text, to the last bit."""
    return repr(tuple(float(v) for v in values))


def connect_lines(
    number: int,
    projection: Projection,
    plan: SynapsePlan,
    ends: tuple[str, str],
    bits: int,
    arrays: dict[str, Array],
) -> list[str]:
    """Source lines that make the processes of one projection; adds their arrays.

    Args:
        number: of the projection.
        projection: what to write.
        plan: its processes.
        ends: expressions of the source and of the target process.
        bits: of a message.
        arrays: where weights, shifts and bias columns go.
    """
    source, target = ends
    lines = [f"# Projection {number}: from {source} to {target}."]
    lines.append(f"weights = {matrix_text(number, projection.connectivity, arrays)}")
    if any(group.rows is not None for group in plan.groups):
        shape = projection.connectivity.out_shape
        shifts = np.broadcast_to(per_channel(projection.shift, shape), shape)
        lines.append(f"shifts = {array_text(f'projection_{number}_shift', shifts.reshape(-1), shape, arrays)}")
    settings = f"delay={int(projection.delay)}, bits={bits}"
    for index, group in enumerate(plan.groups):
        text = f"connect({source}, {target}, weights, {settings}, exponent={-group.shift}"
        if group.rows is not None:
            text += f", rows=shifts == {group.shift}"
        if group.bias is not None:
            shape = projection.connectivity.out_shape
            text += f", bias={array_text(f'projection_{number}_bias_{index}', group.bias, shape, arrays)}"
        lines.append(text + ")")
    return lines


def offset_lines(target: int, offset: Array, shape: Shape, arrays: dict[str, Array]) -> list[str]:
    """Source lines for constant sums into a population, one process per sign; adds their arrays."""
    lines = []
    for sign, part in (("positive", np.maximum(offset, 0)), ("negative", np.minimum(offset, 0))):
        if np.any(part):
            columns = digits(part)
            matrix = array_text(f"population_{target}_{sign}", columns, shape, arrays)
            values = int_tuple(constant_messages(columns.shape[1]))
            lines.append(f"constants(net[{target}], {matrix}, {values})")
    return lines


def plan_network(network: Network) -> tuple[Mapping[str, SynapsePlan], Mapping[str, int]]:
    """Plans by projection name, and constant neurons by population name."""
    plans = {p.name: plan_projection(p, carries_values(network.by_name[p.source])) for p in network.projections}
    constants = {
        population.name: max((plans[p.name].constants for p in network.outgoing[population.name]), default=0)
        for population in network.populations
    }
    return plans, constants
