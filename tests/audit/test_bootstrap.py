import numpy as np
import pytest

from tacit.audit.bootstrap import Clusters, interval, ratio, share_interval, tail


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


def test_tails_are_wider_where_clusters_are_few():
    # Phi(-sqrt(10 / 9) * 2.262157), with the .975 quantile of Student's t of 9 degrees of freedom
    assert tail(0.95, 10) == pytest.approx(0.0085506, abs=1e-6)
    assert tail(0.95) == pytest.approx(0.025)
    assert tail(0.95, 10**6) == pytest.approx(0.025, abs=1e-5)
    values = np.arange(1001.0)
    assert interval(values, clusters=10)[0] == pytest.approx(8.5506, abs=1e-3)


def shared(clusters):
    """(n, n) bool: whether two rows share a cluster of some table."""
    rows = range(clusters.factors.shape[1])
    sets = [{(t, f[i]) for f, t in zip(clusters.factors, clusters.tables, strict=True) if f[i] >= 0} for i in rows]
    return np.array([[bool(sets[i] & sets[j]) for j in rows] for i in rows])


@pytest.mark.parametrize("tables", [(0,), (0, 1), (0, 0), (0, 0, 1), (0, 0, 0), (0, 1, 2), (0, 0, 1, 1)])
def test_variance_counts_each_pair_of_rows_that_share_a_cluster_once(tables):
    rng = np.random.default_rng(len(tables))
    factors = rng.integers(-1 if len(tables) > 1 else 0, 6, (len(tables), 30))
    clusters = Clusters.of(*factors, tables=tables)
    psi = rng.normal(1, 1, (30, 2))
    assert clusters.variance(psi) == pytest.approx(np.einsum("ik,ij,jk->k", psi, shared(clusters), psi))


def test_variance_is_never_below_that_of_independent_rows():
    psi = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    assert Clusters.of([0, 0, 1, 1], [0, 1, 0, 1]).variance(psi) == pytest.approx([4.0])


def test_means_weigh_rows_and_one_factor_is_the_plain_bootstrap():
    rng = np.random.default_rng(0)
    y, w = rng.normal(size=(40, 3)), rng.random((40, 2))
    clusters = Clusters.of(np.arange(40) // 4)
    means, draws = clusters.means(y, w, 30, np.random.default_rng(1), weight_of=[0, 1, 0])
    assert means == pytest.approx(
        [np.average(y[:, 0], weights=w[:, 0]), *(np.average(y[:, k], weights=w[:, j]) for k, j in ((1, 1), (2, 0)))]
    )
    sums = clusters.sums(np.stack([y[:, 1] * w[:, 1], w[:, 1]], axis=1), 30, np.random.default_rng(1))
    assert draws[:, 1] == pytest.approx(ratio(*sums.T))


def test_means_of_rows_with_two_items_spread_by_what_they_share():
    """Noise of single rows alone: the pigeonhole bootstrap is sqrt(3) too wide, `means` is not."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 300, 3000)
    b = (a + 1 + rng.integers(0, 299, 3000)) % 300
    y, clusters = rng.normal(size=(3000, 1)), Clusters.of(a, b, tables=[0, 0])
    _, draws = clusters.means(y, np.ones(3000), 1000, rng)
    sums = clusters.sums(np.concatenate([y, np.ones((3000, 1))], axis=1), 1000, rng)
    assert draws.std() * np.sqrt(3000) == pytest.approx(1.0, rel=0.2)
    assert ratio(*sums.T).std() * np.sqrt(3000) == pytest.approx(np.sqrt(3), rel=0.2)


def world(kind, size, rng):
    """Clusters and values of mean 0: prompts, prompts and people, pairs of items, pairs of items judged by people."""
    if kind == "prompts":
        cluster = np.repeat(np.arange(size), 5)
        return Clusters.of(cluster), rng.normal(size=size)[cluster] + rng.normal(size=5 * size)
    if kind == "prompts and people":
        cluster, person = np.repeat(np.arange(size), 10), rng.integers(0, size, 10 * size)
        effects = rng.normal(size=size)[cluster] + 0.7 * rng.normal(size=size)[person]
        return Clusters.of(cluster, person), effects + rng.normal(size=10 * size)
    a = rng.integers(0, size, 5 * size)
    b = (a + 1 + rng.integers(0, size - 1, 5 * size)) % size
    effect = rng.normal(size=size)
    values = 0.3 * (effect[a] + effect[b]) + rng.normal(size=5 * size)
    if kind == "items":
        return Clusters.of(a, b, tables=[0, 0]), values
    person = rng.integers(0, size, 5 * size)
    return Clusters.of(a, b, person, tables=[0, 0, 1]), values + 0.3 * rng.normal(size=size)[person]


KINDS = ("prompts", "prompts and people", "items", "items and people")


def coverage(kind, worlds, size, seed=0, resamples=400):
    """How often the 95% interval of a mean holds the truth 0."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(worlds):
        clusters, values = world(kind, size, rng)
        _, draws = clusters.means(values[:, None], np.ones(len(values)), resamples, rng)
        low, high = interval(draws, clusters=clusters.smallest)
        hits += low <= 0 <= high
    return hits / worlds


@pytest.mark.statistical
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover(kind):
    # .95 with a standard error of .011, and a little less from only 40 clusters.
    assert 0.9 <= coverage(kind, 400, 40, resamples=200) <= 0.985


def test_intervals_that_ignore_clusters_do_not_cover():
    rng = np.random.default_rng(0)
    naive = 0
    for _ in range(200):
        values = rng.normal(size=60).repeat(5) + rng.normal(size=300)
        naive += abs(values.mean()) <= 1.96 * values.std() / np.sqrt(300)
    assert naive / 200 < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_95_in_100(kind):
    assert 0.93 <= coverage(kind, 2000, 100) <= 0.97


def test_a_table_of_one_cluster_is_left_out_where_others_vary():
    both = Clusters.of([0, 1, 2, 2], [5, 5, 5, 5])
    assert both.varied().smallest == 3
    assert both.varied().factors.tolist() == [[0, 1, 2, 2]]
    alone = Clusters.of([5, 5])
    assert alone.varied() is alone


def test_a_share_without_a_miss_is_not_sure():
    # Clopper and Pearson: five of five gives .025^(1/5) = .478.
    assert share_interval(1.0, np.ones(100), 5) == pytest.approx([0.4782, 1.0], abs=1e-4)
    assert share_interval(0.0, np.zeros(100), 5) == pytest.approx([0.0, 0.5218], abs=1e-4)
    assert share_interval(0.5, np.full(100, 0.5), 5) == [0.5, 0.5]
    assert share_interval(1.0, np.ones(1), 5) is None
