"""The section on rewards and policies that were learnt from demonstrations alone.

The numbers come from `tacit.demonstrations.audit`, which lies on the same floor as this room and is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.audit.sections import Finding, Section, Table
from tacit.audit.study import Study

_LEAD = (
    "Answers of the policy against demonstrations of the same prompts, by discriminators that are asked on prompts they"
    " have not seen: 0.5 is where nothing tells the two apart."
)


def imitation(study: Study, *, measured: Mapping[str, Any]) -> Section:
    """Can answers be told from demonstrations, by what, and are they copies of what was learnt from?"""
    rows = measured["told_apart"]
    by = {row["told apart by"]: row for row in rows}
    tables = [Table(rows, "Accuracy of telling answers from demonstrations")]
    findings = [_apart(by["features"], measured)]
    surface = max((by[name] for name in ("length", "surface")), key=lambda row: row["accuracy"])
    gained = by["features"]["accuracy"] - 0.5
    if gained > 0.1 and surface["accuracy"] - 0.5 > 0.8 * gained:
        findings.append(
            Finding(
                "demonstrations_surface",
                "warning",
                f"{surface['told apart by'].capitalize()} alone tells answers from demonstrations in"
                f" {surface['accuracy']:.0%} of cases: a reward that tells them apart may know no more than that.",
                {"accuracy": surface["accuracy"], "of": by["features"]["accuracy"]},
            )
        )
    if (copied := measured.get("memorisation")) is not None:
        tables.append(Table([copied], "Cosine with the nearest demonstration that was learnt from"))
        low = copied["share_nearer_ci"][0]
        if low > 0.05:
            findings.append(
                Finding(
                    "memorised",
                    "warning",
                    f"{copied['share_nearer']:.0%} of the answers lie nearer to a demonstration that was learnt from"
                    f" than 95% of held-out ones do ({copied['copies']:.0%} are copies): the policy memorises.",
                    dict(copied),
                )
            )
    return Section(
        "imitation",
        "From demonstrations",
        _LEAD,
        numbers=dict(measured),
        tables=tuple(tables),
        findings=tuple(findings),
    )


def _apart(row: Mapping[str, Any], measured: Mapping[str, Any]) -> Finding:
    low, high = row["accuracy_ci"]
    detail = {"accuracy": row["accuracy"], "accuracy_ci": [low, high], "mmd_p": measured["mmd_p"]}
    if low <= 0.5:
        sentence = f"Answers cannot be told from demonstrations ({row['accuracy']:.0%}, {low:.0%} to {high:.0%})."
        return Finding("demonstrations_same", "good", sentence, detail)
    sentence = (
        f"Answers can be told from demonstrations in {row['accuracy']:.0%} of cases ({low:.0%} to {high:.0%}; chance is"
        " 50%): there is something left to learn."
    )
    return Finding("demonstrations_apart", "advice", sentence, detail)
