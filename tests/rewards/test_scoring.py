"""Scores beside rows: numbers by hand for every kind, whatever the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tacit.conversation import completion_text, prompt_text
from tacit.errors import EvidenceError
from tacit.evidence import Evidence
from tacit.rewards.scoring import scored_rows


class Lengths:
    """Score = length of the completion plus a tenth of the prompt's; no members."""

    name = "lengths"

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
        return np.array(
            [len(completion_text(c)) + 0.1 * len(prompt_text(p)) for p, c in zip(prompts, completions, strict=True)],
            np.float32,
        )


class Ensemble(Lengths):
    """Two members, one and three times the lengths: mean 2 x, deviation with divisor 1 is sqrt(2) x."""

    def score_members(self, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
        once = Lengths.score(self, prompts, completions)
        return np.stack([once, 3 * once])


def rows(reward: Lengths, records: list[dict[str, Any]], **options: Any) -> list[dict[str, Any]]:
    batches = scored_rows(reward, Evidence.from_records(records), **options)
    return [row for batch in batches for row in batch]


def test_one_completion_has_one_score_and_other_columns_stay() -> None:
    (row,) = rows(Lengths(), [{"prompt": "p", "completion": "abc", "label": True, "source": "web"}])
    assert row == {
        "prompt": "p",
        "completion": "abc",
        "label": True,
        "source": "web",
        "score": pytest.approx(3.1),
    }


def test_members_give_a_spread() -> None:
    (row,) = rows(Ensemble(), [{"prompt": "", "completion": "abc"}])
    assert row["score"] == pytest.approx(6.0)
    assert row["score_std"] == pytest.approx(3 * np.sqrt(2))


def test_a_comparison_has_both_sides_and_their_difference() -> None:
    (row,) = rows(Ensemble(), [{"prompt": "", "chosen": "abc", "rejected": "a"}])
    assert (row["score_chosen"], row["score_rejected"], row["score"]) == (6.0, 2.0, 4.0)
    assert row["score_std"] == pytest.approx(2 * np.sqrt(2))
    assert "tie" not in row  # defaults that the file did not have are not written


def test_a_cross_prompt_comparison_scores_each_side_under_its_own_prompt() -> None:
    (row,) = rows(Lengths(), [{"prompt": "", "chosen": "ab", "rejected": "ab", "rejected_prompt": "x" * 10}])
    assert row["score"] == pytest.approx(-1.0)


def test_a_ranking_has_a_list() -> None:
    (row,) = rows(Ensemble(), [{"prompt": "", "completions": ["a", "abc"], "ranks": [2, 1]}])
    assert row["scores"] == [2.0, 6.0]
    assert row["scores_std"] == pytest.approx([np.sqrt(2), 3 * np.sqrt(2)])


def test_a_rating_keeps_what_people_gave() -> None:
    (row,) = rows(Lengths(), [{"prompt": "", "completion": "abc", "score": 9.0}])
    assert (row["score"], row["predicted_score"]) == (9.0, 3.0)


def test_messages_come_back_as_messages() -> None:
    messages = [{"role": "user", "content": "hi"}]
    (row,) = rows(Lengths(), [{"prompt": messages, "completion": [{"role": "assistant", "content": "abc"}]}])
    assert row["prompt"] == messages
    assert row["score"] == pytest.approx(3.2)


def test_rows_do_not_depend_on_the_batch() -> None:
    records = [{"prompt": "p" * i, "completions": ["x" * i, "y" * (7 - i)], "ranks": [1, 2]} for i in range(7)]
    assert rows(Ensemble(), records, size=2) == rows(Ensemble(), records)


def test_a_column_of_that_name_is_not_overwritten() -> None:
    records = [
        {"prompt": "", "chosen": "a", "rejected": "b"},
        {"prompt": "", "chosen": "a", "rejected": "b", "score": 1},
    ]
    with pytest.raises(EvidenceError, match=r"memory, column `score`: record 2 has a column of this name"):
        rows(Lengths(), records)


def test_a_kind_without_completions_is_refused() -> None:
    with pytest.raises(EvidenceError, match="kind problem holds no completions"):
        rows(Lengths(), [{"prompt": "1+1", "answer": "2"}])


class Circle(Ensemble):
    """Compares by the first letter, whatever the lengths; tells how many vowels there are."""

    def compare(self, prompts: Sequence[Any], first: Sequence[Any], second: Sequence[Any]) -> np.ndarray:
        return np.array([ord(a[0]) - ord(b[0]) for a, b in zip(first, second, strict=True)], np.float32)

    def details(self, prompts: Sequence[Any], completions: Sequence[Any]) -> dict[str, np.ndarray]:
        return {"vowels": np.array([sum(letter in "aeiou" for letter in c) for c in completions], np.float32)}


def test_a_comparison_is_scored_by_who_looks_at_both_and_details_stand_beside() -> None:
    found = rows(
        Circle(),
        [
            {"prompt": "", "chosen": "bee", "rejected": "a"},
            {"prompt": "", "chosen": "bee", "rejected": "a", "rejected_prompt": "else"},
        ],
    )
    assert [row["score"] for row in found] == [1.0, pytest.approx(2 * 3 - 2 * 1.4)]  # across prompts: a difference
    assert "score_std" not in found[0]
    assert (found[0]["score_chosen_vowels"], found[0]["score_rejected_vowels"]) == (2, 1)


def test_details_have_columns_for_every_kind() -> None:
    (outcome,) = rows(Circle(), [{"prompt": "", "completion": "bee", "label": True}])
    assert outcome["score_vowels"] == 2
    (rating,) = rows(Circle(), [{"prompt": "", "completion": "bee", "score": 1.0}])
    assert rating["predicted_score_vowels"] == 2
    (ranking,) = rows(Circle(), [{"prompt": "", "completions": ["bee", "b"], "ranks": [1, 2]}])
    assert ranking["scores_vowels"] == [2, 0]
