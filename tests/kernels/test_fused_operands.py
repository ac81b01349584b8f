"""What becomes a convolution of the fast kernels, and what would only fill the memory."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.connectivity import Connectivity, Conv2d, Skip
from nmc.kernels.fused_operands import Maps, Segments, as_convolution, runs_of


def test_groups_are_spread() -> None:
    """Each output channel reads its own group; the rest is zeros."""
    weight = np.arange(1, 9, dtype=np.int64).reshape(4, 2, 1, 1)
    made = as_convolution(Conv2d(weight, (4, 3, 3), groups=2), (4, 3, 3), (4, 3, 3))
    assert made is not None
    spread = [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]
    assert made.weight[:, :, 0, 0].tolist() == spread


def test_one_to_one_is_a_diagonal() -> None:
    made = as_convolution(Skip(np.array([3, -5]), (2, 4, 4)), (2, 4, 4), (2, 4, 4))
    assert made is not None
    assert made.weight[:, :, 0, 0].tolist() == [[3, 0], [0, -5]]


@pytest.mark.parametrize(
    "connectivity",
    [
        Skip(np.ones(10_000, dtype=np.int64), (10_000,)),
        Conv2d(np.ones((1024, 1, 3, 3), dtype=np.int64), (1024, 4, 4), pads=(1, 1, 1, 1), groups=1024),
    ],
    ids=["one to one", "depthwise"],
)
def test_what_would_be_nearly_all_zeros_stays_as_it_is(connectivity: Connectivity) -> None:
    """10,000 channels one to one are 100 million weights as a matrix."""
    assert as_convolution(connectivity, connectivity.in_shape, connectivity.out_shape) is None


@pytest.mark.parametrize("channels", [16, 6])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_runs_within_the_edges_are_the_groups_that_meet_the_map(channels: int, stride: tuple[int, int]) -> None:
    """Pixel by pixel, against the taps that lie within the map; dropped groups are those of zeros only."""
    rng = np.random.default_rng(channels)
    conv = Conv2d(rng.integers(1, 9, (16, channels, 3, 2)), (channels, 5, 6), stride, (1, 1, 2, 0))
    conv.weight[:, :, 1, 0] = 0 if channels == 6 else conv.weight[:, :, 1, 0]
    source = Maps((channels, 5, 6), 8, 0, 1, (1, 1, 2, 0), 64)
    segments = Segments()
    segments.add(0, conv, source, slice(0, 16), 16)
    (row,) = segments.rows
    _, height, width = conv.out_shape
    first, edges, pitch = row[10:13]
    groups = -(-channels // 4)
    for y in range(height):
        for x in range(width):
            begin, end = segments.edges[edges + 2 * y : edges + 2 * y + 2]
            skip, drop = segments.edges[edges + 2 * (height + x) : edges + 2 * (height + x) + 2]
            taken = [
                offset + (skip + k) * pitch
                for offset, count, _ in segments.runs[first + begin : first + end]
                for k in range(count - skip - drop)
            ]
            wanted = [
                ky * source.row + kx * source.pixel + g * pitch
                for ky in range(3)
                for kx in range(2)
                for g in range(groups)
                if 0 <= y * stride[0] - 1 + ky < 5
                and (channels == 6 or 0 <= x * stride[1] - 1 + kx < 6)
                and conv.weight[:, :, ky, kx].any()
            ]
            assert taken == wanted


def test_a_layer_without_weights_has_no_runs() -> None:
    assert runs_of(np.zeros((1, 4), dtype=np.int64), np.zeros(0, dtype=np.int64), 4) == []
