"""A token MDP small enough to enumerate, and a tabular softmax policy on it.

Tokens 0..A-1 are letters (a, b, ...), token A ends a response, and responses are cut after H tokens. The state is the
prompt and the letters so far; the policy has a row of logits for each state. `Tabular` satisfies `TrainablePolicy`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tacit.policies.contract import Responses, Rollout, Sampling, TokenScores


class Table(nn.Module):
    """Logits (prompts, states, A + 1)."""

    def __init__(self, prompts: int, letters: int, horizon: int, seed: int, spread: float) -> None:
        super().__init__()
        self.states = sum(letters**t for t in range(horizon))
        drawn = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(spread * torch.randn(prompts, self.states, letters + 1, generator=drawn))
        self.config = SimpleNamespace(hidden_size=prompts * self.states)


class Tabular:
    """The policy; prompts are "0", "1", ..."""

    def __init__(
        self, prompts: int = 2, letters: int = 2, horizon: int = 3, seed: int = 0, spread: float = 0.7
    ) -> None:
        self.name, self.letters, self.horizon = "tabular", letters, horizon
        self.model: Any = Table(prompts, letters, horizon, seed, spread)
        self.tokenizer = None
        self._reference: Tabular | None = None
        self.reference()

    def encode(self, prompts: Sequence[Any], *, any_length: bool = False) -> list[list[int]]:
        return [[int(str(prompt).split()[-1])] for prompt in prompts]

    def encode_completions(self, completions: Sequence[Any], *, end: bool = True) -> list[list[int]]:
        return [[ord(c) - 97 for c in text] + [self.letters] * end for text in completions]

    def responses(self, prompts: Sequence[Any], completions: Sequence[Any]) -> Responses:
        from tacit.tuning.data import as_responses

        return as_responses(self.encode(prompts), self.encode_completions(completions), "cpu")

    def generate(self, prompts: Sequence[Any], n: int = 1, sampling: Sampling = Sampling()) -> list[list[str]]:  # noqa: B008
        texts = self.rollout(prompts, n, sampling).texts
        return [texts[i : i + n] for i in range(0, len(texts), n)]

    @torch.no_grad()
    def rollout(
        self,
        prompts: Sequence[Any],
        n: int = 1,
        sampling: Sampling = Sampling(),  # noqa: B008
        *,
        first: int = 0,
    ) -> Rollout:
        from tacit.policies.sampling import uniforms

        asked = self.encode(prompts)
        rows, horizon = len(asked) * n, min(self.horizon, sampling.max_new_tokens)
        prompt_of = torch.arange(rows) // n
        noise = torch.from_numpy(uniforms(sampling.seed, np.arange(rows) + first, horizon)).double()
        prompt = torch.tensor([p[0] for p in asked])[prompt_of]
        state = torch.zeros(rows, dtype=torch.int64)
        live = torch.ones(rows, dtype=torch.bool)
        tokens = torch.zeros(rows, horizon, dtype=torch.int64)
        mask = torch.zeros(rows, horizon, dtype=torch.bool)
        for t in range(horizon):
            p = (self.model.logits[prompt, state] / (sampling.temperature or 1)).double().softmax(1)
            drawn = (p.cumsum(1) <= noise[:, t : t + 1]).sum(1).clamp_max(self.letters)
            token = p.argmax(1) if sampling.temperature == 0 else drawn
            tokens[:, t], mask[:, t] = token, live
            live = live & (token < self.letters)
            state = torch.where(live, state * self.letters + token + 1, state).clamp_max(self.model.states - 1)
        ended = (mask & (tokens == self.letters)).any(1)
        made = Responses(asked, prompt_of, tokens, mask)
        logprobs = self.logprobs(made, temperature=sampling.temperature or 1.0).logprobs
        return Rollout(asked, prompt_of, tokens, mask, logprobs=logprobs, ended=ended, texts=self.texts(tokens, mask))

    def texts(self, tokens: Tensor, mask: Tensor) -> list[str]:
        rows = zip(tokens.tolist(), mask.sum(1).tolist(), strict=True)
        return ["".join(chr(97 + a) for a in row[:length] if a < self.letters) for row, length in rows]

    def states(self, responses: Responses) -> tuple[Tensor, Tensor]:
        """Prompt and state before each token, (B, T) each."""
        prompt = torch.tensor([p[0] for p in responses.prompts])[responses.prompt_of]
        places, state = [], torch.zeros(len(prompt), dtype=torch.int64)
        for t in range(responses.tokens.shape[1]):
            places.append(state)
            state = (state * self.letters + responses.tokens[:, t] + 1).clamp_max(self.model.states - 1)
        state = torch.stack(places, 1)
        return prompt[:, None].expand_as(state), torch.where(responses.mask, state, 0)

    def logprobs(
        self, responses: Responses, *, temperature: float = 1.0, entropy: bool = False, hidden: bool = False
    ) -> TokenScores:
        prompt, state = self.states(responses)
        every = (self.model.logits[prompt, state] / temperature).log_softmax(-1)
        found = every.gather(-1, responses.tokens[..., None])[..., 0] * responses.mask
        places = nn.functional.one_hot(prompt * self.model.states + state, self.model.config.hidden_size)
        return TokenScores(
            found,
            (-(every.exp() * every).sum(-1) * responses.mask).detach() if entropy else None,
            places.to(found) * responses.mask[..., None] if hidden else None,
        )

    def reference(self) -> Tabular:
        if self._reference is None:
            self._reference = copy.copy(self)
            self._reference.model = copy.deepcopy(self.model).requires_grad_(False)
            self._reference._reference = self._reference
        return self._reference

    def save(self, folder: Any) -> None:
        from safetensors.torch import save_file

        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({"logits": self.model.logits.detach()}, Path(folder) / "table.safetensors")

    # --- the truth --------------------------------------------------------------------------------------------------

    def every(self) -> Responses:
        """All responses to every prompt, prompt by prompt."""
        found: list[list[int]] = []

        def grow(prefix: list[int]) -> None:
            if len(prefix) == self.horizon or (prefix and prefix[-1] == self.letters):
                found.append(prefix)
                return
            for token in range(self.letters + 1):
                grow([*prefix, token])

        grow([])
        prompts = [[p] for p in range(len(self.model.logits))]
        tokens = torch.zeros(len(found), self.horizon, dtype=torch.int64)
        mask = torch.zeros(len(found), self.horizon, dtype=torch.bool)
        for row, tokens_ in enumerate(found):
            tokens[row, : len(tokens_)] = torch.tensor(tokens_)
            mask[row, : len(tokens_)] = True
        many = len(prompts)
        prompt_of = torch.arange(many).repeat_interleave(len(found))
        return Responses(prompts, prompt_of, tokens.repeat(many, 1), mask.repeat(many, 1))

    def log_probabilities(self) -> Tensor:
        """log pi(y | x) of `every` response, (prompts, responses), with gradients."""
        return self.logprobs(self.every()).logprobs.sum(1).view(len(self.model.logits), -1)

    def gradient(self, value: Tensor) -> Tensor:
        """The gradient of a scalar by the logits."""
        return torch.autograd.grad(value, self.model.logits)[0]

    def expected(self, rewards: Tensor) -> Tensor:
        """J = mean over prompts of E_pi R, for rewards (prompts, responses)."""
        return (self.log_probabilities().exp() * rewards).sum(1).mean()


class TextReward:
    """A reward from a function of prompt and text."""

    name = "truth"

    def __init__(self, function: Callable[[str, str], float]) -> None:
        self.function = function

    def score(self, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
        return np.array([self.function(p, c) for p, c in zip(prompts, completions, strict=True)], np.float32)


def lettered(prompt: str, text: str) -> float:
    """A reward that no two states agree on: depends on prompt, order and length."""
    return 1.5 * text.count("a") - 0.7 * text.count("b") * (1 + int(prompt)) + (2.0 if text == "ba" else 0.0)


def rewards_of(policy: Tabular) -> Tensor:
    """The reward of `every` response, (prompts, responses)."""
    every = policy.every()
    texts = policy.texts(every.tokens, every.mask)
    prompts = [str(every.prompts[p][0]) for p in every.prompt_of.tolist()]
    return torch.from_numpy(TextReward(lettered).score(prompts, texts)).view(len(policy.model.logits), -1)
