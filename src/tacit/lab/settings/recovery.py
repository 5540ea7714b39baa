"""What each learner can recover: its target, up to what its reward is known, and data of any size, or without end.

A learner gets its data from a `Source`: n trajectories or comparisons, drawn as multinomials (`simulate.tally`,
`segments.compare`) so that n may be as large as one likes, or n None for exact expectations, the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np

from tacit.lab.mdp import Array, Ints
from tacit.lab.optimise import softmax
from tacit.lab.settings import imitation, inverse, offline, online, segments
from tacit.lab.settings.task import Task, grid_task, lake_task, text_task
from tacit.lab.simulate import Tally, tally
from tacit.lab.solve import occupancy, optimal, soft_optimal, total_variation, visits

PAIRS, MORE_PAIRS = 6_000, 18_000
"""Most pairs of segments that people may be asked about, a random choice of all there are; of pairs that end
alike, in worlds without chance."""
Found = Array | tuple[Array, Array]
Asked = tuple[segments.Segments, tuple[Ints, Ints]]
"""Segments, and the numbers of the two of each pair."""
Kind = Literal["none", "trajectories", "log", "labels", "comparisons", "moves"]


def worlds(seeds: int, seed: int) -> list[Task]:
    """The worlds of `settings` with a truth of its own for each seed, and what has to be added to learn of them.

    Truths are those of `settings` and normal noise on the reward of every cell (.02 on the grid, .01 on FrozenLake); in
    texts all weights are drawn anew. "FrozenLake, soft" is a demonstrator of temperature .05 instead of .01.
    """
    rng = np.random.default_rng([seed, 6])
    lake = _drawn(lake_task(), seeds, 0.01, rng)
    return [
        _drawn(grid_task(), seeds, 0.02, rng),
        lake,
        replace(lake, name="FrozenLake, soft", temperature=0.05),
        _drawn(text_task(), seeds, 0.0, rng),
        _drawn(grid_task(certain=True), seeds, 0.02, rng),
        _drawn(lake_task(certain=True), seeds, 0.01, rng),
    ]


def _drawn(task: Task, seeds: int, spread: float, rng: np.random.Generator) -> Task:
    noise = rng.normal(size=(seeds, len(task.weights)))
    return replace(task, weights=task.weights + spread * noise if task.realised else 0.6 * noise)


@dataclass(frozen=True, eq=False)
class World:
    """A task of B seeds, and what does not depend on data."""

    task: Task
    batch: int

    @cached_property
    def reached(self) -> Array:
        """(S, 1) 1 for states that can be reached from where the demonstrations begin."""
        return np.asarray(visits(self.task.mdp, self.task.mdp.uniform()).sum(-1) > 0, np.float64)[:, None]

    def best(self, policy: Array) -> Array:
        """(B, S, A) the policy that is optimal for the truth and nearest to this one: ties, within 1e-6, go its way."""
        values = self.task.best
        kept = policy * (values.q >= values.q.max(-1, keepdims=True) - 1e-6)
        total = kept.sum(-1, keepdims=True)
        return np.where(total > 0, kept / np.where(total > 0, total, 1), values.policy)

    @property
    def noise(self) -> float:
        """Returns that people tell apart in 73 of 100 comparisons: twice the temperature of the demonstrator."""
        return 2 * self.task.temperature

    @cached_property
    def places(self) -> Ints:
        """States that segments begin in, which are those that can be reached; texts begin at the start."""
        return np.flatnonzero(self.reached[:, 0])

    @cached_property
    def whole(self) -> Asked:
        """Two moves from anywhere, or whole texts, and pairs that begin alike."""
        if self.task.realised:
            return self._asked(segments.Segments.of(self.task, 2, self.places), alike=False)
        starts = np.flatnonzero(self.task.mdp.start)
        return self._asked(segments.Segments.of(self.task, self.task.steps, starts), alike=False)

    @cached_property
    def alike(self) -> Asked:
        """Segments, and pairs that begin in one state and end in one: values cancel there if moves have one outcome."""
        if not self.task.realised:
            return self.whole
        certain = bool((self.task.mdp.chances.max(-1) == 1).all())
        return self._asked(segments.Segments.of(self.task, 4 if certain else 2, self.places), alike=True)

    @cached_property
    def short(self) -> Asked:
        """Two moves from anywhere that can be reached, and pairs that begin alike."""
        return self._asked(segments.Segments.of(self.task, 2, self.places), alike=False)

    def _asked(self, every: segments.Segments, *, alike: bool) -> Asked:
        first, second = every.pairs(alike=alike)
        certain = bool((self.task.mdp.chances.max(-1) == 1).all())
        most = MORE_PAIRS if alike and certain else PAIRS
        if len(first) > most:
            some = np.random.default_rng(0).choice(len(first), most, replace=False)
            first, second = first[some], second[some]
        return every, (first, second)


@dataclass(frozen=True, eq=False)
class Source:
    """Data of a world: n of what the learner takes, or all there can be."""

    world: World
    n: int | None
    rng: np.random.Generator

    @property
    def task(self) -> Task:
        """The task."""
        return self.world.task

    @property
    def batch(self) -> int:
        """B."""
        return self.world.batch

    @cached_property
    def seen(self) -> Tally:
        """n trajectories of the demonstrator."""
        return tally(self.task.mdp, self.task.demonstrator(self.batch), self.n, self.rng, steps=self.task.steps)

    @cached_property
    def log(self) -> offline.Log:
        """n trajectories of one that acts like the demonstrator half of the time and at random else, with rewards."""
        half = 0.5 * self.task.demonstrator(self.batch) + 0.5 * self.task.mdp.uniform()
        return offline.Log.tallied(self.task, tally(self.task.mdp, half, self.n, self.rng, steps=self.task.steps))

    @property
    def little(self) -> float:
        """A prior for counts that exact shares do not feel."""
        return 1e-12 if self.n is None else 0.1

    @property
    def slight(self) -> float:
        """A penalty of rewards that rare moves do not feel, where their shares are exact."""
        return 1e-8 if self.n is not None else 1e-12

    def by_return(self, asked: Asked, policy: Array, part: int = 1) -> segments.Votes:
        """n / part comparisons by return of the segments that a policy plays."""
        merit = segments.returns_of(asked[0], self.batch, self.world.noise)
        return segments.compare(*asked, policy, merit, self.n and self.n // part, self.rng)

    def by_regret(self) -> segments.Votes:
        """n comparisons by regret of segments that are played at random."""
        every, pair = self.world.short
        merit = segments.regret_of(every, self.batch)
        return segments.compare(every, pair, self.task.uniform(self.batch), merit, self.n, self.rng)


def trex(d: Source) -> Found:
    """T-REX on play at random, and a quarter and half of the way to the demonstrator, a third each; the best policy."""
    log_expert = np.log(np.maximum(d.task.demonstrator(d.batch), 1e-12))
    votes = None
    for share in (0.0, 0.25, 0.5):
        more = d.by_return(d.world.whole, softmax(share * log_expert), 3)
        votes = more if votes is None else votes + more
    assert votes is not None
    reward = segments.reward_from(votes, d.world.noise)
    return optimal(d.task.mdp, reward).policy, reward


def soft_trex(d: Source) -> Found:
    """The reward of T-REX with the soft-optimal policy for it."""
    reward = trex(d)[1]
    return soft_optimal(d.task.mdp, reward, temperature=d.task.temperature).policy, reward


def rlhf(d: Source) -> Found:
    """A Bradley-Terry reward in two rounds, of random play and of the first round's policy, and its soft optimum."""
    votes, policy, reward = None, d.task.uniform(d.batch), np.zeros(0)
    for _ in range(2):
        more = d.by_return(d.world.whole, policy, 2)
        votes = more if votes is None else votes + more
        reward = segments.reward_from(votes, d.world.noise)
        policy = soft_optimal(d.task.mdp, reward, temperature=d.task.temperature).policy
    return policy, reward


def dpo(d: Source) -> Found:
    """DPO over a table, on random play that ends as it begins: in one state."""
    votes = d.by_return(d.world.alike, d.task.uniform(d.batch))
    return segments.policy_from(votes, d.task.temperature / d.world.noise)


def demonstrated_q(d: Source, *, shown: bool) -> Found:
    """Q-learning of 1,600 moves, after 50 demonstrations or none."""
    own = d.task.demonstrations(d.batch, 50, d.rng) if shown else None
    return online.q_learning(d.task, d.batch, d.rng, steps=100, demonstrations=own, margin=0.1)


def extrapolation(d: Source, chosen: str, rejected: str) -> Found:
    """AfD: a Bradley-Terry reward h on features, of one policy's texts against another's, and ref exp(h) / Z.

    `init` is the uniform policy, `sft` a table cloned from n demonstrations, `demo` the demonstrator; the reference is
    the one that is rejected. The reward is h in units of tau.
    """
    sft = offline.clone(d.seen.counts(), d.little)
    policies = {"init": d.task.uniform(d.batch), "sft": sft, "demo": d.task.demonstrator(d.batch)}
    votes = segments.told_apart(*d.world.whole, policies[chosen], policies[rejected], d.n, d.rng)
    h = segments.reward_from(votes, 1.0)
    policy = soft_optimal(d.task.mdp, h, reference=policies[rejected]).policy
    return policy, d.task.temperature * (h + np.log(d.task.mdp.uniform()) * d.task.mdp.live[:, None])


def self_play(d: Source, weight: float, rounds: int) -> Found:
    """SPIN with lambda = weight over policies that are log-linear in the features of texts; each round to its end.

    A round tells n demonstrations from n texts of the last policy; lambda log pi / pi_t is what tells them, so that
    pi = pi_t exp(h / lambda) / Z, with h as in `extrapolation`.
    """
    policy = d.task.uniform(d.batch)
    for _ in range(rounds):
        votes = segments.told_apart(*d.world.whole, d.task.demonstrator(d.batch), policy, d.n, d.rng)
        tilt = segments.reward_from(votes, 1.0) / weight
        policy = soft_optimal(d.task.mdp, tilt, reference=policy).policy
    return policy


def adversarial(name: str) -> Callable[[Source], Found]:
    """GAIL's game with another divergence, by its formal reward; the last reward is not looked at."""

    def learn(d: Source) -> Found:
        floor = 1e-9 if d.n is None else 1e-4
        return imitation.gail(d.task, d.seen.visits(), name=name, rate=0.5, floor=floor)[0]

    return learn


def random_reward(d: Source) -> Found:
    """The control: normal rewards of the truth's size, and the soft-optimal policy for them."""
    size = np.abs(d.task.reward).max()
    reward = size * d.rng.normal(size=(d.batch, d.task.mdp.states, d.task.mdp.actions)) * d.task.mdp.live[:, None]
    return soft_optimal(d.task.mdp, reward, temperature=d.task.temperature).policy, reward


def gail(d: Source) -> Found:
    """GAIL; its last reward is not looked at."""
    return imitation.gail(d.task, d.seen.visits(), floor=1e-9 if d.n is None else 1e-4)[0]


def regression(d: Source) -> Found:
    """Exact shares count as if of trajectories without number."""
    return inverse.log_policy_regression(d.task, d.seen.counts() * (1e300 if d.n is None else 1.0))


@dataclass(frozen=True)
class Learner:
    """A learner with what it can recover."""

    setting: str
    name: str
    given: str
    """`d` dynamics, `r` reward, `D` demonstrations, `L` log with rewards, `E` demonstrator to ask, `P` preferences."""
    learn: Callable[[Source], Found]
    kind: Kind = "none"
    """What n counts."""
    target: Literal["demonstrator", "best policy", "the log's policy"] = "demonstrator"
    equivalence: str = ""
    """Up to what its reward is known, in the limit; empty if it has none."""
    table: bool = False
    """Whether it knows nothing of states that no data are of, as those of new prompts."""
    limit: bool = True
    """Whether it can be given exact expectations."""
    only: str = ""
    """The one world that it is tried in."""
    why: dict[str, str] = field(default_factory=dict)
    """Why it does not come within .02 of its target, by world (`*` in all that are not named)."""

    def aim(self, world: World, found: Array) -> Array:
        """(B, S, A) the policy that the one it found is measured against."""
        expert = world.task.demonstrator(world.batch)
        if self.target == "best policy":
            return world.best(found)
        return expert if self.target == "demonstrator" else 0.5 * expert + 0.5 * world.task.mdp.uniform()

    def reason(self, world: str, n: int | None = None) -> str:
        """Why not in this world, in the limit, or from samples."""
        named = self.why.get(world, self.why.get("*", ""))
        return named or (self.why.get("samples", "") if n is not None else "")


FEATURED = "the features' span, past shaping"
LIKELY = "potential shaping, and moves the demonstrator does not make"
LUCK = "values do not cancel where moves have chance outcomes: luck is taken for skill, in the limit too"
CLASS = "its class does not hold the demonstrator: features of the reward, not of what follows"
LEANS = "its penalty does not fall with the data, and leans to the log's actions"
NONE = "nothing: it is 0 where the cloned policy is the demonstrator"
FAR = "a round that is followed to its end goes 1 / lambda of the way to the demonstrator, ten times too far"
BRIEF = "few moves, by design: what demonstrations save"
ONE_STEP = "one step of improvement on the log's policy, by design"
LEARNERS = (
    Learner("control", "random policy", "", lambda d: d.task.uniform(d.batch), why={"*": "control"}),
    Learner("control", "random reward", "", random_reward, equivalence="-", why={"*": "control"}),
    Learner("control", "demonstrator", "", lambda d: d.task.demonstrator(d.batch)),
    Learner(
        "RL", "policy gradient", "d r", lambda d: online.policy_gradient(d.task, d.batch, d.rng),
        "moves", "best policy", table=True, limit=False,
        why={"*": "a stochastic policy with entropy .001, after 12,000 episodes"},
    ),
    Learner(
        "RL", "Q-learning", "d r", lambda d: online.q_learning(d.task, d.batch, d.rng, steps=6000),
        "moves", "best policy", table=True, limit=False,
        why={"*": "96,000 moves leave actions that are nearly as good untold"},
    ),
    Learner(
        "offline RL", "behaviour cloning", "L", lambda d: offline.clone(d.log.counts, d.little),
        "log", "the log's policy", table=True,
    ),
    Learner(
        "offline RL", "advantage-weighted", "L",
        lambda d: offline.advantage_weighted(d.log, temperature=2 * d.task.temperature),
        "log", "best policy", table=True, why={"*": ONE_STEP},
    ),
    Learner(
        "offline RL", "fitted Q, no penalty", "L", lambda d: offline.conservative_q(d.log, penalty=0)[0],
        "log", "best policy", table=True,
    ),
    Learner(
        "offline RL", "conservative Q (CQL)", "L", lambda d: offline.conservative_q(d.log, penalty=0.02)[0],
        "log", "best policy", table=True, why={"grid": LEANS, "FrozenLake": LEANS},
    ),
    Learner(
        "imitation", "behaviour cloning", "D", lambda d: offline.clone(d.seen.counts(), d.little),
        "trajectories", table=True,
    ),
    Learner(
        "imitation", "behaviour cloning, features", "D",
        lambda d: offline.clone_linear(d.task, d.seen.counts(), l2=1e-9 if d.n is None else None),
        "trajectories", why={"texts": CLASS},
    ),
    Learner(
        "imitation", "DAgger", "d E", lambda d: imitation.dagger(d.task, d.batch, d.n, d.rng), "labels", table=True
    ),
    Learner("imitation", "GAIL", "d D", gail, "trajectories", equivalence="", table=True),
    Learner(
        "IRL", "maximum entropy", "d D", lambda d: inverse.maximum_entropy_irl(d.task, d.seen.counts(), l2=d.slight),
        "trajectories", equivalence=FEATURED,
    ),
    Learner(
        "IRL", "AIRL", "d D", lambda d: inverse.airl(d.task, d.seen.visits()), "trajectories", equivalence=FEATURED
    ),
    Learner(
        "IRL", "log policy, regressed", "d D", regression, "trajectories", equivalence=FEATURED,
        why={"samples": "shares of rare moves, of which only those made by luck are there, count as much as others"},
    ),
    Learner(
        "offline IRL", "maximum entropy, estimated dynamics", "D",
        lambda d: inverse.estimated_dynamics_irl(
            d.task, d.seen, at_least=1e-300 if d.n is None else 10, l2=d.slight
        ),
        "trajectories", equivalence=LIKELY, table=True,
    ),
    Learner(
        "offline IRL", "inverse soft Q (IQ)", "D", lambda d: inverse.inverse_soft_q(d.task, d.seen),
        "trajectories", equivalence=LIKELY, table=True,
    ),
    Learner(
        "demonstrations and reward", "Q-learning, 1,600 moves", "d r", lambda d: demonstrated_q(d, shown=False),
        "moves", "best policy", table=True, limit=False, why={"*": BRIEF},
    ),
    Learner(
        "demonstrations and reward", "the same after 50 demonstrations", "d r D",
        lambda d: demonstrated_q(d, shown=True), "moves", "best policy", table=True, limit=False, why={"*": BRIEF},
    ),
    Learner("preferences", "T-REX", "d P", trex, "comparisons", "best policy", FEATURED),
    Learner("preferences", "T-REX, then soft-optimal", "d P", soft_trex, "comparisons", equivalence=FEATURED),
    Learner("preferences", "RLHF, two rounds", "d P", rlhf, "comparisons", equivalence=FEATURED),
    Learner(
        "preferences", "DPO", "P", dpo, "comparisons", table=True,
        why={"grid": LUCK, "FrozenLake": LUCK, "FrozenLake, soft": LUCK},
    ),
    Learner(
        "preferences", "contrastive (CPL)", "P", lambda d: segments.policy_from(d.by_regret()), "comparisons",
        table=True,
    ),
    *(
        Learner(
            "demonstrations", f"AfD, {name}", "D", partial(extrapolation, chosen=pair[0], rejected=pair[1]),
            "trajectories", equivalence=what, only="texts", table=pair[1] == "sft",
        )
        for name, pair, what in (
            ("init-demo", ("demo", "init"), FEATURED), ("init-sft", ("sft", "init"), FEATURED),
            ("sft-demo", ("demo", "sft"), NONE),
        )
    ),
    Learner(
        "demonstrations", "SPIN, lambda 1, 3 rounds", "d D", lambda d: self_play(d, 1.0, 3), "trajectories",
        only="texts",
    ),
    Learner(
        "demonstrations", "SPIN, lambda 2, 10 rounds", "d D", lambda d: self_play(d, 2.0, 10), "trajectories",
        only="texts",
    ),
    Learner(
        "demonstrations", "SPIN, lambda 0.1, 1 round", "d D", lambda d: self_play(d, 0.1, 1), "trajectories",
        only="texts", why={"texts": FAR},
    ),
    *(
        Learner(
            "demonstrations", f"adversarial, {name}", "d D", adversarial(name), "trajectories", only="texts", table=True
        )
        for name in ("reverse_kl", "js", "forward_kl", "chi2", "hellinger", "tv")
    ),
)  # fmt: skip
CERTAIN = ("random policy", "demonstrator", "behaviour cloning", "RLHF, two rounds", "DPO", "contrastive (CPL)")
"""Learners that are tried in the grids without slip as well."""


def tried(world: World) -> list[Learner]:
    """The learners of a world."""
    every = [own for own in LEARNERS if own.only in ("", world.task.name)]
    if world.task.name.endswith(("slip", "ice")):
        return [own for own in every if own.name in CERTAIN and own.setting != "offline RL"]
    soft = world.task.name.endswith("soft")
    return [own for own in every if not soft or (own.target == "demonstrator" or own.setting == "preferences")]


def apart(world: World, policy: Array, aim: Array) -> tuple[Array, Array]:
    """(B,) total variation of occupancy from the starts of the demonstrations, and from the held-out ones."""
    mdp = world.task.mdp
    starts = (mdp.start, world.task.held_out)
    own, held = (total_variation(occupancy(mdp, policy, s), occupancy(mdp, aim, s)) for s in starts)
    return own, held
