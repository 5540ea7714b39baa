"""Advantages and credit against numbers worked out by hand; sums that must stay."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor

from numerics import assert_float32_close
from tacit.errors import TacitError
from tacit.tuning import advantages, credit

MASK = tensor([[True, True, True], [True, True, False]])


def near(found: Tensor, *expected: float) -> None:
    assert_float32_close(found.flatten(), expected)


def test_returns_to_go_by_hand() -> None:
    rewards = tensor([[1.0, 2.0, 4.0], [1.0, 8.0, 99.0]])
    near(advantages.to_go(rewards, MASK), 7, 6, 4, 9, 8, 8)
    near(advantages.to_go(rewards, MASK, 0.5), 1 + 1 + 1, 2 + 2, 4, 1 + 4, 8, 8)
    near(advantages.at_last_token(tensor([5.0, 7.0]), MASK), 0, 0, 5, 0, 7, 0)


def test_group_baselines_by_hand() -> None:
    returns = tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    near(advantages.leave_one_out(returns), 1 - 4, 2 - 3.5, 6 - 1.5, 0, 0, 0)
    deviation = math.sqrt((4 + 1 + 9) / 2)
    near(advantages.grpo(returns, epsilon=0.0)[:1], -2 / deviation, -1 / deviation, 3 / deviation)
    near(advantages.grpo(returns, "none"), -2, -1, 3, 0, 0, 0)
    near(advantages.grpo(returns), *(x / (deviation + 1e-4) for x in (-2, -1, 3)), 0, 0, 0)
    whole = returns.std().item()
    near(advantages.grpo(returns, "batch", epsilon=0.0), -2 / whole, -1 / whole, 3 / whole, 0, 0, 0)
    near(advantages.remax(returns, tensor([2.0, -1.0])), -1, 0, 4, 1, 1, 1)
    near(advantages.others_mean(tensor([1.0, 2.0, 6.0])), 1 - 4, 2 - 3.5, 6 - 1.5)
    near(advantages.others_mean(tensor([3.0])), 3)
    near(advantages.grpo(tensor([[4.0]])), 0)
    with pytest.raises(TacitError, match="num_generations"):
        advantages.leave_one_out(tensor([[1.0]]))


def test_baselines_serve_token_returns_alike() -> None:
    returns = tensor([[[3.0, 1.0], [5.0, 5.0]]])
    near(advantages.leave_one_out(returns), -2, -4, 2, 4)
    near(advantages.remax(returns, tensor([[1.0, 2.0]])), 2, -1, 4, 3)
    scaled = advantages.grpo(returns, sequence=returns[..., 0], epsilon=0.0)
    near(scaled, *(x / math.sqrt(2) for x in (-1, -2, 1, 2)))
    # responses worth the same, told apart by credit: not a thousand times as much as they differ
    alike = tensor([[[0.0, 0.1], [0.0, -0.1]], [[1.0, 1.0], [0.0, 0.0]]])
    batch = tensor([0.0, 0.0, 1.0, 0.0]).std().item()
    found = advantages.grpo(alike, sequence=alike[..., 0])
    near(found[0], 0, 0.1 / (batch + 1e-4), 0, -0.1 / (batch + 1e-4))
    near(advantages.grpo(alike[:1], sequence=alike[:1, :, 0], epsilon=1e-6), 0, 0.1, 0, -0.1)
    same = tensor([[1.0, 4.0, 7.0]])
    long = same[..., None].expand(-1, -1, 5)
    assert_float32_close(advantages.leave_one_out(long)[..., 2], advantages.leave_one_out(same))


def test_gae_by_hand() -> None:
    rewards, values = tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 99.0]]), tensor([[0.5, 0.25, 0.75], [1.0, 1.0, 99.0]])
    found, returns = advantages.gae(rewards, values, MASK, discount=0.9, trace=0.8)
    last = 1 - 0.75
    middle = 0.9 * 0.75 - 0.25 + 0.72 * last
    first = 0.9 * 0.25 - 0.5 + 0.72 * middle
    other = 0.9 * 1 - 1 + 0.72 * (2 - 1)
    near(found, first, middle, last, other, 1.0, 0)
    near(returns, first + 0.5, middle + 0.25, 1.0, other + 1, 2.0, 0)
    monte_carlo, _ = advantages.gae(rewards, values, MASK, trace=1.0)
    assert_float32_close(monte_carlo, (advantages.to_go(rewards, MASK) - values) * MASK)


def test_whitening_by_hand() -> None:
    values = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 99.0]])
    deviation = math.sqrt(10 / 4)
    near(advantages.whiten(values, MASK), *(x / deviation for x in (-2, -1, 0, 1, 2)), 0)
    near(advantages.whiten(values, MASK, centre=False), *(x / deviation for x in (1, 2, 3, 4, 5)), 0)


def test_credit_by_hand() -> None:
    rewards = tensor([6.0, -4.0])
    near(credit.terminal(rewards, MASK), 0, 0, 6, 0, -4, 0)
    near(credit.uniform(rewards, MASK), 2, 2, 2, -2, -2, 0)
    near(credit.uniform(rewards, MASK, 0.5), 1, 1, 4, -1, -3, 0)
    weights = tensor([[1.0, 1.0, 2.0], [0.0, 0.0, 5.0]])
    near(credit.attention(rewards, weights, MASK, 0.8), 1.2, 1.2, 1.2 + 2.4, -1.6, -0.8 - 1.6, 0)
    scores = tensor([[1.0, 3.0, 5.0], [1.0, -4.0, 7.0]])
    near(credit.differences(scores, rewards, MASK), 1, 2, 2 + 1, 1, -5, 0)
    near(credit.redistributed(scores, rewards, MASK), 1 + 1 / 3, 2 + 1 / 3, 2 + 1 / 3, 1, -5, 0)
    near(credit.brevity(rewards, MASK, 0.5), 1.5, -2)
    near(credit.overlong(tensor([5, 6, 8, 10, 12]), 10, 4), 0, 0, -0.5, -1, -1)
    for bad in (lambda: credit.attention(rewards, -weights, MASK), lambda: credit.uniform(rewards, MASK, 1.5),
                lambda: credit.brevity(rewards, MASK, 0.0), lambda: credit.overlong(rewards, 10, 11)):  # fmt: skip
        with pytest.raises(TacitError):
            bad()


def test_potential_shaping_by_hand() -> None:
    rewards, values = tensor([[0.0, 0.0, 1.0]]), tensor([[5.0, 7.0, 6.0]])
    near(credit.potential(rewards, values, MASK[:1]), 2, -1, 0)
    near(credit.potential(rewards, values, MASK[:1], 0.5), 1, 0.5 - 2, 0)


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 7))
@settings(max_examples=60)
def test_credit_keeps_sums(seed: int, rows: int, tokens: int) -> None:
    made = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (rows,), generator=made)
    mask = torch.arange(tokens) < lengths[:, None]
    rewards = torch.randn(rows, generator=made, dtype=torch.float64)
    scores = torch.randn(rows, tokens, generator=made, dtype=torch.float64)
    kept = [
        credit.terminal(rewards, mask),
        credit.uniform(rewards, mask, 0.3),
        credit.attention(rewards, scores.abs(), mask),
        credit.differences(scores, rewards, mask),
        credit.redistributed(scores, rewards, mask),
        credit.potential(credit.terminal(rewards, mask), scores, mask),
    ]
    for tokens_rewarded in kept:
        torch.testing.assert_close(tokens_rewarded.sum(1), rewards)
        assert float(tokens_rewarded[~mask].abs().sum()) == 0
    powers = 0.7 ** torch.arange(tokens, dtype=torch.float64)
    shaped = credit.potential(credit.terminal(rewards, mask), scores, mask, 0.7)
    torch.testing.assert_close((powers * shaped).sum(1), (powers * kept[0]).sum(1))
    torch.testing.assert_close((powers * kept[0]).sum(1), credit.brevity(rewards, mask, 0.7))


def test_the_reward_sits_on_the_end_token_and_not_on_padding() -> None:
    """EOS and PAD never swap: the last real token takes the reward, whatever lies in the row behind it."""
    mask = tensor([[True, True, True, False, False], [True, False, False, False, False]])
    placed = credit.terminal(tensor([3.0, 5.0]), mask)
    assert placed.tolist() == [[0, 0, 3, 0, 0], [5, 0, 0, 0, 0]]
    assert advantages.last_token(mask).tolist() == [2, 0]
