"""Operators cut in two: partial sums over parts of the sources, and the sum of these.

Relay neurons send their sums as graded messages, so that ``W m = S (P m)`` holds in integers: P has
the weights of W and S has ones. Kernels and matrices are cut at channels of their input, which
makes P a convolution with groups; where that is too coarse, and anything else, synapse by synapse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nmc.ir.connectivity import (
    Array,
    Connectivity,
    Conv2d,
    Dense,
    IndexArray,
    Shape,
    Sparse,
    size,
    sparse_from_synapses,
)

LISTED = 20_000_000
"""Operators with at most so many weights can be cut synapse by synapse."""

ROWS = 1024
"""Rows of a matrix that are looked at together."""


@dataclass(frozen=True, eq=False)
class Cut:
    """An operator in two steps.

    Attributes:
        parts: from the sources to the relays.
        channel: (relay channels,) the output channel of the operator that each helps to make.
        fan_in: relays that one target hears, at most.
        summed: makes ``total``, which may be much larger than ``parts``: only the cut that is taken needs it.
    """

    parts: Conv2d | Sparse
    channel: IndexArray
    fan_in: int
    summed: Callable[[], Conv2d | Sparse]

    @cached_property
    def total(self) -> Conv2d | Sparse:
        """From the relays to the targets; its weights are 0 and 1."""
        return self.summed()

    @property
    def relays(self) -> Shape:
        """Shape of the relay population."""
        return self.parts.out_shape


def cuts(operator: Connectivity, fewest: int) -> Iterator[Cut]:
    """Ways to cut an operator into at least ``fewest`` parts, fewest first."""
    conv = _as_conv(operator) if isinstance(operator, Dense) else operator
    places = 1
    if isinstance(conv, Conv2d):
        places = size(conv.out_shape[1:])
        for count in range(fewest, conv.weight.shape[1] + 1):
            if conv.weight.shape[1] % count == 0:
                yield _at_channels(conv, count, operator.out_shape)
    if operator.weight.size * places <= LISTED:
        widest = int(np.bincount(operator.synapses()[0]).max(initial=0))
        for count in range(fewest, widest + 1):
            yield _by_synapse(operator, -(-widest // count))


def _as_conv(dense: Dense) -> Conv2d:
    """A matrix as a convolution that sees its whole input at one place."""
    channels, *places = dense.in_shape
    height, width = (*places, 1, 1)[:2] if len(places) < 3 else (size(tuple(places)), 1)
    weight = dense.weight.reshape(-1, channels, height, width)
    return Conv2d(weight, (channels, height, width))


def _at_channels(conv: Conv2d, count: int, out_shape: Shape) -> Cut:
    """Each group's input channels in ``count`` equal parts; relays in the order group, part, output channel."""
    out, per_in, kh, kw = conv.weight.shape
    groups, per_out, each = conv.groups, out // conv.groups, per_in // count
    weight = conv.weight.reshape(groups, per_out, count, each, kh, kw).transpose(0, 2, 1, 3, 4, 5)
    parts = Conv2d(
        weight.reshape(groups * count * per_out, each, kh, kw),
        conv.in_shape,
        conv.stride,
        conv.pads,
        conv.dilation,
        groups * count,
    )
    outputs = np.arange(out).reshape(groups, 1, per_out)
    channel = np.broadcast_to(outputs, (groups, count, per_out)).reshape(-1)

    def summed() -> Conv2d | Sparse:
        if size(conv.out_shape[1:]) == 1:
            # A matrix of zeros and a few ones would be as large as the weights.
            relays = np.arange(len(channel))
            return sparse_from_synapses(channel, relays, np.ones(len(channel), np.int64), parts.out_shape, out_shape)
        ones = np.tile(np.eye(per_out, dtype=np.int64), (groups, count))
        return Conv2d(ones[:, :, None, None], parts.out_shape, groups=groups)

    return Cut(parts, channel, count, summed)


def _by_synapse(operator: Connectivity, each: int) -> Cut:
    """At most ``each`` synapses to a relay, in the order of the sources."""
    target, source, weight = operator.synapses()
    order = np.lexsort((source, target))
    target, source, weight = target[order], source[order], weight[order]
    rank = np.arange(len(target)) - np.searchsorted(target, target)
    key, relay = np.unique(target * (size(operator.in_shape) + 1) + rank // each, return_inverse=True)
    shape, into = (len(key),), key // (size(operator.in_shape) + 1)
    parts = sparse_from_synapses(relay.reshape(-1), source, weight, operator.in_shape, shape)
    fan_in = int(np.bincount(into).max(initial=0))

    def summed() -> Sparse:
        return sparse_from_synapses(into, np.arange(len(key)), np.ones(len(key), np.int64), shape, operator.out_shape)

    return Cut(parts, into // size(operator.out_shape[1:]), fan_in, summed)


def largest_sum(operator: Conv2d | Sparse, low: int, high: int) -> int:
    """The largest magnitude that a sum can have with messages from ``low`` to ``high``, low <= 0 <= high."""
    if isinstance(operator, Sparse):
        count, weight = size(operator.out_shape), operator.weight.astype(np.int64)
        signs = [np.bincount(operator.rows, np.maximum(sign * weight, 0), count) for sign in (1, -1)]
        return int(_largest(signs[0], signs[1], low, high))
    flat = operator.weight.reshape(operator.out_shape[0], -1)
    found = 0
    for first in range(0, len(flat), ROWS):
        block = flat[first : first + ROWS]
        positive = np.maximum(block, 0).sum(axis=1)
        found = max(found, int(_largest(positive, positive - block.sum(axis=1), low, high)))
    return found


def _largest(positive: Array, negative: Array, low: int, high: int) -> float:
    up, down = positive * high - negative * low, negative * high - positive * low
    return float(max(up.max(initial=0), down.max(initial=0)))


def measured_sum(cut: Cut, messages: Array) -> int:
    """The largest magnitude of the relays' sums on given messages.

    Args:
        cut: of an operator.
        messages: (M, sources) integers, channels last.
    """
    parts = cut.parts
    if isinstance(parts, Conv2d) and size(parts.out_shape[1:]) == 1 and parts.weight.shape[2:] == parts.in_shape[1:]:
        return _measured_matrix(parts, messages)
    # Imported here: the compiled kernels take a while to load.
    from nmc.kernels.propagate import plan

    total = np.zeros((len(messages), size(parts.out_shape)), dtype=np.int64)
    plan(parts, np.int64).add(np.ascontiguousarray(messages.astype(np.int64)), total)
    return int(np.abs(total).max(initial=0))


def _measured_matrix(parts: Conv2d, messages: Array) -> int:
    """The same for a matrix, a few rows at a time: sums stay below 2^53, so they are exact in float64."""
    channels, *places = parts.in_shape
    values = np.moveaxis(messages.reshape(len(messages), *places, channels), -1, 1).astype(np.float64)
    per_out = parts.weight.shape[0] // parts.groups
    found = 0.0
    for first in range(0, parts.weight.shape[0], per_out):
        group = first // per_out * parts.weight.shape[1]
        heard = values[:, group : group + parts.weight.shape[1]].reshape(len(values), -1).T
        for row in range(first, first + per_out, ROWS):
            block = parts.weight[row : min(row + ROWS, first + per_out)]
            sums = block.reshape(len(block), -1).astype(np.float64) @ heard
            found = max(found, float(np.abs(sums).max(initial=0.0)))
    return int(found)
