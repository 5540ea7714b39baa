"""Chunked log-probabilities and entropies, values and gradients, against the plain formula."""

from __future__ import annotations

import pytest
import torch

from numerics import assert_float32_close
from tacit.policies import scores


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("asked", ["both", "logprobs"])
@pytest.mark.parametrize("kept", [0, 1 << 25])
def test_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, bias: bool, temperature: float, asked: str, kept: int
) -> None:
    monkeypatch.setattr(scores, "_ELEMENTS", 64 * 31)  # three chunks
    monkeypatch.setattr(scores, "_KEPT", kept)
    generator = torch.Generator().manual_seed(0)
    shapes = [(150, 8), (31, 8), (31,)]
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    states, weight, shift = tensors
    targets = torch.randint(31, (150,), generator=generator)
    upstream = torch.randn(2, 150, generator=generator)
    logits = (states @ weight.t() + (shift if bias else 0)) / temperature
    logp = torch.log_softmax(logits, 1)
    expected = logp.gather(1, targets[:, None]).squeeze(1), -(logp.exp() * logp).sum(1)
    found = scores.token_scores(
        states, weight, targets, bias_V=shift if bias else None, temperature=temperature, entropy=True
    )
    gradients = []
    for values in (expected, found):
        for ours, theirs in zip(values, expected, strict=True):
            assert_float32_close(ours, theirs, scale=float(logits.detach().abs().max()))
        loss = (values[0] * upstream[0]).sum()
        loss = loss + (values[1] * upstream[1]).sum() if asked == "both" else loss
        gradients.append(torch.autograd.grad(loss, tensors if bias else tensors[:2]))
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        assert_float32_close(ours, theirs)


@pytest.mark.parametrize(("kept", "times"), [(0, 20), (1 << 25, 10)])
def test_logits_never_lie_whole_in_memory(monkeypatch: pytest.MonkeyPatch, kept: int, times: int) -> None:
    sizes: list[int] = []
    plain = scores._logits

    def watched(*arguments):
        logits = plain(*arguments)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(scores, "_ELEMENTS", 64 * 100)
    monkeypatch.setattr(scores, "_KEPT", kept)
    monkeypatch.setattr(scores, "_logits", watched)
    states = torch.randn(640, 4, requires_grad=True)
    logp, none = scores.token_scores(states, torch.randn(100, 4), torch.zeros(640, dtype=torch.int64))
    logp.sum().backward()
    assert none is None
    assert max(sizes) == 64 * 100
    assert len(sizes) == times
