"""Model folders as a user gives them: each is called what it is, and sent to the verb that takes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tacit import rewards
from tacit.errors import ArtefactError
from tacit.rewards.controls import RandomReward

pytest.importorskip("transformers")


def test_a_causal_model_is_called_one_and_not_a_damaged_reward(llama_folder: Path, tacit: Any) -> None:
    said = r"is a causal language model \(LlamaForCausalLM\), which writes texts.*--policy of `tacit tune`"
    with pytest.raises(ArtefactError, match=said):
        rewards.load(llama_folder)
    Path("rows.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    done = tacit("score", llama_folder, "rows.jsonl", "--out", "scores.jsonl")
    assert done.code == 2
    assert "is a causal language model" in done.err
    assert len(done.err.splitlines()) == 1


def test_an_encoder_is_sent_to_fit(bert_folder: Path) -> None:
    with pytest.raises(ArtefactError, match=r"is an encoder \(BertModel\) without a head.*--encoder hf:"):
        rewards.load(bert_folder)


def test_a_head_in_the_weights_counts_for_more_than_the_name_of_the_model(llama_folder: Path, tmp_path: Path) -> None:
    """Trainers write reward models under the name of the model that they began with."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(llama_folder, num_labels=1).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llama_folder).save_pretrained(tmp_path)
    expected = rewards.load(tmp_path).score(["a"], ["b"])
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": ["LlamaForCausalLM"]}))
    assert rewards.load(tmp_path).score(["a"], ["b"]) == expected


def test_an_adapter_is_called_one_by_every_loader(tmp_path: Path, tacit: Any) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base", "task_type": "CAUSAL_LM"}')
    (folder / "adapter_model.safetensors").write_bytes(b"")
    said = "is an adapter (LoRA or its like) of org/base, and no model of its own: merge it into its model first"
    with pytest.raises(ArtefactError, match=re.escape(said)):
        rewards.load(folder)
    Path("rows.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    for verb in (
        ("generate", folder, "rows.jsonl", "--out", "o.jsonl"),
        ("tune", "sft", "--policy", folder, "--data", "rows.jsonl", "--out", "run"),
        (
            "fit",
            "rows.jsonl",
            "--kind",
            "demonstration",
            "--from",
            "demonstrations",
            "--policy",
            folder,
            "--out",
            "r",
            "--test",
            0,
        ),
    ):
        done = tacit(*verb)
        assert done.code == 2
        assert said in done.err, done.err
        assert len(done.err.splitlines()) == 1


def test_a_reward_given_as_a_policy_is_called_one(tmp_path: Path, tacit: Any) -> None:
    RandomReward().save(tmp_path / "r")
    Path("rows.jsonl").write_text('{"prompt": "p"}\n')
    done = tacit("generate", tmp_path / "r", "rows.jsonl", "--out", "o.jsonl")
    assert done.code == 2
    assert "is a reward, which scores texts, and no language model" in done.err
