"""The arrays of a network with several inputs: one for each, by name, checked all at once."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink, ExitCode
from nmc.ir.samples import joined
from nmc.runtime.preprocessing import Preprocessing

IMAGE_AXES = 3
"""Axes of a sample that is an image: channels, height, width."""


@dataclass(frozen=True, eq=False)
class InputArrays:
    """Samples of all inputs.

    Attributes:
        x: (N, values) float32, preprocessed, the inputs joined (`nmc.ir.samples`).
        hash: SHA-256 of the raw samples of all inputs, hex.
        warnings: arrays that belong to nothing.
    """

    x: Array
    hash: str
    warnings: tuple[Diagnostic, ...]


def join_inputs(
    name: str, arrays: Mapping[str, Array], shapes: Mapping[str, Shape], preprocess: Preprocessing
) -> InputArrays:
    """Check the arrays of several inputs, preprocess and join them.

    Args:
        name: of the file, for messages.
        arrays: raw samples (N, *shape) by input.
        shapes: of one sample in the ONNX file, by input, in order.
        preprocess: applied to the inputs that are images.

    Raises:
        NmcError: exit 2 and every array that is missing or does not fit: slugs that begin with
            ``data-``, and ``preprocess-invalid``.
    """
    sink = DiagnosticSink()
    steps = preprocessing_by_input(shapes, preprocess, sink)
    _check_names(name, arrays, shapes, sink)
    for key, shape in shapes.items():
        if key in arrays:
            _check_array(name, key, arrays[key], steps[key].raw_shape(shape), sink)
    counts = {key: len(arrays[key]) for key in shapes if key in arrays and arrays[key].ndim}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"'{key}' has {count}" for key, count in counts.items())
        sink.error("data-shape", f"'{name}': the inputs have different numbers of samples: {shown}")
    warnings = tuple(d for d in sink.items if d.severity == "warning")
    sink.raise_errors(ExitCode.USAGE)
    digest = hashlib.sha256()
    parts = []
    for key in shapes:
        ready = steps[key].apply(arrays[key])
        bad = int(np.count_nonzero(~np.isfinite(ready)))
        if bad:
            sink.error("data-not-finite", f"'{name}': {key} has {bad} values that are not finite in float32")
        parts.append(ready)
        digest.update(content_hash(arrays[key]).encode())
    sink.raise_errors(ExitCode.USAGE)
    return InputArrays(joined(parts), digest.hexdigest(), warnings)


def preprocessing_by_input(
    shapes: Mapping[str, Shape], preprocess: Preprocessing, sink: DiagnosticSink
) -> dict[str, Preprocessing]:
    """What happens to each input: ``--preprocess`` to images, nothing to others; all of it to a single input."""
    plain = Preprocessing()
    if len(shapes) == 1 or preprocess == plain:
        return dict.fromkeys(shapes, preprocess)
    images = {key: shape for key, shape in shapes.items() if len(shape) == IMAGE_AXES}
    if not images:
        sink.error(
            "preprocess-invalid",
            f"--preprocess is for images, and of the inputs {listed_inputs(shapes)} none is one",
            help="preprocess the arrays before they are given",
        )
    for key, shape in images.items():
        # Channels stand first where the samples are turned, else they may stand last too.
        ends = {shape[0]} if preprocess.layout == "NHWC" else {shape[0], shape[-1]}
        for what, numbers in (("mean", preprocess.mean), ("std", preprocess.std)):
            if len(numbers) > 1 and len(numbers) not in ends:
                sink.error(
                    "preprocess-invalid",
                    f"--preprocess: {what} has {len(numbers)} numbers, the input '{key}' has {shape[0]} channels",
                    help=f"it is applied to every image ({listed_inputs(images)}): give one number for all of them",
                )
    return {key: preprocess if key in images else plain for key in shapes}


def listed_inputs(shapes: Mapping[str, Shape]) -> str:
    """``'a' (N, 3, 8, 8), 'b' (N, 5)``."""
    return ", ".join(f"'{key}' {_batch(shape)}" for key, shape in shapes.items())


def content_hash(x: Array) -> str:
    """SHA-256 of shape, type and values, the same on every machine."""
    little = np.asarray(x, dtype=x.dtype.newbyteorder("<"), order="C")
    digest = hashlib.sha256(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.data if little.ndim else little.tobytes())
    return digest.hexdigest()


def _check_names(name: str, arrays: Mapping[str, Array], shapes: Mapping[str, Shape], sink: DiagnosticSink) -> None:
    missing = [key for key in shapes if key not in arrays]
    extra = [key for key in arrays if key not in shapes]
    for key in missing:
        near = difflib.get_close_matches(key, extra, 1)
        sink.error(
            "data-key",
            f"'{name}' has no array '{key}' {_batch(shapes[key])}",
            help=(f"is it '{near[0]}'? " if near else "") + f"the network takes {listed_inputs(shapes)}",
        )
    for key in extra:
        text, help = (
            f"'{name}': the array '{key}' is no input of the network",
            f"the network takes {listed_inputs(shapes)}",
        )
        if missing:
            sink.error("data-key", text, help=help)
        else:
            sink.warning("data-array-unused", f"{text} and is not used", help=help)


def _check_array(name: str, key: str, x: Array, expected: Shape, sink: DiagnosticSink) -> None:
    problem = sample_problem(f"'{name}': {key}", key, x, expected)
    if x.dtype.kind not in "biuf":
        sink.error("data-type", f"'{name}': {key} holds {x.dtype}, not numbers")
    elif problem is not None:
        sink.items.append(problem)


def sample_problem(name: str, key: str, x: Array, expected: Shape, *, layout: str = "NCHW") -> Diagnostic | None:
    """What is wrong with the shape of raw samples, if anything.

    Args:
        name: what has the shape, for the message.
        key: of the array, for the way out.
        x: the samples.
        expected: shape of one raw sample.
        layout: of the preprocessing.
    """
    if x.ndim and len(x) == 0:
        return Diagnostic("data-empty", f"{name} has no samples: it has shape {x.shape}")
    if x.shape[1:] == expected and x.ndim == len(expected) + 1:
        return None
    wanted = _batch(expected)
    help = f"give {key} of shape {wanted}"
    if x.shape == expected:
        help = f"one sample needs a batch axis too: {key}[None]"
    elif len(expected) == IMAGE_AXES and x.shape[1:] == (*expected[1:], expected[0]) and layout == "NCHW":
        help = "the channels stand last: --preprocess layout=NHWC"
    elif size(x.shape[1:]) == size(expected):
        help = f"the number of elements fits: {key}.reshape{wanted.replace('N', '-1')}"
    return Diagnostic("data-shape", f"{name} has shape {x.shape}, the network takes {wanted}", help=help)


def _batch(shape: Shape) -> str:
    return "(N, " + ", ".join(str(n) for n in shape) + ")"
