"""``--stop margin`` in a compile: refused early, fitted, and left out where a backend cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from nmc.backends.api import Options, Payload
from nmc.compiler.estimate import measure_events
from nmc.compiler.stopping import emit_program, fit_stopping, refuse_stopping
from nmc.hardware.target import Target
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.passes.base import Pipeline
from nmc.runtime.device import Device
from nmc.runtime.stopping import MarginRule
from nmc.testing.builders import small_target
from tests.runtime.artifacts import residual_artifact, samples

STOP = Options(stop="margin", max_changed=5.0)
ROUTED, X = residual_artifact().routed, samples(64, seed=1)


class Plain:
    """A backend without a way to stop."""

    name, api_version = "plain", 1

    def targets(self) -> Mapping[str, Target]:
        return {}

    def pipeline(self, target: Target, options: Options) -> Pipeline:
        raise NotImplementedError

    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {"all steps": b""}

    def devices(self) -> Mapping[str, Device]:
        return {}


class Stopping(Plain):
    """A backend with one."""

    def emit_stopping(self, routed: Routed, target: Target, options: Options, rule: MarginRule) -> Payload:
        return {"stops": repr(rule.thresholds).encode()}


def test_what_cannot_stop_is_refused_before_anything_is_calibrated() -> None:
    refuse_stopping(STOP)
    refuse_stopping(STOP, ROUTED.network)
    refuse_stopping(Options(coding="graded"))
    twice = replace(ROUTED.network, outputs=ROUTED.network.outputs * 2)
    refuse_stopping(Options(), twice)
    for options, slug in (
        (replace(STOP, coding="sigma-delta"), "stop-not-possible"),
        (replace(STOP, stop="entropy"), "bad-option"),
        (replace(STOP, max_changed=101.0), "bad-option"),
        (replace(STOP, max_changed=float("nan")), "bad-option"),
    ):
        with pytest.raises(NmcError) as caught:
            refuse_stopping(options)
        assert (caught.value.diagnostics[0].slug, caught.value.exit_code) == (slug, ExitCode.USAGE)
    with pytest.raises(NmcError, match="2 outputs"):
        refuse_stopping(STOP, twice)


def test_the_fit_is_told_and_doubted_where_samples_are_few() -> None:
    sink = DiagnosticSink()
    assert fit_stopping(ROUTED, X, Options(), sink) is None and not sink.items
    rule = fit_stopping(ROUTED, X, STOP, sink)
    assert rule is not None and rule.samples == 64 and rule.mean_steps < 32
    assert fit_stopping(ROUTED, X, replace(STOP, max_changed=0.5), sink) != rule
    assert [(d.slug, d.severity) for d in sink.items] == [("stop-fitted", "note"), ("stop-not-assured", "warning")]
    assert "1.5 % of changes at most" in sink.items[1].message and "at least 200 samples" in str(sink.items[1].help)
    events, whole = measure_events(ROUTED, X, rule), measure_events(ROUTED, X)
    assert ROUTED.network.by_name["logits"].start < events.timesteps_total < whole.timesteps_total
    assert events.synops < whole.synops and events.neuron_updates < whole.neuron_updates


def test_a_backend_that_cannot_stop_emits_all_steps_and_says_so() -> None:
    sink, target = DiagnosticSink(), small_target()
    rule = fit_stopping(ROUTED, X, STOP, DiagnosticSink())
    assert emit_program(Plain(), ROUTED, target, STOP, None, sink) == {"all steps": b""} and not sink.items
    assert emit_program(Plain(), ROUTED, target, STOP, rule, sink) == {"all steps": b""}
    assert [d.slug for d in sink.items] == ["stop-not-emitted"]
    assert list(emit_program(Stopping(), ROUTED, target, STOP, rule, sink)) == ["stops"] and len(sink.items) == 1
