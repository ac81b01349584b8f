"""Mappers on the networks that published mappers are measured on: prints Markdown tables.

    python benchmarks/mapping.py [--sections partition,aims,placement] [--only LeNet,...] [--json FILE] [--plot SVG]

Section partition runs every engine on every network, aims what each ``--optimise`` is best at, and
placement every placer on cluster nets.

A packet is a spike that goes to one other core: packets are spikes times distinct other cores.
All methods see the same graph, the same rates (log-normal, median 8 spikes per inference, sigma
0.8) and the same limits, in one process. Violations are cores over a limit in the raw answer of a
method, before any repair. CPU seconds are those of this process, compiled kernels warm; wall
seconds depend on what else the machine does. A method that is not installed shows "not run".
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mapping_cost as costs
import mapping_placement as placement
import mapping_rivals as rivals
import mapping_workloads as workloads
import numpy as np
from mapping_plot import scatter

from nmc.hardware.target import CoreLimits
from nmc.ir.network import Network
from nmc.kernels.partition_search import cut_weight, usage
from nmc.passes.partition.irregular import neuron_graph
from nmc.passes.partition.macro import MacroGraph, limits_of, macro_graph, node_sizes, units_of
from nmc.passes.partition.mt_kahypar import is_installed
from nmc.passes.partition.overlap_graph import graph_parts

TILES = (2, 4, 8, 16)
SPARE = 0.03
"""Cores that METIS and Mt-KaHyPar get beyond the fewest."""

LISTED = 12_000_000
"""Networks of at most so many synapses are also cut neuron by neuron."""

SEED = 0


@dataclass(frozen=True)
class Case:
    """A network, the neurons and input axons of a core, and the channels of a macro-node."""

    build: Callable[[], Network | workloads.Reservoir]
    neurons: int
    axons: int
    chunk: int = 16


CASES = {
    "LeNet": Case(workloads.lenet, 256, 1024, 16),
    "VGG-11 x0.25": Case(lambda: workloads.vgg11(0.25), 1024, 4096, 64),
    "VGG-11": Case(workloads.vgg11, 1024, 65536, 64),
    "AlexNet": Case(workloads.alexnet, 4096, 65536, 256),
    "MobileNet": Case(workloads.mobilenet, 4096, 65536, 256),
    "ResNet-50": Case(workloads.resnet50, 4096, 65536, 256),
    "EdgeDet": Case(workloads.edge_detection, 256, 1024),
    "ImgSmooth": Case(workloads.image_smoothing, 256, 1024),
    **{f"S_{n}": Case(lambda n=n: workloads.chain(n), 256, 1024) for n in (1000, 1500, 2000, 2500)},
    "random reservoir": Case(workloads.random_reservoir, 256, 4096),
    "local reservoir 10k": Case(lambda: workloads.local_reservoir(10_000), 256, 4096),
    "local reservoir": Case(workloads.local_reservoir, 256, 4096),
}

SECTIONS = ("partition", "aims", "placement")

AIMS = ("energy", "traffic", "latency", "cores")

AIMED = ("LeNet",)
"""Networks whose aims are compared."""


@dataclass(frozen=True)
class Row:
    """One method on one network; no cores: it was not run."""

    method: str
    cores: int | None = None
    packets: float = 0.0
    violations: int = 0
    cpu: float = 0.0
    wall: float = 0.0


class Clock:
    """CPU and wall seconds since it was made."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def seconds(self) -> tuple[float, float]:
        """(CPU, wall)."""
        return time.process_time() - self.cpu, time.perf_counter() - self.wall


def macro_of(network: Network, case: Case, *, own_core: bool = False) -> MacroGraph:
    """The macro-graph of a case.

    Args:
        network: layered.
        case: its limits.
        own_core: whether a packet to the sender's own core counts.
    """
    rates = workloads.rates_of(network)
    units = units_of(network, {p.name: case.chunk for p in network.populations})
    limits = limits_of(CoreLimits(case.neurons, case.axons))
    return macro_graph(network, units, rates, limits, node_sizes(units), own_core=own_core)


def on_graph(method: str, macro: MacroGraph, find: Callable[[], np.ndarray | None], head: float = 0.0) -> Row:
    """A method that cuts the macro-graph."""
    clock = Clock()
    part = find()
    if part is None:
        return Row(method)
    cpu, wall = clock.seconds()
    part = part.astype(np.int32)
    cores = int(part.max()) + 1
    over = int((usage(macro.graph, part, cores) > macro.limits).any(axis=1).sum())
    return Row(method, cores, cut_weight(macro.graph, part, cores), over, cpu + head, wall + head)


def own(macro: MacroGraph, optimise: str = "traffic", effort: str = "normal") -> np.ndarray | None:
    """The own partitioner; None: it is to try Mt-KaHyPar, which is not installed."""
    if effort == "high" and not is_installed():
        return None
    return graph_parts(macro, np.random.default_rng(SEED), optimise, effort)


def layered_rows(network: Network, case: Case) -> Iterator[Row]:
    """All methods on a layered network."""
    own(macro_of(network, case) if network.populations[0].neurons < 5000 else macro_of(workloads.lenet(), case))
    clock = Clock()
    macro = macro_of(network, case)
    build = clock.seconds()[0]
    nodes = len(macro.graph.sizes)
    tiled = [
        on_graph(
            f"tiles of {tile} x {tile}",
            macro,
            lambda tile=tile: rivals.packed(macro.graph, macro.limits, rivals.tile_order(macro.units, nodes, tile)),
        )
        for tile in TILES
    ]
    yield min(tiled, key=lambda row: row.packets)
    fewest = int(np.ceil(macro.graph.sizes[:, 0].sum() / case.neurons * (1 + SPARE)))
    if _synapse_count(network) <= LISTED:
        source, target = rivals.synapses(network)
        rates = workloads.spike_counts(sum(p.neurons for p in network.populations))
        order = np.argsort(source, kind="stable")
        single = neuron_graph(source[order], target[order], rates, CoreLimits(case.neurons, case.axons))
        in_order = np.arange(len(rates))
        yield on_graph(
            "sequential, channel by channel", single, lambda: rivals.packed(single.graph, single.limits, in_order)
        )
        for volume in (False, True) if len(source) < 1_000_000 else (False,):
            name = "METIS, communication volume" if volume else "METIS, edge cut"
            yield _neuron_row(name, source, target, rates, fewest, case, volume=volume)
    yield on_graph("overlap (own)", macro, lambda: own(macro), build)
    yield on_graph("overlap (own), --effort high", macro, lambda: own(macro, effort="high"), build)
    yield on_graph(
        "Mt-KaHyPar deterministic, macro-nodes",
        macro,
        lambda: rivals.mt_kahypar(macro.graph, fewest, case.neurons),
        build,
    )


def _synapse_count(network: Network) -> int:
    total = 0
    for projection in network.projections:
        operator = projection.connectivity
        out = operator.out_shape
        total += int(np.prod(operator.weight.shape)) * (int(np.prod(out[1:])) if len(out) == 3 else 1)
    return total


def _neuron_row(
    method: str,
    source: np.ndarray,
    target: np.ndarray,
    rates: np.ndarray,
    cores: int,
    case: Case,
    *,
    volume: bool = False,
) -> Row:
    clock = Clock()
    part = rivals.metis(source, target, rates, cores, volume=volume)
    if part is None:
        return Row(method)
    cpu, wall = clock.seconds()
    over = rivals.violations(source, target, part, case.neurons, case.axons)
    packets = rivals.neuron_packets(source, target, part, rates)
    return Row(method, len(np.unique(part)), packets, over, cpu, wall)


def reservoir_rows(reservoir: workloads.Reservoir, case: Case) -> Iterator[Row]:
    """All methods on a reservoir."""
    rates = workloads.spike_counts(reservoir.neurons)
    limits = CoreLimits(case.neurons, case.axons)
    small = workloads.local_reservoir(2500)
    own(neuron_graph(small.source, small.target, rates[: small.neurons], limits))
    clock = Clock()
    graph = neuron_graph(reservoir.source, reservoir.target, rates, limits)
    build = clock.seconds()[0]
    in_order = np.arange(reservoir.neurons)
    yield on_graph("sequential", graph, lambda: rivals.packed(graph.graph, graph.limits, in_order))
    fewest = int(np.ceil(reservoir.neurons / case.neurons * (1 + SPARE)))
    yield _neuron_row("METIS, edge cut", reservoir.source, reservoir.target, rates, fewest, case)
    yield on_graph("overlap (own)", graph, lambda: own(graph), build)


def aim_rows(name: str, case: Case) -> Iterator[dict]:
    """What every aim costs by the compiler's models, METIS' communication volume first."""
    network = case.build()
    rates = workloads.spike_counts(sum(p.neurons for p in network.populations))
    source, target = rivals.synapses(network)
    fewest = int(np.ceil(len(rates) / case.neurons * (1 + SPARE)))
    rival = rivals.metis(source, target, rates, fewest, volume=True)
    if rival is None:
        yield {"case": name, "aim": "METIS, communication volume"}
    else:
        yield {
            "case": name,
            "aim": "METIS, communication volume",
            **vars(costs.cost_of(network, rival.astype(np.int64), rates)),
        }
    for aim in AIMS:
        macro = macro_of(network, case, own_core=aim != "traffic")
        part = costs.neuron_parts(network, macro, own(macro, aim))
        yield {"case": name, "aim": f"--optimise {aim}", **vars(costs.cost_of(network, part, rates))}


def aim_table(name: str, case: Case, rows: list[dict]) -> str:
    """The aims of a case as Markdown."""
    lines = [
        f"**{name}**, {case.neurons} neurons / {case.axons} input axons per core, {costs.STEPS} steps, "
        f"{costs.TARGET} by {costs.PROFILE}\n",
        "| aim | cores | packets, own core too | packets to other cores | energy (uJ) | of METIS | step (us) "
        "| of METIS | busiest core (synaptic operations) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    first = rows[0]
    for row in rows:
        if "cores" not in row:
            lines.append(f"| {row['aim']} | not run | | | | | | | |")
            continue
        shares = [f"{row[key] / first[key]:.3f}" if "cores" in first else "" for key in ("energy_nj", "step_us")]
        lines.append(
            f"| {row['aim']} | {row['cores']} | {row['packets']:,.0f} | {row['between']:,.0f} | "
            f"{row['energy_nj'] / 1000:.2f} | {shares[0]} | {row['step_us']:.2f} | {shares[1]} | "
            f"{row['busiest']:,.0f} |"
        )
    return "\n".join(lines)


def table(name: str, case: Case, rows: list[Row]) -> str:
    """The rows of a case as Markdown."""
    lines = [
        f"**{name}**, {case.neurons} neurons / {case.axons} input axons per core\n",
        "| method | cores | packets | of METIS, edge cut | cores over a limit | CPU (s) | wall (s) |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    rival = next((row.packets for row in rows if row.method == "METIS, edge cut" and row.cores), None)
    for row in rows:
        if row.cores is None:
            lines.append(f"| {row.method} | not run | | | | | |")
            continue
        share = f"{row.packets / rival:.2f}" if rival else ""
        lines.append(
            f"| {row.method} | {row.cores:,} | {row.packets:,.0f} | {share} | {row.violations} | "
            f"{row.cpu:.2f} | {row.wall:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--sections", default="partition", help=f"some of: {', '.join(SECTIONS)}; all")
    parser.add_argument("--plot", type=Path, help="also draw packets against CPU time here (SVG)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(CASES)
    sections = list(SECTIONS) if arguments.sections == "all" else arguments.sections.split(",")
    unknown = [name for name in names if name not in CASES] + [s for s in sections if s not in SECTIONS]
    if unknown:
        parser.error(f"no such case or section: {', '.join(unknown)}; there are {', '.join((*CASES, *SECTIONS))}")
    print(f"Python {platform.python_version()}, {platform.machine()}, seed {SEED}\n")
    document: list[dict] = []
    for name in names if "partition" in sections else ():
        case = CASES[name]
        built = case.build()
        rows = list(layered_rows(built, case) if isinstance(built, Network) else reservoir_rows(built, case))
        print(table(name, case, rows) + "\n", flush=True)
        document.append({"case": name, "neurons": case.neurons, "axons": case.axons, "rows": [vars(r) for r in rows]})
    for name in AIMED if "aims" in sections else ():
        found = list(aim_rows(name, CASES[name]))
        print(aim_table(name, CASES[name], found) + "\n", flush=True)
        document.append({"case": name, "section": "aims", "rows": found})
    if "placement" in sections:
        placement.warm_up()
        for name, net in placement.NETS.items():
            placers = list(placement.placement_rows(net))
            print(placement.placement_table(name, net, placers) + "\n", flush=True)
            document.append({"case": name, "section": "placement", "rows": [vars(r) for r in placers]})
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None:
        arguments.plot.write_text(scatter([d for d in document if "section" not in d]), encoding="utf-8")


if __name__ == "__main__":
    main()
