"""What becomes a convolution of the fast kernels, and what would only fill the memory."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.connectivity import Connectivity, Conv2d, Skip
from nmc.kernels.fused_operands import as_convolution


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
