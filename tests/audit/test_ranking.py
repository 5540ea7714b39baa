from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tacit.audit import ranking

few_values = st.lists(st.integers(0, 4), min_size=1, max_size=25)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40))
def test_midranks_agree_with_scipy_in_every_group(rows):
    groups, values = np.array(rows).T
    ranks = ranking.midranks(values, groups)
    for g in np.unique(groups):
        assert ranks[groups == g] == pytest.approx(stats.rankdata(values[groups == g]))


@given(few_values, st.integers(0, 10_000))
def test_spearman_agrees_with_scipy_under_ties(gold, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, len(gold))
    got = ranking.spearman(scores, gold)
    if len(set(gold)) < 2:
        assert np.isnan(got)
    elif len(set(scores.tolist())) < 2:
        assert got == 0.0
    else:
        assert got == pytest.approx(stats.spearmanr(scores, gold).statistic, abs=1e-12)


def test_spearman_by_group_leaves_out_groups_with_one_gold_value():
    groups, rho = ranking.spearman_by_group([1, 2, 3, 5, 5, 1, 2], [1, 2, 3, 7, 7, 2, 1], [4, 4, 4, 9, 9, 2, 2])
    assert groups.tolist() == [2, 4]
    assert rho.tolist() == [-1.0, 1.0]


@given(st.integers(0, 10_000))
def test_weighted_spearman_is_spearman_of_the_repeated_rows(seed):
    rng = np.random.default_rng(seed)
    scores, gold, w = rng.integers(0, 5, 12), rng.integers(0, 5, 12), rng.integers(0, 3, (4, 12))
    got = ranking.weighted_spearman(scores, gold, w)
    for row, weights in zip(got, w, strict=True):
        assert row == pytest.approx(ranking.spearman(scores.repeat(weights), gold.repeat(weights)), nan_ok=True)


@given(st.integers(0, 10_000))
def test_auc_counts_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, label, group, w = (
        rng.integers(0, 4, 15),
        rng.random(15) < 0.5,
        rng.integers(0, 3, 15),
        rng.integers(0, 3, 15),
    )

    def count(rows):
        won = total = 0.0
        for i in rows[label[rows]]:
            for j in rows[~label[rows]]:
                won += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
                total += 1
        return won, total

    names, won, pairs = ranking.auc_by_group(scores, label, group)
    for name, a, b in zip(names, won, pairs, strict=True):
        assert (a, b) == count(np.flatnonzero(group == name))
    won_all, total = count(np.repeat(np.arange(15), w))
    expected = won_all / total if total else np.nan
    assert ranking.weighted_auc(scores, label, w[None])[0] == pytest.approx(expected, nan_ok=True)


def test_pairs_within_lists_every_pair_once():
    groups = np.array([3, 1, 3, 3, 1, 7])
    left, right = ranking.pairs_within(groups, limit=100, rng=np.random.default_rng(0))
    expected = {frozenset(p) for p in combinations(range(6), 2) if groups[p[0]] == groups[p[1]]}
    assert len(left) == len(expected)
    assert {frozenset((int(a), int(b))) for a, b in zip(left, right, strict=True)} == expected


def test_pairs_within_draws_pairs_evenly_past_the_limit():
    groups = np.repeat([0, 1], [3, 6])  # 3 and 15 pairs
    left, _ = ranking.pairs_within(groups, limit=17, rng=np.random.default_rng(0))
    assert len(left) == 17
    rng = np.random.default_rng(1)
    drawn = [ranking.pairs_within(groups, limit=17, rng=rng) for _ in range(500)]
    a, b = (np.concatenate(side) for side in zip(*drawn, strict=True))
    assert (groups[a] == groups[b]).all()
    assert (a != b).all()
    _, counts = np.unique(np.minimum(a, b) * 9 + np.maximum(a, b), return_counts=True)
    assert len(counts) == 18
    assert stats.chisquare(counts).pvalue > 1e-3


def test_quarters_are_of_equal_size_whatever_the_ties():
    assert ranking.quarters([4, 1, 3, 2]).tolist() == [3, 0, 2, 1]
    assert np.bincount(ranking.quarters(np.zeros(10))).tolist() == [3, 2, 3, 2]
