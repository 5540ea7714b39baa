"""A process that runs commands through the application's entry point, one after another, and says how each ended.

Commands come as JSON lines on stdin, {"folder": ..., "tokens": [...]}; answers leave as JSON lines on the stdout that
it was started with. A command that kills the process gives no answer, which is how the other side knows.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import traceback
from typing import Any

MEMORY = 24 << 30
"""Bytes of address space; libraries reserve many times of what they use."""


def run(tokens: list[str]) -> dict[str, Any]:
    """How a command ends: its exit status, or the traceback of what came out of the entry point."""
    from tacit.cli import main

    start = time.monotonic()
    answer: dict[str, Any] = {"code": 0, "traceback": ""}
    try:
        main(tokens)
    except SystemExit as ended:
        answer["code"] = ended.code or 0
    except BaseException:
        answer |= {"code": -1, "traceback": traceback.format_exc()}
    return answer | {"seconds": time.monotonic() - start}


def captured(tokens: list[str], nowhere: int) -> dict[str, Any]:
    """`run`, with what went to file descriptors 1 and 2 beside it."""
    with tempfile.TemporaryFile(dir="/tmp") as out, tempfile.TemporaryFile(dir="/tmp") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        answer = run(tokens)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        for file, name in ((out, "out"), (err, "err")):
            file.seek(0)
            answer[name] = file.read().decode("utf-8", "backslashreplace")
    return answer


def main() -> None:
    """Answer until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for line in sys.stdin:
        command = json.loads(line)
        os.chdir(command["folder"])
        answers.write(json.dumps(captured(command["tokens"], nowhere)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
