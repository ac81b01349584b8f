"""Failing models become small and keep failing."""

from __future__ import annotations

import numpy as np

from tests.fuzz.generator import RandomModel, random_model
from tests.fuzz.reduction import rebuilt, reduced


def has(operator: str, model: RandomModel) -> bool:
    return any(node.op_type == operator for node in model.model.graph.node)


def test_one_node_is_left_of_many() -> None:
    model = next(m for m in map(random_model, range(40, 80)) if has("MaxPool", m) and len(m.model.graph.node) > 12)
    small = reduced(model, lambda candidate: has("MaxPool", candidate))
    assert [node.op_type for node in small.model.graph.node] == ["MaxPool"]
    assert len(small.model.graph.output) == 1 and len(small.x) <= 2


def test_values_count_too() -> None:
    """A failure that needs two operators and a large value keeps both."""
    model = next(m for m in map(random_model, range(40, 80)) if has("Add", m) and has("Conv", m))

    def fails(candidate: RandomModel) -> bool:
        return has("Conv", candidate) and float(np.abs(candidate.wanted[0]).max()) > 1e-3

    small = reduced(model, fails)
    assert fails(small)
    assert len(small.model.graph.node) <= 2


def test_what_does_not_run_is_no_candidate() -> None:
    model = random_model(41)
    broken = type(model.model)()
    broken.CopyFrom(model.model)
    del broken.graph.initializer[:]
    assert rebuilt(broken, model.x) is None
