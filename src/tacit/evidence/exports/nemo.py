"""NeMo RL's preference data: `context` (messages) and `completions`, a list of {rank, completion}.

The lowest rank is the best. Two completions are a comparison, more are a ranking (`--kind comparison` for all pairs).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from tacit.evidence.codes import answer, dense_ranks, number
from tacit.evidence.layout import Row, Rows, layout, pair_of, without


def ranking(row: Row) -> Rows:
    """All completions of the context that have a rank, the lowest being the best."""
    ranked = [(item, number(item["rank"], "completions", "a rank for each")) for item in row["completions"]]
    kept = [(answer(item["completion"], "completions"), rank) for item, rank in ranked if rank is not None]
    if len(kept) < 2:
        return []
    completions, ranks = [text for text, _ in kept], dense_ranks(rank for _, rank in kept)
    return [{**without(row, "context"), "prompt": row["context"], "completions": completions, "ranks": ranks}]


def pairs(row: Row) -> Rows:
    """Every pair of the completions; equal ranks tie."""
    return [
        pair_of(without(whole, "completions", "ranks"), a, b, 0.5 if i == j else float(i < j))
        for whole in ranking(row)
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
