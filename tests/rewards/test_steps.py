"""Solutions in steps: pure functions by hand, process rewards, prefix rewards, outcomes of one prompt."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tacit
from numerics import assert_float32_close
from tacit.audit.steps import evaluate_steps
from tacit.errors import EvidenceError, TacitError
from tacit.evidence import Comparison, Evidence, Outcome, Steps
from tacit.rewards.check import check_reward
from tacit.rewards.contract import PrefixLevel, StepLevel
from tacit.rewards.prefixes import PrefixReward, prefix_pairs
from tacit.rewards.solutions import (
    aggregate_steps,
    continuation_labels,
    cut_steps,
    join_steps,
    natural_cut,
    prefixes,
    treat_after_error,
    whole_solution,
)
from tacit.rewards.steps import ProcessReward, prefix_outcomes
from tacit.rewards.within import outcome_pairs

# --- pure ---


def test_steps_are_cut_by_the_rule() -> None:
    text = " One. Two!\n\nThree,\nfour? "
    assert cut_steps(text, "newline") == ["One. Two!", "Three,", "four?"]
    assert cut_steps(text, "paragraph") == ["One. Two!", "Three,\nfour?"]
    assert cut_steps(text, "sentence") == ["One.", "Two!", "Three,\nfour?"]
    assert cut_steps(text, "list") == ["One. Two!\n\nThree,\nfour?"]
    assert cut_steps("", "newline") == [""]
    with pytest.raises(TacitError, match="newline, paragraph, sentence, list"):
        cut_steps(text, "words")  # type: ignore[arg-type]


def test_hostile_texts_are_cut_in_time() -> None:
    """A pattern that takes quadratic time on these would run into the time limit of the test."""
    wide = "a" + " " * 100_000 + "b"
    for cut in ("newline", "paragraph", "sentence"):
        assert cut_steps(wide, cut) == [wide]
        assert cut_steps("a.\n\n" + "\n" * 100_000 + "b", cut) == ["a.", "b"]


@given(st.lists(st.text("ab .\n", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=5))
def test_the_natural_cut_gives_the_steps_back(steps: list[str]) -> None:
    cut = natural_cut([steps])
    assert cut_steps(whole_solution(steps, cut), cut) == steps


def test_prefixes_are_joined_as_they_are_cut() -> None:
    assert prefixes(["a", "b", "c"], "paragraph") == ["a", "a\n\nb", "a\n\nb\n\nc"]
    assert join_steps(["A.", "B."], "sentence") == "A. B."


def test_aggregates_by_hand() -> None:
    p = np.array([0.9, 0.8, 0.5])
    logits = np.log(p / (1 - p))
    assert aggregate_steps(logits, [3], "min")[0] == pytest.approx(0.0)
    assert aggregate_steps(logits, [1, 2], "last") == pytest.approx([np.log(9), 0.0])
    whole = 0.9 * 0.8 * 0.5
    assert aggregate_steps(logits, [3], "product")[0] == pytest.approx(np.log(whole / (1 - whole)))
    assert aggregate_steps([[800.0, -800.0]], [1, 1], "product")[0] == pytest.approx([np.log(1e7), -800.0], rel=1e-4)
    assert aggregate_steps(np.zeros((2, 0)), [], "min").shape == (2, 0)


@given(st.lists(st.floats(-12, 12), min_size=1, max_size=8))
def test_aggregates_are_ordered_and_equal_for_one_step(logits: list[float]) -> None:
    least, product = (float(aggregate_steps(logits, [len(logits)], how)[0]) for how in ("min", "product"))  # type: ignore[arg-type]
    assert product <= least + 1e-4
    if len(logits) == 1:
        assert product == pytest.approx(least, abs=1e-4)


def test_continuations_by_hand() -> None:
    outcomes = [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert continuation_labels(outcomes, "hard").tolist() == [1, 1, 0]
    assert continuation_labels(outcomes, "soft").tolist() == [0.5, 0.25, 0]
    for bad in ([[0.5]], [[]]):
        with pytest.raises(TacitError, match="continuation"):
            continuation_labels(bad)


def test_steps_after_the_first_error() -> None:
    labels = [1, 0, 1, 1]
    for how, values, kept in (
        ("drop", [1, 0, 1, 1], [True, True, False, False]),
        ("keep", [1, 0, 1, 1], [True] * 4),
        ("wrong", [1, 0, 0, 0], [True] * 4),
    ):
        found, learnt = treat_after_error(labels, how)  # type: ignore[arg-type]
        assert (found.tolist(), learnt.tolist()) == (values, kept)


# --- process rewards ---


def solutions(n: int = 160, seed: int = 0, continuations: bool = False) -> list[Steps]:
    """Solutions of two to five lines, of which one may be a guess; a guess is wrong, and nothing after it counts."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        count = rng.randint(2, 5)
        bad = rng.choice([None, rng.randrange(count)])
        steps = [
            f"Line {k}: {'so we guess' if k == bad else 'the sum is clear'} {rng.randint(1, 99)}." for k in range(count)
        ]
        labels = [bad is None or k < bad for k in range(count)]
        extra: dict[str, Any] = {}
        if continuations:
            extra["continuations"] = [[rng.random() < (0.7 if label else 0.05) for _ in range(6)] for label in labels]
        rows.append(Steps(prompt=f"problem {i % 50}", completions=steps, labels=labels, **extra))
    return rows


@pytest.fixture(scope="module")
def process() -> ProcessReward:
    reward = tacit.fit(solutions(), encoder="hashed", members=2, seed=0)
    assert isinstance(reward, ProcessReward)
    return reward


def test_one_example_for_each_prefix_up_to_the_first_error() -> None:
    record = Steps(prompt="p", completions=["a", "b", "c"], labels=[True, False, True])
    drop = prefix_outcomes([record], "newline")
    assert [(o.completion, o.label) for o in drop] == [("a", 1.0), ("a\nb", 0.0)]
    wrong = prefix_outcomes([record], "newline", "wrong")
    assert [o.label for o in wrong] == [1.0, 0.0, 0.0]


def test_fit_takes_a_process_reward_for_steps_and_it_finds_errors(process: ProcessReward) -> None:
    assert isinstance(process, StepLevel)
    assert isinstance(process, PrefixLevel)
    steps = ["Line 0: the sum is clear 5.", "Line 1: so we guess 7.", "Line 2: the sum is clear 9."]
    (scores,) = process.score_steps(["problem 999"], [steps])
    assert scores[0] > 0 > scores[1]
    whole = process.score(["problem 999"], ["\n".join(steps)])
    assert_float32_close(whole[0], scores.min(), scale=float(np.abs(scores).max()))


def test_a_step_knows_nothing_of_what_follows(process: ProcessReward) -> None:
    steps = ["Line 0: the sum is clear 5.", "Line 1: the sum is clear 7.", "Line 2: so we guess 9."]
    (whole,) = process.score_steps(["x"], [steps])
    (part,) = process.score_steps(["x"], [steps[:2]])
    assert_float32_close(whole[:2], part)
    assert process.score_steps([], []) == []
    with pytest.raises(TacitError, match="has no steps"):
        process.score_steps(["x"], [[]])


def test_the_process_reward_keeps_the_contract(process: ProcessReward) -> None:
    assert [str(f) for f in check_reward(process, new_process=True) if not f.ok] == []


@pytest.mark.parametrize("how", ["min", "product", "last"])
def test_every_aggregate_keeps_the_contract(process: ProcessReward, how: Any) -> None:
    reward = ProcessReward(process.step, process.cut, how)
    assert [str(f) for f in check_reward(reward) if not f.ok] == []


def test_soft_labels_are_the_shares_themselves() -> None:
    records = solutions(40, continuations=True)
    soft = prefix_outcomes(records, "newline", "keep", "soft")
    first = np.mean(records[0].model_extra["continuations"][0])  # type: ignore[index]
    assert soft[0].label == pytest.approx(first)
    reward = tacit.fit(records, encoder="hashed", step_labels="soft", after_error="keep")
    assert isinstance(reward, ProcessReward)
    (scores,) = reward.score_steps(["p"], [["Line 0: the sum is clear 5.", "Line 1: so we guess 7."]])
    assert scores[0] > scores[1]


@pytest.mark.parametrize("given", [None, [[True]], [[True], [0.5], [True]], [[True], [], [True]]])
def test_bad_continuations_name_their_row(given: Any) -> None:
    extra = {} if given is None else {"continuations": given}
    record = Steps.model_validate({"prompt": "p", "completions": ["a", "b", "c"], "labels": [True] * 3, **extra})
    with pytest.raises(EvidenceError, match="row 1, column `continuations`"):
        tacit.fit([record], step_labels="hard", encoder="hashed")


def test_a_process_reward_refuses_what_it_cannot_learn_from() -> None:
    with pytest.raises(EvidenceError, match="one class only"):
        tacit.fit([Steps(prompt="p", completions=["a"], labels=[True])] * 3, encoder="hashed")
    with pytest.raises(EvidenceError, match="fitted on steps, not on outcomes"):
        tacit.fit([Outcome(prompt="p", completion="a", label=True)], model="process", encoder="hashed")
    with pytest.raises(TacitError, match="Choose one of: min, product, last"):
        tacit.fit(solutions(10), encoder="hashed", aggregate="mean")


def test_audit_of_steps_by_hand() -> None:
    class Known:
        name = "known"
        values: tuple[list[float], ...] = ([2.0, -1.0, 3.0], [1.0, 0.5], [0.0, -2.0])

        def score(self, prompts: Any, completions: Any) -> np.ndarray:
            return np.array([min(v) for v in self.values], dtype=np.float32)

        def score_steps(self, prompts: Any, solutions: Any) -> list[np.ndarray]:
            return [np.array(v, dtype=np.float32) for v in self.values]

    records = [
        Steps(prompt="p", completions=["a", "b", "c"], labels=[True, False, True]),
        Steps(prompt="q", completions=["d", "e"], labels=[True, True]),
        Steps(prompt="r", completions=["f", "g"], labels=[False, True]),
    ]
    found = evaluate_steps(Known(), Evidence.from_records(records), resamples=20)
    # judged: 2 right, -1 wrong | 1 right, .5 right | 0 wrong
    assert found["n_steps"] == 5
    assert found["step_accuracy"] == 1.0
    losses = np.logaddexp(0, [-2.0, -1.0, -1.0, -0.5, 0.0])
    assert found["step_nll"] == pytest.approx(losses.mean())
    assert found["first_error"] == 0.5  # step b is the lowest of its solution, f is not
    assert found["first_error_chance"] == pytest.approx((1 / 3 + 1 / 2) / 2)


# --- prefixes ---


def test_prefix_pairs_are_equally_long_and_weigh_as_one() -> None:
    record = Comparison(prompt="p", chosen="a b c d e f g", rejected="a b x d e", weight=2.0)
    pairs = prefix_pairs(record, stride=2)
    assert [(p.chosen, p.rejected) for p in pairs] == [
        ("a b c d", "a b x d"),  # the first two words are equal, and left out
        ("a b c d e f g", "a b x d e"),
    ]
    assert sum(p.weight for p in pairs) == pytest.approx(2.0)
    with pytest.raises(TacitError, match="stride"):
        prefix_pairs(record, stride=0)


def test_a_prefix_reward_knows_early_what_a_whole_one_learns_late(tmp_path: Path) -> None:
    rng = random.Random(0)
    filler = [f"word{i}" for i in range(60)]

    def side(good: bool) -> str:
        return f"{'kindly' if good else 'rudely'} " + " ".join(rng.choices(filler, k=rng.randint(20, 30)))

    pairs = [Comparison(prompt=f"q{i % 40}", chosen=side(True), rejected=side(False)) for i in range(150)]
    reward = tacit.fit(pairs, model="prefix", encoder="hashed", stride=5)
    assert isinstance(reward, PrefixReward)
    assert isinstance(reward, PrefixLevel)
    fresh = [(side(True), side(False)) for _ in range(50)]
    early = [[" ".join(text.split()[:4]) for text in sides] for sides in zip(*fresh, strict=True)]
    margins = reward.score_prefixes(["q"] * 50, early[0]) - reward.score_prefixes(["q"] * 50, early[1])
    assert (margins > 0).mean() > 0.9
    assert [str(f) for f in check_reward(reward, new_process=True) if not f.ok] == []
    assert reward.report["n_train"] == 150
    assert reward.report["n_prefix_pairs"] > 500


# --- outcomes of one prompt ---


def test_outcome_pairs_weigh_the_rarer_side_once() -> None:
    rows = [
        ("p", "a", True),
        ("p", "b", False),
        ("p", "c", False),
        ("q", "d", True),
        ("r", "e", True),
        ("r", "e", False),
    ]
    pairs = outcome_pairs([Outcome(prompt=p, completion=c, label=label) for p, c, label in rows])
    assert [(p.chosen, p.rejected, p.weight) for p in pairs] == [("a", "b", 0.5), ("a", "c", 0.5)]
    with pytest.raises(EvidenceError, match="no prompt has a right and a wrong answer"):
        outcome_pairs([Outcome(prompt="p", completion="a", label=True)])


def test_within_finds_what_difficulty_hides() -> None:
    """Hard prompts have long answers, and long answers are the better ones of a prompt: Simpson's paradox."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(300):
        hard = i % 2
        for longer in (0, 1):
            p = [[0.8, 0.95], [0.05, 0.2]][hard][longer]
            words = " ".join(rng.choice(["alpha", "beta", "gamma"], size=10 + 20 * hard + 8 * longer))
            rows.append(Outcome(prompt=f"question {i}", completion=words, label=bool(rng.random() < p)))
    single = tacit.fit(rows, encoder="hashed", seed=0)
    within = tacit.fit(rows, model="within", encoder="hashed", seed=0)
    short, long = " ".join(["alpha", "beta"] * 7), " ".join(["alpha", "beta"] * 12)
    assert np.diff(single.score(["new question"] * 2, [short, long]))[0] < 0
    assert np.diff(within.score(["new question"] * 2, [short, long]))[0] > 0
