"""Programs as stable text: one line per layer, population, projection, cluster and route.

The text is for golden tests, ``--print-after`` and people. Arrays are summarised by
dtype, shape, range and a short hash of their content, so that equal text means equal
programs. It does not parse back: `nmc.ir.serial` is for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from nmc.ir.connectivity import Array, Shape
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import HOST, Box, Partitioned, Placed, Region, Routed
from nmc.ir.network import Network, Population, Projection

INLINE = 4
"""Arrays with at most this many elements are printed in full."""


def format_program(program: LayerGraph | Network | Partitioned) -> str:
    """The text of a program of any level, in program order, ending in a newline."""
    if isinstance(program, LayerGraph):
        lines = _graph_lines(program)
    elif isinstance(program, Network):
        lines = _network_lines(program)
    else:
        lines = [*_mapping_lines(program), *_network_lines(program.network)]
    return "\n".join(lines) + "\n"


def format_array(array: Array) -> str:
    """``int64[16x1x3x3] -120..126 #1f2e3d4c``; small arrays in full: ``[1 2]``, scalars bare."""
    if array.ndim == 0:
        return _number(array[()])
    if array.size <= INLINE and array.ndim == 1:
        return "[" + " ".join(_number(n) for n in array) + "]"
    shape = "x".join(str(n) for n in array.shape)
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    digest = hashlib.sha256(little.tobytes()).hexdigest()[:8]
    span = f" {_number(array.min())}..{_number(array.max())}" if array.size else ""
    return f"{array.dtype.name}[{shape}]{span} #{digest}"


def _number(value: Any) -> str:
    """Integers in full, reals with six significant digits (the hash tells the rest)."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    return str(int(value)) if isinstance(value, int | np.integer) else f"{float(value):.6g}"


def _shape(shape: Shape) -> str:
    return "(" + "x".join(str(n) for n in shape) + ")"


def _value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return format_array(value)
    if is_dataclass(value):
        return _object(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return "(" + " ".join(_value(item) for item in value) + ")"
    if value is None or isinstance(value, str):
        return "none" if value is None else _name(value)
    return _number(value)


def _object(value: Any, hidden: frozenset[str] = frozenset()) -> str:
    """``Class(field=..., ...)``; fields with their default are left out, unless arrays."""
    parts = []
    for field in fields(value):
        item = getattr(value, field.name)
        if field.name in hidden or not field.init:
            continue
        if not isinstance(item, np.ndarray) and field.default is not MISSING and item == field.default:
            continue
        parts.append(f"{field.name}={_value(item)}")
    return type(value).__name__ + (f"({', '.join(parts)})" if parts else "")


def _name(name: str) -> str:
    """The name; quoted and escaped where it has other than plain printable characters."""
    plain = name.isascii() and name.isprintable() and not set(name) & set(" \"'(){}[],=")
    return name if plain and name else repr(name)


def _names(names: Iterable[str]) -> str:
    return " ".join(_name(name) for name in names)


def _graph_lines(graph: LayerGraph) -> list[str]:
    named = zip(graph.outputs, graph.output_names or graph.outputs, strict=False)
    ends = ",".join(_name(layer) if name == layer else f"{_name(name)}:{_name(layer)}" for layer, name in named)
    lines = [f"graph {_name(graph.name)} output={ends}"]
    for layer in graph.layers:
        reads = f" <- {_names(layer.inputs)}" if layer.inputs else ""
        origin = f"{layer.origin.op}:{_name(layer.origin.node)}"
        lines.append(f"  {_name(layer.name)} {_shape(layer.shape)} = {_object(layer.op)}{reads} @ {origin}")
    return lines


def _network_lines(network: Network) -> list[str]:
    total = network.timesteps_total if network.populations else network.timesteps
    lines = [
        f"network {_name(network.name)} timesteps={network.timesteps} total={total} "
        f"integer={_value(network.is_integer)}",
        *(f"  input {_object(spec)}" for spec in network.inputs),
        *(f"  output {_object(spec)}" for spec in network.outputs),
    ]
    lines += [_population_line(p, network.scales.get(p.name)) for p in network.populations]
    lines += [_projection_line(q) for q in network.projections]
    return lines


def _population_line(population: Population, scale: Array | None) -> str:
    host = " host" if population.on_host else ""
    wait = f" wait={population.wait}" if population.wait else ""
    scaled = "" if scale is None else f" scale={format_array(scale)}"
    return (
        f"  population {_name(population.name)} {_shape(population.shape)} start={population.start}{wait}{host} "
        f"{_object(population.neuron)}{scaled} @ {population.origin.op}:{_name(population.origin.node)}"
    )


def _projection_line(projection: Projection) -> str:
    shift = "" if not np.any(projection.shift) else f" shift={format_array(projection.shift)}"
    bias = "" if projection.bias is None else f" bias={format_array(projection.bias)}"
    return (
        f"  projection {_name(projection.name)}: {_name(projection.source)} -> {_name(projection.target)} "
        f"delay={projection.delay}{shift}{bias} {_connectivity(projection)} "
        f"@ {projection.origin.op}:{_name(projection.origin.node)}"
    )


def _connectivity(projection: Projection) -> str:
    connectivity = projection.connectivity
    shapes = f"{_shape(connectivity.in_shape)}->{_shape(connectivity.out_shape)}"
    return f"{_object(connectivity, frozenset({'in_shape', 'out_shape'}))} {shapes}"


def _box(box: Box) -> str:
    axes = (f"{a}:{b}" if step == 1 else f"{a}:{b}:{step}" for a, b, step in box)
    return "[" + ",".join(axes) + "]"


def _region(region: Region) -> str:
    return "+".join(_box(box) for box in region) if region else "[]"


def _core(id: int) -> str:
    return "host" if id == HOST else str(id)


def _mapping_lines(program: Partitioned) -> list[str]:
    kind = type(program).__name__.lower()
    lines = [f"{kind} {_name(program.network.name)} cores={program.cores_used}"]
    for cluster in program.clusters:
        place = program.places.get(cluster.id) if isinstance(program, Placed) else None
        where = f" at chip {place.chip} tile ({place.x},{place.y}) core {place.core}" if place else ""
        slices = " ".join(f"{_name(s.population)}{_box(s.box)}" for s in cluster.slices)
        lines.append(f"  cluster {_core(cluster.id)}{where} neurons={cluster.neurons} {slices}".rstrip())
        lines += [
            f"    axons {_name(a.projection)} -> slice {a.slice} from {_region(a.region)} delay={a.delay}"
            for a in cluster.axons
        ]
    if isinstance(program, Routed):
        lines += [
            f"  route {_core(r.source)}.{r.slice} -> {_core(r.destination)} from {_region(r.region)} hops={r.hops} "
            f"via {' '.join(f'({x},{y})' for x, y in r.links)}".rstrip()
            for r in program.routes
        ]
    lines += [f"  rate {_name(name)} {_number(float(program.rates[name]))}" for name in sorted(program.rates)]
    return lines
