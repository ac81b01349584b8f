from __future__ import annotations

from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.layers import Transpose
from nmc.passes.simplify.fold_batchnorm import FoldBatchnorm
from nmc.passes.simplify.fold_layout import FoldLayout
from nmc.passes.simplify.fuse_linear import FuseLinear
from nmc.passes.simplify.legalise_pooling import LegalisePooling
from tests.passes.simplify.graphs import Builder, kinds, linear, new_context, simplified


def test_flattening_goes_into_the_columns() -> None:
    build = Builder((2, 3, 4))
    build.dense(build.reshape(build.relu("x")), 5)
    assert kinds(simplified(build.graph(), FoldLayout())) == ["Input", "Relu", "Linear:Dense"]


def test_an_nhwc_export_keeps_one_transposition_behind_the_input() -> None:
    build = Builder((6, 5, 3))
    turned = build.transpose("x", 2, 0, 1, name="to_nchw")
    relu = build.relu(build.conv(turned, 4, name="conv"), name="relu")
    flat = build.reshape(build.transpose(relu, 1, 2, 0))
    build.dense(flat, 5, name="dense")
    graph = simplified(build.graph(), FoldLayout())
    assert kinds(graph) == ["Input", "Transpose", "Linear:Conv2d", "Relu", "Linear:Dense"]
    assert graph.by_name["to_nchw"].op == Transpose((2, 0, 1))


def test_bias_and_relu_between_two_transpositions() -> None:
    build = Builder((3, 6, 5))
    conv = build.conv("x", 4, name="conv")
    nhwc = build.transpose(conv, 1, 2, 0)
    back = build.transpose(build.relu(nhwc), 2, 0, 1, name="back")
    build.conv(back, 2, name="last")
    graph = simplified(build.graph(), FoldLayout())
    assert kinds(graph) == ["Input", "Linear:Conv2d", "Relu", "Linear:Conv2d"]
    assert graph.by_name["back"].origin.output == "back:0"


def test_a_relu_in_the_other_layout_names_no_tensor() -> None:
    build = Builder((3, 6, 5))
    nhwc = build.transpose(build.conv("x", 4), 1, 2, 0)
    build.dense(build.reshape(build.relu(nhwc, name="relu")), 5)
    graph = simplified(build.graph(), FoldLayout())
    assert kinds(graph) == ["Input", "Linear:Conv2d", "Relu", "Linear:Dense"]
    assert graph.by_name["relu"].origin.output == "" and graph.by_name["relu"].shape == (4, 4, 3)


def test_a_flat_relu_keeps_its_tensor() -> None:
    build = Builder((3, 6, 5))
    build.dense(build.relu(build.reshape(build.conv("x", 4)), name="relu"), 5)
    graph = simplified(build.graph(), FoldLayout())
    assert kinds(graph) == ["Input", "Linear:Conv2d", "Relu", "Linear:Dense"]
    assert graph.by_name["relu"].origin.output == "relu:0"


def test_rows_of_a_dense_layer_before_a_convolution() -> None:
    build = Builder((5,))
    image = build.reshape(build.relu(build.dense("x", 2 * 4 * 3)), 2, 4, 3, name="image")
    build.conv(build.transpose(image, 0, 2, 1, name="turned"), 3, (2, 2))
    graph = simplified(build.graph(), FoldLayout())
    assert kinds(graph) == ["Input", "Linear:Dense", "Relu", "Linear:Conv2d"]
    assert graph.by_name["turned"].shape == (2, 3, 4)


def test_a_pooled_map_becomes_a_vector() -> None:
    build = Builder((3, 4, 4))
    build.reshape(build.pool(build.conv("x", 5), (2, 2), (2, 2)), 5, name="out")
    graph = simplified(build.graph(), LegalisePooling(), FoldLayout(), FuseLinear())
    assert kinds(graph) == ["Input", "Linear:Dense"]
    dense = linear(graph, "out").connectivity
    assert isinstance(dense, Dense) and dense.out_shape == (5,)


def test_normalisation_between_unsqueeze_and_squeeze() -> None:
    build = Builder((6,))
    wide = build.norm(build.reshape(build.dense("x", 4), 4, 1))
    build.relu(build.reshape(wide, 4, name="narrow"))
    graph = simplified(build.graph(), FoldBatchnorm(), FoldLayout(), FuseLinear())
    assert kinds(graph) == ["Input", "Linear:Dense", "Relu"]


def test_a_channel_shuffle_becomes_a_convolution() -> None:
    build = Builder((6, 3, 3))
    relu = build.relu("x")
    shuffled = build.reshape(build.transpose(build.reshape(relu, 2, 3, 3, 3), 1, 0, 2, 3), 6, 3, 3, name="shuffled")
    build.conv(shuffled, 6, groups=2, name="conv")
    graph = simplified(build.graph(), FoldLayout())
    assert kinds(graph) == ["Input", "Relu", "Linear:Conv2d", "Linear:Conv2d"]
    assert linear(graph, "shuffled").connectivity.weight.sum() == 6
    graph = simplified(graph, FuseLinear())
    conv = linear(graph, "conv").connectivity
    assert isinstance(conv, Conv2d) and conv.groups == 1


def test_a_reshape_of_the_input_stays_where_it_is_no_transposition() -> None:
    build = Builder((32,))
    build.conv(build.reshape("x", 2, 4, 4), 3)
    assert kinds(simplified(build.graph(), FoldLayout())) == ["Input", "Reshape", "Linear:Conv2d"]


def test_a_reshape_of_the_input_that_moves_ones_is_a_transposition() -> None:
    build = Builder((6, 5, 1))
    build.conv(build.reshape("x", 1, 6, 5), 3)
    assert kinds(simplified(build.graph(), FoldLayout())) == ["Input", "Transpose", "Linear:Conv2d"]


def test_an_input_that_is_read_in_two_layouts_is_permuted_on_the_chip() -> None:
    build = Builder((4, 4, 4))
    build.sum(build.conv(build.transpose("x", 2, 0, 1), 4, (1, 1)), build.relu("x"))
    graph = simplified(build.graph(), FoldLayout())
    assert sorted(kinds(graph)) == ["Add", "Input", "Linear:Conv2d", "Linear:Sparse", "Relu"]


def test_a_residual_sum_in_the_other_layout() -> None:
    build = Builder((3, 4, 5))
    first = build.transpose(build.conv("x", 2, (1, 1)), 1, 2, 0)
    second = build.transpose(build.conv("x", 2, (3, 3), pads=(1, 1, 1, 1)), 1, 2, 0)
    build.conv(build.transpose(build.relu(build.sum(first, second)), 2, 0, 1, name="back"), 2)
    graph = simplified(build.graph(), FoldLayout())
    assert sorted(kinds(graph)) == ["Add", "Input", "Linear:Conv2d", "Linear:Conv2d", "Linear:Conv2d", "Relu"]


def test_without_movements_nothing_changes() -> None:
    build = Builder((3, 4, 5))
    build.conv("x", 2)
    graph = build.graph()
    assert FoldLayout().run(graph, new_context()) is graph
