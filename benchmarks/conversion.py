"""Accuracy of conversion by coding and timesteps: points lost against ONNX Runtime on the same test images.

    python benchmarks/conversion.py --data DIR [--samples N] [--calib N] [--rows NAME,...] [--json FILE]

DIR holds ``models/mnist_cnn.onnx``, ``models/cifar_resnet20.onnx``, ``mnist/{train,test}.npz`` and
``cifar10_jpeg/{train,test}.tar.xz``. Calibration takes unlabelled training images; test images are
only ever scored. ``loss`` is in points with 1.96 standard errors of the paired difference; ``vmse``
is the mean squared error of the outputs against the float network's, over their variance.

Each row is printed as soon as it is done. With ``--json FILE`` it is added to FILE as a line of its
own, and what FILE holds already for the same numbers of images is not measured again.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cifar import NORMALISED, images_of

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.neurons import Reset
from nmc.ir.reference import answers, decode, encode
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Preprocessing, load_data
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.simulator import execute

BATCH = 250
TARGET = "loihi2"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        network: file below ``models``.
        name: of the recipe.
        options: of the compile.
        wanted: points that the row may lose.
        beside: recipe from whose loss ``wanted`` counts; None: from ONNX Runtime.
    """

    network: str
    name: str
    options: Options
    wanted: float | None = None
    beside: str | None = None


def coded(coding: str, timesteps: int, wait: str = "0", **more: object) -> Options:
    """Options of a code over a window."""
    return Options(timesteps=timesteps, coding=coding, wait=wait, **more)  # type: ignore[arg-type]


def resnet(name: str, options: Options, wanted: float | None = None, beside: str | None = None) -> Row:
    """A row of ResNet-20."""
    return Row("cifar_resnet20", name, options, wanted, beside)


UNSEARCHED = {"calibrate-layers.refit": "false", "calibrate-layers.rounds": "0"}
"""Only biases are corrected: the thresholds are those of convert-rate."""

ALONE = {f"calibrate-layers.{option}": "0" for option in ("feedback", "smoothness", "evenness")}
"""Weights are fitted once, and neurons searched for what is best in their own layer."""

RATES = {2: (None, None, None), 4: (11.0, 5.0, 5.5), 8: (3.0, 1.3, 1.3), 16: (1.0, 0.4, 0.5), 32: (0.5, 0.2, 0.3)}
"""Wanted by timesteps: rate, rate with waits, signed."""

BURSTS = ((2, 3, 4.5), (2, 7, 1.0), (4, 3, 0.9), (4, 7, 0.3), (8, 3, 0.3), (8, 7, 0.2))
"""Timesteps, levels, wanted."""

BITS = ((6, False), (5, False), (4, True))
"""Bits of a weight, and whether a loss is wanted."""

ROWS: tuple[Row, ...] = (
    *(resnet(f"rate T={steps}", coded("rate", steps), wanted[0]) for steps, wanted in RATES.items()),
    *(resnet(f"rate T={steps} waits", coded("rate", steps, "auto"), wanted[1]) for steps, wanted in RATES.items()),
    *(resnet(f"signed T={steps}", coded("signed", steps), wanted[2]) for steps, wanted in RATES.items()),
    *(
        resnet(f"burst of {most} T={steps}", coded("burst", steps, levels=most), wanted)
        for steps, most, wanted in BURSTS
    ),
    resnet("rate T=32 reset zero", coded("rate", 32, reset=Reset.ZERO), 4.5),
    resnet("graded", Options(coding="graded"), 0.15),
    resnet("sigma-delta T=2", coded("sigma-delta", 2), 0.15),
    *(
        resnet(f"graded {bits} bits", Options(coding="graded", weight_bits=bits), 1.0 if asked else None, "graded")
        for bits, asked in BITS
    ),
    *(
        resnet(
            f"rate T=16 waits {bits} bits",
            coded("rate", 16, "auto", weight_bits=bits),
            2.0 if asked else None,
            "rate T=16 waits",
        )
        for bits, asked in BITS
    ),
    *(resnet(f"rate T={steps} each layer alone", coded("rate", steps, settings=ALONE)) for steps in (4, 8, 16)),
    resnet("rate T=8 least-error thresholds", coded("rate", 8, settings=UNSEARCHED)),
    resnet(
        "rate T=8 percentile thresholds",
        coded("rate", 8, settings=UNSEARCHED | {"convert-rate.threshold": "percentile"}),
    ),
    Row("mnist_cnn", "rate T=4", coded("rate", 4), 0.8),
    Row("mnist_cnn", "rate T=8", coded("rate", 8), 0.2),
    Row("mnist_cnn", "rate T=16", coded("rate", 16)),
)


@dataclass(frozen=True, eq=False)
class Workload:
    """A network with its data: files for the compiler, arrays to score.

    Attributes:
        calib: file of unlabelled training images.
        x: test images as the network takes them.
        y: their classes.
        wanted: (N, outputs) what ONNX Runtime makes of them.
    """

    model: Path
    calib: Path
    preprocess: str
    x: np.ndarray
    y: np.ndarray
    wanted: np.ndarray

    @classmethod
    def load(cls, name: str, data: Path, scratch: Path, samples: int, calib: int) -> Workload | None:
        """A network and its data, or None where files are missing."""
        mnist = name == "mnist_cnn"
        model, parts = data / f"models/{name}.onnx", ("train", "test")
        train, test = (data / (f"mnist/{part}.npz" if mnist else f"cifar10_jpeg/{part}.tar.xz") for part in parts)
        if not (model.exists() and train.exists() and test.exists()):
            return None
        if mnist:
            given, scored = np.load(train)["x"][:calib], np.load(test)
            x, y = scored["x"][:samples], scored["y"][:samples]
        else:
            given, (x, y) = images_of(train, calib)[0], images_of(test, samples)
        kept, raw = scratch / f"{name}_calib.npz", scratch / f"{name}_test.npz"
        np.savez(kept, x=given)
        np.savez(raw, x=x)
        preprocess = "" if mnist else NORMALISED
        oracle = OnnxOracle(model.read_bytes())
        shape = (1, 28, 28) if mnist else (3, 32, 32)
        x = load_data(str(raw), shape, Preprocessing.parse(preprocess)).x
        wanted = np.concatenate([np.asarray(oracle.run(x[i : i + BATCH])) for i in range(0, len(x), BATCH)])
        return cls(model, kept, preprocess, x, y, wanted.reshape(len(x), -1))


def outputs(artifact: Artifact, x: np.ndarray) -> np.ndarray:
    """(N, outputs) of the mapped program."""
    network, program, parts = artifact.network, build_tables(artifact.routed), []
    for first in range(0, len(x), BATCH):
        inputs = encode(network, x[first : first + BATCH])
        parts.append(decode(network, execute(program, inputs).readout).reshape(len(inputs), -1))
    return np.concatenate(parts)


def measure(row: Row, work: Workload) -> dict[str, Any]:
    """One row: compile, score."""
    request = CompileRequest(TARGET, row.options, calib=str(work.calib), preprocess=work.preprocess or None)
    begin = time.process_time()
    compiled = compile_file(work.model, request)
    compiling = time.process_time() - begin
    artifact = compiled.artifact
    if artifact is None:
        raise SystemExit(f"{row.name}: no artifact")
    begin = time.process_time()
    got = outputs(artifact, work.x)
    simulating = time.process_time() - begin
    right_float = answers(artifact.network, work.wanted) == work.y
    lost = right_float.astype(float) - (answers(artifact.network, got) == work.y)
    return {
        "network": row.network,
        "recipe": row.name,
        "samples": len(lost),
        "steps": artifact.network.timesteps_total,
        "top1_onnx": round(100 * float(right_float.mean()), 2),
        "loss": round(100 * float(lost.mean()), 2),
        "loss_error": round(float(196 * lost.std() / np.sqrt(len(lost))), 2),
        "vmse": round(float(np.square(got - work.wanted).mean() / work.wanted.var()), 5),
        "compile_cpu_seconds": round(compiling, 1),
        "calibrate_seconds": round(dict(compiled.seconds).get("quantize", 0.0), 1),
        "simulate_cpu_seconds": round(simulating, 1),
    }


def judged(row: Row, done: Mapping[str, Any], others: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    """A row with what was wanted of it, and whether that is met within the error of the loss."""
    base = 0.0
    if row.beside is not None:
        other = others.get((row.network, row.beside))
        base = float("nan") if other is None else other["loss"]
    allowed = None if row.wanted is None or np.isnan(base) else round(base + row.wanted, 2)
    met = None if allowed is None else bool(done["loss"] <= allowed + done["loss_error"])
    return {**done, "allowed": allowed, "met": met}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | recipe | images | total steps | ONNX Runtime | points lost | wanted | met | vmse | compile CPU |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        allowed = "" if row["allowed"] is None else row["allowed"]
        met = {None: "", True: "yes", False: "no"}[row["met"]]
        lines.append(
            f"| {row['network']} | {row['recipe']} | {row['samples']} | {row['steps']} | {row['top1_onnx']} | "
            f"{row['loss']} ± {row['loss_error']} | {allowed} | {met} | {row['vmse']:.4f} | "
            f"{row['compile_cpu_seconds']} s |"
        )
    return "\n".join(lines)


def known(path: Path | None, samples: int, calib: int) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows measured before with as many images, by network and recipe."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    same = [row for row in rows if (row["asked"], row["calib"]) == (samples, calib)]
    return {(row["network"], row["recipe"]): row for row in same}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=10000, help="test images")
    parser.add_argument("--calib", type=int, default=1024, help="calibration images")
    parser.add_argument("--rows", help="only rows whose network or recipe contains one of these words")
    parser.add_argument("--json", type=Path, help="file of rows, one a line: read, and added to")
    arguments = parser.parse_args()
    words = arguments.rows.split(",") if arguments.rows else [""]
    chosen = [row for row in ROWS if any(word in f"{row.network} {row.name}" for word in words)]
    done = known(arguments.json, arguments.samples, arguments.calib)
    works: dict[str, Workload | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in chosen:
            if (row.network, row.name) in done:
                continue
            if row.network not in works:
                scratch = Path(folder)
                works[row.network] = Workload.load(
                    row.network, arguments.data, scratch, arguments.samples, arguments.calib
                )
            work = works[row.network]
            if work is None:
                print(f"{row.network} {row.name}: not run (files missing)")
                continue
            measured = {**measure(row, work), "asked": arguments.samples, "calib": arguments.calib}
            done[row.network, row.name] = measured
            print(json.dumps(judged(row, measured, done)), flush=True)
            if arguments.json:
                with arguments.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(measured) + "\n")
    print(f"\n{table([judged(r, done[r.network, r.name], done) for r in chosen if (r.network, r.name) in done])}\n")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
