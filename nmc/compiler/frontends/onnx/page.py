"""The page of operators: the table of `operator_table`, and what its words mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nmc.compiler.frontends.onnx.registry import operator_table

STATUSES: Mapping[str, str] = {
    "native": "becomes synapses and neurons, exactly",
    "rewrite": "is expressed by native operators, exactly",
    "approximate": "ReLUs come near to it; a warning names the largest error, and `--strict` refuses it",
    "host": "the host computes it behind the network",
    "refused": "is not read; the note says what to do instead",
}
"""What a status means. Exactly: up to the rounding of weights and messages to the chip's integers."""

_ABOUT = """\
Exact means exact before coding: weights and messages are rounded to the chip's integers afterwards.

**Quantization of the file.** Weights behind `DequantizeLinear` are folded to the real numbers that they stand for.
Between activations the scale and zero point of a `QuantizeLinear`, for a tensor, an axis or blocks, say which range a
value has and where it is rounded: the ranges and steps are the file's and are not fitted again. No clip is made behind
the input, where the calibration inputs stay inside the range, and behind a softmax, sigmoid or argmax at the end. An
input of 8- or 16-bit integers takes the same integers as numbers; an output of such integers gives the real numbers
that they stand for.

In graded coding messages are the file's integers, less the zero point. Where powers of two lead from the scales that a
layer reads to its own, the file's integers are the stored weights, too. Elsewhere a population makes the sum first, in
steps that are a fraction of the file's, with two stored weights for each synapse, and the next one rounds it: the note
`quantization-imported` says how far those sums are off. Ties are rounded up, not to even. Other codings take the
ranges from the file, and steps of their own.

**Test models.** The suite runs the 1,884 node cases and the 140 converted models of the `onnx` package: each compiles
and matches, or is refused by name as `tests/conformance/refusals.toml` says; `python -m tests.conformance` prints the
share by operator.

**Approximations.** A smooth activation becomes a sum of ReLUs whose largest error over the calibrated range (and a
tenth more) is small: 2 % of the standard deviation of its values unless `--set approximate-activation.error=` says
otherwise, with at most 16 ReLUs (`approximate-activation.most`). The jump of a `ThresholdedRelu` becomes a ramp, 1/128
of the calibrated range wide, and is exact beside it. `--maxpool average` replaces each maximum pooling by the average
over the same windows.
"""


def operator_page() -> str:
    """The page in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from ("# ONNX operators", "", "Made by `nmc ops --markdown`.", "")
    yield from ("| status | meaning: the operator |", "|---|---|")
    yield from (f"| {status} | {meaning} |" for status, meaning in STATUSES.items())
    yield ""
    yield from _ABOUT.splitlines()
    yield from ("", "| operator | status | note |", "|---|---|---|")
    yield from (f"| {r.op} | {r.status} | {r.note.replace('|', chr(92) + '|')} |" for r in operator_table())
