"""Rows to look at: probably mislabelled, most contested, most influential.

What a fit that never saw a row thinks of it (`tacit.audit.crossfit`, bootstrap members) is compared with what the
person said. How many votes are the wrong way round is estimated by the flip model (`tacit.audit.flips`) on out-of-fold
log-odds d: plain noise makes votes uncertain where d is small, flips make them wrong where d is large. What a row does
to the fit is its influence on the loss of other prompts (`tacit.audit.influence`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.audit import calibration
from tacit.audit.bootstrap import Array, Index
from tacit.audit.crossfit import cross_fit
from tacit.audit.flips import fit_flips
from tacit.audit.influence import influence
from tacit.audit.sections import Finding, Section, Table
from tacit.audit.study import Study
from tacit.errors import TacitError

MEMBERS = 10
SHOWN = 10
_PAIRS = 20_000
_WORTH_NAMING = 0.02
"""A lower bound of the flip rate above this is a fault: a fiftieth of the votes."""


def rows_to_look_at(study: Study) -> Section:
    """The comparisons that a person should read first, with their row numbers."""
    title = "Rows to look at"
    if study.features is None:
        return Section.missing("rows", title, "this reward has no text features, so nothing can be fitted beside it.")
    if len(np.unique(study.blocks)) < 2:
        return Section.missing("rows", title, "only one prompt, so that nothing can be held out.")
    if (study.pairs.tie == 0).sum() < 50:
        return Section.missing("rows", title, "fewer than 50 decided comparisons.")
    rng = study.rng(20)
    keep = np.sort(rng.permutation(study.n)[:_PAIRS])
    pairs = study.pairs
    try:
        found = cross_fit(
            study.features,
            pairs.a[keep],
            pairs.b[keep],
            pairs.tie[keep],
            study.blocks[keep],
            weight=pairs.weight[keep],
            rng=rng,
            members=MEMBERS,
        )[0]
    except TacitError as error:
        return Section.missing("rows", title, str(error))
    delta = np.nan_to_num(found.delta)
    decided = pairs.tie[keep] == 0
    weight = pairs.weight[keep] * decided
    fitted = fit_flips(delta.mean(0), weight, study.clusters.take(keep), study.rng(21))
    flips = {"flips": fitted.flips, "flips_ci": fitted.flips_ci}
    doubt = mislabelled_score(delta)
    doubt[~decided] = 0.0
    worst = np.argsort(-doubt, kind="stable")[: max(SHOWN, int(np.ceil(fitted.flips * len(keep))))]
    contested = np.argsort(np.abs(delta.mean(0)) / (delta.std(0, ddof=1) + 1e-9), kind="stable")
    moved = influence(
        study.features,
        pairs.a[keep],
        pairs.b[keep],
        pairs.tie[keep],
        study.blocks[keep],
        weight=pairs.weight[keep],
        rng=study.rng(22),
        l2=found.l2,
    )
    influential = np.argsort(-np.abs(moved), kind="stable")
    numbers = {
        **flips,
        "looked_at": len(keep),
        "mislabelled_rows": study.row[keep[worst]].tolist(),
        "mislabelled_probability": doubt[worst].tolist(),
        "contested_rows": study.row[keep[contested[:SHOWN]]].tolist(),
        "influential_rows": study.row[keep[influential[:SHOWN]]].tolist(),
        "influence": moved[influential[:SHOWN]].tolist(),
    }
    findings = []
    if fitted.flips_ci and fitted.flips_ci[0] > _WORTH_NAMING:
        low, high = fitted.flips_ci
        findings.append(
            Finding(
                "mislabelled",
                "fault",
                f"About {fitted.flips:.0%} of the votes look the wrong way round (95% {low:.0%} to {high:.0%}): read "
                f"rows {', '.join(map(str, numbers['mislabelled_rows'][:5]))} first.",
                flips,
            )
        )
    return Section(
        "rows",
        title,
        f"{MEMBERS} bootstrap fits on other prompts vote on every comparison. Probably mislabelled: they agree against "
        "the person; contested: they disagree with each other; influential: what the loss on other prompts would gain "
        "(a thousandth of a nat) without it; below 0 the fit would be better off without it.",
        numbers,
        (),
        tuple(
            Table(_shown(study, keep[order[:SHOWN]], value[order[:SHOWN]], head), caption)
            for caption, order, value, head in (
                ("Probably mislabelled", worst, doubt, "P(other)"),
                ("Most contested", contested, doubt, "P(other)"),
                ("Most influential", influential, 1000 * moved, "influence"),
            )
        ),
        tuple(findings),
    )


def mislabelled_score(delta: Array) -> Array:
    """P(the other side is the better one), by out-of-fold log-odds (members, n) in favour of the side that was chosen:
    the mean over members of sigma(-delta), so that members that are unsure or disagree count for little."""
    return np.asarray(calibration.sigmoid(-delta).mean(0))


def _shown(study: Study, chosen: Index, value: Array, head: str) -> list[dict[str, Any]]:
    texts = study.items.texts
    return [
        {
            "row": int(study.row[i]),
            head: float(v),
            "prompt": _cut(texts[study.pairs.a[i]][0], 80),
            "preferred": _cut(texts[study.pairs.a[i]][1], 160),
            "other": _cut(texts[study.pairs.b[i]][1], 160),
        }
        for i, v in zip(chosen, value, strict=True)
    ]


def _cut(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
