"""The report: right numbers, one offline file, and nothing in it that a model's names could inject."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from nmc.hardware.events import CoreEvents, EventCounts
from nmc.hardware.target import EnergyProfile, Target
from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip, sparse_from_synapses
from nmc.ir.diagnostic import Diagnostic
from nmc.ir.mapping import HOST
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import Data
from nmc.runtime.evaluation import evaluate
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.report import core_map_svg, render_report, static_report
from nmc.runtime.report.core_map import fullest
from nmc.runtime.report.static import synapse_count
from nmc.runtime.report.svg import bars, curve, energy_text, percent, short, stacked, text_of
from nmc.testing.builders import small_target
from nmc.testing.random_networks import random_network
from tests.programs import tiny_routed
from tests.runtime.artifacts import residual_artifact, samples

EVIL = "<script>alert(1)</script>\"'&\n\x00]]>"


def target() -> Target:
    profiles = (
        EnergyProfile("first", "a paper", 20.0, 50.0, packet_pj=10.0),
        EnergyProfile("second", "another", 30.0, 60.0, synapse_ns=5.0, sync_ns=((1, 100.0),), static_mw=10.0),
    )
    small = small_target()
    sources = {"core.neurons": "a paper", "core.in_axons": "assumed: nobody says"}
    return replace(small, energy=profiles, grid=replace(small.grid, cores_per_tile=2), sources=sources)


def events(cores: int, **changes: Any) -> EventCounts:
    each = tuple(CoreEvents(10 + i, 5.0, 4.0, 3.0, 2.0, 100.0 * i) for i in range(cores))
    made = EventCounts(40, 12, 1000.0, 50.0, 30.0, 20.0, 44.5, 60.0, 0.0, 2, 1, each)
    return replace(made, **changes)


def report_of(artifact: Artifact, **changes: Any) -> dict[str, Any]:
    routed = artifact.routed
    on_chip = [c for c in routed.clusters if c.id != HOST]
    use = {c.id: {"neurons": (c.neurons, 64), "in_axons": (10 * (c.id + 1), None)} for c in on_chip}
    findings = [Diagnostic("calibration-missing", "no calibration data", "warning", help="use --calib")]
    given: dict[str, Any] = {"use": use, "macs": 12345, "diagnostics": findings} | changes
    return static_report(routed, target(), events(len(on_chip)), **given)


def artifact_with_report(**changes: Any) -> Artifact:
    artifact = residual_artifact()
    manifest = {
        "nmc": "0.1.0",
        "source": {"name": "residual", "sha256": "00"},
        "target": {"name": "small", "family": "test", "hash": ""},
        "calibration": {"kind": "data", "samples": 64, "hash": "", "assured": True},
        "coding": "rate",
        "pipeline": "convert-rate align-windows",
        "microcode": ["subtractive reset needs neuron microcode"],
        "assumptions": ["core.in_axons: assumed: nobody says"],
    }
    return replace(artifact, manifest=manifest | changes, report=report_of(artifact))


# --- the static part


def test_static_report_follows_the_json_contract() -> None:
    report = report_of(residual_artifact())
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {"layers", "cores_used", "neurons", "synapses", "traffic", "energy_nj_per_inference", "latency"} <= set(
        report
    )
    assert {"name", "op", "neurons", "synapses", "cores", "limit", "rate", "note"} <= set(report["layers"][0])
    assert report["ann_baseline"] == {"macs": 12345}
    assert report["traffic"] == {"packets_per_inference": 50.0, "hops_mean": 1.0}
    energy = report["energy_nj_per_inference"]
    assert set(energy) == {"first", "second", "low", "high"}
    assert energy["first"]["synapse"] == 20.0 and energy["first"]["static"] is None
    assert energy["low"] == energy["first"]["total"] < energy["high"] == energy["second"]["total"]
    assert energy["second"]["static"] == pytest.approx(10.0 * report["latency"]["us"])
    latency = report["latency"]
    assert latency["timesteps_total"] == latency["input_steps"] + latency["pipeline_steps"] == 36
    assert list(latency["us_by_profile"]) == ["second"] and latency["us"] == latency["us_by_profile"]["second"]


def test_static_report_counts_what_is_mapped() -> None:
    artifact = residual_artifact()
    report = report_of(artifact)
    assert report["neurons"] == sum(p.neurons for p in artifact.network.populations) - 72
    assert report["cores_used"] == len(report["cores"]) == artifact.routed.cores_used
    synapses = sum(len(p.connectivity.synapses()[0]) for p in artifact.network.projections)
    assert report["synapses"] == synapses
    first = report["layers"][0]
    assert first["name"] == "input" and first["cores"] == 0 and "the host sends it" in first["note"]
    assert report["layers"][-1]["note"] == "read-out"
    stem = report["layers"][1]
    holding = [c.neurons for c in artifact.routed.clusters if any(s.population == "stem_relu" for s in c.slices)]
    assert stem["limit"] == "neurons" and stem["used"] == max(holding) / 64 and stem["rate"] > 0
    assert stem["cores"] == len(holding)
    for core in report["cores"]:
        assert sum(core["layers"].values()) == core["neurons"] == core["use"]["neurons"][0]
        place = artifact.routed.places[core["id"]]
        assert (core["chip"], core["x"], core["y"], core["core"]) == (place.chip, place.x, place.y, place.core)


def test_static_report_without_events_or_use() -> None:
    routed = tiny_routed()
    report = static_report(routed, small_target(), EventCounts(0, 12, 0.0, 0.0), use={}, macs=0)
    assert report["traffic"]["hops_mean"] == 0.0 and report["latency"]["us"] is None
    assert report["energy_nj_per_inference"] == {"low": None, "high": None}
    assert report["layers"][1]["limit"] is None and report["cores"][0]["synops"] is None
    json.dumps(report, allow_nan=False)


def test_the_layout_of_the_file_is_stated() -> None:
    routed = tiny_routed()
    spec = routed.network.input
    channels, height, width = spec.shape
    for perm, words in (
        ((2, 0, 1), f"{height}x{width}x{channels} with channels last, read as {channels}x{height}x{width}"),
        ((0, 2, 1), f"{channels}x{width}x{height}, read as {channels}x{height}x{width}"),
    ):
        given = [0, 0, 0]
        for axis, source in enumerate(perm):
            given[source] = spec.shape[axis]
        network = replace(routed.network, inputs=(replace(spec, shape=tuple(given), perm=perm),))
        report = static_report(
            replace(routed, network=network), small_target(), EventCounts(0, 12, 0.0, 0.0), use={}, macs=0
        )
        assert words in report["layers"][0]["note"]


@pytest.mark.parametrize("seed", range(8))
def test_synapses_are_counted_without_listing_them(seed: int) -> None:
    for projection in random_network(seed).projections:
        assert synapse_count(projection.connectivity) == len(projection.connectivity.synapses()[0])


@pytest.mark.parametrize(
    "operator",
    [
        Conv2d(np.arange(54).reshape(3, 2, 3, 3) % 4, (2, 7, 5), (2, 1), (1, 0, 2, 1), (2, 1)),
        Conv2d(np.ones((4, 1, 2, 2)), (4, 5, 5), groups=4),
        Pool(np.array([1, 0, 2]), (3, 5, 5), (2, 3), (2, 1), (1, 1, 0, 0)),
        Skip(np.array([1, 0]), (2, 3, 3)),
        Dense(np.eye(4), (4,), (4,)),
        sparse_from_synapses(np.array([0, 1]), np.array([1, 0]), np.array([0, 5]), (2,), (2,)),
    ],
)
def test_synapse_counts_of_every_operator(operator: Any) -> None:
    assert synapse_count(operator) == len(operator.synapses()[0])


# --- pictures


def pictures(html: str) -> list[ET.Element]:
    parts = html.split("<svg")[1:]
    return [ET.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in parts]


def titles(picture: ET.Element) -> list[str]:
    return [element.text or "" for element in picture.iter() if element.tag.endswith("title")]


@pytest.mark.parametrize("by", ["layer", "use"])
def test_core_map_has_every_core_at_its_place(by: str) -> None:
    report = report_of(residual_artifact())
    picture = ET.fromstring(core_map_svg(report, by=by))
    text = titles(picture)
    for core in report["cores"]:
        where = f"core {core['id']} at chip {core['chip']}, tile ({core['x']}, {core['y']}), core {core['core']}:"
        assert any(title.startswith(where) for title in text)
    width, height = (float(picture.attrib[key]) for key in ("width", "height"))
    for rect in (e for e in picture.iter() if e.tag.endswith("rect")):
        x, y, w, h = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
    assert sum(title.endswith("free") for title in text) == 16


def test_cores_do_not_overlap() -> None:
    picture = ET.fromstring(core_map_svg(report_of(residual_artifact()), by="use"))
    rects = [e for e in picture.iter() if e.tag.endswith("rect") and any("core" in t for t in titles(e))]
    spans = [tuple(float(e.attrib[k]) for k in ("x", "y", "width", "height")) for e in rects]
    assert len(spans) == residual_artifact().routed.cores_used
    for i, (ax, ay, aw, ah) in enumerate(spans):
        for bx, by, bw, bh in spans[i + 1 :]:
            assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay


def test_core_map_refuses_other_colours_and_huge_meshes() -> None:
    report = report_of(residual_artifact())
    with pytest.raises(ValueError, match="'taste'"):
        core_map_svg(report, by="taste")
    report["target"]["grid"]["tiles_x"] = 10**9
    assert "too large to draw" in core_map_svg(report)


def test_fullest_resource() -> None:
    assert fullest({"use": {"a": [1, 4], "b": [3, 4], "c": [9, None], "d": [9, 0]}}) == (0.75, "b")
    assert fullest({"use": {}}) == (0.0, "")


@pytest.mark.parametrize(
    "made",
    [
        bars([(EVIL, 0.5, EVIL), ("none", None, "-"), ("over", 7.0, "x")], EVIL, top=1.0),
        bars([], "empty"),
        stacked([(EVIL, {EVIL: 1.0, "b": 0.0}), ("zero", {"b": 0.0})], EVIL),
        curve([(1.0, 0.1), (2.0, 0.5), (9.0, 1.0)], EVIL, EVIL, (EVIL, 0.9)),
        curve([(1.0, 1.0), (2.0, 1.0)], "flat", "steps", None),
    ],
)
def test_charts_are_whole_and_escaped(made: str) -> None:
    picture = ET.fromstring(made)
    assert picture.tag.endswith("svg") and picture.attrib["aria-label"] and "<script" not in made
    assert "nan" not in made and "inf" not in made


def test_bars_have_the_length_of_their_value() -> None:
    picture = ET.fromstring(bars([("a", 0.25, ""), ("b", 1.0, "")], "x", top=1.0))
    lengths = [float(e.attrib["width"]) for e in picture.iter() if e.attrib.get("class") == "accent"]
    assert lengths[0] * 4 == lengths[1] > 0


def test_numbers_as_text() -> None:
    assert [short(n) for n in (0, 12.345, 999.96, 1234, 5.5e6, 3e9)] == ["0", "12.3", "1 k", "1.23 k", "5.5 M", "3 G"]
    energies = (0.0, 0.05, 3.0, 1234.0, 5e6, 2e9, None)
    assert [energy_text(n) for n in energies] == ["0 nJ", "50 pJ", "3 nJ", "1.23 µJ", "5 mJ", "2 J", "–"]
    assert short(None) == short("x") == short(float("nan")) == short(True) == "–"
    assert percent(0.98765) == "98.77 %" and percent(None) == "–"
    assert text_of("a<b\x1b") == "a&lt;b�"


# --- the page


class Checker(HTMLParser):
    """Well nested, offline, no scripts."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "action", "srcset") or key.startswith("on"):
                self.outside.append(f"{tag} {key}={value}")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.stack == [] and checker.outside == []
    assert not {"script", "iframe", "object", "embed", "link", "img", "base"} & set(checker.seen)
    assert "url(" not in html and "@import" not in html
    for picture in pictures(html):
        assert picture.tag.endswith("svg")
    return checker


def labelled() -> Data:
    x = samples(40, seed=5)
    return Data(x, OnnxOracle(residual_artifact().source_onnx).run(x).argmax(axis=1), "npz", "")


def test_report_says_everything_once_it_is_known() -> None:
    artifact = artifact_with_report()
    evaluation = evaluate(artifact, labelled())
    html = render_report(artifact, evaluation)
    text = " ".join(checked(html).text)
    for words in (
        "residual",
        "Top-1 accuracy by stage",
        "over timesteps",
        "Layers",
        "Core map",
        "Energy per inference",
        "a paper",
        "estimate",
        "multiply-adds",
        "microcode",
        "no calibration data",
        "nobody says",
        "convert-rate align-windows",
        "stem_relu",
    ):
        assert words in text, words
    mapped = evaluation.stage("mapped")
    assert mapped is not None and percent(mapped.top1) in text
    assert len(pictures(html)) == 6


def test_report_without_evaluation_or_labels() -> None:
    artifact = artifact_with_report()
    assert "by stage" not in render_report(artifact)
    checked(render_report(artifact))
    html = render_report(artifact, evaluate(artifact, replace(labelled(), y=None)))
    checked(html)
    assert "Agreement with ONNX Runtime by stage" in html


def test_report_of_an_artifact_without_a_static_part() -> None:
    artifact = replace(residual_artifact(), manifest={}, report={})
    checked(render_report(artifact))
    checked(render_report(artifact, evaluate(artifact, labelled())))


def test_report_says_when_accuracy_is_not_assured() -> None:
    words = "Accuracy is not assured"
    assert words not in render_report(artifact_with_report())
    unsure = artifact_with_report(calibration={"kind": "random", "samples": 64, "hash": "", "assured": False})
    assert words in render_report(unsure)


def test_names_of_a_model_are_only_text() -> None:
    artifact = artifact_with_report(source={"name": EVIL}, pipeline=EVIL, assumptions=[EVIL], microcode=[EVIL])

    def poison(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {
                (key + EVIL if key in ("stem_relu", "first") else key): poison(value) for key, value in tree.items()
            }
        if isinstance(tree, list):
            return [poison(item) for item in tree]
        return tree + EVIL if isinstance(tree, str) else tree

    html = render_report(replace(artifact, report=poison(artifact.report)))
    checker = checked(html)
    assert "<script>alert(1)</script>" in " ".join(checker.text)
    assert "\x00" not in html


def test_report_depends_on_content_only() -> None:
    assert render_report(artifact_with_report()) == render_report(artifact_with_report())
