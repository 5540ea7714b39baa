"""A process that has imported everything once, and runs each command in a fork of itself.

So a command starts at once, and a kill at a random moment strikes work and not imports. Requests come as JSON lines on
stdin: {"folder", "tokens", "log", "user"}; the answers on stdout are {"pid"} when the command begins and {"status"}, as
`os.waitpid` has it, when it has ended. With "user" the fork becomes that user first; "inside" runs the command without
a fork, so that what it imports is there for those who may not read it.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

MODULES = (
    "torch",
    "pyarrow.parquet",
    "sklearn.linear_model",
    "scipy.stats",
    "safetensors.torch",
    "duckdb",
    "matplotlib.figure",
)


def command(request: dict[str, Any]) -> int:
    """Run one command in this process; its exit status, 70 where it ends in a traceback."""
    import traceback

    from tacit.cli import main

    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if request.get("user"):
        os.setgid(request["user"])
        os.setuid(request["user"])
    os.chdir(request["folder"])
    code = 0
    try:
        main(request["tokens"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def serve() -> None:
    """Answer until stdin ends."""
    for name in ("tacit.cli", *MODULES, *sys.argv[1:]):
        import_module(name)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")

    def answer(value: dict[str, int]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({})
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("inside"):
            answer({"pid": os.getpid()})
            answer({"status": command(request) << 8})
            continue
        child = os.fork()
        if not child:
            os._exit(command(request))
        answer({"pid": child})
        answer({"status": os.waitpid(child, 0)[1]})


if __name__ == "__main__":
    serve()
