"""Bugs in the import and simplify stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nmc.compiler.frontends.onnx import operators_arithmetic, operators_linear, registry
from nmc.compiler.frontends.onnx.importer import GraphBuilder
from nmc.compiler.frontends.onnx.node import Node
from nmc.ir.connectivity import Sparse
from nmc.ir.layers import AveragePool, BatchNorm, Clip, Concat, LeakyRelu, Linear, Slice, Transpose
from nmc.passes.simplify import (
    fold_batchnorm,
    fold_layout,
    fold_pad,
    fuse_linear,
    legalise_activation,
    legalise_pooling,
    legalise_shortcut,
    maxima,
)
from tests.planted.planting import Bug, Patches


def _swapped_pads(patches: Patches) -> None:
    def swapped(axes: Any) -> Any:
        return tuple(replace(axis, before=axis.after, after=axis.before) for axis in axes)

    patches.change(operators_linear, "resolve_axes", swapped)


def _swapped_strides(patches: Patches) -> None:
    def swapped(window: Any) -> Any:
        return replace(window, stride=window.stride[::-1]) if window.stride != (1, 1) else window

    original = operators_linear.Window.of
    patches.put(operators_linear.Window, "of", staticmethod(lambda y, x: swapped(original(y, x))))


def _unread_attribute(name: str) -> Any:
    """An importer that takes the default of a number instead of the attribute."""

    def plant(patches: Patches) -> None:
        patches.wrap(
            Node,
            "number",
            lambda original, node, asked, default: default if asked == name else original(node, asked, default),
        )

    return plant


def _norm(scale: Any, shift: Any) -> Any:
    """Batch norm with other parameters: functions of (gamma, beta, mean, variance + epsilon)."""

    def importer(node: Any, graph: Any) -> None:
        gamma, beta, mean, variance = (graph.constant(node.input(i), "it").astype(float) for i in range(1, 5))
        floor = variance + node.number("epsilon", 1e-5)
        op = BatchNorm(scale(gamma, floor), shift(gamma, beta, mean, floor))
        graph.add(node, op, (node.input(0),), graph.activation(node, 0))

    return lambda patches: patches.put(registry, "REWRITE", registry.REWRITE | {"BatchNormalization": importer})


def _layer(kind: type, changed: Any) -> Any:
    """Importers that make another layer of the kind: ``changed(op)``."""

    def plant(patches: Patches) -> None:
        def add(original: Any, builder: Any, node: Any, op: Any, *rest: Any) -> Any:
            return original(builder, node, changed(op) if isinstance(op, kind) else op, *rest)

        patches.wrap(GraphBuilder, "add", add)

    return plant


def _shifted_slice(op: Slice) -> Slice:
    starts = tuple(start - 1 if start else 0 for start in op.starts)
    stops = tuple(stop - 1 if start else stop for start, stop in zip(op.starts, op.stops, strict=True))
    return replace(op, starts=starts, stops=stops)


IMPORT = (
    Bug("pads before and after a convolution swapped", "import", "exported", _swapped_pads),
    Bug("strides of rows and columns swapped", "import", "exported", _swapped_strides),
    Bug("epsilon of batch norm not read", "import", "exported", _unread_attribute("epsilon")),
    Bug(
        "batch norm divides by the variance, not its root",
        "import",
        "exported",
        _norm(lambda gamma, floor: gamma / floor, lambda gamma, beta, mean, floor: beta - mean * gamma / floor),
    ),
    Bug(
        "batch norm forgets the scale of the mean",
        "import",
        "exported",
        _norm(lambda gamma, floor: gamma / np.sqrt(floor), lambda gamma, beta, mean, floor: beta - mean * gamma),
    ),
    Bug(
        "bias of a convolution dropped",
        "import",
        "exported",
        lambda patches: patches.change(operators_linear, "bias_of", np.zeros_like),
    ),
    Bug("alpha of a Gemm not read", "import", "exported", _unread_attribute("alpha")),
    Bug("beta of a Gemm not read", "import", "exported", _unread_attribute("beta")),
    Bug(
        "lower bound of a clip loses its sign",
        "import",
        "exported",
        _layer(Clip, lambda op: replace(op, low=abs(op.low))),
    ),
    Bug("slope of a leaky ReLU negated", "import", "layout", _layer(LeakyRelu, lambda op: LeakyRelu(-op.slope))),
    Bug(
        "groups of a convolution in reverse order",
        "import",
        "exported",
        _layer(Linear, lambda op: _reversed_groups(op)),
    ),
    Bug(
        "padding counts in an average pooling",
        "import",
        "exported",
        _layer(AveragePool, lambda op: replace(op, count_pads=True)),
    ),
    Bug(
        "transposition by the inverse permutation",
        "import",
        "layout",
        _layer(Transpose, lambda op: Transpose(tuple(int(a) for a in np.argsort(op.perm)))),
    ),
    Bug("slice begins one too early", "import", "layout", _layer(Slice, _shifted_slice)),
    Bug("inputs of a join in reverse order", "import", "layout", lambda patches: _reversed_join(patches)),
    Bug(
        "difference added instead",
        "import",
        "layout",
        lambda patches: patches.wrap(
            operators_arithmetic,
            "_sum",
            lambda original, node, graph, sign, **given: original(node, graph, 1.0, **given),
        ),
    ),
)


def _reversed_groups(op: Linear) -> Linear:
    connectivity = op.connectivity
    if getattr(connectivity, "groups", 1) == 1:
        return op
    per = len(connectivity.weight) // connectivity.groups
    weight = connectivity.weight.reshape(connectivity.groups, per, *connectivity.weight.shape[1:])[::-1]
    return replace(op, connectivity=connectivity.with_weight(weight.reshape(connectivity.weight.shape).copy()))


def _reversed_join(patches: Patches) -> None:
    def add(original: Any, builder: Any, node: Any, op: Any, inputs: Any, *rest: Any) -> Any:
        return original(builder, node, op, inputs[::-1] if isinstance(op, Concat) else inputs, *rest)

    patches.wrap(GraphBuilder, "add", add)


def _lost_shift(patches: Patches) -> None:
    def folded(original: Any, layer: Any, norm: Any, source: Any) -> Any:
        return original(layer, replace(norm, shift=np.zeros_like(norm.shift)), source)

    patches.wrap(fold_batchnorm, "_folded", folded)


def _unscaled_bias(patches: Patches) -> None:
    def folded(original: Any, layer: Any, norm: Any, source: Any) -> Any:
        done = original(layer, norm, source)
        bias = source.op.bias + norm.shift if source is not None and isinstance(source.op, Linear) else done.op.bias
        return replace(done, op=replace(done.op, bias=bias))

    patches.wrap(fold_batchnorm, "_folded", folded)


def _merged_loses_bias(patches: Patches) -> None:
    def through(original: Any, fusion: Any, layer: Any, op: Any) -> Any:
        return tuple(
            replace(term, bias=None) if number else term for number, term in enumerate(original(fusion, layer, op))
        )

    patches.wrap(fuse_linear._Fusion, "_through", through)


def _lost_second_term(patches: Patches) -> None:
    patches.wrap(fuse_linear, "_merged", lambda original, terms, shape: original(terms[:1], shape))


def _inverse_columns(patches: Patches) -> None:
    def gathered(original: Any, connectivity: Any, index: Any, source: Any) -> Any:
        return original(connectivity, np.argsort(index), source)

    patches.wrap(fold_layout, "gathered_columns", gathered)


def _larger_is_smaller(patches: Patches) -> None:
    def taps(original: Any, shape: Any, axis: int, weights: Any, stride: int, count: int) -> Any:
        flipped = {offset: -weight for offset, weight in weights.items()} if len(weights) == 2 else weights
        return original(shape, axis, flipped, stride, count)

    patches.wrap(maxima, "taps", taps)


def _clip_without_top(patches: Patches) -> None:
    patches.wrap(
        legalise_activation, "_clipped", lambda original, layer, low, high, taken: original(layer, low, None, taken)
    )


def _clip_top_from_zero(patches: Patches) -> None:
    def clipped(original: Any, layer: Any, low: Any, high: Any, taken: Any) -> Any:
        return original(layer, low, high - (low or 0.0), taken)

    patches.wrap(legalise_activation, "_clipped", clipped)


def _divisor_of_full_window(patches: Patches) -> None:
    def windows(original: Any, op: Any, shape: Any, out_shape: Any) -> Any:
        made = original(op, shape, out_shape)
        return made.with_weight(np.full_like(made.weight, 1.0 / np.prod(op.kernel)))

    patches.wrap(legalise_pooling, "_windows", windows)


def _composed_dense_transposed(patches: Patches) -> None:
    def composed(original: Any, outer: Any, inner: Any) -> Any:
        made = original(outer, inner)
        if isinstance(made, Sparse) or made is None or made.weight.ndim != 4:
            return made
        return made.with_weight(np.ascontiguousarray(made.weight[:, :, ::-1]))

    patches.wrap(fuse_linear, "compose", composed)


def _joined_at_the_same_place(patches: Patches) -> None:
    def copied(original: Any, source: Any, target: Any, offset: Any, step: Any) -> Any:
        return original(source, target, tuple(min(o + 1, 0) if o < -1 else o for o in offset), step)

    patches.wrap(legalise_shortcut, "_copy", copied)


SIMPLIFY = (
    Bug("folded batch norm loses its shift", "simplify", "exported", _lost_shift),
    Bug("folded batch norm does not scale the bias", "simplify", "exported", _unscaled_bias),
    Bug(
        "padding folded to the wrong sides",
        "simplify",
        "exported",
        lambda patches: patches.wrap(
            fold_pad, "_added", lambda original, pads, before, after: original(pads, after, before)
        ),
    ),
    Bug("borders of a pooling divided by the whole window", "simplify", "exported", _divisor_of_full_window),
    Bug("clip without its upper bound", "simplify", "exported", _clip_without_top),
    Bug("upper bound of a clip counted from the lower", "simplify", "exported", _clip_top_from_zero),
    Bug("maximum takes the smaller", "simplify", "layout", _larger_is_smaller),
    Bug(
        "leaky ReLU with the slope 1 - alpha",
        "simplify",
        "layout",
        lambda patches: patches.wrap(
            legalise_activation,
            "_leaky",
            lambda original, layer, slope, below, taken: original(layer, 1 - slope, below, taken),
        ),
    ),
    Bug("joined channels one place too early", "simplify", "layout", _joined_at_the_same_place),
    Bug("columns of a dense layer gathered backwards", "simplify", "layout", _inverse_columns),
    Bug(
        "bias not carried through the next layer",
        "simplify",
        "layout",
        lambda patches: patches.change(fuse_linear, "apply", np.zeros_like),
    ),
    Bug("a sum keeps its first term only", "simplify", "residual", _lost_second_term),
    Bug("composed kernel upside down", "simplify", "layout", _composed_dense_transposed),
)
