import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from tacit.rewards.objectives import OBJECTIVES, Targets
from tacit.rewards.temperature import calibrate, fit_temperature, sigmoid, temperature_of


def simulated(n, sharpness=1.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, n)
    return truth * sharpness, (rng.random(n) < sigmoid(truth)).astype(float)


def loss(delta, y, temperature):
    return (np.logaddexp(0, -delta / temperature) + (1 - y) * delta / temperature).sum()


def test_temperature_finds_the_minimum_of_the_nll():
    delta, y = simulated(500, sharpness=3.0)
    found = fit_temperature(delta, y)
    best = minimize_scalar(
        lambda t: loss(delta, y, np.exp(t)),
        bounds=(-5, 5),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found == pytest.approx(3.0, rel=0.25)


def test_temperature_stays_finite_without_a_minimum():
    assert fit_temperature([1.0, 2.0], [1, 1]) < 0.05  # separable: ever sharper, until sigma is 1
    assert fit_temperature([1.0, 2.0], [0, 0]) == pytest.approx(1e3, rel=0.01)  # worse than chance: flat
    assert fit_temperature([0.0, 0.0], [1, 1]) == 1.0


def said(n, *, tie=None, target=None, ranks=None):
    nothing = torch.zeros(n)
    return Targets(
        nothing if target is None else torch.tensor(target, dtype=torch.float32),
        torch.zeros(n, 0, dtype=torch.int32) if ranks is None else torch.tensor(ranks, dtype=torch.int32),
        torch.zeros(n, dtype=torch.bool) if tie is None else torch.tensor(tie),
        nothing,
    )


def test_comparisons_outcomes_and_rankings_of_two_are_one_temperature():
    delta, y = simulated(800, sharpness=2.5)
    weight = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 800).astype(np.float32))
    expected = fit_temperature(delta, y, weight.numpy())
    assert expected == pytest.approx(2.5, rel=0.3)
    chosen = torch.from_numpy(np.where(y == 1, delta, -delta)).float()
    pair = torch.stack([chosen, torch.zeros(800)], dim=-1)[None]
    outcome = torch.from_numpy(delta).float()[None, :, None]
    found = [
        temperature_of(pair, said(800), weight, OBJECTIVES["bradley_terry"]),
        temperature_of(pair, said(800), weight, OBJECTIVES["classification"]),
        temperature_of(outcome, said(800, target=y), weight, OBJECTIVES["outcome"]),
    ]
    assert found == pytest.approx([expected] * 3, rel=1e-4)
    ranked = temperature_of(pair, said(800, ranks=[[1, 2]] * 800), weight, OBJECTIVES["plackett_luce"])
    assert ranked == pytest.approx(expected, rel=5e-3)


def test_ties_count_half_a_win_for_each_side():
    gap = torch.tensor([[[2.0, 0.0], [2.0, 0.0]]])
    # a win and a tie at delta 2: the best sigma(2 / T) is 3/4, so T = 2 / log 3
    found = temperature_of(gap, said(2, tie=[False, True]), torch.ones(2), OBJECTIVES["bradley_terry"])
    assert found == pytest.approx(2 / np.log(3), rel=1e-5)


def test_a_fit_stays_between_a_tenth_and_ten():
    gap = torch.tensor([[[1.0, 0.0]]])
    assert temperature_of(gap, said(1), torch.ones(1), OBJECTIVES["bradley_terry"]) == pytest.approx(0.1)
    assert temperature_of(-gap, said(1), torch.ones(1), OBJECTIVES["bradley_terry"]) == pytest.approx(10.0)
    assert calibrate(gap[..., :1], said(1), torch.ones(1), OBJECTIVES["regression"]) == (1.0, [])
