"""What is installed here, what is missing and how to get it."""

from __future__ import annotations

import difflib
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from nmc import __version__
from nmc.compiler.plugins import devices_of, installed, load_backend
from nmc.ir.diagnostic import ExitCode, NmcError

PYTHON = (3, 11)
"""Oldest Python."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        found: version, place, or why it cannot be used.
        status: ``ok``, ``missing`` or ``broken``.
        help: what to do; empty where all is well.
        required: nmc does not work without it.
    """

    name: str
    found: str
    status: str = "ok"
    help: str = ""
    required: bool = False

    def to_dict(self) -> dict[str, object]:
        """The ``--json`` form."""
        return asdict(self)


def examine() -> tuple[Finding, ...]:
    """Python, the packages that nmc needs, backends and their devices."""
    return (*_interpreter(), *_packages(), *_backends())


def _interpreter() -> Iterator[Finding]:
    yield Finding("nmc", __version__)
    running = platform.python_version()
    if sys.version_info[:2] < PYTHON:
        yield Finding("python", running, "missing", "use Python 3.11 or newer", required=True)
    else:
        yield Finding("python", f"{running} ({sys.executable})")
    yield Finding("platform", platform.platform())


def _packages() -> Iterator[Finding]:
    """The packages that the distribution declares, development extras left out."""
    try:
        declared = requires("nmc") or []
    except PackageNotFoundError:
        yield Finding("nmc (installed)", "not installed", "missing", "pip install -e .", required=True)
        return
    for requirement in declared:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            yield Finding(name, version(name), required=True)
        except PackageNotFoundError:
            yield Finding(name, f"needs {requirement}", "missing", f"pip install '{requirement}'", required=True)


def _backends() -> Iterator[Finding]:
    for plugin in installed():
        name = f"backend {plugin.family}"
        try:
            devices = devices_of(plugin.family)
        except NmcError as error:
            yield Finding(name, str(error), "broken", " ".join(d.help for d in error.diagnostics))
            continue
        yield Finding(name, plugin.origin)
        for device_name, device in devices.items():
            try:
                reason = device.missing()
            # A stranger's device may raise anything, and must not hide the others.
            except Exception as error:
                yield Finding(f"device {device_name}", f"{type(error).__name__}: {error}", "broken", plugin.origin)
                continue
            if reason is None:
                yield Finding(f"device {device_name}", "ready")
            else:
                remedy = getattr(device, "remedy", f"nmc doctor --install {device_name}")
                yield Finding(f"device {device_name}", reason, "missing", remedy)


def install_device(name: str, log: Callable[[str], None]) -> str:
    """Set a device up through the backend that offers it.

    A backend does so by an optional method ``install(name, log) -> str``: it sets the device
    up, tells ``log`` what it does, and says what is there now.

    Raises:
        NmcError: no backend can install it (exit 2), or it failed (exit 6).
    """
    known: list[str] = []
    for plugin in installed():
        try:
            backend, devices = load_backend(plugin.family), devices_of(plugin.family)
        except NmcError as error:
            log(f"backend {plugin.family} is left out: {error}")
            continue
        install = getattr(backend, "install", None)
        offered = list(devices) if install is not None else []
        if install is not None and name in offered:
            return str(install(name, log))
        known.extend(offered)
    close = difflib.get_close_matches(name, known, 1)
    raise NmcError.single(
        "install-unknown",
        f"nothing called '{name}' can be installed; known: {', '.join(sorted(known)) or 'nothing'}",
        ExitCode.USAGE,
        help=f"did you mean '{close[0]}'?" if close else "see `nmc doctor`",
    )
