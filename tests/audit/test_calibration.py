import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tacit.audit import calibration


def simulated(n, sharpness=1.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, n)
    return truth * sharpness, (rng.random(n) < calibration.sigmoid(truth)).astype(float)


def test_nll_by_hand():
    # log 2 = .6931; -log sigma(1) = .3133; -log sigma(-1) = 1.3133; a tie is the mean of both
    got = calibration.nll([0.0, 1.0, -1.0, 1.0, 0.0], [1, 1, 1, 0.5, 0.5])
    assert got == pytest.approx([0.693147, 0.313262, 1.313262, 0.813262, 0.693147], abs=1e-6)


def test_nll_and_sigmoid_survive_extreme_scores():
    assert calibration.nll([1e4, -1e4], [1, 1]) == pytest.approx([0.0, 1e4])
    assert calibration.sigmoid([1e4, -1e4, 0.0]).tolist() == [1.0, 0.0, 0.5]


def test_ece_by_hand():
    # one forecast p = sigma(log 3) = .75 for four rows of which two come true: off by .25 in either order
    assert calibration.ece(np.full(4, np.log(3)), [1, 1, 0, 0]) == pytest.approx(0.25)
    # with three of four it is perfect
    assert calibration.ece(np.full(4, np.log(3)), [1, 1, 1, 0]) == pytest.approx(0.0)
    # weights count rows
    assert calibration.ece(np.full(3, np.log(3)), [1, 0, 0], [3, 0.5, 0.5]) == pytest.approx(0.0)
    # all scores equal: p = 1/2 is right whichever side is called a
    assert calibration.ece(np.zeros(5), np.ones(5)) == pytest.approx(0.0)


@given(st.integers(0, 10_000))
def test_ece_does_not_depend_on_which_side_is_called_a(seed):
    rng = np.random.default_rng(seed)
    delta, y, flip = rng.normal(size=60).round(1), rng.choice([0, 0.5, 1], 60), rng.random(60) < 0.5
    turned = calibration.ece(np.where(flip, -delta, delta), np.where(flip, 1 - y, y))
    assert turned == pytest.approx(calibration.ece(delta, y), abs=1e-12)


def test_equal_mass_bins_hold_equal_shares_and_keep_equal_forecasts_together():
    rng = np.random.default_rng(0)
    assert np.bincount(calibration.equal_mass_bins(rng.random(1500))).tolist() == [100] * 15
    bins = calibration.equal_mass_bins(np.r_[np.full(50, 0.3), rng.random(100)])
    assert len(set(bins[:50])) == 1


def test_noise_floor_is_the_ece_of_calibrated_forecasts_and_overconfidence_stands_out():
    floors, eces = [], []
    for seed in range(30):
        delta, y = simulated(600, seed=seed)
        floors.append(calibration.ece_noise_floor(delta, np.random.default_rng(seed)))
        eces.append(calibration.ece(delta, y))
    assert np.mean(floors) == pytest.approx(np.mean(eces), rel=0.15)
    delta, y = simulated(600, sharpness=3.0)
    assert calibration.ece(delta, y) > 3 * calibration.ece_noise_floor(delta, np.random.default_rng(0))


def test_temperature_finds_the_minimum_of_the_nll():
    delta, y = simulated(500, sharpness=3.0)
    found = calibration.fit_temperature(delta, y)
    best = minimize_scalar(
        lambda t: calibration.nll(delta / np.exp(t), y).sum(),
        bounds=(-5, 5),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found == pytest.approx(3.0, rel=0.25)


def test_temperature_stays_finite_without_a_minimum():
    assert calibration.fit_temperature([1.0, 2.0], [1, 1]) < 0.05  # separable: ever sharper, until sigma is 1
    assert calibration.fit_temperature([1.0, 2.0], [0, 0]) == pytest.approx(1e3, rel=0.01)  # worse than chance: flat
    assert calibration.fit_temperature([0.0, 0.0], [1, 1]) == 1.0


def test_cross_fitted_temperature_never_sees_its_own_cluster():
    delta, y = simulated(400, sharpness=2.0)
    clusters = np.arange(400) // 4
    before = calibration.cross_fitted(delta, y, clusters, np.random.default_rng(5))
    changed = y.copy()
    changed[clusters == 7] = 1 - changed[clusters == 7]
    after = calibration.cross_fitted(delta, changed, clusters, np.random.default_rng(5))
    assert (before[clusters == 7] == after[clusters == 7]).all()
    assert (before != after).any()


def test_cross_fitted_temperature_mends_overconfidence():
    delta, y = simulated(4000, sharpness=4.0)
    mended = calibration.cross_fitted(delta, y, np.arange(4000), np.random.default_rng(0))
    assert calibration.nll(mended, y).mean() < calibration.nll(delta, y).mean() - 0.1
    assert calibration.ece(mended, y) < calibration.ece(delta, y) / 3
