"""Accuracy of conversion by coding and timesteps: points lost against ONNX Runtime on the same test images.

    python benchmarks/conversion.py --data DIR [--samples N] [--calib N] [--rows NAME,...] [--json FILE]

DIR holds ``models/mnist_cnn.onnx``, ``models/cifar_resnet20.onnx``, ``mnist/{train,test}.npz`` and
``cifar10_jpeg/{train,test}.tar.xz``. Calibration takes unlabelled training images; test images are
only ever scored. ``loss`` is in points with 1.96 standard errors of the paired difference; ``vmse``
is the mean squared error of the outputs against the float network's, over their variance.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cifar import NORMALISED, images_of

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.neurons import Reset
from nmc.ir.reference import answers, decode, encode
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Preprocessing, load_data
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.simulator import simulate

BATCH = 250


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        network: of `workloads`.
        name: of the recipe.
        options: of the compile.
        allowed: points that the row may lose.
    """

    network: str
    name: str
    options: Options
    allowed: float | None = None
    target: str = "loihi2"
    settings: dict[str, str] = field(default_factory=dict)


def rate(timesteps: int, wait: str = "0", **more: object) -> Options:
    """Options of a rate code."""
    return Options(timesteps=timesteps, wait=wait, **more)  # type: ignore[arg-type]


PLAIN = {"calibrate-layers.refit": "false", "calibrate-layers.rounds": "0"}
"""Only biases are corrected: the thresholds are those of convert-rate."""

ROWS: tuple[Row, ...] = (
    *(
        Row("cifar_resnet20", f"rate T={steps}", rate(steps), allowed)
        for steps, allowed in ((4, 11.0), (8, 3.0), (16, 1.0), (32, 0.5))
    ),
    *(
        Row("cifar_resnet20", f"rate T={steps} wait auto", rate(steps, "auto"), allowed)
        for steps, allowed in ((4, 5.0), (8, 1.3), (16, 0.4), (32, 0.2))
    ),
    Row("cifar_resnet20", "rate T=32 reset zero", rate(32, reset=Reset.ZERO), 4.5),
    Row("cifar_resnet20", "rate T=16 wait auto, 4 bits", rate(16, "auto", weight_bits=4), 2.4),
    Row("cifar_resnet20", "rate T=8 min-error thresholds, biases corrected", rate(8, settings=PLAIN)),
    Row(
        "cifar_resnet20",
        "rate T=8 percentile thresholds, biases corrected",
        rate(8, settings=PLAIN | {"convert-rate.threshold": "percentile"}),
    ),
    Row("cifar_resnet20", "graded", Options(coding="graded"), 0.15),
    Row("mnist_cnn", "rate T=4", rate(4), 0.8),
    Row("mnist_cnn", "rate T=8", rate(8), 0.2),
    Row("mnist_cnn", "rate T=16", rate(16)),
)


@dataclass(frozen=True, eq=False)
class Workload:
    """A network with its data: files for the compiler, arrays to score."""

    model: Path
    calib: Path
    x: np.ndarray
    y: np.ndarray
    preprocess: str


def workload(name: str, data: Path, scratch: Path, samples: int, calib: int) -> Workload | None:
    """A network and its data, or None where files are missing."""
    model, kept = data / f"models/{name}.onnx", scratch / f"{name}_calib.npz"
    if name == "mnist_cnn":
        train, test = data / "mnist/train.npz", data / "mnist/test.npz"
    else:
        train, test = (data / f"cifar10_jpeg/{part}.tar.xz" for part in ("train", "test"))
    if not (model.exists() and train.exists() and test.exists()):
        return None
    if name == "mnist_cnn":
        np.savez(kept, x=np.load(train)["x"][:calib])
        scored = np.load(test)
        return Workload(model, kept, scored["x"][:samples], scored["y"][:samples], "")
    np.savez(kept, x=images_of(train, calib)[0])
    x, y = images_of(test, samples)
    return Workload(model, kept, x, y, NORMALISED)


def outputs(artifact: Artifact, x: np.ndarray) -> np.ndarray:
    """(N, outputs) of the mapped program."""
    network, parts = artifact.network, []
    for first in range(0, len(x), BATCH):
        inputs = encode(network, x[first : first + BATCH])
        parts.append(decode(network, simulate(artifact.routed, inputs).readout).reshape(len(inputs), -1))
    return np.concatenate(parts)


def measure(row: Row, work: Workload) -> dict[str, object]:
    """One row: compile, score."""
    request = CompileRequest(row.target, row.options, calib=str(work.calib), preprocess=work.preprocess or None)
    begin = time.perf_counter()
    compiled = compile_file(work.model, request)
    seconds = time.perf_counter() - begin
    artifact = compiled.artifact
    if artifact is None:
        raise SystemExit(f"{row.name}: no artifact")
    network = artifact.network
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "test.npz", x=work.x)
        data = load_data(f"{folder}/test.npz", network.input.shape, Preprocessing.parse(work.preprocess))
    oracle = OnnxOracle(artifact.source_onnx)
    wanted = np.concatenate([np.asarray(oracle.run(data.x[i : i + BATCH])) for i in range(0, len(data.x), BATCH)])
    wanted = wanted.reshape(len(data.x), -1)
    got = outputs(artifact, data.x)
    right_float, right = answers(network, wanted) == work.y, answers(network, got) == work.y
    lost = right_float.astype(float) - right
    loss, error = 100 * lost.mean(), 196 * lost.std() / np.sqrt(len(lost))
    return {
        "network": row.network,
        "recipe": row.name,
        "samples": len(lost),
        "steps": network.timesteps_total,
        "top1_onnx": round(100 * float(right_float.mean()), 2),
        "loss": round(float(loss), 2),
        "loss_error": round(float(error), 2),
        "vmse": round(float(np.square(got - wanted).mean() / wanted.var()), 4),
        "allowed": row.allowed,
        "met": None if row.allowed is None else bool(loss <= row.allowed + error),
        "compile_seconds": round(seconds, 1),
        "calibrate_seconds": round(dict(compiled.seconds).get("quantize", 0.0), 1),
    }


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | recipe | images | total steps | ONNX Runtime | points lost | allowed | vmse | calibrated in |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        allowed = "" if row["allowed"] is None else row["allowed"]
        lines.append(
            f"| {row['network']} | {row['recipe']} | {row['samples']} | {row['steps']} | {row['top1_onnx']} | "
            f"{row['loss']} ± {row['loss_error']} | {allowed} | {row['vmse']} | {row['calibrate_seconds']} s |"
        )
    return "\n".join(lines)


def peers() -> Iterator[str]:
    """Other converters: none of them runs here."""
    yield from (f"{name}: not run" for name in ("SpikingJelly", "sinabs"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=10000, help="test images")
    parser.add_argument("--calib", type=int, default=1024, help="calibration images")
    parser.add_argument("--rows", help="only rows whose network or recipe contains one of these words")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    words = arguments.rows.split(",") if arguments.rows else [""]
    chosen = [row for row in ROWS if any(word in f"{row.network} {row.name}" for word in words)]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        works = {
            name: workload(name, arguments.data, Path(folder), arguments.samples, arguments.calib)
            for name in dict.fromkeys(row.network for row in chosen)
        }
        for row in chosen:
            work = works[row.network]
            if work is None:
                print(f"{row.network} {row.name}: not run (files missing)")
                continue
            rows.append(measure(row, work))
            print(json.dumps(rows[-1]), flush=True)
    print(f"\n{table(rows)}\n")
    print("\n".join(peers()))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
