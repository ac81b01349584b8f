"""Graded weights of few bits: narrower steps, exact shortcuts, weights fitted again to what is really sent."""

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Skip
from nmc.ir.network import Network, Projection
from nmc.ir.origin import Origin
from nmc.ir.reference import decode, encode
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.kernels.propagate import plan
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.quantize.clip_weights import Channels, best_factors, coarse
from nmc.passes.quantize.fixed_point import WeightGrid
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.quantize.round_weights import round_weights
from nmc.passes.quantize.send_changes import SendChanges
from nmc.testing.builders import context_for, residual_graph

RNG = np.random.default_rng(12)
CALIB = RNG.uniform(size=(192, 2, 6, 6)).astype(np.float32)
OTHERS = RNG.uniform(size=(96, 2, 6, 6)).astype(np.float32)
GRID4 = WeightGrid(32, 224)
SHIFTS = (-7, 20)


def graded(seed: int = 4, *, bits: int = 4, refit: bool = True) -> Network:
    graph = residual_graph(seed)
    context = context_for(graph, CALIB)
    network = AlignWindows().run(ConvertGraded().run(graph, context), context)
    return QuantizeGraded(bits=bits, refit=refit).run(network, context)


def error(network: Network, seed: int = 4) -> float:
    expected = execute_graph(residual_graph(seed), OTHERS, ["logits"])["logits"]
    got = decode(network, execute_network(network, encode(network, OTHERS)).readout)
    return float(((got - expected) ** 2).mean() / expected.var())


@pytest.mark.parametrize("bits", [pytest.param(3, marks=pytest.mark.slow), 4])
def test_few_bits_lose_less_than_by_rounding_alone(bits: int) -> None:
    """On inputs that nothing was fitted to."""
    plain = sum(error(graded(seed, bits=bits, refit=False), seed) for seed in range(2))
    assert sum(error(graded(seed, bits=bits), seed) for seed in range(2)) < 0.9 * plain


def test_stored_weights_stay_on_their_grid() -> None:
    for projection in graded().projections:
        weight = projection.connectivity.weight
        assert (weight % 32 == 0).all() and np.abs(weight).max() <= 224


def test_wide_weights_are_left_as_they_are() -> None:
    assert coarse(GRID4) and not coarse(WeightGrid(2, 254))
    for one, two in zip(graded(bits=8).projections, graded(bits=8, refit=False).projections, strict=True):
        np.testing.assert_array_equal(one.connectivity.weight, two.connectivity.weight)


def test_few_bits_repeat_themselves() -> None:
    first = graded()
    assert first.projections
    for one, two in zip(first.projections, graded().projections, strict=True):
        assert one.connectivity.weight.tobytes() == two.connectivity.weight.tobytes()


def projection(source: str, connectivity: Conv2d | Skip) -> Projection:
    return Projection(source, source, "sum", connectivity, Origin("n", "Conv", "y"))


def channels(skip: float) -> Channels:
    """Two channels that read eight others, and a shortcut beside."""
    weight = RNG.normal(size=(2, 8, 3, 3))
    weight /= np.abs(weight).reshape(2, -1).max(axis=1)[:, None, None, None]
    messages = {"main": RNG.integers(0, 100, (64, 288)), "skip": RNG.integers(0, 1000, (64, 72))}
    return Channels(
        projection("main", Conv2d(weight, (8, 6, 6), pads=(1, 1, 1, 1))),
        [projection("skip", Skip(np.full(2, skip), (2, 6, 6)))] if skip else [],
        messages,
        {"main": np.ones(()), "skip": np.ones(())},
        np.zeros(2, dtype=np.int64),
        np.ones(2) / GRID4.top,
    )


def lost(given: Channels, factor: np.ndarray) -> np.ndarray:
    """(C,) mean square of what the sums are off by, over all calibration inputs."""
    op = given.main.connectivity
    step = given.scale * factor
    stored = round_weights(op, given.messages["main"], GRID4, np.ones(()), 1 / step)
    off = op.with_weight(stored * step[:, None, None, None] - op.weight)
    sums = np.zeros((64, 72))
    plan(off, np.float64).add(given.messages["main"].astype(np.float64), sums)
    return sums.reshape(-1, 2).var(axis=0)


def test_the_step_found_leaves_less_error_than_the_widest() -> None:
    given = channels(0.0)
    factor = best_factors(given, GRID4, np.zeros(2), SHIFTS)
    assert (factor <= 1.0).all() and factor.min() < 1.0
    assert (lost(given, factor) <= lost(given, np.ones(2))).all()
    assert lost(given, factor).sum() < lost(given, np.ones(2)).sum()


def test_no_step_is_finer_than_allowed() -> None:
    np.testing.assert_array_equal(best_factors(channels(0.0), GRID4, np.ones(2), SHIFTS) >= 1.0, True)


def test_a_shortcut_that_says_much_is_stored_as_it_is() -> None:
    given = channels(1.0)
    scale = given.scale * best_factors(given, GRID4, np.zeros(2), SHIFTS)
    levels = 1.0 / scale / GRID4.step
    # A power of two times at most seven steps.
    fraction = levels / np.exp2(np.floor(np.log2(levels))) * 4
    np.testing.assert_allclose(fraction, np.rint(fraction), atol=1e-9)


def test_a_nearly_silent_source_of_a_shortcut_does_not_fill_the_sums_of_changes() -> None:
    graph = residual_graph(4)
    context = context_for(graph, CALIB)
    network = AlignWindows().run(ConvertGraded().run(graph, context), context)
    weak = {p.name: p for p in network.projections if isinstance(p.connectivity, Skip)}
    assert weak
    quiet = tuple(
        replace(p, connectivity=p.connectivity.with_weight(p.connectivity.weight * 1e-7)) if p.name in weak else p
        for p in network.projections
    )
    stored = QuantizeGraded().run(replace(network, projections=quiet), context)
    SendChanges(2, 1).run(stored, context)
    assert not context.diagnostics.errors
