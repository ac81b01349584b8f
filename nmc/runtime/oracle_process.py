"""ONNX Runtime in a process of its own, with limits on memory and time.

A model that makes it crash, hang or take all memory ends that process, and is an error with a
name here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.runtime.confinement import child_environment, ending
from nmc.runtime.oracle_frames import Frame, read_frame, write_frame

WORKER = "nmc.runtime.oracle_worker"

SLUGS = ("onnx-runtime-refused", "onnx-runtime-failed", "onnx-tensor-unknown")
"""Errors that the process may answer with."""


class Oracle(Protocol):
    """The values that ONNX Runtime computes: `nmc.runtime.oracle.OnnxOracle`, or one in a process of its own."""

    def run(self, x: Array) -> Array:
        """The first output, (N, *output shape), of samples (N, *input shape); several inputs joined."""
        ...

    def outputs(self, x: Array) -> tuple[Array, ...]:
        """All outputs, in order."""
        ...

    def tensors(self, x: Array, names: Iterable[str]) -> dict[str, Array]:
        """Values (N, *shape) of tensors of the model, intermediates included, by name."""
        ...

    def knows(self, name: str) -> bool:
        """Whether `tensors` can give this tensor."""
        ...


@dataclass(frozen=True)
class Limits:
    """What the process may take.

    Attributes:
        memory: bytes of address space: as many as the process that reads the file.
        processor: seconds of processor time for a call, and ``per_sample`` more for each sample: a VGG-19,
            the largest common network, takes half of that.
        patience: times the processor time, by the clock: other programs run too.
    """

    memory: int = 6 << 30
    processor: int = 60
    per_sample: float = 4.0
    patience: float = 4.0

    def seconds(self, samples: int) -> int:
        """Processor time of a call."""
        return self.processor + int(self.per_sample * samples)


@contextmanager
def open_oracle(model: bytes, *, isolated: bool, limits: Limits = Limits()) -> Iterator[Oracle]:
    """ONNX Runtime with a model: in a process of its own with limits, or in this one.

    Raises:
        NmcError: exit MODEL: ``onnx-runtime-refused``; and of a process of its own, here or when it is
            asked, ``onnx-runtime-over-budget`` or ``onnx-runtime-died``.
    """
    if not isolated:
        # Imported here: a program that leaves ONNX Runtime to another process does not load it.
        from nmc.runtime.oracle import OnnxOracle

        yield OnnxOracle(model)
        return
    oracle = ConfinedOracle(model, limits)
    try:
        yield oracle
    finally:
        oracle.close()


class ConfinedOracle:
    """ONNX Runtime in a child process.

    Args:
        model: as for `nmc.runtime.oracle.OnnxOracle`.
        limits: of the process.
    """

    def __init__(self, model: bytes, limits: Limits) -> None:
        self._limits = limits
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", WORKER, str(limits.memory), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
        )
        try:
            reply = self._ask({"verb": "load"}, np.frombuffer(model, dtype=np.uint8), 0)
        except BaseException:
            self.close()
            raise
        self._names = frozenset(map(str, reply.head.get("names", ())))

    def run(self, x: Array) -> Array:
        """As `Oracle.run`."""
        return self.outputs(x)[0]

    def outputs(self, x: Array) -> tuple[Array, ...]:
        """As `Oracle.outputs`."""
        return self._values({"verb": "outputs"}, x)

    def tensors(self, x: Array, names: Iterable[str]) -> dict[str, Array]:
        """As `Oracle.tensors`."""
        wanted = tuple(dict.fromkeys(names))
        found = self._values({"verb": "tensors", "names": wanted}, x)
        if len(found) != len(wanted):
            raise self._died("it gave another number of tensors than were asked for")
        return dict(zip(wanted, found, strict=True))

    def knows(self, name: str) -> bool:
        """As `Oracle.knows`."""
        return name in self._names

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was not sent any more
        self._process.wait()

    def _values(self, head: dict[str, object], x: Array) -> tuple[Array, ...]:
        values = self._ask(head, x.astype(np.float32, copy=False), len(x)).arrays
        if not values or any(not value.ndim or len(value) != len(x) for value in values):
            raise self._died("it gave values of another number of samples")
        return values

    def _ask(self, head: dict[str, object], array: Array, samples: int) -> Frame:
        """The answer to a question.

        Raises:
            NmcError: what ONNX Runtime says, or how the process ended.
        """
        to, back = self._process.stdin, self._process.stdout
        if to is None or back is None:
            raise TypeError("the process has no pipes")
        seconds = self._limits.seconds(samples)
        clock = seconds * self._limits.patience
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(clock, stop)
        timer.start()
        try:
            write_frame(to, {**head, "seconds": seconds}, [array])
            reply = read_frame(back)
        except (OSError, EOFError) as error:
            status = None if late.is_set() else self._process.wait()
            end = ending(status, self._limits.memory, seconds, clock)
            if end.budget:
                raise NmcError.single(
                    "onnx-runtime-over-budget",
                    f"ONNX Runtime took more than {end.budget} to run the model, which is all that it may take",
                    ExitCode.MODEL,
                    help="compile a smaller network, or run fewer samples at once",
                ) from error
            raise self._died(end.how) from error
        except (ValueError, MemoryError) as error:
            raise self._died(f"gave no valid answer ({error})") from error
        finally:
            timer.cancel()
        self._raise(reply)
        return reply

    def _raise(self, reply: Frame) -> None:
        slug, message = reply.head.get("error"), reply.head.get("message")
        if slug is not None:
            if slug not in SLUGS or not isinstance(message, str):
                raise self._died("gave no valid answer")
            raise NmcError.single(slug, message[:400], ExitCode.MODEL)

    def _died(self, how: str) -> NmcError:
        return NmcError.single(
            "onnx-runtime-died",
            f"the process in which ONNX Runtime runs the model {how}",
            ExitCode.MODEL,
            help="the model is damaged or hostile, or the machine is short of memory; export it again",
        )
