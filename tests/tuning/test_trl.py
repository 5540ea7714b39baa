"""Our losses against TRL's own code on the same tensors (extra `bench`)."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from numerics import assert_float32_close
from tacit.tuning import advantages, losses
from tacit.tuning.losses import PREFERENCE, Pairs, PreferenceOptions

pytest.importorskip("trl", reason="TRL comes with the extra `bench`")
pytestmark = pytest.mark.slow

ROWS, TOKENS = 6, 5
DRAWN = torch.Generator().manual_seed(0)
LOGPS, OLD, REFERENCE = (-torch.rand(ROWS, TOKENS, generator=DRAWN) * 2 for _ in range(3))
MASK = torch.arange(TOKENS) < torch.tensor([5, 3, 4, 1, 5, 2])[:, None]


class Same:
    """An accelerator of one process."""

    device = torch.device("cpu")
    num_processes = 1
    sync_gradients = True

    def gather(self, value: Tensor) -> Tensor:
        return value

    def gather_for_metrics(self, value: Tensor) -> Tensor:
        return value

    def reduce(self, value: Tensor, reduction: str = "sum") -> Tensor:
        return value


def trl_grpo(logps: Tensor, given: Tensor, loss_type: str, beta: float) -> Tensor:
    from trl import GRPOTrainer

    fake: Any = SimpleNamespace(
        accelerator=Same(), model=SimpleNamespace(training=True), aux_loss_enabled=False, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, importance_sampling_level="token", beta=beta, loss_type=loss_type,
        epsilon_low=0.2, epsilon_high=0.28, use_vllm=False, current_gradient_accumulation_steps=1,
        max_completion_length=8, _entropy_bonus_enabled=False, _metrics={"train": defaultdict(list)},
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
    )  # fmt: skip
    fake._get_per_token_logps_and_entropies = lambda *args, **kwargs: (logps, torch.zeros_like(logps), None)
    inputs = {
        "prompt_ids": torch.zeros(ROWS, 2, dtype=torch.int64), "prompt_mask": torch.ones(ROWS, 2, dtype=torch.int64),
        "completion_ids": torch.zeros(ROWS, TOKENS, dtype=torch.int64), "completion_mask": MASK.long(),
        "advantages": given, "old_per_token_logps": OLD, "ref_per_token_logps": REFERENCE,
        "num_items_in_batch": MASK.sum(),
    }  # fmt: skip
    return GRPOTrainer._compute_loss(fake, None, inputs)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("grpo", "sequence"), ("bnpo", "token"), ("dapo", "token"), ("dr_grpo", "constant")],
)
def test_group_losses_and_their_gradients_are_trls(theirs: str, ours: losses.Average, beta: float) -> None:
    rewards = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    given = advantages.grpo(rewards).flatten()
    one, two = (LOGPS.clone().requires_grad_() for _ in range(2))
    expected = trl_grpo(one, given, theirs, beta)
    each = losses.clipped(two, OLD, given[:, None], 0.2, 0.28).loss + beta * losses.kl(two, REFERENCE, "k3")
    found = (losses.token_weights(MASK, ours, constant=8.0) * each).sum()
    assert_float32_close(found, expected)
    expected.backward()
    found.backward()
    assert_float32_close(two.grad, one.grad)


def trl_dpo(logps: Tensor, loss_type: str, beta: float, smoothing: float) -> Tensor:
    from trl import DPOTrainer

    zeros = torch.zeros(ROWS, TOKENS)
    outputs = SimpleNamespace(log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    def model(**kwargs: Any) -> Any:
        return outputs

    fake: Any = SimpleNamespace(
        accelerator=Same(), model=SimpleNamespace(training=True), aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[loss_type], loss_weights=[1.0],
        beta=beta, label_smoothing=smoothing, _total_train_tokens=0, _tp_size=1,
        use_weighting=False, _metrics={"train": defaultdict(list)},
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
    )  # fmt: skip
    sums = (REFERENCE * MASK).sum(1).chunk(2)
    completion = torch.cat([torch.zeros(ROWS, 1, dtype=torch.int64), MASK.long()], 1)
    inputs = {
        "input_ids": torch.zeros(ROWS, TOKENS + 1, dtype=torch.int64), "completion_mask": completion,
        "attention_mask": torch.ones_like(completion), "ref_chosen_logps": sums[0], "ref_rejected_logps": sums[1],
    }  # fmt: skip
    try:
        return DPOTrainer._compute_loss(fake, model, inputs, return_outputs=False)
    except AttributeError as error:  # what TRL logs after the loss asks for more than a loss needs
        pytest.skip(f"this TRL keeps its loss elsewhere ({error})")


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "robust"])
def test_preference_losses_and_their_gradients_are_trls(name: str) -> None:
    one, two = (LOGPS.clone().requires_grad_() for _ in range(2))
    smoothing = 0.1 if name == "robust" else 0.0
    expected = trl_dpo(one * MASK, name, 0.3, smoothing)
    sums, reference = (two * MASK).sum(1).chunk(2), (REFERENCE * MASK).sum(1).chunk(2)
    options = PreferenceOptions(beta=0.3, label_smoothing=smoothing)
    found = PREFERENCE[name](Pairs(sums[0], sums[1], reference[0], reference[1]), options).mean()
    assert_float32_close(found, expected)
    expected.backward()
    found.backward()
    assert_float32_close(two.grad, one.grad)


def test_the_ipo_of_trl_averages_over_tokens() -> None:
    """As its authors told TRL; ours sums, as the paper is written. Fed with means, both agree."""
    expected = trl_dpo(LOGPS * MASK, "ipo", 0.3, 0.0)
    lengths = MASK.sum(1).chunk(2)
    sums, reference = (LOGPS * MASK).sum(1).chunk(2), (REFERENCE * MASK).sum(1).chunk(2)
    means = [x / length for x, length in zip((*sums, *reference), (*lengths, *lengths), strict=True)]
    found = losses.ipo(Pairs(*means), PreferenceOptions(beta=0.3)).mean()
    assert_float32_close(found, expected)
