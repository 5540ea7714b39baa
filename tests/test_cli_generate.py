"""`tacit generate` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("transformers")

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("policy")
    words = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    wrapper = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    wrapper.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    ).save_pretrained(folder)
    return folder


def write(path: str, *rows: Any) -> Path:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Path(path)


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_samples_of_any_file_with_prompts(policy: Path, tacit) -> None:
    write(
        "pairs.jsonl",
        {"prompt": "one", "chosen": "a", "rejected": "b", "id": 7},
        {"prompt": "one", "chosen": "c", "rejected": "d", "id": 8},
        {"prompt": [{"role": "user", "content": "two"}], "chosen": "e", "rejected": "f", "id": 9},
    )
    options = ("--n", 3, "--max-new-tokens", 5, "--seed", 4, "--dtype", "float32")
    done = tacit("generate", policy, "pairs.jsonl", "--out", "samples.jsonl", "--json", *options)
    assert done.code == 0, done.err
    assert (done.json["prompts"], done.json["samples"]) == (2, 6)
    rows = read("samples.jsonl")
    assert [row["prompt"] for row in rows[::3]] == ["one", [{"role": "user", "content": "two"}]]
    assert [row["index"] for row in rows] == [0, 1, 2] * 2
    assert [row["id"] for row in rows[::3]] == [7, 9]
    assert all(row["logprob"] < 0 and isinstance(row["ended"], bool) and "chosen" not in row for row in rows)
    again = yaml.safe_load(Path("samples.config.yaml").read_text("utf-8"))
    assert again["seed"] == 4
    kept = Path("samples.jsonl").read_bytes()
    arguments = ("--config", "samples.config.yaml", "--out", "again.jsonl")
    assert tacit("generate", policy, "pairs.jsonl", *arguments).code == 0
    assert Path("again.jsonl").read_bytes() == kept


def test_the_prompt_of_transcripts_and_of_other_columns(policy: Path, tacit) -> None:
    said = "\n\nHuman: hi\n\nAssistant: "
    write("transcripts.jsonl", {"chosen": said + "yes", "rejected": said + "no"})
    write("other.jsonl", {"question": "what?", "answer": "4"})
    for file, extra, prompt in (
        ("transcripts.jsonl", (), [{"role": "user", "content": "hi"}]),
        ("other.jsonl", ("--columns", "prompt=question"), "what?"),
    ):
        done = tacit("generate", policy, file, "--out", "out.jsonl", "--max-new-tokens", 2, *extra)
        assert done.code == 0, done.err
        assert read("out.jsonl")[0]["prompt"] == prompt
    assert read("out.jsonl")[0]["answer"] == "4"


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"question": "Red?"}, "Red?"),
        ({"instruction": "Name it.", "input": "red"}, "Name it.\n\nred"),
        (
            {"system": "Be brief.", "question": "Red?"},
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Red?"}],
        ),
        ({"question": "Red?", "thumb": "up"}, "Red?"),
    ],
)
def test_prompts_alone_by_other_names(policy: Path, tacit, row: dict[str, Any], prompt: Any) -> None:
    done = tacit("generate", policy, write("p.jsonl", row), "--out", "o.jsonl", "--max-new-tokens", 2)
    assert done.code == 0, done.err
    assert [line["prompt"] for line in read("o.jsonl")] == [prompt]


def test_scores_and_the_best_by_a_reward(policy: Path, tacit) -> None:
    write("prompts.jsonl", {"prompt": "one"}, {"prompt": "two"})
    Path("reward.yaml").write_text("type: length\n", "utf-8")
    options = ("--n", 4, "--max-new-tokens", 6, "--dtype", "float32", "--reward", "reward.yaml", "--json")
    every = tacit("generate", policy, "prompts.jsonl", "--out", "every.jsonl", *options)
    assert every.code == 0, every.err
    best = tacit("generate", policy, "prompts.jsonl", "--out", "best.jsonl", *options, "--best", "--all")
    assert best.code == 0, best.err
    rows, chosen = read("every.jsonl"), read("best.jsonl")
    assert len(chosen) == 2
    for number, row in enumerate(chosen):
        group = rows[4 * number : 4 * number + 4]
        assert row["completions"] == [one["completion"] for one in group]
        assert row["scores"] == [one["score"] for one in group]
        assert row["score"] == max(row["scores"])
        assert row["completion"] == row["completions"][row["index"]]
        assert row["n"] == 4
    scores = [row["score"] for row in rows]
    assert best.json["mean_best_score"] == pytest.approx((max(scores[:4]) + max(scores[4:])) / 2)
    assert every.json["mean_score"] == pytest.approx(sum(scores) / 8)


def test_a_stop_text_ends_a_sample(policy: Path, tacit) -> None:
    write("prompts.jsonl", {"prompt": "one"})
    options = ("--n", 64, "--max-new-tokens", 40, "--dtype", "float32", "--json")
    done = tacit("generate", policy, "prompts.jsonl", "--out", "free.jsonl", *options)
    free = read("free.jsonl")
    letter = "e"
    done = tacit("generate", policy, "prompts.jsonl", "--out", "out.jsonl", "--stop", letter, *options)
    assert done.code == 0, done.err
    rows = read("out.jsonl")
    assert any(letter in row["completion"] for row in free)
    for row, before in zip(rows, free, strict=True):
        assert row["completion"] == before["completion"].split(letter)[0]
        assert row["ended"] == (before["ended"] or letter in before["completion"])


@pytest.mark.parametrize(
    ("change", "rows", "options", "said"),
    [
        (None, [], (), "prompts.jsonl"),
        (None, [{"title": "x"}], (), "--columns prompt="),
        (None, [{"prompt": True}], (), "row 1, column `prompt`"),
        (None, [{"prompt": "a"}, {"prompt": "x" * 100}], (), "row 2, column `prompt`: the prompt cannot be sampled"),
        (None, [{"prompt": "a"}], ("--best",), "--best needs a reward"),
        (None, [{"prompt": "a"}], ("--top-p", "0"), "--top-p 0"),
        (None, [{"prompt": "a"}], ("--model", "x"), "--model is for servers"),
        ("config.json", [{"prompt": "a"}], (), "holds no config.json"),
        ("tokenizer.json", [{"prompt": "a"}], (), "holds no tokenizer"),
        ("model.safetensors", [{"prompt": "a"}], (), "is not a model that transformers can read"),
    ],
)
def test_bad_input_is_one_sentence(policy: Path, tacit, change, rows, options, said: str) -> None:
    folder = Path("copy")
    shutil.copytree(policy, folder)
    if change:
        (folder / change).unlink()
        (folder / "tokenizer_config.json").unlink() if change == "tokenizer.json" else None
    write("prompts.jsonl", *rows)
    done = tacit("generate", folder, "prompts.jsonl", "--out", "out.jsonl", *options)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert not Path("out.jsonl").exists()


def test_a_server_without_a_model_or_that_is_not_there(tacit) -> None:
    pytest.importorskip("httpx2")
    write("prompts.jsonl", {"prompt": "a"})
    done = tacit("generate", "http://localhost:1/v1", "prompts.jsonl", "--out", "out.jsonl")
    assert (done.code, "--model" in done.err) == (2, True)
    done = tacit("generate", "no/such/folder", "prompts.jsonl", "--out", "out.jsonl")
    assert (done.code, "no/such/folder" in done.err) == (2, True)


def test_a_chat_template_opens_the_answer(policy: Path, tacit) -> None:
    from transformers import AutoTokenizer

    from tacit.policies.transformer import TransformerPolicy

    folder = Path("chat")
    shutil.copytree(policy, folder)
    wrapper = AutoTokenizer.from_pretrained(folder)
    wrapper.chat_template = TEMPLATE
    wrapper.save_pretrained(folder)
    ids = TransformerPolicy.load(folder, device="cpu").encode(["hi", [{"role": "user", "content": "hi"}]])
    assert ids[0] == ids[1]
    assert wrapper.decode(ids[0]) == "[user]hi[assistant]"


def test_what_is_missing_is_named(tacit, policy: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Say it"}\n')
    done = tacit("generate", policy, prompts, "--n", 2)
    assert (done.code, done.err.strip()) == (2, "tacit: --out is missing. Give it")
