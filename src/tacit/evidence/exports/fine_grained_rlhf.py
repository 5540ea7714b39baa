"""Fine-grained feedback on long answers (allenai/FineGrainedRLHF, tasks/qa_feedback): `question`, `passages`,
`prediction 1` to `prediction 4`, `preference` and `feedback`.

- `preference` has six verdicts, on the pairs 1-2, 1-3, 1-4, 2-3, 2-4, 3-4: 1 is the first of the pair, 2 the second and
  0 no preference. One comparison for each.
- `feedback.errors` are spans {start, end, error type} of `prediction 1`, counted in characters. With `--kind steps` its
  sentences are the steps, each wrong where a span touches it.

A passage is a list of its title and its sentences. The question and the passages are the prompt.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

from tacit.evidence.codes import answer, coded, joined, listed
from tacit.evidence.layout import Layout, Row, Rows, pair_of, without

_PREDICTIONS = tuple(f"prediction {i}" for i in range(1, 5))
_SHARES = {1: 1.0, 2: 0.0, 0: 0.5}
_SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s)|$)", re.DOTALL)


def comparisons(row: Row) -> Rows:
    """Six comparisons, less those that are blank."""
    verdicts = listed(row, "preference", 6)
    right = "1 (the first of the pair), 2 (the second) or 0 (no preference)"
    shares = [coded(verdict, _SHARES, "preference", right) for verdict in verdicts]
    pairs = combinations([answer(row[name], name) for name in _PREDICTIONS], 2)
    kept = _beside(row)
    return [pair_of(kept, a, b, share) for (a, b), share in zip(pairs, shares, strict=True) if share is not None]


def steps(row: Row) -> Rows:
    """The sentences of the first prediction, wrong where an error is marked in them."""
    text = answer(row["prediction 1"], "prediction 1")
    spans = [(error["start"], error["end"]) for error in row["feedback"]["errors"]]
    sentences = list(_SENTENCE.finditer(text))
    labels = [not any(start < found.end() and found.start() < end for start, end in spans) for found in sentences]
    return [{**_beside(row), "completions": [found[0] for found in sentences], "labels": labels}] if sentences else []


def _beside(row: Row) -> dict[str, Any]:
    passages = (joined(passage[0], " ".join(passage[1:])) for passage in row.get("passages") or ())
    return {**without(row, *_PREDICTIONS, "passages"), "prompt": joined(row["question"], *passages)}


_COLUMNS = frozenset({"question", "preference", *_PREDICTIONS})

LAYOUTS = (
    Layout("fine_grained_rlhf", "comparison", _COLUMNS, lambda row: True, comparisons, frozenset({"passages"})),
    Layout("fine_grained_rlhf", "steps", _COLUMNS | {"feedback"}, lambda row: True, steps, frozenset({"passages"})),
)
