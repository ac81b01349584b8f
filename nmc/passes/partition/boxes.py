"""Boxes: tilings of a population, and any set of neurons as a short union of strided boxes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import Shape
from nmc.ir.mapping import Box, Region, whole

Range = tuple[int, int, int]
"""(start, stop, step) of one axis."""


def tiling(shape: Shape, tile: Shape) -> tuple[Box, ...]:
    """The boxes of at most ``tile`` that cut ``shape``, in C order; those at the far ends are smaller."""
    axes = [
        [(start, min(start + step, n), 1) for start in range(0, n, step)] for n, step in zip(shape, tile, strict=True)
    ]
    return tuple(itertools.product(*axes))


def middle_box(shape: Shape, tile: Shape) -> Box:
    """The box of a tiling that lies in the middle: full-sized, and away from the borders."""
    box = []
    for n, step in zip(shape, tile, strict=True):
        start = (-(-n // step) - 1) // 2 * step
        box.append((start, min(start + step, n), 1))
    return tuple(box)


def halved(tile: Shape, axis: int) -> Shape:
    """A tile cut in two along an axis: the larger half."""
    return (*tile[:axis], -(-tile[axis] // 2), *tile[axis + 1 :])


def region_of(mask: NDArray[np.bool_]) -> Region:
    """A union of disjoint boxes that holds exactly the true elements of ``mask``.

    Equal planes of the first axis share their boxes, and so on for the axes inside, so the
    sources of a strided or pruned convolution become a few boxes.
    """
    if not mask.any():
        return ()
    if mask.all():
        return (whole(mask.shape),)
    if mask.ndim == 1:
        return tuple((axis,) for axis in ranges_of(np.flatnonzero(mask)))
    rows = mask.reshape(len(mask), -1)
    used = np.flatnonzero(rows.any(axis=1))
    packed = np.packbits(rows[used], axis=1)
    groups: dict[bytes, list[int]] = {}
    for index, pattern in zip(used.tolist(), packed, strict=True):
        groups.setdefault(pattern.tobytes(), []).append(index)
    boxes: list[Box] = []
    for members in groups.values():
        inner = region_of(mask[members[0]])
        for axis in ranges_of(np.asarray(members)):
            boxes.extend((axis, *box) for box in inner)
    return tuple(sorted(boxes))


def ranges_of(index: NDArray[np.int64]) -> list[Range]:
    """Ascending distinct integers as disjoint arithmetic progressions, few of them.

    The shorter of two answers: maximal runs of one step, taken greedily from the left; or,
    where runs of consecutive integers repeat at a fixed distance, one progression for each
    place in the run.
    """
    greedy = _greedy_progressions(index)
    if len(greedy) <= 2:
        return greedy
    periodic = _periodic_progressions(index)
    return periodic if periodic is not None and len(periodic) < len(greedy) else greedy


def _range(first: int, last: int, step: int) -> Range:
    return (first, last + 1, step if last > first else 1)


def _greedy_progressions(index: NDArray[np.int64]) -> list[Range]:
    values = index.tolist()
    ranges: list[Range] = []
    at = 0
    while at < len(values):
        end = at + 1
        if end < len(values):
            step = values[end] - values[at]
            while end + 1 < len(values) and values[end + 1] - values[end] == step:
                end += 1
            # Two lone elements far apart say nothing of a step: let the second start a run.
            if end == at + 1 and step > 1 and end + 1 < len(values):
                ranges.append(_range(values[at], values[at], 1))
                at = end
                continue
        else:
            end, step = at, 1
        ranges.append(_range(values[at], values[end], step))
        at = end + 1
    return ranges


def _periodic_progressions(index: NDArray[np.int64]) -> list[Range] | None:
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    runs = np.split(index, breaks)
    starts = index[np.concatenate([[0], breaks])]
    lengths = {len(run) for run in runs}
    distances = set(np.diff(starts).tolist())
    if len(lengths) != 1 or len(distances) != 1:
        return None
    step = distances.pop()
    return [_range(int(starts[0]) + k, int(starts[-1]) + k, step) for k in range(lengths.pop())]


def merge_boxes(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Disjoint boxes of step 1, with neighbours joined along one axis at a time until none fit."""
    merged = list(boxes)
    rank = len(boxes[0]) if boxes else 0
    before = -1
    while before != len(merged):
        before = len(merged)
        for axis in reversed(range(rank)):
            merged = _join_along(merged, axis)
    return tuple(sorted(merged))


def _join_along(boxes: list[Box], axis: int) -> list[Box]:
    joined: list[Box] = []
    for box in sorted(boxes, key=lambda b: (b[:axis], b[axis + 1 :], b[axis])):
        last = joined[-1] if joined else None
        if (
            last is not None
            and last[:axis] == box[:axis]
            and last[axis + 1 :] == box[axis + 1 :]
            and last[axis][1] == box[axis][0]
            and last[axis][2] == box[axis][2] == 1
        ):
            joined[-1] = (*last[:axis], (last[axis][0], box[axis][1], 1), *last[axis + 1 :])
        else:
            joined.append(box)
    return joined
