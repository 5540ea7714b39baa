r"""Inverse soft Q-learning of a language model: its logits are Q, and demonstrations are all it needs.

Garg et al. 2021 (arXiv 2106.12142); for language models Wulfmeier et al. 2024 (arXiv 2409.01369, "IRL as
temporal-difference regularised maximum likelihood"). With Q(s, a) = tau logit_a(s), V(s) = tau logsumexp_a(Q(s, a) /
tau) and pi = softmax(Q / tau), which is the model's own softmax, the reward that explains pi is read off as

    r(s, a) = Q(s, a) - gamma V(s'),        V = 0 after the end token.

IQ-Learn maximises E_demo[phi(r)] - (1 - gamma) E V(s_0). On demonstrations (1 - gamma) E V(s_0) = E_demo[V(s) - gamma
V(s')], and with the chi^2 regulariser phi(r) = r - r^2 / (4 alpha) this is

    L = -E_demo log pi(a | s) + td_weight E_demo [Q(s, a) - gamma V(s')]^2,     td_weight = 1 / (4 alpha tau):

likelihood, plus a temporal-difference term that ties the free constant of each state's logits to the next state's. The
two agree for td_weight = 0 (supervised tuning).

A pre-trained model's logits have a constant in every state that nothing has determined, so that r means nothing before
this tuning. And at gamma = 1 the rewards of an answer add up to V(s_0) + tau log pi(y | x): under one prompt the
sequence reward ranks answers by their likelihood, whatever the regulariser; only how it is spread over tokens, and what
the constants are, come from it. With a reference policy the score is that less tau log pi_ref(y | x): what the
demonstrations changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tacit.conversation import Completion, Prompt, completion_text, prompt_text
from tacit.errors import TacitError
from tacit.policies.contract import Responses
from tacit.policies.tokens import Codec
from tacit.rewards.inputs import require_rows
from tacit.rewards.saving import open_reward, save_reward
from tacit.tuning import losses
from tacit.tuning.data import as_responses, device_of
from tacit.tuning.loop import Loss, Step
from tacit.tuning.supervised import Demonstrations, Encoded, SupervisedTuning

_ROWS = 2048
"""States whose logits are held at once."""
_BATCH = 32
_INSIDE, _REFERENCE = "policy", "reference"


@dataclass(frozen=True)
class InverseQOptions:
    """What the regulariser weighs."""

    td_weight: float = 0.1
    discount: float = 1.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if self.td_weight < 0 or not 0 < self.discount <= 1 or self.tau <= 0:
            raise TacitError(f"td_weight must not be negative, discount lie in (0, 1] and tau be positive: {self}")


@dataclass(frozen=True)
class SoftQ:
    """Of every response token, (B, T) each, 0 where the mask is False."""

    logprobs: Tensor
    """log pi(a | s)."""
    value: Tensor
    """V(s) / tau, the logsumexp of the logits before the token."""
    reward: Tensor
    """r(s, a) = Q(s, a) - gamma V(s')."""


def soft_q(policy: Any, responses: Responses, options: InverseQOptions) -> SoftQ:
    """Q, V and r of responses, with gradients.

    The value after the last token of a row is 0: it is the end token.
    """
    said = policy.logprobs(responses, hidden=True)
    assert said.hidden is not None
    mask = responses.mask.to(said.hidden.device)
    linear = policy.model.get_output_embeddings()
    value = torch.zeros_like(said.logprobs).index_put(
        (*torch.nonzero(mask, as_tuple=True),), _logsumexp(said.hidden[mask], linear)
    )
    following = torch.nn.functional.pad(value[:, 1:], (0, 1))
    reward = options.tau * (said.logprobs + value - options.discount * following) * mask
    return SoftQ(said.logprobs, value, reward)


def _logsumexp(states_ND: Tensor, linear: Any) -> Tensor:
    """logsumexp of the logits (N,), some states at a time, whose logits are computed again for the gradient."""

    def of(states: Tensor) -> Tensor:
        logits = torch.nn.functional.linear(
            states.to(linear.weight.dtype), linear.weight, getattr(linear, "bias", None)
        )
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).logsumexp(-1)

    parts: tuple[Tensor, ...] = torch.split(states_ND, _ROWS)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(of, part, use_reentrant=False) for part in parts])
    return torch.cat([of(part) for part in parts])


@dataclass
class TDDemonstrations(Demonstrations):
    """Demonstrations with the temporal-difference term."""

    inverse: InverseQOptions = InverseQOptions()

    def _part(self, rows: list[int], weight: float, total_rows: float, total_tokens: float) -> Loss:
        device = device_of(self.policy)
        responses = as_responses([self.rows.prompts[i] for i in rows], [self.rows.completions[i] for i in rows], device)
        said = soft_q(self.policy, responses, self.inverse)
        weights = losses.token_weights(responses.mask, self.average, rows=total_rows, tokens=total_tokens)
        weights = weights * torch.tensor([self.rows.weights[i] for i in rows], device=device)[:, None]
        square = said.reward.square()
        value = (weights * (self.inverse.td_weight * square - said.logprobs)).sum()
        count = float(responses.mask.sum())
        mask = responses.mask
        return Loss(
            weight * value,
            {
                "nll": (-(said.logprobs.detach() * mask).sum(), count),
                "td": ((square.detach() * mask).sum(), count),
                "reward/token": ((said.reward.detach() * mask).sum(), count),
            },
        )


class InverseQ(SupervisedTuning):
    """`iq` as a `Method` of the loop; the arguments are those of `SupervisedTuning` and `inverse`."""

    name = "iq"

    def __init__(
        self, policy: Any, rows: Encoded, *, inverse: InverseQOptions = InverseQOptions(), **options: Any
    ) -> None:  # fmt: skip
        super().__init__(policy, rows, **options)
        dealt = self.dealt
        self.dealt = TDDemonstrations(
            dealt.policy, dealt.rows, dealt.batch, dealt.micro_batch, dealt.average, dealt.seed, dealt.processes,
            dealt.stop, inverse,
        )  # fmt: skip
        self.inverse = inverse

    def round(self, step: int) -> Iterable[Step]:
        """One step, without dropout: it compares the values of states, and noise in them would count as error."""
        self.policy.model.eval()
        yield Step(self.dealt.parts(step))

    def reward(self, *, reference: Any = None, name: str = "soft_q") -> SoftQReward:
        """What was learnt, as a reward; `reference` is the policy before."""
        return SoftQReward(
            self.policy, self.inverse, reference, name, {"kind": "demonstration", "n_train": len(self.dealt.rows)}
        )


@dataclass(eq=False)
class SoftQReward:
    """The sum of an answer's token rewards, less tau log pi_ref where there is a reference.

    Satisfies `Reward` and `Saved`. Prompts lose their beginning, and answers their end, where the model cannot read
    both; the value of the state where an answer was cut then takes the place of what is missing.
    """

    policy: Any
    """A `TransformerPolicy`, whose arithmetic should be float32."""
    options: InverseQOptions = field(default_factory=InverseQOptions)
    reference: Any = None
    name: str = "soft_q"
    report: dict[str, Any] = field(default_factory=dict)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32."""
        require_rows(prompts, completions)
        result = np.zeros(len(prompts), np.float32)
        rows = [self._ids(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        with torch.no_grad(), self.policy._evaluating():
            for start in range(0, len(order), _BATCH):
                part = order[start : start + _BATCH]
                whole = torch.tensor([rows[i][2] for i in part], device=self.policy.device)
                responses = as_responses([rows[i][0] for i in part], [rows[i][1] for i in part], self.policy.device)
                last = responses.mask.sum(1) - 1
                counted = responses.mask.clone()  # the last token of a cut row only lends the value before it
                counted[torch.arange(len(part)), last] &= whole
                scores = (soft_q(self.policy, responses, self.options).reward * counted).double().sum(1)
                if self.reference is not None:
                    before = self.reference.logprobs(responses).logprobs
                    scores -= self.options.tau * (before * counted).double().sum(1)
                result[part] = scores.cpu().numpy()
        return result

    def save(self, folder: str | Path) -> None:
        """Write reward.json and a model card with the policy, and the reference, in folders inside."""
        parts = {_INSIDE: self.policy} | ({} if self.reference is None else {_REFERENCE: self.reference})
        config = {"td_weight": self.options.td_weight, "discount": self.options.discount, "tau": self.options.tau}
        save_reward(
            folder, "soft_q", self.name, config=config | {"relative": self.reference is not None}, parts=parts,
            report=self.report, meaning="Higher is better, in nats: what the demonstrations made likelier."
            if self.reference is not None else "Higher is better, in nats: the soft value of the prompt and the"
            " log-likelihood of the answer; longer answers score lower.",
        )  # fmt: skip

    @classmethod
    def load(cls, folder: str | Path, *, cache: str | Path | None = None) -> SoftQReward:
        """Read a saved folder; nothing is cached."""
        from tacit.policies.transformer import TransformerPolicy

        manifest, _ = open_reward(folder, "soft_q")
        inside = Path(folder)
        return cls(
            TransformerPolicy.load(inside / _INSIDE, dtype="float32"),
            InverseQOptions(manifest["td_weight"], manifest["discount"], manifest["tau"]),
            TransformerPolicy.load(inside / _REFERENCE, dtype="float32") if manifest["relative"] else None,
            manifest["name"],
            manifest["report"],
        )

    @cached_property
    def _codec(self) -> Codec:
        own = self.policy.codec
        return Codec(own.tokenizer, own.ends, 1 << 40)

    def _ids(self, prompt: Prompt, completion: Completion) -> tuple[list[int], list[int], bool]:
        """Token ids of both sides, and whether the whole answer is there."""
        codec = self._codec
        opened = bool(codec.tokenizer.chat_template) or codec.tokenizer.bos_token_id is not None
        # Where no token begins a text, the end of the one before does.
        asked = codec.encode([prompt])[0] if opened or prompt_text(prompt) else [codec.ends[0]]
        (said,) = codec.encode_completions([completion_text(completion)])
        context = self.policy.codec.context
        kept = said[: max(2, context - min(len(asked), max(1, context // 4)))]
        return asked[-max(1, context - len(kept)) :], kept, len(kept) == len(said)
