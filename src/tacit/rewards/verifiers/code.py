"""Unit tests as a check: a completion's Python code is run with the reference tests in a process of its own.

A second process watches over it (`tacit.rewards.verifiers.supervisor`): whatever the code starts ends with its test,
even what has left its session, and when this process is killed.

This is not a sandbox. Limits keep an endless loop or a greedy allocation from hurting the machine, and nothing more:
the code runs with the rights of the user who scores, and can read files and open connections. So it is off until
somebody asks for it, in each process anew (`allow_code`, `--run-code`); a saved reward cannot ask for itself. Run
untrusted code inside a container without a network.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tacit.errors import TacitError

_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_PATIENCE = 30.0
"""Seconds for starting Python and clearing up, beside those of the code."""
_allowed = False


def allow_code(allowed: bool = True) -> None:
    """Let checks of this process run the code in completions, or forbid it again (the default)."""
    global _allowed
    _allowed = allowed


@dataclass(frozen=True)
class UnitTests:
    """1 where the code of a completion runs and the reference answer, as Python tests (asserts) after it, passes.

    The code is the last fenced block, else the whole text. The tests see its names; `__name__` is not `__main__`, and
    standard input is empty. Ending the process early is a failure. Results near a limit depend on the machine.
    """

    kind: ClassVar[str] = "unit_tests"
    answered: ClassVar[bool] = True
    seconds: float = 5.0
    """Limit of wall-clock time, and (rounded up) of processor time."""
    memory_mb: int = 512
    """Limit of address space."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.memory_mb < 64:
            raise TacitError(
                f"limits of {self.seconds} s and {self.memory_mb} MB. Give more than 0 s and at least 64 MB"
            )

    def __call__(self, completion: str, answer: str | None) -> float:
        """1.0 or 0.0; raises `TacitError` where running code was not allowed, or the system has no such limits."""
        if not _allowed:
            raise TacitError(
                "unit tests run the code in completions, which is off, because it is no sandbox. Inside a container,"
                " give --run-code, or call tacit.rewards.verifiers.allow_code() in Python"
            )
        blocks = _FENCED.findall(completion)
        secret = secrets.token_hex(16)
        task = {
            **{"code": blocks[-1] if blocks else completion, "tests": str(answer), "secret": secret},
            **{"seconds": self.seconds, "cpu": int(self.seconds) + 1, "memory": self.memory_mb << 20},
        }
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(
                [sys.executable, "-I", str(_SUPERVISOR)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"PATH": os.defpath, "HOME": folder, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
            try:
                reply, _ = process.communicate(json.dumps(task).encode(), timeout=self.seconds + _PATIENCE)
            except subprocess.TimeoutExpired:
                return 0.0
            finally:
                _end(process)
        if process.returncode == 97:
            raise TacitError("this system has no resource limits, so unit tests cannot run. Score on Linux or macOS")
        return float(reply.decode("ascii", "replace") == secret)

    def reference_fault(self, answer: str) -> str | None:
        """Whether it is Python."""
        try:
            ast.parse(answer)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f"is no Python ({str(error)[:80]})"
        return None if answer.strip() else "holds no tests"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the supervisor, should it still be there, with its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
