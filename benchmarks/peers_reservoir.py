"""The recurrent reservoir of `reservoir.py` in other simulators, in one run with ours.

    python benchmarks/peers_reservoir.py [--python PYTHON] [--neurons 10000] [--fan-out 100] [--timesteps 1000]

Steps per second of processor time, one thread. Brian2 (its C++ code) computes the same integers, so the spikes of
every neuron are compared; NEST computes nearly the same neurons. What PYTHON lacks is "not run".
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import numpy as np
from peers import ask
from reservoir import mapping_of, network_of

from nmc.ir.network import Network
from nmc.ir.neurons import LIF
from nmc.kernels.layerwise import execute_network
from nmc.kernels.mapped import execute_mapped
from nmc.kernels.mapped_tables import build_tables

INPUT = 1
"""The sample: what the input sends in every step."""


def ours(network: Network, cores: int, repeats: int) -> int:
    """Steps per second on cores; the median."""
    program, sample = build_tables(mapping_of(network, cores)), np.array([[INPUT]])
    execute_mapped(program, sample, threads=1)
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        execute_mapped(program, sample, threads=1)
        seconds.append(time.process_time() - begin)
    return round(network.timesteps / statistics.median(seconds))


def given(network: Network) -> dict[str, object]:
    """The reservoir as arrays."""
    population = network.by_name["reservoir"]
    neuron, loop = population.neuron, next(p for p in network.projections if p.name == "loop")
    if not isinstance(neuron, LIF):
        raise ValueError("a reservoir of LIF neurons")
    target, source, weight = loop.connectivity.synapses()
    into = next(p for p in network.projections if p.name == "in>reservoir").connectivity.weight.reshape(-1) * INPUT
    wide = {
        name: np.broadcast_to(values, population.shape) for name, values in (("bias", neuron.bias), ("v0", neuron.v0))
    }
    held = {"source": source, "target": target, "weight": weight, "drive": into, "theta": int(neuron.threshold) << 6}
    return held | wide | {"du": neuron.du, "dv": neuron.dv, "timesteps": network.timesteps}


def main() -> int:
    """Print one document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    for name, value in (("neurons", 10000), ("fan-out", 100), ("cores", 40), ("timesteps", 1000), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    network = network_of(arguments.neurons, arguments.fan_out, arguments.timesteps)
    counts = execute_network(network, np.array([[INPUT]]), counts=True).counts["reservoir"].reshape(-1)
    rows: dict[str, object] = {
        "synapses": arguments.neurons * arguments.fan_out,
        "firing": round(float(counts.mean()) / arguments.timesteps, 4),
        "ours": {"steps_per_second": ours(network, arguments.cores, arguments.repeats)},
    }
    for name in ("brian2", "nest"):
        found = ask(name, arguments.python, **given(network))
        if "counts" in found:
            theirs = np.array(found.pop("counts"))
            found |= {"firing": round(float(theirs.mean()) / arguments.timesteps, 4)}
            found |= {"spikes_equal": bool(np.array_equal(theirs, counts))}
        rows[name] = found
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
