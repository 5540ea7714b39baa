"""Methods in a token MDP that is solved by enumeration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tabular import Tabular, TextReward, lettered, rewards_of
from torch import Tensor

from numerics import assert_float32_close
from tacit.tuning import advantages, credit, losses
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.preference import (
    EncodedPairs,
    OnlinePreference,
    PreferenceTuning,
    PreferenceTuningOptions,
    extremes,
)
from tacit.tuning.sampling import Sampler, SamplingOptions

HORIZON = 3


def gradient_method(policy: Tabular, groups: int = 400, n: int = 4, seed: int = 0, **options: Any) -> PolicyGradient:
    sampling = SamplingOptions(prompts_per_round=groups, num_generations=n, max_completion_length=HORIZON)
    sampler = Sampler(policy, ["0", "1"], TextReward(lettered), sampling, seed)
    return PolicyGradient(
        policy, sampler, GradientOptions(**{"average": "constant", "micro_batch": 10**6, **options}), steps=10**9
    )


def estimates(method: PolicyGradient, policy: Tabular, rounds: int) -> Tensor:
    """Ascent directions of so many rounds, (rounds, weights); the constant of the average taken out."""
    found = []
    for step in range(rounds):
        for dealt in method.round(step):
            policy.model.zero_grad()
            for part in dealt.parts:
                part().value.backward()
            found.append(-HORIZON * policy.model.logits.grad.flatten().clone())
    return torch.stack(found)


def distance(drawn: Tensor, exact: Tensor) -> tuple[float, float]:
    """|z| of the projection on the exact gradient, and the largest |z| of a weight."""
    error = drawn.mean(0) - exact
    deviation = drawn.std(0) / len(drawn) ** 0.5
    unit = exact / exact.norm()
    along = (drawn @ unit).std() / len(drawn) ** 0.5
    moved = deviation > 1e-9
    return float(((error @ unit) / along).abs()), float((error[moved] / deviation[moved]).abs().max())


UNBIASED: list[tuple[str, dict[str, Any], float]] = [
    ("reinforce", {"baseline": "none"}, 1.0),
    ("reinforce", {"baseline": "batch"}, 1.0),
    ("rloo", {}, 1.0),
    ("remax", {}, 1.0),
    ("grpo", {"scale_rewards": "none"}, 3 / 4),  # the mean of four responses holds the response itself
    ("ppo", {"trace": 1.0, "vf_coef": 0.0}, 1.0),
]


@pytest.mark.statistical
@pytest.mark.parametrize(("estimator", "options", "factor"), UNBIASED)
def test_policy_gradients_are_unbiased(estimator: str, options: dict[str, Any], factor: float) -> None:
    policy = Tabular(seed=3)
    exact = factor * policy.gradient(policy.expected(rewards_of(policy))).flatten()
    method = gradient_method(policy, estimator=estimator, **options)
    if method.critic is not None:  # any function of the state is a baseline that leaves the mean
        torch.nn.init.normal_(method.critic.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    along, worst = distance(estimates(method, policy, 60), exact)
    assert along < 3
    assert worst < 4


@pytest.mark.statistical
def test_a_biased_estimator_is_found_out() -> None:
    """The same check, on what is not the gradient of J: it must not pass."""
    policy = Tabular(seed=3)
    exact = policy.gradient(policy.expected(rewards_of(policy))).flatten()
    wrong: list[dict[str, Any]] = [
        {"estimator": "grpo"},
        {"estimator": "grpo", "scale_rewards": "none"},
        {"estimator": "rloo", "average": "sequence"},
        {"estimator": "ppo", "trace": 0.5, "vf_coef": 0.0},
    ]
    for options in wrong:
        method = gradient_method(policy, **options)
        if method.critic is not None:
            torch.nn.init.normal_(method.critic.weight, std=0.5, generator=torch.Generator().manual_seed(1))
        assert max(distance(estimates(method, policy, 30), exact)) > 6, options


@pytest.mark.statistical
@pytest.mark.parametrize("place", ["padding", "first"])
def test_a_reward_on_the_wrong_token_is_found_out(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards sit on the last real token. On the last column they are lost wherever a response is shorter."""
    policy = Tabular(seed=3)
    exact = policy.gradient(policy.expected(rewards_of(policy))).flatten()

    def misplaced(rewards: Tensor, mask: Tensor) -> Tensor:
        moved = torch.zeros(mask.shape)
        moved[:, -1 if place == "padding" else 0] = rewards
        return moved * mask

    monkeypatch.setattr(credit, "at_last_token", misplaced)
    method = gradient_method(policy, estimator="rloo")
    assert max(distance(estimates(method, policy, 30), exact)) > 6


@pytest.mark.statistical
def test_the_kl_term_in_the_reward_gives_the_gradient_of_the_regularised_objective() -> None:
    policy = Tabular(seed=3)
    with torch.no_grad():
        policy.model.logits += 0.5 * torch.randn(policy.model.logits.shape, generator=torch.Generator().manual_seed(9))
    reference = policy.reference().log_probabilities()
    ours = policy.log_probabilities()
    regularised = (ours.exp() * (rewards_of(policy) - 0.5 * (ours - reference))).sum(1).mean()
    exact = policy.gradient(regularised).flatten()
    for options in ({"kl_in": "reward", "kl_estimator": "k1"}, {"kl_in": "loss", "kl_estimator": "k2"}):
        method = gradient_method(policy, estimator="rloo", beta=0.5, **options)
        along, worst = distance(estimates(method, policy, 40), exact)
        if options["kl_in"] == "reward":
            assert along < 3
            assert worst < 4.5
        else:  # token by token, so that later tokens' KL counts for later tokens alone: near, and not the same
            assert worst > 4.5


# --- optima -----------------------------------------------------------------------------------------------------------


def regularised_optimum(policy: Tabular, rewards: Tensor, beta: float) -> Tensor:
    """log of pi* ~ pi_ref exp(R / beta) over all responses, (prompts, responses)."""
    return (policy.reference().log_probabilities() + rewards / beta).log_softmax(1)


def every_pair(policy: Tabular, rewards: Tensor) -> EncodedPairs:
    """All pairs of responses in both orders, weighted with how often people of Bradley and Terry prefer them so."""
    every = policy.every()
    lengths = every.mask.sum(1).tolist()
    rows = [row[:length] for row, length in zip(every.tokens.tolist(), lengths, strict=True)]
    many = rewards.shape[1]
    pairs = EncodedPairs([], [], [], [])
    for prompt in range(len(rewards)):
        for i in range(many):
            for j in range(many):
                if i != j:
                    pairs.prompts.append([prompt])
                    pairs.chosen.append(rows[prompt * many + i])
                    pairs.rejected.append(rows[prompt * many + j])
                    pairs.weights.append(torch.sigmoid(rewards[prompt, i] - rewards[prompt, j]).item())
    return pairs


def test_the_optimum_of_dpo_is_that_of_the_regularised_objective(tmp_path: Path) -> None:
    policy, beta = Tabular(seed=5), 0.8
    rewards = rewards_of(policy)
    pairs = every_pair(policy, rewards)
    options = PreferenceTuningOptions(
        loss=losses.PreferenceOptions(beta=beta), batch=len(pairs), micro_batch=len(pairs), steps=400
    )
    method = PreferenceTuning(policy, pairs, options)
    train(
        method, tmp_path, LoopOptions(learning_rate=0.1, lr_scheduler_type="cosine", max_grad_norm=0, logging_steps=100)
    )
    best = regularised_optimum(policy, rewards, beta)
    found = policy.log_probabilities()
    assert float((best.exp() * (best - found)).sum(1).max().detach()) < 1e-3
    wrong = (rewards * beta).log_softmax(1)  # the box of the survey: no reference, beta turned round
    assert float((wrong.exp() * (wrong - found)).sum(1).max().detach()) > 0.1


@pytest.mark.statistical
def test_online_dpo_and_rloo_come_near_their_optima(tmp_path: Path) -> None:
    rewards = rewards_of(Tabular(seed=5))
    beta = 0.8

    def reached(policy: Tabular) -> float:
        with torch.no_grad():
            ours, reference = policy.log_probabilities(), policy.reference().log_probabilities()
            return float((ours.exp() * (rewards - beta * (ours - reference))).sum(1).mean())

    sampling = SamplingOptions(prompts_per_round=64, num_generations=4, max_completion_length=HORIZON)
    options = LoopOptions(learning_rate=0.05, lr_scheduler_type="cosine", logging_steps=50)
    start = Tabular(seed=5)
    best = float((start.reference().log_probabilities() + rewards / beta).logsumexp(1).mean().detach()) * beta
    policy = Tabular(seed=5)
    sampler = Sampler(policy, ["0", "1"], TextReward(lettered), sampling)
    made = PolicyGradient(policy, sampler, GradientOptions("rloo", beta, average="constant", micro_batch=999), 150)
    train(made, tmp_path / "rloo", options)
    assert reached(start) < best - 0.5
    assert best - 0.05 < reached(policy) <= best + 1e-5
    policy = Tabular(seed=5)
    chosen = PreferenceTuningOptions(loss=losses.PreferenceOptions(beta=beta), batch=64, micro_batch=64)
    sampler = Sampler(policy, ["0", "1"], TextReward(lettered), sampling)
    online = OnlinePreference(policy, sampler, chosen, rounds=100, pairing=extremes)
    train(online, tmp_path / "dpo", options)
    assert reached(policy) > reached(start) + 0.5


CREDITS = ("terminal", "uniform", "attention", "differences", "redistributed", "potential")


def credited(name: str, rewards: Tensor, policy: Tabular) -> Tensor:
    """Token rewards of every response; what is known of a state depends on the state alone, as a model's would."""
    every = policy.every()
    prompt, state = policy.states(every)
    table = torch.randn(policy.model.logits.shape, generator=torch.Generator().manual_seed(4))
    after = table[prompt, state].gather(-1, every.tokens[..., None])[..., 0]
    flat = rewards.flatten()
    match name:
        case "terminal":
            return credit.terminal(flat, every.mask)
        case "uniform":
            return credit.uniform(flat, every.mask)
        case "attention":
            return credit.attention(flat, after.abs(), every.mask)
        case "differences":
            return credit.differences(after, flat, every.mask)
        case "redistributed":
            return credit.redistributed(after, flat, every.mask)
    return credit.potential(credit.terminal(flat, every.mask), table[prompt, state, 0], every.mask)


def mean_update(policy: Tabular, tokens: Tensor, *, whole: bool) -> Tensor:
    """E_pi sum_t A_t grad log pi(a_t | s_t), with A_t the sum of all rewards or of those from t on."""
    every = policy.every()
    logprobs = policy.logprobs(every).logprobs
    returns = advantages.to_go(tokens, every.mask)
    returns = (returns[:, :1].expand_as(returns) if whole else returns) * every.mask
    probability = logprobs.sum(1).exp().detach() / len(policy.model.logits)
    return policy.gradient((probability[:, None] * returns * logprobs).sum())


@pytest.mark.parametrize("name", CREDITS)
def test_credit_leaves_the_objective_and_its_optimum(name: str) -> None:
    """J is the same function of the policy, so the same policy is best; the plain policy gradient stays exact."""
    policy = Tabular(seed=6)
    rewards = rewards_of(policy)
    tokens = credited(name, rewards, policy)
    assert_float32_close(tokens.sum(1), rewards.flatten())
    exact = policy.gradient(policy.expected(rewards))
    assert_float32_close(mean_update(policy, tokens, whole=True), exact)


@pytest.mark.parametrize("name", CREDITS)
def test_returns_to_go_are_exact_where_credit_looks_back_alone(name: str) -> None:
    """A reward of token t that is known at t leaves the gradient; one that later tokens decide bends it.

    `uniform`, `attention` and the error that `redistributed` shares look at the whole response, so that with returns to
    go they are no unbiased estimates: a published convenience, and not a theorem.
    """
    policy = Tabular(seed=6)
    rewards = rewards_of(policy)
    exact = policy.gradient(policy.expected(rewards))
    error = float((mean_update(policy, credited(name, rewards, policy), whole=False) - exact).norm() / exact.norm())
    if name in ("terminal", "differences", "potential"):
        assert error < 1e-5
    else:
        assert error > 0.02


@pytest.mark.parametrize("name", CREDITS)
def test_ascent_on_credited_rewards_ends_at_the_same_best_responses(name: str, tmp_path: Path) -> None:
    """Exact ascent with returns to go on each credit, in a world where all responses have the same length."""
    policy = Tabular(seed=6)
    with torch.no_grad():  # the end token never comes: three letters always
        policy.model.logits[..., -1] = -30.0
    rewards = rewards_of(policy)
    tokens = credited(name, rewards, policy)
    optimiser = torch.optim.Adam([policy.model.logits], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        policy.model.logits.grad = -mean_update(policy, tokens, whole=False)
        policy.model.logits.grad[..., -1] = 0.0
        optimiser.step()
    open_ = policy.every().tokens.view(2, -1, HORIZON)
    full = (open_ < policy.letters).all(2) & policy.every().mask.view(2, -1, HORIZON).all(2)
    best = rewards.masked_fill(~full, -99.0).argmax(1)
    assert policy.log_probabilities().argmax(1).tolist() == best.tolist()
