"""Every partitioner with every placer on one network: prints a Markdown table.

    python benchmarks/mapping_baselines.py --data DIR [--target loihi2] [--json FILE]

DIR holds ``models/mnist_cnn.onnx`` and ``mnist/train.npz``. The network is compiled once as far
as its quantized form; packets and hops are counted by the simulator on training samples, packets
between cores come from the mean rates of the layers, legal is the word of the independent checker, and
bit-equal compares with the network that was not mapped. Seconds are of one run on this machine,
compiled kernels warm. The seed is fixed.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.plugins import find_target
from nmc.hardware.target import Target
from nmc.ir.diagnostic import DiagnosticSink, NmcError
from nmc.ir.mapping import Partitioned, Placed, Routed
from nmc.ir.network import Network
from nmc.ir.reference import encode
from nmc.kernels.layerwise import execute_network
from nmc.passes.base import Context, Pass
from nmc.passes.check import mapping_diagnostics
from nmc.passes.partition import PARTITIONERS, partition_passes
from nmc.passes.partition.traffic import traffic
from nmc.passes.place import PLACERS, placement_pass
from nmc.passes.route import RouteXY
from nmc.runtime.simulator import simulate

CALIBRATION_SAMPLES = 256
COUNTED_SAMPLES = 16


@dataclass(frozen=True)
class Inputs:
    """Inputs without activations: all that the mapping stages look at."""

    inputs: np.ndarray
    from_data: bool = True

    def activations(self, names: object) -> dict[str, np.ndarray]:
        """Not known: the network is quantized already."""
        raise NotImplementedError


def quantized(model: Path, calib: np.ndarray, target: str, timesteps: int) -> Network:
    """The network that is mapped."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calib.npz"
        np.savez(path, x=calib)
        options = Options(timesteps=timesteps)
        compiled = compile_file(model, CompileRequest(target, options, calib=str(path), stop_after="quantize"))
    if not isinstance(compiled.program, Network):
        raise SystemExit("the quantize stage made no network")
    return compiled.program


def timed(steps: tuple[Pass, ...], program: Network | Partitioned, context: Context) -> tuple[object, float]:
    """The program after some passes, and the seconds of the second run (the first compiles kernels)."""
    seconds = 0.0
    result: object = program
    for _ in range(2):
        begin = time.perf_counter()
        result = program
        for step in steps:
            result = step.run(result, context)
        seconds = time.perf_counter() - begin
    return result, seconds


def rows(network: Network, target: Target, inputs: np.ndarray, chips: int | None, seed: int) -> Iterator[dict]:
    """One row per partitioner and placer."""
    context = Context(target, DiagnosticSink(), Inputs(inputs), seed)
    samples = encode(network, inputs[:COUNTED_SAMPLES])
    wanted = execute_network(network, samples).readout
    for partitioner in PARTITIONERS:
        cut, cut_seconds = timed(partition_passes(partitioner, chips), network, context)
        if not isinstance(cut, Partitioned):
            raise SystemExit(f"{partitioner} made no clusters")
        flows = traffic(cut).items()
        between = network.timesteps * sum(packets for (source, destination), packets in flows if source != destination)
        for placer in PLACERS:
            row = {"partitioner": partitioner, "placer": placer, "cores": cut.cores_used}
            try:
                placed, place_seconds = timed((placement_pass(placer, chips),), cut, context)
            except NmcError as error:
                yield {**row, "error": str(error)}
                continue
            routed = RouteXY().run(placed, context)
            if not isinstance(placed, Placed) or not isinstance(routed, Routed):
                raise SystemExit(f"{placer} made no mapping")
            result = simulate(routed, samples)
            counters = result.counters
            yield {
                **row,
                "packets": counters.packets / counters.samples,
                "between_cores": between,
                "hops": counters.hops / counters.samples,
                "partition_seconds": cut_seconds,
                "place_seconds": place_seconds,
                "legal": not mapping_diagnostics(routed, target),
                "bit_equal": bool(np.array_equal(result.readout, wanted)),
            }


def table(results: list[dict]) -> str:
    """The rows as Markdown."""
    lines = [
        "| partitioner | placer | packets / inference | between cores (at mean rates) | hops / inference | cores "
        "| partition (s) | place (s) | legal | bit-equal |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for row in results:
        head = f"| {row['partitioner']} | {row['placer']} |"
        if "error" in row:
            lines.append(f"{head} does not fit: {row['error']} | | | {row['cores']} | | | | |")
            continue
        words = ["yes" if row[key] else "NO" for key in ("legal", "bit_equal")]
        lines.append(
            f"{head} {row['packets']:,.0f} | {row['between_cores']:,.0f} | {row['hops']:,.0f} | {row['cores']} | "
            f"{row['partition_seconds']:.2f} | {row['place_seconds']:.3f} | {words[0]} | {words[1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table; exit 1 where a mapping is not legal or not exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="models/mnist_cnn.onnx", help="below DIR")
    parser.add_argument("--calib", default="mnist/train.npz", help="below DIR, samples under 'x'")
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--timesteps", "-T", type=int, default=16)
    parser.add_argument("--chips", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    model, calib = arguments.data / arguments.model, arguments.data / arguments.calib
    for path in (model, calib):
        if not path.exists():
            raise SystemExit(f"{path} is missing")
    with np.load(calib, allow_pickle=False) as archive:
        inputs = archive["x"][:CALIBRATION_SAMPLES]
    _, target = find_target(arguments.target)
    network = quantized(model, inputs, arguments.target, arguments.timesteps)
    results = list(rows(network, target, inputs.astype(np.float32), arguments.chips, arguments.seed))
    neurons = sum(p.neurons for p in network.populations)
    print(
        f"{model.name} on {target.name}, {neurons:,} neurons, rate T={arguments.timesteps}, seed {arguments.seed}, "
        f"{COUNTED_SAMPLES} samples counted; Python {platform.python_version()}, {platform.machine()}\n"
    )
    print(table(results))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if not all(row.get("legal", True) and row.get("bit_equal", True) for row in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
