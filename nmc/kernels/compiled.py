"""Compiled kernels, cached on disk by the sources that they are made of.

Numba recognises a changed kernel by the date and size of its own file only: not by the other
kernels that it calls, nor by the generators of its vector code. Ours are cached in a folder
named after a hash of their file, of the kernel files that it imports, and of the versions of
the compiler, so that what is found there was always made of what is here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba

_IMPORT = re.compile(r"^from nmc\.kernels\.(\w+) import", re.MULTILINE)


def kernel_sources(path: Path) -> tuple[Path, ...]:
    """A kernel file and all kernel files that it imports, sorted."""
    found: set[Path] = set()
    left = [path]
    while left:
        one = left.pop()
        if one not in found and one.is_file():
            found.add(one)
            left += [path.parent / f"{name}.py" for name in _IMPORT.findall(one.read_text(encoding="utf-8"))]
    return tuple(sorted(found))


def cache_folder(path: Path) -> Path:
    """Where the compiled kernels of a file are kept, for this user."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in kernel_sources(path):
        digest.update(source.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "nmc" / "kernels" / f"{path.stem}-{digest.hexdigest()[:16]}"


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` without the interpreter's lock and with the cache of `cache_folder`.

    Args:
        **options: further options of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        settings: Any = numba.config
        before = settings.CACHE_DIR
        try:
            folder = cache_folder(Path(function.__code__.co_filename))
            folder.mkdir(parents=True, exist_ok=True)
            settings.CACHE_DIR = before or str(folder)
            return numba.njit(nogil=True, cache=True, **options)(function)
        except (OSError, RuntimeError):
            # A cache that cannot be written costs time, never the run.
            return numba.njit(nogil=True, **options)(function)
        finally:
            settings.CACHE_DIR = before

    return decorate
