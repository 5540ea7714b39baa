"""Which rewards show the same behaviour: the space that is claimed, no more and no less, and distances on it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.lab import identifiability as idf
from tacit.lab.mdp import WorldError, chain, frozen_lake, grid, lock
from tacit.lab.solve import optimal, soft_optimal
from tacit.lab.tokens import token_mdp

WORLDS = {"lake": frozen_lake(), "chain": chain(5), "texts": token_mdp(["a", "b"], ["x", "y"], 3)}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_shaping_and_nothing_else_is_invisible(world, seed):
    rng = np.random.default_rng(seed)
    reward = rng.normal(size=(world.states, world.actions))
    shaped = reward + idf.shaping(world, 5 * rng.normal(size=world.states))
    assert idf.same_behaviour(world, reward, shaped) < 1e-8
    for form in ("minimal", "levelled"):
        there = np.asarray(world.live)
        assert idf.canonical(world, reward, form)[there] == pytest.approx(idf.canonical(world, shaped, form)[there])
        assert idf.distance(world, reward, 3 * shaped, form) == pytest.approx(0, abs=1e-7)
        assert idf.distance(world, reward, -shaped, form) == pytest.approx(1, abs=1e-7)
    assert idf.gap(world, shaped, reward) == pytest.approx(0, abs=1e-7)
    assert idf.gap(world, 3 * shaped, reward) == pytest.approx(2, abs=1e-7)
    # a direction outside the span is seen
    basis = idf.invisible(world)
    other = rng.normal(size=reward.size)
    other = (other - basis.T @ (basis @ other)).reshape(reward.shape) * world.live[:, None]
    assert idf.same_behaviour(world, reward, reward + other) > 1e-3


def test_its_dimension_is_the_number_of_live_states():
    for world in WORLDS.values():
        assert len(idf.invisible(world)) == world.live.sum()
    assert frozen_lake().live.sum() == 11


def test_constants():
    rng = np.random.default_rng(0)
    endless, ending = chain(4), grid(["S..", "..G"])
    for world, seen in ((endless, False), (ending, True)):
        reward = rng.normal(size=(world.states, world.actions)) - 3.0  # staying alive must not be all that counts
        assert (idf.same_behaviour(world, reward, reward + 1.0) > 1e-3) == seen
    # texts: a constant for each prompt on finished texts is invisible, one on longer texts is not
    texts = WORLDS["texts"]
    finished = np.zeros((texts.states, texts.actions))
    state, action = texts.finishing.T
    finished[state, action] = np.where(state < texts.texts, 2.0, -1.0)
    reward = rng.normal(size=finished.shape)
    assert idf.same_behaviour(texts, reward, reward + finished) < 1e-8
    finished[state, action] = [len(text.split()) for text in texts.completions]
    assert idf.same_behaviour(texts, reward, reward + finished) > 1e-2


def test_the_policy_is_a_reward_for_itself():
    world, rng = frozen_lake(), np.random.default_rng(1)
    truth = rng.normal(size=(4, world.states, world.actions))
    policy = soft_optimal(world, truth, temperature=0.5).policy
    for values in (0.0, rng.normal(size=(4, world.states))):
        reward = idf.from_policy(world, policy, 0.5, values)
        again = soft_optimal(world, reward, temperature=0.5).policy
        assert again[:, world.live] == pytest.approx(policy[:, world.live])
        assert idf.gap(world, reward, truth) == pytest.approx(0, abs=1e-7)
    with pytest.raises(WorldError, match="smooth it"):
        idf.from_policy(world, optimal(world).policy)


def test_optimal_behaviour_is_explained_by_a_cone():
    world = frozen_lake()
    policy = optimal(world).policy
    assert idf.explains(world, world.reward, policy)
    assert idf.explains(world, 2 * world.reward + idf.shaping(world, np.arange(16.0)), policy)
    assert idf.explains(world, np.zeros((16, 4)), policy)  # Ng and Russell's degenerate answer
    blame = policy - 1.0  # one more, which shaping and scale do not reach
    assert idf.explains(world, blame, policy)
    assert not idf.explains(world, -world.reward, policy)
    assert idf.distance(world, blame, world.reward) > 0.1


def test_state_rewards_are_found_where_the_world_allows():
    world = grid(["S...", "....", "...."], slip=0.2, discount=0.9)
    truth = np.random.default_rng(2).normal(size=(3, world.states))
    policy = soft_optimal(world, np.repeat(truth[..., None], 4, -1)).policy
    found, left = idf.state_only(world, policy)
    assert left == pytest.approx(0, abs=1e-8)
    gaps = found - truth
    assert gaps - gaps.mean(-1, keepdims=True) == pytest.approx(0, abs=1e-6)
    noisy = np.random.default_rng(3).dirichlet(np.ones(4), world.states)
    assert idf.state_only(world, noisy)[1] > 0.1


def test_epic_sees_potentials_of_known_worlds():
    world, rng = chain(6), np.random.default_rng(4)
    reward = rng.normal(size=(6, 2))
    assert idf.epic(world, reward, 2 * reward + 1) == pytest.approx(0, abs=1e-7)
    assert idf.epic(world, reward, -reward) == pytest.approx(1)


def test_errors():
    with pytest.raises(WorldError, match="without a horizon"):
        idf.invisible(lock(3))
    with pytest.raises(WorldError, match="canonical form"):
        idf.canonical(frozen_lake(), np.zeros((16, 4)), "other")
