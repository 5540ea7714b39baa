import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.audit import calibration
from tacit.audit.bootstrap import Clusters


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


def test_a_noise_floor_has_the_mean_and_spread_of_simulated_votes():
    delta = np.array([0.0, 0.0])  # p = 1/2 twice: one bin, residuals +-1/2, so ECE is 1/2 or 0 with chance 1/2 each
    eces = calibration.calibrated_eces(delta, np.random.default_rng(0), both_orders=False, simulations=4000)
    assert set(eces.tolist()) == {0.0, 0.5}
    assert eces.mean() == pytest.approx(0.25, abs=0.03)
    tied = calibration.calibrated_eces(delta, np.random.default_rng(0), tie_share=1.0, both_orders=False)
    assert (tied == 0).all()  # whoever always calls p = 1/2 a tie is right


def test_corrected_ece_is_the_plain_one_where_there_is_no_noise():
    means = np.array([0.02, -0.03, 0.0])
    assert calibration.corrected_ece(means, np.tile(means, (50, 1))) == (
        pytest.approx(0.05),
        [pytest.approx(0.05), pytest.approx(0.05)],
    )
    assert calibration.corrected_ece(np.zeros(3), np.zeros((50, 3))) == (0.0, [0.0, 0.0])
    assert calibration.corrected_ece(means, means[None]) == (pytest.approx(0.05), None)


def test_corrected_ece_in_one_bin_by_hand():
    """|t + e| with e = -1, 0, 1 in equal parts: for t >= 1 its median is t, so 3 was shown by 3."""
    noise = np.tile([-1.0, 0.0, 1.0], 100)[:, None]
    estimate, (low, high) = calibration.corrected_ece([3.0], 3.0 + noise)
    assert estimate == pytest.approx(3.0, abs=0.05)
    assert low == pytest.approx(2.0, abs=0.1)
    assert high == pytest.approx(4.0, abs=0.1)
    estimate, (low, _) = calibration.corrected_ece([0.5], 0.5 + noise)  # calibrated forecasts show up to 1
    assert (estimate, low) == (pytest.approx(0.0, abs=0.5), 0.0)


def forecasts(rng, n, kind, error):
    """Delta, votes and their true probabilities: over-confident everywhere, or where it is sure alone."""
    truth = rng.normal(0, 1.2, n // 4).repeat(4)
    sure = np.where(np.abs(truth) > 1.8, truth + np.sign(truth) * 12 * error, truth)
    delta = truth * np.exp(3 * error) if kind == "all" else sure
    p = calibration.sigmoid(truth)
    return delta, (rng.random(n) < p).astype(float), p


def coverage(kind, error, *, worlds, n=1000, seed=0):
    """Mean estimate less the truth, the same for plain ECE, and how often the two intervals cover."""
    rng, clusters = np.random.default_rng(seed), Clusters.of(np.arange(n) // 4)
    found = []
    for _ in range(worlds):
        delta, y, p = forecasts(rng, n, kind, error)
        true = calibration.ece(delta, p)
        means, draws = clusters.means(calibration.residuals(delta, y, both_orders=True), np.ones(n), 300, rng)
        estimate, (low, high) = calibration.corrected_ece(means, draws, clusters=n // 4)
        first, last = np.quantile(np.abs(draws).sum(axis=1), [0.025, 0.975])
        found.append((estimate - true, np.abs(means).sum() - true, low <= true <= high, first <= true <= last))
    return np.mean(found, axis=0)


def test_corrected_ece_takes_most_of_the_bias_out_and_covers_calibration():
    bias, plain_bias, covered, percentile = coverage("all", 0.0, worlds=40)
    assert 0 < bias < 0.5 * plain_bias
    assert covered >= 0.9
    assert percentile == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all", "sure"])
@pytest.mark.parametrize("error", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_coverage_of_corrected_ece(kind, error):
    bias, plain_bias, covered, _ = coverage(kind, error, worlds=400)
    assert abs(bias) <= 0.012
    assert bias <= plain_bias
    assert 0.89 <= covered <= 0.995
