"""Cuts of a distribution by hand, random numbers that belong to rows, and draws that follow the distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.policies.contract import Sampling
from tacit.policies.sampling import check_sampling, draw, seeds, uniforms
from tacit.policies.tokens import PolicyError

P = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])


def frequencies(sampling: Sampling, p: torch.Tensor = P, draws: int = 20_000) -> np.ndarray:
    """How often each token is drawn with uniform numbers on a grid: exact to 1 / draws for each token."""
    logits = torch.log(p).expand(draws, -1).clone()
    tokens, _ = draw(logits, (torch.arange(draws) + 0.5) / draws, sampling)
    return np.bincount(tokens.numpy(), minlength=len(p)) / draws


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.4, 0.05, 0.3, 0.15]),
        (Sampling(temperature=0), [0, 1, 0, 0, 0]),
        (Sampling(temperature=0.5), np.array([0.01, 0.16, 0.0025, 0.09, 0.0225]) / 0.285),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
        # .4 + .3 < .75, so that the third likeliest is still needed; at .7 it is not.
        (Sampling(top_p=0.75), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]),
        (Sampling(top_p=0.69), [0, 4 / 7, 0, 3 / 7, 0]),
        (Sampling(min_p=0.3), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]),
        # top_p reads what top_k left: .4 / .85 = .47 is below .5, so two tokens stay.
        (Sampling(top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7, 0]),
        (Sampling(top_k=4, min_p=0.5), [0, 4 / 7, 0, 3 / 7, 0]),
    ],
)
def test_cuts_by_hand(sampling: Sampling, expected: list[float]) -> None:
    np.testing.assert_allclose(frequencies(sampling), expected, atol=2e-4)


@pytest.mark.parametrize("size", [600, 3000])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(top_p=0.8), Sampling(min_p=0.2), Sampling(top_k=300, top_p=0.9)]
)
def test_large_vocabularies_are_cut_and_drawn_alike(size: int, sampling: Sampling) -> None:
    p = torch.softmax(torch.randn(size, generator=torch.Generator().manual_seed(1)) * 2, 0)
    sorted_p, order = p.double().sort(descending=True)
    if sampling.top_k:
        sorted_p[sampling.top_k :] = 0
    sorted_p = sorted_p / sorted_p.sum()
    sorted_p[(sorted_p.cumsum(0) - sorted_p) >= sampling.top_p] = 0
    sorted_p[sorted_p < sampling.min_p * sorted_p[0]] = 0
    expected = torch.zeros(size, dtype=torch.float64)
    expected[order] = sorted_p / sorted_p.sum()
    np.testing.assert_allclose(frequencies(sampling, p), expected.numpy(), atol=1.1e-4)


def test_logprobs_are_those_before_the_cuts() -> None:
    for sampling in (Sampling(top_k=2), Sampling(), Sampling(temperature=0)):
        tokens, logp = draw(torch.log(P)[None].clone(), torch.tensor([0.1]), sampling)
        torch.testing.assert_close(logp, torch.log(P)[tokens])
    tokens, logp = draw(torch.log(P)[None].clone(), torch.tensor([0.1]), Sampling(temperature=0.5))
    torch.testing.assert_close(logp, torch.log(P**2 / (P**2).sum())[tokens])


def test_random_numbers_belong_to_a_row_and_a_place() -> None:
    whole = uniforms(3, np.arange(1000), 50)
    np.testing.assert_array_equal(uniforms(3, np.array([7, 900]), 20), whole[[7, 900], :20])
    assert not np.array_equal(uniforms(4, np.arange(1000), 50), whole)
    assert whole.min() >= 0
    assert whole.max() < 1
    assert len(np.unique(seeds(3, np.arange(1000)))) == 1000


@pytest.mark.statistical
def test_random_numbers_are_uniform_and_independent() -> None:
    from scipy import stats

    whole = uniforms(11, np.arange(2000), 100).astype(np.float64)
    assert stats.kstest(whole.ravel(), "uniform").pvalue > 1e-3
    for other in (whole[:, 1:] * whole[:, :-1], whole[1:] * whole[:-1]):  # E u v = 1/4 where independent
        z = (other.mean() - 0.25) / (other.std() / np.sqrt(other.size) * np.sqrt(1.5))
        assert abs(z) < 4


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"min_p": 1.5},
                                 {"top_k": -1}, {"max_new_tokens": 0}, {"stop": ("",)}])  # fmt: skip
def test_options_outside_their_range_are_named(bad: dict) -> None:
    with pytest.raises(PolicyError, match=next(iter(bad))):
        check_sampling(Sampling(**bad))
