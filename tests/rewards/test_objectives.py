"""Losses against numbers worked out by hand, and the identities that their derivations promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import TacitError
from tacit.rewards.objectives import (
    OBJECTIVES,
    Targets,
    bradley_terry,
    classification,
    davidson,
    objective_for,
    outcome,
    plackett_luce,
    rao_kupper,
    regression,
)

real = st.floats(-8, 8)
NOTHING = torch.zeros(1, 0)


def targets(n=1, *, tie=False, margin=0.0, target=0.0, ranks=None, label_smoothing=0.0):
    return Targets(
        torch.full((n,), target),
        torch.zeros(n, 0, dtype=torch.int32) if ranks is None else torch.tensor([ranks], dtype=torch.int32),
        torch.full((n,), tie),
        torch.full((n,), margin),
        label_smoothing,
    )


def scores(*values):
    return torch.tensor([[values]], dtype=torch.float32)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_bradley_terry_by_hand():
    assert bradley_terry(scores(2.0, 0.5), targets(), NOTHING).item() == pytest.approx(-math.log(sigmoid(1.5)))
    with_margin = bradley_terry(scores(2.0, 0.5), targets(margin=1.0), NOTHING).item()
    assert with_margin == pytest.approx(-math.log(sigmoid(0.5)))
    smoothed = bradley_terry(scores(2.0, 0.5), targets(label_smoothing=0.1), NOTHING).item()
    assert smoothed == pytest.approx(-0.9 * math.log(sigmoid(1.5)) - 0.1 * math.log(sigmoid(-1.5)))


def test_a_tie_is_half_a_win_each_in_bradley_terry():
    tie = bradley_terry(scores(2.0, 0.5), targets(tie=True, margin=3.0), NOTHING).item()
    assert tie == pytest.approx(-0.5 * math.log(sigmoid(1.5)) - 0.5 * math.log(sigmoid(-1.5)))


@given(real, real, st.floats(-3, 3))
def test_rao_kupper_is_a_distribution(a, b, own):
    parameter = torch.tensor([[own]])
    win = rao_kupper(scores(a, b), targets(), parameter)
    loss = rao_kupper(scores(b, a), targets(), parameter)
    tie = rao_kupper(scores(a, b), targets(tie=True), parameter)
    assert sum(torch.exp(-x).item() for x in (win, loss, tie)) == pytest.approx(1, abs=1e-4)


@given(real, real, st.floats(-3, 3))
def test_davidson_is_a_distribution_with_bradley_terry_odds(a, b, own):
    parameter = torch.tensor([[own]])
    win = torch.exp(-davidson(scores(a, b), targets(), parameter)).item()
    loss = torch.exp(-davidson(scores(b, a), targets(), parameter)).item()
    tie = torch.exp(-davidson(scores(a, b), targets(tie=True), parameter)).item()
    assert win + loss + tie == pytest.approx(1, abs=1e-4)
    assert win / loss == pytest.approx(math.exp(a - b), rel=1e-3)
    assert tie == pytest.approx(math.exp(own) * math.sqrt(win * loss), rel=1e-3)


def test_classification_by_hand():
    value = classification(scores(1.0, -2.0), targets(), NOTHING).item()
    assert value == pytest.approx(-math.log(sigmoid(1.0)) - math.log(sigmoid(2.0)))


def test_outcome_and_regression_by_hand():
    assert outcome(scores(0.7), targets(target=1.0), NOTHING).item() == pytest.approx(-math.log(sigmoid(0.7)))
    assert outcome(scores(0.7), targets(target=0.0), NOTHING).item() == pytest.approx(-math.log(sigmoid(-0.7)))
    assert regression(scores(3.0), targets(target=1.0), NOTHING).item() == pytest.approx(2.0)


def test_plackett_luce_by_hand():
    a, b, c = (math.exp(x) for x in (0.5, -1.0, 2.0))
    value = plackett_luce(scores(0.5, -1.0, 2.0), targets(ranks=[1, 2, 3]), NOTHING).item()
    assert value == pytest.approx(-(math.log(a / (a + b + c)) + math.log(b / (b + c))) / 2, rel=1e-5)


def test_plackett_luce_of_two_is_bradley_terry():
    value = plackett_luce(scores(1.2, 0.1), targets(ranks=[1, 2]), NOTHING).item()
    assert value == pytest.approx(bradley_terry(scores(1.2, 0.1), targets(), NOTHING).item(), rel=1e-6)


def test_plackett_luce_ties_share_their_choice_set_and_padding_counts_for_nothing():
    a, b, c = (math.exp(x) for x in (0.5, -1.0, 2.0))
    tied = plackett_luce(scores(0.5, -1.0, 2.0), targets(ranks=[1, 1, 2]), NOTHING).item()
    assert tied == pytest.approx(-(math.log(a / (a + b + c)) + math.log(b / (a + b + c))) / 2, rel=1e-5)
    padded = plackett_luce(scores(0.5, -1.0, 99.0), targets(ranks=[1, 2, 0]), NOTHING)
    assert padded.item() == pytest.approx(bradley_terry(scores(0.5, -1.0), targets(), NOTHING).item(), rel=1e-6)


def test_plackett_luce_has_finite_gradients_under_padding():
    values = scores(0.5, -1.0, 99.0).requires_grad_(True)
    plackett_luce(values, targets(ranks=[1, 2, 0]), NOTHING).sum().backward()
    assert torch.isfinite(values.grad).all()
    assert values.grad[0, 0, 2] == 0


@pytest.mark.parametrize("name", [o.name for o in OBJECTIVES.values() if o.kind == "comparison"])
@given(a=real, b=real)
def test_comparison_objectives_fall_as_the_chosen_response_rises(name, a, b):
    objective = OBJECTIVES[name]
    own = torch.tensor([list(objective.initial)])
    lower = objective.loss(scores(a, b), targets(), own).item()
    assert objective.loss(scores(a + 0.5, b), targets(), own).item() < lower


def test_objective_names_are_checked():
    with pytest.raises(TacitError, match="Choose one of: auto, bradley_terry"):
        objective_for("comparison", "bradly_terry")
    with pytest.raises(TacitError, match="there is: regression"):
        objective_for("rating", "davidson")
