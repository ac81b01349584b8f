"""The mapping of the light networks of the ``onnx`` package, stage by stage. Prints Markdown tables.

    python benchmarks/mapping_light.py [--only WORD,...] [--target loihi2] [--coding graded] [--json FILE]

Each network is read and quantized as ``nmc compile`` does, in a process of its own; then it goes
through the passes of the mapping: fan-in split, partition, placement, routes, check. Seconds are those
of the processor, memory is the peak of the process from the reading on. Chips are those that the
partition needs. Two calibration inputs are drawn uniformly: they say how often neurons send.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.fitting import NoInputs
from nmc.compiler.plugins import find_target
from nmc.hardware.target import Target
from nmc.ir.diagnostic import DiagnosticSink, NmcError
from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.passes.base import Context
from nmc.passes.check import mapping_diagnostics
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import least_cores
from nmc.passes.partition.overlap import PartitionOverlap
from nmc.passes.partition.split_fan_in import SplitFanIn
from nmc.passes.partition.traffic import packets_per_step
from nmc.passes.place import placement_pass
from nmc.passes.route import RouteXY

STAGES = ("split", "least", "partition", "place", "route", "check")
SAMPLES = 2

Made = TypeVar("Made")


@dataclass
class Row:
    """What became of one network; seconds of the processor by stage."""

    model: str
    result: str = ""
    neurons: int = 0
    least: int = 0
    limit: str = ""
    cores: int = 0
    chips: int = 0
    routes: int = 0
    packets: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    quantized_mb: int = 0
    peak_mb: int = 0

    def timed(self, stage: str, run: Callable[[], Made]) -> Made:
        """What ``run`` makes; its seconds are kept."""
        begin = time.process_time()
        made = run()
        self.seconds[stage] = time.process_time() - begin
        self.peak_mb = _peak()
        return made


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def with_chips(target: Target, cores: int) -> Target:
    """The target with as many chips as have so many cores."""
    chips = -(-cores // target.grid.cores_per_chip)
    return replace(target, grid=replace(target.grid, chips=chips, chips_max=max(chips, target.grid.chips_max)))


def mapped(network: Network, target: Target, row: Row) -> None:
    """The network through the passes of the mapping."""
    inputs = np.random.default_rng(0).random((SAMPLES, *network.input_shape), dtype=np.float32)
    context = Context(target, DiagnosticSink(), NoInputs(inputs), 0)
    row.neurons = sum(p.neurons for p in network.populations)
    split = row.timed("split", lambda: SplitFanIn().run(network, context))
    if not isinstance(split, Network):
        raise TypeError("no network")
    row.least, row.limit = row.timed("least", lambda: least_cores(DemandModel.of(split, target, {})))
    cut = row.timed("partition", lambda: PartitionOverlap().run(split, context))
    if not isinstance(cut, Partitioned):
        raise TypeError("no partition")
    target = with_chips(target, cut.cores_used)
    row.cores, row.chips, row.packets = cut.cores_used, target.grid.chips, packets_per_step(cut)
    context = Context(target, DiagnosticSink(), NoInputs(inputs), 0)
    placed = row.timed("place", lambda: placement_pass("auto").run(cut, context))
    routed = row.timed("route", lambda: RouteXY().run(placed, context))
    row.routes = len(routed.routes)
    findings = row.timed("check", lambda: mapping_diagnostics(routed, target))
    row.result = f"{len(findings)} findings"


def one(model: Path, target_name: str, coding: str) -> Row:
    """One file, in this process."""
    row = Row(model.stem.removeprefix("light_"))
    try:
        request = CompileRequest(target_name, Options(coding=coding), stop_after="quantize", isolated=True)
        network = compile_file(model, request).program
        row.quantized_mb = row.peak_mb = _peak()
        if not isinstance(network, Network):
            raise TypeError(f"{model.name}: no network")
        mapped(network, find_target(target_name)[1], row)
    except NmcError as error:
        found = [d for d in error.diagnostics if d.severity == "error"]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        row.result = f"refused: {found[0].slug}: {found[0].message}{more}"
    return row


def line(row: Row) -> str:
    """A row of the table."""
    if not row.cores:
        return f"| {row.model} | {row.result} |" + " |" * 14
    seconds = " | ".join(f"{row.seconds[stage]:.1f}" for stage in STAGES)
    return (
        f"| {row.model} | {row.result} | {row.neurons:,} | {row.least:,} ({row.limit}) | {row.cores:,} | {row.chips} | "
        f"{row.packets:,.0f} | {row.routes:,} | {seconds} | **{sum(row.seconds.values()):.1f}** | {row.peak_mb:,} |"
    )


HEADER = (
    "| network | check | neurons | least cores | cores | chips | packets a step | routes | "
    + " | ".join(f"{stage} (s)" for stage in STAGES)
    + " | all (s) | peak memory (MB) |\n|---|---|"
    + "--:|" * 14
)


def _worker(model: Path, target: str, coding: str, queue: multiprocessing.Queue[Row]) -> None:
    queue.put(one(model, target, coding))


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="files whose names contain one of these words")
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--coding", default="graded")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    print(f"{arguments.target}, {arguments.coding} coding; Python {platform.python_version()}\n\n{HEADER}", flush=True)
    spawn = multiprocessing.get_context("spawn")
    rows: list[Row] = []
    for model in sorted(folder.glob("*.onnx")):
        if any(word in model.stem for word in arguments.only.split(",")):
            queue: multiprocessing.Queue[Row] = spawn.Queue()
            process = spawn.Process(target=_worker, args=(model, arguments.target, arguments.coding, queue))
            process.start()
            rows.append(queue.get())
            process.join()
            print(line(rows[-1]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
