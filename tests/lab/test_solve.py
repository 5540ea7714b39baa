"""Exact solutions: hand-worked numbers, Bellman residuals, enumeration of texts, properties of random worlds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.lab.mdp import MDP, WorldError, chain, frozen_lake, grid, lock
from tacit.lab.solve import (
    evaluate,
    f_divergence,
    occupancy,
    optimal,
    residual,
    returns,
    soft_optimal,
    timed,
    total_variation,
    visits,
)
from tacit.lab.tokens import token_mdp


def random_world(seed, *, horizon=None, discount=0.9, ends=True):
    rng = np.random.default_rng(seed)
    states, actions, outcomes = 6, 3, 2
    successors = rng.integers(states, size=(states, actions, outcomes))
    chances = rng.dirichlet(np.ones(outcomes), (states, actions))
    reward = rng.normal(size=(states, actions))
    if ends:
        successors[-1], reward[-1] = states - 1, 0
    return MDP(successors, chances, reward, rng.dirichlet(np.ones(states)), discount, horizon)


def random_policy(world, seed, batch=()):
    rng = np.random.default_rng(seed)
    time = () if world.horizon is None else (world.horizon,)
    return rng.dirichlet(np.ones(world.actions), (*batch, *time, world.states))


def test_two_states_by_hand():
    # 0: action 0 stays and pays 1, action 1 leaves for the absorbing state and pays 4
    world = MDP(
        np.array([[[0], [1]], [[1], [1]]]),
        np.ones((2, 2, 1)),
        np.array([[1.0, 4.0], [0, 0]]),
        np.array([1.0, 0]),
        0.5,
    )
    half = world.uniform()
    assert evaluate(world, half) == pytest.approx([2.5 / 0.75, 0])  # v = 2.5 + .25 v
    assert visits(world, half)[0] == pytest.approx([0.5 / 0.75, 0.5 / 0.75])
    assert occupancy(world, half).sum() == pytest.approx(1)
    best = optimal(world)
    assert best.values == pytest.approx([4, 0])
    assert best.q[0] == pytest.approx([3, 4])
    soft = soft_optimal(world, temperature=2.0)
    x = np.exp(soft.values[0] / 2)  # x = e^{1/2} sqrt(x) + e^2
    assert x == pytest.approx(np.exp(0.5) * np.sqrt(x) + np.exp(2))
    held = soft_optimal(world, temperature=2.0, reference=np.array([[0.9, 0.1], [0.5, 0.5]]))
    x = np.exp(held.values[0] / 2)
    assert x == pytest.approx(0.9 * np.exp(0.5) * np.sqrt(x) + 0.1 * np.exp(2))
    assert held.policy[0, 1] == pytest.approx(0.1 * np.exp(2) / x)


def test_lock_by_hand():
    world = lock(2, actions=2)
    soft = soft_optimal(world, temperature=1.0)
    assert soft.values[0, 0] == pytest.approx(np.log(np.exp(np.log(np.e + 1)) + 2))
    values = evaluate(world, world.uniform()[None])
    assert values[:, 0] == pytest.approx([0.25, 0])
    assert values[:, 1] == pytest.approx([0.5, 0.5])
    assert visits(world, world.uniform()[None]).sum() == pytest.approx(2)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), horizon=st.sampled_from([None, 1, 4]))
def test_occupancy_gives_the_return(seed, horizon):
    world = random_world(seed, horizon=horizon)
    policy = random_policy(world, seed, (2,))
    made = visits(world, policy)
    reward = world.reward if horizon is None else world.reward[None]
    axes = (-2, -1) if horizon is None else (-3, -2, -1)
    assert (made * reward).sum(axes) == pytest.approx(returns(world, policy))
    assert occupancy(world, policy).sum(axes) == pytest.approx(1)
    assert (made[..., ~world.live, :] == 0).all()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    horizon=st.sampled_from([None, 1, 4]),
    temperature=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
)
def test_solutions_solve_their_bellman_equation(seed, horizon, temperature):
    world = random_world(seed, horizon=horizon)
    reward = np.random.default_rng(seed).normal(size=(3, world.states, world.actions))
    solve = (
        (lambda r: soft_optimal(world, r, temperature=temperature)) if temperature else (lambda r: optimal(world, r))
    )
    found = solve(reward)
    assert residual(world, found, reward, temperature) < 1e-9
    alone = solve(reward[1])  # a batch is its members
    assert found.values[1] == pytest.approx(alone.values)
    assert found.policy[1] == pytest.approx(alone.policy)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), horizon=st.sampled_from([None, 3]))
def test_no_policy_beats_the_soft_optimal_one(seed, horizon):
    world = random_world(seed, horizon=horizon)
    reference, temperature = random_policy(world, seed + 1), 0.7

    def objective(policy):
        cost = temperature * np.log(policy / reference)
        made = visits(world, policy)
        return (made * (world.reward - cost)).sum()

    best = soft_optimal(world, temperature=temperature, reference=reference)
    first = best.values if horizon is None else best.values[0]
    assert objective(best.policy) == pytest.approx((world.start * first).sum())
    for other in random_policy(world, seed, (5,)):
        assert objective(other) <= objective(best.policy) + 1e-9
        assert objective(0.95 * best.policy + 0.05 * other) <= objective(best.policy) + 1e-9


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_no_policy_beats_the_optimal_one(seed):
    world = random_world(seed)
    best = returns(world, optimal(world).policy)
    assert (returns(world, random_policy(world, seed, (8,))) <= best + 1e-9).all()
    assert returns(world, soft_optimal(world, temperature=1e-3).policy) == pytest.approx(best, abs=1e-2)


def test_texts_are_enumerated():
    rng = np.random.default_rng(0)
    scores = {}

    def reward(prompts, completions):
        return np.array([scores.setdefault(pair, rng.normal()) for pair in zip(prompts, completions, strict=True)])

    world = token_mdp(["a", "b", "c"], ["x", "y"], 3, reward)
    reference = rng.dirichlet(np.ones(world.actions), world.states)
    base = world.distribution(visits(world, reference))
    state, action = world.finishing.T
    for beta in (0.3, 2.0):
        tuned = soft_optimal(world, temperature=beta, reference=reference)
        # RLHF's optimum over texts: ref exp(R / beta) / Z for each prompt
        weight = (base * np.exp(world.reward[state, action] / beta)).reshape(2, -1)
        by_hand = (weight / weight.sum(1, keepdims=True) / 2).ravel()
        assert world.distribution(visits(world, tuned.policy)) == pytest.approx(by_hand)
        assert tuned.values[world.state("y")] == pytest.approx(beta * np.log(2 * weight[1].sum()))


def test_large_worlds_are_swept():
    world = token_mdp(["a", "b", "c"], ["x"], 7, lambda p, c: np.array([text.count("a") for text in c], float))
    assert world.states > 400
    best = optimal(world)
    assert returns(world, best.policy) == pytest.approx(7)
    assert residual(world, soft_optimal(world, temperature=0.5), None, 0.5) < 1e-9
    uniform = world.uniform()
    assert world.distribution(visits(world, uniform)).sum() == pytest.approx(1)
    # a text goes on with chance 3/4, up to 7 tokens; a third of its words are a
    assert returns(world, uniform) == pytest.approx(sum(0.75**t for t in range(1, 8)) / 3)


def test_discount_one_needs_an_end():
    with pytest.raises(WorldError, match="never ends"):
        evaluate(grid(["S."], discount=1.0), np.full((2, 4), 0.25))
    world = grid(["SG"], discount=1.0, slip=0.2)
    assert returns(world, world.uniform()) == pytest.approx(1)


def test_long_chains_agree_with_finite_ones():
    world = chain(5, discount=0.8)
    finite = MDP(world.successors, world.chances, world.reward, world.start, 0.8, 120)
    assert returns(finite, world.uniform()[None]) == pytest.approx(returns(world, world.uniform()), abs=1e-9)
    assert returns(finite, optimal(finite).policy) == pytest.approx(returns(world, optimal(world).policy), abs=1e-9)


def test_total_variation_and_errors():
    assert total_variation(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])) == pytest.approx(0.5)
    world = frozen_lake()
    with pytest.raises(WorldError, match="temperature 0"):
        soft_optimal(world, temperature=0)
    with pytest.raises(WorldError, match="time axis"):
        timed(lock(3), np.ones((4, 2)))
    with pytest.raises(WorldError, match="must end in"):
        optimal(world, np.zeros((3, 3)))


def test_divergences_of_occupancies():
    world = frozen_lake()
    policies = random_policy(world, 0, (3,))
    first, second = occupancy(world, policies), occupancy(world, world.uniform())
    assert f_divergence(first, second, "tv") == pytest.approx(total_variation(first, second))
    assert (f_divergence(first, second, "forward_kl") > 0).all()
    assert f_divergence(first, first, "js") == pytest.approx(0)
    timed_world = lock(3)
    held = occupancy(timed_world, timed_world.uniform()[None])
    assert f_divergence(held, held, "chi2", axes=3) == pytest.approx(0)


def test_other_starts():
    world = grid(["S..G"], discount=0.5)
    moved = world.starting([2])
    assert returns(moved, optimal(moved).policy) == pytest.approx(1)
    assert returns(world, optimal(world).policy, start=moved.start) == pytest.approx(1)
    assert returns(world, optimal(world).policy) == pytest.approx(0.25)
