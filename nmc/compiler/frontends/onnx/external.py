"""External data, read by us and by nobody else: ONNX Runtime follows hard links.

A file is opened folder by folder without following links, so that what was looked at is
what is read; it is a regular file with one name, inside the model's folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import onnx

from nmc.compiler.frontends.onnx.node import Refusal
from nmc.compiler.frontends.onnx.text import escaped
from nmc.ir.diagnostic import DiagnosticSink

KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
"""What an entry may be called; the last two are not used."""

MEMORY_MARKER = "_ORT_MEM_ADDR_"
"""ONNX Runtime takes such a location for an address of its own memory."""

LOCATION_LIMIT = 1024
"""Characters of a location."""

_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def external_bytes(tensor: onnx.TensorProto, folder: Path, sink: DiagnosticSink, budget: int) -> bytes | None:
    """The bytes of a tensor that keeps them in a file; None and an error where they cannot be read.

    Args:
        tensor: with external data.
        folder: of the model file.
        sink: takes the error.
        budget: bytes that may still be read.
    """
    try:
        entries = _entries(tensor)
        return _read(entries, folder, budget)
    except Refusal as refusal:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        sink.error(
            refusal.slug,
            f"tensor '{escaped(tensor.name)}' keeps its data in '{escaped(location)}', {refusal.message}",
            help=refusal.help,
        )
        return None


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    keys = [entry.key for entry in tensor.external_data]
    odd = sorted({key for key in keys if key not in KEYS or keys.count(key) > 1})[:3] if len(keys) <= 100 else keys[:1]
    if odd:
        what = f"with the unknown or repeated key '{escaped(odd[0], 40)}'"
        raise Refusal("external-data-outside", what, "export the model again")
    return {entry.key: entry.value for entry in tensor.external_data}


def _read(entries: dict[str, str], folder: Path, budget: int) -> bytes:
    parts = _parts(entries.get("location", ""))
    try:
        with _opened(folder, parts) as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise Refusal("external-data-outside", "which is no file", "keep the data in a file beside the model")
            if status.st_nlink != 1:
                raise Refusal("external-data-outside", "which is a hard link", "replace the link by a copy of the file")
            offset, length = _range(entries, status.st_size, budget)
            with os.fdopen(os.dup(file), "rb") as stream:
                stream.seek(offset)
                return stream.read(length)
    except OSError as error:
        if error.errno in (getattr(os, "ELOOP", 40), 20) and (folder / PurePosixPath(*parts)).exists():
            raise Refusal("external-data-outside", "behind a symbolic link", "replace the link by the file") from error
        what = f"which cannot be read: {error.strerror}"
        raise Refusal("external-data-missing", what, "keep the data file beside the model") from error


def _parts(location: str) -> tuple[str, ...]:
    """The path below the model's folder, as folders and a file."""
    parts = PurePosixPath(location).parts
    drive = len(location) > 1 and location[1] == ":"
    inside = parts and not location.startswith("/") and not {"..", "."} & set(parts) and not drive
    if not inside or len(location) > LOCATION_LIMIT or any(c in location for c in "\\\0") or MEMORY_MARKER in location:
        raise Refusal("external-data-outside", "outside the model's folder", "put the data file beside the model")
    return parts


@contextmanager
def _opened(folder: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """The descriptor of a file below a folder; no step follows a link, and no pipe makes it wait."""
    handles = [os.open(folder, os.O_RDONLY)]
    try:
        for part in parts:
            handles.append(os.open(part, _OPEN, dir_fd=handles[-1]))
        yield handles[-1]
    finally:
        for handle in handles:
            os.close(handle)


def _range(entries: dict[str, str], size: int, budget: int) -> tuple[int, int]:
    """Offset and length in bytes, inside the file."""
    offset = _whole_number(entries.get("offset", "0"))
    length = _whole_number(entries.get("length", str(max(size - offset, 0))))
    if offset < 0 or length < 0 or offset + length > size or length > budget:
        what = f"which has {size} bytes; it wants {length} from {offset}, and {budget} may be read"
        raise Refusal("external-data-missing", what, "the data file does not belong to the model; export both again")
    return offset, length


def _whole_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
