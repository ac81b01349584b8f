"""The gate: from a path to a model that is whole, self-contained and finite.

Nothing of the file is trusted: size and magic are looked at before protobuf sees a byte,
external data is read by us and never by ONNX Runtime (which follows hard links).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
from onnx import numpy_helper

from nmc.compiler.frontends.onnx.structure import origin_of
from nmc.compiler.frontends.onnx.text import escaped
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.origin import Origin

SIZE_LIMIT = 512 * 2**20
"""Bytes of a model with its external data."""

NODE_LIMIT = 100_000
"""Nodes of a model; light models of the ONNX project have 1,746 at the most."""

MAGICS = (
    (b"PK\x03\x04", "a zip archive", "export a PyTorch checkpoint with torch.onnx.export"),
    (b"\x80", "a pickle", "export the network with torch.onnx.export"),
    (b"\x89HDF", "an HDF5 file", "export a Keras model with tf2onnx"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", "give the .onnx file"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file with git lfs pull"),
)


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
    """All stored tensors of the main graph: initialisers and tensor attributes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
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
        stored = _external_bytes(tensor, folder, sink, SIZE_LIMIT - total)
        if stored is not None:
            total += len(stored)
            digest.update(stored)
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = stored
    return digest.hexdigest()


def _external_bytes(tensor: onnx.TensorProto, folder: Path, sink: DiagnosticSink, budget: int) -> bytes | None:
    name = escaped(tensor.name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = PurePosixPath(location).parts
    if not parts or location.startswith(("/", "\\")) or ".." in parts or "\\" in location or "\0" in location:
        sink.error(
            "external-data-outside",
            f"tensor '{name}' keeps its data in '{escaped(location)}', outside the model's folder",
            help="put the data file beside the model",
        )
        return None
    file = folder
    for part in parts:
        file = file / part
        if file.is_symlink():
            sink.error(
                "external-data-outside",
                f"tensor '{name}' keeps its data behind the symbolic link '{escaped(location)}'",
                help="replace the link by the file",
            )
            return None
    if not file.is_file():
        sink.error(
            "external-data-missing",
            f"tensor '{name}' keeps its data in '{escaped(location)}', which does not exist",
            help="keep the data file beside the model",
        )
        return None
    if file.stat().st_nlink != 1:
        sink.error(
            "external-data-outside",
            f"tensor '{name}' keeps its data in '{escaped(location)}', which is a hard link",
            help="replace the link by a copy of the file",
        )
        return None
    size = file.stat().st_size
    offset = _whole_number(entries.get("offset", "0"))
    length = _whole_number(entries.get("length", str(max(size - offset, 0))))
    if offset < 0 or length < 0 or offset + length > size or length > budget:
        sink.error(
            "external-data-missing",
            f"tensor '{name}' wants bytes {offset} to {offset + length} of '{escaped(location)}', which has {size}",
            help="the data file does not belong to the model; export both again",
        )
        return None
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _whole_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def check_tensors(model: onnx.ModelProto, sink: DiagnosticSink) -> None:
    """Every stored tensor can be decoded, and every number in it is finite."""
    readers: dict[str, Origin] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, origin_of(node))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _check_tensor(attribute.t, origin_of(node), sink)
    for tensor in model.graph.initializer:
        _check_tensor(tensor, readers.get(tensor.name), sink)
    if model.graph.sparse_initializer:
        sink.error(
            "model-invalid",
            f"the model has {len(model.graph.sparse_initializer)} sparse initialisers",
            help="store the weights as dense tensors",
        )


def _check_tensor(tensor: onnx.TensorProto, origin: Origin | None, sink: DiagnosticSink) -> None:
    name = escaped(tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return  # it could not be read, which has been reported; the ONNX library must not try
    try:
        # An absurd dims field must not allocate: the stored bytes bound the elements.
        elements = int(np.prod([max(d, 0) for d in tensor.dims], dtype=object))
        if min(tensor.dims, default=0) < 0 or elements > SIZE_LIMIT:
            raise ValueError(f"its shape is {list(tensor.dims)}")
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
        sink.error("model-invalid", f"tensor '{name}' cannot be read: {escaped(str(error), 120)}", origin=origin)
        return
    if array.dtype.kind == "f" and array.size:
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            sink.error(
                "model-weights-not-finite",
                f"tensor '{name}' has {bad} of {array.size} numbers that are NaN or infinite",
                origin=origin,
                help="the training diverged, or the export went wrong; export a good checkpoint",
            )
