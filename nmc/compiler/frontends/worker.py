"""The child process that reads a file nobody trusts: ``python -I -m nmc.compiler.frontends.worker``.

It takes a request on stdin, gives itself limits, and only then imports what parses the file.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import IO

from nmc.compiler.frontends.reply import Reply, Request, write_reply
from nmc.ir.diagnostic import NmcError

MEMORY_EXIT = 17
"""Exit status where memory ran out."""

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read one model and answer on stdout."""
    import json

    request = Request(**json.loads(sys.stdin.buffer.read()))
    # Libraries that print must not reach the answer.
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        end_with_parent(request.parent)
        confine(request.memory, request.seconds)
        serve(request, answer)


def serve(request: Request, answer: IO[bytes]) -> None:
    """Do what is asked and write the answer."""
    try:
        reply = _perform(request)
        write_reply(reply, answer)
    except MemoryError:
        os._exit(MEMORY_EXIT)  # no clean-up: it would need memory


def _perform(request: Request) -> Reply:
    try:
        from nmc.compiler.frontends.onnx.read import check_model, read_model

        if request.verb == "check":
            return Reply(check=check_model(Path(request.path), strict=request.strict))
        return Reply(model=read_model(Path(request.path)))
    except NmcError as error:
        return Reply(error=error)
    except MemoryError:
        raise
    except Exception:
        return Reply(defect=traceback.format_exc())


def end_with_parent(parent: int) -> None:
    """Let the kernel end this process when its parent ends; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it ended before the kernel was told


def confine(memory: int, seconds: int) -> None:
    """Limit address space and processor time; leave no core dump.

    Args:
        memory: bytes.
        seconds: SIGXCPU comes then, SIGKILL two seconds later.
    """
    if sys.platform == "win32":
        return  # it has no such limits; the parent's clock is left
    import resource

    wanted = (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, seconds, seconds + 2),
        (resource.RLIMIT_CORE, 0, 0),
    )
    for kind, soft, hard in wanted:
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        # macOS refuses limits of address space.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    main()
