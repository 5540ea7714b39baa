"""Soft Q: identities that hold exactly, the gradient of the loss, and a planted style."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tabular import Tabular
from test_extrapolation import rank_correlation
from worlds import demonstrations, loaded

from numerics import assert_float32_close
from tacit import rewards
from tacit.demonstrations.inverse_q import InverseQ, InverseQOptions, SoftQReward, soft_q
from tacit.errors import TacitError
from tacit.rewards.check import check_reward
from tacit.rewards.controls import LengthReward, RandomReward
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.supervised import Encoded, encode


def test_q_v_and_r_are_those_of_the_models_logits(base_folder: Path) -> None:
    policy = loaded(base_folder)
    responses = policy.responses(["say 1:", "say 2:"], [" red blue", " lamp stone glass"])
    found = soft_q(policy, responses, InverseQOptions(discount=0.9, tau=2.0))
    for row in range(2):
        length = int(responses.mask[row].sum())
        prompt = responses.prompts[int(responses.prompt_of[row])]
        ids = [*prompt, *responses.tokens[row, :length].tolist()]
        logits = policy.model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
        q, v = 2.0 * logits, 2.0 * logits.logsumexp(-1)
        chosen = q[torch.arange(length), responses.tokens[row, :length]]
        after = torch.cat([v[1:], torch.zeros(1)])
        size = float(v.detach().abs().max())
        assert_float32_close(found.reward[row, :length], chosen - 0.9 * after, scale=size)
        assert_float32_close(found.logprobs[row, :length], (chosen - v) / 2.0, scale=size)
    assert (found.reward[~responses.mask] == 0).all()


def test_without_discount_rewards_add_up_to_value_and_likelihood(base_folder: Path) -> None:
    policy = loaded(base_folder)
    prompts, texts = ["say 1:"] * 3, [" red", " lamp stone glass", " blue blue"]
    said = soft_q(policy, policy.responses(prompts, texts), InverseQOptions())
    total = said.value[:, 0] + said.logprobs.sum(1)
    size = float(said.value.detach().abs().max())
    assert_float32_close(said.reward.sum(1), total, scale=size)
    assert_float32_close(SoftQReward(policy).score(prompts, texts), total, scale=size)


def test_the_step_is_likelihood_plus_the_square(base_folder: Path) -> None:
    policy = loaded(base_folder)
    rows = demonstrations(7)
    encoded = encode(policy, [r.prompt for r in rows], [r.completion for r in rows])
    method = InverseQ(policy, encoded, inverse=InverseQOptions(td_weight=0.3), batch=7, micro_batch=3, steps=1)
    (dealt,) = method.round(0)
    value = sum(float(part().value.detach()) for part in dealt.parts)
    said = soft_q(policy, policy.responses([r.prompt for r in rows], [r.completion for r in rows]), InverseQOptions())
    tokens = float((said.logprobs != 0).sum())
    expected = (0.3 * said.reward.square() - said.logprobs).sum() / tokens
    assert value == pytest.approx(float(expected.detach()), rel=1e-4)


def test_the_reward_recovers_the_style_and_keeps_the_contract(base_folder: Path, tmp_path: Path) -> None:
    policy = loaded(base_folder)
    before = policy.reference()
    rows = demonstrations(150, seed=1)
    encoded = encode(policy, [r.prompt for r in rows], [r.completion for r in rows])
    method = InverseQ(policy, encoded, batch=32, epochs=8)
    result = train(method, tmp_path / "run", LoopOptions(learning_rate=3e-3, num_samples=0))
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert result["td"] < 0.7 * first["td"]
    reward = method.reward(reference=before)
    found = rank_correlation(reward, base_folder)
    assert found > 0.5
    for control in (RandomReward(), LengthReward()):
        assert abs(rank_correlation(control, base_folder)) < found - 0.2
    for one in (reward, method.reward()):
        failed = [str(finding) for finding in check_reward(one) if not finding.ok]
        assert not failed
    reward.save(tmp_path / "reward")
    texts = [" red", " lamp stone"]
    assert_float32_close(rewards.load(tmp_path / "reward").score(["a", "b"], texts), reward.score(["a", "b"], texts))


def test_iq_as_a_user_types_it(tacit: Any, base_folder: Path, demos_file: Path) -> None:
    done = tacit(
        "tune", "iq", "--policy", base_folder, "--data", demos_file, "--out", "run", "--learning-rate", 0.003,
        "--eval-data", demos_file, "--max-completion-length", 8, "--td-weight", 0.05, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert {"td", "nll", "eval_loss", "eval_kl"} <= done.json.keys()
    assert not [str(f) for f in check_reward(rewards.load("run/reward"), new_process=True) if not f.ok]
    refused = tacit(
        "tune", "iq", "--policy", base_folder, "--data", demos_file, "--out", "b", "--stop-at-peak", "m.json"
    )
    assert "takes no --stop-at-peak" in refused.err
    refused = tacit("tune", "iq", "--policy", base_folder, "--data", demos_file, "--out", "b", "--reward", "random")
    assert "Leave --reward out" in refused.err
    scored = tacit("score", "run/reward", demos_file, "--out", "scored.jsonl", "--json")
    assert scored.code == 0, scored.err
    with pytest.raises(TacitError, match="td_weight"):
        InverseQOptions(td_weight=-1)


def enumerated(discount: float, td_weight: float) -> tuple[Tabular, Tabular, Any]:
    """A demonstrator in a token world of 2 prompts and 15 answers each, what `iq` makes of all it says, and the soft Q.

    Every answer is a demonstration by its probability, so that nothing is left to chance.
    """
    demonstrator, learner = (Tabular(letters=2, horizon=3, seed=seed) for seed in (3, 4))
    for policy in (demonstrator, learner):
        policy.model.double()
    every = demonstrator.every()
    with torch.no_grad():
        weights = demonstrator.log_probabilities().exp().flatten()
    lengths = every.mask.sum(1).tolist()
    rows = Encoded(
        [every.prompts[p] for p in every.prompt_of.tolist()],
        [row[:length] for row, length in zip(every.tokens.tolist(), lengths, strict=True)],
        weights.tolist(),
    )
    learner.model.get_output_embeddings = lambda: SimpleNamespace(
        weight=learner.model.logits.flatten(0, 1).T, bias=None
    )
    options = InverseQOptions(td_weight=td_weight, discount=discount)
    method = InverseQ(learner, rows, inverse=options, batch=len(rows), micro_batch=len(rows), steps=1)
    optimiser = torch.optim.LBFGS(
        [learner.model.logits], max_iter=400, history_size=50, tolerance_grad=1e-9, tolerance_change=1e-13,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        (dealt,) = method.round(0)
        value = sum(part().value for part in dealt.parts)
        value.backward()  # type: ignore[union-attr]
        return value  # type: ignore[return-value]

    optimiser.step(loss)  # type: ignore[arg-type]
    with torch.no_grad():
        return demonstrator, learner, soft_q(learner, every, options)


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_the_truth_of_an_enumerated_world(discount: float) -> None:
    """A small regulariser leaves the demonstrator's policy, and of the rewards that explain it takes the smallest.

    With pi = p the loss is td_weight E (log p(a|s) + V(s) - gamma V(s'))^2: least squares in V, solved here apart.
    """
    demonstrator, learner, found = enumerated(discount, 3e-3)
    every = demonstrator.every()
    with torch.no_grad():
        said = demonstrator.logprobs(every).logprobs.numpy()
        p = demonstrator.log_probabilities().exp().numpy()
        q = learner.log_probabilities().exp().numpy()
    assert np.abs(p - q).sum(1).max() / 2 < 0.02
    prompt, state = (x.numpy() for x in demonstrator.states(every))
    mask = every.mask.numpy()
    place = prompt * demonstrator.model.states + state
    rows, targets, weights = [], [], []
    for i in range(len(mask)):
        length = int(mask[i].sum())
        for t in range(length):
            row = np.zeros(2 * demonstrator.model.states)
            row[place[i, t]] += 1
            if t + 1 < length:
                row[place[i, t + 1]] -= discount
            rows.append(row)
            targets.append(-said[i, t])
            weights.append(p.ravel()[i] ** 0.5)
    scale = np.array(weights)[:, None]
    values = np.linalg.lstsq(np.array(rows) * scale, np.array(targets) * scale[:, 0], rcond=None)[0]
    truth = np.array(rows) @ values - np.array(targets)
    assert np.abs(found.reward.numpy()[mask] - truth).max() < 0.03
    if discount == 1.0:
        # Any other reward that explains p differs by shaping: over an answer by the value of its prompt.
        total = found.reward.sum(1).numpy().reshape(2, -1) - np.log(p)
        assert np.ptp(total, axis=1).max() < 0.05


def test_a_heavier_regulariser_gives_smaller_rewards_and_another_policy() -> None:
    squares, distances = [], []
    for weight in (0.0, 0.05, 0.5):
        demonstrator, learner, found = enumerated(1.0, weight)
        with torch.no_grad():
            p, q = demonstrator.log_probabilities().exp(), learner.log_probabilities().exp()
        squares.append(float((p.flatten() * found.reward.square().sum(1)).sum()))
        distances.append(float((p - q).abs().sum(1).max() / 2))
    assert distances[0] < 1e-4  # likelihood alone is the demonstrator itself
    assert distances[0] < distances[1] < distances[2]
    assert squares[0] > squares[1] > squares[2]
