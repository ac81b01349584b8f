"""Backends by entry point: group ``nmc.backends``, the entry's name is the family.

Only the chosen backend is imported. A broken plugin spoils only itself: it is listed with
the reason, and choosing it says why it cannot be used.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nmc.backends.api import API_VERSION, Backend, Options
from nmc.hardware.target import Target
from nmc.hardware.target_file import load_target
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.passes.base import Pipeline

if TYPE_CHECKING:
    from nmc.runtime.artifact import Artifact
    from nmc.runtime.device import Device

GROUP = "nmc.backends"
PROTOCOL = ("name", "api_version", "targets", "pipeline", "emit", "devices")


@dataclass(frozen=True)
class Plugin:
    """An installed backend that has not been imported.

    Attributes:
        family: the entry point's name.
        origin: distribution and version that brings it, e.g. ``nmc 0.1.0``.
        entry: what to import.
    """

    family: str
    origin: str
    entry: EntryPoint


@dataclass(frozen=True)
class Listing:
    """One row of ``nmc targets``: a target, or a broken plugin (``target`` None)."""

    family: str
    origin: str
    target: Target | None
    broken: str = ""


def installed() -> tuple[Plugin, ...]:
    """Every plugin by family; nothing is imported.

    The same entry found twice (an editable install beside its own checkout) is one plugin.
    """
    found: dict[tuple[str, str, str], Plugin] = {}
    for entry in entry_points(group=GROUP):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
        found.setdefault((entry.name, origin, entry.value), Plugin(entry.name, origin, entry))
    return tuple(found[key] for key in sorted(found))


def load_backend(family: str) -> Backend:
    """Import one family's backend.

    Raises:
        NmcError: no such family (exit 2); it is broken, doubled or written for another
            version of the interface (exit 6).
    """
    plugins = installed()
    candidates = [plugin for plugin in plugins if plugin.family == family]
    if not candidates:
        names = sorted({plugin.family for plugin in plugins})
        raise NmcError.single(
            "backend-unknown",
            f"no backend serves the family '{family}'; installed: {', '.join(names) or 'none'}",
            ExitCode.USAGE,
            help=_near(family, names) or "`nmc targets` lists what is installed",
        )
    if len(candidates) > 1:
        origins = ", ".join(plugin.origin for plugin in candidates)
        raise NmcError.single(
            "backend-duplicate",
            f"{len(candidates)} plugins bring the family '{family}': {origins}",
            ExitCode.MISSING,
            help="uninstall all but one of them",
        )
    return _import(candidates[0])


def _import(plugin: Plugin) -> Backend:
    """The plugin's backend, checked against the interface."""
    try:
        backend = plugin.entry.load()()
    except (KeyboardInterrupt, GeneratorExit):
        raise
    # A stranger's module may raise anything, SystemExit included, and must spoil only itself.
    except BaseException as error:
        raise NmcError.single(
            "backend-broken",
            f"the backend '{plugin.family}' ({plugin.origin}) cannot be loaded: {type(error).__name__}: {error}",
            ExitCode.MISSING,
            help=f"repair or uninstall {plugin.origin}; {plugin.entry.value} must import and build",
        ) from error
    lacking = [name for name in PROTOCOL if not hasattr(backend, name)]
    if lacking:
        raise NmcError.single(
            "backend-broken",
            f"the backend '{plugin.family}' ({plugin.origin}) lacks {', '.join(lacking)}",
            ExitCode.MISSING,
            help="nmc.backends.api names what a backend offers",
        )
    if backend.api_version != API_VERSION:
        raise NmcError.single(
            "backend-version",
            f"the backend '{plugin.family}' ({plugin.origin}) is written for version {backend.api_version} of "
            f"the interface, this nmc has {API_VERSION}",
            ExitCode.MISSING,
            help=f"install a version of {plugin.origin.split()[0]} for this nmc",
        )
    return cast("Backend", backend)


@contextmanager
def blaming(family: str, doing: str, origin: str | None = None) -> Iterator[None]:
    """Around a call of a backend: what a stranger's code raises there names the plugin that brought it.

    Args:
        family: of the backend.
        doing: what was asked of it, after "cannot".
        origin: of its plugin, looked up where it is not given.

    Raises:
        NmcError: the backend's own, or ``backend-broken`` (exit 6) for any other exception.
        Exception: what our own backend raises, unchanged.
    """
    try:
        yield
    except NmcError:
        raise
    except Exception as error:
        plugin = next((plugin for plugin in installed() if plugin.family == family), None)
        if plugin is not None and plugin.entry.value.startswith("nmc."):
            raise  # our own fault, reported as such with a reproducer
        brought = origin or (plugin.origin if plugin else "unknown")
        raise NmcError.single(
            "backend-broken",
            f"the backend '{family}' ({brought}) cannot {doing}: {type(error).__name__}: {error}",
            ExitCode.MISSING,
            help=f"repair or uninstall {brought}",
        ) from error


def pipeline_of(backend: Backend, target: Target, options: Options) -> Pipeline:
    """The backend's pipeline for a target.

    Raises:
        NmcError: it refuses the options, or it is broken (exit 6).
    """
    with blaming(backend.name, f"make a pipeline for '{target.name}'"):
        return backend.pipeline(target, options)


def targets_of(plugin: Plugin) -> Mapping[str, Target]:
    """The targets of one plugin, which is imported.

    Raises:
        NmcError: the plugin is broken (exit 6), or its target files have problems.
    """
    return _targets(load_backend(plugin.family), plugin.origin)


def _targets(backend: Backend, origin: str) -> Mapping[str, Target]:
    with blaming(backend.name, "name its targets", origin):
        return backend.targets()


def find_target(name: str) -> tuple[Backend, Target]:
    """The target of a name, and the backend that serves it.

    Args:
        name: a target (``loihi2``), a family whose backend has a ``default_target``
            (``loihi``), ``family:target``, or the path of a target file (``*.toml``).

    Raises:
        NmcError: unknown (exit 2), or its backend cannot be used (exit 6).
    """
    if name.endswith(".toml"):
        return _from_file(Path(name))
    family, _, wanted = name.rpartition(":")
    seen: list[str] = []
    broken: list[NmcError] = []
    for plugin in _likeliest_first(wanted, family):
        try:
            backend = load_backend(plugin.family)
            targets = _targets(backend, plugin.origin)
        except NmcError as error:
            if family or _serves(plugin.family, wanted):
                raise
            broken.append(error)
            continue
        default = getattr(backend, "default_target", None)
        chosen = default if wanted == plugin.family and default else wanted
        if chosen in targets:
            return backend, targets[chosen]
        seen.extend([*targets, *([plugin.family] if default else [])])
    diagnostics = [d for error in broken for d in error.diagnostics]
    unknown = NmcError.single(
        "target-unknown",
        f"no target '{name}'; known: {', '.join(sorted(seen)) or 'none'}",
        ExitCode.USAGE,
        help=_near(wanted, seen) or "`nmc targets` lists every chip",
    )
    raise NmcError([*unknown.diagnostics, *diagnostics], ExitCode.USAGE)


def _serves(family: str, target: str) -> bool:
    """Whether the name of a target says that it belongs to the family (``loihi2``, ``loihi``)."""
    return target.startswith(family)


def _likeliest_first(target: str, family: str) -> Iterator[Plugin]:
    """Plugins in the order to ask them; a family that the name begins with comes first.

    It is a generator, so that the ones after the right one are never imported.
    """
    plugins = [plugin for plugin in installed() if not family or plugin.family == family]
    if family and not plugins:
        load_backend(family)  # raises: says which families there are
    yield from sorted(plugins, key=lambda p: (not _serves(p.family, target), -len(p.family), p.family))


def _from_file(path: Path) -> tuple[Backend, Target]:
    """A target of the user's own file, which may extend a target of its family."""
    target = load_target(path, target_text)
    return load_backend(target.family), target


def target_text(name: str) -> str | None:
    """The text of the target that ``extends`` names, from a backend that shows its files.

    A backend does so by an optional method ``target_text(name) -> str | None``.
    """
    for plugin in _likeliest_first(name, ""):
        try:
            show = getattr(load_backend(plugin.family), "target_text", None)
        except NmcError:
            continue  # another family's trouble; the reader reports an unknown `extends`
        text = show(name) if show else None
        if text is not None:
            return str(text)
    return None


def devices_of(family: str) -> Mapping[str, Device]:
    """The devices of one family, whose plugin is imported.

    Raises:
        NmcError: no such family (exit 2), or the plugin is broken (exit 6).
    """
    backend = load_backend(family)
    with blaming(family, "name its devices"):
        return dict(backend.devices())


def find_device(artifact: Artifact, name: str) -> Device:
    """The simulator, or a device of the backend that the artifact was made for.

    A device may say by an optional method ``cannot_run(artifact) -> tuple of diagnostics`` that
    it does not take an artifact, whatever is installed.

    Raises:
        NmcError: no such device (exit 2), or it cannot run here or not this artifact (exit 6):
            with all reasons.
    """
    from nmc.runtime.session import require
    from nmc.runtime.simulator import Simulator

    if name == "sim":
        return Simulator()
    devices = devices_of(artifact.manifest["target"]["family"])
    if name not in devices:
        known = ["sim", *devices]
        raise NmcError.single(
            "device-unknown",
            f"no device '{name}' for {artifact.manifest['target']['name']}; known: {', '.join(known)}",
            ExitCode.USAGE,
            help=_near(name, known),
        )
    device = devices[name]
    unfit = getattr(device, "cannot_run", None)
    problems = [] if unfit is None else list(unfit(artifact))
    try:
        require(device)
    except NmcError as error:
        problems.extend(error.diagnostics)
    if problems:
        raise NmcError(problems, ExitCode.MISSING)
    return device


def listing() -> tuple[Listing, ...]:
    """Every target of every plugin, broken plugins with the reason."""
    rows: list[Listing] = []
    for plugin in installed():
        try:
            targets = targets_of(plugin)
        except NmcError as error:
            rows.append(Listing(plugin.family, plugin.origin, None, str(error)))
            continue
        rows.extend(Listing(plugin.family, plugin.origin, targets[name]) for name in sorted(targets))
    return tuple(rows)


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean '{close[0]}'?" if close else ""
