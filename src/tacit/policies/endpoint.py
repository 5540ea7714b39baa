"""Any server that speaks OpenAI's dialect (vLLM, SGLang, llama.cpp, Ollama, ...) as policy.

Every sample is a call of its own with a seed of its own: servers without the parameter `n` serve as well, and those
that keep prefixes read a prompt once all the same. `tacit.models.server` says which calls are tried again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tacit.conversation import Prompt, prompt_text
from tacit.models.server import Server, body_of
from tacit.models.templates import messages_of
from tacit.policies.contract import Sampling
from tacit.policies.sampling import check_sampling, seeds
from tacit.policies.tokens import PolicyError
from tacit.progress import track

_DEFAULT = Sampling()


@dataclass(frozen=True)
class Answer:
    """One sample."""

    text: str
    ended: bool
    """The model stopped by itself or at a stop text, and was not cut."""
    logprobs: tuple[float, ...] | None = None
    """log p of each token where asked for and offered. Most servers give those of the model itself, before temperature
    and cuts; see `--logprobs-mode` of vLLM."""


@dataclass
class EndpointPolicy:
    """A `Policy` over HTTP."""

    base_url: str
    """As http://localhost:8000/v1."""
    model: str
    """The server's name for the model."""
    name: str = ""
    """The model's name unless given."""
    api: Literal["chat", "completions"] = "chat"
    """`/chat/completions`, where the server applies its chat template, or `/completions`, which continues the text."""
    key_env: str | None = None
    """Environment variable that holds the key; OPENAI_API_KEY, if set, unless given."""
    timeout: float = 300.0
    """Seconds that a call may take."""
    retries: int = 5
    """Further tries of a call."""
    backoff: float = 1.0
    """Seconds before the second try."""
    concurrency: int = 16
    """Calls under way at once."""
    logprobs: bool = False
    """Ask for the log-probabilities of the tokens."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further keys of the request's body; a None takes a key out."""
    transport: Any = None
    """An httpx2 transport in place of the network."""

    def __post_init__(self) -> None:
        self.name = self.name or self.model
        if self.api not in ("chat", "completions"):
            raise PolicyError(f"api is `{self.api}`. Use chat or completions")
        self._server = Server(
            self.base_url, "a policy behind an endpoint", PolicyError, self.key_env, self.timeout, self.retries,
            self.backoff, self.concurrency, transport=self.transport,
        )  # fmt: skip

    def generate(
        self, prompts: Sequence[Prompt], n: int = 1, sampling: Sampling = _DEFAULT, *, first: int = 0
    ) -> list[list[str]]:
        """n completions of each prompt; `first` is the number of the first row, where prompts are a part of a whole."""
        return [[answer.text for answer in answers] for answers in self.answers(prompts, n, sampling, first=first)]

    def answers(
        self, prompts: Sequence[Prompt], n: int = 1, sampling: Sampling = _DEFAULT, *, first: int = 0
    ) -> list[list[Answer]]:
        """n samples of each prompt. Raises `PolicyError` for bad options and with the cause where a call fails."""
        check_sampling(sampling)
        if n < 1:
            raise PolicyError(f"n is {n}. Ask for 1 or more")
        own = seeds(sampling.seed, np.arange(len(prompts) * n) + first)
        bodies = [self._body(prompts[row // n], sampling, int(seed)) for row, seed in enumerate(own)]
        path = "/chat/completions" if self.api == "chat" else "/completions"
        found: list[Answer | None] = [None] * len(bodies)
        replies = self._server.post(path, bodies, lambda number, text: self._answer(text))
        for row, answer in track(replies, f"asking {self.name}", total=len(bodies)):
            found[row] = answer
        answers = [answer for answer in found if answer is not None]
        return [answers[start : start + n] for start in range(0, len(answers), n)]

    def _body(self, prompt: Prompt, sampling: Sampling, seed: int) -> bytes:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": seed,
            "top_p": sampling.top_p if sampling.top_p < 1 else None,
            "top_k": sampling.top_k or None,  # not in OpenAI's own dialect: sent only where asked for
            "min_p": sampling.min_p or None,
            "stop": list(sampling.stop) or None,
        }
        if self.api == "chat":
            body["messages"] = messages_of(prompt)
            body["logprobs"] = True if self.logprobs else None
        else:
            body["prompt"] = prompt_text(prompt)
            body["logprobs"] = 1 if self.logprobs else None
        return body_of(body | self.extra)

    def _answer(self, text: str) -> Answer:
        """The sample in a reply; raises an ordinary error where it is no such reply."""
        choice = json.loads(text)["choices"][0]
        said = choice["message"].get("content") if self.api == "chat" else choice["text"]
        if said is None and self.api == "chat" and choice["message"].get("tool_calls"):
            raise PolicyError(f"{self.model} answers with a tool call, not a text. Switch tools off")
        if not isinstance(said, str):
            raise ValueError("no text")
        return Answer(said, choice.get("finish_reason") != "length", self._logprobs(choice.get("logprobs")))

    def _logprobs(self, given: Any) -> tuple[float, ...] | None:
        if not self.logprobs or not given:
            return None
        if self.api == "chat":
            numbers = [token["logprob"] for token in given["content"] or []]
        else:
            numbers = list(given["token_logprobs"] or [])
        found = tuple(float(number) for number in numbers)
        if not all(math.isfinite(number) for number in found):
            raise ValueError("log-probabilities that are not numbers")
        return found
