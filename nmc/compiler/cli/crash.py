"""Internal errors: a reproducer in the temp folder instead of a traceback on the screen."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ENCLOSED = (".onnx", ".nmc", ".toml")
"""Files named on the command line that go into the reproducer: never data."""

ENCLOSED_MAX = 64 << 20
"""Bytes; larger files are named only."""

PACKAGES = ("nmc", "numpy", "numba", "onnx", "onnxruntime", "scipy", "networkx", "pymetis", "pyswarms", "typer", "rich")


def write_reproducer(arguments: Sequence[str], error: BaseException) -> Path:
    """Write what is needed to see the error again.

    Returns:
        the path of a zip file: the command, the traceback, versions, the model named.
    """
    handle, name = tempfile.mkstemp(prefix="nmc-reproducer-", suffix=".zip")
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("traceback.txt", "".join(traceback.format_exception(error)))
        archive.writestr("command.json", json.dumps(["nmc", *arguments], indent=2))
        archive.writestr("versions.json", json.dumps(versions(), indent=2))
        for number, path in enumerate(_files(arguments)):
            archive.write(path, f"files/{number}-{path.name}")
    return Path(name)


def versions() -> dict[str, str]:
    """Python, the platform, and every package that matters; ``missing`` where it is."""
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _files(arguments: Sequence[str]) -> list[Path]:
    found = []
    for argument in arguments:
        path = Path(argument.rpartition("=")[2])
        try:
            if path.suffix in ENCLOSED and path.is_file() and path.stat().st_size <= ENCLOSED_MAX:
                found.append(path)
        except (OSError, ValueError):
            continue  # a name that the file system refuses is no file to enclose
    return found
