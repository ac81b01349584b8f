"""``nmc inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmc.compiler.cli.paths import readable
from nmc.compiler.cli.rendering import percent, printable, table
from nmc.compiler.cli.session import DebugOption, JsonOption, Session
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError

if TYPE_CHECKING:
    from nmc.ir.mapping import Routed
    from nmc.runtime.artifact import Artifact


def command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="ONNX model, artifact or target file.", show_default=False)],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Layers, cores and contents of a file."""
    session: Session = context.obj
    sink = DiagnosticSink()
    readable(sink, file, "file")
    sink.raise_errors(ExitCode.USAGE)
    kind = _kind(file)
    session.result({"file": file, "kind": kind})
    if kind == "artifact":
        _artifact(session, file)
    elif kind == "target":
        from nmc.compiler.cli.tables import show_target
        from nmc.compiler.plugins import target_text
        from nmc.hardware.target_file import load_target

        show_target(session, load_target(file, target_text))
    else:
        _model(session, file)


def _kind(file: Path) -> str:
    """What a file is, by its first bytes and its suffix.

    Raises:
        NmcError: a kind that a later release reads (exit 2).
    """
    with file.open("rb") as stream:
        magic = stream.read(8)
    if magic == b"\x89HDF\r\n\x1a\n" or file.suffix == ".nir":
        raise NmcError.single(
            "not-available-yet", f"{file} is HDF5 (NIR); reading it is not available yet", ExitCode.USAGE
        )
    if magic[:4] == b"PK\x03\x04" or file.suffix == ".nmc":
        return "artifact"
    return "target" if file.suffix == ".toml" else "onnx"


def _model(session: Session, file: Path) -> None:
    from nmc.compiler.frontends.isolation import read_isolated
    from nmc.compiler.frontends.onnx import read_model
    from nmc.ir.layers import Linear

    model = read_isolated(file) if session.isolated else read_model(file)
    rows = []
    for layer in model.graph.layers:
        linear = layer.op if isinstance(layer.op, Linear) else None
        parameters = 0 if linear is None else int(linear.connectivity.weight.size + linear.bias.size)
        rows.append(
            {
                "name": layer.name,
                "op": type(layer.op).__name__,
                "shape": list(layer.shape),
                "inputs": list(layer.inputs),
                "parameters": parameters,
                "origin": str(layer.origin),
            }
        )
    ends = zip(model.graph.output_names, model.graph.outputs, strict=True)
    outputs = [{"name": name, "layer": end, "shape": list(model.graph.by_name[end].shape)} for name, end in ends]
    inputs = [{"name": name, "shape": list(shape)} for name, shape in model.graph.input_shapes.items()]
    session.result({"name": model.name, "sha256": model.sha256, "layers": rows, "inputs": inputs, "outputs": outputs})
    session.write(f"{printable(model.name)}: ONNX, SHA-256 {model.sha256}\n")
    cells = [
        (
            r["name"],
            r["op"],
            "x".join(map(str, layer.shape)),
            ", ".join(layer.inputs),
            r["parameters"] or "",
            r["origin"],
        )
        for r, layer in zip(rows, model.graph.layers, strict=True)
    ]
    session.show(table(["layer", "what", "shape", "reads", "#parameters", "ONNX node"], cells))
    if len(inputs) > 1:
        session.show(table(["input", "shape"], [(i["name"], _by(i["shape"])) for i in inputs]))
    session.show(table(["output", "layer", "shape"], [(o["name"], o["layer"], _by(o["shape"])) for o in outputs]))


def _by(shape: object) -> str:
    """``3x32x32``."""
    return "x".join(map(str, shape)) if isinstance(shape, list | tuple) else ""


def _artifact(session: Session, file: Path) -> None:
    from nmc.runtime.artifact import Artifact

    artifact = Artifact.load(file)
    manifest = dict(artifact.manifest)
    cores = core_rows(artifact.routed)
    populations = population_rows(artifact)
    outputs = [
        {"name": o.name, "population": o.population, "shape": list(o.shape), "head": o.head}
        for o in artifact.network.outputs
    ]
    inputs = [{"name": name, "shape": list(shape)} for name, shape in artifact.input_shapes.items()]
    ends = {"inputs": inputs, "outputs": outputs}
    session.result({"manifest": manifest, "populations": populations, **ends, "cores": cores})
    target, calibration = manifest["target"], manifest["calibration"]
    assured = "" if calibration["assured"] else "; accuracy is not assured"
    session.write(
        f"{printable(file.name)}: {printable(manifest['source']['name'])} for {target['name']}, "
        f"{manifest['coding']} coding, T = {manifest['timesteps']}, made by nmc {manifest['nmc']}\n"
        f"calibration: {calibration['kind']}, {calibration['samples']} samples{assured}\n"
        f"pipeline: {printable(manifest['pipeline'])}\n"
    )
    session.show(
        table(
            ["population", "neuron", "shape", "#start", "#cores", "rate", "ONNX node"],
            [
                (p["name"], p["neuron"], p["shape"], p["start"], p["cores"], p["rate_text"], p["origin"])
                for p in populations
            ],
            title="populations",
        ),
        table(
            ["output", "population", "shape", "on the host"],
            [(o["name"] or "-", o["population"], _by(o["shape"]), o["head"] or "-") for o in outputs],
            title="outputs",
        ),
        table(
            ["#core", "#chip", "tile", "#neurons", "#axon groups", "slices"],
            [(c["id"], c["chip"], f"{c['x']},{c['y']}", c["neurons"], c["axon_groups"], c["holds"]) for c in cores],
            title="cores",
        ),
        table(["member", "SHA-256"], sorted(manifest.get("members", {}).items()), title="members"),
    )


def population_rows(artifact: Artifact) -> list[dict[str, object]]:
    """One row per population of the quantized network."""
    routed = artifact.routed
    rows: list[dict[str, object]] = []
    for population in artifact.network.populations:
        cores = sum(any(s.population == population.name for s in c.slices) for c in routed.clusters if c.id >= 0)
        rate = routed.rates.get(population.name)
        rows.append(
            {
                "name": population.name,
                "neuron": type(population.neuron).__name__,
                "shape": "x".join(map(str, population.shape)),
                "start": population.start,
                "cores": cores,
                "rate": rate,
                "rate_text": percent(rate),
                "origin": str(population.origin),
            }
        )
    return rows


def core_rows(routed: Routed) -> list[dict[str, int | str]]:
    """One row per core, in order of number; the host is core -1."""
    rows: list[dict[str, int | str]] = []
    for cluster in routed.clusters:
        place = routed.places.get(cluster.id)
        rows.append(
            {
                "id": cluster.id,
                "chip": place.chip if place else 0,
                "x": place.x if place else 0,
                "y": place.y if place else 0,
                "neurons": cluster.neurons,
                "axon_groups": len(cluster.axons),
                "holds": ", ".join(f"{s.population}[{s.neurons}]" for s in cluster.slices),
            }
        )
    return rows
