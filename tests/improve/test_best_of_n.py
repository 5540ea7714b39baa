from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import TacitError
from tacit.improve.best_of_n import (
    best_of_n_curve,
    choose,
    curve_ns,
    expected_best_of_n,
    kl_best_of_n,
    place_probabilities,
)


class Longest:
    name = "longest"

    def score(self, prompts, completions):
        assert len(prompts) == len(completions)
        return np.array([len(c) for c in completions], dtype=np.float32)


def enumerated(proxy, gold, n):
    """Mean gold of the proxy's choice over every subset of n, ties broken evenly."""
    means = []
    for subset in combinations(range(len(proxy)), n):
        top = max(proxy[i] for i in subset)
        means.append(np.mean([gold[i] for i in subset if proxy[i] == top]))
    return np.mean(means)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=8))
def test_estimator_is_the_mean_over_all_subsets_ties_included(samples):
    proxy, gold = np.array(samples, dtype=float).T
    ns = list(range(1, len(samples) + 1))
    got = expected_best_of_n(proxy[None], gold[None], ns)[0]
    assert got == pytest.approx([enumerated(proxy, gold, n) for n in ns])


def test_estimator_by_hand():
    # by proxy: gold 5, 1, 9. n = 2 picks the middle with 1/3 and the top with 2/3; n = 3 always the top
    got = expected_best_of_n([[2.0, 1.0, 3.0]], [[1.0, 5.0, 9.0]], [1, 2, 3])
    assert got[0] == pytest.approx([5.0, 1 / 3 * 1 + 2 / 3 * 9, 9.0])


def test_estimator_handles_prompts_apart_and_does_not_depend_on_sample_order():
    proxy, gold = np.array([[1.0, 2.0, 3.0], [3.0, 3.0, 1.0]]), np.array([[0.0, 1.0, 5.0], [2.0, 4.0, 9.0]])
    together = expected_best_of_n(proxy, gold, [1, 2, 3])
    for order in permutations(range(3)):
        shuffled = expected_best_of_n(proxy[:, order], gold[:, order], [1, 2, 3])
        assert shuffled == pytest.approx(together)
    assert together[1] == pytest.approx([5.0, 3.0, 3.0])


@pytest.mark.parametrize("n_samples", [1, 5, 64, 4096])
def test_place_probabilities_sum_to_one_without_overflow(n_samples):
    ns = sorted({1, min(2, n_samples), n_samples // 2 + 1, n_samples})
    p = place_probabilities(n_samples, ns)
    assert p.sum(axis=0) == pytest.approx(np.ones(len(ns)))
    assert p[:, 0] == pytest.approx(np.full(n_samples, 1 / n_samples))
    assert p[-1, -1] == pytest.approx(1.0)


@pytest.mark.statistical
def test_estimator_is_unbiased_for_uniform_samples():
    # the best of n uniforms has mean n / (n + 1)
    x = np.random.default_rng(0).random((4000, 16))
    got = expected_best_of_n(x, x, [1, 4, 16]).mean(axis=0)
    assert got == pytest.approx([1 / 2, 4 / 5, 16 / 17], abs=0.005)


def test_kl_by_hand():
    assert kl_best_of_n([1, 2, 64]) == pytest.approx([0.0, np.log(2) - 0.5, np.log(64) - 63 / 64])


def test_curve_controls_and_intervals():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(50, 64))
    proxy = gold + rng.normal(size=gold.shape)
    curve = best_of_n_curve(proxy, gold, lengths=rng.integers(1, 9, gold.shape))
    assert curve["n"] == [1, 2, 4, 8, 16, 32, 64]
    for name in ("gold", "oracle", "longest", "random"):
        assert curve[name][0] == pytest.approx(gold.mean())
        assert all(low <= value <= high for value, (low, high) in zip(curve[name], curve[f"{name}_ci"], strict=True))
    assert curve["oracle"][-1] == pytest.approx(gold.max(axis=1).mean())
    assert curve["gold"][-1] == pytest.approx(gold[np.arange(50), proxy.argmax(axis=1)].mean())
    assert curve["random"] == pytest.approx([gold.mean()] * 7)
    assert curve["random"][-1] < curve["gold"][-1] < curve["oracle"][-1] < curve["proxy"][-1]
    assert abs(curve["longest"][-1]) < 0.3
    assert best_of_n_curve(proxy, gold, [4], seed=1) == best_of_n_curve(proxy, gold, [4], seed=1)


@pytest.mark.parametrize(
    ("samples", "ns"),
    [(1, [1]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8]), (40, [1, 2, 4, 8, 16, 32, 40])],
)
def test_a_curve_ends_with_all_candidates(samples, ns):
    assert curve_ns(samples) == ns
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(2, 30, samples))
    curve = best_of_n_curve(proxy, gold, resamples=20)
    assert curve["n"] == ns
    assert curve["gold"][-1] == pytest.approx(gold[np.arange(30), proxy.argmax(axis=1)].mean())
    assert curve["oracle"][-1] == pytest.approx(gold.max(axis=1).mean())


def test_choose_takes_the_best_of_the_first_n():
    candidates = ["aa", "bbbb", "c", "ddddddd", "eeeeeee"]
    assert choose(Longest(), "q", candidates).index == 3
    choice = choose(Longest(), "q", candidates, n=3)
    assert (choice.completion, choice.index, choice.score) == ("bbbb", 1, 4.0)
    assert choice.scores.tolist() == [2, 4, 1]


@pytest.mark.parametrize(("candidates", "n"), [([], None), (["a"], 2), (["a"], 0)])
def test_choose_refuses(candidates, n):
    with pytest.raises(TacitError, match="within 1"):
        choose(Longest(), "q", candidates, n)


def test_bad_arrays_are_refused():
    with pytest.raises(TacitError, match="same shape"):
        expected_best_of_n(np.zeros((2, 3)), np.zeros((3, 2)), [1])
    with pytest.raises(TacitError, match=r"within 1\.\.3"):
        expected_best_of_n(np.zeros((2, 3)), np.zeros((2, 3)), [1, 4])
    with pytest.raises(TacitError, match="finite"):
        expected_best_of_n([[np.nan, 1.0]], [[1.0, 1.0]], [1])
