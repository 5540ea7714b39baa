"""What a run leaves to read: metrics.jsonl, sampled completions, a progress bar, and trackers of others.

    OUT/metrics.jsonl                   one line every logging_steps: means since the last line
    OUT/completions/step-000010.jsonl   some of the completions behind that line

A resumed run removes what was written after its checkpoint, and goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tacit.artefacts import atomic_file, remove_leftovers
from tacit.errors import TacitError
from tacit.progress import Lines
from tacit.tuning.processes import Processes

METRICS = "metrics.jsonl"
COMPLETIONS = "completions"


class Journal:
    """Writes in the main process; the others only count along."""

    def __init__(self, folder: Path, every: int, samples: int, report_to: Sequence[str], processes: Processes) -> None:
        self.folder, self.every, self.samples, self.processes = folder, max(1, every), samples, processes
        self.window: dict[str, list[float]] = {}
        """Sum and count of each metric since the last line."""
        self.lines = 0
        """Lines of metrics.jsonl."""
        self.evaluated: dict[str, float] = {}
        """The newest evaluation."""
        self.evaluated_at = -1
        self._trackers = _trackers(report_to, folder) if processes.main else []
        self._clock = time.perf_counter()

    def start(self, step: int, count: int | None = None) -> None:
        """Make room; drop lines and completions of later steps than `step`, and all lines but the first `count`.

        A line of the last evaluation has the step of the last checkpoint, and is written after it.
        """
        if not self.processes.main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / METRICS
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines[:count] if _step_of(line) <= step]
        self.lines = len(kept)
        with atomic_file(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), "utf-8")
        remove_leftovers(self.folder / COMPLETIONS)
        for file in (self.folder / COMPLETIONS).glob("step-*.jsonl"):
            number = file.stem.removeprefix("step-")
            if number.isdecimal() and int(number) > step:
                file.unlink()

    def log(
        self, step: int, metrics: Mapping[str, float], samples: Sequence[Mapping[str, Any]], evaluated: dict[str, float]
    ) -> None:
        """Note a step; every `every` steps, and where something was evaluated, it becomes a line."""
        for name, value in metrics.items():
            total = self.window.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += 1
        if evaluated:
            self.evaluated, self.evaluated_at = evaluated, step
        if step % self.every == 0 or evaluated:
            self._line(step, evaluated)
            self._samples(step, samples)

    def finish(self, step: int, evaluated: dict[str, float]) -> None:
        """The last line, and the trackers' end."""
        if self.window or (evaluated and self.evaluated_at != step):
            self._line(step, evaluated)
        for tracker in self._trackers:
            tracker.finish()

    @contextmanager
    def progress(self, name: str, done: int, total: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
        """A bar on stderr with the newest loss and reward; a line now and then where stderr is no terminal."""
        if not self.processes.main:
            yield lambda metrics: None
            return
        if not sys.stderr.isatty():
            lines = Lines(name, total, done=done)
            yield lambda metrics: lines.advance(note=_newest(metrics))
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[said]}"))  # noqa: E501  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=total, completed=done, said="")

            def advance(metrics: Mapping[str, float]) -> None:
                bar.update(task, advance=1, said=_newest(metrics))

            yield advance

    def _line(self, step: int, evaluated: Mapping[str, float]) -> None:
        means = {name: total / count for name, (total, count) in self.window.items()} | dict(evaluated)
        self.window = {}
        if not self.processes.main:
            return
        now = time.perf_counter()
        row = {"step": step, **{key: value for key, value in means.items() if math.isfinite(value)}}
        with (self.folder / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**row, "seconds": round(now - self._clock, 4)}) + "\n")
        self.lines += 1
        self._clock = now
        for tracker in self._trackers:
            tracker.log({key: value for key, value in row.items() if key != "step"}, step=step)

    def _samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        if not (self.processes.main and samples and self.samples):
            return
        with atomic_file(self.folder / COMPLETIONS / f"step-{step:06d}.jsonl") as temporary:
            rows = (json.dumps({"step": step, **row}, ensure_ascii=False) for row in samples[: self.samples])
            temporary.write_text("".join(f"{row}\n" for row in rows), "utf-8", errors="replace")


def _newest(metrics: Mapping[str, float]) -> str:
    """What a person watches."""
    return "  ".join(f"{key} {metrics[key]:.3f}" for key in ("loss", "reward", "kl") if key in metrics)


def _step_of(line: str) -> float:
    """The step of a line; a line that a kill cut short belongs to none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _trackers(names: Sequence[str], folder: Path) -> list[Any]:
    """accelerate's trackers by name; raises `TacitError` for one that is unknown or not installed."""
    if not names:
        return []
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    PartialState()
    known = {str(getattr(name, "value", name)): name for name in get_available_trackers()}
    made = []
    for name in names:
        if name not in known:
            raise TacitError(
                f"--report-to {name} is not installed. Installed here: {', '.join(sorted(known)) or 'none'}"
            )
        factory = LOGGER_TYPE_TO_CLASS[name]
        folders = {"logging_dir": str(folder / "trackers")} if factory.requires_logging_directory else {}
        tracker = factory(folder.name, **folders)
        if hasattr(tracker, "start"):
            tracker.start()
        made.append(tracker)
    return made
