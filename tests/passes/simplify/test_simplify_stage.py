"""The whole stage on random graphs: exact, canonical, and done in one go."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.layers import LayerGraph
from nmc.passes.convert.units import read_units
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.canonicalise import faults
from tests.passes.simplify.graphs import Builder, simplified


def random_graph(seed: int) -> LayerGraph:
    """A random network of every operation, with branches, joins and layouts."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(5, 9)), int(rng.integers(5, 9)))
    build = Builder(shape, seed)
    values = ["x"]
    for _ in range(int(rng.integers(4, 12))):
        source = values[-1] if rng.random() < 0.75 else values[int(rng.integers(len(values)))]
        values.append(_step(build, source, values, rng))
    tail = values[-1]
    tail = build.dense(build.reshape(tail), 4) if rng.random() < 0.7 else build.conv(tail, 2, (1, 1))
    if rng.random() < 0.3:
        tail = build.relu(tail)
    return build.graph(tail)


def _step(build: Builder, source: str, values: list[str], rng: np.random.Generator) -> str:
    channels, height, width = build.shape(source)
    fits = height >= 3 and width >= 3
    pick = int(rng.integers(17))
    pads = tuple(int(p) for p in rng.integers(0, 2, size=4))
    if pick <= 2 and fits:
        groups = int(rng.choice([g for g in (1, 2, 3) if channels % g == 0]))
        kernel = tuple(int(k) for k in rng.integers(1, 4, size=2))
        stride = tuple(int(s) for s in rng.integers(1, 3, size=2))
        conv = build.conv(source, groups * int(rng.integers(1, 4)), kernel, stride=stride, pads=pads, groups=groups)
        return conv if rng.random() < 0.3 else build.relu(conv)
    if pick == 3:
        return build.norm(source)
    if pick == 4 and fits:
        modes = {"count_pads": bool(rng.integers(2)), "ceil": bool(rng.integers(2))}
        return build.pool(source, (2, 3), (2, 2), pads if rng.integers(2) else (0, 0, 0, 0), **modes)
    if pick == 5:
        return build.pad(source, (int(rng.integers(2)), 1, 0), (0, int(rng.integers(-1, 2)) if fits else 0, 1))
    if pick == 6 and fits:
        return build.slice(source, (0, channels, 1), (int(rng.integers(2)), height, 2), (0, width - 1, 1))
    if pick == 7:
        zeros = build.constant(rng.normal(size=(1, height, width)) * int(rng.integers(2)))
        return build.concat(0, source, zeros, source) if rng.integers(2) else build.concat(0, zeros, source)
    if pick == 8:
        same = [v for v in values if build.shape(v) == build.shape(source)]
        return build.sum(source, same[int(rng.integers(len(same)))])
    if pick == 9:
        perm = tuple(int(p) for p in rng.permutation(3))
        turned = build.transpose(source, *perm)
        if rng.integers(2):
            turned = build.relu(turned)
        back = tuple(int(p) for p in np.argsort(perm))
        return build.transpose(turned, *back) if rng.random() < 0.7 else turned
    if pick == 10:
        return build.reshape(source, channels, width, height)
    if pick == 11:
        return build.identity(source)
    if pick == 12 and fits:
        kernel = tuple(int(k) for k in rng.integers(1, 4, size=2))
        pads = tuple(int(rng.integers(k)) for k in kernel * 2)
        stride = tuple(int(s) for s in rng.integers(1, 4, size=2))
        return build.largest(source, kernel, stride, pads, ceil=bool(rng.integers(2)))
    if pick == 13:
        return build.clip(source, 0.0 if rng.integers(2) else -0.3, float(rng.uniform(0.1, 2)))
    if pick == 14:
        return build.leaky(source)
    if pick == 15:
        same = [v for v in values if build.shape(v) == build.shape(source)]
        return build.larger(source, same[int(rng.integers(len(same)))])
    return build.relu(source)


@pytest.mark.parametrize("seed", range(120))
def test_random_graphs(seed: int) -> None:
    graph = simplified(random_graph(seed), *simplify_passes())
    assert faults(graph) == []


def test_the_stage_is_idempotent() -> None:
    graph = simplified(random_graph(3), *simplify_passes())
    assert simplified(graph, *simplify_passes()) is graph


def test_a_reshaped_input_reaches_the_convert_stage() -> None:
    build = Builder((32,))
    image = build.reshape("x", 2, 4, 4, name="image")
    build.dense(build.reshape(build.relu(build.conv(image, 3))), 4)
    (entry,) = read_units(simplified(build.graph(), *simplify_passes())).inputs
    assert entry.layer.name == "image" and entry.layer.shape == (2, 4, 4)
    assert entry.shape == (32,) and entry.perm is None
