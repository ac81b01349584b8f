"""Programs as documents: JSON trees plus named tensors (docs/formats.md, sections 1 and 2).

The classes that a document may name are a closed table; a document never selects code.
Reading validates every field against the annotations of the dataclass and reports all
problems at once, each with its path in the tree.
"""

from __future__ import annotations

import hashlib
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from nmc.ir import connectivity, layers, network, neurons
from nmc.ir.connectivity import Array, Connectivity, IndexArray
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import AxonGroup, Box, Cluster, Place, Region, Route, Routed, Slice
from nmc.ir.network import Network
from nmc.ir.npy import narrowed, npy_parts
from nmc.ir.origin import Origin

FORMAT = 1
"""Format version of ``mapping.json``."""

Document = dict[str, Any]

_CONNECTIVITY: tuple[type, ...] = (
    connectivity.Dense,
    connectivity.Conv2d,
    connectivity.Pool,
    connectivity.Skip,
    connectivity.Sparse,
)
_CLASSES: Mapping[str, type] = {
    cls.__name__: cls
    for cls in (
        LayerGraph,
        layers.Layer,
        *get_args(layers.Op),
        Network,
        network.Population,
        network.Projection,
        network.InputSpec,
        network.OutputSpec,
        *get_args(neurons.Neuron),
        *get_args(neurons.Fire),
        *_CONNECTIVITY,
        Origin,
    )
}
"""All that a document may name. `layers.Slice` is in it; `mapping.Slice` is not."""

_SINGLE: Mapping[type, Mapping[str, str]] = {
    LayerGraph: {"output": "outputs"},
    Network: {"output": "outputs", "input": "inputs"},
}
"""Fields that hold one value where others hold a list of them.

A document of format 1 has the one ``output``. A network with one input has it as ``input``, in
every format, so that only networks with several need a reader of format 3.
"""

_OPTIONAL = {
    (network.InputSpec, "name"): "",
    (LayerGraph, "codes"): {},
    (Network, "codes"): {},
    (neurons.IF, "dv"): 0,
}
"""Fields that are left out where they have their default: they came after format 2."""


class _Writer:
    """Makes a tree and collects its tensors."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}

    def array(self, array: Array) -> Document:
        if array.dtype.kind not in "iufb":
            raise TypeError(f"an array of {array.dtype} has no document form")
        stored = narrowed(array)
        digest = hashlib.sha256()
        for part in npy_parts(stored):
            digest.update(part)
        name = f"tensors/{digest.hexdigest()[:16]}.npy"
        known = self.tensors.setdefault(name, stored)
        if known is not stored and not np.array_equal(known, stored, equal_nan=known.dtype.kind == "f"):
            raise ValueError(f"two tensors share the name {name}")
        return {"array": name}

    def field(self, hint: Any, value: Any) -> Any:
        """A field's value; NumPy scalars, which arithmetic makes of 0-d arrays, stay arrays where arrays belong."""
        if isinstance(value, Mapping):
            item = get_args(hint)[-1]
            return {str(key): self.field(item, value[key]) for key in sorted(value)}
        if isinstance(value, np.generic) and np.ndarray in (get_origin(hint), *map(get_origin, get_args(hint))):
            return self.array(np.asarray(value))
        return self.value(value)

    def value(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self.array(value)
        if is_dataclass(value):
            name = type(value).__name__
            if _CLASSES.get(name) is not type(value):
                raise TypeError(f"{name} has no document form")
            tree: Document = {"type": name}
            hints = get_type_hints(type(value))
            for f in fields(value):
                item = getattr(value, f.name)
                key = type(value), f.name
                if f.init and not (key in _OPTIONAL and item == _OPTIONAL[key]):
                    tree[f.name] = self.field(hints[f.name], item)
            if isinstance(value, Network) and len(value.inputs) == 1:
                tree["input"] = tree.pop("inputs")[0]
            return tree
        if isinstance(value, tuple | list):
            return [self.value(item) for item in value]
        if isinstance(value, StrEnum):
            return value.value
        if isinstance(value, bool | np.bool_):
            return bool(value)
        if isinstance(value, int | np.integer):
            return int(value)
        if isinstance(value, float | np.floating):
            return float(value)
        if value is None or isinstance(value, str):
            return value
        raise TypeError(f"a {type(value).__name__} has no document form")


def to_document(program: LayerGraph | Network) -> tuple[Document, dict[str, Array]]:
    """The tree of a program and its tensors by member name.

    Returns:
        The JSON tree, and the arrays by ``tensors/<sha256-16>.npy`` (of the .npy bytes),
        integers narrowed to the smallest type that holds them.
    """
    writer = _Writer()
    return cast(Document, writer.value(program)), writer.tensors


class _Reader:
    """Builds values from a tree; problems go to the sink, with their path."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors
        self.sink = DiagnosticSink()

    def wrong(self, path: str, expected: str, found: Any) -> None:
        text = repr(found)
        self.sink.error("document-invalid", f"{path}: expected {expected}, found {text[:60]}{'...' * (len(text) > 60)}")

    def value(self, hint: Any, tree: Any, path: str) -> Any:
        """The value of type ``hint``; None (and an error in the sink) if the tree holds another."""
        if hint is Connectivity:
            return self.instance(_CONNECTIVITY, tree, path)
        kind, arguments = get_origin(hint), get_args(hint)
        if kind in (types.UnionType, Union):
            if type(None) in arguments and tree is None:
                return None
            choices = tuple(a for a in arguments if a is not type(None))
            return self.value(choices[0], tree, path) if len(choices) == 1 else self.instance(choices, tree, path)
        if kind is np.ndarray:
            return self.array(hint, tree, path)
        if kind is tuple:
            return self.sequence(arguments, tree, path)
        if kind is not None and issubclass(kind, Mapping):
            if not isinstance(tree, dict):
                return self.wrong(path, "an object", tree)
            return {key: self.value(arguments[1], item, f"{path}.{key}") for key, item in tree.items()}
        if is_dataclass(hint):
            return self.instance((cast(type, hint),), tree, path)
        return self.scalar(hint, tree, path)

    def scalar(self, hint: Any, tree: Any, path: str) -> Any:
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            words = [word.value for word in hint]
            return hint(tree) if tree in words else self.wrong(path, f"one of {', '.join(words)}", tree)
        if isinstance(tree, int) and not -(2**63) <= tree < 2**63:
            return self.wrong(path, "a number of 64 bits", "a larger one")
        if hint is float and isinstance(tree, int | float) and not isinstance(tree, bool):
            return float(tree) if math.isfinite(tree) else self.wrong(path, "a finite number", tree)
        if hint in (int, str, bool) and type(tree) is hint:
            return tree
        return self.wrong(path, {int: "an integer", float: "a number", bool: "true or false"}.get(hint, "text"), tree)

    def sequence(self, arguments: tuple[Any, ...], tree: Any, path: str) -> Any:
        if not isinstance(tree, list):
            return self.wrong(path, "a list", tree)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(tree)
        if len(arguments) != len(tree):
            return self.wrong(path, f"a list of {len(arguments)}", tree)
        return tuple(
            self.value(a, item, f"{path}[{i}]") for i, (a, item) in enumerate(zip(arguments, tree, strict=True))
        )

    def array(self, hint: Any, tree: Any, path: str) -> Any:
        if not isinstance(tree, dict) or set(tree) != {"array"} or not isinstance(tree["array"], str):
            return self.wrong(path, '{"array": "tensors/....npy"}', tree)
        array = self.tensors.get(tree["array"])
        if array is None:
            return self.wrong(path, "a tensor of the file", tree["array"])
        if array.dtype.kind in "iu":
            return array.astype(np.int64)
        if hint == IndexArray:
            return self.wrong(path, "integers", f"{array.dtype} tensor {tree['array']}")
        return array

    def instance(self, choices: tuple[type, ...], tree: Any, path: str) -> Any:
        name = tree.get("type") if isinstance(tree, dict) else None
        cls = _CLASSES.get(name) if isinstance(name, str) else None
        if cls is None or cls not in choices:
            found = f"type {name!r}" if name is not None else tree
            return self.wrong(path, "type " + " or ".join(c.__name__ for c in choices), found)
        for one, several in _SINGLE.get(cls, {}).items():
            if one in tree and several not in tree:
                tree = {key: value for key, value in tree.items() if key != one} | {several: [tree[one]]}
        known = {f.name: f for f in fields(cls) if f.init}
        for extra in sorted(set(tree) - set(known) - {"type"}):
            self.sink.error("document-invalid", f"{path}: {name} has no field {extra!r}")
        hints, built = get_type_hints(cls), {}
        for key, field in known.items():
            if key in tree:
                built[key] = self.value(hints[key], tree[key], f"{path}.{key}")
            elif field.default is MISSING and field.default_factory is MISSING:
                self.sink.error("document-invalid", f"{path}: {name} lacks the field {key!r}")
                built[key] = None
        return cls(**built)


def from_document(document: object, tensors: Mapping[str, Array]) -> LayerGraph | Network:
    """The program of a tree; the inverse of `to_document`. Integers come back as int64.

    Raises:
        NmcError: ``document-invalid`` with every unknown type or field, missing field and
            value of the wrong kind; exit 3.
    """
    reader = _Reader(tensors)
    name = document.get("type", "document") if isinstance(document, dict) else "document"
    program = reader.instance((LayerGraph, Network), document, str(name))
    reader.sink.raise_errors(ExitCode.MODEL)
    return cast("LayerGraph | Network", program)


def mapping_to_document(routed: Routed, grid: Mapping[str, Any]) -> Document:
    """The ``mapping.json`` of a routed program.

    Args:
        routed: all clusters placed and routed.
        grid: ``tiles_x``, ``tiles_y``, ``cores_per_tile``, ``chips``, ``host_port``.
    """
    host = Place(0, *grid["host_port"])
    cores = []
    for cluster in routed.clusters:
        place = routed.places.get(cluster.id, host)
        cores.append(
            {
                "id": int(cluster.id),
                "chip": int(place.chip),
                "x": int(place.x),
                "y": int(place.y),
                "core": int(place.core),
                "slices": [{"population": s.population, "ranges": _box_tree(s.box)} for s in cluster.slices],
                "axons": [
                    {
                        "projection": a.projection,
                        "slice": int(a.slice),
                        "region": _region_tree(a.region),
                        "delay": int(a.delay),
                    }
                    for a in cluster.axons
                ],
            }
        )
    routes = [
        {
            "source": {"core": int(r.source), "slice": int(r.slice)},
            "region": _region_tree(r.region),
            "destination": int(r.destination),
            "links": [[int(x), int(y)] for x, y in r.links],
        }
        for r in routed.routes
    ]
    keys = ("tiles_x", "tiles_y", "cores_per_tile", "chips")
    return {
        "format": FORMAT,
        "grid": {key: int(grid[key]) for key in keys} | {"host_port": [int(n) for n in grid["host_port"]]},
        "cores": cores,
        "routes": routes,
        "rates": {name: float(routed.rates[name]) for name in sorted(routed.rates)},
    }


def _box_tree(box: Box) -> list[list[int]]:
    return [[int(n) for n in axis] for axis in box]


def _region_tree(region: Region) -> list[list[list[int]]]:
    return [_box_tree(box) for box in region]


_REGION = tuple[tuple[tuple[int, int, int], ...], ...]


class _MappingReader(_Reader):
    """Reads mapping.json, whose objects have no type tags."""

    def record(self, tree: Any, hints: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The fields of an object, all of which must be there and no others."""
        if not isinstance(tree, dict):
            self.wrong(path, "an object", tree)
            tree = {}
        for extra in sorted(set(tree) - set(hints)):
            self.sink.error("document-invalid", f"{path}: unknown field {extra!r}")
        for lacking in sorted(set(hints) - set(tree)):
            self.sink.error("document-invalid", f"{path}: the field {lacking!r} is missing")
        return {
            key: self.value(hint, tree.get(key), f"{path}.{key}") if key in tree else None
            for key, hint in hints.items()
        }

    def value(self, hint: Any, tree: Any, path: str) -> Any:
        if hint is list:  # read item by item by the caller
            return tree if isinstance(tree, list) else self.wrong(path, "a list", tree)
        if hint is dict:
            return tree if isinstance(tree, dict) else self.wrong(path, "an object", tree)
        return super().value(hint, tree, path)


_DOCUMENT_HINTS = {"format": int, "grid": dict, "cores": list, "routes": list, "rates": Mapping[str, float]}
_GRID_HINTS = {"tiles_x": int, "tiles_y": int, "cores_per_tile": int, "chips": int, "host_port": tuple[int, int]}
_CORE_HINTS = {"id": int, "chip": int, "x": int, "y": int, "core": int, "slices": list, "axons": list}
_SLICE_HINTS = {"population": str, "ranges": tuple[tuple[int, int, int], ...]}
_AXON_HINTS = {"projection": str, "slice": int, "region": _REGION, "delay": int}
_ROUTE_HINTS = {"source": dict, "region": _REGION, "destination": int, "links": tuple[tuple[int, int], ...]}


def mapping_from_document(document: object, network: Network) -> tuple[Routed, dict[str, Any]]:
    """The routed program and the grid of a ``mapping.json``; the inverse of `mapping_to_document`.

    Raises:
        NmcError: ``document-invalid`` with every problem; exit 3.
    """
    reader = _MappingReader({})
    top = reader.record(document, _DOCUMENT_HINTS, "mapping")
    if isinstance(top["format"], int) and top["format"] > FORMAT:
        raise NmcError.single(
            "artifact-newer",
            f"mapping.json has format {top['format']}; this version reads up to {FORMAT}",
            ExitCode.MODEL,
            help="use a newer nmc",
        )
    grid = reader.record(top["grid"] or {}, _GRID_HINTS, "mapping.grid")
    clusters, places = [], {}
    for number, tree in enumerate(top["cores"] or []):
        path = f"mapping.cores[{number}]"
        core = reader.record(tree, _CORE_HINTS, path)
        slices = tuple(
            Slice(s["population"], s["ranges"])
            for s in (reader.record(t, _SLICE_HINTS, f"{path}.slices[{i}]") for i, t in enumerate(core["slices"] or []))
        )
        axons = tuple(
            AxonGroup(a["projection"], a["slice"], a["region"], a["delay"])
            for a in (reader.record(t, _AXON_HINTS, f"{path}.axons[{i}]") for i, t in enumerate(core["axons"] or []))
        )
        for s in slices:
            if s.population is not None and s.population not in network.by_name:
                reader.sink.error("document-invalid", f"{path}: the network has no population {s.population!r}")
        origins = tuple(network.by_name[s.population].origin for s in slices if s.population in network.by_name)
        clusters.append(Cluster(core["id"], slices, axons, origins))
        places[core["id"]] = Place(core["chip"], core["x"], core["y"], core["core"])
    routes = []
    for number, tree in enumerate(top["routes"] or []):
        path = f"mapping.routes[{number}]"
        route = reader.record(tree, _ROUTE_HINTS, path)
        source = reader.record(route["source"] or {}, {"core": int, "slice": int}, f"{path}.source")
        routes.append(Route(source["core"], source["slice"], route["region"], route["destination"], route["links"]))
    reader.sink.raise_errors(ExitCode.MODEL)
    return Routed(network, tuple(clusters), top["rates"], places, tuple(routes)), grid
