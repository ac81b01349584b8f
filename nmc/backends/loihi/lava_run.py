"""Runs emitted programs in the Lava interpreter, under a time limit."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from nmc.backends.api import Payload
from nmc.backends.loihi.emit import PROGRAM, template
from nmc.backends.loihi.interpreter import HELP, LavaInterpreter, find_lava, isolated_environment
from nmc.backends.loihi.process_tree import Ended, run_limited
from nmc.ir.connectivity import Array, Connectivity, Conv2d, Pool, size
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.neurons import has_potential
from nmc.runtime.device import Execution, Trace

if TYPE_CHECKING:
    from nmc.runtime.artifact import Artifact

TRACES = frozenset({"messages", "potentials"})

SAMPLES_MAX_ELEMENTS = 1 << 26
"""Elements of the input and trace arrays of one run; more samples are streamed in several runs."""

BOARD_SECONDS = 3600
"""More time for a board: waiting in its queue, loading the network onto it."""

_TAIL_LINES = 15
_MARK = "LAVA-WORKER-ERROR"


@dataclass(frozen=True, eq=False)
class Job:
    """One program with its inputs.

    Attributes:
        inputs: (N, *input population shape) int64.
        trace: of `TRACES`.
        on: Lava's run configuration: ``sim``, ``loihi1`` or ``loihi2``.
        stops: whether the program ends samples early; it does not where there is a trace.
    """

    payload: Payload
    network: Network
    inputs: Array
    trace: frozenset[str] = frozenset()
    on: str = "sim"
    stops: bool = False


def run_program(
    payload: Payload,
    network: Network,
    inputs: Array,
    trace: frozenset[str] = frozenset(),
    timeout: float | None = None,
    *,
    on: str = "sim",
    environment: Mapping[str, str] | None = None,
    stops: bool = False,
) -> Execution:
    """Run an emitted program.

    Args:
        payload: as `emit_program` made it.
        network: what it was made of (names and shapes of the results).
        inputs: (N, *input population shape) int64, as `nmc.ir.reference.encode` makes it.
        trace: of ``messages``, ``potentials``.
        timeout: seconds; None: estimated, with a wide margin.
        on: Lava's run configuration: ``sim``, ``loihi1`` or ``loihi2``.
        environment: variables for Lava, besides those of this process.
        stops: whether the program ends samples early.

    Raises:
        NmcError: ``lava-missing`` (exit 6), ``lava-failed``, ``lava-timeout`` or
            ``lava-no-program``.
    """
    runs = [Job(payload, network, part, trace, on, stops and not trace) for part in _parts(network, inputs, trace)]
    done = run_programs(runs, timeout, environment)
    if len(done) == 1:
        return done[0]
    kinds = (
        {name: np.concatenate([getattr(e.trace, kind)[name] for e in done]) for name in getattr(done[0].trace, kind)}
        for kind in ("messages", "potentials")
    )
    readouts = tuple(np.concatenate(parts) for parts in zip(*(e.readouts for e in done), strict=True))
    steps = [execution.steps for execution in done if execution.steps is not None]
    return Execution(readouts, Trace(*kinds), steps=np.concatenate(steps) if steps else None)


def run_programs(
    jobs: Sequence[Job], timeout: float | None = None, environment: Mapping[str, str] | None = None
) -> list[Execution]:
    """Run several programs one after another in one Lava interpreter process.

    Raises:
        NmcError: as for `run_program`; the first failure ends all.
    """
    lava = find_lava()
    if isinstance(lava, str):
        raise NmcError.single("lava-missing", lava, ExitCode.MISSING, help=HELP)
    limit = timeout if timeout is not None else sum(seconds_limit(job) for job in jobs)
    with tempfile.TemporaryDirectory(prefix="nmc-lava-") as name:
        folder = Path(name)
        commands = [_unpack(job, folder / str(number)) for number, job in enumerate(jobs)]
        (folder / "child.py").write_text(template("child.py.txt"), encoding="utf-8")
        (folder / "jobs.json").write_text(json.dumps(commands), encoding="utf-8")
        ended = _run_child(lava, folder, limit, environment or {})
        return [_results(job, folder / str(number) / "out.npz", ended) for number, job in enumerate(jobs)]


def seconds_limit(job: Job) -> float:
    """A time limit: 20 times the cost model of a quiet machine, and a minute; for a board, more for the queue.

    The model was fitted on one core to chains and residual networks of 4 to 62 processes:
    0.08 + 0.02 P seconds to start and stop; 0.09 P + 0.0039 P^2 ms, 28 ns per neuron and
    0.4 ns per synapse for each step, P processes.
    """
    network, steps = job.network, job.network.timesteps + 1
    steps = len(job.inputs) * steps + network.pipeline_steps
    populations, projections = len(network.populations), len(network.projections)
    processes = 3 * populations + 3 * projections + (2 * populations if job.trace else 1)
    neurons = sum(p.neurons for p in network.populations)
    synapses = sum(_synapses_about(p.connectivity) for p in network.projections)
    step = 0.09e-3 * processes + 0.0039e-3 * processes**2 + 28e-9 * neurons + 0.4e-9 * synapses
    building = 0.3e-6 * synapses
    # Every sample that may stop has a network of its own.
    built = len(job.inputs) if job.stops else 1
    waiting = 0 if job.on == "sim" else BOARD_SECONDS
    return 60 + waiting + 20 * (built * (1 + 0.02 * processes + building) + steps * step)


def _synapses_about(connectivity: Connectivity) -> int:
    """Synapses, those of a convolution counted without borders."""
    if isinstance(connectivity, Pool):
        connectivity = connectivity.as_conv()
    count = int(np.count_nonzero(connectivity.weight))
    if isinstance(connectivity, Conv2d):
        return count * connectivity.out_shape[1] * connectivity.out_shape[2]
    return count


def _parts(network: Network, inputs: Array, trace: frozenset[str]) -> list[Array]:
    """Inputs cut so that no run holds more than `SAMPLES_MAX_ELEMENTS`."""
    neurons = size(network.input_shape)
    if trace:
        neurons += 2 * sum(p.neurons for p in network.populations)
    most = max(1, SAMPLES_MAX_ELEMENTS // max(1, neurons * (network.timesteps + 1)))
    return [inputs[first : first + most] for first in range(0, len(inputs), most)]


def _unpack(job: Job, folder: Path) -> list[str]:
    """Write a job's files; the argument list of its program.

    Raises:
        NmcError: the payload has no program, or a path that leaves its folder.
        ValueError: no samples, an unknown trace or inputs of the wrong shape.
    """
    if PROGRAM not in job.payload:
        raise NmcError.single(
            "lava-no-program",
            f"the artifact has no {PROGRAM}: it was not compiled for a Loihi target",
            ExitCode.USAGE,
            help="compile with --target loihi",
        )
    shape = job.network.input_shape
    if not len(job.inputs) or job.inputs.shape[1:] != shape:
        raise ValueError(f"inputs of shape {job.inputs.shape}; (N >= 1, {', '.join(map(str, shape))}) are needed")
    if not job.trace <= TRACES:
        raise ValueError(f"unknown trace {sorted(job.trace - TRACES)}")
    for member, content in job.payload.items():
        path = PurePosixPath(member)
        if path.is_absolute() or ".." in path.parts:
            text = f"the payload has the member '{member}', which leaves its folder"
            raise NmcError.single("lava-payload-path", text, ExitCode.MODEL)
        target = folder.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    np.save(folder / "inputs.npy", job.inputs.astype(np.int64), allow_pickle=False)
    trace = ["--trace", *sorted(job.trace)] if job.trace else []
    command = [folder / PROGRAM, "--inputs", folder / "inputs.npy", "--out", folder / "out.npz"]
    where = [] if job.on == "sim" else ["--on", job.on]
    return [*map(str, command), *trace, *where]


def _run_child(lava: LavaInterpreter, folder: Path, limit: float, given: Mapping[str, str]) -> Ended:
    """Run all jobs of a folder.

    Raises:
        NmcError: ``lava-missing``, ``lava-timeout`` or ``lava-failed``.
    """
    # One thread per worker: a program has dozens of workers.
    environment = isolated_environment() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | dict(given)
    command = [str(lava.python), "-I", str(folder / "child.py"), str(folder / "jobs.json")]
    try:
        ended = run_limited(command, folder, environment, limit)
    except OSError as error:
        text = f"{lava.python} cannot be started: {error.strerror or error}"
        raise NmcError.single("lava-missing", text, ExitCode.MISSING, help=HELP) from error
    if ended.code is None:
        raise NmcError.single(
            "lava-timeout",
            f"the Lava program did not end within {limit:.0f} s and was stopped{_quoted(ended.errors)}",
            ExitCode.INTERNAL,
            help="run fewer samples at once",
        )
    if ended.code != 0:
        text = f"the Lava program failed (exit code {ended.code}){_quoted(ended.errors)}"
        raise NmcError.single("lava-failed", text, ExitCode.INTERNAL)
    return ended


def _quoted(errors: str) -> str:
    """The last lines of the worker's traceback, or of standard error."""
    found = errors.find(_MARK)
    # Lines of other processes may follow the traceback; it ends with an unindented line.
    lines = (errors[found + len(_MARK) :] if found >= 0 else errors).strip().splitlines()
    if found >= 0:
        ends = [n for n, line in enumerate(lines) if n and line and not line.startswith((" ", "Traceback"))]
        lines = lines[: ends[0] + 1] if ends else lines
    return ":\n" + "\n".join(lines[-_TAIL_LINES:]) if lines else ""


def _results(job: Job, path: Path, ended: Ended) -> Execution:
    """Read a result file; an exit code alone proves nothing.

    Raises:
        NmcError: ``lava-failed``: it is absent or not complete.
    """
    network, samples = job.network, len(job.inputs)

    def incomplete(what: str) -> NmcError:
        text = f"the Lava program ended without complete results ({what}){_quoted(ended.errors)}"
        return NmcError.single("lava-failed", text, ExitCode.INTERNAL)

    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise incomplete(str(error)) from error

    def array(key: str, shape: tuple[int, ...]) -> Array:
        if key not in found or found[key].size != int(np.prod(shape)) or len(found[key]) != samples:
            raise incomplete(f"{key} is not {shape}")
        values: Array = found[key].reshape(shape).astype(np.int64)
        return values

    numbers = {population.name: number for number, population in enumerate(network.populations)}
    if "readout" in found:  # what the programs of artifact format 1 call it
        found[f"readout_{numbers[network.output.population]}"] = found.pop("readout")
    read = {
        name: array(f"readout_{numbers[name]}", (samples, *network.by_name[name].shape)) for name in network.read_outs
    }
    kinds: dict[str, dict[str, Array]] = {"messages": {}, "potentials": {}}
    for number, population in enumerate(network.populations):
        shape = (samples, network.timesteps, *population.shape)
        if "messages" in job.trace:
            kinds["messages"][population.name] = array(f"messages_{number}", shape)
        if "potentials" in job.trace and has_potential(population.neuron):
            kinds["potentials"][population.name] = array(f"potentials_{number}", shape)
    readouts = tuple(read[spec.population] for spec in network.outputs)
    steps = array("steps", (samples,)) if job.stops else None
    return Execution(readouts, Trace(kinds["messages"], kinds["potentials"]), steps=steps)


class LavaDevice:
    """Lava's fixed-point simulation on the CPU, as a device. It counts nothing."""

    def __init__(self) -> None:
        self.name = "lava"

    def missing(self) -> str | None:
        """Why Lava cannot run here and what to do; None if it can."""
        lava = find_lava()
        return f"{lava}; {HELP}" if isinstance(lava, str) else None

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        """Run the program that the artifact carries.

        Raises:
            NmcError: as for `run_program`.
        """
        stops = "stop" in artifact.manifest
        return run_program(artifact.payload, artifact.network, inputs, trace, stops=stops)
