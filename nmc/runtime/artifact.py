"""The artifact: what ``nmc compile`` writes (docs/formats.md, section 1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nmc.hardware.target import Grid
from nmc.ir.connectivity import Array, Shape
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.ir.npy import npy_array, npy_bytes
from nmc.ir.serial import from_document, mapping_from_document, mapping_to_document, to_document
from nmc.ir.verify import verify_program
from nmc.runtime.container import corrupt, read_container, write_container

if TYPE_CHECKING:
    from nmc.runtime.data import Data
    from nmc.runtime.device import Device
    from nmc.runtime.evaluation import Evaluation
    from nmc.runtime.session import RunResult
    from nmc.runtime.verification import Verification

FORMAT = 3
"""The newest format version that is read; those from 1 on are read too."""

ONE_INPUT_FORMAT = 2
"""Format version of networks with one input, which says all of them: written where it is enough."""

REQUIRED = ("graph.json", "mapping.json", "network.json", "report.json", "source.onnx", "spiking.json")
"""Members besides ``manifest.json`` that every artifact has."""

GRID_KEYS = ("tiles_x", "tiles_y", "cores_per_tile", "chips")
"""Counts of the mesh that ``mapping.json`` gives, besides the host's port."""


@dataclass(frozen=True, eq=False)
class Artifact:
    """A compiled network.

    Attributes:
        manifest: what it was compiled from and how; `save` sets ``format`` and ``members``.
        routed: the mapping, with the quantized network.
        graph: the simplified analog network.
        spiking: the network before quantization.
        source_onnx: the ONNX file that ONNX Runtime runs.
        report: the static part of the report (`nmc.runtime.report.static`).
        payload: what the backend emitted, by path below ``payload/``.
        grid: the mesh that the places are on; needed to save.
    """

    manifest: Mapping[str, Any]
    routed: Routed
    graph: LayerGraph
    spiking: Network
    source_onnx: bytes
    report: Mapping[str, Any]
    payload: Mapping[str, bytes]
    grid: Grid | None = None

    @property
    def network(self) -> Network:
        """The quantized network."""
        return self.routed.network

    @property
    def format(self) -> int:
        """Format version that it is written in: the oldest that says all of it."""
        return ONE_INPUT_FORMAT if len(self.network.inputs) == 1 else FORMAT

    @property
    def input_shapes(self) -> Mapping[str, Shape]:
        """By input, in order: the shape of one sample in the ONNX file."""
        return self.graph.input_shapes

    def run(
        self, x: Array | Mapping[str, Array], *, device: Device | None = None, trace: frozenset[str] = frozenset()
    ) -> RunResult:
        """Run raw samples, preprocessed as the artifact says.

        Args:
            x: (N, *sample shape), any numeric type; by input where there are several.
            device: None: the simulator; ``nmc.device`` finds others.
            trace: of ``messages``, ``potentials``.

        Raises:
            NmcError: wrong shape, or the device is missing or failed.
        """
        from nmc.runtime.session import run
        from nmc.runtime.simulator import Simulator

        return run(self, self._samples(x).x, device or Simulator(), trace=trace)

    def eval(
        self,
        x: Array | Mapping[str, Array],
        y: Array | Mapping[str, Array] | None = None,
        *,
        device: Device | None = None,
    ) -> Evaluation:
        """Accuracy by stage on raw samples.

        Args:
            x: (N, *sample shape), any numeric type; by input where there are several.
            y: labels of the first output, or by output: (N,) class numbers, or values of the output's shape.
            device: gets a row of its own.
        """
        from nmc.runtime.evaluation import evaluate

        return evaluate(self, self._samples(x, y), device=device, isolated=True)

    def verify(self, x: Array | Mapping[str, Array], *, device: Device | None = None) -> Verification:
        """Every layer against ONNX Runtime, and a device bit by bit against the simulator."""
        from nmc.runtime.verification import verify

        return verify(self, self._samples(x).x, device=device, isolated=True)

    def write_report(self, path: Path | str, evaluation: Evaluation | None = None) -> None:
        """Write the report of ``nmc report``: one offline HTML file."""
        from nmc.runtime.report import render_report

        Path(path).write_text(render_report(self, evaluation), encoding="utf-8")

    def _samples(self, x: Array | Mapping[str, Array], y: Array | Mapping[str, Array] | None = None) -> Data:
        from nmc.runtime.data import from_arrays
        from nmc.runtime.preprocessing import Preprocessing

        preprocessing = Preprocessing.from_dict(self.manifest["preprocessing"])
        return from_arrays(x, y, self.input_shapes, preprocessing)

    def members(self) -> dict[str, bytes]:
        """The members of the container, the manifest with the hashes of the others included.

        Raises:
            ValueError: there is no grid.
        """
        if self.grid is None:
            raise ValueError("an artifact without its grid cannot be written")
        members: dict[str, bytes] = {}
        for name, program in (("graph", self.graph), ("spiking", self.spiking), ("network", self.network)):
            document, tensors = to_document(program)
            members[f"{name}.json"] = _json(document)
            members |= {path: npy_bytes(array) for path, array in tensors.items() if path not in members}
        grid = {name: getattr(self.grid, name) for name in GRID_KEYS}
        mapping = mapping_to_document(self.routed, grid | {"host_port": self.grid.host_port})
        members["mapping.json"] = _json(mapping)
        members["report.json"] = _json(self.report, indent=2)
        members["source.onnx"] = self.source_onnx
        members |= {f"payload/{name}": content for name, content in self.payload.items()}
        hashes = {name: hashlib.sha256(members[name]).hexdigest() for name in sorted(members)}
        members["manifest.json"] = _json({**self.manifest, "format": self.format, "members": hashes}, indent=2)
        return members

    def save(self, path: Path | str) -> None:
        """Write the artifact, whole or not at all. Equal content gives equal bytes.

        Raises:
            NmcError: ``path-not-writable``, exit 2.
            ValueError: there is no grid, or a payload path is not plain and relative.
        """
        write_container(Path(path), self.members())

    @classmethod
    def load(cls, path: Path | str) -> Artifact:
        """Read an artifact. Every hash is verified before anything is interpreted.

        Raises:
            NmcError: ``path-not-readable`` (exit 2); ``artifact-corrupt``, ``artifact-newer``,
                ``document-invalid`` or ``ir-invalid`` (exit 3).
        """
        path = Path(path)
        members = read_container(path)
        manifest = _manifest(path, members)
        documents = {name: _parse(path, name, members[name]) for name in REQUIRED if name.endswith(".json")}
        tensors: dict[str, Array] = {}
        for name, content in members.items():
            if name.startswith("tensors/"):
                try:
                    tensors[name] = npy_array(content)
                except (ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
                    raise corrupt(path, f"has the unreadable tensor '{name}': {error}") from error
        graph = from_document(documents["graph.json"], tensors)
        spiking = from_document(documents["spiking.json"], tensors)
        network = from_document(documents["network.json"], tensors)
        if not isinstance(graph, LayerGraph) or not isinstance(spiking, Network) or not isinstance(network, Network):
            raise corrupt(path, "has a layer graph where a network belongs, or the other way round")
        routed, grid = mapping_from_document(documents["mapping.json"], network)
        if min(grid[key] for key in GRID_KEYS) < 1 or min(grid["host_port"]) < 0:
            raise corrupt(path, f"has the impossible grid {grid}")
        for program in (graph, spiking, routed):
            verify_program(program)
        report = documents["report.json"]
        if not isinstance(report, dict):
            raise corrupt(path, "has a report.json that is no object")
        payload = {n.removeprefix("payload/"): c for n, c in members.items() if n.startswith("payload/")}
        mesh = Grid(**grid, chips_max=grid["chips"])
        return cls(manifest, routed, graph, spiking, members["source.onnx"], report, payload, mesh)


def _json(tree: object, indent: int | None = None) -> bytes:
    """Canonical JSON: sorted keys, ASCII, no NaN."""
    separators = None if indent else (",", ":")
    text = json.dumps(tree, sort_keys=True, allow_nan=False, indent=indent, separators=separators)
    return text.encode("ascii") + b"\n"


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _parse(path: Path, name: str, content: bytes) -> object:
    try:
        tree: object = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise corrupt(path, f"has the unreadable member '{name}': {error}") from error
    return tree


def _manifest(path: Path, members: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest, after every member was compared with the hash that it gives."""
    if "manifest.json" not in members:
        raise corrupt(path, "is no artifact: it has no manifest.json")
    manifest = _parse(path, "manifest.json", members["manifest.json"])
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or type(version) is not int or version < 1:
        raise corrupt(path, "has a manifest.json without a format version")
    if version > FORMAT:
        raise NmcError.single(
            "artifact-newer",
            f"'{path}' has format {version}; this version reads up to {FORMAT}",
            ExitCode.MODEL,
            help="use a newer nmc, or compile the network again",
        )
    hashes = manifest.get("members")
    if not isinstance(hashes, dict):
        raise corrupt(path, "has a manifest.json without members")
    listed, present = set(hashes), set(members) - {"manifest.json"}
    absent = sorted((listed | set(REQUIRED)) - present)
    if absent:
        raise corrupt(path, f"lacks {', '.join(repr(name) for name in absent[:5])}")
    if present - listed:
        extra = sorted(present - listed)
        raise corrupt(path, f"has members that its manifest does not list: {', '.join(map(repr, extra[:5]))}")
    wrong = sorted(name for name in present if hashlib.sha256(members[name]).hexdigest() != hashes[name])
    if wrong:
        raise corrupt(path, f"was changed: the hash of {', '.join(repr(n) for n in wrong[:5])} is not the manifest's")
    return manifest
