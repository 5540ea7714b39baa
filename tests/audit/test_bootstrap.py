import numpy as np
import pytest

from tacit.audit.bootstrap import Clusters, interval, ratio


def test_sums_are_the_weights_times_the_statistics():
    rng = np.random.default_rng(0)
    statistics = rng.normal(size=(50, 3))
    for clusters in (
        Clusters.of(rng.integers(0, 9, 50)),
        Clusters.of(rng.integers(0, 9, 50), rng.integers(0, 5, 50)),
        Clusters.of(rng.integers(0, 9, 50), rng.integers(-1, 9, 50), tables=[0, 0]),
    ):
        weights = np.concatenate(list(clusters.weights(20, np.random.default_rng(1))))
        assert weights.shape == (20, 50)
        assert clusters.sums(statistics, 20, np.random.default_rng(1)) == pytest.approx(weights @ statistics)


def test_rows_of_one_cluster_share_their_weight_and_weights_add_up():
    cluster = np.repeat(np.arange(10), 3)
    (weights,) = Clusters.of(cluster).weights(200, np.random.default_rng(0))
    assert (weights[:, ::3] == weights[:, 1::3]).all()
    assert (weights.sum(axis=1) == 30).all()


def test_factors_of_one_table_share_their_draws():
    a, b = np.array([0, 1, 2]), np.array([1, 0, -1])
    (weights,) = Clusters.of(a, b, tables=[0, 0]).weights(300, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    (apart,) = Clusters.of(a, b).weights(300, np.random.default_rng(0))
    assert (apart[:, 0] != apart[:, 1]).any()


def test_chunks_cover_all_resamples(monkeypatch):
    monkeypatch.setattr("tacit.audit.bootstrap.BUDGET", 100)
    chunks = list(Clusters.of(np.arange(30)).weights(17, np.random.default_rng(0)))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 3, 3, 2]


def test_spread_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    draws = Clusters.of(np.arange(400)).sums(values[:, None], 4000, np.random.default_rng(1))[:, 0] / 400
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_too_few_clusters_and_empty_resamples():
    assert Clusters.of(np.zeros(5, dtype=int)).smallest == 1
    assert Clusters.of(np.arange(5), np.zeros(5, dtype=int)).smallest == 1
    assert ratio([1.0, 0.0], [2.0, 0.0]).tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert interval([np.nan, 1.0]) is None
    assert interval(np.arange(101.0)) == pytest.approx([2.5, 97.5])


def coverage(worlds, *, clusters, rows, n_people, seed=0):
    """How often the 95% interval of a mean holds the truth 0, with effects of cluster and of person on every row."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(worlds):
        cluster = np.repeat(np.arange(clusters), rows)
        person = rng.integers(0, n_people, len(cluster)) if n_people else None
        values = rng.normal(size=clusters)[cluster] + rng.normal(size=len(cluster))
        if person is not None:
            values = values + 0.7 * rng.normal(size=n_people)[person]
        factors = Clusters.of(cluster) if person is None else Clusters.of(cluster, person)
        sums = factors.sums(np.stack([values, np.ones(len(values))], axis=1), 500, rng)
        low, high = interval(ratio(*sums.T))
        hits += low <= 0 <= high
    return hits / worlds


def test_clustered_intervals_cover_and_unclustered_ones_would_not():
    assert 0.90 <= coverage(300, clusters=60, rows=5, n_people=0) <= 0.985
    rng = np.random.default_rng(0)
    naive = 0
    for _ in range(200):
        values = rng.normal(size=60).repeat(5) + rng.normal(size=300)
        naive += abs(values.mean()) <= 1.96 * values.std() / np.sqrt(300)
    assert naive / 200 < 0.85


@pytest.mark.slow
def test_coverage_over_many_worlds():
    one_way = coverage(2000, clusters=100, rows=5, n_people=0)
    two_way = coverage(1000, clusters=60, rows=10, n_people=40)
    assert 0.93 <= one_way <= 0.965
    assert 0.93 <= two_way <= 0.995
