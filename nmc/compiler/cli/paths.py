"""Paths that the user names: what is wrong with them is said before any work begins."""

from __future__ import annotations

import os
from pathlib import Path

from nmc.ir.diagnostic import DiagnosticSink


def readable(sink: DiagnosticSink, path: Path, what: str) -> None:
    """Record an error unless the path is a file that can be read."""
    if not path.exists():
        sink.error("path-not-readable", f"{what} {path} does not exist", help="check the path")
    elif not path.is_file():
        sink.error("path-not-readable", f"{what} {path} is not a file", help="give the path of a file")
    elif not os.access(path, os.R_OK):
        sink.error("path-not-readable", f"{what} {path} cannot be read", help="check its permissions")


def writable(sink: DiagnosticSink, path: Path, what: str, inputs: tuple[Path, ...] = ()) -> None:
    """Record an error unless a file can be written there without destroying an input."""
    folder = path.parent
    if path.is_dir():
        sink.error("path-not-writable", f"{what} {path} is a folder", help="give the name of a file")
    elif not folder.is_dir():
        sink.error("path-not-writable", f"{what} {path}: there is no folder {folder}", help=f"mkdir -p {folder}")
    elif not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        sink.error("path-not-writable", f"{what} {path} cannot be written", help="check the permissions of its folder")
    elif any(path.exists() and other.exists() and path.samefile(other) for other in inputs):
        sink.error("path-not-writable", f"{what} {path} would overwrite an input", help="give another name with -o")
