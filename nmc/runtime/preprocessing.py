"""``--preprocess``: what happens to raw samples before the network; stored in the artifact."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmc.ir.connectivity import Array, Shape
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

LAYOUTS = ("NCHW", "NHWC")
KEYS = ("scale", "mean", "std", "layout")
CHUNK = 256
"""Samples converted at a time: the float64 copy stays small."""


@dataclass(frozen=True)
class Preprocessing:
    """``(x * scale - mean) / std``, channels first.

    Attributes:
        scale: factor on raw values, e.g. 1/255 for bytes.
        mean, std: of the scaled values, one number or one per channel.
        layout: order of the raw samples' axes: ``NHWC`` is turned to channels first.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "NCHW"

    @classmethod
    def parse(cls, text: str) -> Preprocessing:
        """Read ``scale=1/255,mean=a|b|c,std=a|b|c,layout=NHWC``; every key is optional.

        Raises:
            NmcError: ``preprocess-invalid`` with everything that is wrong; exit 2.
        """
        sink = DiagnosticSink()
        found: dict[str, Any] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            key, equals, value = (p.strip() for p in part.partition("="))
            if not equals or key not in KEYS:
                near = difflib.get_close_matches(key, KEYS, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"keys are {', '.join(KEYS)}"
                sink.error("preprocess-invalid", f"--preprocess: '{part}' is not key=value of a known key", help=hint)
            elif key in found:
                sink.error("preprocess-invalid", f"--preprocess: '{key}' is given twice")
            else:
                found[key] = value if key == "layout" else _numbers(key, value, sink)
        return _checked(found, sink, ExitCode.USAGE)

    def to_dict(self) -> dict[str, object]:
        """The form of the manifest."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std), "layout": self.layout}

    @classmethod
    def from_dict(cls, tree: Mapping[str, object]) -> Preprocessing:
        """The inverse of `to_dict`.

        Raises:
            NmcError: ``preprocess-invalid``; exit 3: the manifest is damaged.
        """
        sink = DiagnosticSink()
        found: dict[str, Any] = {}
        for key, value in tree.items():
            numbers: list[Any] = value if isinstance(value, list) else [value]
            if key not in KEYS:
                sink.error("preprocess-invalid", f"preprocessing has the unknown key '{key}'")
            elif key == "layout":
                found[key] = value
            elif all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e300 for n in numbers):
                found[key] = tuple(float(n) for n in numbers)
            else:
                sink.error("preprocess-invalid", f"preprocessing: '{key}' holds {value!r}, not numbers")
        return _checked(found, sink, ExitCode.MODEL)

    def raw_shape(self, sample_shape: Shape) -> Shape:
        """Shape of a raw sample for a network that takes ``sample_shape``."""
        if self.layout == "NHWC" and len(sample_shape) == 3:
            return (*sample_shape[1:], sample_shape[0])
        return sample_shape

    def apply(self, x: Array) -> Array:
        """Raw samples (N, *raw shape) of any numeric type to float32 (N, *sample shape).

        Computed in float64 and rounded once, so that the result is the same on every machine.

        Raises:
            NmcError: ``preprocess-invalid``: per-channel numbers do not fit; exit 2.
        """
        turn = self.layout == "NHWC" and x.ndim == 4
        shape = (x.shape[0], x.shape[-1], *x.shape[1:-1]) if turn else x.shape
        mean, std = _per_channel("mean", self.mean, shape), _per_channel("std", self.std, shape)
        out = np.empty(shape, dtype=np.float32)
        for first in range(0, len(x), CHUNK):
            part = x[first : first + CHUNK]
            scaled = (np.moveaxis(part, -1, 1) if turn else part).astype(np.float64) * self.scale
            with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is not finite
                out[first : first + CHUNK] = (scaled - (0.0 if mean is None else mean)) / (1.0 if std is None else std)
        return out


def _per_channel(key: str, values: tuple[float, ...], shape: Shape) -> Array | None:
    """Numbers broadcastable to samples of ``shape``, whose channels are axis 1 or else the last.

    Raises:
        NmcError: their number fits neither; exit 2.
    """
    if not values:
        return None
    for axis in (1, len(shape) - 1):
        if len(shape) > 1 and len(values) in (1, shape[axis]):
            return np.asarray(values).reshape(-1, *(1,) * (len(shape) - 1 - axis))
    raise NmcError.single(
        "preprocess-invalid",
        f"--preprocess: {key} has {len(values)} numbers, the samples have {shape[1]} channels",
        ExitCode.USAGE,
        help=f"give one number, or {shape[1]} joined by |",
    )


def _numbers(key: str, text: str, sink: DiagnosticSink) -> tuple[float, ...]:
    """Numbers or fractions joined by ``|``."""
    found = []
    for word in text.split("|"):
        over, slash, under = word.partition("/")
        try:
            number = float(over) / (float(under) if slash else 1.0)
        except (ValueError, ZeroDivisionError):
            number = math.nan
        if not math.isfinite(number):
            sink.error("preprocess-invalid", f"--preprocess: {key} has '{word}', which is no finite number")
        found.append(number)
    return tuple(found)


def _checked(found: Mapping[str, Any], sink: DiagnosticSink, exit_code: ExitCode) -> Preprocessing:
    scale, mean, std = found.get("scale", (1.0,)), found.get("mean", ()), found.get("std", ())
    layout = found.get("layout", "NCHW")
    if len(scale) != 1:
        sink.error("preprocess-invalid", f"preprocessing: scale has {len(scale)} numbers, it takes 1")
    if 0.0 in scale or 0.0 in std:
        sink.error("preprocess-invalid", "preprocessing: scale and std must not be 0")
    if layout not in LAYOUTS:
        sink.error("preprocess-invalid", f"preprocessing: layout {layout!r}, known are {' and '.join(LAYOUTS)}")
    sink.raise_errors(exit_code)
    return Preprocessing(scale[0], mean, std, layout)
