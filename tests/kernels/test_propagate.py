"""The kernels add what the lists of synapses say."""

import numpy as np
import pytest

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Skip, size, sparse_from_synapses
from nmc.ir.reference import weighted_sum
from nmc.kernels.propagate import from_channels_last, plan, row_sums, to_channels_last


def operators(seed: int) -> list[Connectivity]:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2, 4]))
    chans, out = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    shape = (chans, int(rng.integers(6, 10)), int(rng.integers(6, 10)))
    weight = rng.integers(-9, 9, (out, chans // groups, *rng.integers(1, 4, 2)))
    pair = lambda low, high, n=2: tuple(rng.integers(low, high, n).tolist())  # noqa: E731
    conv = Conv2d(weight, shape, pair(1, 4), pair(0, 3, 4), pair(1, 3), groups)
    return [
        conv,
        Skip(rng.integers(-5, 5, chans), shape),
        Pool(rng.integers(1, 5, chans), shape, (2, 3), (2, 1), (0, 1, 1, 0)),
        Dense(rng.integers(-5, 5, (12, size(shape))), shape, (3, 2, 2)),
        sparse_from_synapses(*conv.synapses(), conv.in_shape, conv.out_shape),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_integer_sums_equal_the_synapse_list(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for operator in operators(seed):
        messages = rng.integers(-3, 4, (2, *operator.in_shape))
        out = np.zeros((2, size(operator.out_shape)), np.int64)
        plan(operator, np.int64).add(to_channels_last(messages, operator.in_shape), out)
        expected = np.stack([weighted_sum(operator, message) for message in messages])
        np.testing.assert_array_equal(from_channels_last(out, operator.out_shape), expected)


@pytest.mark.parametrize("seed", range(6))
def test_row_sums_bound_every_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for operator in operators(seed):
        low, high = row_sums(operator, -2, 3)
        for _ in range(20):
            total = weighted_sum(operator, rng.choice([-2, 3], operator.in_shape))
            by_channel = total.reshape(operator.out_shape[0], -1)
            assert (by_channel.min(axis=1) >= low).all()
            assert (by_channel.max(axis=1) <= high).all()


def test_row_sums_are_reached() -> None:
    dense = Dense(np.array([[3, -2], [0, 5]]), (2,), (2,))
    low, high = row_sums(dense, 0, 1)
    assert low.tolist() == [-2, 0]
    assert high.tolist() == [3, 5]


def test_real_sums_do_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(1)
    conv = Conv2d(rng.normal(size=(5, 3, 3, 3)), (3, 7, 7), pads=(1, 1, 1, 1))
    x = rng.normal(size=(4, size(conv.in_shape)))
    laid = plan(conv, np.float64)
    together, alone = np.zeros((4, size(conv.out_shape))), np.zeros((4, size(conv.out_shape)))
    laid.add(x, together)
    for i in range(4):
        laid.add(x[i : i + 1], alone[i : i + 1])
    np.testing.assert_array_equal(together, alone)
