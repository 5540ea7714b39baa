"""What the command line says of words that it does not take: the right one, and the flags of that verb alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from cyclopts import CycloptsError, UnknownOptionError
from pydantic import ValidationError

from tacit import terminal
from tacit.errors import TacitError, closest, flag


def sentence(error: CycloptsError) -> TacitError:
    """The error of a command as one sentence."""
    if error.msg is None and isinstance(error.__cause__, ValidationError):
        return TacitError(_value(error.__cause__.errors()[0]))
    command = " ".join(["tacit", *(error.command_chain or ())])
    listed = ""
    if isinstance(error, UnknownOptionError) and error.command_chain:
        verb, *words = error.root_input_tokens or ("",)
        flags = sorted(name for argument in error.argument_collection for name in argument.names if name[:2] == "--")
        name = (
            next((word for word in words if not word.startswith("-")), "") if verb in ("tune", "bench", "lab") else ""
        )
        others = _of_others(verb, name) if name else set()
        takes = ", ".join(known for known in flags if known.replace("--no-", "--") not in others)
        listed = f" `{' '.join(filter(None, (command, name)))}` takes {takes}."
    return TacitError(f"{' '.join(str(error).split())}{listed} See {command} --help")


def _value(problem: Any) -> str:
    """What is wrong with the value of an option."""
    named = [part.strip("_") for part in problem["loc"] if isinstance(part, str)]
    name = flag("_".join(named))
    if problem["type"] == "missing":
        return f"{name} is missing. Give it"
    expected = re.findall("'([^']*)'", str(problem.get("ctx", {}).get("expected", "")))
    near = closest(str(problem["input"]), expected)
    return f"{name} {problem['input']}: {problem['msg'].lower()}" + (f". Did you mean `{near}`?" if near else "")


def _of_others(verb: str, name: str) -> set[str]:
    """The flags of other methods of `tacit tune`, or of other suites of `tacit bench` or `lab`, that this one lacks."""
    own: Iterable[str] | None
    if verb == "tune":
        from tacit.demonstrations.run import TAKES as IMITATION
        from tacit.tuning.run import TAKES

        takes = {**TAKES, **IMITATION}
        every, own = {option for options in takes.values() for option in options}, takes.get(name)
    else:
        from tacit import bench
        from tacit.lab import experiments
        from tacit.options.common import Writing
        from tacit.options.trials import BenchOptions, LabOptions

        package, options = (bench, BenchOptions) if verb == "bench" else (experiments, LabOptions)
        every = options.model_fields.keys() - Writing.model_fields.keys() - {"out"}
        own = terminal.suite_options(package, name.replace("-", "_"))
    return set() if own is None else {flag(option) for option in every if option not in own}
