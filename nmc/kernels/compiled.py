"""Compiled kernels, cached on disk by the sources that they are made of.

Numba recognises a changed kernel by the date and size of its own file only: not by the other
kernels that it calls, nor by the generators of its vector code. Ours are cached in a folder
named after a hash of all kernel sources and of the versions of the compiler, so that what is
found there was always made of what is here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba


@cache
def cache_folder() -> Path:
    """Where compiled kernels of these sources are kept, for this user."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "nmc" / "kernels" / digest.hexdigest()[:16]


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` without the interpreter's lock and with the cache of `cache_folder`.

    Args:
        **options: further options of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        settings: Any = numba.config
        before = settings.CACHE_DIR
        try:
            # A cache that cannot be written costs time, never the run.
            cache_folder().mkdir(parents=True, exist_ok=True)
            settings.CACHE_DIR = before or str(cache_folder())
            return numba.njit(nogil=True, cache=True, **options)(function)
        except (OSError, RuntimeError):
            return numba.njit(nogil=True, **options)(function)
        finally:
            settings.CACHE_DIR = before

    return decorate
