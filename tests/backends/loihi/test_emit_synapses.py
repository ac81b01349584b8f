"""Projections as Lava processes, against the reference, with Lava's own weight rules in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.backends.loihi.emit_synapses import BASE, SynapsePlan, digits, plan_projection, shares
from nmc.ir.connectivity import Dense
from nmc.ir.network import Projection
from nmc.ir.origin import Origin
from nmc.ir.reference import projected

ORIGIN = Origin("n", "Gemm", "y")


def stored(weights: np.ndarray) -> np.ndarray:
    """What Lava 0.10 makes of a weight matrix: clipped, and even where signs are mixed."""
    if weights.min() >= 0:
        return np.clip(weights, 0, 255)
    if weights.max() <= 0:
        return -np.clip(-weights, 0, 255)
    return (np.clip(weights, -256, 255) >> 1) << 1


def as_lava_computes(projection: Projection, plan: SynapsePlan, message: np.ndarray, graded: bool) -> np.ndarray:
    total = plan.offset.copy()
    for group in plan.groups:
        weights, sent = projection.connectivity.weight, message
        if group.rows is not None:
            weights = np.where(group.rows[:, None], weights, 0)
        if group.bias is not None:
            weights = np.hstack([weights, group.bias])
            count = group.bias.shape[1]
            sent = np.concatenate([message, [BASE**i if graded else 1 for i in range(count)]])
        total += np.floor_divide(stored(weights) @ sent * 2 ** max(-group.shift, 0), 2 ** max(group.shift, 0))
    return total


@st.composite
def projections(draw: st.DrawFn) -> tuple[Projection, np.ndarray, bool]:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    outputs, inputs = int(rng.integers(1, 7)), int(rng.integers(1, 9))
    kind = draw(st.sampled_from(["even", "positive", "negative"]))
    weight = 2 * rng.integers(-127, 128, size=(outputs, inputs))
    if kind != "even":
        weight = rng.integers(0, 256, size=(outputs, inputs)) * (1 if kind == "positive" else -1)
    graded = draw(st.booleans())
    per_channel = draw(st.booleans())
    shift = rng.integers(-3, 9, size=(outputs,) if per_channel else ())
    reach = draw(st.sampled_from([0, 5, 300, 5000] + ([400_000] if graded else [])))
    bias = rng.integers(-reach, reach + 1, size=draw(st.sampled_from([(), (outputs,)])))
    message = rng.integers(-100, 256, size=inputs) if graded else rng.integers(0, 2, size=inputs)
    connectivity = Dense(weight.astype(np.int64), (inputs,), (outputs,))
    return Projection("p", "a", "b", connectivity, ORIGIN, 1, np.asarray(shift), np.asarray(bias)), message, graded


@settings(max_examples=300, deadline=None)
@given(projections())
def test_sum_bias_and_shift_are_exact(case: tuple[Projection, np.ndarray, bool]) -> None:
    projection, message, graded = case
    plan = plan_projection(projection, graded)
    assert np.array_equal(as_lava_computes(projection, plan, message, graded), projected(projection, message))


@settings(deadline=None)
@given(projections())
def test_columns_are_weights_that_lava_keeps(case: tuple[Projection, np.ndarray, bool]) -> None:
    projection, _, graded = case
    for group in plan_projection(projection, graded).groups:
        if group.bias is not None:
            whole = np.hstack([projection.connectivity.weight, group.bias])
            rows = slice(None) if group.rows is None else group.rows
            assert np.array_equal(stored(whole[rows]), whole[rows])


@pytest.mark.parametrize("split", [digits, shares])
def test_zero_needs_one_column(split: object) -> None:
    assert split(np.zeros(3, dtype=np.int64)).tolist() == [[0], [0], [0]]  # type: ignore[operator]


def test_digits() -> None:
    assert digits(np.array([-130, 127, 5])).tolist() == [[-3, -1], [0, 1], [5, 0]]


def test_shares() -> None:
    assert shares(np.array([-130, 126, 5])).tolist() == [[-126, -4], [126, 0], [5, 0]]


def test_one_process_where_one_shift() -> None:
    weight = np.array([[2, -4], [6, 8]])
    projection = Projection("p", "a", "b", Dense(weight, (2,), (2,)), ORIGIN, 1, np.array([3, 3]), np.array([1, -1]))
    plan = plan_projection(projection, True)
    assert [group.rows for group in plan.groups] == [None]
    assert plan.constants == 1
    assert not plan.offset.any()
