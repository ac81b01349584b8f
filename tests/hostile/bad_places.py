"""Models whose weights lie elsewhere, and files that are no models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from tests.compiler.frontends.onnx_models import floats, model_of, saved
from tests.hostile.bad_rules import gemm
from tests.hostile.cases import Case, case

CANARY = b"canary--" * 6
"""48 bytes, as the weight needs: what lies beside the model's folder."""


def external(location: str, **entries: str) -> onnx.ModelProto:
    """A sound model whose weight lies at a location."""

    def change(model: onnx.ModelProto) -> None:
        _point(model.graph.initializer[0], {"location": location, **entries})

    return gemm(change)


def _point(tensor: TensorProto, entries: dict[str, str]) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def canary(folder: Path) -> Path:
    """The file that nobody may read."""
    path = folder.parent / "canary.bin"
    path.write_bytes(CANARY)
    return path


def beside(folder: Path, size: int = 48) -> None:
    (folder / "w.bin").write_bytes(bytes(size))


def linked(folder: Path, how: Callable[[Path, Path], object]) -> onnx.ModelProto:
    how(canary(folder), folder / "w.bin")
    return external("w.bin")


def with_file(folder: Path, location: str = "w.bin", **entries: str) -> onnx.ModelProto:
    beside(folder)
    return external(location, **entries)


def fifo(folder: Path) -> onnx.ModelProto:
    os.mkfifo(folder / "w.bin")
    return external("w.bin")


def through_folder(folder: Path) -> onnx.ModelProto:
    canary(folder)
    (folder / "sub").symlink_to(folder.parent)
    return external("sub/canary.bin")


def a_folder(folder: Path) -> onnx.ModelProto:
    (folder / "w.bin").mkdir()
    return external("w.bin")


def in_constant(folder: Path) -> onnx.ModelProto:
    """The tensor of a Constant, not an initialiser."""
    tensor = TensorProto(name="c", dims=[4], data_type=TensorProto.FLOAT)
    _point(tensor, {"location": str(canary(folder))})
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["y"])]
    return model_of(nodes, {}, ["N", 4])


def in_body(folder: Path) -> onnx.ModelProto:
    """A tensor in the branch of an If."""
    tensor = TensorProto(name="w", dims=[4], data_type=TensorProto.FLOAT)
    _point(tensor, {"location": str(canary(folder))})
    value = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Add", ["x", "w"], ["r"])], "b", [], [value], [tensor])
    made = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    return model_of([made], {"c": floats(1) > 0}, ["N", 4])


def twice(folder: Path) -> onnx.ModelProto:
    model = with_file(folder)
    model.graph.initializer[0].external_data.add(key="location", value=str(canary(folder)))
    return model


def whole(folder: Path) -> Path:
    """More external data than the limit, in a file with a hole."""
    with (folder / "w.bin").open("wb") as stream:
        stream.truncate(1 << 40)
    return saved(external("w.bin"), folder)


PLACES: dict[str, Case] = {
    "an absolute path": case(lambda f: external(str(canary(f))), "external-data-outside"),
    "the folder above": case(lambda f: (canary(f), external("../canary.bin"))[1], "external-data-outside"),
    "above by a detour": case(lambda f: (canary(f), external("a/../../canary.bin"))[1], "external-data-outside"),
    "a path of another system": case(lambda f: external("..\\canary.bin"), "external-data-outside"),
    "a drive": case(lambda f: external("C:\\canary.bin"), "external-data-outside"),
    "a symbolic link": case(lambda f: linked(f, lambda a, b: b.symlink_to(a)), "external-data-outside"),
    "a hard link": case(lambda f: linked(f, os.link), "external-data-outside"),
    "a linked folder": case(through_folder, "external-data-outside"),
    "a pipe": case(fifo, "external-data-missing", "external-data-outside"),
    "a folder": case(a_folder, "external-data-missing", "external-data-outside"),
    "a device": case(lambda f: external("/dev/zero"), "external-data-outside"),
    "the process table": case(lambda f: external("/proc/self/environ"), "external-data-outside"),
    "memory": case(lambda f: external("*/_ORT_MEM_ADDR_/*", offset="4096", length="48"), "external-data-outside"),
    "no location": case(lambda f: external(""), "external-data-outside"),
    "a location of a zero byte": case(lambda f: external("w.bin\0.txt"), "external-data-outside"),
    "a location of ten thousand letters": case(
        lambda f: external("w" * 10_000), "external-data-outside", "external-data-missing"
    ),
    "a key that nobody knows": case(
        lambda f: with_file(f, evil="1", __class__="x"), "external-data-outside", "model-invalid"
    ),
    "a key twice": case(twice, "external-data-outside", "model-invalid"),
    "an offset below zero": case(lambda f: with_file(f, offset="-8"), "external-data-missing"),
    "an offset of 2^64": case(lambda f: with_file(f, offset=str(2**64)), "external-data-missing"),
    "a length beyond the end": case(lambda f: with_file(f, length=str(2**40)), "external-data-missing"),
    "a length below zero": case(lambda f: with_file(f, length="-1"), "external-data-missing"),
    "a length that the shape does not have": case(
        lambda f: with_file(f, length="8"), "external-data-missing", "model-invalid"
    ),
    "an offset that is no number": case(lambda f: with_file(f, offset="1e3"), "external-data-missing"),
    "a terabyte": case(whole, "external-data-missing", "model-too-large"),
    "in a constant": case(in_constant, "external-data-outside"),
    "in the branch of an If": case(in_body, "operator-unsupported", "external-data-outside"),
}


def sparse_file(folder: Path) -> Path:
    path = folder / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(1 << 34)
    return path


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


def _nested_message(depth: int) -> bytes:
    """Messages within messages: graph, node, attribute, graph and so on, without end."""
    tags = (6, 5, 1) * depth  # attribute.g, node.attribute, graph.node
    body = b""
    for tag in (*tags, 7):  # model.graph
        body = bytes([tag << 3 | 2]) + _varint(len(body)) + body
    return b"\x08\x0a" + body


def _varint(number: int) -> bytes:
    low = number & 127
    return bytes([low | 128]) + _varint(number >> 7) if number > 127 else bytes([low])


FILES: dict[str, Case] = {
    "nothing": case(lambda f: b"", "model-not-onnx"),
    "a zip": case(lambda f: b"PK\x03\x04" + bytes(100), "model-not-onnx"),
    "a pickle": case(lambda f: b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.", "model-not-onnx"),
    "half a model": case(lambda f: gemm(lambda m: None).SerializeToString()[:150], "model-not-onnx"),
    "sixteen gigabytes": case(sparse_file, "model-too-large"),
    "a thousand messages deep": case(lambda f: _nested_message(1000), "model-not-onnx"),
    "a name that is no text": case(
        lambda f: gemm(lambda m: None).SerializeToString().replace(b"relu", b"\xff\xfe\xff\xfe"), "model-not-onnx"
    ),
    "a pipe for a model": case(pipe, "path-not-readable", code=2),
    "a folder for a model": case(lambda f: f, "path-not-readable", code=2),
    "a device for a model": case(lambda f: Path("/dev/zero"), "path-not-readable", code=2),
}
