from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nmc.ir.connectivity import Conv2d, Dense, Pool
from nmc.ir.layers import LayerGraph
from nmc.passes.simplify import compose
from nmc.passes.simplify.fold_batchnorm import FoldBatchnorm
from nmc.passes.simplify.fuse_linear import FuseLinear
from nmc.passes.simplify.legalise_pooling import LegalisePooling
from tests.passes.simplify.graphs import Builder, kinds, linear, new_context, simplified


def fused(build: Builder) -> LayerGraph:
    return simplified(build.graph(), FoldBatchnorm(), LegalisePooling(), FuseLinear())


def test_a_pooling_before_a_convolution_is_one_strided_convolution() -> None:
    build = Builder((4, 8, 8))
    build.conv(build.pool(build.relu("x"), (2, 2), (2, 2)), 5, pads=(1, 1, 1, 1), name="conv")
    graph = fused(build)
    assert kinds(graph) == ["Input", "Relu", "Linear:Conv2d"]
    conv = linear(graph, "conv").connectivity
    assert isinstance(conv, Conv2d)
    assert conv.weight.shape == (5, 4, 6, 6) and conv.stride == (2, 2) and conv.pads == (2, 2, 2, 2)


def test_a_pooling_that_leaves_a_rest_composes_without_outer_pads_only() -> None:
    build = Builder((4, 7, 7))
    build.conv(build.pool("x", (2, 2), (2, 2)), 5, (2, 2))
    assert kinds(fused(build)) == ["Input", "Linear:Conv2d"]
    build = Builder((4, 7, 7))
    build.conv(build.pool("x", (2, 2), (2, 2)), 5, (2, 2), pads=(0, 0, 1, 1))
    assert kinds(fused(build)) == ["Input", "Linear:Sparse"]


def test_a_pooling_before_a_dense_layer() -> None:
    build = Builder((4, 6, 6))
    build.dense(build.pool(build.relu("x"), (2, 2), (2, 2)), 3, name="dense")
    dense = linear(fused(build), "dense").connectivity
    assert isinstance(dense, Dense) and dense.weight.shape == (3, 144)


@pytest.mark.parametrize("outer", [1, 2, 4])
@pytest.mark.parametrize("inner", [1, 2, 4])
def test_grouped_convolutions(outer: int, inner: int) -> None:
    build = Builder((4, 9, 8))
    first = build.conv("x", 8, (3, 2), groups=inner, stride=(2, 1), dilation=(1, 2), pads=(1, 0, 0, 2))
    build.conv(first, 4, (2, 3), groups=outer, stride=(1, 2), dilation=(2, 1))
    assert kinds(fused(build)) == ["Input", "Linear:Conv2d"]


def test_depthwise_before_and_after() -> None:
    build = Builder((4, 9, 9))
    depthwise = build.conv(build.conv("x", 4, groups=4), 4, groups=4)
    build.conv(build.conv(depthwise, 6, (1, 1)), 6, groups=6, name="last")
    graph = fused(build)
    assert kinds(graph) == ["Input", "Linear:Conv2d"]
    assert linear(graph, "last").connectivity.weight.shape == (6, 4, 7, 7)


def test_two_poolings_are_a_pooling() -> None:
    build = Builder((4, 8, 8))
    build.pool(build.pool("x", (2, 2), (2, 2)), (2, 2), (2, 2), name="pool")
    pool = linear(fused(build), "pool").connectivity
    assert isinstance(pool, Pool) and pool.kernel == (4, 4) and pool.stride == (4, 4)


def test_padded_convolutions_meet_at_the_border_as_synapses() -> None:
    build = Builder((2, 5, 5))
    build.conv(build.conv("x", 3, pads=(1, 1, 1, 1)), 2, pads=(1, 1, 1, 1))
    assert kinds(fused(build)) == ["Input", "Linear:Sparse"]


def test_a_normalisation_before_a_padded_convolution_has_a_bias_per_place() -> None:
    build = Builder((2, 5, 5))
    build.conv(build.norm(build.relu("x")), 3, pads=(1, 1, 1, 1), name="conv")
    graph = fused(build)
    assert kinds(graph) == ["Input", "Relu", "Linear:Conv2d"]
    assert linear(graph, "conv").bias.shape == (3, 5, 5)


def test_a_normalisation_before_an_unpadded_convolution_has_a_bias_per_channel() -> None:
    build = Builder((2, 5, 5))
    build.conv(build.norm(build.relu("x")), 3, name="conv")
    assert linear(fused(build), "conv").bias.shape == (3,)


def test_dense_chains() -> None:
    build = Builder((2, 3, 3))
    build.dense(build.dense(build.conv("x", 2), 7), 4)
    assert kinds(fused(build)) == ["Input", "Linear:Dense"]


def test_an_identity_skip_stays_an_addition_of_the_relu() -> None:
    build = Builder((2, 5, 5))
    relu = build.relu(build.conv("x", 3), name="relu")
    build.relu(build.sum(build.conv(relu, 3, pads=(1, 1, 1, 1), name="conv"), relu, name="add"))
    graph = build.graph()
    assert FuseLinear().run(graph, new_context()) is graph


def test_nested_sums_are_flat_and_shared_values_stay_shared() -> None:
    build = Builder((2, 5, 5))
    a, b = build.relu("x", name="a"), build.relu(build.conv("x", 2, (1, 1)), name="b")
    c = build.conv(b, 2, (1, 1), name="c")
    inner = build.sum(a, c)
    build.relu(build.sum(inner, b, name="outer"))
    graph = fused(build)
    assert graph.by_name["outer"].inputs == ("a", "c", "b")
    assert kinds(graph).count("Relu") == 3 and kinds(graph).count("Add") == 1


def test_a_linear_layer_over_a_sum_is_distributed() -> None:
    build = Builder((2, 4, 4))
    a, b = build.relu("x", name="a"), build.relu(build.conv("x", 2, (1, 1)), name="b")
    build.dense(build.sum(a, build.conv(b, 2, (1, 1))), 3, name="dense")
    graph = fused(build)
    parts = graph.by_name["dense"].inputs
    assert kinds(graph).count("Linear:Dense") == 2 and graph.output == "dense"
    assert [graph.by_name[part].inputs for part in parts] == [("a",), ("b",)]
    assert all(graph.by_name[part].origin.output == "" for part in parts)
    assert graph.by_name["dense"].origin.output == "dense:0"


def test_pre_activation_residuals() -> None:
    build = Builder((3, 4, 4))
    stream = build.conv("x", 3, (1, 1), name="stem")
    for number in range(3):
        branch = build.conv(build.relu(build.norm(stream)), 3, pads=(1, 1, 1, 1))
        stream = build.sum(stream, branch, name=f"stream{number}")
    build.relu(stream)
    graph = fused(build)
    assert len(graph.by_name["stream2"].inputs) == 4


def test_a_value_added_to_itself() -> None:
    build = Builder((3, 4, 4))
    relu = build.relu("x")
    build.sum(relu, relu, name="twice")
    weight = linear(fused(build), "twice").connectivity.weight
    assert weight.tolist() == [2.0, 2.0, 2.0]


def test_parallel_convolutions_of_one_geometry_add_up() -> None:
    build = Builder((3, 4, 4))
    build.sum(build.conv("x", 2), build.conv("x", 2), name="both")
    assert kinds(fused(build)) == ["Input", "Linear:Conv2d"]


def test_over_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "BUDGET", 500)
    build = Builder((2, 6, 6))
    build.conv(build.conv("x", 3, pads=(1, 1, 1, 1)), 2, pads=(1, 1, 1, 1), name="second")
    context = new_context()
    FuseLinear().run(build.graph(), context)
    (error,) = context.diagnostics.errors
    assert error.slug == "linear-chain-too-large" and error.origin is not None and error.origin.node == "second"


DIGEST = """
import hashlib
from nmc.passes.simplify import simplify_passes
from tests.passes.simplify.graphs import Builder, simplified
build = Builder((8, 6, 6))
pooled = build.pool(build.conv(build.norm("x"), 8, pads=(1, 1, 1, 1)), (2, 2), (2, 2))
build.dense(build.dense(build.conv(pooled, 8), 300), 200, name="dense")
op = simplified(build.graph(), *simplify_passes()).by_name["dense"].op
print(hashlib.sha256(op.connectivity.weight.tobytes() + op.bias.tobytes()).hexdigest())
"""


def test_bytes_do_not_depend_on_the_blas_kernel_or_hash_seed() -> None:
    digests = set()
    for kernel, seed in (("Sandybridge", "1"), ("Haswell", "2")):
        environment = {**os.environ, "OPENBLAS_CORETYPE": kernel, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        digests.add(run.stdout)
    assert len(digests) == 1
