"""A node as the importers see it: attributes decoded and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx
from onnx import helper

from nmc.compiler.frontends.onnx.structure import origin_of
from nmc.ir.origin import Origin


@dataclass(eq=False)
class Refusal(Exception):
    """Why a node cannot be imported; becomes one diagnostic with the node's origin."""

    slug: str
    message: str
    help: str = ""


@dataclass(frozen=True, eq=False)
class Node:
    """One node.

    Attributes:
        proto: the node of the normalised model.
        index: its position there.
    """

    proto: onnx.NodeProto
    index: int

    @cached_property
    def attributes(self) -> Mapping[str, object]:
        """Attribute values by name."""
        return {a.name: helper.get_attribute_value(a) for a in self.proto.attribute}

    @cached_property
    def origin(self) -> Origin:
        """Origin of the first output."""
        return origin_of(self.proto)

    @property
    def name(self) -> str:
        """Unique, printable."""
        return self.proto.name

    def input(self, position: int) -> str:
        """Name of an input tensor, empty where the optional input is absent."""
        return self.proto.input[position] if position < len(self.proto.input) else ""

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise Refusal("model-invalid", f"attribute {name} is no integer")
        return value

    def number(self, name: str, default: float) -> float:
        """A real attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise Refusal("model-invalid", f"attribute {name} is no number")
        return float(value)

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """A list of integers; ``default`` also where the list is empty."""
        value = self.attributes.get(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(v, int) for v in value):
            raise Refusal("model-invalid", f"attribute {name} is no list of integers")
        return tuple(value) or default

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
