"""Sampling and scoring agree with the model's own forward pass, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tacit.policies.contract import Responses, Rollout, Sampling, TrainablePolicy
from tacit.policies.transformer import TransformerPolicy

KINDS = ("llama", "llama3", "qwen2", "qwen3", "gpt2")
PROMPTS = ["Once upon a time", "The dog", "Two and three make", "Once upon a time there was a little"]


def stock_logprobs(policy: TransformerPolicy, responses: Responses, temperature: float = 1.0) -> torch.Tensor:
    """Row by row, through the model's own forward pass."""
    result = torch.zeros(responses.mask.shape)
    policy.model.eval()
    for row, prompt_of in enumerate(responses.prompt_of.tolist()):
        prompt, length = responses.prompts[prompt_of], int(responses.mask[row].sum())
        if not length:
            continue
        ids = torch.tensor([[*prompt, *responses.tokens[row, :length].tolist()]])
        logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1] / temperature
        logp = torch.log_softmax(logits.float(), 1)
        result[row, :length] = logp.gather(1, ids[0, len(prompt) :, None]).squeeze(1)
    return result


@pytest.fixture(params=KINDS)
def policy(request: pytest.FixtureRequest, policy_folders: dict[str, Path]) -> TransformerPolicy:
    return TransformerPolicy.load(policy_folders[request.param], dtype="float32", device="cpu")


def test_sampled_logprobs_are_those_of_the_stock_forward(policy: TransformerPolicy) -> None:
    assert isinstance(policy, TrainablePolicy)
    for temperature in (1.0, 0.7):
        rollout = policy.rollout(PROMPTS, 3, Sampling(max_new_tokens=48, temperature=temperature, seed=3))
        assert rollout.tokens.shape == rollout.logprobs.shape == rollout.mask.shape
        assert len(rollout.texts) == 12
        expected = stock_logprobs(policy, rollout, temperature)
        torch.testing.assert_close(rollout.logprobs, expected, atol=1e-4, rtol=0)
        found = policy.logprobs(rollout, temperature=temperature)
        torch.testing.assert_close(found.logprobs, expected, atol=1e-4, rtol=0)


def test_gradients_are_those_of_the_stock_forward(policy: TransformerPolicy) -> None:
    rollout = policy.rollout(PROMPTS, 2, Sampling(max_new_tokens=9, seed=1))
    weights = torch.randn(rollout.mask.shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for logprobs in (stock_logprobs(policy, rollout), policy.logprobs(rollout).logprobs):
        policy.model.zero_grad()
        (logprobs * weights).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=2e-4 * float(expected.abs().max()) + 1e-6, rtol=0)


def test_samples_do_not_depend_on_the_batch(policy: TransformerPolicy) -> None:
    sampling = Sampling(max_new_tokens=10, seed=5)
    together = policy.rollout(PROMPTS, 4, sampling)
    for number, prompt in enumerate(PROMPTS):
        alone = policy.rollout([prompt], 4, sampling, first=4 * number)
        assert alone.texts == together.texts[4 * number : 4 * number + 4]


def test_greedy_is_generate(policy: TransformerPolicy) -> None:
    rollout = policy.rollout(PROMPTS, 1, Sampling(max_new_tokens=8, temperature=0))
    for row, prompt in enumerate(rollout.prompts):
        ids = policy.model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=8, pad_token_id=0
        )[0, len(prompt) :]  # fmt: skip
        assert rollout.tokens[row][rollout.mask[row]].tolist() == ids.tolist()


def _rows(rollout: Rollout) -> list[list[int]]:
    return [row[mask].tolist() for row, mask in zip(rollout.tokens, rollout.mask, strict=True)]


def test_given_responses_end_and_keep_their_text(policy: TransformerPolicy) -> None:
    texts = [" in the park", "sleeps.", ""]
    responses = policy.responses(["Once", "Once", "The"], texts)
    assert responses.prompt_of.tolist() == [0, 0, 1]
    assert len(responses.prompts) == 2
    rows = [row[mask].tolist() for row, mask in zip(responses.tokens, responses.mask, strict=True)]
    assert [row[-1] for row in rows] == [2, 2, 2]
    assert policy.codec.decode([row[:-1] for row in rows]) == texts
    torch.testing.assert_close(
        policy.logprobs(responses).logprobs, stock_logprobs(policy, responses), atol=1e-4, rtol=0
    )
