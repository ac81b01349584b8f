"""Data specs ``D`` of the command line: arrays, folders of images, seeded noise."""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nmc.ir.connectivity import Array, Shape, size
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.ir.samples import joined
from nmc.runtime.images import read_images
from nmc.runtime.input_arrays import InputArrays, content_hash, join_inputs, listed_inputs, sample_problem
from nmc.runtime.npy_stream import read_npy
from nmc.runtime.preprocessing import Preprocessing

__all__ = ["Data", "Preprocessing", "load_data"]

RANDOM_SAMPLES = 64
"""Samples of ``random`` without ``:N``."""

LABELS = "y_"
"""Begins the name of an array that holds the labels of one output: ``y_<output>``."""

KINDS = "data is a .npz with x and optional y, a .npy, a folder of images by class, or random"

Shapes = Shape | Mapping[str, Shape]
"""Of one sample in the ONNX file, without batch axis; by input, in order, where there may be several."""


@dataclass(frozen=True, eq=False)
class Data:
    """Samples as the network takes them.

    Attributes:
        x: (N, *sample shape) float32, preprocessed; several inputs joined (`nmc.ir.samples`).
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
    sample_shape: Shapes,
    preprocess: Preprocessing,
    *,
    seed: int = 0,
    need_labels: bool = False,
    value_ranges: Sequence[tuple[float, float]] | None = None,
) -> Data:
    """Read what a data spec names.

    Args:
        spec: a ``.npz`` with ``x`` (or one array for each of several inputs, under its name) and optional
            ``y`` and ``y_<output>``, a ``.npy``, a folder with one folder of images per class, or
            ``random``; ``spec:N`` takes the first N samples.
        sample_shape: as `Shapes`.
        preprocess: applied to all but ``random``; of several inputs, to the images.
        seed: of ``random``.
        need_labels: labels must be there.
        value_ranges: ``random`` draws uniformly from [low, high), one pair for each input; None: [0, 1).

    Raises:
        NmcError: exit 2 and ``path-not-readable`` or a slug that begins with ``data-``; exit 6
            and ``pillow-missing`` for images without Pillow.
    """
    name, limit = split_limit(spec)
    shapes = _by_input(sample_shape)
    if name == "random":
        return _random(shapes, limit or RANDOM_SAMPLES, seed, need_labels, value_ranges)
    path = Path(name)
    try:
        is_folder = path.is_dir()
        magic = b"" if is_folder else _magic(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _data_error("path-not-readable", f"cannot read '{name}': {reason}", KINDS) from error
    if is_folder:
        data = _images(name, shapes, preprocess, limit)
    else:
        data = _from_file(name, _arrays(path, magic, shapes, limit), shapes, preprocess, limit)
        data = replace(data, kind="npz" if magic.startswith(b"PK") else "npy")
    if not data.labelled and need_labels:
        raise _data_error("data-labels-missing", f"'{name}' has no labels", "give a .npz with x and y")
    return data


def _by_input(sample_shape: Shapes) -> Mapping[str, Shape]:
    return sample_shape if isinstance(sample_shape, Mapping) else {"x": sample_shape}


def _images(name: str, shapes: Mapping[str, Shape], preprocess: Preprocessing, limit: int | None) -> Data:
    """A folder of images, the one input of a network."""
    if len(shapes) > 1:
        raise _one_array(f"'{name}' holds images", shapes)
    (shape,) = shapes.values()
    images = read_images(Path(name), shape, limit)
    ready = _finite(name, Preprocessing(preprocess.scale, preprocess.mean, preprocess.std).apply(images.x))
    return Data(ready, images.y, "images", content_hash(images.x), (), images.classes)


def _from_file(
    name: str, arrays: Mapping[str, Array], shapes: Mapping[str, Shape], preprocess: Preprocessing, limit: int | None
) -> Data:
    """Samples and labels that were read."""
    labels = {key: values for key, values in arrays.items() if _is_label(key, shapes)}
    given = {key: values for key, values in arrays.items() if key not in labels}
    if len(shapes) == 1:
        (x,), (shape,) = given.values(), shapes.values()
        made = _one_input(f"'{name}': x", name, x, shape, preprocess)
    else:
        made = join_inputs(name, given, shapes, preprocess)
    fitted = {key: _labels(name, key, values, len(made.x), limit) for key, values in labels.items()}
    y = fitted.pop("y", None)
    named = {key.removeprefix(LABELS): values for key, values in fitted.items()}
    return Data(made.x, y, "npz", made.hash, made.warnings, named=named)


def _one_input(what: str, name: str, x: Array, shape: Shape, preprocess: Preprocessing) -> InputArrays:
    """The samples of a single input, checked and preprocessed; ``what`` and ``name`` are for messages."""
    _check_samples(what, x, preprocess.raw_shape(shape), preprocess)
    return InputArrays(_finite(name, preprocess.apply(x)), content_hash(x), ())


def _key_of_one(names: list[str], shapes: Mapping[str, Shape]) -> str:
    """The array that holds the one input: ``x``, or where there is none what the network calls it."""
    own = next(iter(shapes))
    return "x" if "x" in names or own not in names or _is_label(own, shapes) else own


def _is_label(key: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether an array is one of labels; inputs may be called as labels are."""
    return (key == "y" or key.startswith(LABELS)) and (len(shapes) == 1 or key not in shapes)


def _one_array(what: str, shapes: Mapping[str, Shape]) -> NmcError:
    return _data_error(
        "data-key",
        f"{what}, which is one array; the network has {len(shapes)} inputs",
        f"give a .npz with an array for each: {listed_inputs(shapes)}",
    )


def from_arrays(
    x: Array | Mapping[str, Array],
    y: Array | Mapping[str, Array] | None,
    sample_shape: Shapes,
    preprocess: Preprocessing,
) -> Data:
    """Samples that a caller holds in memory, checked and preprocessed like those of a file.

    Args:
        x: (N, *shape), any numeric type, not yet preprocessed; by the name of the input where there are
            several.
        y: labels of the first output, labels by output, or None.
        sample_shape: as `Shapes`.
        preprocess: applied to x.

    Raises:
        NmcError: exit 2, slugs that begin with ``data-``.
    """
    shapes = _by_input(sample_shape)
    if len(shapes) > 1 or isinstance(x, Mapping):
        if not isinstance(x, Mapping):
            raise _one_array("x is given", shapes)
        made = join_inputs("x", {key: np.asarray(values) for key, values in x.items()}, shapes, preprocess)
    else:
        (shape,), x = shapes.values(), np.asarray(x)
        if x.dtype.kind not in "biuf":
            raise _data_error("data-type", f"x holds {x.dtype}, not numbers", "give an array of a numeric type")
        made = _one_input("x", "x", x, shape, preprocess)
    count = len(made.x)
    if isinstance(y, Mapping):
        named = {key: _labels("y", key, np.asarray(values), count, None) for key, values in y.items()}
        return Data(made.x, None, "array", made.hash, made.warnings, named=named)
    labels = None if y is None else _labels("y", "y", np.asarray(y), count, None)
    return Data(made.x, labels, "array", made.hash, made.warnings)


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


def _magic(path: Path) -> bytes:
    """The first bytes of a regular file."""
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would make open wait
        raise OSError("it is neither a file nor a folder")
    with path.open("rb") as file:
        return file.read(6)


def _data_error(slug: str, message: str, help: str) -> NmcError:
    return NmcError([Diagnostic(slug, message, help=help)], ExitCode.USAGE)


def _random(
    shapes: Mapping[str, Shape],
    count: int,
    seed: int,
    need_labels: bool,
    value_ranges: Sequence[tuple[float, float]] | None,
) -> Data:
    ranges = value_ranges or [(0.0, 1.0)] * len(shapes)
    if need_labels:
        raise _data_error("data-labels-missing", "random data has no labels", "give a .npz with x and y")
    if count * sum(map(size, shapes.values())) > 1 << 31:
        shown = " and ".join(map(str, shapes.values()))
        raise _data_error("data-too-large", f"{count} random samples of {shown} do not fit in memory", "take fewer")
    generator = np.random.default_rng([seed, *b"random-data"])
    parts = [
        generator.uniform(low, high, size=(count, *shape)).astype(np.float32)
        for shape, (low, high) in zip(shapes.values(), ranges, strict=True)
    ]
    x = joined(parts)
    shown = ", ".join(dict.fromkeys(f"[{low:g}, {high:g})" for low, high in ranges))
    warning = Diagnostic(
        "data-random",
        f"{count} seeded random samples in {shown} instead of data: accuracy says nothing",
        "warning",
        help="give real samples: --data test.npz",
    )
    return Data(x, None, "random", content_hash(x), (warning,))


def _arrays(path: Path, magic: bytes, shapes: Mapping[str, Shape], limit: int | None) -> Mapping[str, Array]:
    """The inputs, and ``y`` and ``y_<output>`` where they are there: at most ``limit`` samples of the inputs.

    All arrays of a file for several inputs, since what is no input may be one with a wrong name.
    """
    try:
        if magic.startswith(b"\x93NUMPY"):
            if len(shapes) > 1:
                raise _one_array(f"'{path}' is a .npy", shapes)
            with path.open("rb") as file:
                return {"x": read_npy(file, limit)}
        if not magic.startswith(b"PK"):
            raise _data_error(
                "data-format", f"'{path}' is neither .npz nor .npy", "write it with numpy.savez(path, x=x, y=y)"
            )
        with zipfile.ZipFile(path) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist()]
            key = _key_of_one(names, shapes)
            if len(shapes) == 1 and key not in names:
                held = ", ".join(repr(n) for n in names[:8]) or "nothing"
                raise _data_error(
                    "data-key", f"'{path}' has no array 'x', it has {held}", "write it with numpy.savez(path, x=x, y=y)"
                )
            arrays = {}
            for name in names:
                is_label = _is_label(name, shapes)
                if is_label or len(shapes) > 1 or name == key:
                    with archive.open(f"{name}.npy") as stream:
                        arrays[name] = read_npy(stream, None if is_label else limit)
            return arrays
    except NmcError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, SyntaxError, EOFError, RuntimeError, KeyError) as error:
        raise _data_error("data-corrupt", f"cannot read '{path}': {error}", "write it again") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise _data_error("path-not-readable", f"cannot read '{path}': {reason}", "") from error


def _check_samples(name: str, x: Array, expected: Shape, preprocess: Preprocessing) -> None:
    problem = sample_problem(name, "x", x, expected, layout=preprocess.layout)
    if problem is not None:
        raise NmcError([problem], ExitCode.USAGE)


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
