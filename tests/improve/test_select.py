"""Best-of-n over a file of candidates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.errors import EvidenceError, TacitError
from tacit.improve.select import Candidates, curve, curve_rows, read_candidates, select


class Lengths:
    name = "lengths"

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
        return np.array([len(c) for c in completions], np.float32)


def file(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "candidates.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def chosen(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [choice.row() for batch in select(Lengths(), read_candidates(path), **options) for choice in batch]


def test_lists_and_rows_that_follow_each_other_are_the_same_candidates(tmp_path: Path) -> None:
    lists = file(tmp_path, {"prompt": "p", "completions": ["a", "abc", "ab"], "gold": [1, 2, 3]})
    listed = list(read_candidates(lists))
    rows = file(
        tmp_path,
        *({"prompt": "p", "completion": c, "gold": g} for c, g in (("a", 1), ("abc", 2), ("ab", 3))),
        {"prompt": "q", "completion": "x", "gold": 0},
    )
    grouped = list(read_candidates(rows))
    assert listed == grouped[:1] == [Candidates(1, "p", ["a", "abc", "ab"], [1.0, 2.0, 3.0])]
    assert grouped[1] == Candidates(4, "q", ["x"], [0.0])


def test_the_best_is_chosen_and_the_first_of_equals(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        {"id": 7, "prompt": "p", "completions": ["a", "abc", "ab"], "gold": [1, 2, 3]},
        {"id": 8, "prompt": "q", "completions": ["xy", "zz"]},
    )
    assert chosen(path) == [
        {"id": 7, "prompt": "p", "completion": "abc", "score": 3.0, "index": 1, "n": 3, "gold": 2.0},
        {"id": 8, "prompt": "q", "completion": "xy", "score": 2.0, "index": 0, "n": 2},
    ]


def test_only_the_first_n_are_looked_at(tmp_path: Path) -> None:
    path = file(tmp_path, {"prompt": "p", "completions": ["a", "ab", "abc"]})
    assert [row["completion"] for row in chosen(path, n=2)] == ["ab"]
    with pytest.raises(TacitError, match=r"\.jsonl, row 1: 3 candidates, not 4\. Give more, or a smaller --n"):
        chosen(path, n=4)


def test_the_choice_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"prompt": str(i), "completions": ["x" * int(k) for k in rng.integers(1, 50, 6)]} for i in range(20)]
    path = file(tmp_path, *rows)
    assert chosen(path, size=1) == chosen(path, size=13) == chosen(path)


def test_the_curve_by_hand(tmp_path: Path) -> None:
    """Proxy 1 < 2 < 3 with gold 0, 4, 2: of the 3 pairs the winners have gold 4, 2, 2; of all three 2."""
    path = file(tmp_path, *({"prompt": p, "completions": ["a", "ab", "abc"], "gold": [0, 4, 2]} for p in "pq"))
    kept = [choice for batch in select(Lengths(), read_candidates(path)) for choice in batch]
    result = curve(kept, resamples=20)
    assert result["n"] == [1, 2, 3]
    assert result["gold"] == pytest.approx([2, 8 / 3, 2])
    assert result["longest"] == pytest.approx(result["gold"])  # length is the proxy here
    assert [row["choice"] for row in curve_rows(result)] == result["gold"]


def test_a_curve_needs_gold(tmp_path: Path) -> None:
    path = file(tmp_path, {"prompt": "p", "completions": ["a", "ab"]})
    kept = [choice for batch in select(Lengths(), read_candidates(path)) for choice in batch]
    with pytest.raises(TacitError, match="Add a gold column"):
        curve(kept)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"completions": ["a"]}], "row 1, column `prompt`: the column is missing"),
        ([{"prompt": "p"}], "row 1, column `completion`: the column is missing"),
        ([{"prompt": "p", "completions": []}], "row 1, column `completions`: the candidates are not a list"),
        ([{"prompt": "p", "completions": "abc"}], "the candidates are not a list of completions"),
        ([{"prompt": "p", "completions": ["a", "b"], "gold": [1]}], "column `gold`: the gold column does not fit"),
        ([{"prompt": "p", "completions": ["a"], "gold": ["high"]}], "the gold column does not fit"),
        (
            [{"prompt": p, "completion": "a"} for p in ("p", "q", "p")],
            "row 3, column `prompt`: this prompt was met before",
        ),
        (
            [{"prompt": "p", "completion": "a", "gold": 1}, {"prompt": "p", "completion": "b"}],
            "row 2, column `gold`: the gold column does not fit",
        ),
    ],
)
def test_bad_candidates_name_row_and_column(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        list(read_candidates(file(tmp_path, *rows)))
    assert said in str(caught.value)
