"""Preference Proxy Evaluations (lmarena-ai/PPE-*).

- Human preferences: `question_id`, `prompt`, `response_1`, `response_2`, `model_a`, `model_b` and `winner`, which is
  `model_a` (response 1), `model_b` (response 2), `tie` or `tie (bothbad)`.
- Correctness (PPE-MATH-, GPQA-, MMLU-Pro-, IFEval-, MBPP-Plus-Best-of-K): `prompt`, `response_1` to `response_32` and
  `scores`, a list of whether each is right. An outcome for each response; with `--kind ranking` the right ones before
  the wrong ones; with `--kind comparison` the pairs of indices in `sampled_conflict_pairs`.
"""

from __future__ import annotations

from tacit.evidence.codes import answer, coded, compared, listed
from tacit.evidence.exports.arena import RIGHT, SHARES
from tacit.evidence.layout import LayoutError, Row, Rows, layout, pair_of, without

_SCORES = {"true": True, "false": False, 1: True, 0: False}


def comparisons(row: Row) -> Rows:
    """The two responses by the winner; a row without one gives none."""
    share = coded(row["winner"], SHARES, "winner", RIGHT)
    return compared(row, row, "response_1", "response_2", share)


def outcomes(row: Row) -> Rows:
    """Each response that has a score, with whether it is right."""
    kept = _beside(row)
    return [{**kept, "completion": text, "label": label} for text, label in _scored(row) if label is not None]


def ranking(row: Row) -> Rows:
    """The right responses at rank 1 and the wrong ones at rank 2, where there are both."""
    scored = [(text, label) for text, label in _scored(row) if label is not None]
    if len({label for _, label in scored}) < 2:
        return []
    ranks = [1 if label else 2 for _, label in scored]
    return [{**_beside(row), "completions": [text for text, _ in scored], "ranks": ranks}]


def conflicts(row: Row) -> Rows:
    """The sampled pairs of a right and a wrong response."""
    scored = _scored(row)
    records: Rows = []
    for i, j in listed(row, "sampled_conflict_pairs"):
        if not (i in range(len(scored)) and j in range(len(scored))):
            reason = "the pair names no two responses"
            raise LayoutError(reason, f"Give indices under {len(scored)}", "sampled_conflict_pairs", value=[i, j])
        (first, label), (second, other) = scored[i], scored[j]
        if label is not None and other is not None and label != other:
            records.append(pair_of(_beside(row), first, second, float(label)))
    return records


def _columns(row: Row) -> list[str]:
    return sorted(
        (name for name in row if name.startswith("response_") and name[9:].isdigit()), key=lambda n: int(n[9:])
    )


def _beside(row: Row) -> dict[str, object]:
    return without(row, *_columns(row), "scores", "parsed_outputs", "sampled_conflict_pairs")


def _scored(row: Row) -> list[tuple[str, bool | None]]:
    columns = _columns(row)
    labels = [coded(value, _SCORES, "scores", "true or false") for value in listed(row, "scores", len(columns))]
    return [(answer(row[name], name), label) for name, label in zip(columns, labels, strict=True)]


def _is_scored(row: Row) -> bool:
    return isinstance(row["scores"], list)


_MORE = " ".join(f"response_{i}" for i in range(3, 33))

LAYOUTS = (
    layout("ppe_human", "comparison", "question_id prompt response_1 response_2 model_a model_b winner", comparisons),
    layout("ppe_correctness", "outcome", "prompt response_1 response_2 scores", outcomes, _is_scored, uses=_MORE),
    layout("ppe_correctness", "ranking", "prompt response_1 response_2 scores", ranking, _is_scored, uses=_MORE),
    layout(
        "ppe_correctness",
        "comparison",
        "prompt response_1 response_2 scores sampled_conflict_pairs",
        conflicts,
        _is_scored,
        uses=_MORE,
    ),
)
