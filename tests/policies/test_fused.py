"""Layers with backward passes by hand: values and gradients of the plain pass, in every way that rows can lie."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from numerics import BFLOAT16, ROUNDING, assert_float32_close, assert_gradients_close  # noqa: E402
from tacit.policies import fused, lean  # noqa: E402
from tacit.policies.packing import pack  # noqa: E402
from tacit.tuning.data import as_responses  # noqa: E402

MODELS: dict[str, Any] = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {}),
    "grouped, biases": (
        transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {"num_key_value_heads": 2, "use_sliding_window": False}
    ),
}  # fmt: skip


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    config, kind, more = MODELS[name]
    model = kind(
        config(
            vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
            max_position_embeddings=512, **more,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms away from 1 and biases away from 0, so that their gradients are put to the test
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    return model.eval()


def rows_of(kind: str) -> Any:
    drawn = torch.Generator().manual_seed(1)

    def text(length: int) -> list[int]:
        return torch.randint(3, 97, (length,), generator=drawn).tolist()

    prompts = {
        "equal": [text(5) for _ in range(9)],
        "ragged": [text(2 + i) for i in range(20)],
        "shared": [prompt for prompt in (text(4), text(9), text(6)) for _ in range(5)],
        "long": [text(lean.SHORT + 20), text(3)],
    }[kind]
    answers = [text(7 if kind == "equal" else 1 + i * 7 % 23) for i in range(len(prompts))]
    return as_responses(prompts, answers, "cpu")


def states_and_gradients(function: Any, model: Any, rows: Any, dtype: Any) -> tuple[Any, dict[str, Any]]:
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        states = function(lean.family(model), pack(rows, torch.device("cpu")), dtype)
    (states * torch.sin(torch.arange(states.numel())).view_as(states)).sum().backward()
    return states.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["equal", "ragged", "shared", "long"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, ROUNDING), (torch.bfloat16, 4 * BFLOAT16)])
def test_as_the_plain_pass(name: str, kind: str, dtype: Any, rounding: float) -> None:
    model, rows = model_of(name), rows_of(kind)
    assert fused._serve(lean.family(model), pack(rows, torch.device("cpu")))
    expected, slopes = states_and_gradients(lean.predicting_states, model, rows, torch.float32)
    found, ours = states_and_gradients(fused.predicting_states, model, rows, dtype)
    assert found.dtype is torch.float32
    assert_float32_close(found, expected, rtol=rounding)
    assert_gradients_close(ours, slopes, rtol=8 * rounding)  # the loss alternates: most of each sum cancels


def test_frozen_embeddings_and_inference() -> None:
    model, rows = model_of("llama"), rows_of("shared")
    model.get_input_embeddings().weight.requires_grad_(False)
    _, slopes = states_and_gradients(lean.predicting_states, model, rows, torch.float32)
    _, ours = states_and_gradients(fused.predicting_states, model, rows, torch.float32)
    assert set(ours) == set(slopes)
    with torch.no_grad():
        assert not fused.predicting_states(
            lean.family(model), pack(rows, torch.device("cpu")), torch.float32
        ).requires_grad


def test_others_take_the_plain_pass() -> None:
    packed = pack(rows_of("equal"), torch.device("cpu"))
    longest = as_responses([list(range(3, 90)) * 6], [[4, 5]], "cpu")
    assert not fused._serve(lean.family(model_of("llama")), pack(longest, torch.device("cpu")))
    for change in ("hook", "adapter", "half"):
        model = model_of("llama")
        gate = model.model.layers[1].mlp.gate_proj
        if change == "hook":
            gate.register_forward_hook(lambda *_: None)
        elif change == "adapter":
            peft = pytest.importorskip("peft")
            model = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
        else:
            model.half()
        assert not fused._serve(lean.family(model), packed)
