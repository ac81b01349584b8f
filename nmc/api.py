"""The verbs of the command line as typed functions: ``import nmc``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nmc.ir.neurons import Reset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nmc.backends.api import Options
    from nmc.compiler.driver import Compiled
    from nmc.compiler.frontends.onnx import ModelCheck
    from nmc.ir.connectivity import Array
    from nmc.runtime.artifact import Artifact
    from nmc.runtime.device import Device


def load(path: Path | str) -> Artifact:
    """Read what `compile` saved.

    Raises:
        NmcError: not readable (exit 2), or not an artifact, corrupt or newer (exit 3).
    """
    from nmc.runtime.artifact import Artifact

    return Artifact.load(path)


def check(model: Path | str, *, strict: bool = False) -> ModelCheck:
    """Whether an ONNX file can be compiled: every problem at once, without data.

    Args:
        model: ONNX file.
        strict: approximated operators are problems too.

    Raises:
        NmcError: the path cannot be read (exit 2) or is no ONNX file (exit 3).
    """
    from nmc.compiler.frontends.isolation import check_isolated

    return check_isolated(model, strict=strict)


def compile(  # noqa: D417 - options that belong together share a line
    model: Path | str,
    target: str = "loihi",
    *,
    calib: str | Path | Array | Mapping[str, Array] | None = None,
    preprocess: str | None = None,
    timesteps: int = 32,
    coding: str = "rate",
    levels: int | None = None,
    max_loss: float = 1.0,
    reset: str | None = None,
    weight_bits: int | None = None,
    host_input: bool = False,
    maxpool: str = "exact",
    wait: str = "0",
    stop: str = "never",
    max_changed: float = 0.1,
    strict: bool = False,
    partitioner: str = "auto",
    placer: str = "auto",
    optimise: str = "energy",
    chips: int | None = None,
    pins: Mapping[str, str] | None = None,
    seed: int = 0,
    settings: Mapping[str, str] | None = None,
    progress: Callable[[str, float], None] = lambda text, fraction: None,
) -> Compiled:
    """Compile an ONNX file; the options are those of ``nmc compile``.

    Args:
        model: ONNX file.
        target: chip, or path of a target file.
        calib: samples (N, *sample shape), or those by input, a data spec or a file. None: seeded inputs.
        preprocess: as ``--preprocess``; applied to the samples and stored in the artifact.
        timesteps: T, of all codings but graded.
        coding: ``rate``, ``signed``, ``burst``, ``graded``, ``sigma-delta`` or ``auto`` (least energy).
        levels: most spikes of a burst; None: 4.
        max_loss: points that ``auto`` may lose on a held-out part of ``calib`` (estimate).
        reset: ``subtract`` or ``zero``; None: the target's own.
        weight_bits: None: all that the target stores.
        host_input: compute the first layer on the host.
        maxpool: ``exact``, or ``average``: the mean over the same windows.
        wait: ``0``, ``1`` or ``auto``, as ``--wait``.
        stop, max_changed: as ``--stop`` and ``--max-changed``: ``margin`` ends samples once they are clear.
        strict: approximated operators are errors.
        partitioner, placer, chips, seed: as the options of these names.
        optimise: ``energy``, ``traffic``, ``latency`` or ``cores``.
        pins: ``{"layer": "place"}``, as ``--pin``: ``{"conv1": "chip:0", "fc": "tile:0,0-1,1"}``.
        settings: ``{"pass.option": text}``, as ``--set``.
        progress: called with (what is being done, fraction done).

    Raises:
        NmcError: with every problem found and the exit code that the command would end with.
    """
    from nmc.backends.api import Options

    options = Options(timesteps, coding, Reset(reset) if reset else None, host_input, weight_bits, partitioner, placer)
    options = replace(options, optimise=optimise, chips=chips, levels=levels, maxpool=maxpool, wait=wait, strict=strict)
    options = replace(options, settings=settings or {}, pins=pins or {}, stop=stop, max_changed=max_changed)
    return _compiled(Path(model), target, options, calib, preprocess, seed, max_loss, progress)


def _compiled(
    model: Path,
    target: str,
    options: Options,
    calib: str | Path | Array | Mapping[str, Array] | None,
    preprocess: str | None,
    seed: int,
    max_loss: float,
    progress: Callable[[str, float], None],
) -> Compiled:
    """Compile, with the coding that ``auto`` takes."""
    from nmc.compiler.driver import CompileRequest, compile_file

    request = CompileRequest(target, options, calib, preprocess, seed=seed, isolated=True)
    if options.coding == "auto":
        from nmc.compiler.explore.choose import choose_coding

        request = choose_coding(model, request, max_loss, progress).request
    return compile_file(model, request, progress)


def device(name: str, artifact: Artifact) -> Device:
    """A device that can run an artifact: ``sim``, or one of its backend (``lava``).

    Raises:
        NmcError: unknown (exit 2), or its backend cannot be used (exit 6).
    """
    from nmc.compiler.plugins import find_device

    return find_device(artifact, name)
