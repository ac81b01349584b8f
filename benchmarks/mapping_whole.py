"""Networks of ImageNet size mapped whole: partition, placement, routes, check. Prints Markdown.

    python benchmarks/mapping_whole.py [--only ResNet-50,...] [--placer auto] [--json FILE]

The networks are rebuilt from their shapes (``mapping_workloads.py``) and go through the passes that
a compile uses, on a mesh of as many chips of 128 cores as they need. Packets are counted on the
finished routes: spikes times other cores that hear them, at the rates of ``mapping.py``, which the
mapper does not know. The rival is the best of four tile orders, packed in sequence on the same
graph. Each network has a process of its own, in which a small one is mapped first: kernels are warm.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mapping_rivals as rivals
import mapping_workloads as workloads
import numpy as np
from mapping import CASES, TILES, macro_of

from nmc.compiler.fitting import NoInputs
from nmc.compiler.plugins import find_target
from nmc.hardware.target import CoreLimits, Target
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Partitioned, Routed, region_mask
from nmc.ir.network import Network
from nmc.ir.verify import verify_program
from nmc.kernels.partition_search import cut_weight
from nmc.passes.base import Context
from nmc.passes.check import mapping_diagnostics
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import feasibility, least_cores
from nmc.passes.partition.overlap import PartitionOverlap
from nmc.passes.place import PLACERS, placement_pass
from nmc.passes.route import RouteXY

NETWORKS = ("ResNet-50", "MobileNet", "AlexNet", "VGG-11")
SPARE = 1.2
"""Cores on the mesh over the fewest that the limits allow."""


@dataclass(frozen=True)
class Step:
    """One stage: seconds, and the most memory that the process has had so far (MB)."""

    name: str
    cpu: float
    wall: float
    peak_mb: int
    result: str


def target_for(network: Network, limits: CoreLimits) -> Target:
    """Chips of Loihi 2's grid with other limits, as many as are needed."""
    _, target = find_target("loihi2")
    target = replace(target, core=limits)
    cores, _ = least_cores(DemandModel.of(network, target, {}))
    chips = int(np.ceil(cores * SPARE / target.grid.cores_per_chip))
    return replace(target, grid=replace(target.grid, chips=chips, chips_max=chips))


def best_tiles(network: Network, name: str) -> tuple[int, float]:
    """Cores and packets of the best tile order."""
    macro = macro_of(network, CASES[name])
    found = []
    for tile in TILES:
        order = rivals.tile_order(macro.units, len(macro.graph.sizes), tile)
        part = rivals.packed(macro.graph, macro.limits, order).astype(np.int32)
        cores = int(part.max()) + 1
        found.append((cut_weight(macro.graph, part, cores), cores))
    packets, cores = min(found)
    return cores, float(packets)


def packets_of(routed: Routed) -> float:
    """Spikes that the routes carry to other cores."""
    rates = workloads.rates_of(routed.network)
    total = 0.0
    for route in routed.routes:
        if route.source != route.destination:
            values = rates[routed.by_id[route.source].slices[route.slice].population]
            if len(route.region) == 1:
                total += float(values[tuple(slice(*axis) for axis in route.region[0])].sum())
            else:
                total += float(values[region_mask(route.region, values.shape)].sum())
    return total


def mapped(network: Network, target: Target, placer: str, steps: list[Step]) -> Routed:
    """The network through the passes; what each took is added to ``steps``."""
    context = Context(target, DiagnosticSink(), NoInputs(), 0)

    def timed(name: str, run: Callable[[], object], said: Callable[[object], str]) -> object:
        cpu, wall = time.process_time(), time.perf_counter()
        made = run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
        steps.append(Step(name, time.process_time() - cpu, time.perf_counter() - wall, peak, said(made)))
        return made

    def counted(made: object) -> str:
        return f"{made.cores_used:,} cores" if isinstance(made, Partitioned) else ""

    def needed(made: object) -> str:
        cores, limit = least_cores(DemandModel.of(network, target, {}))
        return f"at least {cores:,} cores, because of {limit}"

    timed("feasibility", lambda: feasibility(DemandModel.of(network, target, {})), needed)
    cut = timed("partition", lambda: PartitionOverlap("traffic").run(network, context), counted)
    placed = timed("place", lambda: placement_pass(placer).run(cut, context), lambda made: f"{target.grid.chips} chips")
    routed = timed("route", lambda: RouteXY().run(placed, context), lambda made: f"{len(made.routes):,} routes")
    timed("verify", lambda: verify_program(routed), lambda made: "invariants hold")
    timed("check", lambda: mapping_diagnostics(routed, target), lambda made: f"{len(made)} findings")
    return routed


def case(name: str, placer: str) -> dict:
    """One network, mapped and compared."""
    known = CASES[name]
    limits = CoreLimits(known.neurons, known.axons)
    small = workloads.lenet()
    mapped(small, target_for(small, limits), placer, [])
    network = known.build()
    steps: list[Step] = []
    routed = mapped(network, target_for(network, limits), placer, steps)
    packets = packets_of(routed)
    tiles = best_tiles(network, name)
    return {
        "network": name,
        "neurons": sum(p.neurons for p in network.populations),
        "limits": [known.neurons, known.axons],
        "steps": [vars(step) for step in steps],
        "cores": routed.cores_used,
        "packets": packets,
        "tile_cores": tiles[0],
        "tile_packets": tiles[1],
    }


def table(found: dict) -> str:
    """One network as Markdown."""
    neurons, axons = found["limits"]
    lines = [
        f"**{found['network']}**, {found['neurons']:,} neurons, {neurons} neurons / {axons} input axons per core\n",
        "| stage | CPU (s) | wall (s) | peak memory (MB) | result |",
        "|---|--:|--:|--:|---|",
    ]
    for step in found["steps"]:
        lines.append(
            f"| {step['name']} | {step['cpu']:.2f} | {step['wall']:.2f} | {step['peak_mb']:,} | {step['result']} |"
        )
    cpu, wall = (sum(step[key] for step in found["steps"]) for key in ("cpu", "wall"))
    lines.append(f"| **all** | **{cpu:.1f}** | {wall:.1f} | **{max(s['peak_mb'] for s in found['steps']):,}** | |")
    share = found["packets"] / found["tile_packets"]
    lines.append(
        f"\n{found['packets']:,.0f} packets between {found['cores']:,} cores; best tile order "
        f"{found['tile_packets']:,.0f} between {found['tile_cores']:,}: **{share:.3f} of it**"
    )
    return "\n".join(lines)


def _alone(name: str, placer: str, queue: multiprocessing.Queue) -> None:
    queue.put(case(name, placer))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="ResNet-50", help=f"some of: {', '.join(NETWORKS)} (default: ResNet-50)")
    parser.add_argument("--placer", default="auto", choices=PLACERS)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.only.split(",") if name not in NETWORKS]
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    print(f"Python {platform.python_version()}, {platform.machine()}, placer {arguments.placer}\n", flush=True)
    spawn = multiprocessing.get_context("spawn")
    document = []
    for name in arguments.only.split(","):
        queue: multiprocessing.Queue = spawn.Queue()
        process = spawn.Process(target=_alone, args=(name, arguments.placer, queue))
        process.start()
        document.append(queue.get())
        process.join()
        print(table(document[-1]) + "\n", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
