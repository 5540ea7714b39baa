"""The experiment on tuning: its true reward by hand, and its table on the real model."""

from __future__ import annotations

import math

import pytest

from real_data import DATA
from tacit.lab.experiments.tuning import METHODS, Story, run, story_reward

TINY_LM = DATA / "tiny-lm"


def test_the_true_reward_by_hand() -> None:
    length = 0.5 * math.log(26 / 6)
    assert story_reward("The dog was happy today.") == pytest.approx(1.5 * math.tanh(0.5) - length)
    # five words, four of them used before: to repeat does not pay
    assert story_reward("happy happy Happy, happy happy!") == pytest.approx(1.5 * math.tanh(0.5) - 4 * 0.5 - length)
    assert story_reward("") == pytest.approx(-0.5 * math.log(26))
    assert Story().score(["p"], ["fun and love"]).shape == (1,)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_reward_that_is_tuned_for_goes_up_and_a_random_one_does_not() -> None:
    pytest.importorskip("transformers")
    if not TINY_LM.is_dir():
        pytest.skip(f"no {TINY_LM.name} in the data folder (TACIT_DATA)")
    table = run(data=TINY_LM, seeds=2, rows=4, pairs=400)["rows"]
    assert len(table) == 2 + 2 * len(METHODS)
    last = {row["method"]: row for row in table}
    assert last["grpo"]["proxy"] > last["no tuning"]["proxy"] + 0.2
    assert last["grpo, random reward"]["proxy"] < last["grpo"]["proxy"] - 0.2
    assert last["rloo, beta 0.1"]["kl"] < last["rloo"]["kl"]
