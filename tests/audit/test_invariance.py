"""Invariance: rewards that depend on more than the text are told so, and sound ones are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.audit.invariance import asks_others, invariance, uncached
from tacit.evidence import Evidence
from tacit.rewards.combination import Part, WeightedSum

ROWS = [
    {"prompt": f"question {i % 40}", "chosen": f"thank you {i}, gladly", "rejected": f"NO, NOT {i}!"}
    for i in range(120)
]


class Batch:
    """Adds to every score something of the batch."""

    name = "batch"

    def __init__(self, of: str) -> None:
        self.of = of

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        base = np.array([len(str(c)) % 7 for c in completions], dtype=np.float64)
        if self.of == "batch size":
            base += 0.01 * len(base)
        if self.of == "order":
            base += 0.01 * np.arange(len(base))
        if self.of == "padding" and len(base):
            base += 1e-4 * max(len(str(c)) for c in completions)
        return base.astype(np.float32)


@pytest.mark.parametrize("of", ["batch size", "order", "padding"])
def test_a_reward_that_looks_at_its_batch_breaks_the_contract(study_of: Any, of: str) -> None:
    section = invariance(study_of(ROWS, Batch(of)))
    assert [f.key for f in section.findings] == ["breaks_contract"]
    rows = {row["what"].split(":")[0]: row for row in section.numbers["changes"]}
    assert not rows[of]["within tolerance"]
    if of == "batch size":  # 48 texts, scored alone: 47 hundredths less
        assert rows[of]["largest change"] == pytest.approx(0.47, abs=1e-5)
        study = study_of(ROWS, Batch(of))
        expected = np.mean((np.abs(study.delta) < 0.94) & (study.delta != 0))
        assert rows[of]["comparisons that could turn"] == pytest.approx(expected)
    assert rows["twice"]["largest change"] == 0


def test_a_sound_reward_is_left_alone(study_of: Any, tmp_path: Path) -> None:
    evidence = Evidence.from_records(ROWS, kind="comparison", source="rows")
    reward = tacit.fit(evidence, encoder="hashed", cache=tmp_path)
    section = invariance(study_of(ROWS, reward))
    assert section.findings == ()
    assert all(check["holds"] for check in section.numbers["checks"])
    rows = {row["what"]: row for row in section.numbers["changes"]}
    half, brain = rows["precision: features in float16"], rows["precision: features in bfloat16"]
    assert 0 < half["largest change"] < brain["largest change"]
    assert half["turned"] <= half["comparisons that could turn"] + 1e-9


def test_texts_are_encoded_anew(tmp_path: Path) -> None:
    evidence = Evidence.from_records(ROWS, kind="comparison", source="rows")
    reward = tacit.fit(evidence, encoder="hashed", cache=tmp_path, members=2, pessimism="min")
    again: Any = uncached(reward)
    assert again.inner.cache is None
    assert reward.inner.cache == tmp_path  # type: ignore[attr-defined]
    assert np.array_equal(again.score(["p"], ["c"]), reward.score(["p"], ["c"]))


def test_a_reward_that_asks_others_is_not_asked_again(study_of: Any) -> None:
    reward: Any = Batch("nothing")
    reward.usage = {"calls": 1}
    assert "paid for" in invariance(study_of(ROWS, reward)).absent
    # Nor is one that is a part of another.
    whole = WeightedSum((Part(reward, 1.0), Part(Batch("nothing"), 1.0)), name="sum")
    assert asks_others(whole)
    assert not asks_others(WeightedSum((Part(Batch("nothing"), 1.0),), name="sum"))
