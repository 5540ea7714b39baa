"""Distributions of scores: numbers by hand, the contract, and hidden context found where it is and only there."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

import tacit
from numerics import assert_float32_close
from tacit import rewards
from tacit.errors import EvidenceError, TacitError
from tacit.evidence.records import Comparison, Rating
from tacit.features.arrays import PrecomputedEncoder
from tacit.lab.experiments.hidden_context import hats, sample
from tacit.rewards.check import check_reward
from tacit.rewards.distributional import clustered_mean
from tacit.rewards.distributions import explained_variance, family, objective_of
from tacit.rewards.objectives import Targets

NORMAL, ATOMS = family("mean_variance"), family("categorical", 3)
MODELS = ("mean_variance", "categorical")


def raw(sd):
    """The output whose softplus, shifted, is `sd`."""
    return math.log(math.expm1(sd)) - math.log(math.e - 1)


def said(n, tie=False, smoothing=0.0):
    nothing = torch.zeros(n)
    return Targets(nothing, torch.zeros(n, 0), torch.full((n,), tie), nothing, smoothing)


def test_a_normal_vote_is_phi_of_the_standardised_gap():
    outputs = torch.tensor([[[1.0, raw(3.0)], [-1.0, raw(4.0)]]])[None]  # sd 3 and 4: 5 together
    win, lose = NORMAL.votes(outputs)
    assert win.item() == pytest.approx(norm.logcdf(2 / 5), rel=1e-5)
    assert lose.item() == pytest.approx(norm.logcdf(-2 / 5), rel=1e-5)


def test_an_unlikely_vote_has_a_finite_loss_and_gradient():
    outputs = torch.tensor([[[-40.0, 0.0], [40.0, 0.0]]])[None].requires_grad_(True)
    loss = objective_of(NORMAL).loss(outputs, said(1), torch.zeros(1, 0))
    loss.sum().backward()
    assert loss.item() == pytest.approx(-norm.logcdf(-80 / math.sqrt(2)), rel=1e-4)
    assert torch.isfinite(outputs.grad).all()


def test_a_categorical_vote_counts_pairs_of_values_and_half_the_ties():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    outputs = torch.from_numpy(np.log([[p, q]])).float()[None]
    win, lose = ATOMS.votes(outputs)
    expected = 0.3 * 0.6 + 0.5 * (0.6 + 0.3) + 0.5 * (0.2 * 0.6 + 0.3 * 0.3 + 0.5 * 0.1)
    assert win.exp().item() == pytest.approx(expected, rel=1e-5)
    assert lose.exp().item() == pytest.approx(1 - expected, rel=1e-5)


def test_a_tie_is_half_a_vote_each_way_and_smoothing_a_share():
    outputs = torch.tensor([[[0.7, 0.0], [0.0, 0.0]]])[None]
    loss = objective_of(NORMAL).loss
    nothing = torch.zeros(1, 0)
    win, lose = norm.logcdf(0.7 / math.sqrt(2)), norm.logcdf(-0.7 / math.sqrt(2))
    assert loss(outputs, said(1, tie=True), nothing).item() == pytest.approx(-(win + lose) / 2, rel=1e-5)
    assert loss(outputs, said(1, smoothing=0.1), nothing).item() == pytest.approx(-0.9 * win - 0.1 * lose, rel=1e-5)


def test_moments_and_quantiles_by_hand():
    outputs = torch.from_numpy(np.log([[0.25, 0.5, 0.25]])).float()  # values 0, .5, 1 in bins of width .5
    mean, sd = ATOMS.moments(outputs)
    assert (mean.item(), sd.item()) == (pytest.approx(0.5), pytest.approx(math.sqrt(0.125)))
    assert ATOMS.quantile(outputs, 0.5).item() == pytest.approx(0.5)
    assert ATOMS.quantile(outputs, 0.25).item() == pytest.approx(0.25)  # the first bin ends at .25
    assert ATOMS.quantile(outputs, 0.125).item() == pytest.approx(0.0, abs=1e-6)
    normal = torch.tensor([[1.0, raw(2.0)]])
    assert NORMAL.quantile(normal, 0.1).item() == pytest.approx(norm.ppf(0.1, 1, 2), rel=1e-5)


def test_explained_variance_is_that_of_the_means_in_all():
    mean, sd = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 2.0])
    assert explained_variance(mean, sd).item() == pytest.approx(1 / (1 + 2.5))


def test_the_entropy_of_the_mean_distribution_is_rewarded():
    sharp = torch.tensor([[[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]]])[None]  # mean distribution one half, one half
    bonus = objective_of(ATOMS, 0.1).regulariser(sharp, torch.ones(1, 1))
    assert bonus.item() == pytest.approx(-0.1 * math.log(2), rel=1e-5)
    assert objective_of(ATOMS, 0.0).regulariser is None


def test_an_interval_of_clusters_is_wider_than_of_rows():
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 25)
    _, low, high = clustered_mean(values, np.ones(100), np.repeat(np.arange(4), 25))
    _, close, far = clustered_mean(values, np.ones(100), np.arange(100))
    assert high - low > 4 * (far - close)
    assert clustered_mean(np.array([1.0, 3.0]), np.array([3.0, 1.0]), np.arange(2))[0] == pytest.approx(1.5)


def votes(n=150, seed=0):
    rng = np.random.default_rng(seed)
    good, bad = ("Certainly: {}.", "Here you are: {}."), ("no idea about {}", "go away with {}")
    rows = []
    for i in range(n):
        a, b = (pool[rng.integers(2)].format(f"topic {i}") for pool in (good, bad))
        a, b = (a, b) if rng.random() < 0.85 else (b, a)
        rows.append(Comparison(prompt=f"Tell me about topic {i}", chosen=a, rejected=b, tie=bool(i % 10 == 0)))
    return rows


@pytest.fixture(scope="module", params=MODELS)
def reward(request):
    return rewards.fit(votes(), model=request.param, encoder="hashed", members=2)


def test_the_contract_holds(reward):
    assert [str(f) for f in check_reward(reward, new_process=True) if not f.ok] == []


def test_comparing_is_antisymmetric_and_survives_saving(reward, tmp_path):
    ask = (
        ["Tell me about tea"] * 2,
        ["Certainly: tea.", "no idea about tea"],
        ["no idea about tea", "Certainly: tea."],
    )
    odds = reward.compare(*ask)
    assert odds[0] > 0.5
    assert_float32_close(odds[0], -odds[1])
    reward.save(tmp_path / "r")
    assert_float32_close(tacit.load(tmp_path / "r").compare(*ask), odds)
    assert reward.compare([], [], []).shape == (0,)


def test_a_cautious_score_is_below_the_mean_by_what_people_differ(reward):
    text = (["Tell me about tea"], ["Certainly: tea."])
    cautious = replace(reward, risk=0.1)
    (disagreement,) = reward.details(*text)["disagreement"]
    assert cautious.score(*text)[0] < reward.score(*text)[0]
    if reward.family_name == "mean_variance":
        mean, sd = reward.moments(*text)
        assert cautious.score(*text)[0] == pytest.approx((mean + norm.ppf(0.1) * sd).mean(), rel=1e-4)
        assert disagreement == pytest.approx(sd.mean(), rel=1e-5)


def test_what_does_not_fit_is_named():
    with pytest.raises(TacitError, match="risk"):
        rewards.fit(votes(20), model="mean_variance", encoder="hashed", risk=1.5)
    with pytest.raises(TacitError, match="for model `categorical`"):
        rewards.fit(votes(20), model="mean_variance", encoder="hashed", atoms=5)
    with pytest.raises(TacitError, match="no fit option `objective`"):
        rewards.fit(votes(20), model="categorical", encoder="hashed", objective="davidson")
    ratings = [Rating(prompt="p", completion=str(i), score=i) for i in range(3)]
    with pytest.raises(EvidenceError, match="learns from comparisons"):
        rewards.fit(ratings, model="categorical", encoder="hashed")


def fit_toy(world, model, seed=0, pairs=1000):
    x, first = sample(world, pairs, np.random.default_rng(seed))
    names = [[f"{i}{side}" for i in range(pairs)] for side in "ab"]
    encoder = PrecomputedEncoder(names[0] + names[1], hats(np.concatenate([x[:, 0], x[:, 1]])))
    chosen = [Comparison(chosen=names[not won][i], rejected=names[int(won)][i]) for i, won in enumerate(first.tolist())]
    reward = rewards.fit(chosen, model=model, encoder=encoder, seed=seed)
    _, sd = reward.moments([""] * pairs, names[0])
    high = x[:, 0] >= 0.8
    return reward.report, sd[0][high].mean() / sd[0][~high].mean()


def test_hidden_context_is_flagged_where_it_is():
    report, ratio = fit_toy("context", "mean_variance")
    assert report["hidden_context"]
    assert ratio > 3
    calm, even = fit_toy("noise", "mean_variance")
    assert not calm["hidden_context"]
    assert 0.5 < even < 2
    assert report["explained_variance"] < calm["explained_variance"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_hidden_context_is_flagged_in_ten_of_ten_worlds_and_in_no_control(model):
    for seed in range(10):
        assert fit_toy("context", model, seed)[0]["hidden_context"]
        assert not fit_toy("none", model, seed)[0]["hidden_context"]
        assert not fit_toy("noise", model, seed)[0]["hidden_context"]


@pytest.mark.parametrize("z", [-1e7, -1e3, -3.0, 0.0, 2.0, 40.0])
def test_the_slope_of_log_phi_is_right_where_torch_is_not(z):
    from tacit.rewards.distributions import log_phi

    at = torch.tensor([z], requires_grad=True)
    log_phi(at).sum().backward()
    expected = math.exp(norm.logpdf(z) - norm.logcdf(z)) if z > -1e3 else -z
    assert at.grad.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
