"""The child process that reads a file nobody trusts: ``python -I -m nmc.compiler.frontends.worker``.

It takes a request on stdin, gives itself limits, and only then imports what parses the file.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import IO

from nmc.compiler.frontends.reply import Reply, Request, write_reply
from nmc.ir.diagnostic import NmcError
from nmc.runtime.confinement import MEMORY_EXIT, confine, end_with_parent


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


if __name__ == "__main__":
    main()
