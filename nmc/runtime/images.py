"""A folder with one folder of images per class."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import numpy as np

from nmc.ir.connectivity import Array, Shape
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
IMAGES_MAX = 1 << 20
SHOWN = 5
"""Images named in one error."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images in the network's own order of axes.

    Attributes:
        x: (N, *sample shape) uint8.
        y: (N,) int64: number of the class in ``classes``.
        classes: folder names, sorted.
    """

    x: Array
    y: Array
    classes: tuple[str, ...]


def read_images(folder: Path, sample_shape: Shape, limit: int | None) -> Images:
    """Read a folder of class folders.

    The classes take turns, each in the order of its file names, so that the first N
    samples hold every class. Images are turned to grey or RGB as the network's channels
    ask, never scaled.

    Raises:
        NmcError: ``pillow-missing`` (exit 6); ``data-shape``, ``data-empty`` or
            ``data-corrupt`` (exit 2) with the images that are wrong.
    """
    axis, mode, (height, width) = _layout(folder, sample_shape)
    pillow = _pillow()
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    turns = [
        [(path, number) for path in sorted((folder / name).iterdir()) if path.suffix.lower() in SUFFIXES]
        for number, name in enumerate(classes)
    ]
    chosen = [item for turn in zip_longest(*turns) for item in turn if item is not None][: limit or IMAGES_MAX]
    if not chosen:
        raise NmcError.single(
            "data-empty",
            f"'{folder}' has no images in class folders",
            ExitCode.USAGE,
            help="put one folder per class into it, with .png or .jpg files",
        )
    x = np.zeros((len(chosen), height, width, len(mode) if axis is not None else 1), dtype=np.uint8)
    sink = DiagnosticSink()
    for number, (path, _) in enumerate(chosen):
        problem = _read(pillow, path, mode, (height, width), x[number])
        if problem is not None:
            sink.error(*problem)
    if sink.items:
        rest = len(sink.items) - SHOWN
        del sink.items[SHOWN:]
        if rest > 0:
            sink.error("data-shape", f"and {rest} more images of '{folder}'")
        sink.raise_errors(ExitCode.USAGE)
    ordered = x[..., 0] if axis is None else (np.moveaxis(x, -1, 1) if axis == 0 else x)
    labels = np.array([label for _, label in chosen], dtype=np.int64)
    return Images(np.ascontiguousarray(ordered), labels, classes)


def _layout(folder: Path, shape: Shape) -> tuple[int | None, str, tuple[int, int]]:
    """Channel axis of a sample, Pillow's mode letters, and (height, width)."""
    if len(shape) == 2:
        return None, "L", (shape[0], shape[1])
    if len(shape) == 3 and shape[0] in (1, 3):
        return 0, "L" if shape[0] == 1 else "RGB", (shape[1], shape[2])
    if len(shape) == 3 and shape[2] in (1, 3):
        return 2, "L" if shape[2] == 1 else "RGB", (shape[0], shape[1])
    raise NmcError.single(
        "data-shape",
        f"'{folder}' holds images, the network takes samples of {shape}",
        ExitCode.USAGE,
        help="give a .npz with x of that shape",
    )


def _pillow() -> ModuleType:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise NmcError.single(
            "pillow-missing",
            "reading images needs Pillow, which is not installed",
            ExitCode.MISSING,
            help="pip install pillow, or give the images as a .npz",
        ) from error


def _read(pillow: ModuleType, path: Path, mode: str, wanted: tuple[int, int], out: Array) -> tuple[str, str] | None:
    """One image into ``out`` (H, W, channels); slug and message of what is wrong, if anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pillow.open(path) as image:
                if (image.height, image.width) != wanted:
                    found = f"{image.height}x{image.width}"
                    return "data-shape", f"'{path}' is {found} pixels, the network takes {wanted[0]}x{wanted[1]}"
                pixels = np.asarray(image.convert(mode), dtype=np.uint8)
    except Exception as error:  # Pillow's decoders raise many kinds: all mean an unreadable image
        return "data-corrupt", f"cannot read the image '{path}': {error}"
    out[...] = pixels.reshape(out.shape)
    return None
