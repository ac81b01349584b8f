"""The kernels add what the lists of synapses say."""

import numpy as np
import pytest

from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Skip, size, sparse_from_synapses
from nmc.ir.reference import weighted_sum
from nmc.kernels import propagate
from nmc.kernels.propagate import LargeDensePlan, from_channels_last, plan, row_sums, to_channels_last


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


@pytest.mark.parametrize("seed", range(6))
def test_row_sums_take_the_range_of_each_source_channel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for operator in operators(seed):
        least = -rng.integers(0, 5, operator.in_shape[0])
        most = rng.integers(0, 5, operator.in_shape[0])
        low, high = row_sums(operator, least, most)
        wide_low, wide_high = row_sums(operator, least.min(), most.max())
        assert (low >= wide_low).all() and (high <= wide_high).all()
        ends = np.stack([least, most]).reshape(2, -1, *(1,) * (len(operator.in_shape) - 1))
        for _ in range(20):
            total = weighted_sum(operator, np.where(rng.random(operator.in_shape) < 0.5, ends[0], ends[1]))
            by_channel = total.reshape(operator.out_shape[0], -1)
            assert (by_channel.min(axis=1) >= low).all()
            assert (by_channel.max(axis=1) <= high).all()


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_a_large_dense_layer_is_added_where_it_lies(dtype: type[np.generic], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    weight = rng.integers(-9, 9, (12, 30)) if dtype is np.int64 else rng.normal(size=(12, 30))
    dense = Dense(weight, (5, 3, 2), (3, 2, 2))
    messages = rng.integers(-3, 4, (2, 30)).astype(dtype)
    small, large = np.zeros((2, 12), dtype), np.zeros((2, 12), dtype)
    plan(dense, dtype).add(messages, small)
    monkeypatch.setattr(propagate, "LARGE", 1)
    laid = plan(dense, dtype)
    assert isinstance(laid, LargeDensePlan) and laid.weight is weight
    laid.add(messages, large)
    np.testing.assert_array_equal(small, large)


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
