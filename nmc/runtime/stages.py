"""The programs of an artifact that one batch of samples goes through, in this process or in others."""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.network import Network
from nmc.ir.reference import decode, encode
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.kernels.mapped_tables import build_tables
from nmc.kernels.parallel import available_threads
from nmc.runtime import simulator
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Counters
from nmc.runtime.stopping import margins, rule_of, stop_steps, stopped_readouts, stopped_values

Outputs = list[Array]
"""Of every output, (n, values) float64."""


@dataclass
class Batch:
    """What the programs make of a batch.

    Attributes:
        outputs: by stage; ``seconds``: wall time of each.
        curve: of the mapped program, for each output (T, n, values) after every step.
        counters: of the mapped program.
        stopped: where samples stop early: the values (n, values) then, and the steps (n,).
    """

    outputs: dict[str, Outputs] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    curve: list[Array] = field(default_factory=list)
    counters: Counters | None = None
    stopped: tuple[Array, IndexArray] | None = None


class Programs:
    """Stages of an artifact, ready to run.

    Args:
        artifact: whose.
        stages: names, ``onnx`` left out.
        threads: at most this many.
    """

    def __init__(self, artifact: Artifact, stages: Sequence[str], threads: int | None = None) -> None:
        self.network, self.threads = artifact.network, threads
        self.mapped = build_tables(artifact.routed) if "mapped" in stages else None
        self.rule = rule_of(artifact.manifest, artifact.network)
        known: dict[str, Callable[[Array], Outputs]] = {
            "simplified": _analog(artifact.graph),
            "spiking": _layerwise(artifact.spiking, threads),
            "quantized": _layerwise(artifact.network, threads),
        }
        self.runners = {name: known[name] for name in stages if name in known}

    def run(self, x: Array) -> Batch:
        """One batch through all of them."""
        batch = Batch()
        for name, runner in self.runners.items():
            begin = time.perf_counter()
            batch.outputs[name] = runner(x)
            batch.seconds[name] = time.perf_counter() - begin
        if self.mapped is None:
            return batch
        begin = time.perf_counter()
        run = simulator.execute(self.mapped, encode(self.network, x), threads=self.threads, curve=True)
        batch.counters = run.counters
        batch.outputs["mapped"] = decoded(self.network, run.readouts)
        batch.seconds["mapped"] = time.perf_counter() - begin
        for number, curve in enumerate(run.curves or ()):
            steps = [flat(decode(self.network, curve[:, step], number)) for step in range(curve.shape[1])]
            batch.curve.append(np.stack(steps))
        if self.rule is not None and run.curves is not None:
            curve = run.curves[0]
            ends = stop_steps(self.rule.thresholds, margins(self.network, curve)[0])
            batch.stopped = flat(stopped_values(self.network, stopped_readouts(curve, ends), ends)), ends
        return batch


def flat(outputs: Array) -> Array:
    """(n, outputs) float64."""
    return np.asarray(outputs, dtype=np.float64).reshape(len(outputs), -1)


def decoded(network: Network, readouts: tuple[Array, ...]) -> Outputs:
    """Read-outs as real values, output by output."""
    return [flat(decode(network, readout, number)) for number, readout in enumerate(readouts)]


def _analog(graph: LayerGraph) -> Callable[[Array], Outputs]:
    def run(x: Array) -> Outputs:
        values = execute_graph(graph, x, graph.outputs)
        return [flat(values[name]) for name in graph.outputs]

    return run


def _layerwise(network: Network, threads: int | None) -> Callable[[Array], Outputs]:
    def run(x: Array) -> Outputs:
        return decoded(network, execute_network(network, encode(network, x), threads=threads).readouts)

    return run


Runner = Callable[[Iterator[Array]], Iterator[Batch]]
"""Runs batches, in order."""


@contextlib.contextmanager
def open_programs(artifact: Artifact, stages: Sequence[str], threads: int | None, workers: int) -> Iterator[Runner]:
    """The programs of an artifact in this process, or in as many others as there are workers.

    Args:
        artifact: whose.
        stages: names, ``onnx`` left out.
        threads: at most this many in this process; workers share the processors.
        workers: processes; 1 is this one. Results do not depend on it.

    Raises:
        NmcError: ``worker-lost`` (exit 6): a process ended before its work was done.
    """
    if workers <= 1:
        programs = Programs(artifact, stages, threads)
        yield lambda batches: map(programs.run, batches)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "artifact.nmc"
        artifact.save(path)
        each = max(available_threads() // workers, 1)
        with _workers(workers, (str(path), tuple(stages), each)) as lines:
            yield lambda batches: _in_turn(lines, batches)


@contextlib.contextmanager
def _workers(count: int, arguments: tuple[str, Sequence[str], int]) -> Iterator[list[Connection]]:
    """Lines to as many processes that serve; they end when their line is closed."""
    # Forking a process that has threads is not safe.
    start = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        lines = []
        for _ in range(count):
            line, end = start.Pipe()
            process = start.Process(target=_serve, args=(end, *arguments), daemon=True)
            process.start()
            # The worker holds the other end alone, so that the line breaks when it ends.
            end.close()
            stack.callback(process.join)
            stack.callback(process.terminate)
            lines.append(stack.enter_context(line))
        yield lines


def _serve(line: Connection, path: str, stages: Sequence[str], threads: int) -> None:
    """A worker: answers samples with what the programs make of them, or with the error, until nobody asks."""
    try:
        programs = Programs(Artifact.load(path), stages, threads)
        while True:
            line.send(programs.run(line.recv()))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return
    except NmcError as error:
        line.send((error.diagnostics, error.exit_code))
    except Exception as error:
        line.send(error)


def _in_turn(lines: Sequence[Connection], batches: Iterator[Array]) -> Iterator[Batch]:
    """Batches as they were given: each worker has one at a time, and they take turns."""
    waiting: deque[Connection] = deque()
    free = deque(lines)
    try:
        for x in batches:
            if not free:
                free.append(waiting[0])
                yield _answer(waiting.popleft())
            waiting.append(free.popleft())
            waiting[-1].send(x)
        while waiting:
            yield _answer(waiting.popleft())
    except (EOFError, ConnectionError):
        raise NmcError.single(
            "worker-lost",
            "a worker process ended before its samples were evaluated",
            ExitCode.MISSING,
            help="the system may have run out of memory: fewer --workers, or a smaller --memory",
        ) from None


def _answer(line: Connection) -> Batch:
    """What a worker made of its batch; its error is raised."""
    match line.recv():
        case (diagnostics, exit_code):
            raise NmcError(diagnostics, exit_code)
        case Exception() as error:
            raise error
        case batch:
            return cast("Batch", batch)
