"""Progress on stderr, results on stdout: a bar on a terminal, a line now and then where stderr is a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

FIRST = 10.0
"""Seconds before the first line of a run that is piped."""
_LONGEST = 300.0
"""Most seconds between two lines."""


class Lines:
    """Lines such as `tacit: encoding: 1,024 of 9,000 (11%), 12 s, about 95 s left`, less often the longer it takes.

    The first comes after `FIRST` seconds, so that short runs say nothing, each later one after half as long again, and
    none more than five minutes after the last.
    """

    def __init__(self, description: str, total: int | None = None, *, done: int = 0) -> None:
        self.description, self.total, self.done = description, total, done
        self._begun, self._before = time.monotonic(), done
        self._next = FIRST

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more, and print a line where one is due; `note` stands at its end."""
        self.done += count
        spent = time.monotonic() - self._begun
        if spent < self._next:
            return
        self._next = spent + min(max(spent / 2, FIRST / 2), _LONGEST)
        print(f"tacit: {self._line(spent)}{', ' + note if note else ''}", file=sys.stderr, flush=True)

    def _line(self, spent: float) -> str:
        line = f"{self.description}: {self.done:,}"
        if not self.total:
            return f"{line}, {spent:.0f} s"
        line += f" of {self.total:,} ({self.done / self.total:.0%}), {spent:.0f} s"
        left = (self.total - self.done) * spent / max(1, self.done - self._before)
        return f"{line}, about {left:.0f} s left" if self.done < self.total else line


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    delay: float = 2.0,
    size: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Yield `items`, with a progress bar on stderr once the loop has taken `delay` seconds.

    Where stderr is not a terminal, `Lines` in place of the bar. `size` is what an item counts for, one by default.
    """
    if not sys.stderr.isatty():
        lines = Lines(description, total)
        for item in items:
            yield item
            lines.advance(size(item))
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, visible=False)
        start = time.monotonic()
        for item in items:
            yield item
            progress.update(task, advance=size(item), visible=time.monotonic() - start > delay)
