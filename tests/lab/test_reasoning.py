"""The experiments on solutions: their worlds by hand, their claims over seeds, their tables on real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from real_data import DATA
from tacit.errors import TacitError
from tacit.lab.experiments import gsm8k, process

GSM8K = DATA / "gsm8k"


def test_choices_by_hand() -> None:
    right = np.array([[1.0, 0, 0, 1], [0, 0, 1, 0]])
    assert gsm8k.pick(np.array([[3.0, 1, 2, 3], [9, 1, 2, 3]]), right).tolist() == [1.0, 0.0]
    assert gsm8k.pick(np.zeros((2, 4)), right).tolist() == [0.5, 0.25]
    answers = [[5, 7, 7, 5], [1, 2, 3, None]]
    assert gsm8k.vote(answers, right, np.ones((2, 4))).tolist() == [0.5, 1 / 3]
    weight = np.array([[1.0, 0, 0, 0.5], [0, 0, 1, 9]])
    assert gsm8k.vote(answers, right, weight).tolist() == [1.0, 1.0]


def test_the_world_of_steps_is_what_it_says() -> None:
    rng = np.random.default_rng(0)
    hard = np.full(process.RULES, 0.2)
    rules = [np.arange(4)] * 50
    solved = process.solve(rules, 80, hard, rng)
    assert abs(solved.sound.mean() - 0.8**4) < 4 * np.sqrt(0.25 / 4000)
    assert solved.right[solved.sound == 1].all()
    assert abs(solved.right[solved.sound == 0].mean() - process.LUCK) < 0.02
    assert ((solved.answer == 0) == solved.right).all()


def test_continuations_know_what_came_before() -> None:
    rng = np.random.default_rng(0)
    rules, none = np.arange(3), np.zeros(process.RULES)
    sound = process.continuations(rules, np.array([0, 0, 0]), none, rng)
    assert all(all(of_step) for of_step in sound)
    lost = [process.continuations(rules, np.array([0, 1, 0]), none, rng) for _ in range(200)]
    assert all(all(of_steps[0]) for of_steps in lost)  # before the error
    assert abs(np.mean([of_steps[1] for of_steps in lost]) - process.LUCK) < 0.02
    assert abs(np.mean([of_steps[2] for of_steps in lost]) - process.LUCK) < 0.02


@pytest.mark.slow
def test_process_rewards_choose_better_than_outcome_rewards_from_few_solutions() -> None:
    rows = {(row["fitted_on"], row["choice"]): row for row in process.run(seeds=10, sizes=(100,), problems=60)["rows"]}
    for how in ("min", "product", "last"):
        assert rows["100 solutions", f"process, {how}"]["won_ci"][0] > 0
    chance, lot = rows["", "random reward"]["sound_ci"], rows["", "by lot"]["sound"]
    assert chance[0] < lot < chance[1]
    assert rows["100 solutions", "outcome inverted"]["sound"] < lot


def test_gsm8k_names_the_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match=r"example_model_solutions\.jsonl\.gz"):
        gsm8k.run(data=tmp_path)


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs the GSM8K files in ../shared/data")
def test_gsm8k_table() -> None:
    result = gsm8k.run(data=GSM8K, resamples=200, encoders=("hashed",))
    assert result["verifier"]["agreement"] > 0.995
    rows = {row["choice"]: row for row in result["rows"]}
    assert rows["by lot"]["accuracy"] == pytest.approx(2001 / 5276)
    assert rows["majority"]["won_ci"][0] > 0
    # Difficulty hides what tells right from wrong: the outcome reward orders problems, not answers.
    assert rows["outcome, hashed"]["auc_across"] > 0.6
    assert rows["within, hashed"]["accuracy"] > rows["outcome, hashed"]["accuracy"]
