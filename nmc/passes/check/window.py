"""Regions counted inside windows: memory is that of the part of a population that they span."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import IndexArray, Shape
from nmc.ir.mapping import Box, Region, box_size

Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Window:
    """The box of step 1 from ``low`` (included) to ``high`` (left out)."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    @classmethod
    def around(cls, boxes: Sequence[Box]) -> Window:
        """The smallest window with all of one or more boxes."""
        axes = range(len(boxes[0]))
        return cls(tuple(min(b[a][0] for b in boxes) for a in axes), tuple(max(b[a][1] for b in boxes) for a in axes))

    @property
    def shape(self) -> Shape:
        """Neurons along each axis."""
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))

    @property
    def box(self) -> Box:
        """All of it."""
        return tuple((a, b, 1) for a, b in zip(self.low, self.high, strict=True))

    def with_boxes(self, boxes: Sequence[Box]) -> Window:
        """The smallest window with this one and some boxes."""
        return Window.around([*boxes, self.box])

    def cut(self, box: Box) -> tuple[slice, ...]:
        """A box inside the window as an index of an array of the window."""
        return tuple(slice(start - a, stop - a, step) for (start, stop, step), a in zip(box, self.low, strict=True))

    def place_of(self, inner: Window) -> tuple[slice, ...]:
        """A window inside this one as an index of an array of this one."""
        return tuple(slice(a - c, b - c) for a, b, c in zip(inner.low, inner.high, self.low, strict=True))


def times_held(regions: Iterable[Region], window: Window) -> Counts:
    """(window,) in how many of the regions each neuron lies; the boxes of one region are a union."""
    count = np.zeros(window.shape, dtype=np.int32)
    for region in regions:
        if len(region) == 1:
            count[window.cut(region[0])] += 1
        else:
            count += _union(region, window)
    return count


def _union(region: Region, window: Window) -> NDArray[np.bool_]:
    mask = np.zeros(window.shape, dtype=np.bool_)
    for box in region:
        mask[window.cut(box)] = True
    return mask


def region_size(region: Region) -> int:
    """Neurons in a region."""
    if len(region) == 1:
        return box_size(region[0])
    return int(np.count_nonzero(_union(region, Window.around(region))))


def channels_of(region: Region) -> int:
    """Channels (of axis 0) with a neuron in the region."""
    if len(region) == 1:
        return len(range(*region[0][0]))
    return len({channel for box in region for channel in range(*box[0])})


def flat_neurons(region: Region, shape: Shape) -> IndexArray:
    """Neurons of a region, flat, ascending, each once."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    pieces = []
    for box in region:
        index = np.zeros((1,) * len(shape), dtype=np.int64)
        for axis, (part, stride) in enumerate(zip(box, strides, strict=True)):
            along = np.arange(*part, dtype=np.int64) * stride
            index = index + along.reshape(-1, *(1,) * (len(shape) - 1 - axis))
        pieces.append(index.reshape(-1))
    # The neurons of one box ascend.
    return pieces[0] if len(pieces) == 1 else np.unique(np.concatenate(pieces))


def holds_axis(outer: tuple[int, int, int], inner: tuple[int, int, int]) -> bool:
    """Whether a range, which is not empty, has all numbers of another one."""
    whole, part = range(*outer), range(*inner)
    return part[0] in whole and part[-1] in whole and (len(part) == 1 or inner[2] % outer[2] == 0)
