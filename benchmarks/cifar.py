"""CIFAR-10 as the benchmarks read it: JPEG files in folders of classes, in ``{train,test}.tar.xz``."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

NORMALISED = "scale=1/255,mean=0.485|0.456|0.406,std=0.229|0.224|0.225"
"""The preprocessing of ``models/cifar_resnet20.onnx``."""


def images_of(archive: Path, count: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) uint8 and their classes in alphabetical order, drawn with the seed.

    Args:
        archive: read once from front to back, as it is compressed as one stream.
        count: how many; None: all.
        seed: of the order.
    """
    from PIL import Image

    with tarfile.open(archive) as tar:
        held = {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar if m.name.endswith(".jpg")}
    names = sorted(held)
    classes = sorted({name.split("/")[-2] for name in names})
    chosen = [names[index] for index in np.random.default_rng(seed).permutation(len(names))[:count]]
    images = [np.asarray(Image.open(io.BytesIO(held[name])).convert("RGB")).transpose(2, 0, 1) for name in chosen]
    return np.stack(images), np.array([classes.index(name.split("/")[-2]) for name in chosen])
