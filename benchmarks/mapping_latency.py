"""Time per step of placed programs, from the events that the simulator counts. Prints a Markdown table.

    python benchmarks/mapping_latency.py --data DIR [--neurons 256] [--timesteps 16] [--json FILE]

DIR holds ``models/mnist_cnn.onnx`` and ``mnist/train.npz``. The network is compiled for Loihi 1 with cores of so many
neurons by METIS and by every aim of the own partitioner; each placed program runs images on the simulator, whose counts
of every core (neurons, spikes, packets in and out, synaptic operations) go through the timing and energy
models of the compile. Spikes are the same in all rows, because the results are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.estimate import measure_events
from nmc.compiler.plugins import find_target
from nmc.hardware.energy import estimate_energy
from nmc.hardware.timing import estimate_latency
from nmc.ir.mapping import Routed

PROFILE = "sanafe_nahuku"
"""The only profile with every time and energy."""

SAMPLES = 16

ROWS = (("metis", "energy"), *(("overlap", aim) for aim in ("energy", "traffic", "cores", "latency")))


@dataclass(frozen=True)
class Row:
    """One mapping: means over the samples."""

    method: str
    cores: int
    packets: float
    busiest: float
    step_us: float
    energy_uj: float


def target_file(folder: Path, neurons: int) -> str:
    """Loihi 1 with other cores, on as many chips as it takes."""
    path = folder / "cores.toml"
    path.write_text(
        f'[target]\nname = "loihi1-{neurons}"\nfamily = "loihi"\nextends = "loihi1"\n[core]\nneurons = {neurons}\n'
        f'[sources]\n"core.neurons" = "assumed: a benchmark"\n'
    )
    return str(path)


def row(model: Path, target: str, inputs: np.ndarray, options: Options) -> Row:
    """One compile, and the events of its placed program."""
    made = compile_file(model, CompileRequest(target, options, calib=inputs)).program
    if not isinstance(made, Routed):
        raise SystemExit(f"{model.name}: not mapped")
    _, chip = find_target(target)
    profile = next(p for p in chip.energy if p.name == PROFILE)
    events = measure_events(made, inputs)
    method = "METIS, edge cut" if options.partitioner == "metis" else f"--optimise {options.optimise}"
    return Row(
        method,
        made.cores_used,
        events.packets,
        max(core.synops for core in events.cores),
        estimate_latency(profile, events) / events.timesteps_total,
        estimate_energy(profile, chip, events).total / 1000,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--neurons", type=int, default=256, help="of a core (default: 256)")
    parser.add_argument("--timesteps", type=int, default=16)
    parser.add_argument("--chips", type=int, default=4)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    inputs = np.load(arguments.data / "mnist" / "train.npz")["x"][:SAMPLES]
    rows = []
    print(f"mnist_cnn, rate T={arguments.timesteps}, cores of {arguments.neurons} neurons, {PROFILE}\n")
    print("| method | cores | packets | synops of the busiest core | step (us) | of METIS | energy (uJ) | of METIS |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        target = target_file(Path(folder), arguments.neurons)
        for partitioner, aim in ROWS:
            options = Options(
                timesteps=arguments.timesteps, partitioner=partitioner, optimise=aim, chips=arguments.chips,
                effort="fast",
            )  # fmt: skip
            rows.append(row(arguments.data / "models" / "mnist_cnn.onnx", target, inputs, options))
            made, first = rows[-1], rows[0]
            print(
                f"| {made.method} | {made.cores} | {made.packets:,.0f} | {made.busiest:,.0f} | {made.step_us:.2f} | "
                f"{made.step_us / first.step_us:.3f} | {made.energy_uj:.2f} | {made.energy_uj / first.energy_uj:.3f} |",
                flush=True,
            )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([vars(r) for r in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
