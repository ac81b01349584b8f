"""Sums over samples from which the rows of an accuracy table follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Network
from nmc.ir.reference import answers
from nmc.runtime.labels import Judge


@dataclass
class Tally:
    """One output of one program, over the samples seen so far.

    Attributes:
        samples: how many.
        right: answers that are the label; ``agreed``: that are ONNX Runtime's.
        squared_error: of the values, against the labels or ONNX Runtime's; ``squared``: of those.
    """

    judge: Judge
    samples: int = 0
    right: int = 0
    agreed: int = 0
    squared_error: float = 0.0
    squared: float = 0.0

    def add(self, network: Network, values: Array, onnx: Array, first: int) -> None:
        """Count a batch: (n, values) of the program and of ONNX Runtime, from sample number ``first`` on."""
        labels, wanted = self.judge.part(first, len(values)), onnx
        if self.judge.by_class:
            answer = answers(network, values, self.judge.output)
            self.agreed += int((answer == answers(network, onnx, self.judge.output)).sum())
            self.right += 0 if labels is None else int((answer == labels).sum())
        elif labels is not None:
            wanted = labels
        self.samples += len(values)
        # Sample by sample, so that no result depends on how samples are cut into batches.
        for value, want in zip(values, wanted, strict=True):
            self.squared_error += float(np.square(value - want).sum())
            self.squared += float(np.square(want).sum())

    @property
    def top1(self) -> float | None:
        """Share of right answers; None without classes or labels."""
        return self.right / self.samples if self.judge.by_class and self.judge.labels is not None else None

    @property
    def agreement(self) -> float | None:
        """Share of answers that are ONNX Runtime's; None without classes."""
        return self.agreed / self.samples if self.judge.by_class else None

    @property
    def nrmse(self) -> float:
        """Root mean square of the error, relative to that of what was wanted (if that is not 0)."""
        return float(np.sqrt(self.squared_error / self.squared if self.squared > 0 else self.squared_error))
