"""The process that runs ONNX Runtime on a model nobody trusts: ``python -I -m nmc.runtime.oracle_worker``.

It gives itself limits, and only then imports what reads the model.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any

from nmc.ir.diagnostic import NmcError
from nmc.runtime.confinement import MEMORY_EXIT, allow_seconds, confine, end_with_parent
from nmc.runtime.oracle_frames import Frame, read_frame, write_frame

if TYPE_CHECKING:
    from nmc.runtime.oracle import OnnxOracle


def main() -> None:
    """Answer questions until there are no more. Arguments: bytes of memory, id of the parent."""
    memory, parent = map(int, sys.argv[1:3])
    # Libraries that print must not reach the answers.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        end_with_parent(parent)
        confine(memory)
        try:
            serve(sys.stdin.buffer, answers)
        except MemoryError:
            os._exit(MEMORY_EXIT)  # no clean-up: it would need memory


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer every question: the first one loads a model."""
    oracle: OnnxOracle | None = None
    while True:
        try:
            question = read_frame(questions)
        except EOFError:
            return
        allow_seconds(int(question.head["seconds"]))
        try:
            if oracle is None:
                from nmc.runtime.oracle import OnnxOracle

                model = question.arrays[0].tobytes()
                del question  # the model may be half a gigabyte
                oracle = OnnxOracle(model)
                write_frame(answers, {"names": oracle.names})
            else:
                write_frame(answers, {}, _values(oracle, question))
        except NmcError as error:
            first = error.diagnostics[0]
            write_frame(answers, {"error": first.slug, "message": first.message})


def _values(oracle: OnnxOracle, question: Frame) -> list[Any]:
    x = question.arrays[0]
    if question.head["verb"] == "outputs":
        return list(oracle.outputs(x))
    return list(oracle.tensors(x, question.head["names"]).values())


if __name__ == "__main__":
    main()
