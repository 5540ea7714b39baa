r"""Adversarial inverse reinforcement learning for language: a discriminator and a policy in turns.

    min_pi max_T  E_demo T - E_pi f*(T)                                      (survey equations 2-4)

Each round the policy answers some prompts of the demonstrations; the discriminator is fitted on the demonstrations
against these answers and some of earlier rounds (`discriminator`); its logit h gives the reward that the divergence
induces (`induced`), scaled to mean 0 and deviation 1 over the round; and the policy makes one step of policy gradient
on it (`tuning.policy_gradient`). GAIL is `js`, AIRL `reverse_kl`, FAIRL `forward_kl` with the direct reward; the exact
functional gradient is the formal one.

Prompts of a part of the demonstrations are held out. Every `check_every` rounds a *fresh* discriminator, fitted on the
others, is asked about answers to them: once its accuracy cannot be told from one half twice in a row there is nothing
left to learn from, and training stops. It also stops, and says so, when the loop fails: `collapsed`, where the policy
says nearly the same to everything and the demonstrator does not; `diverged`, where the answers of three checks in a row
are easier to tell apart than those of the initial policy were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tacit.conversation import Prompt, completion_text
from tacit.demonstrations.discriminator import DiscriminatorOptions
from tacit.demonstrations.distance import Told, separated
from tacit.demonstrations.divergences import Kind
from tacit.demonstrations.extrapolation import Demos
from tacit.demonstrations.judges import judge_of
from tacit.demonstrations.language import TrunkOptions
from tacit.errors import EvidenceError
from tacit.features import Encoder
from tacit.policies.contract import Rollout, TrainablePolicy
from tacit.rewards.contract import Reward
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.loop import State, Step
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import Experience, Sampler, SamplingOptions

_MOMENTUM = 0.8
_HISTORY = 1024
_FEWEST = 20
"""Held-out demonstrations below which nothing is stopped by them."""


@dataclass(frozen=True)
class AdversarialOptions:
    """What is matched, and when to stop."""

    divergence: str = "reverse_kl"
    alpha: float = 0.5
    induced: Kind = "formal"
    clip: float = 10.0
    per_token: bool = False
    """Judge unfinished answers as well, and credit each word with what it adds."""
    held_out: float = 0.2
    """Share of prompts that the stopping rule is asked on."""
    check_every: int = 10
    """Rounds between checks."""
    stop_when_same: bool = True
    collapsed: float = 0.1
    """Share of distinct answers, relative to that of the demonstrations, below which the policy has collapsed."""
    discriminator: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    seed: int = 0


class Adversary:
    """The learnt reward and what it learns from: demonstrations of some prompts, and answers as they come."""

    def __init__(
        self, demos: Demos, reads: Encoder | TrunkOptions, options: AdversarialOptions, *, cache: Path | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:  # fmt: skip
        self.options, self.processes = options, processes
        prompts, said, weights = demos.grouped()
        if len(prompts) < 4:
            raise EvidenceError(
                f"{len(prompts)} prompts are too few to learn on some and be tested on others",
                mend="Give demonstrations of at least four prompts",
                column="prompt",
            )
        order = np.random.default_rng([options.seed, 31]).permutation(len(prompts)).tolist()
        count = max(1, round(options.held_out * len(prompts)))
        self.held_out = [(prompts[i], said[i]) for i in sorted(order[:count])]
        self.seen = [(prompts[i], said[i]) for i in sorted(order[count:])]
        self.prompts = [prompt for prompt, _ in self.seen]
        self.rows = [(prompt, one) for prompt, every in self.seen for one in every]
        self.weights = [weight for i in sorted(order[count:]) for weight in weights[i]]
        self.distinct = len({completion_text(c) for _, c in self.rows}) / len(self.rows)
        self.judge = judge_of(
            reads, self.rows, self.weights, options.discriminator, per_token=options.per_token, seed=options.seed,
            cache=cache, processes=processes,
        )  # fmt: skip
        self.reward = self.judge.reward(name="adversarial", **self._shape())
        self.recent: list[tuple[Prompt, str]] = []
        self.metrics: dict[str, float] = {}
        self.scaled = False
        self.first: list[tuple[Prompt, str]] = []
        """Answers of the initial policy."""
        self.history: list[tuple[Prompt, str]] = []
        """A fair sample of all answers of the run."""
        self.heard = 0

    def learn(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> None:
        """Fit on fresh answers, and renew the reward and its scale."""
        fresh = list(zip(prompts, answers, strict=True))
        self.metrics = self.judge.learn(fresh)
        self.judge.renew(self.reward)
        self._remember(fresh)
        raw = self.reward.raw(self.reward.logits(prompts, answers))
        mean, deviation = float(raw.mean()), max(float(raw.std()), 1e-3)
        keep = _MOMENTUM if self.scaled else 0.0
        self.reward.offset = keep * self.reward.offset + (1 - keep) * mean
        self.reward.scale = keep * self.reward.scale + (1 - keep) * deviation
        self.scaled = True
        self.recent = [*fresh, *self.recent][: max(len(fresh), len(self.rows))]
        self.metrics["distinct"] = len(set(answers)) / len(answers) / self.distinct

    def tell(self, answers: Sequence[str]) -> Told:
        """How well a fresh discriminator, fitted on recent answers, tells answers to the held-out prompts apart."""
        judge = self.judge.fresh(self.recent)
        said = [(number, prompt, one) for number, (prompt, every) in enumerate(self.held_out) for one in every]
        asked = [
            (number, prompt, answer)
            for number, ((prompt, _), answer) in enumerate(zip(self.held_out, answers, strict=True))
        ]
        rows = [*asked, *said]
        scores = judge.logits([(prompt, one) for _, prompt, one in rows])
        side = np.repeat([0.0, 1.0], [len(asked), len(said)])
        return separated(scores, side, [number for number, _, _ in rows], seed=self.options.seed)

    def state(self) -> State:
        """The discriminator and the scale."""
        held = self.judge.state()
        values: dict[str, Any] = {**held.values, "rounds": self.judge.rounds}
        values |= {"metrics": self.metrics, "heard": self.heard}
        values |= {"offset": self.reward.offset, "scale": self.reward.scale}
        for name in ("recent", "first", "history"):
            values[name] = [list(row) for row in getattr(self, name)]
        return State(values, held.tensors)

    def restore(self, state: State) -> None:
        """Take it over."""
        if not state.values["rounds"]:
            return
        for name in ("recent", "first", "history"):
            setattr(self, name, [(prompt, answer) for prompt, answer in state.values[name]])
        self.judge.restore(state, self.recent)
        self.judge.renew(self.reward)
        self.reward.offset, self.reward.scale = float(state.values["offset"]), float(state.values["scale"])
        self.scaled, self.metrics, self.heard = True, dict(state.values["metrics"]), int(state.values["heard"])

    def learnt(self, name: str) -> Any:
        """The reward of the whole run: of a discriminator fitted on demonstrations against answers of every stage.

        The last round's reward knows only what is still wrong, which is nothing where the run has succeeded. Half of
        the answers here are the initial policy's, so that it ranks those, and half come evenly from all rounds, so that
        what tuning on it leads to has been seen as well.
        """
        rng = np.random.default_rng([self.options.seed, 33])
        count = max(len(self.first), len(self.history))
        sides = [side for side in (self.first, self.history) if side]
        rows = [side[i] for side in sides for i in rng.permutation(np.arange(count) % len(side)).tolist()]
        reward = self.judge.fresh(rows).reward(name=name, **self._shape())
        raw = reward.raw(reward.logits([p for p, _ in rows], [c for _, c in rows]))
        reward.offset, reward.scale = float(raw.mean()), max(float(raw.std()), 1e-3)
        return reward

    def _remember(self, fresh: Sequence[tuple[Prompt, str]]) -> None:
        """Reservoir sampling (Vitter 1985): every answer of the run is as likely to be in `history`."""
        rng = np.random.default_rng([self.options.seed, 34, self.heard])
        for row in fresh:
            self.heard += 1
            if len(self.history) < _HISTORY:
                self.history.append(row)
            elif (place := int(rng.integers(self.heard))) < _HISTORY:
                self.history[place] = row

    def _shape(self) -> dict[str, Any]:
        mine = self.options
        return {"divergence": mine.divergence, "alpha": mine.alpha, "kind": mine.induced, "clip": mine.clip}


@dataclass
class LearningSampler(Sampler):
    """A sampler whose reward learns from the samples before it scores them."""

    adversary: Adversary | None = None
    quiet: bool = False

    def scored(self, indices: list[int], rollout: Rollout, texts: list[str], n: int) -> Experience:
        """Let the adversary see all processes' answers, then score one's own."""
        if self.adversary is not None and not self.quiet:
            own = [(self.prompts[i], texts[row * n + k]) for row, i in enumerate(indices) for k in range(n)]
            every = [pair for part in self.processes.gather(own) for pair in part]
            self.adversary.learn([prompt for prompt, _ in every], [text for _, text in every])
        return super().scored(indices, rollout, texts, n)

    def greedy(self, made: Experience) -> Experience:
        """Greedy answers are no samples of the policy, and teach the adversary nothing."""
        self.quiet = True
        try:
            return super().greedy(made)
        finally:
            self.quiet = False


class Adversarial(PolicyGradient):
    """The loop's method; see the module."""

    def __init__(
        self,
        policy: TrainablePolicy,
        adversary: Adversary,
        sampling: SamplingOptions,
        options: GradientOptions,
        steps: int,
        *,
        evaluation: Evaluation | None = None,
        gold: Reward | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        chosen = adversary.options
        sampler = LearningSampler(
            policy,
            adversary.prompts,
            adversary.reward,
            sampling,
            chosen.seed,
            processes,
            adversary=adversary,
            gold=gold,
        )
        way: Callable[..., Any] | None = None
        if chosen.per_token:
            way = adversary.judge.credit(adversary.reward)
        super().__init__(policy, sampler, options, steps, crediting=way, evaluation=evaluation, processes=processes)
        self.name, self.adversary = "adversarial", adversary
        self.rounds, self.collapses = 0, 0
        self.checks: list[dict[str, Any]] = []
        self.failure = ""

    def round(self, step: int) -> Iterable[Step]:
        """Check where it is time to; sample, learn the reward, and step."""
        if self.rounds == 0:
            self.adversary.first = self.adversary.recent = self._first()
        if self.rounds % self.adversary.options.check_every == 0:
            self.check()
        self._watch()
        if self.failure or self.same:
            self.steps = step + 1
        self.rounds += 1
        for dealt in super().round(step):
            yield Step(dealt.parts, {**dealt.metrics, **self.adversary.metrics}, dealt.samples)

    def check(self) -> dict[str, Any]:
        """Ask a fresh discriminator about held-out prompts, once a round; kept in `checks`."""
        if self.checks and self.checks[-1]["round"] == self.rounds:
            return self.checks[-1]
        prompts = [prompt for prompt, _ in self.adversary.held_out]
        answers = self.policy.generate(prompts, 1, self.sampler.options.sampling(40_009))
        told = self.adversary.tell([one for (one,) in answers])
        self.checks.append({"round": self.rounds, **told.row("fresh discriminator")})
        return self.checks[-1]

    @property
    def same(self) -> bool:
        """Whether the last two regular checks could not tell demonstrations from answers."""
        options = self.adversary.options
        last = [one for one in self.checks if one["round"] % options.check_every == 0][-2:]
        enough = len(self.adversary.held_out) >= _FEWEST and options.stop_when_same
        return enough and len(last) == 2 and all(one["accuracy_ci"][0] <= 0.5 for one in last)

    def evaluate(self) -> dict[str, float]:
        """`eval_told_apart` and its AUC on held-out prompts, and what fresh samples are worth."""
        told = self.check()
        return {**super().evaluate(), "eval_told_apart": told["accuracy"], "eval_told_apart_auc": told["auc"]}

    def outcome(self) -> dict[str, Any]:
        """How the loop went: its checks, whether it ended because nothing could be told apart, and how it failed."""
        first, last = self.checks[0], self.checks[-1]
        return {
            "checks": self.checks,
            "told_apart_before": first["accuracy"],
            "told_apart": last["accuracy"],
            "told_apart_ci": last["accuracy_ci"],
            "same": self.same,
            "failure": self.failure or None,
            "rounds": self.rounds,
        }

    def save_reward(self, folder: Path) -> None:
        """The reward of the whole run, with the story of the loop in its report."""
        reward, options = self.adversary.learnt(folder.name), self.adversary.options
        reward.report = {
            "kind": "demonstration",
            "n_train": len(self.adversary.rows),
            "objective": f"adversarial, {options.divergence} ({options.induced})",
            "adversarial": self.outcome(),
        }
        reward.save(folder)

    def state(self) -> State:
        """The policy gradient's, and the adversary's."""
        held, own = super().state(), self.adversary.state()
        values = {**own.values, "method_rounds": self.rounds, "checks": self.checks, "collapses": self.collapses}
        values["failure"] = self.failure
        tensors = {f"adversary/{name}": value for name, value in own.tensors.items()}
        return State({**held.values, "adversary": values}, {**held.tensors, **tensors})

    def restore(self, state: State) -> None:
        """Take it over."""
        ahead = "adversary/"
        own = {k.removeprefix(ahead): v for k, v in state.tensors.items() if k.startswith(ahead)}
        super().restore(State(state.values, {k: v for k, v in state.tensors.items() if not k.startswith(ahead)}))
        values = state.values["adversary"]
        self.adversary.restore(State(values, own))
        self.rounds, self.checks = int(values["method_rounds"]), list(values["checks"])
        self.collapses, self.failure = int(values["collapses"]), str(values["failure"])
        if self.failure or self.same:  # it had ended
            self.steps = self.rounds * self.options.num_iterations * self.options.num_mini_batches

    def _first(self) -> list[tuple[Prompt, str]]:
        """An answer of the initial policy to each prompt, for the check before anything is learnt."""
        prompts = self.adversary.prompts
        answers = self.policy.generate(prompts, 1, self.sampler.options.sampling(40_010))
        return [(prompt, one) for prompt, (one,) in zip(prompts, answers, strict=True)]

    def _watch(self) -> None:
        """Name a failure where there is one."""
        distinct = self.adversary.metrics.get("distinct", 1.0)
        self.collapses = self.collapses + 1 if distinct < self.adversary.options.collapsed else 0
        if self.collapses >= 3:
            self.failure = f"collapsed: {distinct:.0%} as many distinct answers as the demonstrator has"
        late = self.checks[1:][-3:]
        start = self.checks[0]["accuracy_ci"][1]
        if len(late) == 3 and all(one["accuracy_ci"][0] > start for one in late):
            self.failure = "diverged: answers are easier to tell from demonstrations than at the start"
