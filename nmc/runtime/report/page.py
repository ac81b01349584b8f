"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nmc.runtime.accuracy import OutputResult
from nmc.runtime.artifact import Artifact
from nmc.runtime.evaluation import Evaluation
from nmc.runtime.report.core_map import core_map_svg
from nmc.runtime.report.svg import DASH, bars, colour, energy_text, number_of, percent, short, stacked, text_of

CSS = """
:root{--ground:#fff;--card:#f7f8fa;--ink:#1f2933;--soft:#6b7785;--line:#d5dbe1;--accent:#2f6fb3;--warn:#8a5a00;
--warnground:#fff6e0}
@media(prefers-color-scheme:dark){:root{--ground:#14181c;--card:#1c2228;--ink:#e4e8ec;--soft:#98a3af;--line:#3a444e;
--accent:#6aa5e3;--warn:#f0c36a;--warnground:#2c2613}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0}h2{font-size:18px;margin:38px 0 10px}h3{font-size:14px;margin:16px 0 6px;color:var(--soft)}
p{margin:6px 0 12px}.soft{color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:20px 0}
.fact{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.fact b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.fact span{color:var(--soft);font-size:13px}
.warn{background:var(--warnground);color:var(--warn);border-radius:8px;padding:10px 14px;margin:10px 0}
.scroll{overflow-x:auto}svg{max-width:100%;height:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;white-space:nowrap}
i.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:7px}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:12.5px}
footer{margin-top:44px;color:var(--soft);font-size:13px}
""".strip()

Tree = Mapping[str, Any]


def render_report(artifact: Artifact, evaluation: Evaluation | None = None) -> str:
    """The HTML of an artifact's report.

    Args:
        artifact: with the static report that `nmc compile` stored; parts that it lacks are left out.
        evaluation: adds accuracy by stage and over timesteps.

    Returns:
        a whole document: no scripts, no external resources, all text escaped.
    """
    report, manifest = artifact.report, artifact.manifest
    source = _tree(manifest, "source")
    name = source.get("name", artifact.network.name)
    sections = [
        _head(str(name), manifest, report, artifact),
        _warnings(manifest, report),
        _facts(report, evaluation),
        _accuracy(evaluation),
        _layers(report),
        _map(report),
        _energy(report),
        _latency(report),
        _operations(report, evaluation),
        _assumptions(manifest, report),
        _provenance(manifest),
    ]
    version = text_of(manifest.get("nmc", ""))
    foot = f"<footer>made by nmc {version}; estimates are models, not measurements on a chip</footer>"
    title = f"{text_of(name)} on {text_of(_tree(manifest, 'target').get('name', 'a chip'))}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{CSS}</style></head><body><main>"
        + "\n".join(section for section in sections if section)
        + f"\n{foot}</main></body></html>\n"
    )


def _tree(parent: Tree, key: str) -> Tree:
    """A part that is an object; empty where it is absent or something else."""
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(parent: Tree, key: str) -> Sequence[Any]:
    value = parent.get(key)
    return value if isinstance(value, list | tuple) else ()


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; a column whose name begins with # is numeric."""
    kinds = [' class="n"' if column.startswith("#") else "" for column in columns]
    heads = zip(kinds, columns, strict=True)
    head = "".join(f"<th{kind}>{text_of(column.removeprefix('#'))}</th>" for kind, column in heads)
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _count(value: object) -> str:
    number = number_of(value)
    return DASH if number is None else f"{number:,.0f}"


def _head(name: str, manifest: Tree, report: Tree, artifact: Artifact) -> str:
    target, network = _tree(report, "target") or _tree(manifest, "target"), artifact.network
    about = f"{text_of(target.get('name', ''))}: {text_of(target.get('description', ''))}"
    coding = text_of(manifest.get("coding", "graded" if network.is_graded else "rate"))
    steps = f"{network.timesteps} input step{'s' if network.timesteps > 1 else ''}"
    return f'<h1>{text_of(name)}</h1><p class="soft">{about}<br>{coding} coding, {steps}</p>'


def _warnings(manifest: Tree, report: Tree) -> str:
    found = []
    calibration = _tree(manifest, "calibration")
    if calibration and calibration.get("assured") is not True:
        found.append("Accuracy is not assured: the ranges do not come from calibration data. Compile with --calib.")
    found += [f"On hardware: {text}" for text in _list(manifest, "microcode")]
    for item in _list(report, "diagnostics"):
        if isinstance(item, Mapping) and item.get("severity") == "warning":
            help = item.get("help") or ""
            found.append(f"{item.get('message', '')}{'. ' if help else ''}{help}")
    return "".join(f'<div class="warn">{text_of(text)}</div>' for text in found)


def _facts(report: Tree, evaluation: Evaluation | None) -> str:
    energy, latency = _tree(report, "energy_nj_per_inference"), _tree(report, "latency")
    facts = []
    if evaluation is not None:
        facts += [fact for output in evaluation.outputs for fact in _verdict(output, evaluation)]
    facts += [(_count(report.get("cores_used")), "cores"), (short(report.get("neurons")), "neurons on cores")]
    facts.append((short(report.get("synapses")), "synapses"))
    low, high = number_of(energy.get("low")), number_of(energy.get("high"))
    if low is not None and high is not None:
        span = energy_text(low) if low == high else f"{energy_text(low)} – {energy_text(high)}"
        facts.append((span, "dynamic energy per inference, estimate"))
    if number_of(latency.get("us")) is not None:
        facts.append((_time_text(latency["us"]), "latency, estimate"))
    cells = "".join(f'<div class="fact"><b>{text_of(v)}</b><span>{text_of(k)}</span></div>' for v, k in facts)
    return f'<div class="facts">{cells}</div>'


def _verdict(output: OutputResult, evaluation: Evaluation) -> list[tuple[str, str]]:
    """How good one output of the mapped program is."""
    mapped = output.stage("mapped")
    if mapped is None:
        return []
    about = f"{evaluation.of(output)}, {evaluation.samples:,} samples"
    if mapped.top1 is not None:
        return [(percent(mapped.top1), f"top-1{about}")]
    if mapped.agreement is not None:
        return [(percent(mapped.agreement), f"agrees with ONNX{about}")]
    return [(f"{mapped.nrmse:.3g}", f"normalised error{about}, {output.held}")]


def _time_text(microseconds: object) -> str:
    number = number_of(microseconds)
    if number is None:
        return DASH
    return f"{number / 1000:.3g} ms" if number >= 1000 else f"{number:.3g} µs"


def _accuracy(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.outputs[0].stages:
        return ""
    return "".join(_output(output, evaluation) for output in evaluation.outputs)


def _output(output: OutputResult, evaluation: Evaluation) -> str:
    """Accuracy of one output by stage and over timesteps."""
    first, of, rows = output.stages[0], evaluation.of(output), []
    for stage in output.stages:
        level = output.level(stage)
        if output.by_class:
            share = (
                "" if level is None or first.top1 is None or stage is first else f" ({100 * (level - first.top1):+.2f})"
            )
            rows.append((stage.stage, level, f"{percent(level)}{share}"))
        else:
            rows.append((stage.stage, level, f"{stage.nrmse:.4g}"))
    title = f"{output.what}{of}"
    parts = [f"<h2>{text_of(title)} by stage</h2>", f'<p class="soft">{evaluation.samples:,} samples</p>']
    parts.append(bars(rows, f"{title} by stage", top=1.0 if output.by_class else None))
    if output.by_class:
        table = [(text_of(s.stage), percent(s.top1), percent(s.agreement), f"{s.nrmse:.4g}") for s in output.stages]
        parts.append(_table(["stage", "#top-1", "#agrees with ONNX", "#nrmse of outputs"], table))
    picture = output.curve_svg(of)
    if picture:
        parts.append(f"<h2>{text_of(title)} over timesteps</h2>")
        parts.append('<p class="soft">The mapped program, read after fewer input steps.</p>')
        parts.append(picture)
    return "".join(parts)


def _layers(report: Tree) -> str:
    layers = [layer for layer in _list(report, "layers") if isinstance(layer, Mapping)]
    if not layers:
        return ""
    rows = []
    for index, layer in enumerate(layers):
        key = f'<i class="key" style="background:{colour(index)}"></i>'
        limit, used = layer.get("limit"), layer.get("used")
        rows.append(
            (
                key + text_of(layer.get("name", "")),
                text_of(layer.get("op", "")),
                _count(layer.get("neurons")),
                _count(layer.get("synapses")),
                _count(layer.get("cores")),
                text_of(str(limit).replace("_", " ")) + f" {percent(used, 0)}" if limit else DASH,
                percent(layer.get("rate"), 1),
                text_of(layer.get("note", "")),
            )
        )
    columns = ["layer", "op", "#neurons", "#synapses", "#cores", "fullest resource", "#firing rate", "note"]
    return "<h2>Layers</h2>" + _table(columns, rows)


def _map(report: Tree) -> str:
    if not _list(report, "cores") or not _tree(_tree(report, "target"), "grid"):
        return ""
    return (
        '<h2>Core map</h2><p class="soft">Point at a core to read what it holds.</p>'
        f'<h3>by layer</h3><div class="scroll">{core_map_svg(report, by="layer")}</div>'
        f'<h3>by the fullest resource</h3><div class="scroll">{core_map_svg(report, by="use")}</div>'
    )


def _energy(report: Tree) -> str:
    energy, sources = _tree(report, "energy_nj_per_inference"), _tree(_tree(report, "target"), "energy_sources")
    splits = {name: split for name, split in energy.items() if isinstance(split, Mapping)}
    if not splits:
        return ""
    parts = ("synapse", "neuron", "noc", "host")
    rows = [(name, {p: number_of(split.get(p)) or 0.0 for p in parts}) for name, split in splits.items()]
    table = [
        (
            text_of(name),
            *(energy_text(split.get(key)) for key in ("total", *parts, "static")),
            text_of(sources.get(name, "")),
        )
        for name, split in splits.items()
    ]
    columns = ["profile", "#dynamic total", *(f"#{p}" for p in parts), "#static, apart", "source"]
    return (
        "<h2>Energy per inference (estimate)</h2>"
        '<p class="soft">Events counted by the simulator on calibration samples, times published costs per event. '
        "Each profile comes from one source; static energy stands beside the total, never in it.</p>"
        + stacked(rows, "Energy per inference by profile")
        + _table(columns, table)
    )


def _latency(report: Tree) -> str:
    latency = _tree(report, "latency")
    if not latency:
        return ""
    times = _tree(latency, "us_by_profile")
    rows = [(f"profile {text_of(name)}", _time_text(us)) for name, us in times.items()]
    rows += [
        ("input steps", _count(latency.get("input_steps"))),
        ("pipeline steps", _count(latency.get("pipeline_steps"))),
        ("steps of one sample", _count(latency.get("timesteps_total"))),
    ]
    if "mean_timesteps_total" in latency:
        rows.append(("steps until a sample stops, mean", short(latency["mean_timesteps_total"])))
    traffic = _tree(report, "traffic")
    rows.append(("packets per inference", _count(traffic.get("packets_per_inference"))))
    rows.append(("links per packet, mean", short(traffic.get("hops_mean"))))
    return "<h2>Latency (estimate) and traffic</h2>" + _table(["what", "#value"], rows)


def _operations(report: Tree, evaluation: Evaluation | None) -> str:
    macs = number_of(_tree(report, "ann_baseline").get("macs"))
    synops = number_of(_tree(report, "events").get("synops"))
    if evaluation is not None and evaluation.synops_per_inference is not None:
        synops = evaluation.synops_per_inference
    if macs is None or synops is None:
        return ""
    ratio = f"{synops / macs:.3g} synaptic operations for each multiply-add" if macs else ""
    rows = [
        ("analog network", macs, f"{short(macs)} multiply-adds"),
        ("on the chip", synops, f"{short(synops)} additions"),
    ]
    return (
        "<h2>Operations per inference</h2>"
        f'<p class="soft">{text_of(ratio)}. A synaptic operation adds one weight; a multiply-add does more.</p>'
        + bars(rows, "Multiply-adds of the analog network beside synaptic operations")
    )


def _assumptions(manifest: Tree, report: Tree) -> str:
    words = [*_list(manifest, "assumptions"), *_list(_tree(report, "target"), "assumptions")]
    notes = [d.get("message", "") for d in _list(report, "diagnostics") if isinstance(d, Mapping)]
    items = list(dict.fromkeys(str(word) for word in (*words, *notes)))
    if not items:
        return ""
    return "<h2>Assumptions and notes</h2><ul>" + "".join(f"<li>{text_of(item)}</li>" for item in items) + "</ul>"


def _provenance(manifest: Tree) -> str:
    rows = []
    for key in ("source", "target", "calibration", "preprocessing", "options", "seed", "timesteps", "coding", "nmc"):
        if key in manifest:
            rows.append((text_of(key), text_of(_flat(manifest[key]))))
    pipeline = manifest.get("pipeline")
    text = f"<h3>pipeline</h3><pre>{text_of(pipeline)}</pre>" if pipeline else ""
    return ("<h2>How it was made</h2>" + _table(["what", "value"], rows) + text) if rows or text else ""


def _flat(value: object) -> str:
    """A small tree on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_flat(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flat(item) for item in value) + "]"
    return str(value)
