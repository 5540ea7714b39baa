"""Runs one piece of code with its tests, and ends whatever that has started: run by its path, imports nothing of Tacit.

The task is JSON on standard input; its secret goes to standard output where the tests passed. The code runs in a forked
process with limits. When that ends, when its time is over, or when the process that asked is gone, all descendants are
killed: this process adopts those that leave their session (on Linux; elsewhere the session alone is killed).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import time
from typing import Any

_SUBREAPER, _DEATH_SIGNAL = 36, 1
"""PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG of prctl(2)."""
_NO_LIMITS = 97
_CLEARING = 5.0
"""Seconds for which descendants are killed until none is left."""


def main() -> None:
    """Run the task, write its secret where it passed, and leave nothing behind."""
    parent = os.getppid()
    task = json.load(sys.stdin)
    try:
        import resource  # noqa: F401
    except ImportError:
        os._exit(_NO_LIMITS)
    _control(_SUBREAPER, 1)
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _run(task, sender)
    os.close(sender)
    orphaned = _wait(child, parent, time.monotonic() + task["seconds"])
    _clear(child)
    os.set_blocking(receiver, False)
    try:
        reply = os.read(receiver, 4096)
    except BlockingIOError:
        reply = b""
    if orphaned:
        shutil.rmtree(os.getcwd(), ignore_errors=True)
    elif reply == task["secret"].encode():
        os.write(1, reply)


def _run(task: dict[str, Any], sender: int) -> None:
    """The code and its tests, in the forked process; never returns."""
    os.setsid()
    _control(_DEATH_SIGNAL, signal.SIGKILL)
    _limit(task)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    secret = task.pop("secret")
    space = {"__name__": "solution"}
    try:
        exec(compile(task["code"], "solution.py", "exec"), space)
        exec(compile(task["tests"], "tests.py", "exec"), space)
    except BaseException:
        os._exit(1)
    os.write(sender, secret.encode())
    os._exit(0)


def _limit(task: dict[str, Any]) -> None:
    import resource

    limits = {
        resource.RLIMIT_CPU: task["cpu"],
        resource.RLIMIT_AS: task["memory"],
        resource.RLIMIT_FSIZE: 1 << 20,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _wait(child: int, parent: int, deadline: float) -> bool:
    """Until the child has ended or its time is over; True where the process that asked is gone."""
    pause = 0.001
    while time.monotonic() < deadline:
        if os.getppid() != parent:
            return True
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(pause)
        pause = min(0.02, 1.5 * pause)
    return os.getppid() != parent


def _clear(child: int) -> None:
    """Kill the child's session and every descendant, and wait for them."""
    deadline = time.monotonic() + _CLEARING
    while time.monotonic() < deadline:
        for process in _descendants():
            _kill(os.kill, process)
        _kill(os.killpg, child)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # nobody is left
            return
        time.sleep(0.001)


def _descendants() -> list[int]:
    """Processes below this one, by /proc; none where there is no such folder."""
    parents: dict[int, int] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for name in names:
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
    below, todo = [], [os.getpid()]
    while todo:
        parent = todo.pop()
        children = [process for process, its in parents.items() if its == parent]
        below += children
        todo += children
    return below


def _kill(by: Any, process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        by(process, signal.SIGKILL)


def _control(option: int, value: int) -> None:
    """prctl(2), where there is one."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
