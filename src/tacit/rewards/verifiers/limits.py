"""Time limits for what a library computes: in a worker process, which is killed and started anew.

Python cannot interrupt a regular expression, nor threads a computation of sympy; a process can be ended. It is started
when it is needed, answers one task after another, and goes when this one goes, however that ends. Limits are processor
time, so that a busy machine changes no result.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from tacit.errors import TacitError

_WORKER = Path(__file__).with_name("worker.py")
_PATIENCE = 60.0
"""Seconds of wall-clock time beside twenty times the limit, after which a worker that says nothing is given up."""


class TooSlow(Exception):
    """A task that took more time, or more memory, than it may."""


class Fault(Exception):
    """A task that the library refuses, with its words."""


def limited(operation: str, arguments: dict[str, Any], seconds: float) -> Any:
    """What `tacit.rewards.verifiers.worker` computes; raises `TooSlow` after so many seconds, and `Fault`."""
    reply = _worker.ask(json.dumps({"operation": operation, "arguments": arguments, "seconds": seconds}), seconds)
    if "fault" in reply:
        if str(reply["fault"]).startswith("MemoryError"):
            raise TooSlow
        raise Fault(reply["fault"])
    return reply["value"]


@lru_cache(maxsize=10_000)
def check_pattern(pattern: str) -> str:
    """The pattern; raises `TacitError` where it is no regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise TacitError(f"the regular expression {pattern[:80]!r} does not compile ({error}). Fix it") from error
    return pattern


def pattern_found(pattern: str, text: str, *, whole: bool = False, seconds: float = 5.0) -> bool:
    """Whether a regular expression is found in a text, or matches the whole of it.

    Raises `TacitError` naming the pattern where it does not compile or takes more than `seconds` of processor time.
    """
    check_pattern(pattern)
    try:
        result: bool = limited("found", {"pattern": pattern, "text": text, "whole": whole}, seconds)
    except TooSlow as error:
        raise TacitError(
            f"the regular expression {pattern[:80]!r} takes more than {seconds:g} s on a text of {len(text)} "
            "characters. Simplify it: repeats inside repeats, such as (a+)+, take exponential time"
        ) from error
    return result


class _Worker:
    """The process, and the lock under which it is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._replies: queue.Queue[str] = queue.Queue()

    def ask(self, task: str, seconds: float) -> dict[str, Any]:
        """The reply to one task; raises `TooSlow`."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                process = self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(task + "\n")
                process.stdin.flush()
                line = self._replies.get(timeout=20 * seconds + _PATIENCE)
            except (queue.Empty, OSError):
                line = ""
            if not line:
                status = self.end(grace=1.0)
                if status not in (-getattr(signal, "SIGVTALRM", 0), -getattr(signal, "SIGKILL", 0)):
                    raise Fault(f"its process ended with status {status}")
                raise TooSlow
            reply: dict[str, Any] = json.loads(line)
            return reply

    def end(self, grace: float = 0.0) -> int | None:
        """End the process after `grace` seconds at most, and give the status that it ended with."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        return process.wait()

    def _start(self) -> subprocess.Popen[str]:
        self.end()
        process = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER), json.dumps([os.path.abspath(path) for path in sys.path if path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._process, self._replies = process, queue.Queue()
        threading.Thread(target=_pass_on, args=(process.stdout, self._replies), daemon=True).start()
        return process


def _pass_on(stream: Any, replies: queue.Queue[str]) -> None:
    """Lines of a stream into a queue, and an empty one when it ends."""
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            replies.put(line)
    replies.put("")


_worker = _Worker()
atexit.register(lambda: _worker.end())


def _anew() -> None:
    """A forked process shares no worker with its parent."""
    global _worker
    _worker = _Worker()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew)
