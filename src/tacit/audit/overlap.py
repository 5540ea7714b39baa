"""Rows that a reward was fitted on, among those that it is audited on: their numbers say nothing of new data.

A reward keeps hashes of the prompts and exchanges of its fit (`tacit.rewards.origin`). A row is one of the fit where
all of its exchanges are; one of its prompts where the prompt is, with other answers. Where all rows of the fit had the
same prompt, or none, only answers count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tacit.audit.arrays import Items
from tacit.audit.bootstrap import Index
from tacit.rewards.contract import Reward
from tacit.rewards.origin import origins_of


@dataclass(frozen=True)
class Seen:
    """Which rows (n,) bool the reward was fitted on, and which have a prompt that it was fitted on."""

    rows: np.ndarray
    prompts: np.ndarray


def seen(reward: Reward, items: Items, *sides: Index) -> Seen | None:
    """What the reward was fitted on of rows whose sides are these items, (n,) each; None where it does not remember."""
    origins = [origin for origin in origins_of(reward) if len(origin.responses)]
    if not origins:
        return None
    prompt, response = (np.zeros(len(items.prompts), bool) for _ in range(2))
    for origin in origins:
        prompts, responses = origin.knows(items.texts)
        prompt |= prompts & (len(origin.prompts) > 1)
        response |= responses
    rows = np.all([response[side] for side in sides], axis=0)
    return Seen(rows, rows | np.any([prompt[side] for side in sides], axis=0))


def seen_counts(reward: Reward, items: Items, *sides: Index) -> dict[str, int | None]:
    """`n_seen` and `n_seen_prompts` for metrics; None where the reward does not remember its fit."""
    found = seen(reward, items, *sides)
    names = ("n_seen", "n_seen_prompts")
    if found is None:
        return dict.fromkeys(names)
    return dict(zip(names, (int(found.rows.sum()), int(found.prompts.sum())), strict=True))


def warning(metrics: dict[str, Any], source: str) -> str:
    """One sentence on metrics of rows that are not new; empty where all are."""
    rows, prompts, total = (metrics.get(name) or 0 for name in ("n_seen", "n_seen_prompts", "n_test"))
    if not prompts:
        return ""
    others = prompts - rows
    also = f"{' and ' if rows else ''}{others:,} have a prompt of the fit with other answers" if others else ""
    first = f"{rows:,} were fitted on" if rows else ""
    return (
        f"{source}: of {total:,} rows {first}{also}, so that these numbers flatter the reward. Audit on evidence that"
        " it has not seen"
    )
