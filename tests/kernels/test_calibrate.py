"""Sampled rows see what whole samples see; counts are the reference's; solutions are least squares."""

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip
from nmc.ir.network import Population, Projection
from nmc.ir.neurons import LIF, Binary, Burst, Reset, Signed
from nmc.ir.origin import Origin
from nmc.ir.reference import projected
from nmc.kernels.calibrate_neurons import mean_moments, spike_counts
from nmc.kernels.calibrate_rows import Rows, matrix_of, with_matrix
from nmc.kernels.calibrate_solve import Jitter, exact_product, positive_definite_solve, ridge
from nmc.kernels.layerwise import LaidPopulation
from nmc.kernels.propagate import to_channels_last
from nmc.kernels.statistics import lif_curve
from nmc.testing.random_connectivity import random_sparse

ORIGIN = Origin("node", "Conv", "out")
STEPS, SAMPLES = 5, 7


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape) * 2


def projections(kind: str, rng: np.random.Generator) -> tuple[tuple[int, ...], list[Projection]]:
    """A target shape and projections into it."""
    source = (4, 6, 5)
    shift = np.zeros((), dtype=np.int64)
    conv = Conv2d(weights(rng, 6, 4, 3, 2), source, (2, 1), (1, 0, 1, 1))
    kinds = {
        "conv": [conv],
        "dilated": [Conv2d(weights(rng, 6, 4, 2, 2), source, (1, 1), (0, 1, 0, 1), (2, 3))],
        "groups": [Conv2d(weights(rng, 6, 2, 3, 3), source, (1, 1), (1, 1, 1, 1), groups=2)],
        "pool": [Pool(weights(rng, 4), source, (2, 2), (2, 1))],
        "residual": [Conv2d(weights(rng, 4, 4, 3, 3), source, pads=(1, 1, 1, 1)), Skip(weights(rng, 4), source)],
        "dense": [Dense(weights(rng, 9, 120), source, (9,))],
        "dense map": [Dense(weights(rng, 24, 120), source, (2, 4, 3))],
        "sparse": [random_sparse(rng, source, (3, 2, 2))],
    }
    made = kinds[kind]
    shape = made[0].out_shape
    shifts = [shift, -np.arange(shape[0])] if kind == "residual" else [np.array(3)]
    return shape, [
        Projection(f"p{n}", "source", "target", c, ORIGIN, shift=shifts[n].astype(np.int64)) for n, c in enumerate(made)
    ]


@pytest.mark.parametrize(
    "kind", ["conv", "dilated", "groups", "pool", "residual", "dense", "dense map", "sparse"]
)  # fmt: skip
@pytest.mark.parametrize("count", [40, 10**6])
def test_rows_receive_what_their_neurons_receive(kind: str, count: int) -> None:
    rng = np.random.default_rng(5)
    shape, incoming = projections(kind, rng)
    messages = rng.integers(-1, 4, (SAMPLES, STEPS, 4, 6, 5)).astype(np.int8)
    sent = list(to_channels_last(messages, (4, 6, 5)))
    rows = Rows.draw(shape, incoming, SAMPLES, count, rng)
    got = sum(rows.sums(p, rows.patches(p.connectivity, sent)) for p in incoming)
    whole = np.stack(
        [
            to_channels_last(sum(projected(p, m).reshape(shape) for p in incoming), shape)
            for m in messages.reshape(-1, 4, 6, 5)
        ]
    ).reshape(SAMPLES, STEPS, -1)
    for step in range(STEPS):
        assert np.array_equal(got[:, step], rows.of(whole[:, step]))
    if count > 1000:
        assert len(rows) == SAMPLES * whole.shape[2] // shape[0]


def test_a_constant_source_is_read_once() -> None:
    rng = np.random.default_rng(6)
    shape, incoming = projections("conv", rng)
    flat = rng.integers(0, 255, (SAMPLES, 120))
    sent = [np.broadcast_to(sample, (STEPS, 120)) for sample in flat]
    rows = Rows.draw(shape, incoming, SAMPLES, 50, rng)
    patches = rows.patches(incoming[0].connectivity, sent)
    assert patches.shape[1] == 1
    assert rows.sums(incoming[0], patches).shape == (50, 1, 6)


def test_parameters_by_row() -> None:
    rows = Rows((2, 3, 3), np.array([0, 1, 4]), np.array([8, 0, 3]), True)
    assert rows.parameter(np.array([[[1]], [[2]]])).tolist() == [[1, 2]]
    full = np.arange(18).reshape(2, 3, 3)
    assert rows.parameter(full).tolist() == [[8, 17], [0, 9], [3, 12]]


RULES = {
    "binary": Binary(),
    "burst": Burst(3),
    "guarded": Signed(np.array([0, 30, 5])),
    "unguarded": Signed(np.array([0, 30, 5]), guarded=False),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("reset", list(Reset))
@pytest.mark.parametrize("leak", [0, 1, 700, 4096])
def test_counts_are_those_of_the_population(rule: str, reset: Reset, leak: int) -> None:
    rng = np.random.default_rng(7)
    total = rng.integers(-60, 90, (600, STEPS, 3))
    total[:3] = 1 << 16  # up to where potentials are cut off
    threshold, bias = np.array([40, 100, 55]), np.array([64, -700, 0])
    zero = np.zeros((), dtype=np.int64)
    wide = [np.asarray(v, dtype=np.int64)[:, None, None] for v in (threshold, bias, [900, -3000, 55 * 64])]
    fire = RULES[rule]
    if isinstance(fire, Signed):
        fire = Signed(fire.lower[:, None, None], fire.guarded)
    neuron = LIF(wide[0], wide[1], zero, wide[2], dv=leak, reset=reset, fire=fire)
    laid = LaidPopulation(Population("p", (3, 600, 1), neuron, ORIGIN), (), STEPS)
    sent, _ = laid.respond(np.ascontiguousarray(total.transpose(1, 0, 2)).reshape(STEPS, -1), np.zeros(0))
    lower = np.array([0, 30, 5]) * 64 if isinstance(fire, Signed) else None
    got, uneven = spike_counts(
        neuron,
        total.astype(np.float32),
        bias=bias[None],
        v0=np.array([[900, -3000, 55 * 64]]),
        threshold=threshold * 64,
        lower=lower,
    )
    assert np.array_equal(got, sent.sum(axis=0, dtype=np.int64).reshape(600, 3))
    assert got.max() > 1
    running = sent.cumsum(axis=0, dtype=np.float64).reshape(STEPS, 600, 3)
    deviation = running - running[-1] * np.arange(1, STEPS + 1)[:, None, None] / STEPS
    assert np.allclose(uneven, np.square(deviation).mean(axis=(0, 1)))


def test_evenness_is_that_of_the_steps_in_which_a_neuron_may_fire() -> None:
    zero = np.zeros((), dtype=np.int64)
    neuron = LIF(np.array(1), zero, zero, zero, reset=Reset.SUBTRACT)
    total = np.tile(np.array([64.0, 0.0], dtype=np.float32), (9, 4, 1))
    counts, uneven = spike_counts(
        neuron, total, bias=np.zeros((1, 2)), v0=np.array([[0, 4096]]), threshold=np.full(2, 4095), wait=3
    )
    # The first fires in every step; the second once, in the first: 3/4, 1/2, 1/4 and 0 too much.
    assert counts.tolist() == [[4, 1]] * 9
    assert np.allclose(uneven, [0, (9 + 4 + 1) / 64])


def test_the_rate_curve_is_that_of_the_leaky_neuron() -> None:
    steps, leak = 400, 0.05
    drives = np.array([0.02, 0.06, 0.1, 0.31, 0.62])
    # Over continuous time v' = drive + leak / 2 - leak v, in thresholds; below a half of the leak nothing fires.
    current = np.maximum((drives + leak / 2) / leak, 1 + 1e-12)
    exact = leak / np.log1p(1 / (current - 1))
    assert exact[0] < 0.003 < exact[1]
    for subtract, apart in ((True, 0.03), (False, 0.25)):
        curve = lif_curve(steps, leak, subtract=subtract, start=0.0)
        assert (np.diff(curve[np.isfinite(curve)]) >= 0).all()
        rates = np.searchsorted(curve, drives, side="right") / steps
        assert (np.abs(rates - exact) <= 1 / steps + apart * exact).all()
        assert subtract or (rates <= exact + 1 / steps).all()  # what is above the threshold is lost


def test_without_a_leak_the_curve_counts_thresholds() -> None:
    curve = lif_curve(8, 0.0, subtract=True, start=0.5)
    assert np.allclose(curve, (np.arange(1, 9) - 0.5) / 8, atol=1e-3)


def test_moments_are_means() -> None:
    rng = np.random.default_rng(8)
    counts, values = rng.integers(0, 9, (1300, 4)).astype(np.float32), rng.normal(size=(1300, 4))
    wanted = [counts.mean(axis=0), (counts**2).mean(axis=0), (counts * values).mean(axis=0)]
    assert np.allclose(mean_moments(counts, values), wanted)


def test_the_matrix_of_an_operator_goes_both_ways() -> None:
    rng = np.random.default_rng(9)
    for operator in (
        Conv2d(rng.normal(size=(3, 4, 2, 3)), (4, 5, 5)),
        Dense(rng.normal(size=(6, 40)), (4, 5, 2), (6,)),
    ):
        matrix = matrix_of(operator)
        assert matrix is not None
        assert np.array_equal(with_matrix(operator, matrix).weight, operator.weight)


def test_products_are_exact_whatever_the_order() -> None:
    rng = np.random.default_rng(10)
    integers, values = rng.integers(0, 500, (300, 700)).astype(float), rng.normal(size=(700, 5))
    order = rng.permutation(700)
    first = exact_product(integers, values)
    assert np.array_equal(first, exact_product(integers[:, order], values[order]))
    assert np.allclose(first, integers @ values, atol=0.1)


def test_cholesky_solves() -> None:
    rng = np.random.default_rng(11)
    root, right = rng.normal(size=(30, 20)), rng.normal(size=(20, 3))
    matrix = root.T @ root + np.eye(20)
    assert np.allclose(positive_definite_solve(matrix, right), np.linalg.solve(matrix, right))


def test_ridge_finds_the_weights_behind_counts() -> None:
    rng = np.random.default_rng(12)
    counts = rng.integers(0, 8, (4000, 12)).astype(float)
    counts[:, 3] = 0  # an input that never fires
    unit, weights_, offset = rng.uniform(0.1, 0.4, 12), rng.normal(size=(12, 2)), np.array([1.0, -2.0])
    wanted = (counts * unit) @ weights_ + offset
    found, constant = ridge(counts, unit, wanted, 1e-8)
    weights_[3] = 0
    assert np.allclose(found, weights_, atol=1e-3)
    assert np.allclose(constant, offset, atol=1e-2)


def test_jitter_is_none_where_inputs_flow_evenly() -> None:
    even, late = np.ones((20, 6, 1)), np.zeros((20, 6, 1))
    late[:, 3:] = 2
    patches = np.concatenate([even, late], axis=2).astype(np.int8)
    jitter = Jitter.of(patches, np.array([1.0, 0.5]), np.zeros((20, 6, 3)))
    assert jitter.gram[0, 0] == 0
    assert jitter.gram[1, 1] > 0
    assert jitter.cross.shape == (2, 3)
