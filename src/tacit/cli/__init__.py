"""The command line: one thin function per verb.

Results go to stdout, progress and errors to stderr. Heavy imports live inside the verbs: `tacit --help` loads none.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import CycloptsError

from tacit import terminal
from tacit.cli import fit, policy, trials, use  # noqa: F401 - each adds its verbs
from tacit.cli.app import app


def main(tokens: Sequence[str] | None = None) -> None:
    """Entry point: what a user can mend ends in one sentence on stderr and exit code 2."""
    with terminal.one_sentence():
        try:
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        except CycloptsError as error:
            from tacit.cli.mistakes import sentence

            raise sentence(error) from None
