"""What ``nmc compile`` says: one screen for the eye, one document for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.compiler.cli.rendering import count, energy, percent, printable, seconds, shown, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nmc.compiler.driver import Compiled


def compile_summary(
    compiled: Compiled, model: Path, target: str, path: Path, *, verbose: bool = False, advise: bool = True
) -> list[RenderableType]:
    """What a compile prints: one screen.

    Args:
        compiled: with an artifact.
        model: ONNX file.
        target: as the user named it.
        path: where the artifact was written.
        verbose: the pipeline's text too.
        advise: say what to run next.
    """
    artifact = compiled.artifact
    if artifact is None:
        raise ValueError("nothing was emitted")
    report, manifest = artifact.report, artifact.manifest
    parts: list[RenderableType] = []
    if not manifest["calibration"]["assured"]:
        parts.append(
            "ACCURACY IS NOT ASSURED: no calibration data. Better: "
            f"nmc compile {printable(model)} --target {printable(target)} --calib calib.npz"
        )
    parts += [f"{printable(model.name)} on {manifest['target']['name']}, {manifest['coding']} coding"]
    parts += [f"on hardware: {printable(text)}" for text in manifest["microcode"]]
    if verbose:
        parts.append(f"pipeline: {printable(manifest['pipeline'])}")
    parts += [_stage_lines(compiled), ""]
    if compiled.accuracy is not None:
        parts += ["on the calibration data:", *shown(compiled.accuracy)[: len(compiled.accuracy.outputs)], ""]
    parts += [_layer_table(report), "", *_fill_lines(report), *_cost_lines(report)]
    if advise:
        parts += ["", *_next_lines(path, manifest)]
    return parts


def _stage_lines(compiled: Compiled) -> RenderableType:
    """One row per stage: what it left, and how long it took."""
    artifact = compiled.artifact
    results: dict[str, str] = {}
    if artifact is not None:
        routed, network = artifact.routed, artifact.network
        linear = sum(type(layer.op).__name__ == "Linear" for layer in artifact.graph.layers)
        integer = [p.connectivity.weight for p in network.projections]
        used = max((int(abs(w).max()) for w in integer if w.size), default=0)
        results = {
            "import": "reads what ONNX Runtime computes",
            "simplify": f"{linear} layers with weights",
            "convert": f"{len(network.populations)} populations, {len(network.projections)} projections",
            "align": f"{network.timesteps} input steps + {network.pipeline_steps} pipeline steps",
            "quantize": f"integers, weights up to {used}; no accumulator overflows",
            "partition": _some(routed.cores_used, "core"),
            "place": _some(len({(p.x, p.y) for i, p in routed.places.items() if i >= 0}), "tile"),
            "route": _some(len(routed.routes), "route"),
            "check": "recounted independently: limits, neurons, synapses, routes hold",
            "prove": "the mapped program gives the network's integers",
            "stop": _stopping(artifact.manifest.get("stop")),
            "estimate": "events counted on calibration samples",
            "emit": _some(len(artifact.payload), "file"),
            "verify": "every layer is within its bound of ONNX Runtime",
            "evaluate": "accuracy below" if compiled.accuracy is not None else "",
        }
    rows = [(name, results.get(name, ""), seconds(value)) for name, value in compiled.seconds]
    return table(["stage", "result", "#time"], rows)


def _stopping(rule: Mapping[str, Any] | None) -> str:
    """When samples stop early."""
    if rule is None:
        return ""
    steps = f"after {rule['mean_steps']:.1f} of {len(rule['stopped'])} input steps on average"
    return f"{steps}; {rule['changed']} of {rule['samples']} calibration answers change"


def _some(number: int, thing: str) -> str:
    """``1 core``, ``2 cores``."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _layer_table(report: Mapping[str, Any]) -> RenderableType:
    rows = []
    for layer in report["layers"]:
        fullest = "-" if layer["limit"] is None else f"{layer['limit'].replace('_', ' ')} {percent(layer['used'], 0)}"
        rows.append(
            (
                layer["name"],
                layer["op"],
                count(layer["neurons"]),
                count(layer["synapses"]),
                layer["cores"],
                fullest,
                percent(layer["rate"]),
                layer["note"],
            )
        )
    columns = ["layer", "op", "#neurons", "#synapses", "#cores", "fullest resource", "#rate", "note"]
    return table(columns, rows)


def _fill_lines(report: Mapping[str, Any]) -> list[RenderableType]:
    """How full the cores are: of each limited resource the mean and the fullest core."""
    grid, shares = report["target"]["grid"], dict[str, list[float]]()
    for core in report["cores"]:
        for name, (used, limit) in core["use"].items():
            if limit:
                shares.setdefault(name, []).append(used / limit)
    available = grid["tiles_x"] * grid["tiles_y"] * grid["cores_per_tile"] * grid["chips"]
    lines = [
        f"cores: {report['cores_used']:,} of {available:,}; neurons {count(report['neurons'])}, "
        f"synapses {count(report['synapses'])}"
    ]
    if shares:
        fills = [
            f"{n.replace('_', ' ')} {percent(sum(v) / len(v), 0)}, fullest {percent(max(v), 0)}"
            for n, v in shares.items()
        ]
        lines.append("cores hold on average: " + "; ".join(fills))
    return [*lines]


def _cost_lines(report: Mapping[str, Any]) -> list[RenderableType]:
    """Latency, energy with its split and sources, and the operations of the analog network beside."""
    latency, energies, events = report["latency"], report["energy_nj_per_inference"], report["events"]
    time = "" if latency["us"] is None else f", about {seconds(latency['us'] / 1e6)} (estimate)"
    mean = latency.get("mean_timesteps_total")
    early = "" if mean is None else f"; samples stop early, after {mean:.1f} on average"
    lines = [
        f"latency: {latency['input_steps']} input + {latency['pipeline_steps']} pipeline = "
        f"{latency['timesteps_total']} steps{early}{time}",
        f"traffic per inference: {count(round(report['traffic']['packets_per_inference']))} packets, "
        f"{report['traffic']['hops_mean']:.2f} links each",
    ]
    profiles = {name: split for name, split in energies.items() if isinstance(split, Mapping)}
    if profiles:
        low, high = energy(energies["low"]), energy(energies["high"])
        lines.append(f"dynamic energy per inference: {low if low == high else f'{low} to {high}'} (estimate)")
    sources = report["target"]["energy_sources"]
    for name, split in profiles.items():
        parts = [
            f"{key} {energy(split[key])}" for key in ("synapse", "neuron", "noc", "host") if split[key] is not None
        ]
        static = "" if split["static"] is None else f"; static, apart: {energy(split['static'])}"
        lines.append(f"  {name}: {', '.join(parts)}{static}  [{sources.get(name, '')}]")
    macs = report["ann_baseline"]["macs"]
    lines.append(
        f"operations per inference: {count(round(events['synops']))} synaptic operations; the analog network "
        f"does {count(macs)} multiply-adds"
    )
    return [printable(line) for line in lines]


def _next_lines(path: Path, manifest: Mapping[str, Any]) -> list[RenderableType]:
    shown = printable(path)
    return [
        f"wrote {shown}; next:",
        f"  nmc eval {shown} --data test.npz      accuracy by stage",
        f"  nmc verify {shown}                    every layer against ONNX Runtime",
        f"  nmc report {shown}                    pictures",
    ]
