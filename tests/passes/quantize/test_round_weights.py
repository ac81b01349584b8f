"""The inputs that a row of weights sees, and what rounding makes of them."""

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense, Skip
from nmc.kernels.propagate import plan, to_channels_last
from nmc.passes.quantize import round_weights as module
from nmc.passes.quantize.fixed_point import WeightGrid
from nmc.passes.quantize.round_weights import input_vectors, round_weights

RNG = np.random.default_rng(3)
GRID = WeightGrid(2, 254)


@pytest.mark.parametrize(
    ("groups", "stride", "dilation", "pads"),
    [(1, (1, 1), (1, 1), (1, 1, 1, 1)), (2, (2, 1), (1, 2), (0, 1, 2, 1)), (4, (1, 2), (1, 1), (1, 1, 0, 0))],
)
def test_input_vectors_times_weights_are_the_sums(
    groups: int, stride: tuple[int, int], dilation: tuple[int, int], pads: tuple[int, int, int, int]
) -> None:
    weight = RNG.integers(-5, 5, (8, 4 // groups, 3, 2))
    op = Conv2d(weight, (4, 9, 10), stride, pads, dilation, groups)
    messages = to_channels_last(RNG.integers(0, 9, (3, 4, 9, 10)), op.in_shape)
    vectors = input_vectors(op, messages)
    sums = np.zeros((3, int(np.prod(op.out_shape))), dtype=np.int64)
    plan(op, np.int64).add(messages, sums)
    found = np.einsum("gmn,gon->mgo", vectors, weight.reshape(groups, 8 // groups, -1)).reshape(3, -1, 8)
    # Few enough positions that all are taken; the order of a sample's positions is its own.
    for own, wanted in zip(found, sums.reshape(3, -1, 8), strict=True):
        np.testing.assert_array_equal(sorted(own.tolist()), sorted(wanted.tolist()))


def test_large_maps_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 40)
    op = Conv2d(np.zeros((2, 3, 3, 3)), (3, 20, 20))
    assert input_vectors(op, RNG.integers(0, 9, (10, 1200))).shape == (1, 40, 27)


def test_dense_weights_round_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = np.repeat(RNG.integers(0, 99, (200, 4)), 5, axis=1)
    wanted = RNG.uniform(-254, 254, (6, 20))
    op = Dense(wanted, (20,), (6,))
    whole = round_weights(op.with_weight(wanted), messages, GRID)
    monkeypatch.setattr(module, "BLOCK", 10)
    monkeypatch.setattr(module, "WORK", 120 * 10)
    blocks = round_weights(op.with_weight(wanted), messages, GRID)
    plain = GRID.round(wanted)
    errors = [np.abs((kind - wanted) @ (messages - messages.mean(axis=0)).T).mean() for kind in (whole, blocks, plain)]
    assert errors[0] < errors[2] and errors[1] < errors[2]


def test_single_inputs_round_to_the_nearest() -> None:
    wanted = RNG.uniform(-254, 254, 3)
    op = Skip(wanted, (3, 2, 2))
    np.testing.assert_array_equal(
        round_weights(op.with_weight(wanted), np.zeros((1, 12), dtype=np.int64), GRID), GRID.round(wanted)
    )
