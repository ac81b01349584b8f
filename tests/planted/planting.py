"""A bug, and what it takes to plant it and to take it out again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from unittest import mock


class Patches:
    """Functions replaced for a while."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Another value for an attribute of a module or class."""
        self._stack.enter_context(mock.patch.object(owner, name, value))

    def wrap(self, owner: Any, name: str, made: Callable[..., Any]) -> None:
        """A function or method that gets the original one as its first argument."""
        original = getattr(owner, name)
        self.put(owner, name, lambda *args, **given: made(original, *args, **given))

    def change(self, owner: Any, name: str, result: Callable[[Any], Any]) -> None:
        """A function or method whose result is changed."""
        self.wrap(owner, name, lambda original, *args, **given: result(original(*args, **given)))


@dataclass(frozen=True)
class Bug:
    """A slip as programmers make it, planted into a real pass.

    Attributes:
        name: what is wrong.
        stage: where.
        case: of `tests.planted.networks.CASES`.
        plant: puts it in.
    """

    name: str
    stage: str
    case: str
    plant: Callable[[Patches], None]
