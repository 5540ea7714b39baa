"""Position bias: planted in votes, and in rewards that look at two answers at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacit.audit.bootstrap import Clusters
from tacit.audit.position import position, position_bias
from tacit.evidence import Evidence, read
from tacit.evidence.annotators import Annotator, comparisons, prefer


def votes(n: int, bias: float, seed: int, *, tie_threshold: float = 0.0) -> list[dict[str, Any]]:
    """Votes between completions whose text is their reward."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0, 1, (2, n)).round(6)
    people = [Annotator(position_bias=bias, tie_threshold=tie_threshold)]
    said = prefer(people, 0, first, second, rng=rng)
    made = comparisons([f"p{i}" for i in range(n)], [str(r) for r in first], [str(r) for r in second], said)
    return [record.model_dump(exclude_unset=True) for record in made]


def test_the_estimate_solves_the_likelihood_equations() -> None:
    # Without differences of score p is the log-odds of the share of wins of the first: 3 of 4.
    x = np.array([1.0, 1.0, 1.0, -1.0] * 50)
    one = np.ones(200)
    bias, slope, ends = position_bias(
        np.zeros(200), x, one, one, Clusters.of(np.arange(200)), 400, np.random.default_rng(0)
    )
    assert bias == pytest.approx(np.log(3), abs=1e-3)
    assert slope == 0
    # Binomial: the standard error of log-odds is 1 / sqrt(n p (1 - p)) = .163.
    assert ends is not None
    assert (ends[1] - ends[0]) / (2 * 1.96) == pytest.approx(0.163, abs=0.03)


@pytest.mark.statistical
def test_planted_bias_is_covered_and_none_is_named_without_one(study_of: Any) -> None:
    covered, named, alarms = [], [], []
    for seed in range(12):
        for bias, found in ((0.5, named), (0.0, alarms)):
            section = position(study_of(votes(1500, bias, seed, tie_threshold=0.2), float))
            people = section.numbers["people"]
            covered.append(people["95%"][0] <= bias * 0.98 and bias <= people["95%"][1] * 1.02 + 0.02)
            found.append(any(f.key == "position_bias" for f in section.findings))
    assert all(named)
    assert not any(alarms)
    assert np.mean(covered) >= 0.8


def test_first_wins_is_what_the_votes_say(study_of: Any) -> None:
    rows = votes(200, 0.0, 1)
    section = position(study_of(rows, float))
    assert section.numbers["people"]["first_wins"] == pytest.approx(np.mean([r["chosen_first"] for r in rows]))
    assert section.numbers["people"]["comparisons"] == 200


class Leaning:
    """Compares by score, and gives the first `lean` log-odds."""

    name = "leaning"

    def __init__(self, lean: float) -> None:
        self.lean = lean

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        return np.array([float(c) for c in completions], dtype=np.float32)

    def compare(self, prompts: Any, first: Any, second: Any) -> np.ndarray:
        return self.score(prompts, first) - self.score(prompts, second) + np.float32(self.lean)


class Asked(Leaning):
    """A judge that is asked in both orders, and so compares without its lean."""

    def compare(self, prompts: Any, first: Any, second: Any) -> np.ndarray:
        forth, back = self.both_orders(prompts, first, second)
        return ((forth - back) / 2).astype(np.float32)

    def both_orders(self, prompts: Any, first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
        return Leaning.compare(self, prompts, first, second), Leaning.compare(self, prompts, second, first)


@pytest.mark.parametrize(
    ("reward", "key"),
    [(Leaning(0.4), "reward_position_bias"), (Leaning(0.0), None), (Asked(0.4), "judge_position_bias")],
)
def test_a_reward_that_compares_is_asked_in_both_orders(study_of: Any, reward: Any, key: str | None) -> None:
    rows = votes(300, 0.0, 2)
    section = position(study_of(rows, reward))
    assert section.numbers["reward"]["bias"] == pytest.approx(reward.lean, rel=1e-5)
    values = np.array([float(r["chosen"]) - float(r["rejected"]) for r in rows])
    assert section.numbers["reward"]["consistent"] == pytest.approx(np.mean(np.abs(values) > reward.lean), abs=1e-9)
    assert {f.key for f in section.findings} == ({key} if key else set())


def test_what_cannot_be_told_is_said(study_of: Any) -> None:
    rows = [{k: v for k, v in row.items() if k != "chosen_first"} for row in votes(60, 0.0, 3)]
    assert "chosen_first" in position(study_of(rows, float)).absent
    always = [{**row, "chosen_first": True} for row in rows]
    assert "always shown first" in position(study_of(always, float)).absent
    assert (
        "fewer than 50"
        in position(study_of([{**r, "chosen_first": i % 2 == 0} for i, r in enumerate(rows[:20])], float)).absent
    )


def first_shown(row: dict[str, Any]) -> bool | None:
    (record,) = Evidence.from_records([row])
    return record.chosen_first  # type: ignore[attr-defined]


def test_layouts_keep_where_an_answer_stood(tmp_path: Any) -> None:
    row = {"prompt": "p", "left": "a", "right": "b", "winner": "right"}
    assert first_shown(row) is False
    assert first_shown({**row, "winner": "tie"}) is True
    # Systems may be shown in any order: their names say nothing of places.
    assert first_shown({"prompt": "p", "output_1": "a", "output_2": "b", "preference": 1}) is None
    file = tmp_path / "votes.csv"
    file.write_text("prompt,chosen,rejected,chosen_first\np,a,b,true\np,b,a,\n")
    assert [r.chosen_first for r in read(file)] == [True, None]  # type: ignore[attr-defined]
