"""Policy gradients: reinforce, remax, rloo, grpo (with Dr. GRPO and DAPO among its options) and ppo.

A round samples n responses to each of P prompts and rewards them. Token rewards are the sequence reward, on the last
token or spread by a rule of credit, less beta KL where that stands in the reward; with R_t their sum from token t on:

    reinforce   A_t = R_t - b              b: none, the mean of all other rows, or a moving average
    remax       A_t = R_t - R_t(greedy)
    rloo        A_t = R_t - mean over the other responses to the prompt
    grpo        A_t = (R_t - mean over the responses to the prompt) / (their standard deviation + 1e-4)
    ppo         A_t = GAE with a value head on the policy's last hidden states

The loss is PPO's clipped surrogate for all (at its first step the ratio is 1 and it is REINFORCE), plus beta KL where
that stands in the loss, plus the critic's for ppo. Sources stand beside the functions in `losses` and `advantages`.
Dropout is off: the sampler switches it off, and the ratio of two passes over one row would be noise otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.policies.contract import TrainablePolicy
from tacit.tuning import advantages, credit, losses
from tacit.tuning.data import chunks, take
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.loop import Loss, State, Step
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import Experience, Sampler, scores_of
from tacit.tuning.supervised import Demonstrations

Estimator = Literal["reinforce", "remax", "rloo", "grpo", "ppo"]
Baseline = Literal["none", "batch", "moving"]
Credit = Callable[[Experience, TrainablePolicy], Tensor]
"""From experience to token rewards (B, T) whose rows add up to `Experience.rewards`."""


@dataclass(frozen=True)
class GradientOptions:
    """Options of policy gradients; names as in TRL where it has them."""

    estimator: str = "grpo"
    beta: float = 0.0
    """Weight of KL(pi || pi_ref)."""
    kl_estimator: losses.KLEstimator = "k1"
    kl_in: Literal["reward", "loss"] = "reward"
    """Where the KL term stands; k1 belongs in the reward, k2 in the loss (see `losses.kl`)."""
    baseline: Baseline = "batch"
    """Of reinforce."""
    scale_rewards: advantages.Scale = "group"
    """Of grpo; `none` is Dr. GRPO."""
    whiten: bool = False
    """Scale the advantages of a round to mean 0 and deviation 1."""
    average: losses.Average = "token"
    epsilon: float = 0.2
    epsilon_high: float | None = None
    """Upper clip, as DAPO's clip-higher; that of epsilon unless given."""
    discount: float = 1.0
    trace: float = 0.95
    """GAE's lambda."""
    vf_coef: float = 0.1
    cliprange_value: float = 0.2
    mask_truncated_completions: bool = False
    """Responses that were cut at the limit teach nothing."""
    num_iterations: int = 1
    """Passes over the samples of a round."""
    num_mini_batches: int = 1
    """Steps of each pass."""
    micro_batch: int = 64
    """Rows of one forward pass with gradients."""
    demonstration_weight: float = 0.1
    """Weight of the likelihood of demonstrations mixed into each step."""
    measure_kl: bool = False
    """Measure the KL to the reference even where nothing depends on it."""

    def __post_init__(self) -> None:
        if self.beta > 0 and self.kl_in == "loss" and self.kl_estimator == "k1":
            raise TacitError(
                "--kl-in loss with --kl-estimator k1 has a mean gradient of 0 and holds nothing back. Give "
                "--kl-estimator k2 or k3, or --kl-in reward"
            )

    @property
    def high(self) -> float:
        """The upper clip."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high


@dataclass
class _Prepared:
    """A round ready for its steps; (B, T) each."""

    made: Experience
    advantages: Tensor
    counted: Tensor
    """(B,) bool: rows that teach."""
    old: Tensor
    reference: Tensor | None
    values: Tensor | None
    returns: Tensor | None


class PolicyGradient:
    """One of the estimators above as a `Method` of the loop."""

    def __init__(
        self,
        policy: TrainablePolicy,
        sampler: Sampler,
        options: GradientOptions,
        steps: int,
        *,
        crediting: Credit | None = None,
        evaluation: Evaluation | None = None,
        demonstrations: Demonstrations | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        self.name, self.steps, self.options = options.estimator, steps, options
        self.policy, self.sampler, self.processes = policy, sampler, processes
        self.crediting, self.evaluation, self.demonstrations = crediting, evaluation, demonstrations
        asks = options.beta > 0 or options.measure_kl
        self.reference = policy.reference() if asks else None
        self.moving = 0.0
        self.critic = _critic(policy) if options.estimator == "ppo" else None

    def modules(self) -> Mapping[str, Any]:
        """The policy's model, and the value head of ppo."""
        return {"policy": self.policy.model, **({"critic": self.critic} if self.critic is not None else {})}

    def round(self, step: int) -> Iterable[Step]:
        """Sample, then num_iterations passes of num_mini_batches steps."""
        made, metrics = self.sampler.collect()
        ready, more = self._prepare(made)
        counts = self.processes.gather(len(made.prompts))
        first, total = sum(counts[: self.processes.rank]), sum(counts)
        size = -(-total // self.options.num_mini_batches)
        for passed in range(self.options.num_iterations):
            order = list(range(total))
            if self.options.num_mini_batches > 1:
                drawn = torch.Generator().manual_seed(self.sampler.seed * 1_000_003 + step + passed)
                order = torch.randperm(total, generator=drawn).tolist()
            for number, part in enumerate(chunks(order, size)):
                own = [group - first for group in part if first <= group < first + len(made.prompts)]
                rows = [group * made.n + i for group in own for i in range(made.n)]
                yield Step(self._parts(ready, rows, step, passed, number), {**metrics, **more}, made.samples())

    def evaluate(self) -> dict[str, float]:
        """Reward and KL on held-out prompts."""
        return {} if self.evaluation is None else self.evaluation()

    def state(self) -> State:
        """The sampler's state, the moving baseline and what credit keeps."""
        held = self.sampler.state()
        learnt = getattr(self.crediting, "state", None)
        kept = State() if learnt is None else learnt()
        values = {"sampler": held.values, "moving": self.moving, "credit": kept.values}
        return State(values, {**held.tensors, **{f"credit/{name}": value for name, value in kept.tensors.items()}})

    def restore(self, state: State) -> None:
        """Take it over."""
        own = {k.removeprefix("credit/"): v for k, v in state.tensors.items() if k.startswith("credit/")}
        rest = {k: v for k, v in state.tensors.items() if not k.startswith("credit/")}
        self.sampler.restore(State(state.values["sampler"], rest))
        self.moving = float(state.values["moving"])
        if hasattr(self.crediting, "restore"):
            self.crediting.restore(State(state.values["credit"], own))  # type: ignore[union-attr]

    def save(self, folder: Path) -> None:
        """The policy as a transformers folder."""
        self.policy.save(folder)

    # --- from samples to advantages ---------------------------------------------------------------------------------

    def _prepare(self, made: Experience) -> tuple[_Prepared, dict[str, float]]:
        options, rollout, mask = self.options, made.rollout, made.mask
        at = self.sampler.options
        reference = values = None
        metrics: dict[str, float] = {}
        rewards = self._token_rewards(made)
        old = rollout.logprobs
        if self.reference is not None:
            reference = scores_of(self.reference, rollout, at.batch, temperature=at.temperature).logprobs
            metrics = self._kl_metrics(old - reference, mask)
            if options.beta > 0 and options.kl_in == "reward":
                rewards = rewards - options.beta * losses.kl(old, reference, options.kl_estimator) * mask
        if self.critic is not None:
            said = scores_of(self.policy, rollout, at.batch, temperature=at.temperature, hidden=True)
            assert said.hidden is not None
            values = self.critic(said.hidden.float())[..., 0].detach() * mask
        found, counted, returns = self.estimate(made, rewards, values)
        if options.mask_truncated_completions:
            counted = counted & rollout.ended
        metrics["objective/scores"] = float(self.processes.concatenated(made.scores).double().mean())
        return _Prepared(made, found * mask, counted, old, reference, values, returns), metrics

    def _token_rewards(self, made: Experience) -> Tensor:
        if self.crediting is None:
            return credit.terminal(made.rewards, made.mask)
        return self.crediting(made, self.policy)

    def estimate(
        self, made: Experience, rewards: Tensor, values: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Advantages (B, T), which rows count (B,), and the critic's targets (B, T), from token rewards (B, T)."""
        options, mask = self.options, made.mask
        counted = torch.ones(len(mask), dtype=torch.bool, device=mask.device)
        if values is not None:
            found, returns = advantages.gae(rewards, values, mask, discount=options.discount, trace=options.trace)
            return self._scaled(found, mask), counted, returns
        returns = advantages.to_go(rewards, mask, options.discount)
        grouped = made.grouped(returns)
        match options.estimator:
            case "rloo":
                found = advantages.leave_one_out(grouped)
            case "grpo":
                found = self._everywhere(partial(_grpo, scale=options.scale_rewards), grouped)
            case "remax":
                found = advantages.remax(grouped, self._greedy_returns(made, grouped.shape[2]))
            case "reinforce":
                found = self._reinforce(returns)
            case other:
                raise TacitError(f"no estimator `{other}`. Choose one of: reinforce, remax, rloo, grpo, ppo")
        found = found.reshape(returns.shape)
        return self._scaled(found, mask), counted, None

    def _reinforce(self, returns: Tensor) -> Tensor:
        match self.options.baseline:
            case "none":
                return returns
            case "batch":
                return self._everywhere(advantages.others_mean, returns)
        found = returns - self.moving
        mean = float(self.processes.concatenated(returns[:, 0]).mean())
        self.moving = 0.9 * self.moving + 0.1 * mean
        return found

    def _greedy_returns(self, made: Experience, width: int) -> Tensor:
        """Returns to go (P, T) of the greedy responses, without the KL term, which is no part of ReMax's baseline."""
        greedy = self.sampler.greedy(made)
        returns = advantages.to_go(self._token_rewards(greedy), greedy.mask, self.options.discount)
        beyond = returns[:, -1:].expand(-1, max(0, width - returns.shape[1]))
        return torch.cat([returns, beyond], 1)[:, :width]

    def _scaled(self, found: Tensor, mask: Tensor) -> Tensor:
        if self.options.whiten:
            return advantages.whiten(found, mask, everywhere=self.processes.sum)
        return found * mask

    def _everywhere(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """A function of all processes' rows, and this process's part of what it gives."""
        if self.processes.world == 1:
            return function(values)
        width = max(self.processes.gather(values.shape[-1]))
        beyond = values[..., -1:].expand(*values.shape[:-1], width - values.shape[-1])
        every = self.processes.gather(torch.cat([values, beyond], -1).cpu())
        before = sum(len(part) for part in every[: self.processes.rank])
        whole = function(torch.cat(every).to(values.device))
        mine: Tensor = whole[before : before + len(values), ..., : values.shape[-1]]
        return mine

    def _kl_metrics(self, difference: Tensor, mask: Tensor) -> dict[str, float]:
        k3 = (torch.expm1(-difference) + difference) * mask
        sums = torch.stack([k3.sum(), mask.sum(), (difference * mask).sum(), torch.tensor(float(len(mask))).to(k3)])
        token, count, whole, rows = (float(one) for one in self.processes.sum(sums.double()))
        return {"kl": token / max(count, 1), "objective/kl": whole / max(rows, 1)}

    # --- from advantages to steps -----------------------------------------------------------------------------------

    def _parts(
        self, ready: _Prepared, rows: list[int], step: int, passed: int, number: int
    ) -> list[Callable[[], Loss]]:
        """Micro-batches of one step; rows that cannot change the loss are not computed."""
        device = ready.advantages.device
        chosen = torch.zeros(len(ready.counted), dtype=torch.bool, device=device)
        chosen[torch.as_tensor(rows, dtype=torch.int64, device=device)] = True
        teaching = ready.counted & chosen
        mask = ready.made.mask & teaching[:, None]
        totals = self.processes.sum(torch.stack([mask.sum(), teaching.sum()]).double())
        weights = losses.token_weights(
            mask,
            self.options.average,
            tokens=float(totals[0]),
            rows=float(totals[1]),
            constant=float(self.sampler.options.max_completion_length),
        )
        asks_all = self.critic is not None or (self.options.beta > 0 and self.options.kl_in == "loss")
        needed = teaching if asks_all else teaching & (ready.advantages != 0).any(1)
        keep = set(needed.nonzero()[:, 0].tolist())
        kept = [row for row in rows if row in keep]
        first = self.options.num_iterations * self.options.num_mini_batches == 1
        parts: list[Callable[[], Loss]] = [
            partial(self._part, ready, list(part), weights, first) for part in chunks(kept, self.options.micro_batch)
        ]
        if self.demonstrations is not None:
            where = (step * self.options.num_iterations + passed) * self.options.num_mini_batches + number
            parts += self.demonstrations.parts(where, self.options.demonstration_weight)
        return parts

    def token_losses(
        self, logprobs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, tuple[float | Tensor, float]]]:
        """The policy's loss of each token (B, T), PPO's clipped surrogate, and metrics as (sum, count)."""
        surrogate = losses.clipped(logprobs, old, advantages, self.options.epsilon, self.options.high)
        tokens = float(mask.sum())
        return surrogate.loss, {
            "clip_ratio/low_mean": ((surrogate.below & mask).sum(), tokens),
            "clip_ratio/high_mean": ((surrogate.above & mask).sum(), tokens),
        }

    def _part(self, ready: _Prepared, rows: list[int], weights: Tensor, first: bool) -> Loss:
        options = self.options
        responses = take(ready.made.rollout, rows)
        keep = torch.as_tensor(rows, device=weights.device)
        width = responses.mask.shape[1]
        weight, mask = weights[keep, :width], responses.mask
        said = self.policy.logprobs(
            responses, temperature=self.sampler.options.temperature, entropy=True, hidden=self.critic is not None
        )
        old = said.logprobs.detach() if first else ready.old[keep, :width]
        token_losses, sums = self.token_losses(said.logprobs, old, ready.advantages[keep, :width], mask)
        value = (weight * token_losses).sum()
        tokens = float(mask.sum())
        drift = (said.logprobs.detach() - old) * mask
        sums["policy/approxkl_avg"] = ((drift.square() / 2).sum(), tokens)
        if said.entropy is not None:
            sums["entropy"] = ((said.entropy * mask).sum(), tokens)
        if options.beta > 0 and options.kl_in == "loss" and ready.reference is not None:
            estimate = losses.kl(said.logprobs, ready.reference[keep, :width], options.kl_estimator)
            value = value + options.beta * (weight * estimate).sum()
        if self.critic is not None:
            assert said.hidden is not None
            assert ready.values is not None
            assert ready.returns is not None
            guess = self.critic(said.hidden.float())[..., 0]
            off = losses.value(guess, ready.values[keep, :width], ready.returns[keep, :width], options.cliprange_value)
            sums["loss/value_avg"] = ((off.detach() * mask).sum(), tokens)
            sums["loss/policy_avg"] = ((token_losses.detach() * mask).sum(), tokens)
            value = value + options.vf_coef * (weight * off).sum()
        return Loss(value, sums)


def _grpo(grouped: Tensor, scale: advantages.Scale) -> Tensor:
    return advantages.grpo(grouped, scale, sequence=grouped[..., 0])


def _critic(policy: TrainablePolicy) -> Any:
    """A linear value head on the policy's hidden states that starts from 0."""
    config = policy.model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    parameter = next(iter(policy.model.parameters()))
    head = torch.nn.Linear(int(text.hidden_size), 1, device=parameter.device, dtype=torch.float32)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head
