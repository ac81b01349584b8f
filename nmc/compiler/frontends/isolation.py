"""Reading a model in a child process with limits: whatever the file does, it does it there.

The child answers into a file without a name, so that nothing is left behind, however either
process ends. Its death is an error of the model, with the limit that it ran into.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nmc.compiler.frontends.onnx.source import ModelCheck, SourceModel
from nmc.compiler.frontends.reply import Reply, Request, read_reply
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.runtime.confinement import child_environment, ending

WORKER = "nmc.compiler.frontends.worker"


@dataclass(frozen=True)
class Limits:
    """What a child may take.

    Attributes:
        memory: bytes of address space; the largest file that is read takes about six times its size.
        processor: seconds of processor time.
        clock: seconds until the parent ends it.
    """

    memory: int = 6 << 30
    processor: int = 120
    clock: int = 600


def read_isolated(path: Path | str, limits: Limits = Limits()) -> SourceModel:
    """`read_model` in a child process.

    Raises:
        NmcError: as `read_model`; and ``model-over-budget`` or ``model-reader-died``, exit MODEL.
    """
    reply = _ask("read", path, False, limits)
    if reply.model is None:
        raise _died(path, "answered something else")
    return reply.model


def check_isolated(path: Path | str, *, strict: bool = False, limits: Limits = Limits()) -> ModelCheck:
    """`check_model` in a child process.

    Raises:
        NmcError: as `check_model`; and ``model-over-budget`` or ``model-reader-died``, exit MODEL.
    """
    reply = _ask("check", path, strict, limits)
    if reply.check is None:
        raise _died(path, "answered something else")
    return reply.check


def _ask(verb: str, path: Path | str, strict: bool, limits: Limits) -> Reply:
    request = Request(verb, str(path), strict, limits.memory, limits.processor, os.getpid())
    with tempfile.TemporaryFile() as answer:
        status = _run(request, limits, answer)
        if status is None or status:
            end = ending(status, limits.memory, limits.processor, limits.clock)
            raise _over_budget(path, end.budget) if end.budget else _died(path, end.how)
        try:
            reply = read_reply(answer)
        except ValueError as error:
            raise _died(path, f"gave no valid answer ({error})") from error
    if reply.error is not None:
        raise reply.error
    if reply.defect:
        failure = RuntimeError(f"the reader failed: {reply.defect.strip().splitlines()[-1]}")
        failure.add_note(reply.defect)
        raise failure
    return reply


def _run(request: Request, limits: Limits, answer: IO[bytes]) -> int | None:
    """The child's exit status; None where its time ran out."""
    with subprocess.Popen(
        [sys.executable, "-I", "-m", WORKER],
        stdin=subprocess.PIPE,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
    ) as process:
        try:
            process.communicate(request.to_bytes(), timeout=limits.clock)
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.kill()  # on Ctrl-C, too; it does nothing to a process that has ended
    return process.returncode


def _over_budget(path: Path | str, budget: str) -> NmcError:
    return NmcError.single(
        "model-over-budget",
        f"reading {Path(path).name} took more than {budget}, which is all that a model may take",
        ExitCode.MODEL,
        help="compile a smaller network; a network of this size needs no more unless its file is built to",
    )


def _died(path: Path | str, how: str) -> NmcError:
    return NmcError.single(
        "model-reader-died",
        f"the process that reads {Path(path).name} {how}",
        ExitCode.MODEL,
        help="the file is damaged or hostile, or the machine is short of memory; export the model again",
    )
