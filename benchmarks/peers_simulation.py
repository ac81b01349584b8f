"""Speed of other simulators on our integer networks, in one run with ours.

    python benchmarks/peers_simulation.py --data DIR [--python PYTHON] [--images 80]
        [--networks reference,mnist_cnn] [--rivals NAMES] [--json FILE]

``reference`` is the small network of `simulation_networks.py`, ``mnist_cnn`` that of ``DIR/models`` compiled for
loihi2; both with T = 32. PYTHON is an interpreter that has the extra ``peers``; what it lacks is "not run".
Milliseconds of processor time per image, one thread, medians; answers (spikes of every layer and the read-out) are
compared with ours where the arithmetic is equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from peers import ask
from peers_networks import Passes, subject
from simulation_networks import one_core_each, reference_network

from nmc.backends.api import Options
from nmc.ir.connectivity import Conv2d, Dense, Pool
from nmc.ir.network import Network, Population
from nmc.ir.neurons import LIF, Integrator
from nmc.ir.reference import encode
from nmc.kernels.layerwise import execute_network
from nmc.kernels.mapped import execute_mapped
from nmc.kernels.mapped_tables import build_tables

RIVALS = ("torch", "simulate_spikingjelly", "simulate_sinabs", "simulate_sanafe")
"""SANA-FE takes some 5 GB and half a minute to build such a network."""


def _by_channel(values: np.ndarray, population: Population) -> np.ndarray:
    full = np.broadcast_to(values, population.shape).reshape(population.shape[0], -1)
    if (full != full[:, :1]).any():
        raise ValueError(f"{population.name}: neurons of a channel differ")
    return full[:, 0]


def chain(network: Network, inputs: np.ndarray) -> dict[str, object]:
    """The arrays of `peers.layers` for a network without branches."""
    held: dict[str, object] = {"images": inputs, "timesteps": network.timesteps}
    populations = network.populations[1:]
    for n, population in enumerate(populations):
        (projection,) = network.incoming[population.name]
        operator, neuron = projection.connectivity, population.neuron
        stride, pads, groups, weight = 1, 0, 1, operator.weight
        match operator:
            case Conv2d():
                stride, pads, groups = operator.stride[0], operator.pads[0], operator.groups
            case Pool():
                stride, pads, groups = operator.stride[0], operator.pads[0], len(operator.weight)
                weight = np.broadcast_to(weight[:, None, None, None], (len(weight), 1, *operator.kernel))
            case Dense():
                pass
            case _:
                raise ValueError(f"{projection.name}: no layer of a chain")
        if not isinstance(neuron, LIF | Integrator) or projection.shift.ndim:
            raise ValueError(f"{population.name}: no layer of a chain")
        held |= {f"w{n}": weight, f"stride{n}": stride, f"pads{n}": pads, f"groups{n}": groups}
        held |= {f"shift{n}": projection.shift, f"bias{n}": _by_channel(neuron.bias, population)}
        held[f"v0{n}"] = _by_channel(neuron.v0, population)
        if isinstance(neuron, LIF):
            held[f"theta{n}"] = _by_channel(neuron.threshold << 6, population)
    return held | {"layers": len(populations)}


def ours(network: Network, inputs: np.ndarray) -> dict[str, float]:
    """Milliseconds per image of our simulator, a core for each population; its answers are the reference's."""
    program, found = build_tables(one_core_each(network)), {}
    execute_mapped(program, inputs[:1], threads=1)
    for batch in (1, 16):
        times = []
        for first in range(0, len(inputs) - batch + 1, batch):
            begin = time.process_time()
            execute_mapped(program, inputs[first : first + batch], threads=1)
            times.append(1000 * (time.process_time() - begin) / batch)
        found[f"batch {batch}"] = round(statistics.median(times), 3)
    return found


def answers(network: Network, inputs: np.ndarray) -> list[list[float]]:
    """Spikes of every layer by image, and the read-out, of the first two images."""
    run = execute_network(network, inputs[:2], counts=True)
    spikes = [run.counts[p.name].reshape(2, -1).sum(1) for p in network.populations[1:-1]]
    return [values.astype(float).reshape(-1).tolist() for values in (*spikes, run.readout)]


def compare(
    name: str, network: Network, inputs: np.ndarray, python: str, rivals: Sequence[str] = RIVALS
) -> dict[str, object]:
    """Ours and the others on one network."""
    row: dict[str, object] = {"network": name, "neurons": sum(p.neurons for p in network.populations[1:])}
    row["ours"] = ours(network, inputs)
    wanted, held = answers(network, inputs), chain(network, inputs)
    for rival in rivals:
        found = ask(rival, python, **held)
        if "answers" in found:
            equal = {form: got == wanted for form, got in found["answers"].items()}
            found = {"ms": found["ms"], "equal": equal}
        row[rival.removeprefix("simulate_")] = found
    return row


def networks(arguments: argparse.Namespace) -> list[tuple[str, Network, np.ndarray]]:
    """The networks asked for, whose files are there, with their integer inputs."""
    found = []
    path = arguments.data / "mnist/test.npz"
    wanted = arguments.networks.split(",")
    if "reference" in wanted and path.exists():
        images = np.rint(255 * np.load(path)["x"][: arguments.images]).reshape(-1, 1, 28, 28).astype(np.int64)
        found.append(("reference", reference_network(images[:16]), images))
    given = subject("mnist_cnn", arguments.data, arguments.images, 128) if "mnist_cnn" in wanted else None
    if given is not None:
        network = Passes.of(given).network(Options(timesteps=32))
        found.append(("mnist_cnn", network, encode(network, given.x)))
    return found


def main() -> int:
    """Print one document per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--networks", default="reference,mnist_cnn")
    parser.add_argument("--rivals", default=",".join(RIVALS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name, network, inputs in networks(arguments):
        rows.append(compare(name, network, inputs, arguments.python, arguments.rivals.split(",")))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
