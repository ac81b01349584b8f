"""Small files that ask for terabytes or for ever, versions that do not exist, and text that acts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.compiler.frontends.onnx_models import floats, model_of
from tests.hostile.bad_rules import gemm
from tests.hostile.cases import Case, case, chain, one

node = helper.make_node


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def constant(*nodes: onnx.NodeProto, **stored: np.ndarray) -> onnx.ModelProto:
    """A model that adds the constant ``c`` that nodes make."""
    return chain(*nodes, node("Add", ["x", "c"], ["y"]), stored=stored)


def doubling(levels: int) -> onnx.ModelProto:
    """Each node takes twice what the one before made."""
    nodes = [node("Concat", [f"c{n}", f"c{n}"], [f"c{n + 1}"], axis=0) for n in range(levels)]
    return constant(*nodes, node("ReduceMax", [f"c{levels}"], ["c"], keepdims=0), c0=floats(1024))


def many_folds(count: int) -> onnx.ModelProto:
    """Each constant is within its budget, all of them are not."""
    nodes = [node("ConstantOfShape", ["s"], [f"c{n}"]) for n in range(count)]
    nodes += [node("Add", ["x" if n == 0 else f"y{n - 1}", f"m{n}"], [f"y{n}"]) for n in range(count)]
    tops = [node("ReduceMax", [f"c{n}"], [f"m{n}"], keepdims=0) for n in range(count)]
    return chain(*nodes, *tops, node("Relu", [f"y{count - 1}"], ["y"]), stored={"s": ints(2**13, 2**13)})


def functions(levels: int) -> onnx.ModelProto:
    """Function n calls function n - 1 twice."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    made = [helper.make_function("f", "F0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], imports)]
    for n in range(1, levels):
        calls = [node(f"F{n - 1}", ["a"], ["t"], domain="f"), node(f"F{n - 1}", ["t"], ["b"], domain="f")]
        made.append(helper.make_function("f", f"F{n}", ["a"], ["b"], calls, imports))
    model = model_of([node(f"F{levels - 1}", ["x"], ["y"], domain="f")], {}, ["N", 4], domains=["f"])
    model.functions.extend(made)
    return model


def recursive() -> onnx.ModelProto:
    """A function that calls itself."""
    model = functions(1)
    model.functions[0].node[0].CopyFrom(node("F0", ["a"], ["b"], domain="f"))
    return model


def grown(axis: int, repeats: int) -> onnx.ModelProto:
    """An activation, repeated."""
    return one("Tile", ["x", "r"], {"r": ints(*(repeats if n == axis else 1 for n in range(4)))})


def broadcasts(count: int) -> onnx.ModelProto:
    """Each sum takes a small constant to a large activation."""
    nodes = [node("Add", [f"y{n}" if n else "x", "c"], [f"y{n + 1}"]) for n in range(count)]
    shape: list[int | str] = ["N", 1, 7000, 7000]
    return model_of([*nodes, node("Relu", [f"y{count}"], ["y"])], {"c": floats(7000)}, shape)


def ladder(levels: int) -> onnx.ModelProto:
    """As many paths as 2 to the power of its nodes."""
    nodes = [node("Add", [f"y{n}" if n else "x"] * 2, [f"y{n + 1}"]) for n in range(levels)]
    return chain(*nodes, node("Relu", [f"y{levels}"], ["y"]))


def shadowed() -> onnx.ModelProto:
    """A function under the name of a standard operator."""
    model = functions(1)
    model.functions[0].domain = ""
    model.functions[0].name = "Relu"
    model.graph.node[0].CopyFrom(node("Relu", ["x"], ["y"]))
    return model


BOMBS: dict[str, Case] = {
    "ConstantOfShape of 2^40": case(
        lambda f: constant(node("ConstantOfShape", ["s"], ["c"]), s=ints(2**20, 2**20)), "constant-not-folded"
    ),
    "ConstantOfShape of 2^90": case(
        lambda f: constant(node("ConstantOfShape", ["s"], ["c"]), s=ints(2**30, 2**30, 2**30)), "constant-not-folded"
    ),
    "ConstantOfShape of a negative size": case(
        lambda f: constant(node("ConstantOfShape", ["s"], ["c"]), s=ints(-4)), "constant-not-folded"
    ),
    "Range to 10^15": case(
        lambda f: constant(node("Range", ["a", "b", "d"], ["c"]), a=np.array(0), b=np.array(10**15), d=np.array(1)),
        "constant-not-folded",
    ),
    "Range of step 0": case(
        lambda f: constant(node("Range", ["a", "b", "d"], ["c"]), a=np.array(0), b=np.array(9), d=np.array(0)),
        "constant-not-folded",
    ),
    "Range of reals": case(
        lambda f: constant(
            node("Range", ["a", "b", "d"], ["c"]), a=np.float32(0), b=np.float32(1e30), d=np.float32(1e-30)
        ),
        "constant-not-folded",
    ),
    "Expand to 2^40": case(
        lambda f: constant(node("Expand", ["a", "s"], ["c"]), a=floats(1), s=ints(2**20, 2**20)), "constant-not-folded"
    ),
    "Tile to 2^40": case(
        lambda f: constant(node("Tile", ["a", "s"], ["c"]), a=floats(1), s=ints(2**40)), "constant-not-folded"
    ),
    "Pad to 2^40": case(
        lambda f: constant(node("Pad", ["a", "s"], ["c"]), a=floats(1), s=ints(2**40, 0)), "constant-not-folded"
    ),
    "Gather to 2^40": case(
        lambda f: constant(
            node("ConstantOfShape", ["s"], ["i"], value=numpy_helper.from_array(ints(0))),
            node("Gather", ["a", "i"], ["c"]),
            a=floats(1, 2**16),
            s=ints(2**25),
        ),
        "constant-not-folded",
    ),
    "an outer product of 2^40": case(
        lambda f: constant(
            node("ConstantOfShape", ["s"], ["a"]),
            node("ConstantOfShape", ["t"], ["b"]),
            node("MatMul", ["a", "b"], ["c"]),
            s=ints(2**20, 1),
            t=ints(1, 2**20),
        ),
        "constant-not-folded",
    ),
    "a product of 2^39 steps": case(
        lambda f: constant(
            node("ConstantOfShape", ["s"], ["a"]), node("MatMul", ["a", "a"], ["c"]), s=ints(2**13, 2**13)
        ),
        "constant-not-folded",
    ),
    "constants that double": case(lambda f: doubling(60), "constant-not-folded"),
    "many constants within their budget": case(lambda f: many_folds(200), "constant-not-folded"),
    "an activation repeated 2^40 times": case(
        lambda f: grown(1, 2**40), "shape-invalid", "model-too-large", "operator-unsupported"
    ),
    "an activation repeated 2^22 times": case(
        lambda f: grown(1, 2**22), "shape-invalid", "model-too-large", "operator-unsupported"
    ),
    "an activation padded by 2^40": case(
        lambda f: one("Pad", ["x", "p"], {"p": ints(0, 0, 2**20, 2**20, 0, 0, 2**20, 2**20)}),
        "shape-invalid",
        "model-too-large",
    ),
    "an activation resized 10^6 times": case(
        lambda f: one("Resize", ["x", "", "s"], {"s": np.array([1, 1, 1e6, 1e6], np.float32)}, mode="nearest"),
        "shape-invalid",
        "model-too-large",
        "operator-unsupported",
    ),
    "an activation expanded to 2^40": case(
        lambda f: one("Expand", ["x", "s"], {"s": ints(2**20, 2**20)}, ["N", 1, 1]),
        "shape-invalid",
        "model-too-large",
        "operator-unsupported",
    ),
    "a transposed convolution of stride 2^20": case(
        lambda f: one("ConvTranspose", ["x", "w"], {"w": floats(2, 1, 3, 3)}, strides=[2**20, 2**20]),
        "shape-invalid",
        "model-too-large",
    ),
    "activations that double": case(
        lambda f: chain(
            *(node("Concat", [f"x{n}" if n else "x"] * 2, [f"x{n + 1}"], axis=1) for n in range(40)),
            node("Relu", ["x40"], ["y"]),
        ),
        "shape-invalid",
        "model-too-large",
    ),
    "a transposed convolution of 2^38 products": case(
        lambda f: one("ConvTranspose", ["x", "w"], {"w": floats(64, 64, 3, 3)}, ["N", 64, 1000, 1000], strides=[1, 1]),
        "model-too-large",
        "shape-invalid",
        "operator-unsupported",
    ),
    "a convolution of 2^42 products": case(
        lambda f: one("Conv", ["x", "w"], {"w": floats(8, 8, 64, 64)}, ["N", 8, 2800, 2800]), "model-too-large"
    ),
    "a pool of 2^50 sums": case(
        lambda f: one("AveragePool", ["x"], None, ["N", 1, 8000, 8000], kernel_shape=[4001, 4001], pads=[2000] * 4),
        "model-too-large",
    ),
    "sums of 2^20 numbers broadcast a hundred times": case(lambda f: broadcasts(100), "constant-not-folded"),
    "a sum that doubles sixty times": case(lambda f: ladder(60), code=0),
    "fifty thousand nodes of one name": case(
        lambda f: chain(*(node("Relu", ["x"], [f"y{n}"], name="same") for n in range(50_000))), "model-invalid"
    ),
    "functions of 2^30 nodes": case(lambda f: functions(31), "operator-unsupported", "model-invalid"),
    "a function that calls itself": case(lambda f: recursive(), "operator-unsupported", "model-invalid"),
    "a function called Relu": case(lambda f: shadowed(), "operator-unsupported", "model-invalid"),
}


def version(number: int | None, ir_version: int = 10) -> onnx.ModelProto:
    def change(model: onnx.ModelProto) -> None:
        model.ir_version = ir_version
        if number is None:
            model.ClearField("opset_import")
        else:
            model.opset_import[0].version = number

    return gemm(change)


VERSIONS: dict[str, Case] = {
    "opset 0": case(lambda f: version(0), "model-version"),
    "opset -1": case(lambda f: version(-1), "model-version"),
    "opset 2^62": case(lambda f: version(2**62), "model-version"),
    "opset 999": case(lambda f: version(999), "model-version"),
    "opset 3": case(lambda f: version(3), "model-version"),
    "no opset": case(lambda f: version(None), "model-version"),
    "two opsets": case(lambda f: gemm(lambda m: m.opset_import.append(helper.make_opsetid("", 9))), "model-version"),
    "IR version 99": case(lambda f: version(17, 99), "model-version"),
    "IR version 2": case(lambda f: version(7, 2), "model-version"),
    "training": case(
        lambda f: (
            one("Relu", ["x"]) if False else gemm(lambda m: setattr(m.graph.node[1], "domain", "ai.onnx.training"))
        ),
        "operator-unsupported",
    ),
    "a domain of their own": case(
        lambda f: gemm(lambda m: setattr(m.graph.node[1], "domain", "com.evil")),
        "operator-unsupported",
        "model-invalid",
    ),
}

ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\u202egnp.exe\u2066\ufeff"


def _named(text: str) -> Callable[[onnx.ModelProto], None]:
    """Every name of a sound model is hostile."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.name = model.producer_name = model.doc_string = text
        model.metadata_props.add(key=text, value=text)
        names = {name: f"{text}{name}" for name in ("x", "w", "g", "y")}
        for made in graph.node:
            made.name = f"{text}{made.name}"
            made.input[:] = [names[n] for n in made.input]
            made.output[:] = [names[n] for n in made.output]
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = names[value.name]
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = text

    return change


NAMES: dict[str, Case] = {
    "names that act on a terminal": case(lambda f: gemm(_named(ESCAPES)), code=0),
    "names that are paths": case(lambda f: gemm(_named("../../../../tmp/evil/")), code=0),
    "names that are Python": case(
        lambda f: gemm(_named('"""\'); __import__("os").system("touch /tmp/owned") #{x!r}%s')), code=0
    ),
    "names of a million letters": case(lambda f: gemm(_named("n" * 10**6)), "model-invalid"),
    "a hostile operator": case(
        lambda f: gemm(lambda m: setattr(m.graph.node[1], "op_type", ESCAPES * 500)), "operator-unsupported"
    ),
    "a hostile domain": case(
        lambda f: gemm(lambda m: setattr(m.graph.node[1], "domain", ESCAPES * 500)),
        "operator-unsupported",
        "model-invalid",
    ),
    "a thousand problems with long names": case(
        lambda f: chain(*(node("Relu", [f"{ESCAPES}{n}"], [f"y{n}"], name=ESCAPES * 50) for n in range(1000))),
        "model-invalid",
    ),
    "metadata of ten million letters": case(
        lambda f: gemm(lambda m: m.metadata_props.add(key="k", value="v" * 10**7)), code=0
    ),
}
