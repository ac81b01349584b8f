"""Graded coding on real networks: prints one row per file of ``real_onnx``.

    python benchmarks/real_models.py --data DIR [--samples N] [--only WORD] [--json FILE]

DIR holds ``real_onnx/*.onnx``, ``real_onnx/data``, ``cifar10_jpeg/{train,test}.tar.xz`` and
``mnist/{train,test}.npz``. Every network is compiled for the target with graded coding and its
mapped program is held against ONNX Runtime. A network that is refused is listed with the reason.
Calibration samples are never test samples.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from real_inputs import (
    CIFAR_MEAN,
    CIFAR_STD,
    IMAGENET_MEAN,
    Cifar,
    Inputs,
    iris,
    machine_sound,
    mnist,
    nchw,
    noise,
    normalised,
    spoken_word,
    wake_words,
)

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.diagnostic import NmcError
from nmc.ir.reference import answers, decode, encode
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime.artifact import Artifact
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.simulator import execute

BATCH = 64

AGREEMENT_WANTED = 0.98
GROWTH_WANTED = 2.0

PAIRS = (
    ("mlperf_tiny_resnet8_nchw_tflite2onnx", "mlperf_tiny_resnet8_nhwc_tf2onnx"),
    ("mlperf_tiny_vww_mobilenetv1_nchw_tflite2onnx", "mlperf_tiny_vww_mobilenetv1_nhwc_tf2onnx"),
)
"""One network in two layouts."""


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        answer: (N,) class numbers of the mapped program.
        growth: percent by which the error of reconstructing the input grew, of an autoencoder.
    """

    file: str
    what: str
    layers: int
    neurons: int
    cores: int
    samples: int
    agreement: float
    nrmse: float
    top1: float | None
    top1_onnx: float | None
    compile_seconds: float
    answer: np.ndarray
    growth: float | None = None


def sources(data: Path, samples: int) -> Mapping[str, Callable[[], Inputs]]:
    """The inputs of each file, by its stem."""
    cifar = Cifar(data, samples)
    few = min(samples, 200)
    return {
        "cifar10_oval_base_kw": partial(cifar.inputs, normalised(IMAGENET_MEAN, (0.225,))),
        "cifar10_resnet_2b": partial(cifar.inputs, normalised(CIFAR_MEAN, CIFAR_STD)),
        "hls4ml_conv2d_small_keras": partial(noise, samples, (8, 8, 1)),
        "hls4ml_three_layer_keras": partial(noise, samples, (16,), gaussian=True),
        "iris_pytorch_mlp": partial(iris, samples),
        "mlperf_tiny_ad01_autoencoder_tf2onnx": partial(machine_sound, data),
        "mlperf_tiny_kws_dscnn_nhwc_tf2onnx": partial(spoken_word, data, few),
        "mlperf_tiny_resnet8_nchw_tflite2onnx": partial(cifar.inputs, nchw),
        "mlperf_tiny_resnet8_nhwc_tf2onnx": partial(cifar.inputs, lambda x: x),
        "mlperf_tiny_streaming_ww_qdq_tf2onnx": partial(wake_words, data),
        "mlperf_tiny_vww_mobilenetv1_nchw_tflite2onnx": partial(cifar.enlarged, few, nhwc=False),
        "mlperf_tiny_vww_mobilenetv1_nhwc_tf2onnx": partial(cifar.enlarged, few, nhwc=True),
        "mnist_convnet_avgpool_verivital": partial(mnist, data, samples, (1, 28, 28)),
        "mnist_convnet_maxpool_verivital": partial(mnist, data, samples, (1, 28, 28)),
        "mnist_fc_256x2": partial(mnist, data, samples, (784, 1)),
        "mnist_fc_9x200_eran": partial(mnist, data, samples, (1, 28, 28)),
        "mnist_fc_sigmoid_6x200_eran": partial(mnist, data, samples, (1, 28, 28)),
    }


def mapped(artifact: Artifact, x: np.ndarray) -> np.ndarray:
    """Outputs of the mapped program."""
    network, tables = artifact.network, build_tables(artifact.routed)
    parts = [encode(network, x[first : first + BATCH]) for first in range(0, len(x), BATCH)]
    return np.concatenate([decode(network, execute(tables, part).readout) for part in parts])


def measure(model: Path, inputs: Inputs, target: str) -> Row:
    """Compile one network and hold it against ONNX Runtime.

    Raises:
        NmcError: the network is refused.
    """
    begin = time.perf_counter()
    request = CompileRequest(target, Options(coding="graded"), calib=inputs.calib)
    artifact = compile_file(model, request).artifact
    seconds = time.perf_counter() - begin
    if artifact is None:
        raise SystemExit(f"{model.name}: no artifact")
    network = artifact.network
    wanted = OnnxOracle(artifact.source_onnx).run(inputs.test).astype(np.float64)
    got = mapped(artifact, inputs.test).reshape(wanted.shape)
    right, answer = answers(network, wanted), answers(network, got)
    growth = None
    if wanted.shape == inputs.test.shape:
        before, after = (float(np.square(out - inputs.test).mean()) for out in (wanted, got))
        growth = 100 * (after / before - 1)
    return Row(
        model.stem,
        inputs.what,
        len(network.populations) - 1,
        sum(p.neurons for p in network.populations[1:]),
        artifact.routed.cores_used,
        len(got),
        float((answer == right).mean()),
        float(np.sqrt(np.square(got - wanted).sum() / np.square(wanted).sum())),
        None if inputs.labels is None else float((answer == inputs.labels).mean()),
        None if inputs.labels is None else float((right == inputs.labels).mean()),
        seconds,
        answer,
        growth,
    )


def percent(value: float | None) -> str:
    """A fraction as percent, or a dash."""
    return "-" if value is None else f"{100 * value:.2f}"


def line(row: Row) -> str:
    """One row of the Markdown table."""
    agreement = f"error {row.growth:+.2f} %" if row.growth is not None else percent(row.agreement)
    met = row.growth <= GROWTH_WANTED if row.growth is not None else row.agreement >= AGREEMENT_WANTED
    return (
        f"| {row.file} | {row.layers} | {row.neurons:,} | {row.cores} | {row.what} | {row.samples:,} | {agreement} | "
        f"{percent(row.top1_onnx)} | {percent(row.top1)} | {row.nrmse:.4f} | {row.compile_seconds:.1f} | "
        f"{'yes' if met else 'NO'} |"
    )


HEADER = (
    "| network | layers | neurons | cores | inputs | N | agreement (%) | top-1, ONNX Runtime | top-1, on cores | "
    "nrmse | compile (s) | met |\n|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|---|"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--target", default="loihi2")
    parser.add_argument("--samples", type=int, default=1000, help="test samples where there are that many")
    parser.add_argument("--only", default="", help="only files with this word in their name")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    known = sources(arguments.data, arguments.samples)
    rows: dict[str, Row] = {}
    print(f"{arguments.target}, graded coding; Python {platform.python_version()}, {platform.machine()}\n\n{HEADER}")
    for model in sorted((arguments.data / "real_onnx").glob("*.onnx")):
        if arguments.only not in model.stem:
            continue
        if model.stem not in known:
            print(f"| {model.stem} | no inputs known |", flush=True)
            continue
        try:
            rows[model.stem] = measure(model, known[model.stem](), arguments.target)
            print(line(rows[model.stem]), flush=True)
        except NmcError as error:
            slugs = ", ".join(dict.fromkeys(d.slug for d in error.diagnostics))
            print(f"| {model.stem} | refused: {slugs} |", flush=True)
    for first, second in PAIRS:
        if first in rows and second in rows:
            same = float((rows[first].answer == rows[second].answer).mean())
            print(f"\n{first} and {second} agree on {percent(same)} % of {rows[first].samples:,} inputs")
    if arguments.json:
        document = [{k: v for k, v in vars(row).items() if k != "answer"} for row in rows.values()]
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
