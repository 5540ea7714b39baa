"""Worlds: moves by hand, errors, FrozenLake and the environment checker of Gymnasium, texts as states."""

from itertools import product

import numpy as np
import pytest

from tacit.errors import MissingExtra
from tacit.lab.mdp import DOWN, LEFT, MDP, RIGHT, UP, WorldError, chain, deep_sea, frozen_lake, grid, lock, moves_until
from tacit.lab.solve import optimal, returns, visits
from tacit.lab.tokens import END, sky, token_mdp


def test_grid_by_hand():
    world = grid(["S.#", ".HG"], slip=0.2, values={"H": -1.0}, step=-0.1)
    assert world.shape == (2, 3)
    assert list(np.flatnonzero(world.live)) == [0, 1, 3]  # not the wall, the hole and the goal
    moved = world.dense[0]
    assert moved[RIGHT] == pytest.approx([0.9, 0, 0, 0, 0, 0] * np.array([1 / 9]) + [0, 0.8, 0, 0.1, 0, 0])
    assert moved[LEFT] == pytest.approx([0.9, 0, 0, 0.1, 0, 0])
    assert world.dense[1, RIGHT] == pytest.approx([0, 0.9, 0, 0, 0.1, 0])  # a wall: stays; up: the edge; down: hole
    assert world.reward[1, DOWN] == pytest.approx(0.8 * -1 - 0.1)
    assert (world.reward[[2, 4, 5]] == 0).all()
    assert world.dense[1, UP, 1] == pytest.approx(0.8 + 0.1)


def test_flows_are_the_transpose_of_expectations():
    world = frozen_lake()
    rng = np.random.default_rng(0)
    mass, values = rng.random((3, world.states, world.actions)), rng.random((3, world.states))
    ahead = (mass * world.expected(values)).sum((1, 2))
    assert (world.spread(mass) * values).sum(1) == pytest.approx(ahead)


def test_lock_and_deep_sea():
    world = lock(4, actions=3, right=[2, 0, 1, 1])
    assert world.horizon == 4
    assert returns(world, optimal(world).policy) == pytest.approx(1)
    assert returns(world, world.uniform()[None]) == pytest.approx(3.0**-4)
    sea = deep_sea(5)
    assert returns(sea, optimal(sea).policy) == pytest.approx(1 - 0.01)
    assert returns(sea, sea.uniform()[None]) == pytest.approx(2.0**-5 - 0.005)


def test_chain():
    world = chain(3, ahead=1.0, discount=0.5, small=0.3)
    # going right pays 1 for ever after two moves: .25 * 2; staying left pays .3 for ever: .6
    assert optimal(world).policy[0, 0] == 1
    assert optimal(chain(3, ahead=1.0, discount=0.9, small=0.3)).policy[0, 1] == 1


def test_sky_writes_the_survey_example():
    world = sky()
    assert world.states == 1 + 7 + 49 + 1
    assert world.actions == 8
    state, said = world.state("The color of the sky"), []
    policy = optimal(world).policy
    while world.live[state]:
        action = int(policy[state].argmax())
        said.append(world.vocabulary[action])
        state = int(world.successors[state, action, 0])
    assert said == ["is", "blue", END]


def test_every_text_is_a_state():
    world = token_mdp(["a", "b"], ["x", "y"], 3, lambda p, c: np.array([len(t.split()) for t in c], float))
    expected = [" ".join(w) for t in range(4) for w in product("ab", repeat=t)]
    assert sorted(world.completions) == sorted(expected * 2)
    for prompt in "xy":
        for words in ("", "a", "a b", "b b"):
            assert world.text(world.state(prompt, words)) == f"{prompt} {words}".strip()
    follow = world.successors[world.state("y", "b"), 0, 0]
    assert world.text(int(follow)) == "y b a"
    assert returns(world, optimal(world).policy) == pytest.approx(3)


def test_distribution_of_texts_by_hand():
    world = token_mdp(["a"], ["x"], 2)
    policy = np.array([[0.75, 0.25], [0.4, 0.6], [0.5, 0.5]])
    chance = dict(zip(world.completions, world.distribution(visits(world, policy)), strict=False))
    assert chance[""] == pytest.approx(0.25)
    found = world.distribution(visits(world, policy))
    assert found.sum() == pytest.approx(1)
    assert sorted(found) == pytest.approx(sorted([0.25, 0.75 * 0.4, 0.75 * 0.6]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: grid(["S.", "."]), "lengths"),
        (lambda: grid(["..", ".."]), "Mark at least one"),
        (lambda: grid(["S."], slip=2), "slip 2"),
        (lambda: lock(3, right=[0, 5, 0]), "3 actions"),
        (lambda: lock(0), "length 0"),
        (lambda: chain(1), "1 states"),
        (lambda: deep_sea(0), "size 0"),
        (lambda: moves_until(1.0), "discount"),
        (lambda: token_mdp(["a b"], ["x"], 2), "without blanks"),
        (lambda: token_mdp(["a"], [], 2), "prompts"),
        (lambda: token_mdp(["a"], ["x"], 0), "below 1"),
        (lambda: token_mdp(list("abcdefghij"), ["x"], 9), "too many"),
        (lambda: sky().state("Grass"), "no prompt 'Grass'"),
        (lambda: sky().state("The color of the sky", "green"), "no unfinished text"),
        (lambda: sky().text(10**6), "no unfinished text"),
        (lambda: MDP(np.zeros((2, 1, 1), int), np.full((2, 1, 1), 0.5), np.zeros((2, 1)), np.eye(2)[0]), "sum to 1"),
        (lambda: MDP(np.full((2, 1, 1), 7), np.ones((2, 1, 1)), np.zeros((2, 1)), np.eye(2)[0]), "out of the states"),
        (lambda: MDP(np.zeros((2, 1, 1), int), np.ones((2, 1, 1)), np.zeros((2, 2)), np.eye(2)[0]), "shape"),
        (lambda: MDP(np.zeros((2, 1, 1), int), np.ones((2, 1, 1)), np.zeros((2, 1)), np.ones(2)), "distribution"),
    ],
)
def test_what_cannot_be_built(build, message):
    with pytest.raises(WorldError, match=message):
        build()


def test_our_frozen_lake_is_theirs():
    gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    for slippery in (True, False):
        theirs = gymnasium.make("FrozenLake-v1", is_slippery=slippery).unwrapped.P
        moves, pays = np.zeros((16, 4, 16)), np.zeros((16, 4))
        for state, action in product(range(16), range(4)):
            for chance, following, reward, _ in theirs[state][action]:
                moves[state, action, following] += chance
                pays[state, action] += chance * reward
        ours = frozen_lake(slippery=slippery)
        assert ours.dense == pytest.approx(moves)
        assert ours.reward == pytest.approx(pays)


@pytest.mark.filterwarnings("ignore:.*alternative render modes.*")
@pytest.mark.parametrize(
    "world", [frozen_lake(horizon=20), lock(5), sky(), chain(4)], ids=["lake", "lock", "sky", "chain"]
)
def test_environments_pass_the_checker(world):
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    from gymnasium.utils.env_checker import check_env

    from tacit.lab.gym import WorldEnv

    check_env(WorldEnv(world))


def test_environment_says_what_was_written():
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    from tacit.lab.gym import WorldEnv

    world = sky()
    env = WorldEnv(world, render_mode="ansi")
    _, info = env.reset(seed=0)
    assert info["text"] == "The color of the sky"
    word = {token: number for number, token in enumerate(world.vocabulary)}
    env.step(np.int64(word["is"]))
    assert env.render() == "The color of the sky is"
    _, reward, over, cut, info = env.step(np.int64(word["blue"]))
    assert (reward, over, cut) == (0.0, False, False)
    _, reward, over, cut, info = env.step(np.int64(word[END]))
    assert (reward, over, cut, info["text"]) == (1.0, True, False, "The color of the sky is blue")
    short = WorldEnv(lock(3))
    short.reset(seed=0)
    assert [short.step(np.int64(1))[3] for _ in range(3)] == [False, False, True]
    with pytest.raises(ValueError, match=r"not in 0\.\.7"):
        env.step(np.int64(99))


@pytest.mark.statistical
def test_environment_returns_have_the_exact_mean():
    pytest.importorskip("gymnasium", reason="gymnasium is not installed")
    from tacit.lab.gym import WorldEnv

    world = frozen_lake(horizon=12, discount=0.9)
    env, policy = WorldEnv(world), optimal(world).policy.argmax(-1)
    earned = np.zeros(1500)
    for episode in range(len(earned)):
        state, _ = env.reset(seed=0 if episode == 0 else None)
        over = False
        for t in range(12):
            state, reward, over, cut, _ = env.step(np.int64(policy[t, state]))
            earned[episode] += 0.9**t * reward
            if over or cut:
                break
    exact = returns(world, optimal(world).policy)
    assert abs(earned.mean() - exact) < 4 * earned.std() / len(earned) ** 0.5


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "tacit.lab.gym", raising=False)
    with pytest.raises(MissingExtra, match=r"tacit\[lab\]"):
        importlib.import_module("tacit.lab.gym")
