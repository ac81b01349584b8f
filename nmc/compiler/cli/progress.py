"""Progress on stderr: only on a terminal, only for what takes over two seconds."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nmc.compiler.cli.rendering import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from nmc.compiler.cli.session import Session

PATIENCE_S = 2.0
"""A stage that is over sooner shows no bar."""


class ProgressBar:
    """Called with (text, fraction) by whoever works; shows a bar once it lasts.

    Args:
        session: of the command.
        samples: how many the work is done on: their rate is shown then.
    """

    def __init__(self, session: Session, samples: int | None = None) -> None:
        self._session, self._samples = session, samples
        self._wanted = not session.quiet and not session.json and session.err.is_terminal
        # The first call may come when much is done already.
        self._begin = self._opened = time.monotonic()
        self._text = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, text: str, fraction: float) -> None:
        """The work called ``text`` is done to ``fraction`` (0 to 1)."""
        if not self._wanted:
            return
        if text != self._text:
            self._text, self._begin = text, time.monotonic()
        if self._bar is None and (time.monotonic() - self._begin < PATIENCE_S or fraction >= 1.0):
            return
        if self._bar is None:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:.0f} %"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._session.err,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(printable(text), total=1.0, rate="")
        if self._task is not None:
            self._bar.update(self._task, description=printable(text), completed=fraction, rate=self._rate(fraction))

    def _rate(self, fraction: float) -> str:
        """Samples per second since the bar was made."""
        passed = time.monotonic() - self._opened
        if self._samples is None or passed <= 0:
            return ""
        return f"{fraction * self._samples / passed:,.1f} samples/s"
