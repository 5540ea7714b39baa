"""Ten seeds of each learner on the planted style: what its reward has to do with the truth, controls beside it.

Seeds change the demonstrations, the samples and the fits; the initial policy is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_extrapolation import rank_correlation
from worlds import demonstrations, loaded, truth

from tacit import rewards
from tacit.demonstrations.adversarial import Adversarial, AdversarialOptions, Adversary
from tacit.demonstrations.extrapolation import AnswerOptions, Demos
from tacit.demonstrations.fit import prepare
from tacit.demonstrations.inverse_q import InverseQ
from tacit.evidence import Evidence
from tacit.features import load_encoder
from tacit.lab.seeds import mean_interval
from tacit.policies.contract import Sampling
from tacit.rewards.controls import LengthReward, RandomReward
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.policy_gradient import GradientOptions
from tacit.tuning.sampling import SamplingOptions
from tacit.tuning.supervised import encode

SEEDS = 10


def learnt(name: str, base: Path, place: Path, seed: int) -> tuple[Any, bool]:
    """A reward, and whether its loop failed."""
    rows = demonstrations(120, seed=100 + seed)
    demos = Demos.of(rows)
    match name:
        case "init-sft" | "init-demo" | "sft-demo":
            options = AnswerOptions(
                answers=2, max_completion_length=10, sft_epochs=8, sft_learning_rate=3e-3, seed=seed
            )
            made = prepare(Evidence.from_records(rows), pairing=name, policy=base, options=options, work=place,
                           encoder="hashed")  # type: ignore[arg-type]  # fmt: skip
            return rewards.fit(made.train, encoder="hashed", seed=seed), False
        case "iq":
            policy = loaded(base)
            method = InverseQ(policy, encode(policy, demos.prompts, demos.completions), batch=32, epochs=8, seed=seed)
            train(method, place, LoopOptions(learning_rate=3e-3, num_samples=0, seed=seed))
            return method.reward(reference=policy.reference()), False
        case "random":
            return RandomReward(seed), False
        case "length":
            return LengthReward(), False
    adversary = Adversary(demos, load_encoder("hashed"), AdversarialOptions(divergence=name, seed=seed))
    loop = Adversarial(
        loaded(base), adversary, SamplingOptions(prompts_per_round=16, num_generations=4, max_completion_length=10),
        GradientOptions(estimator="rloo", beta=0.02, measure_kl=True), 30,
    )  # fmt: skip
    train(loop, place, LoopOptions(learning_rate=3e-3, lr_scheduler_type="constant", num_samples=0, seed=seed))
    return adversary.learnt("whole"), bool(loop.failure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("init-sft", 0.6), ("init-demo", 0.6), ("sft-demo", None), ("iq", 0.6), ("random", None), ("length", None),
        ("reverse_kl", 0.6), ("js", 0.6), ("forward_kl", 0.6), ("chi2", 0.6), ("hellinger", 0.6), ("tv", 0.3),
    ],
)  # fmt: skip
def test_rewards_rank_as_the_truth_does(name: str, least: float | None, base_folder: Path, tmp_path: Path) -> None:
    found, failures = [], 0
    for seed in range(SEEDS):
        reward, failed = learnt(name, base_folder, tmp_path / str(seed), seed)
        found.append(rank_correlation(reward, base_folder, seed=500 + seed))
        failures += failed
    mean, interval = mean_interval(found)
    print(f"\n{name}: {mean:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], {failures} of {SEEDS} failed")
    if least is not None:
        assert interval[0] > least
        assert failures == 0
    if name in ("random", "length"):
        assert interval[0] < 0.15
        assert interval[1] > -0.15


@pytest.mark.slow
def test_total_variation_knows_what_the_others_know_and_pays_a_bit_of_it(base_folder: Path, tmp_path: Path) -> None:
    """Its reward is sign(h) / 2. The truth itself, cut where demonstrations become likelier, ranks no better than .7.

    An answer with three preferred words of six or more is likelier under the demonstrator: 1 of 6 answers. The logits h
    of the same run rank as those of any other divergence.
    """
    from scipy.stats import spearmanr

    found: dict[str, list[float]] = {"reward": [], "logits": [], "cut truth": []}
    prompts = [f"say {900 + i}:" for i in range(200)]
    for seed in range(SEEDS):
        reward, failed = learnt("tv", base_folder, tmp_path / str(seed), seed)
        assert not failed
        texts = [t for one in loaded(base_folder).generate(prompts, 1, Sampling(10, seed=500 + seed)) for t in one]
        true = truth(texts)
        ranked = {
            "reward": reward.score(prompts, texts),
            "logits": reward.logits(prompts, texts),
            "cut truth": true >= 3,
        }
        for name, values in ranked.items():
            found[name].append(float(spearmanr(values, true).statistic))
    intervals = {name: mean_interval(values) for name, values in found.items()}
    print(f"\n{intervals}")
    assert intervals["logits"][1][0] > 0.6
    assert 0.6 < intervals["cut truth"][0] < 0.8
    assert intervals["reward"][1][0] > 0.5 * intervals["cut truth"][0]
