"""The container of an artifact: one zip whose bytes depend on its members and nothing else.

Members are stored, in sorted order, with fixed dates. Writing is atomic: the target holds
the old file or the whole new one, at every moment. Reading trusts nothing: every length
is checked against the file before memory is taken.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from nmc.ir.diagnostic import ExitCode, NmcError

DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date of a zip."""

SIZE_MAX = 4 << 30
"""Bytes of an artifact that is read; a ResNet-50 with its ONNX file takes about half a gigabyte."""

MEMBERS_MAX = 1 << 16
"""Members of an artifact that is read."""


def is_safe_name(name: str) -> bool:
    """Whether a member name is a plain relative path below the container."""
    parts = name.split("/")
    return name.isprintable() and not set(name) & set('\\:*?"<>|') and all(p not in ("", ".", "..") for p in parts)


def write_container(path: Path, members: Mapping[str, bytes]) -> None:
    """Write members to ``path``, whole or not at all; nothing else is left behind.

    Raises:
        NmcError: ``path-not-writable``: the folder is missing or read-only, the disk is full,
            or ``path`` is a folder or a device; exit 2.
        ValueError: a member name is no plain relative path.
    """
    unsafe = [name for name in members if not is_safe_name(name)]
    if unsafe:
        raise ValueError(f"{unsafe[0]!r} cannot be a member of an artifact")
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise IsADirectoryError("it is not a regular file")
        _replace(target, members)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise NmcError.single(
            "path-not-writable",
            f"cannot write '{path}': {reason}",
            ExitCode.USAGE,
            help="name a file in a folder that exists and can be written",
        ) from error


def _replace(target: Path, members: Mapping[str, bytes]) -> None:
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(members):
                    info = zipfile.ZipInfo(name, DATE)
                    info.create_system = 3  # Unix, on every machine
                    info.external_attr = 0o644 << 16
                    archive.writestr(info, members[name])
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename last; folders that cannot be opened or synced (some file systems) are let be."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def corrupt(path: Path, reason: str) -> NmcError:
    """The error for a file that is no whole artifact."""
    return NmcError.single(
        "artifact-corrupt",
        f"'{path}' {reason}",
        ExitCode.MODEL,
        help="compile the network again",
    )


def read_container(path: Path) -> dict[str, bytes]:
    """All members by name.

    Raises:
        NmcError: ``path-not-readable`` (exit 2), or ``artifact-corrupt`` (exit 3): not a zip,
            compressed, encrypted, oversized, repeated or unsafe members, a wrong checksum.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would make open wait
            raise OSError("it is not a regular file")
        if status.st_size > SIZE_MAX:
            raise corrupt(path, f"has {status.st_size} bytes, the limit is {SIZE_MAX}")
        with path.open("rb") as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    return _members(path, archive, status.st_size)
            except (zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
                raise corrupt(path, f"is not a whole artifact: {error}") from error
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # A damaged directory made zipfile seek to before the file's beginning.
                raise corrupt(path, "is not a whole artifact: its directory points outside") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise NmcError.single("path-not-readable", f"cannot read '{path}': {reason}", ExitCode.USAGE) from error


def _members(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    infos = archive.infolist()
    if len(infos) > MEMBERS_MAX:
        raise corrupt(path, f"has {len(infos)} members, the limit is {MEMBERS_MAX}")
    if sum(info.file_size for info in infos) > size:
        raise corrupt(path, "claims more content than it has bytes")
    found: dict[str, bytes] = {}
    for info in infos:
        name = info.filename
        if not is_safe_name(name) or name in found:
            raise corrupt(path, f"has the member {name[:80]!r} twice or under an unsafe name")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise corrupt(path, f"has the compressed or encrypted member {name!r}")
        found[name] = archive.read(info)
    return found
