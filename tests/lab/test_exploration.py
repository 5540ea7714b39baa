"""Sparse rewards: learners that open locks, those that cannot, and the race's winning moves."""

import numpy as np
import pytest

from tacit.lab.experiments.sparse import grow
from tacit.lab.exploration import METHODS, _Locks, _replay, open_lock, win_race

NAMED = {method.name: method for method in METHODS}


def test_rewards_by_hand():
    one = np.array([0])

    def paid(name, place, right=True):
        lock = _Locks(NAMED[name], 3, 1, np.random.default_rng(1))
        action = lock.keys[0, place] if right else 1 - lock.keys[0, place]
        after = np.array([place + 1 if right else 0])
        return float(lock._reward(one + place, one + action, after)[0])

    assert paid("sparse", 0) == 0
    assert paid("sparse", 2) == 1
    assert paid("dense", 0) == pytest.approx(0.02)
    assert paid("dense", 1, right=False) == 0
    assert paid("shaped by progress", 1) == pytest.approx(0.95 * 2 - 1)
    assert paid("shaped by progress", 1, right=False) == pytest.approx(-1)
    assert paid("shaped by progress", 2) == pytest.approx(1 - 2)  # the end has no potential
    assert paid("reward shifted down", 2) == 0


def test_an_episode_is_replayed_backwards():
    lock = _Locks(NAMED["sparse"], 3, 1, np.random.default_rng(0))
    lock.act = lambda at: lock.keys[lock.member, at]
    lock.episode()
    keys = lock.keys[0]
    # 1 at the end, discounted on the way back, half of each step
    expected = [0.5 * 0.95 * (0.5 * 0.95 * 0.5), 0.5 * 0.95 * 0.5, 0.5]
    assert [lock.q[0, 0, place, keys[place]] for place in range(3)] == pytest.approx(expected)
    assert lock.opens().tolist() == [True]


def test_hindsight_learns_from_failure():
    lock = _Locks(NAMED["hindsight, shared goals"], 3, 1, np.random.default_rng(0))
    moves = iter([lock.keys[0, 0], 1 - lock.keys[0, 1], 1 - lock.keys[0, 0]])
    lock.act = lambda at: np.array([next(moves)])
    lock.rng = type("Low", (), {"random": lambda self, n: np.zeros(n)})()  # the goal is what was reached next
    lock.episode()
    assert lock.q[0, 0].max() == 0  # nothing was earned
    assert lock.q[0, 1, 0, lock.keys[0, 0]] == pytest.approx(0.5)  # but place 1 was reached


@pytest.mark.statistical
def test_remedies_open_long_locks_and_sparse_does_not():
    rng = np.random.default_rng(0)
    for name in ("shaped by progress", "reward shifted down", "reverse curriculum", "hindsight, shared goals"):
        assert np.isfinite(open_lock(NAMED[name], 16, 4, rng, limit=5000)).all(), name
    for name in ("sparse", "reward shifted up", "hindsight, separate goals"):
        assert np.isinf(open_lock(NAMED[name], 16, 4, rng, limit=2000)).all(), name


@pytest.mark.statistical
def test_self_play_learns_the_race_faster_than_random_opponents_teach_it():
    rng = np.random.default_rng(0)
    own, luck = (win_race(who, 14, 8, rng, limit=1000) for who in ("self", "random"))
    assert np.isfinite(own).all()
    assert np.median(own) < np.median(luck)


def test_a_race_is_learnt_backwards():
    q = np.zeros((1, 4, 3))
    q[:, 0] = -1.0
    everyone = np.array([True])
    # three sticks: take one, then the other side takes two and wins
    trace = [(np.array([3]), np.array([0]), everyone), (np.array([2]), np.array([1]), everyone)]
    _replay(q, trace, True)
    assert q[0, 2, 1] == pytest.approx(0.5)
    assert q[0, 3, 0] == pytest.approx(0.5 * -0.95 * 0.5)


def test_growth_is_fitted():
    def power(length):
        return 3.0 * length**2 * np.ones(4)

    def doubling(length):
        return 2.0 ** (0.5 * length) * np.ones(4) if length < 20 else np.array([1.0, np.inf, 2.0, 3.0])

    row, curve = grow((4, 8, 16, 32, 48), power)
    assert row["power"] == pytest.approx(2)
    assert row["growth"] == "N^2.0"
    assert curve["moves"] == pytest.approx([48, 192, 768, 3072, 6912])
    row, _ = grow((4, 6, 8, 10, 12, 24), doubling)
    assert row["doublings"] == pytest.approx(0.5)
    assert row["growth"] == "2^(0.50 N)"
    assert row["then"] == "3 of 4 seeds at 24"
    assert row["solved_to"] == 12
