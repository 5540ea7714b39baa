"""NeMo RL's preference data: `context` (messages) and `completions`, a list of {rank, completion}.

The lowest rank is the best. Two completions are a comparison, more are a ranking (`--kind comparison` for all pairs).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from tacit.evidence.codes import dense_ranks
from tacit.evidence.layout import Row, Rows, layout, pair_of, without


def ranking(row: Row) -> Rows:
    """All completions of the context, the lowest rank first."""
    ranks = dense_ranks(item["rank"] for item in row["completions"])
    completions = [item["completion"] for item in row["completions"]]
    return [{**without(row, "context"), "prompt": row["context"], "completions": completions, "ranks": ranks}]


def pairs(row: Row) -> Rows:
    """Every pair of the completions; equal ranks tie."""
    (whole,) = ranking(row)
    kept = without(whole, "completions", "ranks")
    return [
        pair_of(kept, a, b, 0.5 if i == j else float(i < j))
        for (a, i), (b, j) in combinations(zip(whole["completions"], whole["ranks"], strict=True), 2)
    ]


def _is_ranked(row: Row) -> bool:
    items = row["completions"]
    if not isinstance(items, list) or not items or not isinstance(items[0], Mapping):
        return False
    return {"rank", "completion"} <= items[0].keys()


def _is_pair(row: Row) -> bool:
    return _is_ranked(row) and len(row["completions"]) == 2


LAYOUTS = (
    layout("nemo", "comparison", "context completions", pairs, _is_pair),
    layout("nemo", "ranking", "context completions", ranking, _is_ranked),
    layout("nemo", "comparison", "context completions", pairs, _is_ranked),
)
