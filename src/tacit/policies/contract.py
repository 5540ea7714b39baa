"""What a policy is.

A policy pi(y | x) writes completions y of a prompt x, token by token: the state is the text so far, the action the next
token, and an end token makes the state absorbing (survey section 2.2). `Policy` is enough to sample from, whoever runs
the model; a `TrainablePolicy` also says how likely it finds every token, with gradients.

Shapes: P prompts, n samples of each, B = P n rows (row i belongs to prompt i // n), T tokens of the longest response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tacit.conversation import Prompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How to draw: p_T(a) ~ exp(logit_a / temperature), cut by top_k, top_p and min_p in this order, renormalised."""

    max_new_tokens: int = 64
    """Most tokens of a response, its end token included."""
    temperature: float = 1.0
    """0 takes the likeliest token always."""
    top_k: int = 0
    """Only the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Only the likeliest tokens whose probabilities reach top_p together."""
    min_p: float = 0.0
    """Only tokens at least min_p times as likely as the likeliest."""
    stop: tuple[str, ...] = ()
    """Texts that end a response; they are left out of it."""
    seed: int = 0
    """The same seed gives the same samples, whatever the batch size."""


@runtime_checkable
class Policy(Protocol):
    """Whatever answers."""

    name: str

    def generate(self, prompts: Sequence[Prompt], n: int = 1, sampling: Sampling = ...) -> list[list[str]]:
        """n completions of each prompt."""
        ...


@dataclass
class Responses:
    """Token ids of prompts and responses, as tuning reads them; responses are right padded, prompts are not padded."""

    prompts: list[list[int]]
    """P prompts as token ids, as the model reads them (template and begin token included)."""
    prompt_of: Tensor
    """(B,) int64: the prompt of each row."""
    tokens: Tensor
    """(B, T) int64; anything where `mask` is False."""
    mask: Tensor
    """(B, T) bool: real tokens, a prefix of each row; a sampled end token is one of them."""


@dataclass
class Rollout(Responses):
    """Sampled responses."""

    logprobs: Tensor = field(kw_only=True)
    """(B, T) float32: log softmax(logits / temperature) of each sampled token *before* top_k, top_p and min_p cut the
    distribution; equal to `TrainablePolicy.logprobs` at the same temperature. 0 where `mask` is False. For temperature
    0 that of temperature 1."""
    ended: Tensor = field(kw_only=True)
    """(B,) bool: an end token or stop text was reached, so that the response was not cut at max_new_tokens."""
    texts: list[str] = field(kw_only=True)
    """B decoded completions, without end tokens and stop texts."""


@runtime_checkable
class TrainablePolicy(Policy, Protocol):
    """A policy whose weights can be changed."""

    model: Any
    """The transformers causal LM (or its peft wrapper): parameters, train() and eval(), save_pretrained()."""
    tokenizer: Any
    """Its transformers tokenizer; the end token is never the padding that the mask hides."""

    def encode(self, prompts: Sequence[Prompt], *, any_length: bool = False) -> list[list[int]]:
        """Prompts as the model reads them: the chat template and the begin token where there are such.

        One that leaves no room for an answer is an error, unless prompts of any length are asked for.
        """
        ...

    def encode_completions(self, completions: Sequence[Any], *, end: bool = True) -> list[list[int]]:
        """Given completions as token ids, with the end token unless told otherwise: what sampling would have made."""
        ...

    def responses(self, prompts: Sequence[Prompt], completions: Sequence[Any]) -> Responses:
        """Given pairs of prompt and completion as one row each (prompts that repeat are kept once)."""
        ...

    def rollout(self, prompts: Sequence[Prompt], n: int = 1, sampling: Sampling = ...) -> Rollout:
        """n sampled responses of each prompt with their log-probabilities; no gradients."""
        ...

    def logprobs(
        self, responses: Responses, *, temperature: float = 1.0, entropy: bool = False, hidden: bool = False
    ) -> TokenScores:
        """Log-probabilities of the responses' tokens with gradients, in one forward pass that computes no padding."""
        ...

    def reference(self) -> TrainablePolicy:
        """The policy as it was loaded: weights without the adapter, or a frozen copy; never trained."""
        ...

    def save(self, folder: Any) -> None:
        """A transformers folder, written atomically (adapters merged, so that anybody can load it)."""
        ...


@dataclass
class TokenScores:
    """What a policy says of every response token; 0 where the mask is False."""

    logprobs: Tensor
    """(B, T) log softmax(logits / temperature) of the tokens, float32."""
    entropy: Tensor | None = None
    """(B, T) entropy of softmax(logits / temperature) in nats, without gradient unless asked for."""
    hidden: Tensor | None = None
    """(B, T, d) last hidden states *before* each token was chosen: what a value head reads."""
