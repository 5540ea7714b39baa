"""Simulated people behave by their equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.evidence import Annotator, comparisons, prefer

N = 200_000


def shares(
    annotator: Annotator, a: float, b: float, length_a: int = 1, length_b: int = 1
) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    votes = annotator.prefer(np.full(N, a), np.full(N, b), np.full(N, length_a), np.full(N, length_b), rng=rng)
    return float(np.mean(votes == 1)), float(np.mean(votes == 0.5)), float(np.mean(votes == 0))


def test_probabilities_by_hand() -> None:
    sigma = 1 / (1 + math.exp(-1.5))
    assert Annotator(rationality=3).probabilities(1.0, 0.5)[0] == pytest.approx(sigma)
    assert Annotator(rationality=6, scale=2).probabilities(1.0, 0.5)[0] == pytest.approx(sigma)
    assert Annotator(position_bias=1.5).probabilities(0, 0)[0] == pytest.approx(sigma)
    assert Annotator(length_bias=0.5).probabilities(0, 0, 800, 100)[0] == pytest.approx(sigma)
    assert Annotator(rationality=3, flip=0.2).probabilities(1.0, 0.5)[0] == pytest.approx(
        0.8 * sigma + 0.2 * (1 - sigma)
    )


def test_ties_are_those_of_rao_and_kupper() -> None:
    # P(a) = w_a / (w_a + θ w_b), P(tie) = w_a w_b (θ² - 1) / ((w_a + θ w_b)(w_b + θ w_a)), with w = exp(r), θ = exp(τ)
    a, b, theta = math.exp(0.7), math.exp(-0.2), 1.8
    win, tie, lose = Annotator(tie_threshold=math.log(theta)).probabilities(0.7, -0.2)
    assert win == pytest.approx(a / (a + theta * b))
    assert lose == pytest.approx(b / (b + theta * a))
    assert tie == pytest.approx(a * b * (theta**2 - 1) / ((a + theta * b) * (b + theta * a)))


@pytest.mark.statistical
@pytest.mark.parametrize(
    "annotator",
    [
        Annotator(),
        Annotator(rationality=2.0, flip=0.3),
        Annotator(position_bias=-0.7, length_bias=0.4),
        Annotator(tie_threshold=0.8, flip=0.1, rationality=0.5),
        Annotator(rationality=0.0),
    ],
)
def test_votes_have_their_probabilities(annotator: Annotator) -> None:
    expected = annotator.probabilities(0.9, 0.2, 300, 120)
    assert shares(annotator, 0.9, 0.2, 300, 120) == pytest.approx(expected, abs=4 * math.sqrt(0.25 / N))


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 3), st.floats(0, 1), st.floats(0, 5))
def test_probabilities_sum_to_one_and_mirror(a: float, b: float, threshold: float, flip: float, beta: float) -> None:
    annotator = Annotator(rationality=beta, tie_threshold=threshold, flip=flip)
    win, tie, lose = annotator.probabilities(a, b)
    assert win + tie + lose == pytest.approx(1)
    assert min(win, tie, lose) >= 0
    assert annotator.probabilities(b, a) == pytest.approx((lose, tie, win))


def test_the_ideal_annotator_never_errs() -> None:
    ideal = Annotator(rationality=math.inf)
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 1000))
    assert np.array_equal(ideal.prefer(a, b, rng=rng), (a > b).astype(float))
    assert ideal.probabilities(1.0, 0.999) == pytest.approx((1, 0, 0))
    assert shares(ideal, 1.0, 1.0) == pytest.approx((0.5, 0, 0.5), abs=0.01)


def test_groups_vote_by_their_own_rewards() -> None:
    people = [Annotator(rationality=math.inf, group=0, name="x"), Annotator(rationality=math.inf, group=1, name="y")]
    rewards_a = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    votes = prefer(people, [0, 1, 0, 1], rewards_a, 1 - rewards_a, rng=np.random.default_rng(0))
    assert votes.tolist() == [1, 0, 1, 1]


def test_each_person_keeps_their_habits() -> None:
    people = [
        Annotator(rationality=math.inf),
        Annotator(rationality=math.inf, flip=1.0),
        Annotator(tie_threshold=math.inf),
    ]
    votes = prefer(people, [0, 1, 2, 0], np.ones(4), np.zeros(4), rng=np.random.default_rng(0))
    assert votes.tolist() == [1, 0, 0.5, 1]


def test_the_same_seed_gives_the_same_votes() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 500))
    votes = [Annotator(flip=0.1).prefer(a, b, rng=np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert np.array_equal(votes[0], votes[1])
    assert not np.array_equal(votes[0], votes[2])


def test_votes_become_records() -> None:
    people = [Annotator(name="x", group=2), Annotator()]
    first, second = comparisons(["p", "q"], ["a", "c"], ["b", "d"], [0.0, 0.5], people)
    assert (first.chosen, first.rejected, first.tie, first.annotator, first.group) == ("b", "a", False, "x", "2")
    assert (second.chosen, second.rejected, second.tie, second.annotator, second.group) == ("c", "d", True, None, "0")


def test_bad_habits_and_rewards_are_refused() -> None:
    for habit in (
        {"flip": 1.5},
        {"rationality": -1},
        {"tie_threshold": -0.1},
        {"scale": 0},
        {"flip": math.nan},
        {"group": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(habit))):
            Annotator(**habit)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="finite"):
        Annotator().prefer([math.nan], [0.0], rng=rng)
    with pytest.raises(ValueError, match="`which`"):
        prefer([Annotator()], [1], [0.0], [0.0], rng=rng)
    with pytest.raises(ValueError, match="group 3"):
        prefer([Annotator(group=3)], [0], [[0.0]], [[0.0]], rng=rng)
    with pytest.raises(ValueError, match="no annotators"):
        prefer([], [0], [0.0], [0.0], rng=rng)
