"""The one family of errors that a user can cause and mend.

The command line turns a `TacitError` into one sentence on stderr and exit code 2; anything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable
from typing import Any

_ABSENT: Any = object()


class TacitError(Exception):
    """Something about the input or the installation that the user can fix; the message says how."""


class EvidenceError(TacitError):
    """Bad data: names the file, row, column and value, and what would be right.

    Rows are counted from 1, as an editor shows them (a CSV header is row 1, so its first record is row 2).
    """

    def __init__(
        self,
        reason: str,
        *,
        mend: str,
        source: str | None = None,
        row: int | None = None,
        column: str | None = None,
        value: Any = _ABSENT,
    ) -> None:
        self.reason, self.mend, self.source, self.row, self.column = reason, mend, source, row, column
        self.value = None if value is _ABSENT else value
        self._shown = value
        place = ", ".join(
            part
            for part in (source, f"row {row}" if row is not None else None, f"column `{column}`" if column else None)
            if part
        )
        self.found = "" if value is _ABSENT else f"found {_shorten(value)}"
        shown = f" ({self.found})" if self.found else ""
        super().__init__(f"{place + ': ' if place else ''}{reason}{shown}. {mend.rstrip('.')}")

    def in_row(self) -> str:
        """The row, the column, what is wrong there and the value, without the source and what would be right."""
        place = [f"row {self.row}"] if self.row is not None else []
        place += [f"column `{self.column}`"] if self.column else []
        found = f" ({self.found})" if self.found else ""
        return f"{', '.join(place)}: {self.reason}{found}" if place else f"{self.reason}{found}"

    def at(self, source: str) -> EvidenceError:
        """The same error with the name of its source; without the row, which was counted among records in memory."""
        return EvidenceError(self.reason, mend=self.mend, source=source, column=self.column, value=self._shown)


class FeatureError(TacitError):
    """Feature vectors that cannot be used: wrong shape, not finite, or not matching their rows."""


class ArtefactError(TacitError):
    """A saved folder that cannot be read: missing, damaged, or from a newer version."""


class MissingExtra(TacitError):
    """An optional package is needed; the message names the extra to install."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the extra `{extra}`. Install it with: pip install 'tacit[{extra}]'")


def extra_installed(*modules: str) -> bool:
    """Whether these top-level modules can be imported, without importing them."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The one of these names that somebody may have meant."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def choices(name: object, known: Iterable[str]) -> str:
    """What an error says of a name that is none of these: the closest one, and all."""
    names = list(known)
    near = closest(str(name), names)
    return (f"Did you mean `{near}`? " if near else "") + f"Choose one of: {', '.join(names)}"


def flag(option: str) -> str:
    """An option as it is typed."""
    return "--" + option.replace("_", "-")


def flags(options: Iterable[str]) -> str:
    """Options as they are typed, in the order of the alphabet."""
    return ", ".join(flag(option) for option in sorted(options))


def _shorten(value: Any, limit: int = 80) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of more than 4300 digits have no text, nor have deep lists
        text = f"a value of type {type(value).__name__} that is too large to show"
    return text if len(text) <= limit else text[: limit - 1] + "…"
