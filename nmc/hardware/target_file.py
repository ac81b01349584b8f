"""Reads target files (TOML, docs/formats.md section 4) into `Target` values.

Every problem of a file is reported at once. A file may take another one with
``extends``: it then names only what differs, and the text ``"absent"`` takes an optional
number of the other file away (a limit that is not known is absent, never zero).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nmc.hardware.neuron_models import SEVERAL_BITS
from nmc.hardware.target import (
    CoreLimits,
    EnergyProfile,
    Grid,
    MessageLimits,
    NeuronLimits,
    Target,
    WeightLimits,
)
from nmc.hardware.target_schema import ENERGY, SECTIONS, Key, range_problem, type_problem
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.neurons import Reset

Table = dict[str, Any]
"""A TOML table, as parsed: checked before any use."""

ABSENT = "absent"
"""The value that takes an inherited key away."""


def no_extends(name: str) -> str | None:
    """The resolver of a place without other targets."""
    return None


def load_target(text_or_path: str | Path, resolve_extends: Callable[[str], str | None] = no_extends) -> Target:
    """Read, check and resolve a target file.

    Args:
        text_or_path: TOML text (str), or the path of a file (Path).
        resolve_extends: the TOML text of the target that ``extends`` names; None: unknown.

    Returns:
        the target, with the SHA-256 of its resolved content.

    Raises:
        NmcError: the file cannot be read or has problems (exit 2), all of them at once.
    """
    sink = DiagnosticSink()
    text = _read(text_or_path) if isinstance(text_or_path, Path) else text_or_path
    content = _resolve(text, resolve_extends, sink, ())
    sink.raise_errors(ExitCode.USAGE)
    _check_required(content, sink)
    sink.raise_errors(ExitCode.USAGE)
    target = _build(content)
    _check_relations(target, sink)
    sink.raise_errors(ExitCode.USAGE)
    return target


def content_hash(content: Mapping[str, object]) -> str:
    """SHA-256, hex, of a resolved file: independent of order, layout and comments."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise NmcError.single(
            "target-unreadable",
            f"target file {path} cannot be read: {reason}",
            ExitCode.USAGE,
            help="give the path of a TOML target file, or the name of a target of `nmc targets`",
        ) from error


def _resolve(text: str, resolve: Callable[[str], str | None], sink: DiagnosticSink, seen: tuple[str, ...]) -> Table:
    """The content of a file over the content of what it extends."""
    try:
        content: Table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        sink.error("target-syntax", f"the target file is not TOML: {error}")
        return {}
    content = _known_keys(content, sink)
    _check_sources(content, sink)
    base_name = content.get("target", {}).pop("extends", None)
    if base_name is None:
        return content
    if base_name in seen:
        sink.error("target-extends", f"target '{base_name}' extends itself: {' > '.join((*seen, base_name))}")
        return content
    base_text = resolve(base_name)
    if base_text is None:
        sink.error(
            "target-extends",
            f"the target extends '{base_name}', which is not known",
            help="extends takes the name of another target of the family, see `nmc targets`",
        )
        return content
    base = _resolve(base_text, resolve, sink, (*seen, base_name))
    return _overlay(base, content)


def _overlay(base: Table, content: Table) -> Table:
    """Keys of ``content`` over those of ``base``, table by table; "absent" removes a key."""
    merged = dict(base)
    for key, value in content.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _overlay(merged[key], value)
        elif value == ABSENT:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def _unknown(sink: DiagnosticSink, what: str, name: str, known: Iterable[str]) -> None:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    sink.error(
        "target-unknown-key",
        f"{what} '{name}' is not known",
        help=f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(sorted(known))}",
    )


def _known_keys(content: Table, sink: DiagnosticSink) -> Table:
    """The keys that are known and have a fitting value; the others are reported."""
    kept: Table = {}
    for section, table in content.items():
        if section not in (*SECTIONS, "energy", "sources"):
            _unknown(sink, "section", section, (*SECTIONS, "energy", "sources"))
        elif not isinstance(table, dict):
            sink.error("target-type", f"[{section}] must be a table, is {table!r}")
        elif section == "energy":
            profiles = {name: table[name] for name in table if isinstance(table[name], dict)}
            for name in table.keys() - profiles.keys():
                sink.error("target-type", f"energy.{name} must be a table: [energy.{name}]")
            kept[section] = {
                name: _fitting(f"energy.{name}", ENERGY, profile, sink) for name, profile in profiles.items()
            }
        elif section == "sources":
            kept[section] = _fitting_sources(table, sink)
        else:
            kept[section] = _fitting(section, SECTIONS[section], table, sink)
    return kept


def _fitting(section: str, keys: Mapping[str, Key], table: Table, sink: DiagnosticSink) -> Table:
    kept: Table = {}
    for name, value in table.items():
        path = f"{section}.{name}"
        key = keys.get(name)
        if key is None:
            _unknown(sink, "key", path, (f"{section}.{known}" for known in keys))
        elif value == ABSENT and not key.required and key.kind not in ("text", "flag"):
            kept[name] = value
        elif problem := type_problem(key, value):
            sink.error("target-type", f"{path} {problem}")
        elif problem := range_problem(key, value):
            sink.error("target-range", f"{path} {problem}")
        else:
            kept[name] = value
    return kept


def _fitting_sources(table: Table, sink: DiagnosticSink) -> Table:
    known = {f"{section}.{name}" for section, keys in SECTIONS.items() for name in keys}
    kept: Table = {}
    for name, value in table.items():
        if not isinstance(value, str) or not value.strip():
            sink.error("target-type", f'sources."{name}" must be a text that says who publishes the number')
        elif name not in known:
            _unknown(sink, "key in [sources]", name, known)
        else:
            kept[name] = value
    return kept


def _check_sources(content: Table, sink: DiagnosticSink) -> None:
    """A file that names a number says in the same file where it is from."""
    sources = content.get("sources", {})
    for section, keys in SECTIONS.items():
        for name, value in content.get(section, {}).items():
            if keys[name].numeric and value != ABSENT and f"{section}.{name}" not in sources:
                sink.error(
                    "target-unsourced",
                    f"{section}.{name} = {value} has no entry in [sources]",
                    help=f'add "{section}.{name}" = "who publishes it", or "assumed: why"',
                )


def _check_required(content: Table, sink: DiagnosticSink) -> None:
    tables = [(section, keys, content.get(section, {})) for section, keys in SECTIONS.items()]
    tables += [(f"energy.{name}", ENERGY, table) for name, table in content.get("energy", {}).items()]
    for section, keys, table in tables:
        for name, key in keys.items():
            if key.required and name not in table:
                sink.error("target-missing-key", f"{section}.{name} is missing")


def _profile(name: str, table: Table) -> EnergyProfile:
    sync = tuple((int(tiles), float(ns)) for tiles, ns in table.get("sync_ns", ()))
    costs = {key: float(value) for key, value in table.items() if key not in ("source", "sync_ns")}
    return EnergyProfile(name=name, source=table["source"], sync_ns=sync, **costs)


def _build(content: Table) -> Target:
    grid: Table = {**content["grid"]}
    for name in ("host_port", "unavailable_cores"):
        if name in grid:
            grid[name] = tuple(grid[name])
    neurons: Table = {**content["neurons"]}
    neurons["models"] = tuple(neurons["models"])
    neurons["resets"] = tuple(Reset(name) for name in neurons["resets"])
    neurons["microcode"] = tuple(neurons.get("microcode", ()))
    head: Table = content["target"]
    host_op: float | None = content.get("host", {}).get("op_pj")
    return Target(
        name=head["name"],
        family=head["family"],
        description=head.get("description", ""),
        grid=Grid(**{"chips_max": grid.get("chips", 1), **grid}),
        core=CoreLimits(**content["core"]),
        neurons=NeuronLimits(**neurons),
        messages=MessageLimits(**content.get("messages", {})),
        weights=WeightLimits(**content["weights"]),
        energy=tuple(_profile(name, table) for name, table in sorted(content.get("energy", {}).items())),
        sources=dict(sorted(content.get("sources", {}).items())),
        host_op_pj=None if host_op is None else float(host_op),
        hash=content_hash(content),
    )


def _check_relations(target: Target, sink: DiagnosticSink) -> None:
    """What two keys must have to do with each other."""
    grid, weights = target.grid, target.weights

    def need(holds: bool, message: str) -> None:
        if not holds:
            sink.error("target-range", message)

    cores = grid.tiles_x * grid.tiles_y * grid.cores_per_tile
    need(
        grid.chips <= grid.chips_max,
        f"grid.chips is {grid.chips}, more than grid.chips_max = {grid.chips_max}",
    )
    need(
        grid.host_port[0] < grid.tiles_x and grid.host_port[1] < grid.tiles_y,
        f"grid.host_port {list(grid.host_port)} is outside the {grid.tiles_x} x {grid.tiles_y} tiles of a chip",
    )
    outside = [core for core in grid.unavailable_cores if core >= cores]
    need(not outside, f"grid.unavailable_cores {outside} are outside the {cores} cores of a chip")
    need(outside != [] or grid.cores_per_chip > 0, "grid.unavailable_cores leaves no core")
    for name, value in (("low", weights.low), ("high", weights.high)):
        need(
            value % weights.step == 0,
            f"weights.{name} = {value} is not a multiple of weights.step = {weights.step}",
        )
    need(
        weights.exponent_min is None or weights.exponent_max is None or weights.exponent_min <= weights.exponent_max,
        f"weights.exponent_min = {weights.exponent_min} is above weights.exponent_max = {weights.exponent_max}",
    )
    several = [name for name in target.neurons.models if name in SEVERAL_BITS]
    need(
        target.messages.graded_bits > 0 or not several,
        f"neurons.models names {', '.join(several)}, whose messages need messages.graded_bits above 0",
    )
    for profile in target.energy:
        tiles = [count for count, _ in profile.sync_ns]
        need(
            tiles == sorted(set(tiles)),
            f"energy.{profile.name}.sync_ns must name more tiles from entry to entry, has {tiles}",
        )
