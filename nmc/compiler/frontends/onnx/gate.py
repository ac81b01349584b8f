"""The gate: from a path to a model that is whole, self-contained and finite.

Nothing of the file is trusted: size and magic are looked at before protobuf sees a byte,
external data is read by us and never by ONNX Runtime (which follows hard links).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from nmc.compiler.frontends.onnx.external import external_bytes
from nmc.compiler.frontends.onnx.limits import NODE_LIMIT, SIZE_LIMIT
from nmc.compiler.frontends.onnx.structure import origin_of
from nmc.compiler.frontends.onnx.text import escaped
from nmc.compiler.frontends.onnx.validate import graphs, stored_type_problem
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.origin import Origin

MAGICS = (
    (b"PK\x03\x04", "a zip archive", "export a PyTorch checkpoint with torch.onnx.export"),
    (b"\x80", "a pickle", "export the network with torch.onnx.export"),
    (b"\x89HDF", "an HDF5 file", "export a Keras model with tf2onnx"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", "give the .onnx file"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file with git lfs pull"),
)


DATA_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
"""Where a tensor may keep its numbers: one of them."""

FLOAT_MAX = float(np.finfo(np.float32).max)


def read_file(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        NmcError: exit USAGE where the path cannot be read, MODEL where the file is empty or
            larger than `SIZE_LIMIT`.
    """
    name = escaped(str(path))
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "is not a file"
            raise NmcError.single(
                "path-not-readable", f"{name} {what}", ExitCode.USAGE, help="give the path of an ONNX file"
            )
        length = path.stat().st_size
        if length > SIZE_LIMIT:
            raise NmcError.single(
                "model-too-large",
                f"{name} has {length} bytes, the limit is {SIZE_LIMIT}",
                ExitCode.MODEL,
                help="compile a smaller network, or one with float32 weights only",
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NmcError.single("path-not-readable", f"cannot read {name}: {escaped(reason)}", ExitCode.USAGE) from error
    if not data:
        raise NmcError.single("model-not-onnx", f"{name} is empty", ExitCode.MODEL, help="export the model again")
    return data


def parse(data: bytes, name: str) -> onnx.ModelProto:
    """The model in the bytes of a file.

    Args:
        data: the file.
        name: of the file, for messages.

    Raises:
        NmcError: not an ONNX model, or a truncated one.
    """
    for magic, what, way_out in MAGICS:
        if data.startswith(magic):
            raise NmcError.single(
                "model-not-onnx", f"{escaped(name)} is {what}, not an ONNX model", ExitCode.MODEL, help=way_out
            )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        plausible = model.HasField("graph") and model.ir_version > 0
    except MemoryError:
        raise
    except Exception:  # protobuf raises a class of its own, which it does not export with types
        plausible = False
    if not plausible:
        raise NmcError.single(
            "model-not-onnx",
            f"{escaped(name)} is not an ONNX model, or a truncated one ({len(data)} bytes)",
            ExitCode.MODEL,
            help="export the model again and compare the file sizes",
        )
    nodes = len(model.graph.node)
    if not 1 <= nodes <= NODE_LIMIT:
        raise NmcError.single(
            "model-invalid",
            f"{escaped(name)} has {nodes} nodes, it must have 1 to {NODE_LIMIT}",
            ExitCode.MODEL,
        )
    # Protobuf hands out bytes where a name is no UTF-8.
    if not all(isinstance(text, str) for text in _names(model)):
        raise NmcError.single(
            "model-not-onnx",
            f"{escaped(name)} is damaged: it holds names that are no UTF-8 text",
            ExitCode.MODEL,
            help="export the model again",
        )
    return model


def _names(model: onnx.ModelProto) -> Iterator[object]:
    """Every name that messages or look-ups use."""
    graph = model.graph
    yield graph.name
    yield from (o.domain for o in model.opset_import)
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (d.dim_param for d in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for tensor in tensors(model):
        yield tensor.name
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All stored tensors, also those of bodies: initialisers and tensor attributes."""
    for graph, _ in graphs(model):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def inline_external_data(model: onnx.ModelProto, data: bytes, folder: Path, sink: DiagnosticSink) -> str:
    """Read external tensors into the model, in place.

    Args:
        model: changed.
        data: of the model file.
        folder: of the model file; external data must lie in it or below.
        sink: one error per tensor that cannot be read.

    Returns:
        SHA-256 of the file and the external data read, hex.
    """
    digest = hashlib.sha256(data)
    total = 0
    for tensor in tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        stored = external_bytes(tensor, folder, sink, SIZE_LIMIT - total)
        if stored is not None:
            total += len(stored)
            digest.update(stored)
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = stored
    return digest.hexdigest()


def check_tensors(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """Every stored tensor can be decoded, and every number in it is finite."""
    readers: dict[str, Origin] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, origin_of(node))
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _check_tensor(attribute.t, origin_of(node), sink)
    for tensor in model.graph.initializer:
        _check_tensor(tensor, readers.get(tensor.name), sink)


def _check_tensor(tensor: onnx.TensorProto, origin: Origin | None, sink: DiagnosticSink) -> None:
    name = escaped(tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return  # it could not be read, which has been reported; the ONNX library must not try
    if problem := stored_type_problem(tensor):
        help = "store its numbers in another type, in one piece"
        sink.error("model-invalid", f"tensor '{name}' cannot be read: {problem}", origin=origin, help=help)
        return
    try:
        # An absurd dims field must not allocate: the stored bytes bound the elements.
        elements = int(np.prod([max(d, 0) for d in tensor.dims], dtype=object))
        if min(tensor.dims, default=0) < 0 or elements > SIZE_LIMIT:
            raise ValueError(f"its shape is {list(tensor.dims)}")
        if sum(bool(len(getattr(tensor, field))) for field in DATA_FIELDS) > 1:
            raise ValueError("its data is stored twice")
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
        sink.error("model-invalid", f"tensor '{name}' cannot be read: {escaped(str(error), 120)}", origin=origin)
        return
    if tensor.data_type == onnx.TensorProto.BFLOAT16:
        array = array.astype(np.float32)  # NumPy does not know it for a float
    if array.dtype.kind == "f" and array.size:
        # Double precision becomes float32, whose largest number it may exceed.
        good = np.abs(array) <= FLOAT_MAX if array.dtype == np.float64 else np.isfinite(array)
        bad = int(array.size - np.count_nonzero(good))
        if bad:
            sink.error(
                "model-weights-not-finite",
                f"tensor '{name}' has {bad} of {array.size} numbers that are NaN, infinite or beyond float32",
                origin=origin,
                help="the training diverged, or the export went wrong; export a good checkpoint",
            )
