"""Runs cases in worker processes that are started again when they die, and judges how each case ended."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from scenarios import Case, make

SECONDS = 90.0
"""What a command may take."""


@dataclass
class Failure:
    """A case that ended otherwise than with a result or one sentence."""

    case: Case
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"seed {self.case.seed}: {self.reason}\n  tacit {' '.join(self.case.tokens)}\n{self.detail[-3000:]}"


@dataclass
class Worker:
    """A process of `fuzz_worker`, started when it is needed."""

    cache: Path
    scratch: Path
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    _pending: bytes = field(default=b"", repr=False)

    def answer(self, folder: Path, tokens: list[str]) -> dict[str, Any]:
        """How a command ended; where the process died or hung, {"died": why}."""
        process = self.process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps({"folder": str(folder), "tokens": tokens}).encode() + b"\n")
        process.stdin.flush()
        line = self._line(process)
        if line is not None:
            answer: dict[str, Any] = json.loads(line)
            return answer
        why = "hung" if process.poll() is None else f"died ({_signal_name(process.wait())})"
        self.stop()
        self.deaths += 1
        return {"died": why}

    def stop(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _start(self) -> subprocess.Popen[bytes]:
        self.cache.mkdir(exist_ok=True)
        self.scratch.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "TACIT_CACHE": str(self.cache),
            "TMPDIR": str(self.scratch),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py"))]
        self._pending = b""
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        return self.process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes | None:
        """The next line of the process, None where it ends or is silent for too long."""
        assert process.stdout is not None
        until = time.monotonic() + SECONDS
        while b"\n" not in self._pending:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
            block = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not block:
                time.sleep(0.2)  # a process that died is gone by now
                return None
            self._pending += block
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def _signal_name(code: int) -> str:
    import signal

    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def digest(folder: Path) -> dict[str, str]:
    """What lies under a folder: the content of every file, the target of every link."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            seen[name] = f"link to {path.readlink()}"
        elif path.is_file():
            seen[name] = hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()
        else:
            seen[name] = "folder" if path.is_dir() else "other"
    return seen


def judged(case: Case, before: dict[str, str], answer: dict[str, Any], scratch: Path) -> Failure | None:
    """What is wrong with how a case ended; None where nothing is."""
    if "died" in answer:
        return Failure(case, f"the process {answer['died']}")
    shown = answer["traceback"] or answer["err"]
    if answer["code"] == -1:
        return Failure(case, f"a traceback: {answer['traceback'].splitlines()[-1][:200]}", shown)
    if answer["code"] not in ((0, 1, 2) if "--reference" in case.tokens else (0, 2)):
        return Failure(case, f"exit status {answer['code']}", shown)
    lines = answer["err"].splitlines()
    if strange := [line for line in lines if not line.startswith("tacit: ")]:
        return Failure(case, f"a line on stderr that is no sentence: {strange[0][:200]}", shown)
    if answer["code"] == 2 and (not lines or len(lines) != len(set(lines)) or len(lines[-1]) > 2500):
        return Failure(case, f"{len(lines)} lines on stderr in place of one sentence", shown)
    after = digest(case.folder)
    if changed := [name for name in before if after.get(name) != before[name]]:
        return Failure(case, f"changed or lost: {', '.join(changed)}", shown)
    if stray := [name for name in after if name not in before and not _expected(case, Path(name), answer["code"])]:
        return Failure(case, f"left behind: {', '.join(stray[:5])}", shown)
    if left := sorted(path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor_")):
        for name in left:
            shutil.rmtree(scratch / name, ignore_errors=True) if (scratch / name).is_dir() else (
                scratch / name
            ).unlink()
        return Failure(case, f"left in the folder of temporary files: {', '.join(left[:5])}", shown)
    return None


def _expected(case: Case, new: Path, code: int) -> bool:
    """Whether a new file is what the command writes."""
    out = case.out.relative_to(case.folder)
    if any(part.startswith(".") and part != ".tacit.json" for part in new.parts) or (
        code == 2 and case.tokens[0] != "tune"
    ):
        return False
    stem = out.name.removesuffix(".gz").split(".")[0]
    beside = {f"{stem}.config.yaml", f"{stem}.curve.json", *(["metrics.json"] if out.suffix == ".html" else [])}
    return new == out or out in new.parents or (new.parent == out.parent and new.name in beside)


@contextmanager
def pool(folder: Path, count: int) -> Iterator[list[Worker]]:
    """Workers, each with a folder for its cache and one for its temporary files."""
    workers = [Worker(folder / f"cache-{i}", folder / f"scratch-{i}") for i in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def run(
    seeds: Iterable[int], folder: Path, world: Path, workers: list[Worker], *, whole: bool
) -> tuple[list[Failure], int]:
    """The failures among cases, whose folders are kept, and how many ended with a result (exit status 0)."""
    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(seed: int) -> tuple[Failure | None, bool]:
        case = make(seed, folder / f"case-{seed}", world, whole=whole)
        before, worker = digest(case.folder), free.get()
        try:
            answer = worker.answer(case.folder, case.tokens)
            failure = judged(case, before, answer, worker.scratch)
        finally:
            free.put(worker)
        if failure is None:
            shutil.rmtree(case.folder)
        return failure, answer.get("code") == 0

    with ThreadPoolExecutor(len(workers)) as threads:
        ended = list(threads.map(one, seeds))
    return [failure for failure, _ in ended if failure is not None], sum(sound for _, sound in ended)
