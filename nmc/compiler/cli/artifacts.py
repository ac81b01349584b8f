"""What the commands that take an artifact share: loading it, its data, its devices, writing arrays."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nmc.compiler.cli.availability import choose
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

if TYPE_CHECKING:
    from nmc.compiler.cli.session import Session
    from nmc.ir.connectivity import Array
    from nmc.runtime.artifact import Artifact
    from nmc.runtime.data import Data


def load_samples(session: Session, artifact: Artifact, spec: str, *, seed: int = 0, limit: int | None = None) -> Data:
    """The samples that a data spec names, preprocessed as the artifact says; warnings are reported.

    Raises:
        NmcError: the data cannot be used (exit 2).
    """
    from nmc.runtime.data import Preprocessing, load_data
    from nmc.runtime.labels import unused_labels
    from nmc.runtime.session import calibrated_ranges

    if limit is not None and limit < 1:
        raise NmcError.single("bad-option", f"--samples takes a number of at least 1; got {limit}", ExitCode.USAGE)
    preprocessing = Preprocessing.from_dict(artifact.manifest["preprocessing"])
    in_range = calibrated_ranges(artifact.network)
    data = load_data(spec, artifact.input_shapes, preprocessing, seed=seed, value_ranges=in_range)
    session.report((*data.warnings, *unused_labels(artifact.network, data)))
    return data if limit is None or limit >= len(data) else data.head(limit)


def trace_kinds(sink: DiagnosticSink, text: str | None) -> frozenset[str]:
    """``spikes,potentials`` as what a device calls them."""
    names = {"spikes": "messages", "potentials": "potentials"}
    wanted = [part.strip() for part in (text or "").split(",") if part.strip()]
    for name in wanted:
        choose(sink, "--trace", name, tuple(names))
    return frozenset(names[name] for name in wanted if name in names)


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a compressed ``.npz``, whole or not at all, under exactly this name."""
    import numpy as np

    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))


def save_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` once all is written and synced; else nothing is left."""
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
