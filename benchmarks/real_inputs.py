"""Inputs for the networks of ``real_onnx``: what each was trained on, as far as it is there.

Every function returns `Inputs`: calibration samples and test samples have nothing in common.
The preprocessing of each network is the one with which ONNX Runtime's own top-1 is right.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cifar import images_of

CALIBRATION_SAMPLES = 256
SEED = 0

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN = (0.485, 0.456, 0.406)

IRIS = (
    ((5.006, 3.428, 1.462, 0.246), (0.352, 0.379, 0.174, 0.105)),
    ((5.936, 2.770, 4.260, 1.326), (0.516, 0.314, 0.470, 0.198)),
    ((6.588, 2.974, 5.552, 2.026), (0.636, 0.322, 0.552, 0.275)),
)
"""Mean and standard deviation of the four lengths (cm) of each species: Fisher 1936, table I and the data."""


@dataclass(frozen=True)
class Inputs:
    """Samples of one network.

    Attributes:
        what: where the test samples come from.
        calib, test: (N, *sample shape) float32.
        labels: of the test samples, or None.
    """

    what: str
    calib: np.ndarray
    test: np.ndarray
    labels: np.ndarray | None = None


class Cifar:
    """CIFAR-10, read once."""

    def __init__(self, data: Path, samples: int) -> None:
        calib, _ = images_of(data / "cifar10_jpeg/train.tar.xz", CALIBRATION_SAMPLES, SEED)
        test, self.labels = images_of(data / "cifar10_jpeg/test.tar.xz", samples, SEED)
        self.calib, self.test = (x.transpose(0, 2, 3, 1) for x in (calib, test))

    def inputs(self, prepare: Callable[[np.ndarray], np.ndarray]) -> Inputs:
        """All images, prepared."""
        ready = [prepare(x.astype(np.float64)).astype(np.float32) for x in (self.calib, self.test)]
        return Inputs("CIFAR-10", ready[0], ready[1], self.labels)

    def enlarged(self, samples: int, *, nhwc: bool) -> Inputs:
        """Images of 96 x 96 pixels in 0..1: what a camera gives, though no persons."""
        from PIL import Image

        def turn(images: np.ndarray) -> np.ndarray:
            big = [np.asarray(Image.fromarray(i).resize((96, 96), Image.Resampling.BICUBIC)) for i in images]
            ready = np.stack(big).astype(np.float32) / 255
            return ready if nhwc else np.ascontiguousarray(ready.transpose(0, 3, 1, 2))

        return Inputs("CIFAR-10 enlarged", turn(self.calib[:64]), turn(self.test[:samples]))


def nchw(x: np.ndarray) -> np.ndarray:
    """Pixels 0..255, channels first."""
    return x.transpose(0, 3, 1, 2)


def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Pixels 0..1 less the mean, over the deviation, channels first."""
    return lambda x: nchw((x / 255 - np.array(mean)) / np.array(std))


def mnist(data: Path, samples: int, shape: tuple[int, ...]) -> Inputs:
    """Digits in 0..1."""
    train, test = np.load(data / "mnist/train.npz")["x"], np.load(data / "mnist/test.npz")
    return Inputs(
        "MNIST",
        train[:CALIBRATION_SAMPLES].reshape(-1, *shape),
        test["x"][:samples].reshape(-1, *shape),
        test["y"][:samples],
    )


def machine_sound(data: Path) -> Inputs:
    """Windows of five log-mel frames of one recording: calibrated on its first half, tested on its second."""
    path = data / "real_onnx/data/ad01_toycar_normal_id_01_00000000_hist_librosa.bin"
    frames = np.fromfile(path, dtype="<f4").reshape(200, 128)
    halves = [np.lib.stride_tricks.sliding_window_view(half, (5, 128)) for half in (frames[:100], frames[100:])]
    calib, test = (half.reshape(-1, 640).copy() for half in halves)
    return Inputs("ToyCar recording", calib, test)


def wake_words(data: Path) -> Inputs:
    """Spectrograms in 0..1 as the bytes -128..127 that the network takes; every third of the 45 calibrates."""
    with np.load(data / "real_onnx/data/sww_calibration_samples.npz") as file:
        x = np.clip(np.rint(255 * file["specs"]) - 128, -128, 127).astype(np.float32)
        y = file["labels"].astype(np.int64)
    third = np.arange(len(x)) % 3 == 0
    return Inputs("wake words", x[third], x[~third], y[~third])


def iris(samples: int) -> Inputs:
    """Flowers drawn from the mean and deviation of each species."""
    generator = np.random.default_rng([SEED, *b"iris"])
    species = generator.integers(0, 3, CALIBRATION_SAMPLES + samples)
    mean, deviation = (np.array([row[part] for row in IRIS])[species] for part in (0, 1))
    x = (mean + deviation * generator.standard_normal(mean.shape)).round(1).astype(np.float32)
    return Inputs("drawn from iris", x[:CALIBRATION_SAMPLES], x[CALIBRATION_SAMPLES:], species[CALIBRATION_SAMPLES:])


def noise(samples: int, shape: tuple[int, ...], *, gaussian: bool = False) -> Inputs:
    """Seeded noise: uniform in 0..1, or of mean 0 and deviation 1."""
    generator = np.random.default_rng([SEED, *b"noise"])
    size = (CALIBRATION_SAMPLES + samples, *shape)
    x = (generator.standard_normal(size) if gaussian else generator.random(size)).astype(np.float32)
    return Inputs("calibrated range", x[:CALIBRATION_SAMPLES], x[CALIBRATION_SAMPLES:])


def spoken_word(data: Path, samples: int) -> Inputs:
    """One spoken word, "marvin", shifted in time and with noise: the features of the keyword network.

    The features are those of its training: 49 frames of 30 ms every 20 ms, 40 mel bands from
    20 to 4,000 Hz, the first 10 cepstral coefficients of the sound at a peak of 1. The word is
    none of the ten that the network knows: its answer is class 11, "unknown".
    """
    with wave.open(str(data / "real_onnx/data/marvin_617de221_0.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
    clip = pcm.mean(axis=1)[:16000]
    clip = np.pad(clip / clip.max(), (0, 16000 - len(clip)))
    generator = np.random.default_rng([SEED, *b"word"])
    features = []
    for _ in range(64 + samples):
        moved = np.roll(clip, generator.integers(-1600, 1600))
        heard = moved + generator.uniform(0, 0.1) * generator.standard_normal(16000)
        features.append(cepstrum(np.clip(heard, -1, 1)))
    x = np.stack(features).astype(np.float32)[..., None]
    return Inputs("one spoken word", x[:64], x[64:], np.full(samples, 11))


def cepstrum(sound: np.ndarray) -> np.ndarray:
    """(49, 10) mel-frequency cepstral coefficients of one second at 16 kHz."""
    windows = np.lib.stride_tricks.sliding_window_view(sound, 480)[::320]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)
    spectrum = np.abs(np.fft.rfft(windows * hann, 512))

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(20.0), mel(4000.0), 42)
    bins = mel(np.linspace(0.0, 8000.0, 257))[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0.0, np.minimum(rise, fall))
    bands[0] = 0.0
    log_mel = np.log(spectrum @ bands + 1e-6)
    angle = np.pi / 40 * np.outer(np.arange(40) + 0.5, np.arange(10))
    return log_mel @ np.cos(angle) * np.sqrt(2.0 / 40)
