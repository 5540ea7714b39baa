"""Three worlds with a demonstrator: a grid, FrozenLake, and short texts.

The demonstrator is soft-optimal for the true reward at temperature tau, which makes one policy the target of all
learners that imitate: of behaviour cloning and IRL by definition, and of RLHF, DPO and CPL since their reference is the
uniform policy and beta is tau. The true reward is linear in features of moves, R = Phi w.

Held-out starts: on the grids the cells in which no demonstration begins; in texts, prompts of which none was seen. A
prompt has a topic and a tone, and the features are of (topic, word), (tone, word) and (last word, word): what a table
over states cannot know of a new prompt, these can.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tacit.lab.irl import arrival_features, linear
from tacit.lab.mdp import MDP, Array, Ints, frozen_lake, grid, moves_until
from tacit.lab.simulate import Trajectories, gather, simulate
from tacit.lab.solve import Solution, optimal, soft_optimal
from tacit.lab.tokens import token_mdp

GRID = ("S..S.", ".#.H.", "S...S", ".H.#.", "..S.G")
WORDS, TOPICS, TONES, LENGTH = ("a", "b", "c"), 3, 3, 3


@dataclass(frozen=True)
class Task:
    """A world, its demonstrator, and the sizes of data."""

    name: str
    mdp: MDP
    features: Array
    """(S, A, D)."""
    weights: Array
    """(D,) w of the true reward, or (B, D): one truth, and one demonstrator, for each member of a batch."""
    temperature: float
    steps: int
    """Moves of a sampled trajectory."""
    held_out: Array
    """(S,) distribution of the starts that no learner begins in."""
    realised: bool
    """Whether features are of the state that a move led to (grids), rather than of the move."""

    @cached_property
    def expert(self) -> Solution:
        """The demonstrator, and its soft values for the true reward."""
        return soft_optimal(self.mdp, self.reward, temperature=self.temperature)

    @cached_property
    def best(self) -> Solution:
        """An optimal policy for the true reward."""
        return optimal(self.mdp, self.reward)

    @cached_property
    def reward(self) -> Array:
        """(S, A) or (B, S, A) Phi w."""
        return linear(self.features, self.weights) * self.mdp.live[:, None]

    def demonstrator(self, batch: int) -> Array:
        """(B, S, A) the demonstrator's policy for each member of a batch."""
        return np.broadcast_to(self.expert.policy, (batch, self.mdp.states, self.mdp.actions))

    def uniform(self, batch: int) -> Array:
        """(B, S, A)."""
        return np.repeat(self.mdp.uniform()[None], batch, 0)

    def demonstrations(self, batch: int, n: int, rng: np.random.Generator) -> Trajectories:
        """n trajectories of the demonstrator for each member of the batch."""
        return self.play(self.demonstrator(batch), n, rng)

    def play(
        self,
        policy: Array,
        n: int,
        rng: np.random.Generator,
        *,
        states: Ints | None = None,
        steps: int | None = None,
    ) -> Trajectories:
        """Trajectories of policies (B, S, A) in the world."""
        return simulate(self.mdp, policy, n, rng, steps=steps or self.steps, states=states)

    def totals(self, seen: Trajectories) -> Array:
        """(B, n, D) discounted sums of the features that trajectories met."""
        weight = seen.discount ** np.arange(seen.states.shape[-1]) * seen.alive
        batch, n = seen.states.shape[:2]
        if not self.realised:
            total = np.zeros((batch, n, self.features.shape[-1]))
            for t in range(weight.shape[-1]):
                total += self.features[seen.states[..., t], seen.actions[..., t]] * weight[..., t, None]
            return total
        row = np.arange(batch * n).reshape(batch, n, 1) * self.mdp.states
        sums = np.bincount((row + seen.following).ravel(), weight.ravel(), batch * n * self.mdp.states)
        return np.asarray(sums, np.float64).reshape(batch, n, -1)

    def earned(self, seen: Trajectories) -> Array:
        """(B, n, T) rewards as they were met: of the state reached on grids, where expectations hide the luck."""
        return self.paid(seen.states, seen.actions, seen.following) * seen.alive

    def paid(self, states: Ints, actions: Ints, following: Ints) -> Array:
        """(B, ...) what moves pay."""
        if not self.realised:
            return gather(self.reward, states, actions)
        return gather(self.weights[..., None], following, np.zeros_like(following))


def grid_task(*, certain: bool = False) -> Task:
    """A 5 by 5 grid with walls, holes worth -1 and a goal worth 1; one move in ten goes astray unless `certain`."""
    world = grid(GRID, slip=0.0 if certain else 0.1, values={"H": -1.0}, discount=0.95)
    return _on_grid("grid, no slip" if certain else "grid", world, "".join(GRID), {"G": 1.0, "H": -1.0}, 0.02)


def lake_task(*, certain: bool = False) -> Task:
    """FrozenLake, slippery unless `certain`, begun in the first cell."""
    world = frozen_lake(slippery=not certain)
    return _on_grid("FrozenLake, no ice" if certain else "FrozenLake", world, "SFFFFHFHFFFHHFFG", {"G": 1.0}, 0.01)


def text_task(seed: int = 0) -> Task:
    """Nine prompts of three topics and three tones, three held out; up to three of three words."""
    prompts = [f"{topic} {tone}" for topic in ("cats", "rain", "bread") for tone in ("plain", "warm", "dry")]
    world = token_mdp(WORDS, prompts, LENGTH)
    actions, states = world.actions, world.states
    prompt, place = np.divmod(np.arange(states - 1), world.texts)
    last = np.array([WORDS.index(text[-1]) if text else len(WORDS) for text in world.written])[place]
    parts = (np.eye(TOPICS)[prompt // TONES], np.eye(TONES)[prompt % TONES], np.eye(len(WORDS) + 1)[last])
    given = np.concatenate([np.concatenate(parts, -1), np.zeros((1, TOPICS + TONES + len(WORDS) + 1))])  # (S, G)
    features = np.einsum("sg,ab->sagb", given, np.eye(actions)).reshape(states, actions, -1)
    weights = np.random.default_rng(seed).normal(scale=0.6, size=features.shape[-1])
    start = world.start * 0
    first = np.arange(len(prompts)) * world.texts
    unseen = np.isin(np.arange(len(prompts)), (0, 4, 8))  # each topic and each tone is seen elsewhere
    start[first[~unseen]] = 1 / (~unseen).sum()
    held = np.zeros(states)
    held[first[unseen]] = 1 / unseen.sum()
    begun = world.starting(first[~unseen])
    return Task("texts", begun, features, weights, 0.5, LENGTH, held, False)


def _on_grid(name: str, world: MDP, letters: str, values: dict[str, float], temperature: float) -> Task:
    weights = np.array([values.get(letter, 0.0) for letter in letters])
    unseen = world.live & (world.start == 0)
    steps = moves_until(world.discount, 5e-3)
    held = unseen / unseen.sum()
    return Task(name, world, arrival_features(world), weights, temperature, steps, held, True)
