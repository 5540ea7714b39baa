"""RewardBench 2: `prompt`, a list `chosen` of right and a list `rejected` of wrong completions.

Most rows have one right completion and three wrong ones (best of 4); rows of the subset Ties have several right ones.
Both are rankings with two places; `--kind comparison` reads every pair of a right and a wrong completion.
"""

from __future__ import annotations

from tacit.evidence.codes import answer
from tacit.evidence.layout import Row, Rows, is_messages, layout, without


def ranking(row: Row) -> Rows:
    """The right completions at rank 1, the wrong ones at rank 2."""
    chosen, rejected = ([answer(text, side) for text in row[side]] for side in ("chosen", "rejected"))
    ranks = [1] * len(chosen) + [2] * len(rejected)
    return [{**without(row, "chosen", "rejected"), "completions": [*chosen, *rejected], "ranks": ranks}]


def pairs(row: Row) -> Rows:
    """Every pair of a right and a wrong completion."""
    chosen, rejected = ([answer(text, side) for text in row[side]] for side in ("chosen", "rejected"))
    return [{**row, "chosen": c, "rejected": r} for c in chosen for r in rejected]


def _both_lists(row: Row) -> bool:
    sides = (row["chosen"], row["rejected"])
    return all(isinstance(side, list) and side and not is_messages(side) for side in sides)


LAYOUTS = (
    layout("reward_bench_2", "ranking", "prompt chosen rejected", ranking, _both_lists),
    layout("reward_bench_2", "comparison", "prompt chosen rejected", pairs, _both_lists),
)
