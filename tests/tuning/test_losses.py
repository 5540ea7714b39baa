"""Losses of tuning against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, tensor

from numerics import assert_float32_close
from tacit.errors import TacitError
from tacit.tuning import losses
from tacit.tuning.losses import PREFERENCE, Pairs, PreferenceOptions


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def near(found: Tensor, *expected: float) -> None:
    assert_float32_close(found, expected)


MASK = tensor([[True, True, True], [True, False, False]])


def test_averages_over_tokens_by_hand() -> None:
    assert_float32_close(losses.token_weights(MASK, "token"), MASK / 4)
    near(losses.token_weights(MASK, "sequence").flatten(), 1 / 6, 1 / 6, 1 / 6, 1 / 2, 0, 0)
    near(losses.token_weights(MASK, "constant", constant=8.0).flatten(), *[1 / 16] * 4, 0, 0)
    near(losses.token_weights(MASK, "token", tokens=10).flatten(), *[0.1] * 4, 0, 0)
    near(losses.token_weights(MASK, "sequence", rows=4).flatten(), *[1 / 12] * 3, 1 / 4, 0, 0)
    with pytest.raises(TacitError, match="token, sequence, constant"):
        losses.token_weights(MASK, "mean")  # type: ignore[arg-type]


def test_sft_by_hand() -> None:
    logprobs = tensor([[-1.0, -2.0, -3.0], [-4.0, -99.0, -99.0]])
    assert losses.sft(logprobs, MASK).item() == pytest.approx(10 / 4)
    assert losses.sft(logprobs, MASK, "sequence").item() == pytest.approx((2 + 4) / 2)
    assert losses.sft(logprobs, MASK, "sequence", tensor([1.0, 0.5])).item() == pytest.approx((2 + 2) / 2)


# h = (-10 + 12) - (-11 + 11.5) = 1.5 with the reference, -10 + 11 = 1 without
PAIRS = Pairs(tensor([-10.0]), tensor([-11.0]), tensor([-12.0]), tensor([-11.5]), tensor([5.0]), tensor([10.0]))


def test_preference_losses_by_hand() -> None:
    options = PreferenceOptions(beta=0.5, label_smoothing=0.1, gamma=0.7, sft_weight=0.2)
    right, wrong = -math.log(sigma(0.75)), -math.log(sigma(-0.75))
    expected = {
        "sigmoid": 0.9 * right + 0.1 * wrong,
        "robust": (0.9 * right - 0.1 * wrong) / 0.8,
        "ipo": (1.5 - 1.0) ** 2,
        "hinge": 0.25,
        "slic": 0.0 + 0.2 * 10,
        "simpo": -math.log(sigma(0.5 * (-2 + 1.1) - 0.7)),
        "reference_free": 0.9 * -math.log(sigma(0.5)) + 0.1 * -math.log(sigma(-0.5)),
    }
    assert expected.keys() == PREFERENCE.keys()
    for name, value in expected.items():
        assert PREFERENCE[name](PAIRS, options).item() == pytest.approx(value, rel=1e-5), name
    turned = Pairs(tensor([-11.0]), tensor([-10.0]))
    assert losses.slic(turned, options).item() == pytest.approx(1.7 + 2.2)
    assert losses.hinge(PAIRS, PreferenceOptions(beta=1.0)).item() == 0.0


def test_the_dpo_loss_keeps_reference_and_beta() -> None:
    """A box of the survey drops pi_ref and turns beta round; both must matter, and in the right direction."""
    shifted = Pairs(PAIRS.chosen + 3, PAIRS.rejected + 3, PAIRS.reference_chosen + 3, PAIRS.reference_rejected + 3)
    options = PreferenceOptions(beta=0.3)
    assert_float32_close(losses.sigmoid(shifted, options), losses.sigmoid(PAIRS, options))
    assert losses.sigmoid(PAIRS, options).item() == pytest.approx(-math.log(sigma(0.45)))
    assert losses.sigmoid(PAIRS, PreferenceOptions(beta=3)).item() < losses.sigmoid(PAIRS, options).item()


def test_robust_undoes_flips_in_the_mean() -> None:
    options = PreferenceOptions(beta=0.5, label_smoothing=0.2)
    flipped = Pairs(PAIRS.rejected, PAIRS.chosen, PAIRS.reference_rejected, PAIRS.reference_chosen)
    mean = 0.8 * losses.robust(PAIRS, options) + 0.2 * losses.robust(flipped, options)
    assert_float32_close(mean, losses.sigmoid(PAIRS, PreferenceOptions(beta=0.5)))
    with pytest.raises(TacitError, match=r"label_smoothing is 0\.5"):
        losses.robust(PAIRS, PreferenceOptions(label_smoothing=0.5))
    with pytest.raises(TacitError, match="simpo"):
        losses.simpo(Pairs(PAIRS.chosen, PAIRS.rejected), options)


def test_kto_by_hand() -> None:
    found = losses.kto(tensor([2.0, 2.0]), tensor([True, False]), 0.5, beta=0.2, undesirable_weight=1.5)
    near(found, 1 - sigma(0.3), 1.5 * (1 - sigma(-0.3)))


def test_rrhf_by_hand() -> None:
    # rewards order: 2 > 0 > 1. p_0 - p_2 = .5 and p_1 - p_2 = 1 are wrong; p_1 - p_0 = .5 is wrong too.
    scores, rewards = tensor([[-1.0, -0.5, -1.5]]), tensor([[2.0, 1.0, 3.0]])
    logprobs = tensor([[-4.0, -2.0, -6.0]])
    near(losses.rrhf(scores, rewards, logprobs), 0.5 + 1.0 + 0.5 + 6.0)
    near(losses.rrhf(scores, tensor([[1.0, 1.0, 1.0]]), logprobs, sft_weight=0.5), 0.5 * 4.0)


def test_the_clip_by_hand() -> None:
    old = torch.zeros(2, 3)
    logprobs = tensor([[1.0, 1.5, 0.5], [1.0, 1.5, 0.5]]).log().requires_grad_()
    advantages = tensor([[2.0, 2.0, 2.0], [-2.0, -2.0, -2.0]])
    found = losses.clipped(logprobs, old, advantages, 0.2, 0.28)
    near(found.loss.flatten(), -2.0, -2.56, -1.0, 2.0, 3.0, 1.6)
    assert found.above.tolist() == [[False, True, False], [False] * 3]
    assert found.below.tolist() == [[False] * 3, [False, False, True]]
    found.loss.sum().backward()
    near(logprobs.grad.flatten(), -2.0, 0.0, -1.0, 2.0, 3.0, 0.0)


def test_the_gradient_at_ratio_one_is_that_of_reinforce() -> None:
    advantages = tensor([[1.0, -2.0]])
    one, two = (tensor([[-0.3, -1.2]]).requires_grad_() for _ in range(2))
    (-advantages * one).sum().backward()
    losses.clipped(two, two.detach(), advantages).loss.sum().backward()
    assert_float32_close(one.grad, two.grad)


def test_kl_estimators_by_hand_and_in_the_mean() -> None:
    d = tensor([math.log(2.0), -math.log(2.0)])
    near(losses.kl(d, torch.zeros(2), "k1"), math.log(2), -math.log(2))
    near(losses.kl(d, torch.zeros(2), "k2"), math.log(2) ** 2 / 2, math.log(2) ** 2 / 2)
    near(losses.kl(d, torch.zeros(2), "k3"), 0.5 - 1 + math.log(2), 2 - 1 - math.log(2))
    with pytest.raises(TacitError, match="k1, k2, k3"):
        losses.kl(d, d, "k4")  # type: ignore[arg-type]

    theta = tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    reference = tensor([0.1, 0.4, -0.5], dtype=torch.float64).log_softmax(0)

    def exact(turned: bool) -> Tensor:
        ours = theta.log_softmax(0)
        first, second = (reference, ours) if turned else (ours, reference)
        return torch.autograd.grad((first.exp() * (first - second)).sum(), theta)[0]

    def estimated(how: losses.KLEstimator, in_reward: bool) -> Tensor:
        """Mean over pi of the gradient that an estimator in the reward, or in the loss, gives."""
        ours = theta.log_softmax(0)
        estimate = losses.kl(ours, reference, how)
        surrogate = estimate.detach() * ours if in_reward else estimate
        return torch.autograd.grad((ours.detach().exp() * surrogate).sum(), theta)[0]

    torch.testing.assert_close(estimated("k1", True), exact(turned=False))
    torch.testing.assert_close(estimated("k2", False), exact(turned=False))
    torch.testing.assert_close(estimated("k3", False), exact(turned=True))
    torch.testing.assert_close(estimated("k1", False), torch.zeros(3, dtype=torch.float64))
    probabilities = theta.detach().softmax(0)
    means = {
        how: (probabilities * losses.kl(theta.detach().log_softmax(0), reference, how)).sum() for how in ("k1", "k3")
    }
    torch.testing.assert_close(means["k1"], means["k3"])


def test_the_value_loss_by_hand() -> None:
    values, old, returns = tensor([1.0, 0.1]), tensor([0.5, 0.0]), tensor([2.0, 0.0])
    near(losses.value(values, old, returns, None), 0.5, 0.005)
    near(losses.value(values, old, returns, 0.2), (2 - 0.7) ** 2 / 2, 0.005)
