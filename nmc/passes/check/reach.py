"""Synapses recounted from the operators: how often each source neuron reaches a box of targets.

Written apart from the partitioner's geometry on purpose. A convolution is recounted backwards: each
tap adds the synapses of its channels to the places that it reads, in the window of these places
only. Small operators, and irregular ones of any size, are recounted from the list of their synapses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, IndexArray, Pool, Shape, Skip, size
from nmc.ir.mapping import Box, Region
from nmc.ir.network import Network, Projection
from nmc.passes.check.window import Counts, Window, flat_neurons, times_held

Mask = NDArray[np.bool_]

LISTED = 200_000
"""Operators with at most so many possible synapses are recounted from their list."""

KEPT = 1 << 24
"""Numbers kept of tap counts at most (64 MiB); then they are counted again."""

KEPT_READS = 1 << 16
"""Ranges of rows and columns of which it is kept what they read."""

Range = tuple[int, int, int]


@dataclass(frozen=True)
class Coverage:
    """What axon regions do to the synapses of one projection into one slice.

    Attributes:
        synapses: all of them.
        dropped, doubled: synapses without an axon, and with several.
        idle: axons without a synapse.
    """

    synapses: int
    dropped: int
    doubled: int
    idle: int


class Reach(Protocol):
    """What a box of target neurons gets from one projection."""

    def against(self, regions: Sequence[Region]) -> Coverage:
        """Compare with the regions of the axon entries."""
        ...


@dataclass(frozen=True, eq=False)
class WindowReach:
    """Synapses counted in a window of the source population.

    Attributes:
        per_source: (window,) synapses of each source neuron into the box.
    """

    window: Window
    per_source: Counts

    def against(self, regions: Sequence[Region]) -> Coverage:
        total = int(self.per_source.sum(dtype=np.int64))
        if not regions:
            return Coverage(total, total, 0, 0)
        if len(regions) == 1 and regions[0] == (self.window.box,) and self.per_source.all():
            return Coverage(total, 0, 0, 0)
        window = self.window.with_boxes([box for region in regions for box in region])
        covered = times_held(regions, window)
        inner = covered[window.place_of(self.window)]
        outside = np.count_nonzero(covered) - np.count_nonzero(inner)
        needed = self.per_source > 0
        if outside == 0 and np.array_equal(inner, needed):
            return Coverage(total, 0, 0, 0)
        return Coverage(
            total,
            int(self.per_source[inner == 0].sum(dtype=np.int64)),
            int(self.per_source[inner > 1].sum(dtype=np.int64)),
            int(outside + np.count_nonzero(inner[~needed])),
        )


@dataclass(frozen=True, eq=False)
class ListedReach:
    """Synapses counted for the source neurons that have one.

    Attributes:
        shape: of the source population.
        sources, counts: flat source neurons, ascending, and their synapses into the box.
    """

    shape: Shape
    sources: IndexArray
    counts: IndexArray

    def against(self, regions: Sequence[Region]) -> Coverage:
        heard = [flat_neurons(region, self.shape) for region in regions]
        if len(heard) == 1 and np.array_equal(heard[0], self.sources):
            return Coverage(int(self.counts.sum()), 0, 0, 0)
        neurons, times = np.unique(np.concatenate([np.zeros(0, np.int64), *heard]), return_counts=True)
        covered = np.zeros(len(self.sources), dtype=np.int64)
        at = np.searchsorted(self.sources, neurons)
        known = at < len(self.sources)
        known[known] = self.sources[at[known]] == neurons[known]
        covered[at[known]] = times[known]
        return Coverage(
            int(self.counts.sum()),
            int(self.counts[covered == 0].sum()),
            int(self.counts[covered > 1].sum()),
            int(np.count_nonzero(~known)),
        )


@dataclass(frozen=True, eq=False)
class Taps:
    """The kernel entries that a box uses.

    Attributes:
        channels: output channels.
        taps: (kh, kw), or (channels, kh, kw) where they differ.
    """

    channels: IndexArray
    taps: Mask


class Recount:
    """Counts synapses of the projections of one network; keeps what many boxes ask for.

    Attributes:
        digits: base-127 digits of the largest bias of a projection in a box, and non-zero ones of all of them.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._lists: dict[str, tuple[IndexArray, IndexArray]] = {}
        self._kernels: dict[str, Counts] = {}
        self._taps: dict[tuple[str, tuple[int, int, int]], tuple[int, Counts]] = {}
        self._kept = 0
        self._reads: dict[tuple[str, int, Range], list[Range | None]] = {}
        self._stored: dict[tuple[str, tuple[bytes, ...]], int] = {}
        self.digits: dict[tuple[str, Box], tuple[int, int]] = {}

    def reach(self, projection: Projection, box: Box) -> Reach:
        """The synapses of a projection into a box of its target population."""
        source = self._network.by_name[projection.source].shape
        target = self._network.by_name[projection.target].shape
        operator = projection.connectivity
        if isinstance(operator, Pool):
            operator = operator.as_conv()
        straight = lifted(source) == operator.in_shape and lifted(target) == operator.out_shape
        if isinstance(operator, Dense):
            rows = flat_neurons((box,), target)
            counts = np.count_nonzero(operator.weight[rows], axis=0).astype(np.int32).reshape(source)
            return WindowReach(Window((0,) * len(source), source), counts)
        if isinstance(operator, Conv2d) and possible_synapses(operator) > LISTED:
            if straight:
                return _flat_window(self._conv(projection.name, operator, _lifted_box(box)), len(source))
            return _masked(operator, _flattened(operator, box, target), source)
        if isinstance(operator, Skip) and source == target == operator.in_shape:
            return _skip(operator, box)
        return self._listed(projection.name, operator, flat_neurons((box,), target), source)

    def taps(self, projection: Projection, box: Box) -> Taps | None:
        """The kernel entries that a box of targets uses; None: the operator has no kernel."""
        target = self._network.by_name[projection.target].shape
        match projection.connectivity:
            case Pool() as pool:
                return self._used_taps(projection.name, pool.as_conv(), box, target)
            case Conv2d() as conv:
                return self._used_taps(projection.name, conv, box, target)
            case Skip() as skip:
                if target == skip.in_shape:
                    channels = np.arange(*box[0])
                else:
                    channels = np.unique(flat_neurons((box,), target) // (size(skip.in_shape) // skip.in_shape[0]))
                return Taps(channels, np.ones((1, 1), dtype=np.bool_))
        return None

    def _used_taps(self, name: str, conv: Conv2d, box: Box, target: Shape) -> Taps:
        if lifted(target) != conv.out_shape:
            return _taps_of_places(conv, box, target)
        box = _lifted_box(box)
        rows, columns = ([part is not None for part in self._read(name, conv, a, box[1 + a])] for a in (0, 1))
        return Taps(np.arange(*box[0]), np.outer(rows, columns))

    def kernel(self, projection: Projection) -> Counts:
        """(out, kh, kw) non-zero entries of each output channel and tap, over input channels; (C, 1, 1) of a skip."""
        if projection.name not in self._kernels:
            operator = projection.connectivity
            weight = operator.as_conv().weight if isinstance(operator, Pool) else operator.weight
            if weight.ndim == 1:
                weight = weight[:, None, None, None]
            self._kernels[projection.name] = np.count_nonzero(weight, axis=1).astype(np.int32)
        return self._kernels[projection.name]

    def stored(self, projection: Projection, boxes: Sequence[Box]) -> int:
        """Distinct non-zero kernel entries that some boxes of targets use together."""
        found = [taps for box in boxes if (taps := self.taps(projection, box)) is not None]
        key = projection.name, tuple(part.tobytes() for taps in found for part in (taps.channels, taps.taps))
        if key not in self._stored:
            kernel = self.kernel(projection)
            used = np.zeros(kernel.shape, dtype=np.bool_)
            for taps in found:
                used[taps.channels] |= taps.taps
            if len(self._stored) >= KEPT_READS:
                self._stored.clear()
            self._stored[key] = int(kernel[used].sum(dtype=np.int64))
        return self._stored[key]

    def _listed(self, name: str, operator: Connectivity, targets: IndexArray, shape: Shape) -> ListedReach:
        if name not in self._lists:
            target, source, _ = operator.synapses()
            starts = np.zeros(size(operator.out_shape) + 1, dtype=np.int64)
            np.cumsum(np.bincount(target, minlength=len(starts) - 1), out=starts[1:])
            self._lists[name] = starts, source[np.argsort(target, kind="stable")]
        starts, source = self._lists[name]
        many = starts[targets + 1] - starts[targets]
        ends = np.cumsum(many)
        entries = np.repeat(starts[targets] - (ends - many), many) + np.arange(int(many.sum()))
        return ListedReach(shape, *np.unique(source[entries], return_counts=True))

    def _conv(self, name: str, conv: Conv2d, box: Box) -> WindowReach:
        first, counts = self._tap_counts(name, conv, box[0])
        rows, columns = self._read(name, conv, 0, box[1]), self._read(name, conv, 1, box[2])
        low_y, high_y = _span(rows)
        low_x, high_x = _span(columns)
        window = Window((first, low_y, low_x), (first + len(counts), high_y, high_x))
        per_source = np.zeros(window.shape, dtype=np.int32)
        for p, row in enumerate(rows):
            for q, column in enumerate(columns):
                if row is not None and column is not None:
                    cut = window.cut(((first, first + len(counts), 1), row, column))
                    per_source[cut] += counts[:, p, q, None, None]
        return WindowReach(window, per_source)

    def _read(self, name: str, conv: Conv2d, axis: int, part: Range) -> list[Range | None]:
        """What each tap along an axis reads for some output places; slices share their rows and columns."""
        if (name, axis, part) not in self._reads:
            if len(self._reads) >= KEPT_READS:
                self._reads.clear()
            taps = range(conv.weight.shape[2 + axis])
            self._reads[name, axis, part] = [_read(conv, axis, tap, part) for tap in taps]
        return self._reads[name, axis, part]

    def _tap_counts(self, name: str, conv: Conv2d, axis: tuple[int, int, int]) -> tuple[int, Counts]:
        """First input channel, and (channels from there on, kh, kw) synapses of one place of each."""
        if (name, axis) in self._taps:
            return self._taps[name, axis]
        outputs = np.arange(*axis)
        group = outputs // (conv.weight.shape[0] // conv.groups)
        first = np.flatnonzero(np.diff(group, prepend=-1))
        per_in = conv.weight.shape[1]
        nonzero = (conv.weight[outputs] != 0).astype(np.int32)
        low, high = int(group[0]), int(group[-1]) + 1
        counts = np.zeros((high - low, *conv.weight.shape[1:]), dtype=np.int32)
        counts[group[first] - low] = np.add.reduceat(nonzero, first, axis=0)
        found = low * per_in, counts.reshape(-1, *conv.weight.shape[2:])
        self._kept += counts.size
        if self._kept > KEPT:
            self._taps.clear()
            self._kept = counts.size
        self._taps[name, axis] = found
        return found


def possible_synapses(conv: Conv2d) -> int:
    """Synapses of a convolution, those into its borders and of weight zero counted too."""
    return conv.weight.size * size(conv.out_shape[1:])


def lifted(shape: Shape) -> Shape:
    """A shape of three axes: a population without places has one."""
    return (*shape, *(1,) * (3 - len(shape)))


def _lifted_box(box: Box) -> Box:
    return (*box, *((0, 1, 1),) * (3 - len(box)))


def _flat_window(reach: WindowReach, rank: int) -> WindowReach:
    """The same in a population of fewer axes, where the others have one place."""
    window = Window(reach.window.low[:rank], reach.window.high[:rank])
    return WindowReach(window, reach.per_source.reshape(window.shape))


def _read(conv: Conv2d, axis: int, tap: int, part: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """The places that a tap reads for some output places of one axis, as a range; None: only padding."""
    stride, length = conv.stride[axis], conv.in_shape[1 + axis]
    outputs = range(*part)
    shift = tap * conv.dilation[axis] - conv.pads[axis]
    inputs = range(outputs[0] * stride + shift, outputs[-1] * stride + shift + 1, part[2] * stride)
    inside = inputs[max(-(inputs[0] // inputs.step), 0) :]
    inside = inside[: max(-(-(length - inside[0]) // inputs.step), 0)] if inside else inside
    return (inside[0], inside[-1] + 1, inputs.step) if inside else None


def _span(ranges: Sequence[tuple[int, int, int] | None]) -> tuple[int, int]:
    found = [part for part in ranges if part is not None]
    return min((p[0] for p in found), default=0), max((p[1] for p in found), default=0)


def _skip(skip: Skip, box: Box) -> WindowReach:
    window = Window.around([box])
    counts = np.zeros(window.shape, dtype=np.int32)
    counts[window.cut(box)] = (skip.weight[slice(*box[0])] != 0).reshape(-1, *(1,) * (len(box) - 1))
    return WindowReach(window, counts)


def _taps_of_places(conv: Conv2d, box: Box, target: Shape) -> Taps:
    """The same where a box of the population is none of the operator's outputs."""
    wanted = _flattened(conv, box, target)
    taps = np.zeros((len(wanted), *conv.weight.shape[2:]), dtype=np.bool_)
    for p, q, outputs, _ in _tap_places(conv):
        taps[:, p, q] = wanted[outputs].any(axis=(1, 2))
    channels = np.flatnonzero(wanted.any(axis=(1, 2)))
    return Taps(channels, taps[channels])


def _flattened(conv: Conv2d, box: Box, target: Shape) -> Mask:
    """A box of a population of another shape as a mask of the operator's outputs."""
    mask = np.zeros(target, dtype=np.bool_)
    mask[tuple(slice(*axis) for axis in box)] = True
    return mask.reshape(conv.out_shape)


def _tap_places(conv: Conv2d) -> Iterator[tuple[int, int, tuple[slice, ...], tuple[slice, ...]]]:
    """Of every tap that reads inside the input: its outputs and, in the same order, the places it reads."""
    steps = [[_fed(conv, axis, tap) for tap in range(conv.weight.shape[2 + axis])] for axis in (0, 1)]
    for p, row in enumerate(steps[0]):
        for q, column in enumerate(steps[1]):
            if row is not None and column is not None:
                yield p, q, (slice(None), row[0], column[0]), (slice(None), row[1], column[1])


def _fed(conv: Conv2d, axis: int, tap: int) -> tuple[slice, slice] | None:
    every = (0, conv.out_shape[1 + axis], 1)
    read = _read(conv, axis, tap, every)
    if read is None:
        return None
    shift = tap * conv.dilation[axis] - conv.pads[axis]
    first, last = (read[0] - shift) // conv.stride[axis], (read[1] - 1 - shift) // conv.stride[axis]
    return slice(first, last + 1), slice(*read)


def _masked(conv: Conv2d, wanted: Mask, shape: Shape) -> WindowReach:
    """The reach of any outputs, over the whole input: for populations of another shape than the operator."""
    groups, (out, per_in) = conv.groups, conv.weight.shape[:2]
    counts = np.zeros(conv.in_shape, dtype=np.int32)
    for p, q, outputs, inputs in _tap_places(conv):
        tap = (conv.weight[:, :, p, q] != 0).reshape(groups, out // groups, per_in).transpose(0, 2, 1)
        part = wanted[outputs]
        # Counts are at most the output channels: exact in float32.
        hits = tap.astype(np.float32) @ part.reshape(groups, out // groups, -1).astype(np.float32)
        counts[inputs] += hits.reshape(-1, *part.shape[1:]).astype(np.int32)
    return WindowReach(Window((0,) * len(shape), shape), counts.reshape(shape))
