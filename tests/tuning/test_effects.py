"""What options do where they once did nothing: numbers by hand, exact worlds, and runs that must differ."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tabular import Tabular, TextReward, lettered, rewards_of
from torch import Tensor

from numerics import assert_float32_close
from tacit.errors import TacitError
from tacit.tuning import advantages, credit
from tacit.tuning.crediting import LearntReturn
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.rejection import Rejection
from tacit.tuning.sampling import Sampler, SamplingOptions
from tacit.tuning.supervised import SupervisedTuning, encode

SAMPLING = SamplingOptions(prompts_per_round=4, num_generations=4, max_completion_length=3)


def sampler(policy: Tabular, options: SamplingOptions = SAMPLING, seed: int = 0) -> Sampler:
    return Sampler(policy, ["0", "1"], TextReward(lettered), options, seed)


# --- rejection --------------------------------------------------------------------------------------------------------


def test_raft_is_likelihood_and_raft_plus_plus_the_clipped_ratio() -> None:
    old = torch.log(torch.tensor([[0.5, 0.5, 0.5]]))
    now = torch.log(torch.tensor([[0.25, 0.5, 0.9]]))  # ratios .5, 1 and 1.8
    ones, mask = torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool)
    policy = Tabular()

    def losses(rule: str) -> tuple[Tensor, Tensor]:
        logprobs = now.clone().requires_grad_(True)
        found, _ = Rejection(policy, sampler(policy), GradientOptions(rule), 1).token_losses(logprobs, old, ones, mask)
        (gradient,) = torch.autograd.grad(found.sum(), logprobs)
        return found.detach(), gradient

    value, gradient = losses("raft")
    torch.testing.assert_close(value, -now)
    torch.testing.assert_close(gradient, -ones)
    value, gradient = losses("raft++")
    torch.testing.assert_close(value, -torch.tensor([[0.5, 1.0, 1.2]]))
    torch.testing.assert_close(gradient, -torch.tensor([[0.5, 1.0, 0.0]]))  # past the upper clip it is gone


def tuned(rule: str, out: Path, steps: int = 4, **options: Any) -> Tensor:
    policy = Tabular(seed=2)
    method = Rejection(policy, sampler(policy), GradientOptions(rule, average="constant", **options), steps)
    train(method, out, LoopOptions(learning_rate=0.3, adam_epsilon=1e-4, lr_scheduler_type="constant", num_samples=0))
    logits: Tensor = policy.model.logits.detach()
    return logits


def test_raft_and_raft_plus_plus_part_at_the_second_step_of_a_round(tmp_path: Path) -> None:
    for steps, same in ((1, True), (2, False)):
        first, second = (
            tuned(rule, tmp_path / f"{rule}-{steps}", steps, num_iterations=2) for rule in ("raft", "raft++")
        )
        if same:
            assert_float32_close(first, second)
        else:
            assert float((first - second).abs().max()) > 0.01


@pytest.mark.parametrize("rule", ["raft", "raft++", "reinforce-rej"])
def test_rejection_ranks_by_reward_less_kl(rule: str) -> None:
    policy = Tabular(seed=2)
    with torch.no_grad():
        policy.model.logits += torch.randn(policy.model.logits.shape, generator=torch.Generator().manual_seed(1))
    beta = 2.0
    method = Rejection(policy, sampler(policy), GradientOptions(rule, beta=beta), 1)
    made, _ = method.sampler.collect()
    ready, _ = method._prepare(made)
    ratio = (made.rollout.logprobs - policy.reference().logprobs(made.rollout).logprobs).sum(1)
    regularised = made.rewards - beta * ratio
    if rule == "reinforce-rej":
        expected = regularised[:, None] * made.mask
        torch.testing.assert_close(ready.advantages, expected)
        groups = made.grouped(made.rewards)
        assert ready.counted.tolist() == (groups.amax(1) > groups.amin(1)).repeat_interleave(made.n).tolist()
    else:
        best = made.grouped(regularised).argmax(1)
        assert made.grouped(ready.counted).long().argmax(1).tolist() == best.tolist()
        assert best.tolist() != made.grouped(made.rewards).argmax(1).tolist()  # here the two disagree


def test_the_kl_of_k1_in_the_loss_is_refused() -> None:
    with pytest.raises(TacitError, match=r"--kl-in loss with --kl-estimator k1.*--kl-estimator k2 or k3"):
        GradientOptions("grpo", beta=0.1, kl_in="loss")
    assert GradientOptions("grpo", beta=0.1, kl_in="loss", kl_estimator="k2").beta == 0.1
    assert GradientOptions("grpo", kl_in="loss").beta == 0


# --- credit -----------------------------------------------------------------------------------------------------------


def test_the_learnt_return_learns_from_one_response_a_prompt_and_not_from_greedy_ones() -> None:
    policy = Tabular(seed=4)
    way = LearntReturn(True)
    asked = sampler(policy, SamplingOptions(prompts_per_round=8, num_generations=1, max_completion_length=3))
    made, _ = asked.collect()
    way(made, policy)
    assert way.gram is not None
    before = way.gram.clone()
    way(asked.greedy(made), policy)
    assert torch.equal(way.gram, before)
    again, _ = asked.collect()
    assert not torch.allclose(way(again, policy), credit.terminal(again.rewards, again.mask))


def discounted_update(policy: Tabular, tokens: Tensor, discount: float) -> Tensor:
    """E_pi sum_t G_t grad log pi(a_t | s_t) with discounted returns to go G_t."""
    every = policy.every()
    logprobs = policy.logprobs(every).logprobs
    returns = advantages.to_go(tokens, every.mask, discount) * every.mask
    probability = logprobs.sum(1).exp().detach() / len(policy.model.logits)
    return policy.gradient((probability[:, None] * returns * logprobs).sum())


def test_a_potential_leaves_the_gradient_where_it_shares_the_discount() -> None:
    """F = gamma Phi(s') - Phi(s): with the policy's own gamma nothing changes in the mean, with another one it does."""
    policy, discount = Tabular(seed=6), 0.7
    every = policy.every()
    prompt, state = policy.states(every)
    table = torch.randn(policy.model.logits.shape, generator=torch.Generator().manual_seed(4))
    plain = credit.terminal(rewards_of(policy).flatten(), every.mask)
    exact = discounted_update(policy, plain, discount)
    for other, same in ((discount, True), (1.0, False)):
        shaped = credit.potential(plain, table[prompt, state, 0], every.mask, other)
        error = float((discounted_update(policy, shaped, discount) - exact).norm() / exact.norm())
        assert (error < 1e-5) is same, (other, error)


def test_the_potential_of_a_run_shares_its_discount() -> None:
    """Its shaping adds up to nothing under the run's own discount, and the potential is the return to go."""
    policy, discount = Tabular(seed=4), 0.6
    way = LearntReturn(True, discount=discount, ridge=1e-3, memory=1.0)
    asked = sampler(policy, SamplingOptions(prompts_per_round=64, num_generations=4, max_completion_length=3))
    for _ in range(20):
        made, _ = asked.collect()
        found = way(made, policy)
    powers = discount ** torch.arange(found.shape[1])
    torch.testing.assert_close((powers * found).sum(1), credit.brevity(made.rewards, made.mask, discount))
    assert not torch.allclose(found.sum(1), made.rewards, atol=1e-2)
    assert way.gram is not None
    weights = torch.linalg.solve(way.gram + 1e-3 * torch.eye(len(way.gram), dtype=torch.float64), way.cross)
    every = policy.every()
    probability = policy.logprobs(every).logprobs.sum(1).exp().detach().view(2, -1)
    returns = credit.brevity(rewards_of(policy).flatten(), every.mask, discount).view(2, -1)
    for p in range(2):  # before the first token: what a whole answer is worth
        assert float(weights[p * policy.model.states] + weights[-1]) == pytest.approx(
            float((probability[p] * returns[p]).sum()), abs=0.2
        )


# --- measuring --------------------------------------------------------------------------------------------------------


def test_a_gold_reward_is_measured_without_another_one() -> None:
    gold = TextReward(lettered)
    found = Evaluation(Tabular(seed=2), ["0", "1"], SamplingOptions(max_completion_length=3), gold=gold, n=5)()
    both = Evaluation(Tabular(seed=2), ["0", "1"], SamplingOptions(max_completion_length=3), gold, gold, n=5)()
    assert "eval_reward" not in found
    assert found["eval_gold"] == both["eval_gold"] == pytest.approx(both["eval_reward"])


# --- the same bytes ---------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_equal_runs_leave_equal_checkpoints_whatever_was_drawn_before(seed: int, tmp_path: Path) -> None:
    """Every generator is seeded at the start and kept: Python's, numpy's and torch's."""

    class Noisy(Tabular):
        """Draws from all three generators in every pass."""

        def logprobs(self, responses: Any, **asked: Any) -> Any:
            said = super().logprobs(responses, **asked)
            noise = random.random() + np.random.random() + float(torch.rand(()))  # noqa: NPY002
            said.logprobs = said.logprobs * (1 + 0.01 * noise)
            return said

    def run(out: Path) -> dict[str, bytes]:
        policy = Noisy(seed=2)
        rows = encode(policy, ["0", "1", "0", "1"], ["ab", "b", "", "ba"])
        method = SupervisedTuning(policy, rows, batch=2, steps=4, seed=seed)
        train(method, out, LoopOptions(learning_rate=0.05, save_steps=2, seed=seed))
        return files_of(out / "checkpoints")

    first = run(tmp_path / "first")
    random.seed(5)
    np.random.seed(6)  # noqa: NPY002
    torch.manual_seed(7)
    assert run(tmp_path / "second") == first
    assert {name.split("/")[0] for name in first} == {"step-000002", "step-000004"}


def test_every_policy_gradient_switches_dropout_off() -> None:
    policy = Tabular(seed=2)
    policy.model.train()
    PolicyGradient(policy, sampler(policy), GradientOptions("grpo"), 1)
    assert not policy.model.training
