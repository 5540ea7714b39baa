"""What is wrong with data: which rows, why, and how to fix it.

One pass over the evidence in bounded memory: each record leaves a few hashes and numbers (`tacit.evidence.columns`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tacit.errors import EvidenceError
from tacit.evidence.columns import EMPTY_PROMPT, NOBODY, WEIGHTLESS, Columns, Ints, distinct, ints
from tacit.evidence.dataset import Evidence

_IMBALANCE = 0.05
_SHOWN = 5
"""Examples of a finding that its sentence shows; `Report.to_dict` has all."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `count` records have it, `rows` are the first of them.

    `examples` are the different values among these rows, each with the first row that has it.
    """

    level: Literal["error", "warning"]
    code: str
    reason: str
    mend: str
    count: int
    rows: list[int]
    column: str | None = None
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = ", ".join(map(str, self.rows)) + (", …" if self.count > len(self.rows) and self.rows else "")
        where = f" (row{'s' if len(self.rows) != 1 else ''} {rows})" if self.rows else ""
        shown = "".join(f"\n  {example}" for example in self.examples[:_SHOWN])
        shown += f"\n  and {len(self.examples) - _SHOWN} other values" if len(self.examples) > _SHOWN else ""
        return f"{self.level}: {self.reason}{where}. {self.mend}{shown}"


@dataclass(frozen=True)
class Report:
    """What `check` found. `statistics` describes the data whether or not something is wrong with it."""

    source: str
    kind: str
    layout: str
    findings: list[Finding]
    statistics: dict[str, Any]
    columns: dict[str, Any] = field(default_factory=dict)
    """Which columns are `read`, and as what, and which are `unused` and only kept."""

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop a fit or void its evaluation."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that weaken a fit."""
        return [finding for finding in self.findings if finding.level == "warning"]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "source": self.source,
            "kind": self.kind,
            "layout": self.layout,
            "ok": self.ok,
            "errors": [asdict(finding) for finding in self.errors],
            "warnings": [asdict(finding) for finding in self.warnings],
            "statistics": self.statistics,
            "columns": self.columns,
        }


def check(evidence: Evidence, *, against: Evidence | None = None, limit: int = 20) -> Report:
    """Everything that is wrong with `evidence`; with `against`, also the prompts that both hold.

    Errors: rows that are no records (each, grouped by reason), one class only (every comparison a tie, between equal
    answers or without weight counts as that), prompts shared with `against`, on either side of a comparison of two
    prompts. Warnings: repeated records, chosen equal to rejected, empty answers, votes that contradict each other, an
    answer length that decides the votes, parts that are no text, and rows of `against` that are no records. `limit`
    bounds the rows and examples listed per finding; counts are always complete.
    """
    columns = Columns()
    broken: dict[tuple[str, str | None], list[EvidenceError]] = {}
    counts: dict[tuple[str, str | None], int] = {}
    skipped = n = unread = 0
    for chunk in evidence.scan():
        for fault in chunk.faults:
            group = _group(fault)
            counts[group] = counts.get(group, 0) + 1
            if counts[group] <= limit:
                broken.setdefault(group, []).append(fault)
        columns.add(chunk.rows, chunk.records)
        skipped += chunk.skipped
        unread += chunk.unread
        n += len(chunk.records)
    findings = [
        Finding(
            "error",
            "broken_rows",
            (faults[0].reason if counts[group] == 1 else group[0]) + (f" in column `{group[1]}`" if group[1] else ""),
            faults[0].mend,
            counts[group],
            [fault.row for fault in faults if fault.row is not None],
            faults[0].column,
            _different(faults),
        )
        for group, faults in broken.items()
    ]
    table = columns.table()
    statistics: dict[str, Any] = {
        "records": n,
        "broken": sum(counts.values()),
        "rows_without_record": skipped,
        "prompts": distinct(np.concatenate([table["prompt"], table["prompt_2"]])),
        **_values(evidence.kind, table),
    }
    if unread:
        reason = f"{unread} records hold images or other parts that are no text, which are not read"
        mend = "Fine where the text alone decides; otherwise leave these records out"
        findings.append(Finding("warning", "unread_parts", reason, mend, unread, []))
    if n:
        findings += _records(evidence.kind, table, statistics, limit)
    if against is not None:
        findings += _leakage(table, against, statistics, limit)
    columns_of = {"read": dict(evidence.columns.read), "unused": list(evidence.columns.unused)}
    return Report(evidence.source, evidence.kind, evidence.layout, findings, statistics, columns_of)


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927): where |p - k/n| <= z sqrt(p(1-p)/n). (0, 1) where n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * np.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def _different(faults: list[EvidenceError]) -> list[str]:
    """What is wrong in rows, each different fault and value once, with the first row that has it."""
    first: dict[tuple[str, str | None, str], EvidenceError] = {}
    for fault in faults:
        first.setdefault((fault.reason, fault.column, fault.found), fault)
    return [fault.in_row() for fault in first.values()]


def _group(fault: EvidenceError) -> tuple[str, str | None]:
    reason = fault.reason.split(" (")[0] if fault.reason.startswith(("broken", "the row does not")) else fault.reason
    return reason, fault.column


def _values(kind: str, table: dict[str, Ints]) -> dict[str, Any]:
    """Statistics of what people said."""
    people = table["person"][table["person"] != NOBODY]
    values: dict[str, Any] = {"annotators": distinct(people)}
    outcome = table["outcome"]
    if kind == "comparison":
        values["ties"] = int((outcome == 0).sum())
        values["items"] = distinct(np.concatenate([table["first"], table["second"]]))
        decided = (outcome == 1) & (table["length"] != table["length_2"])
        longer = int((table["length"] > table["length_2"])[decided].sum())
        interval = wilson(longer, int(decided.sum()))
        values["longer_won"] = {
            "share": longer / int(decided.sum()) if decided.any() else None,
            "ci": list(interval),
            "n": int(decided.sum()),
        }
    if kind == "outcome":
        values["positive"] = int(outcome.sum())
    return values


def _records(kind: str, table: dict[str, Ints], statistics: dict[str, Any], limit: int) -> list[Finding]:
    findings = [_one_class(kind, table), _empty_answers(table, limit), _repeated(kind, table, statistics, limit)]
    if kind == "comparison":
        findings += [_same_answer(table, limit), _contradicting(kind, table, statistics, limit), _length(statistics)]
    if kind == "outcome":
        findings.append(_contradicting(kind, table, statistics, limit))
    return [finding for finding in findings if finding is not None]


def _finding(
    level: Literal["error", "warning"],
    code: str,
    reason: str,
    mend: str,
    rows: Ints,
    limit: int,
    count: int | None = None,
) -> Finding | None:
    count = len(rows) if count is None else count
    return Finding(level, code, reason, mend, count, np.sort(rows)[:limit].tolist()) if count else None


_CLASSES = {
    "outcome": ((0, 1), "every label is the same"),
    "rating": (None, "every score is the same"),
    "ranking": ((0,), "every ranking ties all of its completions"),
    "steps": ((-1, 1), "every step has the same label"),
}


def _one_class(kind: str, table: dict[str, Ints]) -> Finding | None:
    outcome = table["outcome"]
    if kind == "comparison":
        return _nothing_preferred(table)
    classes, reason = _CLASSES.get(kind, ((), ""))
    if np.any(outcome != outcome[0]) or (classes is not None and int(outcome[0]) not in classes):
        return None
    if kind in ("rating", "outcome") and len(outcome) == 1:
        reason = "there is one record only"
    mend = "There is nothing to learn from one class: add records of the other"
    return Finding("error", "one_class", reason, mend, len(outcome), [])


def _nothing_preferred(table: dict[str, Ints]) -> Finding | None:
    tie, weightless = table["outcome"] == 0, table["outcome"] == WEIGHTLESS
    equal = table["first"] == table["second"]
    if not np.all(tie | weightless | equal):
        return None
    reasons = {
        "every comparison is a tie": tie,
        "every comparison has weight 0": weightless,
        "every comparison has `chosen` equal to `rejected`": equal,
        "every comparison is a tie, has weight 0 or has equal answers": tie | weightless | equal,
    }
    reason = next(reason for reason, holds in reasons.items() if holds.all())
    mend = "There is nothing to learn from that: add comparisons that prefer one answer to another"
    return Finding("error", "one_class", reason, mend, len(tie), [])


def _empty_answers(table: dict[str, Ints], limit: int) -> Finding | None:
    rows = table["row"][table["empty"] > 0]
    return _finding(
        "warning", "empty_answer", f"{len(rows)} records have an empty answer", "Delete these rows", rows, limit
    )


def _same_answer(table: dict[str, Ints], limit: int) -> Finding | None:
    rows = table["row"][(table["first"] == table["second"]) & (table["outcome"] == 1)]
    reason = f"{len(rows)} comparisons have `chosen` equal to `rejected`"
    return _finding("warning", "same_answer", reason, "Delete these rows, or mark them as `tie`", rows, limit)


def _mixed(*hashes: Ints) -> npt.NDArray[np.uint64]:
    """One 64-bit hash of several per row, by the rounds of splitmix64 (each of them a bijection)."""
    state = np.zeros(len(hashes[0]), np.uint64)
    for column in hashes:
        state = state * np.uint64(0x9E3779B97F4A7C15) + column.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def _repeated(kind: str, table: dict[str, Ints], statistics: dict[str, Any], limit: int) -> Finding | None:
    """Later copies of the same record; a tie is the same whichever side is named first."""
    first, second = table["first"], table["second"]
    if kind == "comparison":
        tie = table["outcome"] == 0
        first, second = (
            np.where(tie, np.minimum(first, second), first),
            np.where(tie, np.maximum(first, second), second),
        )
    key = _mixed(table["prompt"], first, second, table["person"], table["outcome"])
    order = np.argsort(key, kind="stable")
    copies = order[1:][key[order[1:]] == key[order[:-1]]]
    statistics["duplicates"] = len(copies)
    known = bool(table["person"].any())
    mend = (
        "Delete the copies"
        if known or kind != "comparison"
        else "Delete them if they are copies; if they are votes of several people, add a column `annotator`"
    )
    return _finding(
        "warning", "duplicate", f"{len(copies)} records repeat an earlier one", mend, table["row"][copies], limit
    )


def _contradicting(kind: str, table: dict[str, Ints], statistics: dict[str, Any], limit: int) -> Finding | None:
    """Votes on the same pair (or answer) that are on its losing side, or one of two equal sides."""
    first, second = table["first"], table["second"]
    pairs = kind == "comparison"
    forward = first < second if pairs else table["outcome"] == 1
    votes = (table["outcome"] == 1) & (first != second) if pairs else np.ones(len(first), bool)
    low, high = (np.minimum(first, second), np.maximum(first, second)) if pairs else (first, second)
    key = _mixed(table["prompt"], low, high)[votes]
    if not len(key):
        return None
    _, pair, total = np.unique(key, return_inverse=True, return_counts=True)
    up = np.bincount(pair, weights=forward[votes], minlength=len(total)).astype(np.int64)
    minority = np.minimum(up, total - up)
    against = int(minority.sum())
    statistics["contradicting"] = {
        "pairs": int((minority > 0).sum()),
        "pairs_with_several_votes": int((total > 1).sum()),
        "minority_votes": against,
        "share_of_repeated_votes": against / int(total[total > 1].sum()) if (total > 1).any() else None,
    }
    rows = table["row"][votes][(minority > 0)[pair]]
    what = "pairs have votes for both sides" if pairs else "answers have both labels"
    reason = f"{int((minority > 0).sum())} {what}; {against} votes are against the majority of their own"
    mend = "Fine where people disagree (no reward can agree with those votes); otherwise keep one vote for each"
    return _finding("warning", "contradiction", reason, mend, rows, limit, int((minority > 0).sum()))


def _length(statistics: dict[str, Any]) -> Finding | None:
    longer = statistics["longer_won"]
    low, high = longer["ci"]
    if longer["share"] is None or (low <= 0.5 + _IMBALANCE and high >= 0.5 - _IMBALANCE):
        return None
    word = "longer" if longer["share"] > 0.5 else "shorter"
    share = max(longer["share"], 1 - longer["share"])
    return Finding(
        "warning",
        "length",
        f"the {word} answer won {share:.1%} of {longer['n']} comparisons (95% interval of the longer one's share"
        f" {low:.3f} to {high:.3f})",
        "A reward may learn length alone: compare its accuracy with the length-only control of `tacit audit`",
        longer["n"],
        [],
    )


def _leakage(table: dict[str, Ints], against: Evidence, statistics: dict[str, Any], limit: int) -> list[Finding]:
    columns, broken = Columns(), list[int]()
    for chunk in against.scan():
        columns.add(chunk.rows, chunk.records)
        broken.extend(fault.row or 0 for fault in chunk.faults)
    other = columns.table()
    everywhere = np.concatenate([side[name] for side in (table, other) for name in ("prompt", "prompt_2")])
    one_prompt = distinct(everywhere) <= 1  # or none: answers are then what must not be shared
    names = ("first", "second") if one_prompt else ("prompt", "prompt_2")
    theirs = np.unique(np.concatenate([other[name] for name in names]))
    theirs = theirs[(theirs != 0) & (theirs != EMPTY_PROMPT)]
    leaked = np.zeros(len(table["row"]), bool)
    for name in names:
        leaked |= np.isin(table[name], theirs)
    statistics["leaked_records"] = int(leaked.sum())
    reason = (
        f"{int(leaked.sum())} records have {'an answer' if one_prompt else 'a prompt'} that {against.source} has too"
    )
    mend = f"Split both again together, by {'item' if one_prompt else 'prompt'}"
    unread = f"{len(broken)} rows of {against.source} are no records and were not compared"
    findings = [
        _finding("error", "leakage", reason, mend, table["row"][leaked], limit),
        _finding("warning", "against_broken", unread, f"Run a check on {against.source}", ints(broken), limit),
    ]
    return [finding for finding in findings if finding is not None]
