"""Progress on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None, *, delay: float = 2.0) -> Iterator[T]:
    """Yield `items`, with a progress bar on stderr once the loop has taken `delay` seconds.

    Nothing is shown where stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, visible=False)
        start = time.monotonic()
        for item in items:
            yield item
            progress.update(task, advance=1, visible=time.monotonic() - start > delay)
