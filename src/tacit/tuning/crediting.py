"""Credit with the models that it needs: from samples and a reward to token rewards, by name.

| name | token rewards | needs |
|---|---|---|
| `uniform` | `credit.uniform` | nothing |
| `attention` | `credit.attention` with what the reward model's last token attends to (ABC) | a language-model reward |
| `prefix` | `credit.differences` of the scores of unfinished completions | a reward with `score_prefixes` |
| `return` | `credit.redistributed` of a return that is learnt from the policy's hidden states (RUDDER-like) | nothing |
| `potential` | the reward at the end, shaped by that learnt return (`credit.potential`) | nothing |

The learnt return is a ridge regression of R on the policy's last hidden state before each token, from earlier rounds,
old ones fading: a linear, causal stand-in for RUDDER's recurrent network. Of `potential` it is the discounted return
that is to come, gamma^{l - t} R before token t of l, so that the shaping is gamma Phi(s') - Phi(s) for the very gamma
that the policy is tuned with: with another one it would change which policy is best (Ng, Harada and Russell 1999).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tacit.conversation import Completion, Prompt
from tacit.errors import TacitError
from tacit.models.checkpoint import batches, right_padded
from tacit.policies.contract import TrainablePolicy
from tacit.rewards.contract import PrefixLevel, Reward
from tacit.rewards.language_model import LanguageModelReward
from tacit.rewards.uncertainty import Pessimistic
from tacit.tuning import credit
from tacit.tuning.loop import State
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import Experience, scores_of

Kind = Literal["none", "uniform", "attention", "prefix", "return", "potential"]
Credit = Callable[[Experience, TrainablePolicy], Tensor]


def crediting(
    kind: str,
    reward: Reward,
    *,
    share: float = 0.8,
    stride: int = 1,
    discount: float = 1.0,
    temperature: float = 1.0,
    batch: int = 64,
    processes: Processes = Processes(),  # noqa: B008
) -> Credit | None:
    """The way of this name; None for `none`. `discount` is that of the returns to go, which `potential` has to share.

    Raises `TacitError` where the reward cannot serve it.
    """
    inner = reward.inner if isinstance(reward, Pessimistic) else reward
    match kind:
        case "none":
            return None
        case "uniform":
            return lambda made, policy: credit.uniform(made.rewards, made.mask, share)
        case "attention":
            if not isinstance(inner, LanguageModelReward):
                raise TacitError(
                    f"reward `{reward.name}` has no attention. Take a language-model reward, or --credit return"
                )
            return AttentionCredit(inner, share)
        case "prefix":
            if not isinstance(inner, PrefixLevel):
                raise TacitError(
                    f"reward `{reward.name}` does not score unfinished completions. Fit one with --model prefix"
                )
            return PrefixCredit(inner, stride)
        case "return" | "potential":
            return LearntReturn(
                kind == "potential", discount=discount, temperature=temperature, batch=batch, processes=processes
            )
    raise TacitError(f"no credit `{kind}`. Choose one of: none, uniform, attention, prefix, return, potential")


class AttentionCredit:
    """ABC: weights are the last layer's attention from the reward model's last token, a mean over heads."""

    def __init__(self, reward: LanguageModelReward, share: float) -> None:
        self.reward, self.share = reward, share

    def __call__(self, made: Experience, policy: TrainablePolicy) -> Tensor:
        """Token rewards (B, T)."""
        prompts = [prompt for prompt in made.prompts for _ in range(made.n)]
        spans = token_spans(policy, made)
        over = attention_over_characters(self.reward, prompts, made.texts)
        weights = np.zeros(tuple(made.mask.shape), np.float32)
        for row, (ends, density) in enumerate(zip(spans, over, strict=True)):
            total = np.concatenate([[0.0], np.cumsum(density)])
            edges = np.minimum([0, *ends], len(density))
            weights[row, : len(ends)] = np.diff(total[edges])
        found = torch.from_numpy(np.maximum(weights, 0.0)).to(made.rewards.device)
        return credit.attention(made.rewards, found, made.mask, self.share)


class PrefixCredit:
    """Differences of the scores of unfinished completions, every `stride` tokens."""

    def __init__(self, reward: Any, stride: int) -> None:
        self.reward, self.stride = reward, stride

    def __call__(self, made: Experience, policy: TrainablePolicy) -> Tensor:
        """Token rewards (B, T); a stretch of `stride` tokens has its reward on its last one."""
        prompts: list[Prompt] = []
        asked: list[Completion] = []
        places: list[tuple[int, int]] = []
        for row, ends in enumerate(token_spans(policy, made)):
            for t in range(self.stride - 1, len(ends) - 1, self.stride):
                prompts.append(made.prompts[row // made.n])
                asked.append(made.texts[row][: ends[t]])
                places.append((row, t))
        scores = np.full(tuple(made.mask.shape), np.nan, np.float32)
        if asked:
            rows, columns = np.array(places).T
            scores[rows, columns] = self.reward.score_prefixes(prompts, asked)
        last = made.mask.sum(1).cpu().numpy() - 1
        scores[np.arange(len(scores)), last] = made.rewards.cpu().numpy()
        return credit.differences(torch.from_numpy(held(scores)).to(made.rewards.device), made.rewards, made.mask)


def held(scores: np.ndarray) -> np.ndarray:
    """(B, T) with every gap filled by the last number before it, 0 where there is none."""
    known = np.isfinite(scores)
    place = np.maximum.accumulate(np.where(known, np.arange(scores.shape[1]), -1), 1)
    filled: np.ndarray = np.where(place >= 0, np.take_along_axis(scores, np.maximum(place, 0), 1), 0.0)
    return filled.astype(np.float32)


class LearntReturn:
    """Ridge regression of the return on hidden states; `shaping` makes it a potential and not a redistribution.

    `discount` is that of shaping: a redistribution keeps the plain sum.
    """

    def __init__(
        self,
        shaping: bool,
        *,
        discount: float = 1.0,
        ridge: float = 1.0,
        memory: float = 0.95,
        temperature: float = 1.0,
        batch: int = 64,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        self.shaping, self.ridge, self.memory, self.processes = shaping, ridge, memory, processes
        self.temperature, self.batch = temperature, batch
        self.discount = discount if shaping else 1.0
        self.gram: Tensor | None = None
        self.cross: Tensor | None = None

    def __call__(self, made: Experience, policy: TrainablePolicy) -> Tensor:
        """Token rewards (B, T), by what earlier rounds taught; then this round teaches."""
        said = scores_of(policy, made.rollout, self.batch, temperature=self.temperature, hidden=True)
        assert said.hidden is not None
        states = torch.nn.functional.pad(
            said.hidden.double().cpu(), (0, 1), value=1.0
        )  # (B, T, d + 1) with an intercept
        mask, rewards = made.mask.cpu(), made.rewards.double().cpu()
        values = torch.zeros(mask.shape, dtype=torch.float64)
        if self.gram is not None and self.cross is not None:
            ridge = self.ridge * torch.eye(len(self.gram), dtype=torch.float64)
            values = (states @ torch.linalg.solve(self.gram + ridge, self.cross)) * mask
        if not made.greedy:
            left = mask.sum(1, keepdim=True) - 1 - torch.arange(mask.shape[1])  # tokens after this one
            self._learn(states[mask], (rewards[:, None] * self.discount ** left.clamp_min(0).double())[mask])
        if self.shaping:
            found = credit.potential(credit.terminal(rewards, mask), values, mask, self.discount)
        else:
            after = torch.cat(
                [values[:, 1:], torch.zeros_like(values[:, :1])], 1
            )  # g after token t: before token t + 1
            last = (mask.long().sum(1) - 1).clamp_min(0)
            after = after.scatter(1, last[:, None], rewards[:, None])  # at the end the return is known
            found = credit.redistributed(after, rewards, mask)
        return found.to(made.rewards)

    def _learn(self, states: Tensor, returns: Tensor) -> None:
        gram, cross = self.processes.sum(states.T @ states), self.processes.sum(states.T @ returns)
        self.gram = gram if self.gram is None else self.memory * self.gram + gram
        self.cross = cross if self.cross is None else self.memory * self.cross + cross

    def state(self) -> State:
        """Sums of products."""
        if self.gram is None or self.cross is None:
            return State()
        return State({}, {"gram": self.gram, "cross": self.cross})

    def restore(self, state: State) -> None:
        """Take it over."""
        self.gram, self.cross = state.tensors.get("gram"), state.tensors.get("cross")


def token_spans(policy: TrainablePolicy, made: Experience) -> list[list[int]]:
    """For every row the place in its text where each of its tokens ends; an end token ends with the text."""
    lengths, tokens = made.mask.sum(1).tolist(), made.rollout.tokens.tolist()
    prefixes = [row[: t + 1] for row, length in zip(tokens, lengths, strict=True) for t in range(length)]
    decoded = policy.tokenizer.batch_decode(prefixes, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    found, start = [], 0
    for row, length in enumerate(lengths):
        whole = made.texts[row]
        extra = len(decoded[start + length - 1]) if length else 0
        begun = max(0, len(whole) - extra)  # text before the sampled tokens: a partial solution, or a stripped space
        ends = [min(len(whole), begun + len(text)) for text in decoded[start : start + length]]
        found.append(np.maximum.accumulate(ends).tolist() if ends else [])
        start += length
    return found


def attention_over_characters(
    reward: LanguageModelReward, prompts: Sequence[Prompt], completions: Sequence[str]
) -> list[np.ndarray]:
    """How much of the last token's attention (last layer, mean over heads) falls on each character of a completion.

    The attention of a token is shared equally by its characters; what falls on the prompt is left out. Raises
    `TacitError` for a model that cannot say what it attends to.
    """
    ids = reward.rule.token_ids(reward.tokenizer, prompts, completions)
    weights: list[np.ndarray] = [np.zeros(0)] * len(ids)
    config = reward.model.config
    before = config._attn_implementation
    reward.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            for rows in batches([len(row) for row in ids], 2048):
                ids_BT, real_BT = (
                    torch.from_numpy(x).to(reward.model.device) for x in right_padded([ids[r] for r in rows], 0)
                )
                said = reward.model.base_model(
                    input_ids=ids_BT, attention_mask=real_BT.long(), use_cache=False, output_attentions=True
                )
                if not said.attentions:
                    raise TacitError(f"the model in {reward.folder} does not show its attention. Take --credit return")
                last = real_BT.sum(1) - 1
                mean = said.attentions[-1].float().mean(1)[torch.arange(len(rows)), last].cpu().numpy()
                for row, found in zip(rows, mean, strict=True):
                    weights[row] = found[: len(ids[row])]
    finally:
        reward.model.set_attn_implementation(before)
    found_: list[np.ndarray] = []
    for row, text in enumerate(completions):
        density = np.zeros(len(text))
        end = len(text)
        # Tokens from the last backwards: each covers what decoding it adds, until the completion is used up.
        for token, weight in zip(reversed(ids[row]), reversed(weights[row].tolist()), strict=True):
            size = len(reward.tokenizer.decode([token], skip_special_tokens=True, clean_up_tokenization_spaces=False))
            if size == 0:
                continue
            first = max(0, end - size)
            if first < end:
                density[first:end] += weight / (end - first)
            end = first
            if end == 0:
                break
        found_.append(density)
    return found_
