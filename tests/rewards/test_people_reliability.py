"""Annotator reliability, estimated with the reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.errors import EvidenceError
from tacit.lab.people import Person, accuracy, orthogonal
from tacit.rewards.people.crowd import compared, pooled_head
from tacit.rewards.people.reliability import ReliabilityOptions, annotator_rows, estimate, fit_reliability


@pytest.fixture(scope="module")
def crowd():
    """20 sound annotators, 8 who do not look and 2 who answer the wrong way round."""
    rng = np.random.default_rng(0)
    reward = orthogonal(1, 12, 2.5, rng)
    flip = np.array([0.02] * 20 + [0.45] * 8 + [0.95] * 2)
    people = Person.of(np.repeat(reward, 30, axis=0), 1.0, flip)
    return people.choose(50, rng, responses=600), reward[0], flip


def test_who_can_be_trusted_is_found_and_helps_the_reward(crowd):
    made, reward, flip = crowd
    found, temperature, report = fit_reliability(made, ReliabilityOptions(rationality=True))
    scale = made.standardise.scale
    pooled, _ = pooled_head(made)
    right = {
        name: accuracy((head / scale).double().numpy(), reward)
        for name, head in (("pooled", pooled), ("joint", found.head))
    }
    assert right["joint"] > right["pooled"] + 0.01
    rows = annotator_rows(made, found)
    agreement = np.array([row["agreement"] for row in rows])
    assert agreement[:20].min() > agreement[20:28].max() > agreement[28:].max()
    assert found.weight[28:].max() == 0  # whoever votes the wrong way round teaches by the model, not by a weight
    assert found.flip[28:].min() > 0.7
    assert temperature > 1  # the crowd is less sure than its typical member
    assert report["held_out_loss"] < 0.69
    for row in rows:
        for key in ("rationality", "flip", "agreement"):
            low, high = row[f"{key}_ci"]
            assert low <= row[key] <= high
    true = flip + (1 - 2 * flip) * _with_reward(made, reward)
    low, high = np.array([row["agreement_ci"] for row in rows]).T
    assert ((low <= true) & (true <= high)).mean() >= 0.8


def _with_reward(made, reward):
    odds = np.abs((made.gaps() * made.standardise.scale).double().numpy() @ reward)
    return (1 / (1 + np.exp(-odds))).mean()


def test_few_votes_are_shrunk_towards_the_crowd(crowd):
    made, _, _ = crowd
    keep = torch.ones(len(made), dtype=torch.bool)
    keep[torch.nonzero(made.person == 28)[3:, 0]] = False
    pooled, report = pooled_head(made)
    ridge = float(report["l2"]) * float(made.weight.sum())
    many = annotator_rows(made, estimate(made, pooled, ridge, ReliabilityOptions()))[28]
    few = annotator_rows(made.take(keep), estimate(made.take(keep), pooled, ridge, ReliabilityOptions()))[28]
    assert few["agreement"] > many["agreement"] + 0.1
    width = [row["agreement_ci"][1] - row["agreement_ci"][0] for row in (few, many)]
    assert width[0] > width[1]


def test_crowd_bt_is_the_model_without_rationality(crowd):
    made, _, _ = crowd
    found = fit_reliability(made, ReliabilityOptions(rationality=False))[0]
    assert found.rationality.tolist() == [1.0] * 30
    plain = fit_reliability(made, ReliabilityOptions(flips=False))[0]
    assert plain.flip.max() < 1e-6


def test_the_gradient_is_that_of_the_loss(crowd, monkeypatch):
    import scipy.optimize

    made, _, _ = crowd
    pooled, _ = pooled_head(made)
    seen = {}

    def spy(function, first, **options):
        seen["function"], seen["first"] = function, first
        raise StopIteration

    monkeypatch.setattr(scipy.optimize, "minimize", spy)
    with pytest.raises(StopIteration):
        estimate(made, pooled, 5.0, ReliabilityOptions())
    function, first = seen["function"], seen["first"] + 0.1
    _, gradient = function(first)
    rng = np.random.default_rng(0)
    for part in (slice(0, 12), slice(12, 42), slice(42, 72)):
        step = np.zeros_like(first)
        step[part] = rng.standard_normal(part.stop - part.start)
        numeric = (function(first + 0.02 * step)[0] - function(first - 0.02 * step)[0]) / 0.04
        assert numeric == pytest.approx(float(gradient @ step), rel=0.03, abs=0.3)


def test_unnamed_annotators_are_refused():
    made = compared(np.eye(3, dtype=np.float32), np.array([0, 1]), np.array([1, 2]), ["a", None])
    with pytest.raises(EvidenceError, match="row 2, column `annotator`"):
        fit_reliability(made, ReliabilityOptions())
