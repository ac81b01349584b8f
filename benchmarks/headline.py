"""Accuracy and speed of whole compiles: prints the README's headline table.

    python benchmarks/headline.py --data DIR [--quick] [--readme README.md]

DIR holds ``models/mnist_cnn.onnx``, ``models/cifar_resnet20.onnx``, ``mnist/{train,test}.npz`` and
``cifar10_jpeg/{train,test}.tar.xz``. What is not there is left out of the table and said so.
Calibration takes unlabelled training samples only.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cifar import NORMALISED, images_of

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.runtime.data import Data, Preprocessing, load_data
from nmc.runtime.evaluation import evaluate

CALIBRATION_SAMPLES = 256


@dataclass(frozen=True)
class Workload:
    """One network with its data; ``limits`` are the points that each coding may lose."""

    name: str
    model: Path
    calib: Path
    test: Path
    preprocess: str
    samples: int
    limits: tuple[tuple[str, int, float], ...]


def workloads(data: Path, scratch: Path, quick: bool) -> Iterator[Workload]:
    """The workloads whose files are there."""
    mnist, resnet = data / "models/mnist_cnn.onnx", data / "models/cifar_resnet20.onnx"
    if mnist.exists() and (data / "mnist/test.npz").exists():
        calib = scratch / "mnist_calib.npz"
        np.savez(calib, x=np.load(data / "mnist/train.npz")["x"][:CALIBRATION_SAMPLES])
        limits = (("rate", 32, 0.2), ("rate", 16, 0.6), ("graded", 1, 0.1))
        yield Workload("mnist_cnn", mnist, calib, data / "mnist/test.npz", "", 500 if quick else 10000, limits)
    else:
        print("mnist_cnn: not run (files missing)")
    train, test = (data / f"cifar10_jpeg/{part}.tar.xz" for part in ("train", "test"))
    if resnet.exists() and train.exists() and test.exists():
        calib, scored = scratch / "cifar_calib.npz", scratch / "cifar_test.npz"
        np.savez(calib, x=images_of(train, CALIBRATION_SAMPLES)[0])
        x, y = images_of(test, 1000)
        np.savez(scored, x=x, y=y)
        limits = (("rate", 32, 6.0), ("graded", 1, 0.8))
        yield Workload("cifar_resnet20", resnet, calib, scored, NORMALISED, 100 if quick else 1000, limits)
    else:
        print("cifar_resnet20: not run (files missing)")


def scored_data(work: Workload, shape: tuple[int, ...]) -> Data:
    """The test samples of a workload."""
    return load_data(f"{work.test}:{work.samples}", shape, Preprocessing.parse(work.preprocess))


def run(work: Workload, target: str) -> Iterator[dict[str, object]]:
    """One row per coding."""
    for coding, timesteps, limit in work.limits:
        options = Options(timesteps=timesteps, coding=coding)
        request = CompileRequest(target, options, calib=str(work.calib), preprocess=work.preprocess or None)
        begin = time.perf_counter()
        compiled = compile_file(work.model, request)
        compile_seconds = time.perf_counter() - begin
        artifact = compiled.artifact
        if artifact is None:
            raise SystemExit(f"{work.name}: no artifact")
        data = scored_data(work, artifact.network.input.shape)
        result = evaluate(artifact, data)
        top1 = {stage.stage: 100 * (stage.top1 or 0.0) for stage in result.stages}
        only = evaluate(artifact, data, stages=("mapped",))
        loss = top1["onnx"] - top1["mapped"]
        energy = artifact.report["energy_nj_per_inference"]
        yield {
            "network": work.name,
            "coding": coding if coding == "graded" else f"rate T={timesteps}",
            "samples": work.samples,
            **{f"top1_{stage}": value for stage, value in top1.items()},
            "loss_points": round(loss, 2),
            "allowed": limit,
            "met": loss <= limit,
            "cores": artifact.routed.cores_used,
            "energy_uj": [round(energy["low"] / 1000, 2), round(energy["high"] / 1000, 2)],
            "mapped_seconds": round(only.seconds, 1),
            "ms_per_image": round(1000 * only.seconds / work.samples, 2),
            "compile_seconds": round(compile_seconds, 1),
        }


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | coding | images | ONNX Runtime | quantized | on cores | loss (points) | allowed | cores | "
        "energy, estimate (uJ) | ms / image |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        low, high = row["energy_uj"]  # type: ignore[misc]
        lines.append(
            f"| {row['network']} | {row['coding']} | {row['samples']} | {row['top1_onnx']:.2f} | "
            f"{row['top1_quantized']:.2f} | {row['top1_mapped']:.2f} | {row['loss_points']} | {row['allowed']} | "
            f"{row['cores']} | {low} - {high} | {row['ms_per_image']} |"
        )
    return "\n".join(lines)


def write_readme(path: Path, text: str) -> None:
    """Put the table between the markers of the README."""
    before, begin, rest = path.read_text(encoding="utf-8").partition("<!-- figures: begin")
    marker, _, after = rest.partition("-->")
    _, end, after = after.partition("<!-- figures: end -->")
    if not begin or not end:
        raise SystemExit(f"{path} has no place for the figures")
    path.write_text(f"{before}{begin}{marker}-->\n{text}\n{end}{after}", encoding="utf-8")


def command_seconds(*arguments: str, repeats: int = 5) -> float:
    """Median wall seconds of a whole process."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nmc", *arguments], capture_output=True, check=True)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--readme", type=Path, help="put the table into this README")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for work in workloads(arguments.data, Path(folder), arguments.quick):
            for row in run(work, arguments.target):
                rows.append(row)
                print(json.dumps(row), flush=True)
    print(f"\n{arguments.target}; Python {platform.python_version()}, {platform.machine()}\n")
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if arguments.readme:
        write_readme(arguments.readme, table(rows))
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    model = arguments.data / "models/cifar_resnet20.onnx"
    print(f"nmc --help: {command_seconds('--help'):.2f} s")
    if model.exists():
        print(f"nmc check cifar_resnet20.onnx: {command_seconds('check', str(model), '--target', 'loihi'):.2f} s")


if __name__ == "__main__":
    main()
