"""The discriminator against a density ratio that is known, the loop on a planted style, its failures, and resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_extrapolation import rank_correlation
from worlds import PREFERRED, demonstrations, loaded, truth

from numerics import assert_float32_close
from tacit import rewards
from tacit.demonstrations.adversarial import Adversarial, AdversarialOptions, Adversary
from tacit.demonstrations.discriminator import Discriminator, DiscriminatorOptions
from tacit.demonstrations.extrapolation import Demos
from tacit.demonstrations.induced import InducedReward
from tacit.demonstrations.judges import cut
from tacit.errors import TacitError
from tacit.features import load_encoder
from tacit.policies.contract import Sampling
from tacit.rewards.check import check_reward
from tacit.rewards.heads import score_in_chunks
from tacit.tuning.crediting import token_spans
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.policy_gradient import GradientOptions
from tacit.tuning.sampling import SamplingOptions


def test_the_logit_is_the_log_ratio_of_densities() -> None:
    rng = np.random.default_rng(0)
    shift = np.array([1.0, -0.5, 0.0])
    demos, answers = rng.normal(size=(4000, 3)) + shift, rng.normal(size=(6000, 3))
    fitted = Discriminator(demos, answers, DiscriminatorOptions(gradient_penalty=0.0, passes=100))
    fitted.learn(answers)
    x = rng.normal(size=(500, 3)).astype(np.float32)
    # log N(x; m, 1) / N(x; 0, 1) = m x - |m|^2 / 2
    found = score_in_chunks(fitted.parameters(), x)[0]
    assert np.abs(found - (x @ shift - shift @ shift / 2)).max() < 0.3


def test_the_gradient_penalty_of_a_linear_head_is_its_ridge() -> None:
    rng = np.random.default_rng(1)
    demos, answers = rng.normal(size=(300, 2)) + 0.7, rng.normal(size=(300, 2))
    fitted = Discriminator(demos, answers, DiscriminatorOptions(gradient_penalty=0.5, passes=200))
    fitted.learn(answers)
    w, b = fitted.head["linear"][0].double(), fitted.head["bias"][0].double()
    theirs = fitted.standardise(torch.from_numpy(demos).float()).double()
    ours = fitted.standardise(torch.from_numpy(answers).float()).double()
    up, down = torch.sigmoid(-(theirs @ w + b)), torch.sigmoid(ours @ w + b)
    slope = (-(up[:, None] * theirs).mean(0) + (down[:, None] * ours).mean(0)) / 2 + 0.5 * w
    assert slope.abs().max() < 1e-3
    hidden = Discriminator(demos, answers, DiscriminatorOptions(hidden=8, gradient_penalty=0.5))
    assert hidden.learn(answers)["discriminator/accuracy"] > 0.6


def test_a_demonstration_that_weighs_double_counts_twice() -> None:
    rng = np.random.default_rng(3)
    demos, answers = rng.normal(size=(40, 2)) + 1, rng.normal(size=(60, 2))
    again = np.concatenate([demos, demos[:10]])
    plain, weighed = (DiscriminatorOptions(passes=200) for _ in range(2))
    twice = Discriminator(again, answers, plain)
    weights = Discriminator(demos, answers, weighed, [2.0] * 10 + [1.0] * 30)
    weights.standardise = twice.standardise  # means over other rows would differ
    weights.demonstrations = twice.standardise(weights.raw)
    twice.learn(answers)
    weights.learn(answers)
    assert torch.allclose(twice.head["linear"], weights.head["linear"], atol=2e-3)


def test_answers_of_earlier_rounds_are_seen_again() -> None:
    rng = np.random.default_rng(2)
    demos, first = rng.normal(size=(50, 2)), rng.normal(size=(30, 2))
    fitted = Discriminator(demos, first, DiscriminatorOptions(replay=40))
    fitted.learn(first)
    fitted.learn(first + 1)
    kept = fitted.kept * fitted.standardise.scale + fitted.standardise.mean
    assert len(kept) == 40
    assert_float32_close(kept, np.concatenate([first + 1, first])[:40])


def test_cutting_ends_at_a_word() -> None:
    rng = np.random.default_rng(0)
    assert {cut(" one two three", rng) for _ in range(50)} == {" one", " one two"}
    assert cut("one", rng) == "one"


@pytest.mark.parametrize("kind", ["reverse_kl", "js", "forward_kl", "chi2", "hellinger", "tv", "alpha"])
def test_induced_rewards_keep_the_contract_and_rise_with_the_logit(kind: str, tmp_path: Path) -> None:
    encoder = load_encoder("hashed")
    head = {"linear": torch.randn(1, encoder.dim, generator=torch.Generator().manual_seed(0)), "bias": torch.zeros(1)}
    reward = InducedReward(encoder, head, kind, offset=0.3, scale=2.0)
    assert all(finding.ok for finding in check_reward(reward))
    prompts, texts = ["p"] * 5, ["a", "b c", "d e f", "g", "h i"]
    order = np.argsort(reward.logits(prompts, texts))
    assert (np.diff(reward.score(prompts, texts)[order]) >= 0).all()
    reward.save(tmp_path / "r")
    assert np.array_equal(rewards.load(tmp_path / "r").score(prompts, texts), reward.score(prompts, texts))


def built(folder: Path, steps: int, seed: int = 0, rate: str = "reverse_kl", **options: Any) -> Adversarial:
    demos = Demos.of(demonstrations(120, seed=1))
    chosen = AdversarialOptions(divergence=rate, seed=seed, **options)
    adversary = Adversary(demos, load_encoder("hashed"), chosen)
    sampling = SamplingOptions(prompts_per_round=16, num_generations=4, max_completion_length=10)
    gradient = GradientOptions(estimator="rloo", beta=0.02, measure_kl=True)
    return Adversarial(loaded(folder), adversary, sampling, gradient, steps)


LOOP = LoopOptions(learning_rate=3e-3, lr_scheduler_type="constant", num_samples=0)


@pytest.mark.parametrize("kind", ["reverse_kl", "js"])
def test_the_loop_moves_the_policy_to_the_demonstrator(kind: str, base_folder: Path, tmp_path: Path) -> None:
    method = built(base_folder, 30, rate=kind)
    prompts = [f"say {700 + i}:" for i in range(100)]

    def worth() -> float:
        drawn = method.policy.generate(prompts, 1, Sampling(10, seed=3))
        return float(truth([t for one in drawn for t in one]).mean())

    before = worth()
    train(method, tmp_path, LOOP)
    story = method.outcome()
    assert story["failure"] is None
    assert story["told_apart"] < story["told_apart_before"]
    # The demonstrator has 3.6 of 6 preferred words, the initial policy 1.5 with a standard error of about .12.
    assert worth() > before + 0.6
    # The reward of the whole run ranks answers; that of its last round knows only what is still wrong.
    assert rank_correlation(method.adversary.learnt("whole"), base_folder) > 0.5
    method.save_reward(tmp_path / "reward")
    assert rewards.load(tmp_path / "reward").report["adversarial"]["rounds"] == method.rounds  # type: ignore[attr-defined]


def test_a_killed_run_goes_on_along_the_same_way(base_folder: Path, tmp_path: Path) -> None:
    loop = LoopOptions(learning_rate=3e-3, lr_scheduler_type="constant", num_samples=0, save_steps=2)
    whole = built(base_folder, 4, check_every=3)
    train(whole, tmp_path / "whole", loop)

    class Killed(Exception):
        pass

    first = built(base_folder, 4, check_every=3)
    inner, calls = first.round, []

    def until(step: int) -> Any:
        calls.append(step)
        if len(calls) == 3:
            raise Killed
        return inner(step)

    first.round = until  # type: ignore[method-assign]
    with pytest.raises(Killed):
        train(first, tmp_path / "cut", loop)
    again = built(base_folder, 4, check_every=3)
    train(again, tmp_path / "cut", loop, resume=True)
    for ours, theirs in zip(again.policy.model.parameters(), whole.policy.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert again.checks == whole.checks
    assert again.adversary.reward.offset == whole.adversary.reward.offset


def test_it_stops_where_nothing_can_be_told_apart(base_folder: Path, tmp_path: Path) -> None:
    policy = loaded(base_folder)
    prompts = [f"say {i}:" for i in range(120)]
    said = [one for (one,) in policy.generate(prompts, 1, Sampling(10, seed=99))]
    method = built(base_folder, 30, check_every=2)
    adversary = Adversary(
        Demos(list(prompts), list(said), [1.0] * 120), load_encoder("hashed"), method.adversary.options
    )
    sampler = method.sampler.options
    method = Adversarial(policy, adversary, sampler, method.options, 30)
    train(method, tmp_path, LoopOptions(learning_rate=1e-6, num_samples=0))
    assert method.same
    ended = method.rounds
    assert ended < 30
    again = Adversarial(policy, adversary, sampler, method.options, 30)
    again.restore(method.state())
    assert again.steps == ended  # a run that had ended does not go on


def test_a_policy_that_says_one_thing_has_collapsed(base_folder: Path) -> None:
    method = built(base_folder, 9)
    method.adversary.recent = method._first()
    method.check()
    for _ in range(3):
        method.adversary.metrics = {"distinct": 0.02}
        method._watch()
    assert method.failure.startswith("collapsed")


def test_per_token_credit_runs(base_folder: Path, tmp_path: Path) -> None:
    method = built(base_folder, 2, per_token=True)
    train(method, tmp_path, LOOP)
    method.save_reward(tmp_path / "reward")
    reward = rewards.load(tmp_path / "reward")
    assert hasattr(reward, "score_prefixes")
    assert all(finding.ok for finding in check_reward(reward))


def test_per_token_credit_is_what_each_word_adds(base_folder: Path, tmp_path: Path) -> None:
    method = built(base_folder, 3, per_token=True)
    train(method, tmp_path, LoopOptions(learning_rate=1e-6, num_samples=0))
    reward = method.adversary.reward
    method.sampler.quiet = True  # type: ignore[attr-defined]
    made, _ = method.sampler.collect()
    assert method.crediting is not None
    found = method.crediting(made, method.policy)
    assert_float32_close(found.sum(1), made.rewards)
    assert (found[~made.mask] == 0).all()
    gains: dict[bool, list[float]] = {True: [], False: []}
    for row, ends in enumerate(token_spans(method.policy, made)):
        prompt, text = made.prompts[row // made.n], made.texts[row]
        values = reward.score([prompt] * (len(ends) - 1), [text[:end] for end in ends[:-1]]).tolist()
        steps = np.diff([0.0, *values, float(made.rewards[row])])
        assert_float32_close(found[row, : len(ends)], steps, scale=float(made.rewards.abs().max()))
        for begin, end, gain in zip(ends[:-2], ends[1:-1], steps[1:-1].tolist(), strict=True):
            gains[text[begin:end].strip() in PREFERRED].append(gain)
    # The demonstrator has more of some words: one of them adds more than another word does.
    assert np.mean(gains[True]) > np.mean(gains[False]) + 0.2


def test_wrong_options_are_sentences() -> None:
    with pytest.raises(TacitError, match="no divergence `kl2`"):
        InducedReward(load_encoder("hashed"), {}, "kl2")
    with pytest.raises(TacitError, match="at least four prompts"):
        Adversary(Demos.of(demonstrations(3)), load_encoder("hashed"), AdversarialOptions())


def test_adversarial_as_a_user_types_it(tacit: Any, base_folder: Path, demos_file: Path, tmp_path: Path) -> None:
    done = tacit(
        "tune", "adversarial", "--policy", base_folder, "--data", demos_file, "--out", "run", "--max-steps", 3,
        "--encoder", "hashed", "--max-completion-length", 8, "--divergence", "gail", "--learning-rate", 0.001, "--json",
        "--eval-data", demos_file, "--beta", 0,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["failure"] is None
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"discriminator/accuracy", "objective/kl", "distinct"} <= lines[0].keys()
    assert not [str(f) for f in check_reward(rewards.load("run/reward"), new_process=True) if not f.ok]
    scored = tacit("score", "run/reward", demos_file, "--out", "scored.jsonl", "--json")
    assert scored.code == 0, scored.err
    refused = tacit(
        "tune", "adversarial", "--policy", base_folder, "--data", demos_file, "--out", "b", "--rule", "raft"
    )
    assert refused.code == 2
    assert "takes no --rule" in refused.err
