"""Sampling and scoring agree with the model's own forward pass, whatever the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from numerics import BFLOAT16, assert_float32_close, assert_gradients_close
from tacit.policies.contract import Responses, Rollout, Sampling, TrainablePolicy
from tacit.policies.packing import pack
from tacit.policies.sampling import uniforms
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


def same_draws(
    policy: TransformerPolicy, ours: Rollout, theirs: Rollout, sampling: Sampling, first: int = 0
) -> list[bool]:
    """Which rows have the same tokens up to the end of the shorter one; the others part where rounding decides.

    A token is drawn by inversion of a uniform number u. Rounding, which is not the same in other batches, moves the
    border of two tokens: where it passes over u, both are right, and both borders are checked to lie at u.
    """
    same = []
    for row, prompt in enumerate(ours.prompt_of.tolist()):
        one, other = (r.tokens[row][r.mask[row]].tolist() for r in (ours, theirs))
        place = next((t for t, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        same.append(place is None)
        if place is not None:
            with torch.no_grad():
                logits = policy.model(torch.tensor([[*ours.prompts[prompt], *one[:place]]])).logits[0, -1].double()
            ends = torch.softmax(logits / sampling.temperature, 0).cumsum(0)
            u = uniforms(sampling.seed, np.array([first + row]), place + 1)[0, place]
            low, high = sorted((one[place], other[place]))
            assert_float32_close([ends[low], ends[high - 1]], [u, u], scale=float(logits.abs().max()))
    assert np.mean(same) > 0.9
    return same


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
        assert_float32_close(rollout.logprobs, expected)
        found = policy.logprobs(rollout, temperature=temperature)
        assert_float32_close(found.logprobs, expected)


def test_gradients_are_those_of_the_stock_forward(policy: TransformerPolicy) -> None:
    rollout = policy.rollout(PROMPTS, 2, Sampling(max_new_tokens=9, seed=1))
    weights = torch.randn(rollout.mask.shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for logprobs in (stock_logprobs(policy, rollout), policy.logprobs(rollout).logprobs):
        policy.model.zero_grad()
        (logprobs * weights).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None})
    assert_gradients_close(gradients[1], gradients[0])


def test_samples_do_not_depend_on_the_batch(policy: TransformerPolicy) -> None:
    sampling = Sampling(max_new_tokens=10, seed=5)
    together = policy.rollout(PROMPTS, 4, sampling)
    for number, prompt in enumerate(PROMPTS):
        alone = policy.rollout([prompt], 4, sampling, first=4 * number)
        rows = slice(4 * number, 4 * number + 4)
        part = replace(
            together, prompt_of=together.prompt_of[rows], tokens=together.tokens[rows], mask=together.mask[rows]
        )
        same = same_draws(policy, part, alone, sampling, 4 * number)
        assert [a == b for a, b in zip(alone.texts, together.texts[rows], strict=True)] == same


def test_greedy_is_generate(policy: TransformerPolicy) -> None:
    rollout = policy.rollout(PROMPTS, 1, Sampling(max_new_tokens=8, temperature=0))
    for row, prompt in enumerate(rollout.prompts):
        ids = policy.model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=8, pad_token_id=0
        )[0, len(prompt) :]  # fmt: skip
        assert rollout.tokens[row][rollout.mask[row]].tolist() == ids.tolist()


def test_given_responses_end_and_keep_their_text(policy: TransformerPolicy) -> None:
    texts = [" in the park", "sleeps.", ""]
    responses = policy.responses(["Once", "Once", "The"], texts)
    assert responses.prompt_of.tolist() == [0, 0, 1]
    assert len(responses.prompts) == 2
    rows = [row[mask].tolist() for row, mask in zip(responses.tokens, responses.mask, strict=True)]
    assert [row[-1] for row in rows] == [2, 2, 2]
    assert policy.codec.decode([row[:-1] for row in rows]) == texts
    assert_float32_close(policy.logprobs(responses).logprobs, stock_logprobs(policy, responses))


def ragged(policy: TransformerPolicy, lengths: list[int]) -> Responses:
    """Rows of these lengths; the first prompt has every other row, the next two share, the last stands alone."""
    generator = torch.Generator().manual_seed(2)
    rows = [torch.randint(3, 200, (length,), generator=generator).tolist() for length in lengths]
    prompts = policy.encode(PROMPTS)
    prompt_of = torch.tensor([0 if row % 2 else 1 + (row // 2) % 2 for row in range(len(lengths) - 1)] + [3])
    tokens = torch.full((len(rows), max(lengths)), 77)
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = True
    return Responses(prompts, prompt_of, tokens, mask)


def test_ragged_rows_are_scored_as_they_are_alone(policy: TransformerPolicy) -> None:
    responses = ragged(policy, [1, 30, 0, 7, 2, 2, 19, 1, 40, 5])
    expected = stock_logprobs(policy, responses)
    found = policy.logprobs(responses, entropy=True, hidden=True)
    assert_float32_close(found.logprobs, expected)
    assert found.entropy is not None
    assert found.hidden is not None
    assert bool((found.entropy[responses.mask] > 0).all())
    assert bool((found.entropy[~responses.mask] == 0).all())
    head = policy.model.get_output_embeddings()
    logits = torch.nn.functional.linear(found.hidden, head.weight, head.bias)
    again = torch.log_softmax(logits, -1).gather(-1, responses.tokens[..., None]).squeeze(-1)
    assert_float32_close(again[responses.mask], expected[responses.mask])


def test_every_shared_prompt_is_read_once(policy_folders: dict[str, Path]) -> None:
    policy = TransformerPolicy.load(policy_folders["llama"], dtype="float32", device="cpu")
    lengths = [1, 30, 0, 7, 2, 2, 19, 1, 40, 5]
    responses = ragged(policy, lengths)
    packed = pack(responses, torch.device("cpu"))
    sizes = [len(prompt) for prompt in responses.prompts]
    assert len(packed.ids) == sum(sizes) + sum(max(0, length - 1) for length in lengths)
    assert sum(block.stop - block.start for block in packed.blocks) == len(packed.ids)


def test_empty_responses(policy: TransformerPolicy) -> None:
    found = policy.logprobs(Responses(policy.encode(["One"]), torch.tensor([0]), torch.zeros(1, 0, dtype=torch.int64),
                                      torch.zeros(1, 0, dtype=torch.bool)))  # fmt: skip
    assert found.logprobs.shape == (1, 0)
    assert policy.rollout([], 2).texts == []


def test_end_and_padding_never_swap(tmp_path: Path, save_policy) -> None:
    """Where padding is the end token, the mask alone says what is real, and the end token is scored."""
    policy = TransformerPolicy.load(save_policy(tmp_path, pad_is_eos=True), dtype="float32", device="cpu")
    rollout = policy.rollout(PROMPTS, 16, Sampling(max_new_tokens=40, seed=2, temperature=1.5))
    lengths = rollout.mask.sum(1)
    for row, (length, ended) in enumerate(zip(lengths.tolist(), rollout.ended.tolist(), strict=True)):
        real = rollout.tokens[row, :length].tolist()
        assert (2 in real[:-1]) is False
        assert (real[-1] == 2) == ended
        assert rollout.mask[row, :length].all()
        assert rollout.logprobs[row, length - 1] < 0
    assert 0 < int(rollout.ended.sum()) < len(lengths)
    assert_float32_close(policy.logprobs(rollout, temperature=1.5).logprobs, rollout.logprobs)


def test_prompts_that_nearly_fill_the_context_get_what_room_there_is(policy: TransformerPolicy) -> None:
    long = policy.codec.decode([[40] * 60])[0]
    rollout = policy.rollout([long, "One"], 2, Sampling(max_new_tokens=30, seed=1))
    rooms = [min(30, 64 - len(prompt)) for prompt in rollout.prompts]
    assert rooms[0] < 5
    for row, length in enumerate(rollout.mask.sum(1).tolist()):
        assert length <= rooms[row // 2]
        assert bool(rollout.ended[row]) or length == rooms[row // 2]
    assert_float32_close(rollout.logprobs, stock_logprobs(policy, rollout))


def test_adapters_train_and_merge_and_the_reference_stays(policy_folders: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    policy = TransformerPolicy.load(policy_folders["qwen2"], lora=2, dtype="float32", device="cpu")
    plain = TransformerPolicy.load(policy_folders["qwen2"], dtype="float32", device="cpu")
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            assert parameter.requires_grad == ("lora" in name)
            if "lora" in name:
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(0))
    rollout = policy.rollout(PROMPTS, 3, Sampling(max_new_tokens=12))
    assert_float32_close(policy.logprobs(rollout).logprobs, rollout.logprobs)
    expected = plain.logprobs(rollout).logprobs
    reference = policy.reference()
    assert_float32_close(reference.logprobs(rollout).logprobs, expected)
    assert float((rollout.logprobs - expected.detach()).abs().max()) > 0.1
    assert reference.generate(PROMPTS, 1) == plain.generate(PROMPTS, 1)
    policy.save(tmp_path / "merged")
    merged = TransformerPolicy.load(tmp_path / "merged", dtype="float32", device="cpu")
    assert_float32_close(merged.logprobs(rollout).logprobs, rollout.logprobs)


def test_the_reference_below_an_adapter_has_no_dropout_while_the_policy_trains(policy_folders: dict[str, Path]) -> None:
    pytest.importorskip("peft")
    policy = TransformerPolicy.load(policy_folders["gpt2"], lora=2, dtype="float32", device="cpu")
    rollout = policy.rollout(PROMPTS, 2, Sampling(max_new_tokens=8))
    policy.model.train()
    expected = TransformerPolicy.load(policy_folders["gpt2"], dtype="float32", device="cpu").logprobs(rollout).logprobs
    assert_float32_close(policy.reference().logprobs(rollout).logprobs, expected)
    assert policy.model.training
    noisy = policy.logprobs(rollout).logprobs.detach()
    assert float((noisy - expected.detach()).abs().max()) > 1e-3


def test_the_reference_of_a_trained_policy_is_as_it_was_loaded(policy: TransformerPolicy) -> None:
    rollout = policy.rollout(PROMPTS, 1, Sampling(max_new_tokens=8))
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.1)
    assert float((policy.logprobs(rollout).logprobs.detach() - rollout.logprobs).abs().max()) > 1e-3
    found = policy.reference().logprobs(rollout).logprobs
    assert_float32_close(found, rollout.logprobs)
    assert not found.requires_grad


def test_a_model_unlike_its_family_runs_through_its_own_pass(policy_folders: dict[str, Path]) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(policy_folders["llama"])
    model.model.layers[1].mlp.register_forward_hook(lambda module, given, result: result)
    plain = TransformerPolicy.load(policy_folders["llama"], dtype="float32", device="cpu")
    assert plain.own_pass
    model.model.norm.forward = lambda states: states * 2
    changed = TransformerPolicy(model, plain.tokenizer)
    assert not changed.own_pass
    rollout = changed.rollout(PROMPTS, 2, Sampling(max_new_tokens=6))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(changed.encode(PROMPTS[:1]))).logits
    assert_float32_close(rollout.logprobs, stock_logprobs(changed, rollout), scale=float(logits.abs().max()))


def test_bfloat16_samples_agree_with_its_training_pass(policy_folders: dict[str, Path]) -> None:
    policy = TransformerPolicy.load(policy_folders["llama"], dtype="bfloat16", device="cpu")
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(0.15)  # weights of the size that models are made with
    rollout = policy.rollout(PROMPTS, 8, Sampling(max_new_tokens=20))
    assert_float32_close(policy.logprobs(rollout).logprobs, rollout.logprobs, rtol=BFLOAT16)


def test_stop_texts_may_span_tokens(policy: TransformerPolicy) -> None:
    sampling = Sampling(max_new_tokens=40, seed=9)
    free = policy.rollout(PROMPTS, 16, sampling)
    stop = next(text[3:5] for text in free.texts if len(text) > 8 and text[3:5].isascii() and text[3:5].strip())
    stopped = policy.rollout(PROMPTS, 16, replace(sampling, stop=(stop,)))
    same = same_draws(policy, free, stopped, sampling)
    for alike, before, after, ended in zip(same, free.texts, stopped.texts, stopped.ended.tolist(), strict=True):
        assert not alike or after == before.split(stop)[0]
        assert not alike or ended or stop not in before
        assert stop not in after
