"""Fits against scikit-learn, against known truth, and against their own invariances."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from numerics import assert_float32_close
from tacit.errors import EvidenceError, FeatureError, TacitError
from tacit.evidence.records import Comparison, Outcome, Ranking, Rating
from tacit.rewards import heads
from tacit.rewards.examples import bootstrap_weights, collect, held_out
from tacit.rewards.fitting import fit
from tacit.rewards.linear import Design, gram_factor, minimise
from tacit.rewards.objectives import OBJECTIVES, Targets
from tacit.rewards.options import FitOptions


def world(n=2000, dim=12, seed=0, beta=2.0, nonlinear=0.0):
    """Comparisons of responses with standard normal features, and their true reward (the same for every seed)."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2 * n, dim)).astype(np.float32)
    # Strongly correlated: a hard case for first-order steps.
    features[:, 1] = 0.9 * features[:, 0] + 0.1 * features[:, 1]
    truth = features @ np.random.default_rng(99).normal(size=dim) / np.sqrt(dim)
    truth += nonlinear * np.abs(features[:, 2] * features[:, 3])
    first = rng.random(n) < 1 / (1 + np.exp(-beta * (truth[0::2] - truth[1::2])))
    sides = [(f"{i}{'ab'[not f]}", f"{i}{'ab'[f]}") for i, f in enumerate(first.tolist())]
    examples = collect([Comparison(prompt=f"p{i}", chosen=c, rejected=r) for i, (c, r) in enumerate(sides)])
    order = [2 * int(text[:-1]) + "ab".index(text[-1]) for _, text in examples.texts]
    return features[order], truth[order], examples


RAW = heads.Standardiser(torch.zeros(12), torch.ones(12))


def members(result, features):
    return heads.score_in_chunks(result.parameters, features)


def test_linear_bradley_terry_equals_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    features, _, examples = world()
    difference = features[examples.rows[:, 0]] - features[examples.rows[:, 1]]
    sign = np.where(np.arange(len(difference)) % 2, 1.0, -1.0)
    reference = LogisticRegression(C=1 / (0.01 * len(difference)), fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit(difference * sign[:, None], sign > 0)
    objective = OBJECTIVES["bradley_terry"]
    n = len(difference)
    targets = Targets(torch.zeros(n), torch.zeros(n, 0), torch.zeros(n, dtype=torch.bool), torch.zeros(n))
    for matrix in (features, np.concatenate([features] * 2)):  # as distinct responses, and as differences
        design = Design.of(torch.from_numpy(matrix), RAW, torch.from_numpy(examples.rows), objective)
        solution = minimise(
            design, targets, torch.ones(1, n), objective, 0.01, gram=gram_factor(design.matrix), tolerance=1e-6
        )
        np.testing.assert_allclose(solution.theta[0, :12].numpy(), reference.coef_[0], atol=1e-3)


def test_members_solved_together_equal_members_solved_alone():
    features, _, examples = world(n=600)
    objective = OBJECTIVES["davidson"]
    n = len(examples)
    tie = torch.from_numpy(np.random.default_rng(0).random(n) < 0.2)
    targets = Targets(torch.zeros(n), torch.zeros(n, 0), tie, torch.zeros(n))
    weights = torch.from_numpy(bootstrap_weights(examples.blocks, 3, np.random.default_rng(1)))
    design = Design.of(torch.from_numpy(features), RAW, torch.from_numpy(examples.rows), objective)
    together = minimise(design, targets, weights, objective, 0.01, tolerance=1e-6)
    for k in range(3):
        alone = minimise(design, targets, weights[k : k + 1], objective, 0.01, tolerance=1e-6)
        torch.testing.assert_close(together.theta[k], alone.theta[0], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_known_reward_is_recovered(head):
    features, _, examples = world(n=4000, nonlinear=0.0 if head == "linear" else 0.5)
    result = fit(features, examples, FitOptions(head=head, epochs=10, learning_rate=3e-3, hidden=(64, 64)))
    unseen, unseen_truth, _ = world(n=500, seed=1, nonlinear=0.0 if head == "linear" else 0.5)
    assert spearmanr(members(result, unseen)[0], unseen_truth).statistic > 0.93


def test_the_hidden_layers_find_what_a_linear_head_cannot():
    features, truth, examples = world(n=4000, nonlinear=1.0)
    linear = fit(features, examples, FitOptions())
    deep = fit(features, examples, FitOptions(head="mlp", epochs=20, learning_rate=3e-3, hidden=(64, 64)))
    assert spearmanr(members(deep, features)[0], truth).statistic > (
        spearmanr(members(linear, features)[0], truth).statistic + 0.05
    )


def test_scores_are_calibrated_log_odds():
    features, truth, examples = world(n=8000, beta=2.0)
    scores = members(fit(features, examples, FitOptions()), features)[0]
    slope = np.polyfit(truth, scores, 1)[0]
    assert slope == pytest.approx(2.0, rel=0.1)
    assert scores.mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_same_seed_gives_the_same_bytes(head):
    features, _, examples = world(n=500)
    one, two, other = (
        fit(features, examples, FitOptions(head=head, members=2, hidden=(16,), seed=s)).parameters for s in (3, 3, 4)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["linear"], other["linear"])


@pytest.mark.parametrize("shared_trunk", [False, True])
def test_members_differ_and_disagree_more_with_less_data(shared_trunk):
    spread = []
    for n in (200, 4000):
        features, _, examples = world(n=n)
        result = fit(features, examples, FitOptions(head="mlp", members=5, hidden=(16,), shared_trunk=shared_trunk))
        scores = members(result, world(n=200, seed=9)[0])
        assert scores.shape == (5, 400)
        spread.append((scores.std(0) / scores.mean(0).std()).mean())
    assert spread[0] > 1.5 * spread[1] > 0


def test_weights_of_zero_are_rows_left_out():
    features, _, examples = world(n=600)
    from dataclasses import replace

    weight = np.ones(600, np.float32)
    weight[300:] = 0
    half = fit(features, replace(examples, weight=weight), FitOptions(l2=0.01))
    first = fit(features, examples.take(np.arange(300)), FitOptions(l2=0.01))
    np.testing.assert_allclose(members(half, features), members(first, features), atol=0.02)


@pytest.mark.parametrize("objective", ["rao_kupper", "davidson"])
def test_the_share_of_ties_is_recovered(objective):
    features, truth, examples = world(n=4000)
    rng = np.random.default_rng(5)
    delta = 2 * (truth[examples.rows[:, 0]] - truth[examples.rows[:, 1]])
    weights = np.exp(np.stack([delta / 2, -delta / 2, np.full(len(delta), np.log(0.8))]))
    tie = rng.random(len(delta)) < weights[2] / weights.sum(0)
    from dataclasses import replace

    result = fit(features, replace(examples, tie=tie), FitOptions(objective=objective, l2=1e-3))
    assert spearmanr(members(result, features)[0], truth).statistic > 0.97
    if objective == "davidson":
        assert np.exp(result.report["own_parameters"][0]) == pytest.approx(0.8, rel=0.3)


def test_outcomes_ratings_and_rankings_are_fitted():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1500, 8)).astype(np.float32)
    truth = features @ rng.normal(size=8)
    label = rng.random(1500) < 1 / (1 + np.exp(-truth - 1))
    kinds = {
        "outcome": [Outcome(prompt=f"p{i}", completion=str(i), label=bool(x)) for i, x in enumerate(label)],
        "rating": [Rating(prompt=f"p{i}", completion=str(i), score=3 + x) for i, x in enumerate(truth)],
        "ranking": [
            Ranking(
                prompt=f"p{i}",
                completions=[str(i), str(i + 1), str(i + 2)],
                ranks=[int(r) + 1 for r in np.argsort(np.argsort(-truth[i : i + 3]))],
            )
            for i in range(0, 1500, 3)
        ],
    }
    for kind, records in kinds.items():
        examples = collect(records)
        order = [int(text) for _, text in examples.texts]
        scores = members(fit(features[order], examples, FitOptions()), features)[0]
        assert spearmanr(scores, truth).statistic > 0.95, kind
        if kind == "rating":
            assert scores.mean() == pytest.approx(3 + truth.mean(), abs=0.05)
        if kind == "outcome":
            assert (1 / (1 + np.exp(-scores))).mean() == pytest.approx(label.mean(), abs=0.02)


def test_standardising_is_undone():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(3, [0.1, 5, 1], size=(50, 3)).astype(np.float32))
    standardise = heads.Standardiser.of(features)
    parameters = heads.mlp(2, 3, (4, 5), torch.Generator().manual_seed(0))
    parameters["linear"] += 1
    parameters["out"] += 1
    assert_float32_close(
        heads.scores(standardise.fold(parameters), features), heads.scores(parameters, standardise(features))
    )


def test_folds_share_no_block():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 40, size=(300, 2))
    fold, train = held_out(blocks, 5, rng)
    for k in range(5):
        held_blocks = set(blocks[fold == k, 0])
        assert not held_blocks & set(blocks[train[k]].ravel())
        assert not (train[k] & (fold == k)).any()


def test_bootstrap_copies_whole_blocks():
    blocks = np.repeat(np.arange(50), 4)[:, None].repeat(2, 1)
    weights = bootstrap_weights(blocks, 20, np.random.default_rng(0)).reshape(20, 50, 4)
    assert (weights == weights[..., :1]).all()
    assert weights.mean() == pytest.approx(1, abs=0.1)
    assert (bootstrap_weights(blocks, 1, np.random.default_rng(0)) == 1).all()


def test_what_cannot_be_learnt_is_said():
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    with pytest.raises(EvidenceError, match="every comparison is a tie"):
        collect([Comparison(**pair, tie=True)])
    with pytest.raises(EvidenceError, match="one class only"):
        collect([Outcome(prompt="p", completion="a", label=True)])
    with pytest.raises(EvidenceError, match="no evidence"):
        collect([])
    with pytest.raises(EvidenceError, match="row 2"):
        collect([Comparison(**pair), Outcome(prompt="p", completion="a", label=True)])
    # One prompt: folds go by answer, and of two answers none can be held out.
    for head in ("linear", "mlp"):
        with pytest.raises(EvidenceError, match=r"nothing can be held out|cannot be split"):
            fit(np.eye(2, dtype=np.float32), collect([Comparison(**pair)] * 5), FitOptions(head=head))


@pytest.mark.parametrize("prompt", ["the same", ""])
def test_under_one_prompt_answers_are_what_must_not_leak(prompt):
    def pair(a, b):
        return Comparison(prompt=prompt, chosen=a, rejected=b)

    examples = collect([pair("a", "b"), pair("c", "a"), pair("b", "d")])
    assert examples.one_prompt
    assert examples.blocks.tolist() == [[0, 1], [2, 0], [1, 3]]
    outcomes = collect([Outcome(prompt=prompt, completion=text, label=text == "a") for text in "aba"])
    assert outcomes.blocks.tolist() == [[0, 0], [1, 1], [0, 0]]
    listed = collect([Ranking(prompt=prompt, completions=list("abc"), ranks=[3, 1, 2])])
    assert [[listed.texts[i][1] for i in row] for row in listed.blocks.tolist()] == [["b", "c"]]
    # Another prompt among them: prompts again are what must not leak.
    mixed = collect([pair("a", "b"), pair("c", "a"), Comparison(prompt="other", chosen="b", rejected="d")])
    assert not mixed.one_prompt
    if prompt:
        assert mixed.blocks.tolist() == [[0, 0], [0, 0], [1, 1]]
    else:
        assert mixed.blocks.tolist() == [[0, 1], [2, 0], [3, 3]]


def test_bad_features_are_named():
    features, _, examples = world(n=50)
    features[7, 3] = np.nan
    with pytest.raises(FeatureError, match="row 7"):
        fit(features, examples, FitOptions())
    with pytest.raises(FeatureError, match="one row each"):
        fit(features[1:], examples, FitOptions())


def test_bad_options_are_named():
    with pytest.raises(TacitError, match="members"):
        FitOptions(members=0)
