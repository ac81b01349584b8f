"""A max-pool network of 0.58 M parameters on CIFAR-10: trains it once, then prints what compiling it costs.

    python benchmarks/maxpool_cifar.py --data DIR --model cifar_maxpool.onnx [--samples N]

DIR holds ``cifar10_jpeg/{train,test}.tar.xz``. Where the model file is not there it is trained
first, 12 epochs of 390 steps (needs ``pip install torch``).
Calibration takes 256 unlabelled training images.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from cifar import images_of

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.runtime.data import load_data
from nmc.runtime.evaluation import evaluate
from nmc.runtime.preprocessing import Preprocessing

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
PREPROCESS = f"scale=1/255,mean={'|'.join(map(str, MEAN))},std={'|'.join(map(str, STD))}"
CALIBRATION_SAMPLES, EPOCHS, BATCH = 256, 12, 128
CODINGS = (Options(coding="graded"), Options(timesteps=32), Options(timesteps=16))


def train(data: Path, model: Path) -> None:
    """Six convolutions with batch normalisation and four max-poolings, cross entropy, one cycle."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    x, y = (torch.from_numpy(a) for a in images_of(data / "cifar10_jpeg/train.tar.xz"))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    layers: list[nn.Module] = []
    for inputs, outputs, pool in ((3, 32, 2), (32, 64, 0), (64, 64, 2), (64, 128, 0), (128, 128, 2), (128, 256, 4)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(pool)] if pool else []
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=EPOCHS * steps, pct_start=0.2)
    for epoch in range(EPOCHS):
        order = generator.permutation(len(x))
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            batch = (x[chosen].float() / 255 - mean) / std
            batch = batch.flip(3) if generator.random() < 0.5 else batch
            top, left = generator.integers(0, 9, 2)
            batch = nn.functional.pad(batch, (4, 4, 4, 4))[:, :, top : top + 32, left : left + 32]
            loss = nn.functional.cross_entropy(net(batch), y[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}", flush=True)
    net.eval()
    ends = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(net, torch.zeros(1, 3, 32, 32), str(model), dynamo=False, **ends)


def measure(model: Path, calib: Path, test: Path, options: Options) -> str:
    """One row of the table."""
    start = time.perf_counter()
    artifact = compile_file(model, CompileRequest("loihi2", options, str(calib), PREPROCESS)).artifact
    if artifact is None:
        raise RuntimeError("the compile stopped before an artifact was made")
    compiled = time.perf_counter() - start
    data = load_data(str(test), artifact.network.input.shape, Preprocessing.parse(PREPROCESS))
    start = time.perf_counter()
    result = evaluate(artifact, data)
    seconds = time.perf_counter() - start
    top1 = {score.stage: 100 * (score.top1 or 0.0) for score in result.stages}
    coding = options.coding if options.coding == "graded" else f"{options.coding} T={options.timesteps}"
    return (
        f"| {coding} | {len(data.x):,} | {top1['onnx']:.2f} | {top1['mapped']:.2f} | "
        f"{top1['onnx'] - top1['mapped']:.2f} | {artifact.routed.cores_used} | {compiled:.1f} | {seconds:.0f} |"
    )


def main() -> None:
    """Train where needed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=10_000)
    given = parser.parse_args()
    if not given.model.exists():
        train(given.data, given.model)
    print(f"loihi2; Python {platform.python_version()}, {platform.machine()}\n")
    print("| coding | images | ONNX Runtime | on cores | loss (points) | cores | compile (s) | evaluation (s) |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        calib, test = Path(folder) / "calib.npz", Path(folder) / "test.npz"
        x, y = images_of(given.data / "cifar10_jpeg/test.tar.xz", given.samples)
        np.savez(test, x=x, y=y)
        np.savez(calib, x=images_of(given.data / "cifar10_jpeg/train.tar.xz", CALIBRATION_SAMPLES)[0])
        for options in CODINGS:
            print(measure(given.model, calib, test, options), flush=True)


if __name__ == "__main__":
    main()
