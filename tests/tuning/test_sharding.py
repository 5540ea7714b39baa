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

from tacit.errors import TacitError
from tacit.tuning import sharding
from tacit.tuning.processes import Processes

PROMPTS = ["Who are you?", "Say a number", "The quick brown", "Count to ten", "A reward"]
SAID = [" one two three", " seven", " lazy dog jumps over", " I am"]
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_sharding import go
import json
import torch
torch.set_num_threads(1)
for options in json.loads(sys.argv[2]):
    go(**options)
"""
TWO = Processes(0, 2)


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
        "dtype": "float32", "learning_rate": 3e-3, "adam_epsilon": 1e-3, "weight_decay": 0.01, "max_grad_norm": 0.5,
        "save_steps": 2, "save_total_limit": 9, "per_device_train_batch_size": micro, "max_completion_length": 6,
    }  # fmt: skip
    sampled = data == "prompts"
    job = Job(
        method, policy, str(folder / f"{data}.jsonl"), Path(out), options | more, evidence.read,
        reward=(lambda: rewards.load(folder / "shorter.yaml")) if sampled else None,
        eval_data=str(folder / "demos.jsonl") if method == "sft" else None, processes=Processes.joined(),
    )  # fmt: skip
    tune(job, resume=resume)


def launch(folder: Path, *runs: dict[str, Any]) -> None:
    """Two processes with the environment that `accelerate launch --config_file fsdp2.yaml` gives them."""
    (folder / "script.py").write_text(SCRIPT)
    asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    own = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*start, str(folder / "script.py"), str(Path(__file__).parent), json.dumps(runs)],
        env={**os.environ, **asked, **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def lines(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def assert_same(ours: Path, theirs: Path) -> None:
    """The same metrics and the same policy."""
    from safetensors.torch import load_file

    for one, other in zip(lines(ours), lines(theirs), strict=True):
        assert one == pytest.approx(other, abs=2e-4, rel=2e-4)
    found, expected = (load_file(out / "policy" / "model.safetensors") for out in (ours, theirs))
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=3e-5, msg=name)


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
    launch(tmp_path, sft("sft-2", 2), grpo("grpo-2", 4), sft("sft-again", 2, resume=True))
    gone_on(tmp_path / "grpo-2", tmp_path / "grpo-again", 2)
    go(**grpo("grpo-again", 8, resume=True))
    for run in ("sft-2", "sft-again", "grpo-2", "grpo-again"):
        assert_same(tmp_path / run, tmp_path / f"{run.partition('-')[0]}-1")
    before = load_file(tiny / "model.safetensors")
    after = load_file(tmp_path / "grpo-2" / "policy" / "model.safetensors")
    assert max(float((after[name] - before[name]).abs().max()) for name in before) > 1e-3


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
