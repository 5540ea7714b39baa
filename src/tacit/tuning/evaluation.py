"""What a policy is worth on held-out prompts: reward and KL of fresh samples, the same draws each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from tacit.conversation import Prompt
from tacit.policies.contract import TrainablePolicy
from tacit.rewards.contract import Reward
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import SamplingOptions, score, scores_of


@dataclass
class Evaluation:
    """Calling it samples `n` responses to each prompt and gives means over all.

    `eval_reward`, `eval_reward_std` (over responses), `eval_kl` (nats of a response, the sum of log pi - log pi_ref
    over its tokens), `eval_length` (tokens) and `eval_ended` (share of responses that were not cut).
    """

    policy: TrainablePolicy
    prompts: Sequence[Prompt]
    options: SamplingOptions
    reward: Reward | None = None
    gold: Reward | None = None
    """A reward that is not tuned for: `eval_gold`."""
    measure_kl: bool = True
    n: int = 1
    seed: int = 20_011
    ask: Callable[[Prompt], Prompt] | None = None
    """What the policy is asked in place of a prompt."""
    processes: Processes = field(default_factory=Processes)

    def __call__(self) -> dict[str, float]:
        """The metrics, over all processes."""
        start, stop = self._share()
        prompts = list(self.prompts[start:stop])
        numbered = {"first": start * self.n} if start else {}  # rows draw what one process would
        sums = torch.zeros(7, dtype=torch.float64)
        if prompts:
            asked = prompts if self.ask is None else [self.ask(prompt) for prompt in prompts]
            rollout = self.policy.rollout(asked, self.n, self.options.sampling(self.seed), **numbered)
            lengths = rollout.mask.sum(1)
            sums[0], sums[1], sums[2] = len(lengths), float(lengths.sum()), float(rollout.ended.sum())
            repeated = [prompt for prompt in prompts for _ in range(self.n)]
            if self.reward is not None:
                scores = torch.from_numpy(score(self.reward, repeated, rollout.texts)).double()
                sums[3], sums[4] = scores.sum(), scores.square().sum()
            if self.gold is not None:
                sums[6] = float(score(self.gold, repeated, rollout.texts).sum())
            if self.measure_kl:
                temperature = self.options.temperature
                old = scores_of(self.policy.reference(), rollout, self.options.batch, temperature=temperature)
                sums[5] = float(((rollout.logprobs - old.logprobs) * rollout.mask).sum())
        rows, tokens, ended, total, squares, kl, gold = (float(one) for one in self.processes.sum(sums))
        found = {"eval_length": tokens / rows, "eval_ended": ended / rows}
        if self.reward is not None:
            mean = total / rows
            found |= {"eval_reward": mean, "eval_reward_std": max(squares / rows - mean**2, 0.0) ** 0.5}
        if self.gold is not None:
            found["eval_gold"] = gold / rows
        if self.measure_kl:
            found["eval_kl"] = kl / rows
        return found

    def _share(self) -> tuple[int, int]:
        """This process's run of prompts."""
        rank, world, count = self.processes.rank, self.processes.world, len(self.prompts)
        return count * rank // world, count * (rank + 1) // world
