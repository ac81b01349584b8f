"""Samples that stop early: mean steps and points lost by how many answers may change.

    python benchmarks/dynamic_timesteps.py --data DIR [--samples N] [--calib N] [--timesteps T] [--keep DIR]

DIR holds ``models/mnist_cnn.onnx``, ``models/cifar_resnet20.onnx``, ``mnist/{train,test}.npz`` and
``cifar10_jpeg/{train,test}.tar.xz``. Each network is compiled once; the rule is fitted on its calibration images (no
labels) for several shares of changed answers, and test images are only ever scored. ``steps`` are input
steps of the output's window, ``in all`` counts the pipeline in front of it too. ``lost`` is against the same
program after all steps, with 1.96 standard errors of the paired difference. ``work`` is the processor time
in which the simulator finds where samples stop, relative to all steps of all samples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cifar import NORMALISED, images_of

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.reference import answers, encode
from nmc.kernels.mapped_tables import MappedProgram, build_tables
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import load_data
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.preprocessing import Preprocessing
from nmc.runtime.simulator import execute, stopped
from nmc.runtime.stopping import fit_margin, margins, stop_steps

BATCH = 250
PARTS = 20
"""Random parts of the calibration images of each size."""

CHANGED = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Per cent of the answers that may change."""

TIMED = 1024
"""Images that the simulator's work is measured on."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A network and files of its data; ``y`` are the classes of the test images."""

    model: Path
    calib: Path
    test: Path
    y: np.ndarray
    preprocess: str


def workload(name: str, data: Path, scratch: Path, samples: int, calib: int) -> Workload | None:
    """A network and its data, or None where files are missing."""
    model, kept, tested = data / f"models/{name}.onnx", scratch / "calib.npz", scratch / "test.npz"
    digits = name.startswith("mnist")
    train, test = (
        data / (f"mnist/{part}.npz" if digits else f"cifar10_jpeg/{part}.tar.xz") for part in ("train", "test")
    )
    if not (model.exists() and train.exists() and test.exists()):
        return None
    if digits:
        np.savez(kept, x=np.load(train)["x"][:calib])
        x, y = (np.load(test)[key][:samples] for key in ("x", "y"))
    else:
        np.savez(kept, x=images_of(train, calib)[0])
        x, y = images_of(test, samples)
    np.savez(tested, x=x)
    return Workload(model, kept, tested, y, "" if digits else NORMALISED)


def curve_of(program: MappedProgram, inputs: np.ndarray) -> np.ndarray:
    """(N, T, outputs) read-outs after every step."""
    parts = [
        (execute(program, inputs[i : i + BATCH], curve=True).curves or ())[0] for i in range(0, len(inputs), BATCH)
    ]
    return np.concatenate(parts)


def compiled(name: str, work: Workload, timesteps: int, keep: Path | None) -> Artifact:
    """The artifact; taken from a folder that keeps it, if it is there."""
    kept = None if keep is None else keep / f"{name}-{timesteps}.nmc"
    if kept is not None and kept.exists():
        return Artifact.load(kept)
    request = CompileRequest("loihi2", Options(timesteps=timesteps), str(work.calib), work.preprocess or None)
    artifact = compile_file(work.model, request).artifact
    if artifact is None:
        raise SystemExit(f"{name}: no artifact")
    if kept is not None:
        artifact.save(kept)
    return artifact


def prepared(path: Path, work: Workload, artifact: Artifact) -> np.ndarray:
    """Samples of a file as the network takes them."""
    return load_data(str(path), artifact.network.input.shape, Preprocessing.parse(work.preprocess)).x


def measure(name: str, work: Workload, artifact: Artifact) -> list[dict[str, object]]:
    """The rows of a network."""
    network, program = artifact.network, build_tables(artifact.routed)
    calib, x = prepared(work.calib, work, artifact), prepared(work.test, work, artifact)
    oracle = OnnxOracle(artifact.source_onnx)
    wanted = np.concatenate([np.asarray(oracle.run(x[i : i + BATCH])) for i in range(0, len(x), BATCH)])
    right = answers(network, wanted.reshape(len(x), -1)) == work.y
    fitted_on = curve_of(program, encode(network, calib))
    inputs = encode(network, x)
    margin, answer = margins(network, curve_of(program, inputs))
    full = answer[:, -1] == work.y
    begin = time.process_time()
    execute(program, inputs[:TIMED], threads=1)
    whole = time.process_time() - begin
    ahead, rows = network.by_name[network.output.population].sends_from, []
    for allowed in CHANGED:
        rule = fit_margin(network, fitted_on, allowed)
        steps = stop_steps(rule.thresholds, margin)
        taken = answer[np.arange(len(x)), steps - 1]
        lost = full.astype(float) - (taken == work.y)
        begin = time.process_time()
        stopped(program, inputs[:TIMED], rule, threads=1)
        spent = time.process_time() - begin
        mean, total = float(steps.mean()), ahead + float(steps.mean())
        rows.append(
            {
                "network": name,
                "may_change": allowed,
                "calibration": f"{rule.changed}/{rule.samples}",
                "samples": len(x),
                "mean_steps": round(mean, 2),
                "timesteps": network.timesteps,
                "saved": round(100 * (1 - mean / network.timesteps), 1),
                "mean_in_all": round(total, 2),
                "in_all": ahead + network.timesteps,
                "saved_in_all": round(100 * (1 - total / (ahead + network.timesteps)), 1),
                "changed": round(100 * float((taken != answer[:, -1]).mean()), 3),
                "top1_onnx": round(100 * float(right.mean()), 2),
                "top1_all_steps": round(100 * float(full.mean()), 2),
                "lost": round(100 * float(lost.mean()), 3),
                "lost_error": round(196 * float(lost.std()) / len(lost) ** 0.5, 3),
                "work": round(spent / whole, 2),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def of_parts(name: str, work: Workload, artifact: Artifact) -> list[dict[str, object]]:
    """Fits on parts of the calibration images, 0.1 % allowed: what changes of the test images on average.

    Beside it, what the same images give if as many change as they can count: none.
    """
    network, program = artifact.network, build_tables(artifact.routed)
    fitted_on, tested = (
        curve_of(program, encode(network, prepared(path, work, artifact))) for path in (work.calib, work.test)
    )
    margin, answer = margins(network, tested)
    rng, rows = np.random.default_rng(0), []
    for count in (64, 128, 256, 512):
        found: dict[str, list[tuple[float, float]]] = {"fitted": [], "counted": []}
        for _ in range(PARTS):
            part = fitted_on[rng.permutation(len(fitted_on))[:count]]
            for kind, allowed in (("fitted", 0.1), ("counted", 100 / (count + 1))):
                steps = stop_steps(fit_margin(network, part, allowed).thresholds, margin)
                changed = answer[np.arange(len(steps)), steps - 1] != answer[:, -1]
                found[kind].append((100 * float(changed.mean()), float(steps.mean())))
        row: dict[str, object] = {"network": name, "calibration": count, "samples": len(answer)}
        for kind, pairs in found.items():
            changed_mean, steps_mean = np.mean(pairs, axis=0)
            row |= {f"{kind}_changed": round(float(changed_mean), 3), f"{kind}_steps": round(float(steps_mean), 2)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | may change | calibration | images | mean steps | mean steps in all | changed | ONNX Runtime | "
        "all steps | points lost by stopping | work |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = (
            row["network"],
            f"{row['may_change']} %",
            row["calibration"],
            row["samples"],
            f"{row['mean_steps']} of {row['timesteps']} (-{row['saved']} %)",
            f"{row['mean_in_all']} of {row['in_all']} (-{row['saved_in_all']} %)",
            f"{row['changed']} %",
            row["top1_onnx"],
            row["top1_all_steps"],
            f"{row['lost']} ± {row['lost_error']}",
            row["work"],
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=10000, help="test images")
    parser.add_argument("--calib", type=int, default=1024, help="calibration images")
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--networks", default="mnist_cnn,cifar_resnet20")
    parser.add_argument("--few", action="store_true", help="instead: fits on parts of the calibration images")
    parser.add_argument("--keep", type=Path, help="folder of compiled artifacts, used again where they are there")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in arguments.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            work = workload(name, arguments.data, Path(folder), arguments.samples, arguments.calib)
            if work is None:
                print(f"{name}: not run (files missing)")
                continue
            artifact = compiled(name, work, arguments.timesteps, arguments.keep)
            rows += (of_parts if arguments.few else measure)(name, work, artifact)
    if not arguments.few:
        print(f"\n{table(rows)}\n")


if __name__ == "__main__":
    main()
