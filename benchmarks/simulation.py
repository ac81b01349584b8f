"""Speed of the simulator: milliseconds per image, synaptic events per second, share of the processor's peak.

    python benchmarks/simulation.py --data DIR [--repeats 5] [--images 320] [--lava] [--starts] [--torch PYTHON]
        [--json FILE]

DIR holds ``models/mnist_cnn.onnx`` and ``models/cifar_resnet20.onnx`` with ``mnist/{train,test}.npz`` and
``cifar10_jpeg/{train,test}.tar.xz``; what is not there is left out and said so. Times are processor
time of one thread where one thread is named, wall clock otherwise; medians of the repeats, each of
which takes images that none before it has seen. Every result is hashed and compared with the core
tables executed step by step, and one image of each network with the reference interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cifar import NORMALISED, images_of
from simulation_networks import one_core_each, reference_network

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir import reference
from nmc.ir.network import Network
from nmc.ir.neurons import LIF
from nmc.kernels.compiled import compiled
from nmc.kernels.dot import dot
from nmc.kernels.fused_run import Worker
from nmc.kernels.fused_tables import CONSTANT
from nmc.kernels.layerwise import execute_network, joined_channels_last
from nmc.kernels.mapped import execute_mapped, execute_steps
from nmc.kernels.mapped_run import MappedRun
from nmc.kernels.mapped_tables import MappedProgram, build_tables
from nmc.kernels.tiers import GROUP, LANES, ROWS, available_tiers
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Preprocessing, load_data

RIVALS = ("spikingjelly", "sinabs", "brian2", "sanafe")
"""Rivals that this benchmark would like to meet; Lava and PyTorch are asked for with --lava and --torch."""

PEAK_GROUPS = 128
"""Groups of four channels of the peak's operands: they stay in the nearest cache."""


@dataclass(frozen=True)
class Workload:
    """A network, what it is calibrated with, its images, and how it is coded."""

    name: str
    model: Path
    calib: Path
    images: Path
    preprocess: str
    timesteps: int
    coding: str = "rate"
    wait: str = "0"

    @property
    def title(self) -> str:
        """Of its row."""
        return f"{self.name} {self.coding}{' that waits' if self.wait != '0' else ''} T={self.timesteps}"


def workloads(data: Path, scratch: Path, images: int) -> Iterator[Workload]:
    """The workloads whose files are there."""
    mnist, resnet = data / "models/mnist_cnn.onnx", data / "models/cifar_resnet20.onnx"
    if mnist.exists() and (data / "mnist/test.npz").exists():
        calib, tested = scratch / "mnist_calib.npz", scratch / "mnist_test.npz"
        np.savez(calib, x=np.load(data / "mnist/train.npz")["x"][:256])
        np.savez(tested, x=np.load(data / "mnist/test.npz")["x"][:images])
        codings = (("rate", 32, "0"), ("rate", 16, "1"), ("signed", 16, "0"), ("burst", 8, "0"))
        for coding, steps, wait in (*codings, ("graded", 1, "0"), ("sigma-delta", 8, "0")):
            yield Workload("mnist_cnn", mnist, calib, tested, "", steps, coding, wait)
    else:
        print("mnist_cnn: not run (files missing)")
    train, test = (data / f"cifar10_jpeg/{part}.tar.xz" for part in ("train", "test"))
    if resnet.exists() and train.exists() and test.exists():
        calib, tested = scratch / "cifar_calib.npz", scratch / "cifar_test.npz"
        np.savez(calib, x=images_of(train, 64, 0)[0])
        np.savez(tested, x=images_of(test, images, 0)[0])
        yield from (Workload("cifar_resnet20", resnet, calib, tested, NORMALISED, steps) for steps in (16, 32))
    else:
        print("cifar_resnet20: not run (files missing)")


def compile_workload(work: Workload) -> Artifact:
    """The artifact for loihi2, placed without a search."""
    options = Options(
        timesteps=work.timesteps, coding=work.coding, wait=work.wait, partitioner="greedy", placer="row-major"
    )
    request = CompileRequest("loihi2", options, calib=str(work.calib), preprocess=work.preprocess or None)
    artifact = compile_file(work.model, request).artifact
    if artifact is None:
        raise SystemExit(f"{work.name}: no artifact")
    return artifact


class PeakTables(NamedTuple):
    """What `dot` reads of a layer."""

    offsets: np.ndarray
    weights: np.ndarray


@compiled()
def _peak(tier, rounds, arena, tables, sums, groups):  # type: ignore[no-untyped-def]
    for _ in range(rounds):
        dot(tier, (1, 1), arena, tables, sums, (0, 4, 0, groups, 0, 0, 32, 0))


def peak() -> float:
    """Products per second of one thread: two vectors of sums, everything in the nearest cache."""
    tier = available_tiers()[0]
    arena = np.zeros(4 * (PEAK_GROUPS + ROWS), dtype=np.uint8)
    offsets = np.arange(PEAK_GROUPS, dtype=np.int64) * 4
    tables = PeakTables(offsets, np.zeros(PEAK_GROUPS * 2 * LANES * 4, dtype=np.int8))
    sums = np.zeros(ROWS * 2 * LANES, dtype=np.int32)
    _peak(tier, 1, arena, tables, sums, PEAK_GROUPS)
    rounds, best = 20000, np.inf
    for _ in range(7):
        begin = time.thread_time()
        _peak(tier, rounds, arena, tables, sums, PEAK_GROUPS)
        best = min(best, time.thread_time() - begin)
    return rounds * PEAK_GROUPS * 4 * ROWS * 2 * LANES / best


def products(program: MappedProgram) -> int:
    """Products of one image that the vector kernels compute, zeros and padding channels included."""
    total = 0
    fused = program.fused
    for layer in fused.layers if fused is not None else ():
        row, tables = layer.row, fused.tables
        for number in range(row.blocks, row.blocks_end):
            first, after = tables.blocks[number], tables.blocks[number + 1]
            groups = int(tables.segments[first[2] : after[2], 7].sum())
            steps = 1 if row.kind == CONSTANT else row.steps
            total += groups * GROUP // layer.maps.width * int(first[1]) * LANES * steps * row.height * row.width
    return total


def digest(run: MappedRun) -> str:
    """A hash of read-outs and counts."""
    found = hashlib.sha256()
    for values in (*run.readouts.values(), run.synops, run.fired, run.changed):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def median_ms(run: Callable[[np.ndarray], object], batches: list[np.ndarray], clock: Callable[[], float]) -> float:
    """Median milliseconds per image over the batches."""
    found = []
    for batch in batches:
        begin = clock()
        run(batch)
        found.append(1000 * (clock() - begin) / len(batch))
    return statistics.median(found)


def measure(name: str, program: MappedProgram, inputs: np.ndarray, repeats: int, ceiling: float) -> dict[str, object]:
    """One row: speeds of our simulator on one network, after its results were compared.

    Args:
        name: of the row.
        program: core tables, not yet fused.
        inputs: integers, (N, ...).
        repeats: parts into which the inputs are cut.
        ceiling: of `peak`.
    """
    network = program.network
    begin = time.process_time()
    fused = program.fused
    execute_mapped(program, inputs[:1], threads=1)
    first = time.process_time() - begin
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    execute_mapped(program, inputs[:64], threads=1)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
    few = inputs[:4]
    by_steps = execute_steps(program, few)
    equal = digest(execute_mapped(program, few)) == digest(by_steps)
    wanted = reference.run(network, inputs[0]).readout
    read = program.neurons[program.slots_by_population[network.output.population]]
    equal &= np.array_equal(by_steps.readouts[network.output.population][0, -1], wanted.reshape(-1)[read])
    batches = np.array_split(inputs[: len(inputs) // repeats * repeats], repeats)

    def one_thread(batch: np.ndarray) -> object:
        return execute_mapped(program, batch, threads=1)

    single = median_ms(lambda batch: [one_thread(image[None]) for image in batch], batches, time.process_time)
    alone = median_ms(one_thread, batches, time.process_time)
    wall = [
        median_ms(lambda batch, n=n: execute_mapped(program, batch, threads=n), batches, time.perf_counter)
        for n in (1, 2)
    ]
    steps = median_ms(
        lambda batch: execute_steps(program, batch[:2], threads=1), [b[:2] for b in batches], time.process_time
    )
    synops = float(by_steps.synops.sum()) / len(few)
    return {
        "network": name,
        "path": "layers" if fused is not None else "steps",
        "ms_batch_1": round(single, 3),
        "ms_batch": round(alone, 3),
        "ms_kernels": round(kernels_ms(program, batches), 3) if fused is not None else None,
        "giga_synops_per_second": round(synops / alone / 1e6, 2),
        "peak_share": round(products(program) / (alone / 1000) / ceiling, 3),
        "ms_step_by_step": round(steps, 2),
        "two_threads_gain": round(wall[0] / wall[1], 2),
        "memory_grown_mb": round(grown, 1),
        "first_result_cpu_seconds": round(first, 2),
        "equal": equal,
    }


def kernels_ms(program: MappedProgram, batches: list[np.ndarray]) -> float:
    """Median milliseconds per image of the kernels alone: no results are collected, nothing is counted by core."""
    if program.fused is None:
        raise ValueError("a network that runs in layers")
    worker, found = Worker(program.fused, available_tiers()[0]), []
    for batch in batches:
        flat = joined_channels_last(program.network, batch)
        begin = time.process_time()
        for sample in flat:
            worker.run(sample)
        found.append(1000 * (time.process_time() - begin) / len(flat))
    return statistics.median(found)


def compiled_row(work: Workload, arguments: argparse.Namespace, ceiling: float) -> dict[str, object]:
    """The row of an ONNX file, compiled for loihi2."""
    artifact = compile_workload(work)
    data = load_data(str(work.images), artifact.network.input.shape, Preprocessing.parse(work.preprocess))
    inputs, program = reference.encode(artifact.network, data.x), build_tables(artifact.routed)
    row = measure(work.title, program, inputs, arguments.repeats, ceiling)
    row["lava_ms"] = lava(artifact, data.x[:1]) if arguments.lava else "not run (--lava)"
    row["start_cpu_seconds"] = starts(artifact, inputs[:1]) if arguments.starts else "not run (--starts)"
    return row


FIRST = """
import sys
import numpy as np
from nmc.runtime.artifact import Artifact
from nmc.runtime.simulator import simulate
simulate(Artifact.load(sys.argv[1]).routed, np.load(sys.argv[2]), threads=1)
"""
"""From the start of Python to the first image of an artifact."""


def starts(artifact: Artifact, inputs: np.ndarray) -> dict[str, float]:
    """Processor seconds to the first image of a new process: nothing compiled, all kernels on disk."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "network.nmc", Path(folder) / "inputs.npy"
        artifact.save(paths[0])
        np.save(paths[1], inputs)
        environment = os.environ | {"XDG_CACHE_HOME": folder}
        for name in ("nothing compiled", "compiled"):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", FIRST, *map(str, paths)], env=environment, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[name] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)
    return found


def reference_row(arguments: argparse.Namespace, ceiling: float) -> dict[str, object] | None:
    """The row of `reference_network`, with PyTorch beside it where an interpreter has it."""
    path = arguments.data / "mnist/test.npz"
    if not path.exists():
        return None
    images = np.rint(255 * np.load(path)["x"][: arguments.images]).reshape(-1, 1, 28, 28).astype(np.int64)
    network = reference_network(images[:16])
    row = measure("reference T=32", build_tables(one_core_each(network)), images, arguments.repeats, ceiling)
    row["torch_ms"] = "not run (--torch PYTHON)"
    if arguments.torch is not None:
        row["torch_ms"], same = torch_ms(network, images[:40], arguments.torch)
        row["equal"] = bool(row["equal"]) and same
    return row


def torch_ms(network: Network, images: np.ndarray, python: Path) -> tuple[dict[str, float], bool]:
    """Milliseconds per image of PyTorch's forms, and whether both give our spikes and read-outs of the first image."""
    weights = [q.connectivity.weight for q in network.projections]
    weights[2] = weights[2][:, :, ::2, ::2]
    held = {f"w{number}": weight for number, weight in enumerate(weights)}
    neurons = [population.neuron for population in network.populations[1:4]]
    held |= {f"theta{n}": neuron.threshold for n, neuron in enumerate(neurons) if isinstance(neuron, LIF)}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "network.npz"
        np.savez(path, images=images, timesteps=network.timesteps, **held)
        script = Path(__file__).parent / "simulation_torch.py"
        done = subprocess.run([str(python), str(script), str(path)], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    run = execute_network(network, images[:1], counts=True)
    wanted = [[float(run.counts[f"p{n}"].sum())] for n in (1, 2, 3)] + [(run.readout.reshape(-1) / 64).tolist()]
    return {name: round(value, 3) for name, value in answer["ms"].items()}, all(
        found == wanted for found in answer["answers"].values()
    )


def lava(artifact: Artifact, x: np.ndarray) -> object:
    """Milliseconds of one image in the Lava interpreter, its start-up included."""
    from nmc.compiler.plugins import load_backend

    device = load_backend("loihi").devices()["lava"]
    missing = device.missing()
    if missing:
        return f"not run ({missing})"
    begin = time.perf_counter()
    artifact.run(x, device=device)
    return round(1000 * (time.perf_counter() - begin), 1)


def rivals() -> dict[str, str]:
    """Why each rival is not in the table."""
    return {
        name: "not run here (peers_simulation.py and peers_reservoir.py run it)"
        if importlib.util.find_spec(name)
        else "not run (not installed)"
        for name in RIVALS
    }


def main() -> int:
    """Print one row per network; 1 where a result differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--lava", action="store_true")
    parser.add_argument("--starts", action="store_true", help="also start new processes, cold and warm")
    parser.add_argument("--torch", type=Path, help="an interpreter that has PyTorch")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ceiling = peak()
    print(
        f"{platform.processor() or platform.machine()}, {available_tiers()[0].name}: "
        f"{ceiling / 1e9:.0f} G products/s peak"
    )
    rows: list[dict[str, object]] = []
    small = reference_row(arguments, ceiling)
    if small is not None:
        rows.append(small)
        print(json.dumps(small), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for work in workloads(arguments.data, Path(scratch), arguments.images):
            rows.append(compiled_row(work, arguments, ceiling))
            print(json.dumps(rows[-1]), flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = {
        "peak_giga_products": round(ceiling / 1e9),
        "rows": rows,
        "rivals": rivals(),
        "peak_memory_mb": round(memory),
    }
    print(json.dumps({key: report[key] for key in ("rivals", "peak_memory_mb")}))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if rows and all(row["equal"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
