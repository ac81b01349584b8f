"""Layers run both ways, as dot products and by adding up the rows of those that spiked, and what decides between them.

    python benchmarks/simulation_gather.py [--timesteps 32] [--json FILE]

Convolutions of 3 x 3 between maps of equal size, whose sources spike at random. For each layer and rate one line:
microseconds of processor time of both ways (least of seven), and which of them `nmc.kernels.fused_gather` takes. Then
the constants of its cost model, fitted to these times.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from simulation_networks import ORIGIN, one_core_each

from nmc.ir.connectivity import Conv2d, Dense
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import LIF, Integrator, Source
from nmc.kernels.fused_gather import Gatherer, chosen, gather_parts, lay_gather
from nmc.kernels.fused_run import Worker
from nmc.kernels.fused_steps import run_layers
from nmc.kernels.mapped_tables import build_tables
from nmc.kernels.tiers import LANES, Tier, available_tiers

SHAPES = ((32, 32, 16), (32, 64, 8), (64, 64, 8), (64, 128, 8), (128, 128, 8))
"""Channels of the source and of the layer, and the side of their maps."""

RATES = (0.02, 0.05, 0.1, 0.2, 0.3)

LAYER = 2
"""The layer that is measured; the one before it spikes as it is told."""


def network_of(heard: int, channels: int, side: int, timesteps: int) -> Network:
    """An input, two layers of spiking neurons, and a read-out of one neuron."""
    rng = np.random.default_rng(heard + channels)
    zero = np.zeros((), dtype=np.int64)
    operators = (
        Conv2d(rng.integers(-9, 10, (heard, 1, 1, 1)), (1, side, side)),
        Conv2d(rng.integers(-60, 61, (channels, heard, 3, 3)), (heard, side, side), pads=(1, 1, 1, 1)),
        Dense(rng.integers(-1, 2, (1, channels * side * side)), (channels, side, side), (1,)),
    )
    populations = [Population("p0", (1, side, side), Source(8), ORIGIN, on_host=True)]
    for number, operator in enumerate(operators, start=1):
        neuron = LIF(np.asarray(500), zero, zero, zero) if number < 3 else Integrator(zero, zero, zero)
        populations.append(Population(f"p{number}", operator.out_shape, neuron, ORIGIN, start=number))
    projections = [Projection(f"q{n}", f"p{n}", f"p{n + 1}", operator, ORIGIN) for n, operator in enumerate(operators)]
    scales = {population.name: np.ones(()) for population in populations}
    inputs, outputs = (InputSpec("p0", (1, side, side), 1.0, 0, 255),), (OutputSpec("p3", np.ones(()), (1,)),)
    return Network("gather", tuple(populations), tuple(projections), inputs, outputs, timesteps, scales)


def microseconds(run: Callable[[], object]) -> float:
    """Processor time of one run, the least of seven."""
    run()
    found = []
    for _ in range(7):
        begin = time.thread_time()
        for _ in range(5):
            run()
        found.append((time.thread_time() - begin) / 5)
    return 1e6 * min(found)


def layer_times(shape: tuple[int, int, int], timesteps: int, tiers: tuple[Tier, ...]) -> list[dict[str, object]]:
    """One layer at each rate: microseconds both ways, and the parts that the cost model has of each."""
    program = build_tables(one_core_each(network_of(*shape, timesteps)))
    fused = program.fused
    plan = lay_gather(fused, LAYER) if fused is not None else None
    if fused is None or plan is None:
        raise ValueError("a layer that can go both ways")
    rng, row, rows = np.random.default_rng(0), fused.layers[LAYER].row, []
    sample, gatherer = np.zeros(shape[2] ** 2, dtype=np.int64), Gatherer({LAYER: plan}, fused)
    vectors = row.steps * row.height * row.width * row.padded // LANES
    for rate in RATES:
        found: dict[str, object] = {"shape": shape, "rate": rate}
        products: dict[str, float] = {}
        for tier in tiers:
            worker = Worker(fused, tier, ())
            seen = worker.view(fused.layers[LAYER - 1])
            seen[:] = rng.random(seen.shape) < rate
            held = worker.arena, worker.tables
            arguments = (tier, *held, worker.sums, worker.totals, sample, worker.readouts, LAYER, LAYER + 1)
            products[tier.name] = microseconds(lambda arguments=arguments: run_layers(*arguments))  # type: ignore[misc]
            if tier == tiers[0]:
                found["gather"] = microseconds(lambda held=held: gatherer.run(*held, LAYER))  # type: ignore[misc]
        rates = {layer.population.name: rate for layer in fused.layers}
        found |= {"products": products, "groups": plan.groups, "vectors": vectors}
        found |= {
            "parts": gather_parts(row, plan, rates),
            "takes": "gather" if chosen(fused, tiers[0], rates) else "dot",
        }
        rows.append(found)
    return rows


def fitted(parts: list[object], times: list[object]) -> list[float]:
    """Nanoseconds of each part, least squares of relative errors."""
    weights = 1.0 / np.array(times, dtype=np.float64)
    matrix = np.array(parts, dtype=np.float64) * weights[:, None]
    from scipy.optimize import nnls

    return [round(float(value), 3) for value in 1000 * nnls(matrix, np.ones(len(weights)))[0]]


def main() -> int:
    """Print times and constants; 1 where the way that is taken takes much longer than the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tiers, rows = available_tiers(), list[dict[str, object]]()
    for shape in SHAPES:
        for row in layer_times(shape, arguments.timesteps, tiers):
            rows.append(row)
            times = {"dot": row["products"][tiers[0].name], "gather": row["gather"]}  # type: ignore[index]
            shown = {name: round(value) for name, value in times.items()}
            print(json.dumps({"shape": shape, "rate": row["rate"], **shown, "takes": row["takes"]}), flush=True)
    constants: dict[str, object] = {"gather": fitted([row["parts"] for row in rows], [row["gather"] for row in rows])}
    for tier in tiers:
        parts = [(row["groups"] * row["vectors"], row["vectors"]) for row in rows]  # type: ignore[operator]
        constants[tier.name] = fitted(list(parts), [row["products"][tier.name] for row in rows])  # type: ignore[index]
    print(json.dumps(constants))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "constants": constants}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
