"""Experience: prompts drawn, answered by the policy, and rewarded as decoded text.

One round asks P prompts n times each. The reward scores the decoded completion, and its score lands on the last real
token of the row: the end token, or the last one sampled where the response was cut. With several processes each takes a
run of the prompts of a round; groups of one prompt stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tacit.conversation import Prompt, prompt_text
from tacit.errors import TacitError
from tacit.policies.contract import Responses, Rollout, Sampling, TokenScores, TrainablePolicy
from tacit.rewards.contract import Reward
from tacit.tuning import credit
from tacit.tuning.data import chunks, rows_between, take, widened
from tacit.tuning.loop import State
from tacit.tuning.processes import Processes


@dataclass(frozen=True)
class SamplingOptions:
    """How experience is made."""

    prompts_per_round: int = 8
    """Prompts of a round, over all processes."""
    num_generations: int = 8
    """Responses to each prompt."""
    max_completion_length: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    batch: int = 64
    """Rows of one forward pass without gradients."""
    dynamic_sampling: int = 0
    """Most times that groups of equal rewards are replaced by fresh ones (DAPO); 0 keeps them."""
    overlong_buffer: int = 0
    """Tokens before the limit over which DAPO's penalty grows to -1; 0 for none."""
    brevity: float = 1.0
    """Rewards are multiplied with brevity^(l - 1) for l tokens."""
    missing_end_penalty: float = 0.0
    """Taken off the reward of a response that was cut."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise TacitError(f"temperature is {self.temperature}: tuning needs samples. Give more than 0")

    def sampling(self, seed: int, *, greedy: bool = False) -> Sampling:
        """How to draw a round with this seed."""
        if greedy:
            return Sampling(self.max_completion_length, 0.0, stop=self.stop, seed=seed)
        cut = (self.top_k, self.top_p, self.min_p)
        return Sampling(self.max_completion_length, self.temperature, *cut, self.stop, seed)


@dataclass
class Experience:
    """The samples of a round in this process: P prompts, n responses each, B = P n rows, T tokens of the longest."""

    indices: list[int]
    """Places of the P prompts among all prompts."""
    prompts: list[Prompt]
    rollout: Rollout
    texts: list[str]
    """B completions as the reward read them."""
    scores: Tensor
    """(B,) float32: what the reward said."""
    rewards: Tensor
    """(B,) float32: scores after penalties, bonus and brevity."""
    n: int
    greedy: bool = False
    """Greedy responses, asked for as a baseline: no samples of the policy, from which nothing is learnt."""

    @property
    def mask(self) -> Tensor:
        """(B, T) bool: real tokens."""
        return self.rollout.mask

    def grouped(self, values: Tensor) -> Tensor:
        """(B, ...) as (P, n, ...)."""
        return values.reshape(-1, self.n, *values.shape[1:])

    def part(self, groups: Sequence[int]) -> Experience:
        """Some of the prompts with all their responses."""
        rows = [group * self.n + i for group in groups for i in range(self.n)]
        keep = torch.as_tensor(rows, dtype=torch.int64, device=self.scores.device)
        return Experience(
            [self.indices[g] for g in groups],
            [self.prompts[g] for g in groups],
            take_rollout(self.rollout, rows),
            [self.texts[row] for row in rows],
            self.scores[keep],
            self.rewards[keep],
            self.n,
            self.greedy,
        )

    def samples(self, count: int = 16) -> list[dict[str, Any]]:
        """Rows for people to read; the first of each group before the second of any."""
        order = [g * self.n + i for i in range(self.n) for g in range(len(self.prompts))][:count]
        return [
            {
                "prompt": prompt_text(self.prompts[row // self.n]),
                "completion": self.texts[row],
                "reward": float(self.scores[row]),
                "ended": bool(self.rollout.ended[row]),
            }
            for row in order
        ]


class Stream(Protocol):
    """Which prompts come next. Every process asks for the same and is told of the same."""

    def next(self, count: int) -> list[int]:
        """Places of the prompts of a round."""
        ...

    def learn(self, indices: Sequence[int], rewards: Tensor) -> None:
        """What came of them: the rewards (P, n)."""
        ...

    def state(self) -> State:
        """What a resumed run needs."""
        ...

    def restore(self, state: State) -> None:
        """Take it over."""
        ...


@dataclass
class Shuffled:
    """Every prompt once an epoch, in an order of each epoch's own."""

    count: int
    seed: int = 0
    position: int = 0

    def next(self, count: int) -> list[int]:
        """The next prompts."""
        rows = rows_between(self.count, self.position, self.position + count, self.seed)
        self.position += count
        return [int(row) for row in rows]

    def learn(self, indices: Sequence[int], rewards: Tensor) -> None:
        """Nothing."""

    def state(self) -> State:
        """The position."""
        return State({"position": self.position})

    def restore(self, state: State) -> None:
        """Take it over."""
        self.position = int(state.values["position"])


class Bonus(Protocol):
    """A reward for what is new."""

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> np.ndarray:
        """(B,) float32 for the completions of all processes, which it then knows."""
        ...

    def state(self) -> State:
        """What a resumed run needs."""
        ...

    def restore(self, state: State) -> None:
        """Take it over."""
        ...


class Starts(Protocol):
    """Partial solutions that responses go on from."""

    def prefix(self, index: int) -> str:
        """The text that the response to this prompt begins with."""
        ...

    def learn(self, indices: Sequence[int], rewards: Tensor) -> None:
        """What came of them: the rewards (P, n)."""
        ...

    def state(self) -> State:
        """What a resumed run needs."""
        ...

    def restore(self, state: State) -> None:
        """Take it over."""
        ...


@dataclass
class Sampler:
    """Makes experience; its state is all that a resumed run needs to make the same."""

    policy: TrainablePolicy
    prompts: Sequence[Prompt]
    reward: Reward
    options: SamplingOptions
    seed: int = 0
    processes: Processes = field(default_factory=Processes)
    stream: Stream | None = None
    """Which prompts come next; shuffled epochs unless given."""
    bonus: Bonus | None = None
    starts: Starts | None = None
    gold: Reward | None = None
    """Measured on the same samples, and never tuned for."""
    ask: Callable[[Prompt], Prompt] | None = None
    """What the policy is asked in place of a prompt; the reward sees the prompt itself."""
    rounds: int = 0

    def __post_init__(self) -> None:
        self.policy.model.eval()
        if self.stream is None:
            self.stream = Shuffled(len(self.prompts), self.seed)
        if self.starts is not None and getattr(self.policy.tokenizer, "chat_template", None):
            raise TacitError(
                "partial solutions would stand in the user's turn of this policy's chat template. Take a policy without"
                " one, or leave --reverse-curriculum out"
            )
        if self.options.prompts_per_round % self.processes.world:
            raise TacitError(
                f"{self.options.prompts_per_round} prompts a round cannot be shared by {self.processes.world} processes"
            )

    def collect(self) -> tuple[Experience, dict[str, float]]:
        """The experience of the next round in this process, and metrics of all processes' samples."""
        quota = self.options.prompts_per_round // self.processes.world
        got = self._draw(self.options.prompts_per_round)
        equal = self.processes.concatenated(~_unequal(got)).double().mean()
        if self.options.dynamic_sampling:
            got = self._informative(got, quota)
        return got, {**self._metrics(got), "frac_reward_zero_std": float(equal)}

    def _informative(self, got: Experience, quota: int) -> Experience:
        """Groups of unequal rewards first, with fresh ones in place of the others as often as allowed.

        Every process fills its own share, so that here alone the number of processes shows in what is kept.
        """
        held = [got]
        for _ in range(self.options.dynamic_sampling):
            useful = sum(int(_unequal(one).sum()) for one in held)
            if min(self.processes.gather(useful)) >= quota:
                break
            held.append(self._draw(self.options.prompts_per_round))
        merged = joined(held)
        order = torch.argsort((~_unequal(merged)).long(), stable=True)[:quota]
        return merged.part(order.tolist())

    def _draw(self, count: int) -> Experience:
        """Ask this process's share of the next prompts."""
        assert self.stream is not None
        indices = self.processes.block(self.stream.next(count))
        seed = self.seed * 1_000_003 + self.rounds
        self.rounds += 1
        n = self.options.num_generations
        # Rows of a round are numbered over all processes, so that they draw what one process would.
        numbered = {"first": self.processes.rank * len(indices) * n} if self.processes.world > 1 else {}
        begun, asked = self._asked(indices)
        rollout = self.policy.rollout(asked, n, self.options.sampling(seed), **numbered)
        texts = [begun[row // n] + text for row, text in enumerate(rollout.texts)]
        made = self.scored(indices, rollout, texts, n)
        everywhere = [i for part in self.processes.gather(indices) for i in part]
        told = self.processes.concatenated(made.scores).reshape(-1, n).cpu()
        self.stream.learn(everywhere, told)
        if self.starts is not None:
            self.starts.learn(everywhere, told)
        return made

    def scored(self, indices: list[int], rollout: Rollout, texts: list[str], n: int) -> Experience:
        """Rewards of completions: the score, a bonus for novelty, penalties, brevity."""
        prompts = [self.prompts[i] for i in indices]
        repeated = [prompt for prompt in prompts for _ in range(n)]
        device = rollout.tokens.device
        scores = torch.from_numpy(score(self.reward, repeated, texts)).to(device)
        rewards = scores.clone()
        options = self.options
        if self.bonus is not None:
            every = [row for part in self.processes.gather(list(zip(repeated, texts, strict=True))) for row in part]
            extra = self.bonus([p for p, _ in every], [t for _, t in every])
            before = sum(self.processes.gather(len(texts))[: self.processes.rank])
            rewards += torch.from_numpy(extra[before : before + len(texts)]).to(device)
        if options.overlong_buffer:
            lengths = rollout.mask.sum(1)
            rewards += credit.overlong(lengths, options.max_completion_length, options.overlong_buffer)
        rewards -= options.missing_end_penalty * (~rollout.ended)
        if options.brevity < 1:
            rewards = credit.brevity(rewards, rollout.mask, options.brevity)
        return Experience(indices, prompts, rollout, texts, scores, rewards, n)

    def greedy(self, made: Experience) -> Experience:
        """One greedy response to each prompt of this experience, scored."""
        begun, asked = self._asked(made.indices)
        rollout = self.policy.rollout(asked, 1, self.options.sampling(0, greedy=True))
        texts = [b + text for b, text in zip(begun, rollout.texts, strict=True)]
        bonus, self.bonus = self.bonus, None
        try:
            return replace(self.scored(made.indices, rollout, texts, 1), greedy=True)
        finally:
            self.bonus = bonus

    def _asked(self, indices: Sequence[int]) -> tuple[list[str], list[Prompt]]:
        """Partial solutions, and what the policy reads, for these prompts."""
        begun = [self.starts.prefix(i) if self.starts else "" for i in indices]
        prompts = [self.prompts[i] if self.ask is None else self.ask(self.prompts[i]) for i in indices]
        return begun, [continued(p, b) for p, b in zip(prompts, begun, strict=True)]

    def _metrics(self, made: Experience) -> dict[str, float]:
        everywhere = self.processes.concatenated
        scores, rewards = everywhere(made.scores).double(), everywhere(made.rewards).double()
        lengths, ended = everywhere(made.mask.sum(1)).double(), everywhere(made.rollout.ended)
        groups = rewards.reshape(-1, made.n)
        deviation = groups.std(1).mean() if made.n > 1 else torch.zeros(())
        name = f"rewards/{self.reward.name}"
        truth: dict[str, float] = {}
        if self.gold is not None:
            repeated = [prompt for prompt in made.prompts for _ in range(made.n)]
            own = torch.from_numpy(score(self.gold, repeated, made.texts))
            truth = {"gold": float(everywhere(own).double().mean())}
        return {
            **truth,
            "reward": float(rewards.mean()),
            "reward_std": float(deviation),
            f"{name}/mean": float(scores.mean()),
            f"{name}/std": float(scores.std()) if len(scores) > 1 else 0.0,
            "objective/entropy": -float(everywhere(made.rollout.logprobs.sum(1)).double().mean()),
            "completions/mean_length": float(lengths.mean()),
            "completions/min_length": float(lengths.min()),
            "completions/max_length": float(lengths.max()),
            "completions/clipped_ratio": float((~ended).double().mean()),
        }

    def state(self) -> State:
        """Rounds made, and what the tools keep."""
        values: dict[str, Any] = {"rounds": self.rounds}
        tensors: dict[str, Tensor] = {}
        for name, tool in self._tools():
            held = tool.state()
            values[name] = held.values
            tensors |= {f"{name}/{key}": value for key, value in held.tensors.items()}
        return State(values, tensors)

    def restore(self, state: State) -> None:
        """Take it over."""
        self.rounds = int(state.values["rounds"])
        for name, tool in self._tools():
            ahead = f"{name}/"
            own = {k.removeprefix(ahead): v for k, v in state.tensors.items() if k.startswith(ahead)}
            tool.restore(State(state.values[name], own))

    def _tools(self) -> list[tuple[str, Any]]:
        named = (("stream", self.stream), ("bonus", self.bonus), ("starts", self.starts))
        return [(name, tool) for name, tool in named if tool is not None]


def score(reward: Reward, prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
    """Scores (n,) float32 of decoded completions; raises `TacitError` for one that is not finite."""
    scores = np.asarray(reward.score(prompts, texts), np.float32)
    if scores.shape != (len(texts),):
        raise TacitError(f"reward `{reward.name}` gave {scores.shape} scores for {len(texts)} completions")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise TacitError(f"reward `{reward.name}` gave {scores[bad[0]]} for the completion {texts[bad[0]][:80]!r}")
    return scores


def scores_of(
    policy: TrainablePolicy, responses: Responses, batch: int, *, temperature: float = 1.0, hidden: bool = False
) -> TokenScores:
    """What a policy says of all rows, without gradients, `batch` rows at a time."""
    width = responses.mask.shape[1]
    logprobs, states = [], []
    with torch.no_grad():
        for rows in chunks(range(len(responses.mask)), batch):
            said = policy.logprobs(take(responses, rows), temperature=temperature, hidden=hidden)
            logprobs.append(widened(said.logprobs, width))
            if said.hidden is not None:
                states.append(torch.nn.functional.pad(said.hidden, (0, 0, 0, width - said.hidden.shape[1])))
    return TokenScores(torch.cat(logprobs), None, torch.cat(states) if states else None)


def take_rollout(rollout: Rollout, rows: Sequence[int]) -> Rollout:
    """Some rows of a rollout, as wide as it was."""
    keep = torch.as_tensor(list(rows), dtype=torch.int64, device=rollout.tokens.device)
    return Rollout(
        rollout.prompts,
        rollout.prompt_of[keep],
        rollout.tokens[keep],
        rollout.mask[keep],
        logprobs=rollout.logprobs[keep],
        ended=rollout.ended[keep],
        texts=[rollout.texts[row] for row in rows],
    )


def joined(parts: Sequence[Experience]) -> Experience:
    """Experience of several draws as one."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.mask.shape[1] for part in parts)
    before = np.cumsum([0, *(len(part.rollout.prompts) for part in parts)])[:-1]

    def rows(of: Callable[[Experience], Tensor], wide: bool = False) -> Tensor:
        return torch.cat([widened(of(part), width) if wide else of(part) for part in parts])

    rollout = Rollout(
        [prompt for part in parts for prompt in part.rollout.prompts],
        torch.cat([part.rollout.prompt_of + int(first) for part, first in zip(parts, before, strict=True)]),
        rows(lambda part: part.rollout.tokens, True),
        rows(lambda part: part.rollout.mask, True),
        logprobs=rows(lambda part: part.rollout.logprobs, True),
        ended=rows(lambda part: part.rollout.ended),
        texts=[text for part in parts for text in part.rollout.texts],
    )
    return Experience(
        [i for part in parts for i in part.indices],
        [prompt for part in parts for prompt in part.prompts],
        rollout,
        [text for part in parts for text in part.texts],
        rows(lambda part: part.scores),
        rows(lambda part: part.rewards),
        parts[0].n,
    )


def _unequal(made: Experience) -> Tensor:
    """(P,) bool: groups whose scores differ."""
    groups = made.grouped(made.scores)
    return groups.amax(1) > groups.amin(1)


def continued(prompt: Prompt, begun: str) -> Prompt:
    """A prompt with the beginning of its answer behind it; raises `TacitError` for a list of messages."""
    if not begun:
        return prompt
    if not isinstance(prompt, str):
        raise TacitError("partial solutions go on from prompts that are texts, not messages")
    return prompt + begun
