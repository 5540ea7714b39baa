"""The command line: one thin function per verb.

Results go to stdout, progress and errors to stderr. Heavy imports live inside the verbs: `tacit --help` loads none.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import CycloptsError
from pydantic import ValidationError

from tacit import terminal
from tacit.cli import fit, policy, trials, use  # noqa: F401 - each adds its verbs
from tacit.cli.app import app
from tacit.errors import TacitError


def main(tokens: Sequence[str] | None = None) -> None:
    """Entry point: what a user can mend ends in one sentence on stderr and exit code 2."""
    with terminal.one_sentence():
        try:
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        except CycloptsError as error:
            if error.msg is None and isinstance(error.__cause__, ValidationError):
                first = error.__cause__.errors()[0]
                named = [part.strip("_") for part in first["loc"] if isinstance(part, str)]
                name = "--" + "-".join(named).replace("_", "-")
                if first["type"] == "missing":
                    raise TacitError(f"{name} is missing. Give it") from None
                raise TacitError(f"{name} {first['input']}: {first['msg'].lower()}") from None
            command = " ".join(["tacit", *(error.command_chain or ())])
            raise TacitError(f"{' '.join(str(error).split())} See {command} --help") from None
