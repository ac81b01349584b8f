"""What the vector kernels do without products of their own: pooled maps, lanes and chained sums, in every tier."""

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Binary, Burst, Integrator, Source
from nmc.ir.origin import Origin
from nmc.kernels.fused_operands import pooled
from nmc.kernels.fused_run import execute_fused
from nmc.kernels.fused_tables import FUSED, GROUPED
from nmc.kernels.mapped import execute_steps
from nmc.kernels.mapped_tables import build_tables
from tests.kernels.rate_networks import rate_inputs
from tests.property.random_mapping import random_mapping
from tests.property.test_fused import TIERS, assert_equal

ORIGIN = Origin("node", "Conv", "y")
SHAPE = (5, 6, 8)


def network_of(rng, operators, shifts, steps, fire=Binary()):  # noqa: B008 - a frozen value
    """Input, a layer, what the operators make of it, a read-out."""

    def lif(threshold, fire=Binary()):  # noqa: B008 - a frozen value
        bias, v0 = np.asarray(rng.integers(-90, 90)), np.asarray(rng.integers(-900, 900))
        return LIF(np.asarray(threshold), bias, np.asarray(0), v0, fire=fire)

    target = operators[0].out_shape
    first = Conv2d(rng.integers(-9, 10, (5, 2, 3, 3)), (2, 6, 8), pads=(1, 1, 1, 1))
    read = Dense(rng.integers(-9, 10, (4, int(np.prod(target)))), target, (4,))
    zero = np.zeros((), dtype=np.int64)
    populations = (
        Population("in", (2, 6, 8), Source(8), ORIGIN),
        Population("a", SHAPE, lif(1500, fire), ORIGIN, start=1),
        Population("b", target, lif(300), ORIGIN, start=2),
        Population("out", (4,), Integrator(zero, zero, zero), ORIGIN, start=3),
    )
    middle = [
        Projection(f"m{n}", "a", "b", operator, ORIGIN, shift=np.asarray(shift))
        for n, (operator, shift) in enumerate(zip(operators, shifts, strict=True))
    ]
    projections = (Projection("f", "in", "a", first, ORIGIN), *middle, Projection("r", "b", "out", read, ORIGIN))
    spec, output = InputSpec("in", (2, 6, 8), 1.0, 0, 255), OutputSpec("out", np.ones(()), (4,))
    scales = {p.name: np.ones(()) for p in populations}
    return Network("forms", populations, projections, (spec,), (output,), steps, scales)


def conv(rng, channels=7, kernel=3, scale=1):
    return Conv2d(rng.integers(-40, 41, (channels, 5, kernel, kernel)) * scale, SHAPE, pads=(kernel // 2,) * 4)


def pooling_conv(rng):
    weight = np.repeat(np.repeat(rng.integers(-40, 41, (20, 5, 2, 2)), 2, axis=2), 2, axis=3)
    return Conv2d(weight, SHAPE, stride=(2, 2), pads=(2, 0, 0, 2))


def run_in_every_tier(network, seed):
    program = build_tables(random_mapping(network, seed))
    inputs = rate_inputs(network, seed)
    steps = execute_steps(program, inputs, keep_messages=True)
    assert program.fused is not None and steps.fired.sum() > 0
    for tier in TIERS:
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True), steps)
    return program.fused


@pytest.mark.parametrize("steps", [3, 16])
@pytest.mark.parametrize("fire", [Binary(), Burst(3)], ids=["binary", "burst"])
def test_a_pooling_inside_a_convolution_is_read_from_a_pooled_map(steps, fire):
    rng = np.random.default_rng(steps)
    fused = run_in_every_tier(network_of(rng, [pooling_conv(rng)], [0], steps, fire), steps)
    assert len(fused.tables.pools) == 1 and fused.layers[2].row.kind == FUSED
    # Four places of a square are one: fewer products.
    assert fused.tables.segments[1, 7] <= 4 * 2


def test_messages_that_do_not_fit_bytes_in_fours_are_not_pooled():
    rng = np.random.default_rng(0)
    assert pooled(pooling_conv(rng), 63)[1] == 2
    assert pooled(pooling_conv(rng), 64)[1] == 1
    changed = pooling_conv(rng)
    changed.weight[3, 2, 1, 1] += 1
    assert pooled(changed, 1)[1] == 1


def test_a_pooling_and_a_skip_are_lanes():
    rng = np.random.default_rng(1)
    fused = run_in_every_tier(network_of(rng, [Pool(rng.integers(20, 250, 5), SHAPE, (2, 2), (2, 2))], [-1], 9), 1)
    assert len(fused.tables.lanes) == 1 and fused.layers[2].row.kind == FUSED
    skip = Skip(rng.integers(-250, 250, 5), SHAPE)
    fused = run_in_every_tier(network_of(rng, [conv(rng, 5), skip], [0, np.array([-3, 0, -1, -2, 0])], 9), 2)
    assert len(fused.tables.lanes) == 1 and len(fused.tables.segments) == 3


def test_two_sums_with_shifts_to_the_left_are_a_chain():
    rng = np.random.default_rng(2)
    small = conv(rng, kernel=1)
    small.weight[2] = 0
    shifts = [0, np.array([-3, -5, 0, -4, -3, -6, -3])]
    fused = run_in_every_tier(network_of(rng, [conv(rng), small], shifts, 10), 3)
    assert fused.layers[2].row.kind == FUSED and fused.layers[2].row.groups == 1
    # To the right a shift rounds: those sums go on their own.
    fused = run_in_every_tier(network_of(rng, [conv(rng), conv(rng, scale=3)], [2, 1], 10), 4)
    assert fused.layers[2].row.kind == GROUPED and fused.layers[2].row.groups == 2
