"""SPIN and rejection rounds: they move a policy to the demonstrator, and a killed run goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from worlds import demonstrations, loaded, truth

from numerics import assert_float32_close
from tacit.demonstrations.extrapolation import Demos
from tacit.demonstrations.self_play import SelfPlayOptions, rejection_rounds, self_play
from tacit.errors import ArtefactError, EvidenceError
from tacit.policies.contract import Sampling
from tacit.tuning.loop import LoopOptions
from tacit.tuning.sampling import SamplingOptions

LOOP = LoopOptions(learning_rate=1e-3, num_samples=0)
OPTIONS = SelfPlayOptions(iterations=2, epochs=3, sampling=SamplingOptions(max_completion_length=10))


def load(folder: Any) -> Any:
    return loaded(Path(folder))


def worth(policy: Any) -> float:
    drawn = policy.generate([f"say {700 + i}:" for i in range(100)], 1, Sampling(10, seed=3))
    return float(truth([t for one in drawn for t in one]).mean())


def test_self_play_moves_towards_the_demonstrator(base_folder: Path, tmp_path: Path) -> None:
    demos = Demos.of(demonstrations(100, seed=1))
    result = self_play(base_folder, demos, tmp_path, OPTIONS, LOOP, load=load)
    assert [row["iteration"] for row in result["iterations"]] == [1, 2]
    # At the start of an iteration policy and reference are one: chosen and rejected are as likely.
    first = json.loads((tmp_path / "iteration-2" / "metrics.jsonl").read_text().splitlines()[0])
    assert_float32_close(first["rewards/margins"], 0.0, scale=10 * math.log(12))  # of ten words of twelve
    assert result["iterations"][0]["rewards/accuracies"] > 0.6
    # Standard error of each mean about .12.
    assert worth(load(tmp_path / "policy")) > worth(load(base_folder)) + 0.5


def test_finished_iterations_are_kept(base_folder: Path, tmp_path: Path) -> None:
    demos = Demos.of(demonstrations(20))
    small = SelfPlayOptions(iterations=1, steps=1, sampling=SamplingOptions(max_completion_length=8))
    self_play(base_folder, demos, tmp_path, small, LOOP, load=load)
    made = (tmp_path / "iteration-1" / "policy" / "model.safetensors").stat().st_mtime_ns
    more = SelfPlayOptions(iterations=2, steps=1, sampling=SamplingOptions(max_completion_length=8))
    again = self_play(base_folder, demos, tmp_path, more, LOOP, load=load, resume=True)
    assert (tmp_path / "iteration-1" / "policy" / "model.safetensors").stat().st_mtime_ns == made
    assert len(again["iterations"]) == 2
    other = SelfPlayOptions(iterations=2, beta=0.5, steps=1)
    with pytest.raises(ArtefactError, match="another --out"):
        self_play(base_folder, demos, tmp_path, other, LOOP, load=load, resume=True)
    for damage in ("[" * 50_000, "[]", '{"settings": {}}'):
        (tmp_path / "iteration-1" / "result.json").write_text(damage)
        with pytest.raises(ArtefactError, match=r"result\.json is damaged .*Delete .*iteration-1, and"):
            self_play(base_folder, demos, tmp_path, more, LOOP, load=load, resume=True)


def test_an_answer_that_is_the_demonstration_teaches_nothing(base_folder: Path, tmp_path: Path) -> None:
    policy = load(base_folder)
    prompts = ["say 1:", "say 2:"]
    drawn = policy.generate(prompts, 1, OPTIONS.sampling.sampling(0))
    same = Demos(list(prompts), [one for (one,) in drawn], [1.0, 1.0])
    with pytest.raises(EvidenceError, match="nothing left to learn"):
        self_play(base_folder, same, tmp_path, OPTIONS, LOOP, load=load)


class Truth:
    name = "truth"

    def score(self, prompts: Any, completions: Any) -> Any:
        return truth(list(completions)).astype("float32")


@pytest.mark.parametrize("learnt", [False, True])
def test_rejection_rounds_raise_the_reward(learnt: bool, base_folder: Path, tmp_path: Path) -> None:
    policy, seen = load(base_folder), []

    def learn(prompts: Any, answers: Any) -> Truth:
        seen.append(list(answers))
        return Truth()

    before = worth(policy)
    prompts = [f"say {i}:" for i in range(40)]
    rows = rejection_rounds(
        policy, learn if learnt else Truth(), prompts, tmp_path, rounds=2, steps=4,
        sampling=SamplingOptions(prompts_per_round=16, num_generations=4, max_completion_length=10),
        loop=LoopOptions(learning_rate=3e-3, num_samples=0),
    )  # fmt: skip
    assert rows[1]["reward"] > rows[0]["reward"]
    assert worth(policy) > before + 0.4
    assert len(seen) == 2 * learnt
    if learnt:
        assert seen[0] != seen[1]


def test_spin_as_a_user_types_it(tacit: Any, base_folder: Path, demos_file: Path) -> None:
    done = tacit(
        "tune", "spin", "--policy", base_folder, "--data", demos_file, "--out", "run", "--iterations", 2, "--max-steps",
        2, "--max-completion-length", 8, "--learning-rate", 0.001, "--eval-data", demos_file, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(done.json["iterations"]) == 2
    assert done.json["eval_loss"] > 0
    steps = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert max(steps) == 4
    again = tacit(
        "fit", demos_file, "--from", "demonstrations", "--policy", base_folder, "--sft", "run/policy", "--out", "r",
        "--encoder", "hashed", "--resamples", 20, "--max-completion-length", 8,
    )  # fmt: skip
    assert again.code == 0, again.err
