"""Trains the bundled demo network and writes it with its data to a folder.

Writes ``digits_cnn.onnx``, ``digits.npz`` (test part) and ``digits_calib.npz`` (calibration
part), each with ``x`` and ``y``. The files in ``nmc/demo`` come from this script. It needs
packages that nmc itself does not: ``pip install torch scikit-learn onnx``. Seconds on one
core::

    python examples/train_digits.py nmc/demo

The data are scikit-learn's 1,797 digits of 8x8 pixels with values 0 to 16. The last 500
after a seeded shuffle are the test part; 256 of the others are the calibration part. The
network takes values from 0 to 1: the data are stored divided by 16, which float16 holds exactly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from torch import nn

TEST, CALIBRATION, LEVELS = 500, 256, 16.0
NAMES = ["conv1", "relu1", "conv2", "relu2", "pool", "conv3", "relu3", "flatten", "fc"]


def network() -> nn.Sequential:
    """Convolution twice, average pooling, convolution, classifier: 11,000 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(24, 32, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def shifted(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each batch moved by up to one pixel, zeros coming in."""
    dy, dx = torch.randint(-1, 2, (2,), generator=generator).tolist()
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    return padded[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx]


def train(x: torch.Tensor, y: torch.Tensor, epochs: int) -> nn.Sequential:
    """Cross entropy, AdamW, one cycle of the learning rate."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = network()
    batch = 64
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for part in order.split(batch)[: len(x) // batch]:
            loss = nn.functional.cross_entropy(model(shifted(x[part], generator)), y[part], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: nn.Sequential, path: Path) -> None:
    """ONNX, opset 17, symbolic batch, one plain name per node and per tensor."""
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 8, 8),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    proto = onnx.load(str(path))
    renamed = {}
    for node, name in zip(proto.graph.node, NAMES, strict=True):
        node.name = name
        if node.output[0] != "logits":
            renamed[node.output[0]] = name
    for initializer in proto.graph.initializer:
        index, part = initializer.name.split(".")
        renamed[initializer.name] = f"{NAMES[int(index)]}.{part}"
        initializer.name = renamed[initializer.name]
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del proto.graph.value_info[:]
    proto.graph.name = "digits_cnn"
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))


def main() -> None:
    """Train, export, write the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=80)
    arguments = parser.parse_args()
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order] / LEVELS).astype(np.float16)[:, None]
    y = digits.target[order].astype(np.uint8)
    inputs, labels = torch.from_numpy(x[:-TEST].astype(np.float32)), torch.from_numpy(y[:-TEST]).long()
    model = train(inputs, labels, arguments.epochs)
    with torch.no_grad():
        logits = model(torch.from_numpy(x[-TEST:].astype(np.float32)))
    right = int((logits.argmax(1).numpy() == y[-TEST:]).sum())
    print(f"test: {right} of {TEST} right, {sum(p.numel() for p in model.parameters())} parameters")
    export(model, arguments.folder / "digits_cnn.onnx")
    np.savez_compressed(arguments.folder / "digits.npz", x=x[-TEST:], y=y[-TEST:])
    np.savez_compressed(arguments.folder / "digits_calib.npz", x=x[:CALIBRATION], y=y[:CALIBRATION])


if __name__ == "__main__":
    main()
