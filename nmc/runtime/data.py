"""Data specs ``D`` of the command line: arrays, folders of images, seeded noise."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.runtime.images import read_images
from nmc.runtime.npy_stream import read_npy
from nmc.runtime.preprocessing import Preprocessing

__all__ = ["Data", "Preprocessing", "load_data"]

RANDOM_SAMPLES = 64
"""Samples of ``random`` without ``:N``."""

LABELS = "y_"
"""Begins the name of an array that holds the labels of one output: ``y_<output>``."""

KINDS = "data is a .npz with x and optional y, a .npy, a folder of images by class, or random"


@dataclass(frozen=True, eq=False)
class Data:
    """Samples as the network takes them.

    Attributes:
        x: (N, *sample shape) float32, preprocessed.
        y: labels of the first output: (N,) int64 class numbers, (N, ...) float64 values, or None.
        kind: ``npz``, ``npy``, ``images``, ``random``, or ``array`` (given in memory).
        hash: SHA-256 of the raw samples (shape, type and values; no labels, no names), hex.
        warnings: what the user should know.
        classes: names of the classes, of a folder of images.
        named: labels by output, of the form of ``y``.
    """

    x: Array
    y: Array | None
    kind: str
    hash: str
    warnings: tuple[Diagnostic, ...] = ()
    classes: tuple[str, ...] = ()
    named: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.y is not None or bool(self.named)

    def head(self, count: int) -> Data:
        """The first samples."""
        labels = {name: values[:count] for name, values in self.named.items()}
        return replace(self, x=self.x[:count], y=None if self.y is None else self.y[:count], named=labels)


def load_data(
    spec: str,
    sample_shape: Shape,
    preprocess: Preprocessing,
    *,
    seed: int = 0,
    need_labels: bool = False,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Data:
    """Read what a data spec names.

    Args:
        spec: a ``.npz`` with ``x`` and optional ``y`` and ``y_<output>``, a ``.npy``, a folder with
            one folder of images per class, or ``random``; ``spec:N`` takes the first N samples.
        sample_shape: of one sample in the ONNX file, without batch axis.
        preprocess: applied to all but ``random``.
        seed: of ``random``.
        need_labels: labels must be there.
        value_range: ``random`` draws uniformly from [low, high).

    Raises:
        NmcError: exit 2 and ``path-not-readable`` or a slug that begins with ``data-``; exit 6
            and ``pillow-missing`` for images without Pillow.
    """
    name, limit = split_limit(spec)
    if name == "random":
        return _random(sample_shape, limit or RANDOM_SAMPLES, seed, need_labels, value_range)
    path = Path(name)
    try:
        is_folder = path.is_dir()
        magic = b"" if is_folder else _magic(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _data_error("path-not-readable", f"cannot read '{name}': {reason}", KINDS) from error
    labels: Array | None
    named: dict[str, Array] = {}
    classes: tuple[str, ...]
    if is_folder:
        images = read_images(path, sample_shape, limit)
        x, labels, kind, classes = images.x, images.y, "images", images.classes
        preprocess = Preprocessing(preprocess.scale, preprocess.mean, preprocess.std)
    else:
        arrays = _arrays(path, magic, limit)
        x, kind, classes = arrays["x"], "npz" if magic.startswith(b"PK") else "npy", ()
        _check_samples(name, x, preprocess.raw_shape(sample_shape), preprocess)
        given = {key: _labels(name, key, values, len(x), limit) for key, values in arrays.items() if key != "x"}
        labels = given.pop("y", None)
        named = {key.removeprefix(LABELS): values for key, values in given.items()}
    if labels is None and not named and need_labels:
        raise _data_error("data-labels-missing", f"'{name}' has no labels", "give a .npz with x and y")
    ready = _finite(name, preprocess.apply(x))
    return Data(ready, labels, kind, content_hash(x), (), classes, named)


def from_arrays(
    x: Array, y: Array | Mapping[str, Array] | None, sample_shape: Shape, preprocess: Preprocessing
) -> Data:
    """Samples that a caller holds in memory, checked and preprocessed like those of a file.

    Args:
        x: (N, *shape), any numeric type, not yet preprocessed.
        y: labels of the first output, labels by output, or None.
        sample_shape: of one sample in the ONNX file, without batch axis.
        preprocess: applied to x.

    Raises:
        NmcError: exit 2, slugs that begin with ``data-``.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise _data_error("data-type", f"x holds {x.dtype}, not numbers", "give an array of a numeric type")
    _check_samples("x", x, preprocess.raw_shape(sample_shape), preprocess)
    ready, digest = _finite("x", preprocess.apply(x)), content_hash(x)
    if isinstance(y, Mapping):
        named = {key: _labels("y", key, np.asarray(values), len(x), None) for key, values in y.items()}
        return Data(ready, None, "array", digest, named=named)
    return Data(ready, None if y is None else _labels("y", "y", np.asarray(y), len(x), None), "array", digest)


def _finite(name: str, ready: Array) -> Array:
    bad = int(np.count_nonzero(~np.isfinite(ready)))
    if bad:
        raise _data_error("data-not-finite", f"'{name}' has {bad} values that are not finite in float32", "")
    return ready


def split_limit(spec: str) -> tuple[str, int | None]:
    """``path:N`` as (path, N); a path that exists under the whole name is taken whole.

    Raises:
        NmcError: ``data-spec``: N is 0.
    """
    match = re.fullmatch(r"(.+):(\d{1,12})", spec, re.DOTALL)
    if match is None or os.path.lexists(spec.replace("\0", "")):
        return spec, None
    if int(match[2]) == 0:
        raise _data_error("data-spec", f"'{spec}' asks for 0 samples", "give a number of at least 1 after the colon")
    return match[1], int(match[2])


def content_hash(x: Array) -> str:
    """SHA-256 of shape, type and values, the same on every machine."""
    little = np.asarray(x, dtype=x.dtype.newbyteorder("<"), order="C")
    digest = hashlib.sha256(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.data if little.ndim else little.tobytes())
    return digest.hexdigest()


def _magic(path: Path) -> bytes:
    """The first bytes of a regular file."""
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would make open wait
        raise OSError("it is neither a file nor a folder")
    with path.open("rb") as file:
        return file.read(6)


def _data_error(slug: str, message: str, help: str) -> NmcError:
    return NmcError([Diagnostic(slug, message, help=help)], ExitCode.USAGE)


def _random(shape: Shape, count: int, seed: int, need_labels: bool, value_range: tuple[float, float]) -> Data:
    low, high = value_range
    if need_labels:
        raise _data_error("data-labels-missing", "random data has no labels", "give a .npz with x and y")
    if count * size(shape) > 1 << 31:
        raise _data_error("data-too-large", f"{count} random samples of {shape} do not fit in memory", "take fewer")
    generator = np.random.default_rng([seed, *b"random-data"])
    x = generator.uniform(low, high, size=(count, *shape)).astype(np.float32)
    warning = Diagnostic(
        "data-random",
        f"{count} seeded random samples in [{low:g}, {high:g}) instead of data: accuracy says nothing",
        "warning",
        help="give real samples: --data test.npz",
    )
    return Data(x, None, "random", content_hash(x), (warning,))


def _arrays(path: Path, magic: bytes, limit: int | None) -> Mapping[str, Array]:
    """``x``, and ``y`` and ``y_<output>`` where they are there: at most ``limit`` samples of x."""
    try:
        if magic.startswith(b"\x93NUMPY"):
            with path.open("rb") as file:
                return {"x": read_npy(file, limit)}
        if not magic.startswith(b"PK"):
            raise _data_error(
                "data-format", f"'{path}' is neither .npz nor .npy", "write it with numpy.savez(path, x=x, y=y)"
            )
        with zipfile.ZipFile(path) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist()]
            if "x" not in names:
                held = ", ".join(repr(n) for n in names[:8]) or "nothing"
                raise _data_error(
                    "data-key", f"'{path}' has no array 'x', it has {held}", "write it with numpy.savez(path, x=x, y=y)"
                )
            with archive.open("x.npy") as stream:
                arrays = {"x": read_npy(stream, limit)}
            for label in (name for name in names if name == "y" or name.startswith(LABELS)):
                with archive.open(f"{label}.npy") as stream:
                    arrays[label] = read_npy(stream, None)
            return arrays
    except NmcError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, SyntaxError, EOFError, RuntimeError, KeyError) as error:
        raise _data_error("data-corrupt", f"cannot read '{path}': {error}", "write it again") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise _data_error("path-not-readable", f"cannot read '{path}': {reason}", "") from error


def _check_samples(name: str, x: Array, expected: Shape, preprocess: Preprocessing) -> None:
    if x.ndim and len(x) == 0:
        raise _data_error("data-empty", f"'{name}' has no samples: x has shape {x.shape}", "")
    if x.shape[1:] == expected and x.ndim == len(expected) + 1:
        return
    wanted = "(N, " + ", ".join(str(n) for n in expected) + ")"
    help = f"give x of shape {wanted}"
    if x.shape == expected:
        help = "one sample needs a batch axis too: x[None]"
    elif len(expected) == 3 and x.shape[1:] == (*expected[1:], expected[0]) and preprocess.layout == "NCHW":
        help = "the channels stand last: --preprocess layout=NHWC"
    elif size(x.shape[1:]) == size(expected):
        help = f"the number of elements fits: x.reshape{wanted.replace('N', '-1')}"
    raise _data_error("data-shape", f"'{name}': x has shape {x.shape}, the network takes {wanted}", help)


def _labels(name: str, key: str, y: Array, count: int, limit: int | None) -> Array:
    """Labels as (N,) int64 where they are whole numbers, one for each sample; as float64 elsewhere."""
    if y.dtype.kind not in "biuf":
        raise _data_error(
            "data-labels", f"'{name}': {key} holds {y.dtype}, not numbers", "give class numbers or values"
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 0 or (len(y) != count and not (limit is not None and len(y) > count)):
        found = f"{len(y)} labels" if y.ndim else "one number"
        raise _data_error("data-labels", f"'{name}': x has {count} samples, {key} has {found}", "")
    y = y[:count]
    if not np.all(np.isfinite(y)):
        raise _data_error("data-labels", f"'{name}': {key} holds numbers that are not finite", "repair the labels")
    whole = y.ndim == 1 and (y.dtype.kind != "f" or bool(np.all((y == np.rint(y)) & (np.abs(y) < 2.0**53))))
    return y.astype(np.int64 if whole else np.float64)
