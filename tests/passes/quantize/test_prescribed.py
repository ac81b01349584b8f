"""Sums of a prescribed step: two stored weights for each synapse, with a shift each."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Array, Dense
from nmc.ir.layers import Quantize
from nmc.ir.network import REST, InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import Graded, Source
from nmc.ir.origin import Origin
from nmc.passes.quantize.fit_graded import Fitted, GradedFit
from nmc.passes.quantize.fixed_point import weight_grid
from nmc.passes.quantize.prescribed import fit_prescribed, prescribed_step
from nmc.testing.builders import small_target

ORIGIN = Origin("node", "Op", "tensor")
STEP = 0.02
TARGET = small_target()
FIT = GradedFit.of(TARGET, weight_grid(TARGET.weights, None), 1023)
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(5, 12)) * np.array([[1.0], [0.1], [3.0], [0.0], [1e-4]])
BIAS = RNG.normal(size=5)
MESSAGES = RNG.integers(-100, 100, (40, 12))
FINE = Population("fine", (5,), Graded(), ORIGIN)


def projections(weight: Array) -> tuple[Projection, ...]:
    whole = Projection("x>fine", "x", "fine", Dense(weight, (12,), (5,)), ORIGIN, bias=BIAS)
    rest = replace(whole, name=whole.name + REST, connectivity=Dense(np.zeros((5, 12)), (12,), (5,)), bias=None)
    return whole, rest


def fitted(weight: Array, step: float = STEP) -> tuple[Fitted, float] | None:
    top = np.abs(MESSAGES @ weight.T + BIAS).max(axis=0)
    reach = {"x": np.array(128.0)}
    return fit_prescribed(FIT, FINE, projections(weight), {"x": np.ones(())}, {"x": MESSAGES}, reach, top, step)


def test_sums_have_the_step_and_are_as_near_as_is_said() -> None:
    found = fitted(WEIGHT)
    assert found is not None
    (stored, scale, whole), apart = (found[0].stored, found[0].scale, found[0].whole), found[1]
    assert whole is None and np.all(scale == STEP)
    total = np.zeros((40, 5), dtype=np.int64)
    for projection in stored:
        weights = projection.connectivity.weight
        assert np.issubdtype(weights.dtype, np.integer) and np.abs(weights).max() <= FIT.grid.top
        bias = 0 if projection.bias is None else projection.bias
        sums = MESSAGES @ weights.T + bias
        total += np.left_shift(np.right_shift(sums, np.maximum(projection.shift, 0)), np.maximum(-projection.shift, 0))
    error = np.abs(total * STEP - (MESSAGES @ WEIGHT.T + BIAS))
    assert error.max() <= apart + STEP / 2  # of the bias, which is rounded to a whole unit of the sum
    # One weight of 8 bits alone would be off by more.
    coarse = np.abs(MESSAGES).sum(axis=1).mean() * np.abs(WEIGHT).max() / 254 / 4
    assert apart < coarse / 8


@pytest.mark.parametrize("weight", [WEIGHT * 1e4, WEIGHT * 1e9])
def test_what_does_not_fit_is_left_to_others(weight: Array) -> None:
    assert fitted(weight) is None


def test_only_populations_with_second_weights_have_a_prescribed_step() -> None:
    source = Population("x", (12,), Source(8, True), ORIGIN)
    spec = InputSpec("x", (12,), 1.0, -128, 127)
    outputs = (OutputSpec("fine", np.ones(()), (5,)),)
    scales = {"x": np.ones(()), "fine": np.ones(())}
    network = Network(
        "n", (source, FINE), projections(WEIGHT), (spec,), outputs, 1, scales, {"fine": Quantize(STEP, 0, 0, 255)}
    )
    assert prescribed_step(network, FINE) == STEP
    assert prescribed_step(replace(network, projections=network.projections[:1]), FINE) is None
