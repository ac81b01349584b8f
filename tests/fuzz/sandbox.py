"""Mutants are tried in a process of their own: ONNX Runtime may abort on one, and takes its process along."""

from __future__ import annotations

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Self

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.diagnostic import NmcError
from tests.fuzz.judge import Verdict, where
from tests.fuzz.trials import REFUSALS, try_mutant

HANG = 300
"""Seconds by the clock after which a mutant counts as one that hangs: the machine may be busy."""


class Sandbox:
    """Tries mutants one by one in one process, and in a new one after that died.

    A mutant that ends the process is compiled as users compile, with ONNX Runtime behind the
    compiler's own door: that has to end with a named refusal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def try_mutant(self, data: bytes) -> Verdict:
        """What becomes of a file that may be anything."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            return self._pool.submit(_try, data, self._folder).result(timeout=HANG)
        except BrokenProcessPool:
            self._stop()
            return contained(data, self._folder)
        except TimeoutError:
            self._stop()
            return Verdict("failed", f"hangs; more than {HANG} s")

    def _stop(self) -> None:
        if self._pool is not None:
            processes = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            self._pool = None


def _try(data: bytes, folder: Path) -> Verdict:
    warnings.simplefilter("error")
    return try_mutant(data, folder)


def contained(data: bytes, folder: Path) -> Verdict:
    """Whether a compile names what killed a process that had no door between itself and ONNX Runtime."""
    path = folder / "mutant.onnx"
    path.write_bytes(data)
    try:
        compile_file(path, CompileRequest("loihi2", Options(coding="graded"), isolated=True))
    except NmcError as error:
        allowed = (*REFUSALS, 5)
        outcome = "refused" if error.exit_code in allowed else "failed"
        return Verdict(outcome, f"{error.diagnostics[0].slug} behind the door; {error}")
    except Exception as error:  # a traceback is what this looks for
        return Verdict("failed", f"{where(error)}; {error}")
    finally:
        path.unlink(missing_ok=True)
    return Verdict("accepted", "")
