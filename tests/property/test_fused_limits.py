"""Potentials at both ends of their range, in registers: every tier, several pixels at once and one."""

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, STATE_LIMIT, Integrator, Reset, Source
from nmc.ir.origin import Origin
from nmc.kernels.fused_run import execute_fused
from nmc.kernels.fused_tables import FUSED
from nmc.kernels.mapped import execute_steps
from nmc.kernels.mapped_tables import build_tables
from tests.kernels.rate_networks import rate_inputs
from tests.property.random_mapping import random_mapping
from tests.property.test_fused import TIERS, assert_equal

ORIGIN = Origin("node", "Conv", "y")
ZERO = np.zeros((), dtype=np.int64)


def saturating(channels, steps, reset, most=131071):
    """16 channels that spike often, then sums of up to 4.7 million a step, some of one sign only."""
    rng = np.random.default_rng([channels, steps])
    shape, high = (16, 5, 9), 255
    strong = rng.integers(60, 128, (channels, 16, 3, 3))
    strong *= np.resize([1, -1, 1, 0], channels)[:, None, None, None]
    strong[3::4] = rng.integers(-127, 128, strong[3::4].shape)
    # Thresholds far below the largest potential, and just below it.
    threshold = np.resize([1000, most, most, 90], channels).reshape(-1, 1, 1)
    often = LIF(np.asarray(20), np.asarray(900), ZERO, ZERO)
    populations = (
        Population("in", (1, 5, 9), Source(8), ORIGIN),
        Population("a", shape, often, ORIGIN, start=1),
        Population("b", (channels, 5, 9), LIF(threshold, np.asarray(-5), ZERO, ZERO, reset=reset), ORIGIN, start=2),
        Population("out", (3,), Integrator(ZERO, ZERO, ZERO), ORIGIN, start=3),
    )
    first = Conv2d(rng.integers(-2, 4, (16, 1, 3, 3)), (1, 5, 9), pads=(1, 1, 1, 1))
    middle = Conv2d(strong, shape, pads=(1, 1, 1, 1))
    read = Dense(rng.integers(-9, 10, (3, channels * 45)), (channels, 5, 9), (3,))
    projections = (
        Projection("f", "in", "a", first, ORIGIN),
        Projection("m", "a", "b", middle, ORIGIN, shift=np.asarray(-2)),
        Projection("r", "b", "out", read, ORIGIN),
    )
    spec, output = InputSpec("in", (1, 5, 9), 1.0, 0, high), OutputSpec("out", np.ones(()), (3,))
    scales = {p.name: np.ones(()) for p in populations}
    return Network("limits", populations, projections, (spec,), (output,), steps, scales)


@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize(("channels", "steps"), [(16, 16), (32, 12), (20, 7)])
def test_potentials_saturate_as_step_by_step(channels, steps, reset):
    network = saturating(channels, steps, reset)
    program, inputs = build_tables(random_mapping(network, 1)), rate_inputs(network, 1)
    assert program.fused is not None and program.fused.layers[2].row.kind == FUSED
    by_steps = execute_steps(program, inputs, keep_messages=True)
    for tier in TIERS:
        assert_equal(execute_fused(program.fused, inputs, tier, keep_messages=True), by_steps)
    trace = reference.run(network, inputs[0])
    potentials, fired = trace.potentials["b"], trace.messages["b"]
    assert potentials.min() == -(STATE_LIMIT - 1)
    if reset is Reset.SUBTRACT:
        # What a spike leaves of the largest potential.
        assert potentials[:, 0::4].max() == STATE_LIMIT - 1 - (1000 << 6)
    assert all(fired[:, first::4].any() for first in (0, 2, 3))


def test_a_threshold_beyond_the_largest_potential_goes_step_by_step():
    """Who never fires would have to meet the upper limit as well."""
    network = saturating(16, 8, Reset.SUBTRACT, most=131072)
    assert build_tables(random_mapping(network, 1)).fused is None
