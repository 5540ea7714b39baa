"""The training loop: schedules, accumulation, resuming, several processes, stopping."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tabular import Tabular, TextReward, lettered

from numerics import ROUNDING, assert_float32_close
from tacit.errors import ArtefactError, TacitError
from tacit.features.hashed import HashedEncoder
from tacit.tuning.crediting import LearntReturn
from tacit.tuning.data import rows_between
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.hindsight import HindsightTuning
from tacit.tuning.loop import LoopOptions, scale_of_rate, train
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.preference import OnlinePreference, PreferenceTuning, PreferenceTuningOptions, encode_pairs
from tacit.tuning.processes import Processes
from tacit.tuning.rejection import RankTuning, Rejection, rso_pairing
from tacit.tuning.sampling import Sampler, SamplingOptions
from tacit.tuning.sparse import CountBonus, Curriculum, NoveltyBonus
from tacit.tuning.supervised import SupervisedTuning, encode

PROMPTS = ["0", "1"]
ALONE = Processes()
DEMONSTRATIONS = [("0", "ab"), ("1", "b"), ("0", ""), ("1", "ba"), ("0", "aab"), ("1", "a"), ("0", "bb"), ("1", "aa")]


def test_schedules_by_hand() -> None:
    def rates(kind: str, **more: Any) -> list[float]:
        options = LoopOptions(lr_scheduler_type=kind, **more)  # type: ignore[arg-type]
        return [scale_of_rate(step, 4, options) for step in range(4)]

    assert rates("constant") == [1, 1, 1, 1]
    assert rates("linear") == pytest.approx([1, 0.75, 0.5, 0.25])
    assert rates("cosine") == pytest.approx([(1 + math.cos(math.pi * x / 4)) / 2 for x in range(4)])
    assert rates("linear", warmup_ratio=0.5) == pytest.approx([0.5, 1, 1, 0.5])
    assert rates("linear", min_lr_ratio=0.2) == pytest.approx([1, 0.8, 0.6, 0.4])
    with pytest.raises(TacitError, match="constant, linear, cosine"):
        rates("step")


def test_the_order_of_rows_can_go_on_from_anywhere() -> None:
    whole = rows_between(5, 0, 17, 3).tolist()
    assert rows_between(5, 4, 12, 3).tolist() == whole[4:12]
    for epoch in range(3):
        assert sorted(whole[epoch * 5 : epoch * 5 + 5]) == list(range(5))
    assert rows_between(5, 0, 5, 4).tolist() != whole[:5]


def pairs(policy: Tabular) -> Any:
    given = [(p, c, "b" + c[:1], 1.0 + i / 3) for i, (p, c) in enumerate(DEMONSTRATIONS)]
    return encode_pairs(policy, given)


Build = Callable[[Tabular, Any, Processes, int], Any]


def sampler(policy: Tabular, reward: Any, processes: Processes, *, dynamic: int = 0, **more: Any) -> Sampler:
    options = SamplingOptions(prompts_per_round=4, num_generations=4, max_completion_length=3, dynamic_sampling=dynamic)
    return Sampler(policy, PROMPTS, reward, options, 5, processes, **more)


def gradient(estimator: str, tools: bool = False, dynamic: int = 0, **options: Any) -> Build:
    def build(policy: Tabular, reward: Any, processes: Processes, micro: int) -> PolicyGradient:
        extra: dict[str, Any] = {}
        if tools:
            extra = {"stream": Curriculum(2, seed=1), "bonus": CountBonus(HashedEncoder(), 0.3)}
        made = sampler(policy, reward, processes, dynamic=dynamic, **extra)
        chosen = GradientOptions(estimator, micro_batch=micro, **options)
        way = LearntReturn(tools, processes=processes) if tools else None
        return PolicyGradient(policy, made, chosen, 12, crediting=way, processes=processes)

    return build


BUILDS: dict[str, Build] = {
    "sft": lambda p, r, w, m: SupervisedTuning(
        p, encode(p, *zip(*DEMONSTRATIONS, strict=True), [1, 2, 1, 3, 1, 1, 2, 1]), batch=8, micro_batch=m, steps=12,
        average="sequence", processes=w,
    ),
    "dpo": lambda p, r, w, m: PreferenceTuning(
        p, pairs(p), PreferenceTuningOptions(batch=6, micro_batch=m, steps=12), processes=w
    ),
    "online": lambda p, r, w, m: OnlinePreference(
        p, sampler(p, r, w), PreferenceTuningOptions("ipo", batch=2, micro_batch=m), rounds=6, processes=w
    ),
    "rso": lambda p, r, w, m: OnlinePreference(
        p, sampler(p, r, w), PreferenceTuningOptions(batch=4, micro_batch=m), rounds=12, pairing=rso_pairing(1.0),
        processes=w,
    ),
    "rrhf": lambda p, r, w, m: RankTuning(p, sampler(p, r, w), 12, micro_batch=4 * m, processes=w),
    "raft": lambda p, r, w, m: Rejection(p, sampler(p, r, w), GradientOptions("raft", micro_batch=m), 12, processes=w),
    "hindsight": lambda p, r, w, m: HindsightTuning(
        p, sampler(p, r, w, bonus=NoveltyBonus(HashedEncoder(), 0.5)), 12, ["bad", "good"], micro_batch=m, processes=w
    ),
    "reinforce": gradient("reinforce", baseline="moving", beta=0.1, whiten=True),
    "remax": gradient("remax"),
    "dapo": gradient("grpo", dynamic=2, epsilon_high=0.28),
    "rloo": gradient("rloo", tools=True, average="sequence"),
    "grpo": gradient("grpo", scale_rewards="batch", beta=0.1, kl_in="loss", kl_estimator="k3"),
    "ppo": gradient("ppo", whiten=True, num_iterations=2, num_mini_batches=2),
}  # fmt: skip


def run(
    name: str, out: Path, *, reward: Any = None, micro: int = 64, resume: bool = False, processes: Processes = ALONE
) -> tuple[Tabular, dict[str, Any]]:
    policy = Tabular(seed=2)
    method = BUILDS[name](policy, reward or TextReward(lettered), processes, micro)
    # Where a gradient cancels to rounding, Adam with a tiny epsilon would make a whole step of it.
    options = LoopOptions(learning_rate=0.05, warmup_ratio=0.2, save_steps=4, weight_decay=0.01, adam_epsilon=1e-4)
    return policy, train(method, out, options, resume=resume, processes=processes)


def lines(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("name", BUILDS)
def test_micro_batches_do_not_show(name: str, tmp_path: Path) -> None:
    """8 x 1 equals 1 x 8: all rows at once, or one at a time."""
    whole, first = run(name, tmp_path / "whole")
    parts, second = run(name, tmp_path / "parts", micro=1)
    assert_float32_close(parts.model.logits, whole.model.logits)
    assert_float32_close(second["loss"], first["loss"], scale=max(1.0, abs(first["loss"])))  # of advantages, about 1


class Cut(Exception):
    pass


class CutReward(TextReward):
    """Ends the run at its nth call."""

    def __init__(self, calls: int) -> None:
        super().__init__(lettered)
        self.calls = calls

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        self.calls -= 1
        if self.calls < 0:
            raise Cut
        return super().score(prompts, completions)


@pytest.mark.parametrize("name", [name for name in BUILDS if name not in ("sft", "dpo")])
def test_a_run_that_was_cut_goes_on_along_the_same_trajectory(name: str, tmp_path: Path) -> None:
    calls = []

    class Counting(TextReward):
        def score(self, prompts: Any, completions: Any) -> np.ndarray:
            calls.append(1)
            return super().score(prompts, completions)

    whole, first = run(name, tmp_path / "whole", reward=Counting(lettered))
    with pytest.raises(Cut):
        run(name, tmp_path / "cut", reward=CutReward(len(calls) * 2 // 3))
    assert 0 < len(lines(tmp_path / "cut")) < 12
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    again, second = run(name, tmp_path / "cut", resume=True)
    assert torch.equal(again.model.logits, whole.model.logits)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert {k: v for k, v in second.items() if k != "seconds"} == {k: v for k, v in first.items() if k != "seconds"}
    names = sorted(path.name for path in (tmp_path / "cut" / "completions").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole" / "completions").iterdir())


class Dropping(Tabular):
    """Draws from torch's own generator in training, and ends the run at its nth pass."""

    passes = 10**9

    def logprobs(self, responses: Any, **asked: Any) -> Any:
        self.passes -= 1
        if self.passes < 0:
            raise Cut
        said = super().logprobs(responses, **asked)
        if self.model.training:
            said.logprobs = torch.nn.functional.dropout(said.logprobs, 0.3)
        return said


def test_random_numbers_of_dropout_go_on_where_they_were(tmp_path: Path) -> None:
    def go(out: Path, passes: int = 10**9, **more: Any) -> Tabular:
        policy = Dropping(seed=2)
        policy.passes = passes
        method = BUILDS["sft"](policy, None, ALONE, 3)
        train(method, out, LoopOptions(learning_rate=0.05, save_steps=3), **more)
        return policy

    whole = go(tmp_path / "whole")
    with pytest.raises(Cut):
        go(tmp_path / "cut", 25)
    torch.manual_seed(99)
    again = go(tmp_path / "cut", resume=True)
    assert torch.equal(again.model.logits, whole.model.logits)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert not torch.equal(whole.model.logits, run("sft", tmp_path / "plain")[0].model.logits)


def test_resuming_a_finished_run_changes_nothing_and_other_settings_are_refused(tmp_path: Path) -> None:
    first, whole = run("dpo", tmp_path)
    before = lines(tmp_path)
    again, result = run("dpo", tmp_path, resume=True)
    assert torch.equal(first.model.logits, again.model.logits)
    assert lines(tmp_path) == before
    assert {**result, "seconds": 0} == {**whole, "seconds": 0}
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000008", "step-000012"]
    with pytest.raises(ArtefactError, match="method = dpo, not sft"):
        run("sft", tmp_path, resume=True)
    newest = tmp_path / "checkpoints" / "step-000012"
    (newest / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(ArtefactError, match="is damaged"):
        run("dpo", tmp_path, resume=True)
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("*.pkl"))


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    pytest.importorskip("transformers")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("loop") / "tiny"
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = "[SEP]"
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.attention_dropout = 0.1  # random numbers that a resumed run has to draw alike
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Say {i}"}) + "\n" for i in range(7)))
    return folder


def command(policy: Path, out: Path, *more: str) -> list[str]:
    options = {
        "policy": policy, "data": policy / "prompts.jsonl", "reward": "random", "out": out, "max-steps": 24,
        "save-steps": 4, "per-device-train-batch-size": 4, "max-completion-length": 6, "learning-rate": 1e-3,
        "num-iterations": 2,
    }  # fmt: skip
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "tacit", "tune", "ppo", *given, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.mark.slow
def test_kill_9_and_resume(policy_folder: Path, tmp_path: Path) -> None:
    subprocess.run(command(policy_folder, tmp_path / "whole"), check=True, env=environment(), capture_output=True)
    running = subprocess.Popen(command(policy_folder, tmp_path / "cut"), env=environment(), stderr=subprocess.PIPE)
    waiting = time.monotonic() + 120
    while not (tmp_path / "cut" / "checkpoints" / "step-000008").exists() and time.monotonic() < waiting:
        assert running.poll() is None, running.stderr.read() if running.stderr else ""
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "cut" / "policy").exists()
    again = [sys.executable, "-m", "tacit", "tune", "--config", str(tmp_path / "cut" / "config.yaml"), "--resume"]
    subprocess.run(again, check=True, env=environment(), capture_output=True)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    weights = [(tmp_path / run / "policy" / "model.safetensors").read_bytes() for run in ("cut", "whole")]
    assert weights[0] == weights[1]


def worth_of(policy: Tabular, processes: Processes) -> dict[str, float]:
    options = SamplingOptions(max_completion_length=3)
    reward = TextReward(lettered)
    return Evaluation(policy, ["0", "1", "1"], options, reward, reward, n=5, processes=processes)()


SCRIPT = """
import sys
sys.path[:0] = sys.argv[1], sys.argv[1] + "/.."
from pathlib import Path
from safetensors.torch import save_file
from tacit.tuning.processes import Processes
from test_loop import run, worth_of
import json
import torch
torch.set_num_threads(1)
together = Processes.joined()
for name in sys.argv[3:]:
    policy, _ = run(name, Path(sys.argv[2]) / name, processes=together)
    worth = worth_of(policy, together)
    if together.main:
        save_file({"logits": policy.model.logits.detach()}, Path(sys.argv[2]) / f"{name}.safetensors")
        (Path(sys.argv[2]) / f"{name}.json").write_text(json.dumps(worth))
"""


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    """As torchrun and accelerate launch start them: gloo, gradients added up."""
    from safetensors.torch import load_file

    names = [name for name in BUILDS if name != "dapo"]  # its groups are chosen process by process
    (tmp_path / "script.py").write_text(SCRIPT)
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29731"]
    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [*launched, str(tmp_path / "script.py"), tests, str(tmp_path), *names],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names:
        alone, _ = run(name, tmp_path / "alone" / name)
        found = load_file(tmp_path / f"{name}.safetensors")["logits"]
        assert_float32_close(found, alone.model.logits, rtol=2 * ROUNDING, msg=name)
        worth = json.loads((tmp_path / f"{name}.json").read_text())
        assert worth == pytest.approx(worth_of(alone, ALONE), rel=1e-4, abs=1e-4)
        for ours, theirs in zip(lines(tmp_path / "alone" / name), lines(tmp_path / name), strict=True):
            assert ours.keys() == theirs.keys(), name
            for key in ours:
                assert theirs[key] == pytest.approx(ours[key], rel=2e-3, abs=2e-3), (name, key)


def test_the_run_stops_at_the_kl_budget(tmp_path: Path) -> None:
    policy = Tabular(seed=2)
    made = sampler(policy, TextReward(lettered), Processes())
    method = PolicyGradient(policy, made, GradientOptions("rloo", measure_kl=True), 200)
    result = train(method, tmp_path, LoopOptions(learning_rate=0.1, max_kl=0.3))
    assert result["steps"] < 200
    assert result["objective/kl"] > 0.3
    assert f"at step {result['steps']}" in result["stopped"]
    assert all(line["objective/kl"] <= 0.3 for line in lines(tmp_path)[:-1])


def test_what_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    policy = Tabular(seed=2)
    method = PolicyGradient(
        policy, sampler(policy, TextReward(lambda p, c: math.nan), Processes()), GradientOptions(), 3
    )
    with pytest.raises(TacitError, match="reward `truth` gave nan for the completion"):
        train(method, tmp_path, LoopOptions())
    method = BUILDS["sft"](policy, None, Processes(), 8)
    with torch.no_grad():
        policy.model.logits[:] = math.nan
    with pytest.raises(TacitError, match="the loss of step 1 is nan"):
        train(method, tmp_path, LoopOptions())


def test_metrics_are_means_over_the_logged_window(tmp_path: Path) -> None:
    every, _ = run("grpo", tmp_path / "every")
    policy = Tabular(seed=2)
    method = BUILDS["grpo"](policy, TextReward(lettered), Processes(), 64)
    options = LoopOptions(
        learning_rate=0.05, warmup_ratio=0.2, weight_decay=0.01, adam_epsilon=1e-4, logging_steps=4, num_samples=3
    )
    train(method, tmp_path / "window", options)
    fine, coarse = lines(tmp_path / "every"), lines(tmp_path / "window")
    assert [line["step"] for line in coarse] == [4, 8, 12]
    assert coarse[1]["reward"] == pytest.approx(np.mean([line["reward"] for line in fine[4:8]]))
    samples = (tmp_path / "window" / "completions" / "step-000008.jsonl").read_text().splitlines()
    assert len(samples) == 3
    del every
