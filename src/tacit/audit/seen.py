"""The section of the report on rows that the reward was fitted on."""

from __future__ import annotations

from typing import Any

from tacit.audit.overlap import seen, warning
from tacit.audit.quality import accuracy_rows
from tacit.audit.sections import Finding, Section, Table
from tacit.audit.study import Study

_TITLE = "Rows that it was fitted on"
_FEW = 0.01
"""Share of rows from which on the numbers are not those of new data."""


def rows_of_the_fit(study: Study) -> Section:
    """How many comparisons are of the fit, and accuracy there and elsewhere."""
    found = seen(study.reward, study.items, study.pairs.a, study.pairs.b)
    if found is None:
        why = (
            "this reward does not remember which texts it was fitted on: it is older, or of a kind that keeps nothing."
        )
        return Section.missing("seen", _TITLE, why)
    total = study.n
    numbers: dict[str, Any] = {"rows": int(found.rows.sum()), "prompts": int(found.prompts.sum()), "comparisons": total}
    parts = {
        "comparisons of the fit": found.rows,
        "other answers to prompts of the fit": found.prompts & ~found.rows,
        "prompts that it has not seen": ~found.prompts,
    }
    parts = {name: mask for name, mask in parts.items() if mask.any()}
    rows = [] if study.undecided or len(parts) < 2 else accuracy_rows(study, list(parts.items()))
    said = warning({"n_seen": numbers["rows"], "n_seen_prompts": numbers["prompts"], "n_test": total}, study.source)
    severity: Any = "fault" if numbers["prompts"] >= _FEW * total else "warning"
    finding = [Finding("seen_in_fit", severity, f"{said}.", numbers)] if said else []
    lead = "Prompts and exchanges are compared by hashes that were kept with the reward. "
    lead += "None of these comparisons was fitted on, and no prompt of them." if not said else f"{said}."
    return Section("seen", _TITLE, lead, numbers, (), (Table(rows, "Accuracy"),) if rows else (), tuple(finding))
