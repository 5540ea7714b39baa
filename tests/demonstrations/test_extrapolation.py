"""AfD: comparisons from policies and demonstrations, and the rewards that come of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import demonstrations, loaded, truth

from tacit import rewards
from tacit.demonstrations.extrapolation import AnswerOptions, Demos, Extrapolation
from tacit.demonstrations.fit import prepare
from tacit.demonstrations.samples import draw, fingerprint
from tacit.errors import TacitError
from tacit.evidence import Demonstration, Evidence
from tacit.features import load_encoder
from tacit.policies.contract import Sampling
from tacit.rewards.check import check_reward
from tacit.rewards.controls import LengthReward, RandomReward

OPTIONS = AnswerOptions(answers=2, max_completion_length=10, sft_epochs=8, sft_learning_rate=3e-3)


def rank_correlation(reward: Any, folder: Path, seed: int = 9) -> float:
    """Spearman of a reward with the truth over fresh answers of the initial policy."""
    from scipy.stats import spearmanr

    prompts = [f"say {900 + i}:" for i in range(200)]
    texts = [t for one in loaded(folder).generate(prompts, 1, Sampling(10, seed=seed)) for t in one]
    scores = reward.score(prompts, texts)
    return 0.0 if np.ptp(scores) == 0 else float(spearmanr(scores, truth(texts)).statistic)


def test_samples_are_drawn_once(base_folder: Path, tmp_path: Path) -> None:
    policy = loaded(base_folder)
    prompts = [f"say {i}:" for i in range(5)]
    first, path = draw(policy, prompts, 3, Sampling(8, seed=1), tmp_path)
    assert path is not None
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == [p for p in prompts for _ in range(3)]
    policy.generate = None  # the second time nobody is asked
    assert draw(policy, prompts, 3, Sampling(8, seed=1), tmp_path) == (first, path)
    assert first == draw(loaded(base_folder), prompts, 3, Sampling(8, seed=1))[0]
    for damage in (path.read_text().rsplit("\n", 2)[0], "[" * 50_000, '{"prompt": "a"}', "[]\n" * len(prompts) * 3):
        path.write_text(damage)
        assert draw(loaded(base_folder), prompts, 3, Sampling(8, seed=1), tmp_path) == (first, path)


def test_a_fingerprint_is_that_of_the_weights(base_folder: Path) -> None:
    import torch

    policy = loaded(base_folder)
    before = fingerprint(policy)
    assert before == fingerprint(loaded(base_folder))
    with torch.no_grad():
        next(policy.model.parameters()).view(-1)[0] += 1
    assert fingerprint(policy) != before


def test_pairings_take_the_sides_that_they_name(base_folder: Path, tmp_path: Path) -> None:
    demos = Demos.of([*demonstrations(6), Demonstration(prompt="say 0:", completion=" lamp", weight=3.0)])
    made = Extrapolation("init-demo", loaded(base_folder), options=AnswerOptions(answers=4, max_completion_length=8))
    pairs = made.pairs(demos).comparisons
    said = {str(c) for c in demos.completions}
    assert {pair.chosen for pair in pairs} == said
    assert not said & {pair.rejected for pair in pairs}
    assert len(pairs) == 6 * 4
    # Pairs of a prompt share its weight: (1 + 3) / 4 for the first, 1 / 4 for the others.
    assert [pair.weight for pair in pairs[:4]] == [1.0] * 4
    assert [pair.weight for pair in pairs[4:]] == [0.25] * 20


def test_mismatched_takes_answers_of_other_prompts() -> None:
    rows = [Demonstration(prompt=f"p{i}", completion=f"{i}{k}") for i in range(5) for k in range(3)]
    pairs = Extrapolation("mismatched").pairs(Demos.of(rows)).comparisons
    assert len(pairs) == 15
    for pair in pairs:
        assert pair.chosen[0] == pair.prompt[1] != pair.rejected[0]


def test_nothing_but_the_prompt_tells_mismatched_sides_apart() -> None:
    # Every answer is on both sides: folds by prompt alone show each with the wrong side, and say .1 where .5 is true.
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(30)]
    p_values = []
    for seed in range(5):
        rows = [
            Demonstration(prompt=f"question {i}", completion=" ".join(rng.choice(words, int(rng.integers(3, 30)))))
            for i in range(100)
        ]
        options = AnswerOptions(seed=seed)
        made = Extrapolation("mismatched", options=options).pairs(Demos.of(rows), encoder=load_encoder("hashed"))
        found = made.report["heterogeneity"]
        for row in found["rows"]:
            # 200 rows: the standard error of a share is .035.
            assert abs(row["accuracy"] - 0.5) < 0.12, row
            assert row["accuracy_ci"][0] <= 0.5 <= row["accuracy_ci"][1] + 0.05
        p_values.append(found["mmd_p"])
    assert min(p_values) > 0.01
    assert max(p_values) - min(p_values) > 0.1  # and not 1 whatever the data


def test_two_answers_only_leave_nothing_to_tell_mismatched_sides_by() -> None:
    rows = [Demonstration(prompt=f"p{i}", completion="yes" if i % 2 else "no") for i in range(20)]
    found = Extrapolation("mismatched").pairs(Demos.of(rows), encoder=load_encoder("hashed")).report["heterogeneity"]
    assert found["accuracy"] == 0.5
    assert found["mmd2"] is None


def test_equal_sides_are_left_out_and_counted() -> None:
    rows = [Demonstration(prompt=f"p{i}", completion="the same") for i in range(4)]
    made = Extrapolation("mismatched").pairs(Demos.of(rows))
    assert made.report["equal_pairs"] == 4
    with pytest.raises(TacitError, match="nothing to learn"):
        made.evidence("x.jsonl")


@pytest.mark.parametrize(
    ("pairing", "said"), [("init-sft", "initial policy"), ("sft-demo", "SFT policy"), ("best", "no pairing `best`")]
)
def test_a_pairing_without_its_policy_is_an_error(pairing: Any, said: str) -> None:
    with pytest.raises(TacitError, match=said):
        prepare(Evidence.from_records(demonstrations(4)), pairing=pairing, encoder="hashed")


@pytest.mark.parametrize("pairing", ["init-sft", "init-demo"])
def test_a_reward_recovers_what_the_demonstrator_prefers(pairing: Any, base_folder: Path, tmp_path: Path) -> None:
    evidence = Evidence.from_records(demonstrations(150, seed=1))
    made = prepare(evidence, pairing=pairing, policy=base_folder, options=OPTIONS, work=tmp_path, encoder="hashed")
    reward = rewards.fit(made.train, encoder="hashed")
    found = rank_correlation(reward, base_folder)
    # 200 answers: the standard error of a correlation is .07
    assert found > 0.5, (found, made.report)
    for control in (RandomReward(), LengthReward()):
        assert abs(rank_correlation(control, base_folder)) < found - 0.2
    told = {row["told apart by"]: row["accuracy"] for row in made.report["heterogeneity"]["rows"]}
    assert told["features"] > 0.6
    assert made.report["heterogeneity"]["mmd_p"] < 0.05
    if pairing == "init-sft":
        again = prepare(evidence, policy=base_folder, options=OPTIONS, work=tmp_path, encoder="hashed")
        assert again.report == made.report
        assert [c.chosen for c in again.train] == [c.chosen for c in made.train]  # type: ignore[attr-defined]


def test_a_mismatched_reward_knows_the_prompt_and_not_the_style() -> None:
    rng = np.random.default_rng(0)
    names = [f"word{i}" for i in range(60)]
    rows = [Demonstration(prompt=f"say {n}", completion=f"{n} {rng.integers(9)}") for n in names]
    reward = rewards.fit(prepare(Evidence.from_records(rows), encoder="hashed").train, encoder="hashed")
    prompts = [f"say other{i}" for i in range(40)]
    right = reward.score(prompts, [f"other{i} 3" for i in range(40)])
    wrong = reward.score(prompts, [f"other{(i + 7) % 40} 3" for i in range(40)])
    assert (right > wrong).mean() > 0.8


def test_fit_from_demonstrations_as_a_user_types_it(
    tacit: Any, base_folder: Path, demos_file: Path, tmp_path: Path
) -> None:
    common = ("--from", "demonstrations", "--encoder", "hashed", "--resamples", 50, "--json")
    trained = ("--max-completion-length", 10, "--sft-epochs", 8, "--sft-learning-rate", 0.003)
    done = tacit("fit", demos_file, "--policy", base_folder, "--out", "reward", *common, *trained)
    assert done.code == 0, done.err
    report = done.json["fit"]["demonstrations"]
    assert report["pairing"] == "init-sft"
    assert Path(report["sft_trained"]).is_dir()
    assert [row["demonstration against"] for row in report["held_out"]] == ["initial policy", "SFT policy"]
    assert report["held_out"][0]["accuracy_ci"][0] > 0.5
    reward = rewards.load("reward")
    assert not [str(f) for f in check_reward(reward, new_process=True) if not f.ok]
    scored = tacit("score", "reward", demos_file, "--out", "scored.jsonl", "--json")
    assert scored.code == 0, scored.err
    mismatched = tacit("fit", demos_file, "--out", "other", *common)
    assert mismatched.code == 0, mismatched.err
    assert "nothing of how good" in mismatched.err
    refused = tacit("fit", demos_file, "--policy", base_folder, "--out", "third")
    assert refused.code == 2
    assert "--from demonstrations" in refused.err
