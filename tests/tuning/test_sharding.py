"""Weights that several processes share (FSDP2) make the steps that one process makes with all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from numerics import assert_float32_close, assert_gradients_close
from tacit.errors import TacitError
from tacit.tuning import sharding
from tacit.tuning.processes import Processes

PROMPTS = ["Who are you?", "Say a number", "The quick brown", "Count to ten", "A reward"]
SAID = [" one two three", " seven", " lazy dog jumps over", " I am"]
SCRIPT = """
import sys
sys.path[:0] = sys.argv[1], sys.argv[1] + "/.."
from test_sharding import go, shares
import json
import torch
from tacit.policies import stock
torch.set_num_threads(1)
stock._TOKENS["cpu"] = 40  # several passes for one part, and not as many in each process
shares(sys.argv[3])
for options in json.loads(sys.argv[2]):
    go(**options)
"""
TWO = Processes(0, 2)
RATE = 3e-3


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    """A causal language model whose end token is [SEP], and files to tune it on."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("sharding") / "tiny"
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = "[SEP]"
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pairs = [(p, c) for p in PROMPTS for c in SAID]
    files: dict[str, list[dict[str, Any]]] = {
        "demos": [{"prompt": p, "completion": c} for p, c in pairs[:13]],
        "prompts": [{"prompt": p} for p in PROMPTS],
        "pairs": [{"prompt": p, "chosen": c, "rejected": " dog"} for p, c in pairs],
    }
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "shorter.yaml").write_text("type: length_control\nunit: characters\nshorter: true\n")
    return folder


def go(method: str, policy: str, data: str, out: str, micro: int, resume: bool = False, **more: Any) -> None:
    """A run as `tacit tune` starts it; `micro` rows of a forward pass in each process."""
    from tacit import evidence, rewards
    from tacit.tuning.run import Job, tune

    folder = Path(policy)
    # Epsilon is large so that rounding of gradients that are almost 0 does not become a step of full size.
    options: dict[str, Any] = {
        "dtype": "float32", "learning_rate": RATE, "adam_epsilon": 1e-3, "weight_decay": 0.01, "max_grad_norm": 0.5,
        "save_steps": 2, "save_total_limit": 9, "per_device_train_batch_size": micro, "max_completion_length": 6,
    }  # fmt: skip
    sampled = data == "prompts"
    job = Job(
        method, policy, str(folder / f"{data}.jsonl"), Path(out), options | more, evidence.read,
        reward=(lambda: rewards.load(folder / "shorter.yaml")) if sampled else None,
        eval_data=str(folder / "demos.jsonl") if method == "sft" else None, processes=Processes.joined(),
    )  # fmt: skip
    tune(job, resume=resume)


def shares(folder: str) -> None:
    """What a process holds of the weights, and what it says of texts in either state."""
    from tacit.policies.transformer import TransformerPolicy

    processes = Processes.joined()
    asked = sharding.asked(processes)
    assert asked is not None
    policy = sharding.ShardedPolicy(TransformerPolicy.load(folder), processes, asked, dtype="float32")
    every = list(policy.model.parameters())
    own = sum(parameter.to_local().numel() for parameter in every)
    assert own <= 0.52 * sum(parameter.numel() for parameter in every)
    assert sum(parameter.numel() for parameter in policy.whole.model.parameters()) == 0
    with pytest.raises(RuntimeError, match="call `gather`"):
        policy.generate(PROMPTS[:1])
    # One process has three rows and the other none at all.
    texts = policy.responses(PROMPTS[:3], SAID[:3]) if processes.main else policy.responses(PROMPTS[:1], [SAID[0]])
    if not processes.main:
        texts.mask[:] = False
    said = policy.logprobs(texts, temperature=0.7, entropy=True, hidden=True)
    torch.autograd.backward(said.logprobs.sum())
    sums = [torch.linalg.vector_norm(parameter.grad.full_tensor()) for parameter in every]
    policy.gather()
    whole = policy.logprobs(texts, temperature=0.7, entropy=True, hidden=True)
    torch.autograd.backward(whole.logprobs.sum())
    for one, other in ((said.logprobs, whole.logprobs), (said.entropy, whole.entropy), (said.hidden, whole.hidden)):
        assert one is not None
        assert other is not None
        assert_float32_close(one, other)
    alone = [
        torch.linalg.vector_norm(processes.sum(torch.zeros_like(p) if p.grad is None else p.grad))
        for p in policy.whole.model.parameters()
    ]
    names = [name for name, _ in policy.whole.model.named_parameters()]
    assert_gradients_close(dict(zip(names, sums, strict=True)), dict(zip(names, alone, strict=True)))


def launch(folder: Path, policy: Path, *runs: dict[str, Any]) -> None:
    """Two processes with the environment that `accelerate launch --config_file fsdp2.yaml` gives them."""
    (folder / "script.py").write_text(SCRIPT)
    asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    own = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*start, str(folder / "script.py"), str(Path(__file__).parent), json.dumps(runs), str(policy)],
        env={**os.environ, **asked, **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def lines(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    # An accuracy counts margins above 0, which rounding decides at the first step, where all are 0.
    return [{key: value for key, value in row.items() if key not in ("seconds", "rewards/accuracies")} for row in rows]


def assert_same(ours: Path, theirs: Path) -> None:
    """The same metrics and the same policy."""
    from safetensors.torch import load_file

    for one, other in zip(lines(ours), lines(theirs), strict=True):
        assert one == pytest.approx(other, abs=2e-4, rel=2e-4)
    found, expected = (load_file(out / "policy" / "model.safetensors") for out in (ours, theirs))
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(
            found[name], expected[name], rtol=0, atol=RATE / 100, msg=name
        )  # of four steps or more


def gone_on(out: Path, copy: Path, step: int) -> Path:
    """A run that was killed after this step."""
    shutil.copytree(out, copy)
    shutil.rmtree(copy / "policy")
    for path in (copy / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    return copy


@pytest.mark.slow
def test_two_processes_with_sharded_weights_make_the_steps_of_one(tiny: Path, tmp_path: Path) -> None:
    """Steps with fewer rows than processes among them (13 rows in steps of 4), and a resume with other processes."""
    from safetensors.torch import load_file

    def sft(run: str, micro: int, **more: Any) -> dict[str, Any]:
        return {
            "method": "sft",
            "policy": str(tiny),
            "data": "demos",
            "out": str(tmp_path / run),
            "micro": micro,
            **more,
        }

    def grpo(run: str, micro: int, **more: Any) -> dict[str, Any]:
        own = {"max_steps": 4, "beta": 0.1, "num_generations": 4}
        return sft(run, micro, **own, **more) | {"method": "grpo", "data": "prompts"}

    go(**sft("sft-1", 4))
    go(**grpo("grpo-1", 8))
    gone_on(tmp_path / "sft-1", tmp_path / "sft-again", 2)
    launch(tmp_path, tiny, sft("sft-2", 2), grpo("grpo-2", 4), sft("sft-again", 2, resume=True))
    gone_on(tmp_path / "grpo-2", tmp_path / "grpo-again", 2)
    go(**grpo("grpo-again", 8, resume=True))
    for run in ("sft-2", "sft-again", "grpo-2", "grpo-again"):
        assert_same(tmp_path / run, tmp_path / f"{run.partition('-')[0]}-1")
    before = load_file(tiny / "model.safetensors")
    after = load_file(tmp_path / "grpo-2" / "policy" / "model.safetensors")
    assert max(float((after[name] - before[name]).abs().max()) for name in before) > 1e-3


OTHERS: dict[str, dict[str, Any]] = {
    "dpo": {"data": "pairs", "beta": 0.2},
    "kto": {"method": "dpo", "data": "pairs", "loss_type": "kto"},
    "online": {"method": "dpo", "online": True, "prompts_per_round": 4, "num_generations": 3},
    "ppo": {"num_mini_batches": 2, "num_iterations": 2, "num_generations": 2, "credit": "return"},
    "remax": {"num_generations": 2, "credit": "potential", "num_mini_batches": 2},
    "rloo": {"num_generations": 4, "kl_in": "loss", "kl_estimator": "k2", "beta": 0.1, "demonstrations": "demos.jsonl"},
    "raft": {"method": "rejection", "rule": "raft", "num_generations": 4},
    "rrhf": {"method": "rejection", "rule": "rrhf", "num_generations": 4},
    "hindsight": {"method": "rejection", "rule": "hindsight", "num_generations": 4, "instructions": ["Bad ", "Good "]},
}  # fmt: skip


@pytest.mark.slow
def test_every_method_takes_sharded_weights(tiny: Path, tmp_path: Path) -> None:
    """On a model whose head is its embedding."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "tied"
    shutil.copytree(tiny, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    model.save_pretrained(folder)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")

    def runs(world: int) -> list[dict[str, Any]]:
        found = []
        for name, options in OTHERS.items():
            own = {"method": name, "data": "prompts", "max_steps": 4, **options}
            if "demonstrations" in own:
                own["demonstrations"] = str(folder / own["demonstrations"])
            found.append({"policy": str(folder), "out": str(tmp_path / f"{name}-{world}"), "micro": 8 // world, **own})
        return found

    for options in runs(1):
        go(**options)
    launch(tmp_path, folder, *runs(2))
    for name in OTHERS:
        assert_same(tmp_path / f"{name}-2", tmp_path / f"{name}-1")


@pytest.mark.slow
def test_the_configuration_in_the_guide_works(tiny: Path, tmp_path: Path) -> None:
    """The yaml of docs/tuning.md under `accelerate launch`; a method that takes no shards says so."""
    guide = Path(__file__).parents[2] / "docs" / "tuning.md"
    config = tmp_path / "fsdp2.yaml"
    config.write_text(guide.read_text("utf-8").partition("Write `fsdp2.yaml`:\n\n```yaml\n")[2].partition("```")[0])
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def launched(port: int, *tokens: Any) -> subprocess.CompletedProcess[str]:
        said = [str(token) for token in tokens]
        return subprocess.run(
            [*start, "--main_process_port", str(port), "-m", "tacit", "tune", *said],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    given = ("--policy", tiny, "--out", tmp_path / "run", "--max-steps", 1)
    refused = launched(29733, "reward", *given, "--data", tiny / "pairs.jsonl")
    assert "`tacit tune reward` keeps all weights in each process" in refused.stderr
    done = launched(29734, "sft", *given, "--data", tiny / "demos.jsonl")
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "run" / "policy" / "model.safetensors").is_file()


def test_what_is_not_sharded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sharding.asked(TWO) is None
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert sharding.asked(Processes()) is None
    with pytest.raises(TacitError, match="`fsdp_version: 2`"):
        sharding.asked(TWO)
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_TRANSFORMER_CLS_TO_WRAP", "LlamaDecoderLayer, Other")
    monkeypatch.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    assert sharding.asked(TWO) == sharding.Sharding(False, ("LlamaDecoderLayer", "Other"))
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    with pytest.raises(TacitError, match="`tacit tune reward` keeps all weights"):
        sharding.refuse("reward", TWO)
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(TacitError, match="`fsdp_offload_params: false`"):
        sharding.asked(TWO)
