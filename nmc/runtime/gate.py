"""``--gate``: how much the mapped network may lose."""

from __future__ import annotations

import math

from nmc.ir.diagnostic import Diagnostic
from nmc.runtime.accuracy import OutputResult
from nmc.runtime.evaluation import Evaluation

MARGIN = 1e-9
"""Fractions of whole samples are not exact in binary: 2 of 1000 must pass a gate of 0.2."""


def check_gate(evaluation: Evaluation, limit: float) -> tuple[Diagnostic, ...]:
    """An error for every output of which ``mapped`` lost more than ``limit``.

    * Classes: percentage points of top-1 against ONNX Runtime; without labels, the share of samples
      on which the two disagree.
    * Values: per cent by which the normalised error grew from ``onnx`` to ``mapped``; without labels,
      the normalised error against ONNX Runtime, in per cent.

    Args:
        evaluation: with the stages ``onnx`` and ``mapped``.
        limit: what is allowed.
    """
    return tuple(found for output in evaluation.outputs for found in _check(evaluation, output, limit))


def _check(evaluation: Evaluation, output: OutputResult, limit: float) -> tuple[Diagnostic, ...]:
    onnx, mapped = output.stage("onnx"), output.stage("mapped")
    if onnx is None or mapped is None:
        return (Diagnostic("accuracy-gate", "the gate compares the stages onnx and mapped, which were not both run"),)
    of = evaluation.of(output)
    unit = "points"
    if onnx.top1 is not None and mapped.top1 is not None:
        loss, what = 100 * (onnx.top1 - mapped.top1), f"top-1{of} fell from {onnx.top1:.2%} to {mapped.top1:.2%}"
    elif mapped.agreement is not None:
        loss, what = 100 * (1 - mapped.agreement), f"{mapped.agreement:.2%} of the answers{of} are ONNX Runtime's"
    elif output.against == "labels":
        loss, unit = 100 * _growth(onnx.nrmse, mapped.nrmse), "per cent"
        what = f"the error{of} against the labels grew from {onnx.nrmse:.4g} to {mapped.nrmse:.4g}"
    else:
        loss, unit = 100 * mapped.nrmse, "per cent"
        what = f"the values{of} differ from ONNX Runtime's by {mapped.nrmse:.4g} of their rms"
    if loss <= limit + MARGIN:
        return ()
    message = f"{what} on {evaluation.samples} samples: {loss:.2f} {unit}, the gate is {limit:g}"
    help = "calibrate with data of the kind that is used (--calib), or raise the timesteps (-T)"
    return (Diagnostic("accuracy-gate", message, help=help),)


def _growth(before: float, after: float) -> float:
    """Relative; from nothing to something it is infinite."""
    if before > 0:
        return after / before - 1
    return math.inf if after > 0 else 0.0
