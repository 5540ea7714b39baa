"""What a section of an audit is: numbers, pictures, tables, and the findings that the verdict is made of.

A section is a pure function of a `Study` (`tacit.audit.study`). It computes nothing that another one has computed, and
where it cannot be computed it says why instead of being left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["fault", "warning", "advice", "good"]


@dataclass(frozen=True)
class Finding:
    """One plain sentence of the verdict."""

    key: str
    """A stable name, as `length_bias`; with `detail` it is what tests and CI look for."""
    severity: Severity
    """A fault forbids a use, a warning limits it, an advice says what to do next, a good says what holds."""
    sentence: str
    """What an engineer needs to know and can act on, with its number and interval."""
    detail: dict[str, Any] = field(default_factory=dict)
    """The numbers behind it, JSON-ready."""


@dataclass(frozen=True)
class Table:
    """Rows of named cells; a float is shown with three decimals, a pair of floats as an interval, text as it is."""

    rows: Sequence[dict[str, Any]]
    caption: str = ""

    @property
    def texts(self) -> set[str]:
        """Columns of running text, beside the first one: they break over lines, and the page folds such a table."""
        names = list(self.rows[0])[1:] if self.rows else []
        return {name for name in names if any(len(row[name]) > 40 for row in self.rows if isinstance(row[name], str))}


@dataclass(frozen=True)
class Figure:
    """A picture as inline SVG, and what can be read from it in words."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of the report; `absent` says why it could not be computed."""

    key: str
    title: str
    lead: str = ""
    """One or two sentences: what is shown and how it is measured."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Everything shown, JSON-ready, for metrics.json."""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    findings: tuple[Finding, ...] = ()
    absent: str = ""

    @classmethod
    def missing(cls, key: str, title: str, why: str) -> Section:
        """A section that cannot be computed from this evidence."""
        return cls(key, title, absent=why, numbers={"absent": why})
