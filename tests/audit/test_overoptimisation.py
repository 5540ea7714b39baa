"""Over-optimisation laws against curves made by them, and exact best-of-n over a pool."""

from itertools import product

import numpy as np
import pytest

from tacit.audit.overoptimisation import fit_laws, n_at_kl, pooled_best_of_n, study_curve
from tacit.errors import TacitError
from tacit.improve.best_of_n import kl_best_of_n


def test_a_law_is_found_in_its_own_curve():
    kl = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    d = np.sqrt(kl)
    laws = fit_laws(kl, np.stack([d * (1.2 - 0.4 * d), d * (0.6 - 0.1 * d)]))
    assert laws.alpha == pytest.approx([1.2, 0.6])
    assert laws.beta == pytest.approx([0.4, 0.1])
    assert laws.peak == pytest.approx([1.5**2, 3.0**2])
    assert laws(kl)[0] == pytest.approx(d * (1.2 - 0.4 * d))


def test_the_tuning_law_peaks_where_its_slope_is_zero():
    kl = np.linspace(0.1, 60, 50)
    d = np.sqrt(kl)
    laws = fit_laws(kl, d * (1.0 - 0.4 * np.log(d)), "tuning")
    assert laws.peak == pytest.approx([np.exp(1.0 / 0.4 - 1) ** 2])
    at = np.sqrt(laws.peak[0])
    assert 1.0 - 0.4 * np.log(at) - 0.4 == pytest.approx(0)


def test_a_curve_that_only_rises_has_no_peak_and_one_that_falls_has_it_at_once():
    kl = np.array([0.0, 1.0, 2.0, 3.0])
    d = np.sqrt(kl)
    assert fit_laws(kl, d * (1.0 + 0.1 * d)).peak[0] == np.inf
    assert fit_laws(kl, d * (-1.0 - 0.1 * d)).peak[0] == 0


def test_two_points_are_not_enough():
    with pytest.raises(TacitError, match="three or more"):
        fit_laws([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])


def test_best_of_n_over_a_pool_equals_enumeration():
    proxy, gold, weight = (
        np.array([0.3, 0.1, 0.3, 0.9]),
        np.array([1.0, 2.0, 5.0, -1.0]),
        np.array([2.0, 1.0, 1.0, 0.0]),
    )
    chance = weight / weight.sum()
    for n in (1, 2, 3):
        expected = 0.0
        for draw in product(range(4), repeat=n):
            probability = np.prod(chance[list(draw)])
            best = max(proxy[i] for i in draw)
            tied = [i for i in range(4) if proxy[i] == best]
            share = weight[tied] / max(weight[tied].sum(), 1e-12)
            expected += probability * float(share @ gold[tied])
        assert pooled_best_of_n(proxy, gold, weight, [n])[0, 0] == pytest.approx(expected)


def test_n_and_kl_are_inverse():
    for n in (2, 16, 500):
        assert n_at_kl(float(kl_best_of_n(n))) == pytest.approx(n)
    assert n_at_kl(float("inf")) == float("inf")


def test_a_proxy_that_lies_in_its_tail_peaks_where_it_was_planted():
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=(400, 256))
    gold = proxy - 0.35 * np.maximum(proxy, 0) ** 2 + rng.normal(scale=0.1, size=proxy.shape)
    curve = study_curve(proxy, gold, resamples=200)
    assert 8 <= curve["measured_peak_n"] <= 64
    low, high = curve["peak_n_ci"]
    assert low <= curve["peak_n"] <= high < 256
    assert curve["gap"] > 0.5
    honest = study_curve(proxy, proxy, resamples=200)
    assert honest["gap"] == pytest.approx(0)
    assert honest["measured_peak_n"] == 256
