"""Model folders as a user gives them: each is called what it is, and sent to the verb that takes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tacit import rewards
from tacit.errors import ArtefactError
from tacit.models.templates import read_template, rendered
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


@pytest.mark.parametrize("encoder", ["mean", "last"])
def test_an_exported_reward_loads_by_the_documented_line(
    tacit: Any, bert_folder: Path, llama_folder: Path, encoder: str
) -> None:
    """The line of the guide, as it stands there, in a process of its own: for a class of ours, and for a stock one."""
    rows = [{"prompt": f"q{i}", "chosen": f"thank you {i}", "rejected": f"NO {i}"} for i in range(30)]
    Path("votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = f"hf:{bert_folder}" if encoder == "mean" else f"hf:{llama_folder}?pool=last"
    assert tacit("fit", "votes.jsonl", "--encoder", name, "--out", "reward", "--test", 0).code == 0
    done = tacit("export", "reward", "--to", "hf", "--out", "reward-hf", "--json")
    assert done.code == 0, done.err
    guide = (Path(__file__).parent.parent / "docs" / "cli.md").read_text("utf-8")
    (line,) = re.findall(r'^python -c "(.*from_pretrained.*)"$', guide, re.MULTILINE)
    printed = f"from transformers import AutoModelForSequenceClassification\n{done.json['load']}"
    assert ("trust_remote_code" in printed) == (encoder == "mean")
    for code in (line, printed, "import tacit; tacit.load('reward-hf').score(['p'], ['c'])"):
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"HF_HOME": "hf"}
        )
        assert ran.returncode == 0, ran.stderr
        assert "newly initialized" not in ran.stderr


REFUSING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
)
TAKING = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]


@pytest.fixture
def refusing(llama_folder: Path, tmp_path: Path) -> Path:
    """A causal model whose chat template refuses a system message, and template.jinja, which does not."""
    from transformers import AutoTokenizer

    shutil.copytree(llama_folder, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.chat_template, tokenizer.eos_token = REFUSING, "."
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "template.jinja").write_text(TAKING)
    return tmp_path / "model"


def test_a_template_that_refuses_a_system_message_is_replaced(tacit: Any, refusing: Path) -> None:
    Path("prompts.jsonl").write_text(json.dumps({"prompt": ASKED}) + "\n")
    words = ("generate", refusing, "prompts.jsonl", "--out", "o.jsonl", "--max-new-tokens", 4)
    refused = tacit(*words)
    assert refused.code == 2
    assert "System role not supported" in refused.err
    assert "--chat-template FILE" in refused.err
    assert len(refused.err.splitlines()) == 1
    done = tacit(*words, "--chat-template", "template.jinja")
    assert done.code == 0, done.err
    assert json.loads(Path("o.jsonl").read_text())["prompt"] == ASKED


def test_a_tuned_policy_keeps_the_template_that_was_given(tacit: Any, refusing: Path) -> None:
    from transformers import AutoTokenizer

    rows = [{"prompt": ASKED, "completion": "I am a tiny model."}] * 4
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("tune", "sft", "--policy", refusing, "--data", "rows.jsonl", "--max-steps", 1)
    refused = tacit(*words, "--out", "refused")
    assert refused.code == 2
    assert "--chat-template FILE" in refused.err
    done = tacit(*words, "--out", "run", "--chat-template", "template.jinja")
    assert done.code == 0, done.err
    assert AutoTokenizer.from_pretrained("run/policy").chat_template == TAKING


def test_a_language_model_as_reward_takes_another_template(tacit: Any, refusing: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(refusing, num_labels=1).save_pretrained("lm")
    AutoTokenizer.from_pretrained(refusing).save_pretrained("lm")
    Path("rows.jsonl").write_text(json.dumps({"prompt": ASKED, "completion": "I am."}) + "\n")
    refused = tacit("score", "lm", "rows.jsonl", "--out", "s.jsonl")
    assert refused.code == 2
    assert "the model's chat template refuses a conversation of roles system, user, assistant" in refused.err
    done = tacit("score", "lm", "rows.jsonl", "--out", "s.jsonl", "--chat-template", "template.jinja")
    assert done.code == 0, done.err
    score = json.loads(Path("s.jsonl").read_text())["score"]
    # The template is saved with the reward, and with its export.
    reward: Any = rewards.load("lm", chat_template="template.jinja")
    reward.save("saved")
    assert rewards.load("saved").score([ASKED], ["I am."])[0] == pytest.approx(score)
    assert tacit("export", "saved", "--out", "exported").code == 0
    assert rewards.load("exported").score([ASKED], ["I am."])[0] == pytest.approx(score)
    kept = tacit("score", "saved", "rows.jsonl", "--out", "s.jsonl", "--chat-template", "template.jinja")
    assert kept.code == 2
    assert "is a reward that keeps its own rule" in kept.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "--chat-template none.jinja: No such file or directory"),
        (b"", "--chat-template bad.jinja: it is empty"),
        (b"\xff\xfe", "--chat-template bad.jinja: the text is not UTF-8"),
        (b"{% for m in messages %}\n{{ m.content }\n{% endfor %}", "--chat-template bad.jinja, row 2: unexpected"),
    ],
)
def test_a_file_that_is_no_template_is_one_sentence(tacit: Any, refusing: Path, text: bytes | None, said: str) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "p"}\n')
    name = "none.jinja" if text is None else "bad.jinja"
    if text is not None:
        Path(name).write_bytes(text)
    done = tacit("generate", refusing, "prompts.jsonl", "--out", "o.jsonl", "--chat-template", name)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_template_may_mark_the_part_of_the_assistant(tmp_path: Path, refusing: Path) -> None:
    from transformers import AutoTokenizer

    marked = "{% for m in messages %}{%- generation -%}{{ m.content }}{%endgeneration%}\n{% endfor %}"
    (tmp_path / "marked.jinja").write_text(marked)
    template = read_template(tmp_path / "marked.jinja")
    assert template == marked
    tokenizer = AutoTokenizer.from_pretrained(refusing)
    assert rendered(tokenizer, [*ASKED, {"role": "assistant", "content": "Hi."}], template=template).endswith("Hi.")


def test_a_server_applies_its_own_template(tacit: Any, refusing: Path) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "p"}\n')
    words = ("generate", "http://127.0.0.1:9/v1", "prompts.jsonl", "--model", "m", "--out", "o.jsonl")
    done = tacit(*words, "--chat-template", "template.jinja")
    assert done.code == 2
    assert "a server applies its own. Leave it out" in done.err
