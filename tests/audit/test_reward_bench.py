"""Best of n over rankings, and RewardBench 2's numbers, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.audit.metrics import evaluate
from tacit.audit.reward_bench import ties_score, top_1
from tacit.evidence import Evidence, Ranking


class Value:
    """Reads the score out of the completion: "3.5 any words" scores 3.5."""

    name = "value"

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        return np.array([float(c.split()[0]) for c in completions], dtype=np.float32)


def test_the_best_of_each_ranking_counts_and_equal_scores_share_it() -> None:
    rankings = [
        (["9 a", "1 b", "2 c"], [1, 2, 3]),  # right
        (["1 d", "9 e", "2 f"], [1, 2, 2]),  # wrong
        (["5 g", "5 h", "2 i"], [1, 2, 3]),  # half
        (["5 j", "5 k", "5 l", "5 m"], [1, 1, 1, 2]),  # three of four
        (["3 n", "4 o"], [1, 1]),  # says nothing
    ]
    evidence = Evidence.from_records(
        [Ranking(prompt=f"p{i}", completions=c, ranks=r) for i, (c, r) in enumerate(rankings)]
    )
    found = evaluate(Value(), evidence, resamples=100)
    assert found["top_1"] == pytest.approx((1 + 0 + 0.5 + 0.75) / 4)
    assert found["top_1_ci"][0] < found["top_1"] < found["top_1_ci"][1]
    assert "reward_bench_2" not in found
    groups, credit = top_1(np.array([1.0, 2.0]), np.array([0, 1]), np.array([7, 7]), np.array([-1.0, -2.0]))
    assert (groups.tolist(), credit.tolist()) == ([7], [0.0])


def test_ties_by_hand() -> None:
    """Two numbers with both rows, one reference alone.

    1: ref m = 3 - 1 = 2, tied m = 4 - 1 = 3, d = 5 - 4 = 1: both margins beat d; tanh(2 / 1 - 1).
    2: ref m = -1, tied m = 2 - 0 = 2, d = 4 - 2 = 2: neither beats d; tanh(-1 / 2 - 1).
    """
    ref = {"1": ([3.0], [1.0, 0.0]), "2": ([0.0], [1.0]), "3": ([1.0], [0.0])}
    tied = {"1": ([5.0, 4.0], [1.0]), "2": ([4.0, 2.0], [0.0])}
    arrays = [{n: (np.array(a), np.array(b)) for n, (a, b) in rows.items()} for rows in (ref, tied)]
    expected = 0.3 * 1.0 + 0.3 * 2 / 3 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * (np.tanh(1) + np.tanh(-1.5)) / 2
    assert ties_score(*arrays) == pytest.approx(expected)
    # With one right completion d is 0, and 0 / 0 counts nothing.
    same = {"1": (np.array([1.0]), np.array([1.0]))}
    assert ties_score(same, same) == pytest.approx(0.0)
    assert ties_score({}, {}) == 0.0


def test_the_published_file_gives_its_own_numbers(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "subset": "Factuality", "prompt": "q1", "chosen": ["4 a"], "rejected": ["1 b", "2 c", "3 d"]},
        {"id": "2", "subset": "Factuality", "prompt": "q2", "chosen": ["1 a"], "rejected": ["4 b", "2 c", "3 d"]},
        {"id": "3", "subset": "Math", "prompt": "q3", "chosen": ["4 a"], "rejected": ["4 b", "4 c", "4 d"]},
        {"id": "ref:0", "subset": "Ties", "prompt": "q4", "chosen": ["9 a"], "rejected": ["1 b", "2 c"]},
        {"id": "tied:0", "subset": "Ties", "prompt": "q5", "chosen": ["9 a", "8 b"], "rejected": ["2 c", "1 d"]},
    ]
    whole = {"num_correct": 1, "num_incorrect": 3, "total_completions": 4, "models": ["m"]}
    (tmp_path / "rb2.jsonl").write_text("".join(json.dumps({**row, **whole}) + "\n" for row in rows))
    found = evaluate(Value(), tacit.read(tmp_path / "rb2.jsonl"), resamples=50)["reward_bench_2"]
    ties = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * np.tanh(6 / 1 - 1)
    assert found["Factuality"] == pytest.approx(0.5)
    assert found["Math"] == pytest.approx(0.25)
    assert found["Ties"] == pytest.approx(ties)
    assert found["total"] == pytest.approx((0.5 + 0.25 + ties) / 3)
