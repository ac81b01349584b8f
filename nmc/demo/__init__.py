"""The bundled network and real digits that ``nmc demo`` runs.

`digits_cnn.onnx` is a small ReLU network (examples/train_digits.py). `digits.npz` is its
test part and `digits_calib.npz` its calibration part: scikit-learn's 8x8 digits, which are
the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
Machine Learning Repository, CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

MODEL = Path(__file__).with_name("digits_cnn.onnx")
"""The network: 8 x 8 grey pixels in [0, 1], ten digits."""


def digits() -> tuple[Any, Any]:
    """(500, 1, 8, 8) float16 images and (500,) uint8 labels that training and calibration never saw."""
    with _arrays("digits.npz") as arrays:
        return arrays["x"], arrays["y"]


def calibration() -> Any:
    """(256, 1, 8, 8) float16 images of the training part."""
    with _arrays("digits_calib.npz") as arrays:
        return arrays["x"]


def _arrays(name: str) -> Any:
    # Imported here: who only wants the paths needs no numpy.
    import numpy as np

    return np.load(Path(__file__).with_name(name), allow_pickle=False)
