"""Whole language models as rewards, on tiny models made from a configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from numerics import assert_float32_close
from tacit.conversation import render
from tacit.errors import ArtefactError, TacitError
from tacit.models import checkpoint as checkpoint_module
from tacit.rewards.chat import TextRule, blocks_template, chat_parts
from tacit.rewards.check import EXAMPLES, check_reward
from tacit.rewards.language_model import LanguageModelReward, logits_BL

pytest.importorskip("transformers")

PROMPTS = ["Who are you?", "", "The quick brown fox", "Say numbers", "Ünïcödé ☃ 日本"]
COMPLETIONS = ["I am a tiny model.", "dog", "", "one two three four five six seven " * 4, "naïve café \ud800"]
CHATML = (
    "{{ bos_token or '' }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}[SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make(folder: Path, base: Path, labels: int = 1, template: str | None = None, eos: bool = True) -> Path:
    """A classifier with the weights of `base`, a random head and, as is common, EOS for padding."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if eos:
        tokenizer.eos_token = "[SEP]"
        tokenizer.pad_token = "[SEP]"
    model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.chat_template = template
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    return make(tmp_path_factory.mktemp("models") / "llama-reward", llama_folder)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    return make(tmp_path_factory.mktemp("models") / "chat-reward", llama_folder, template=CHATML)


def require(reward: Any, **options: Any) -> None:
    bad = [str(finding) for finding in check_reward(reward, **options) if not finding.ok]
    assert not bad, "\n".join(bad)


def test_the_contract_holds_for_decoders_encoders_and_chat(
    classifier: Path, chat: Path, bert_folder: Path, tmp_path: Path
) -> None:
    require(LanguageModelReward.of_checkpoint(classifier), new_process=True)
    require(LanguageModelReward.of_checkpoint(chat))
    require(LanguageModelReward.of_checkpoint(make(tmp_path / "bert", bert_folder, eos=False)))


def test_the_score_is_read_at_eos_even_where_padding_is_eos(classifier: Path) -> None:
    """transformers itself reads such a checkpoint one token too early; one row without padding shows the truth."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reward = LanguageModelReward.of_checkpoint(classifier)
    assert (reward.rule.template, reward.rule.eos) == ("plain", True)
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    ids = tokenizer("Who are you?\n\nI am a tiny model.")["input_ids"] + [tokenizer.eos_token_id]
    with torch.no_grad():
        states = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        early = model(input_ids=torch.tensor([ids])).logits[0, 0].item()
    weight = model.score.weight[0].detach()
    scores = reward.score(PROMPTS, COMPLETIONS)
    assert_float32_close(scores[0], states[-1] @ weight, scale=float((states[-1] * weight).norm()))
    assert abs(scores[0] - early) > 1e-2
    without = LanguageModelReward.of_checkpoint(classifier, eos=False).score(PROMPTS, COMPLETIONS)
    assert_float32_close(without[0], states[-2] @ weight, scale=float((states[-2] * weight).norm()))


def test_batches_do_not_show(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = LanguageModelReward.of_checkpoint(classifier)
    together = reward.score(PROMPTS, COMPLETIONS)
    monkeypatch.setitem(checkpoint_module._TOKENS_PER_BATCH, "cpu", 40)
    assert_float32_close(reward.score(PROMPTS, COMPLETIONS), together)
    assert reward.score([], []).shape == (0,)
    with pytest.raises(TacitError, match="2 prompts for 1 completions"):
        reward.score(["a", "b"], ["c"])


def test_gradients_flow_through_logits(classifier: Path) -> None:
    import torch

    model = LanguageModelReward.of_checkpoint(classifier).model
    ids_BT, real_BT = checkpoint_module.right_padded([[5, 6, 7], [8]], 3)
    loss = logits_BL(model, torch.from_numpy(ids_BT), torch.from_numpy(real_BT)).sum()
    loss.backward()
    assert float(model.score.weight.grad.abs().sum()) > 0


# --- the text that a model sees ---------------------------------------------------------------------------------------


def tokens(folder: Path, prompt: Any, completion: Any, **options: Any) -> str:
    reward = LanguageModelReward.of_checkpoint(folder, **options)
    ids = reward.rule.token_ids(reward.tokenizer, [prompt], [completion])[0]
    assert len(ids) <= reward.rule.max_length
    return str(reward.tokenizer.decode(ids))


def test_long_texts_keep_the_end_of_the_prompt_the_completion_and_eos(classifier: Path) -> None:
    said = tokens(classifier, "the lazy dog " * 50, "one two three four", max_length=24)
    assert said.endswith("the lazy dog \n\none two three four[SEP]")
    alone = tokens(classifier, "who?", "one two three four five " * 9, max_length=8)
    assert alone.startswith("one two three")
    assert alone.endswith("[SEP]")


def test_templates_and_eos_are_what_the_rule_says(classifier: Path, chat: Path) -> None:
    assert tokens(classifier, "Hi", "there") == "Hi\n\nthere[SEP]"
    assert tokens(classifier, "Hi ", "there", template="concatenated", eos=False) == "Hi there"
    assert tokens(chat, "Hi", "there") == "<|user|>Hi[SEP]\n<|assistant|>there[SEP]\n"
    turns = [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]
    assert tokens(chat, [*turns, {"role": "user", "content": "c"}], "d") == (
        "<|user|>a[SEP]\n<|assistant|>b[SEP]\n<|user|>c[SEP]\n<|assistant|>d[SEP]\n"
    )
    assert tokens(chat, "Hi", "there", template="plain", eos=False) == "Hi\n\nthere"


def test_a_long_chat_loses_the_beginning_of_its_prompt_and_nothing_else(chat: Path) -> None:
    said = tokens(chat, "the lazy dog " * 50, "one two three four", max_length=40)
    assert said.endswith("<|assistant|>one two three four[SEP]\n")
    assert "lazy dog" in said
    alone = tokens(chat, "who?", "one two three four five six " * 30, max_length=20)
    assert alone.startswith("one two three")
    assert alone.endswith("[SEP]\n")


def test_the_completion_is_found_in_the_rendered_chat(chat: Path) -> None:
    wrapper = LanguageModelReward.of_checkpoint(chat).tokenizer
    assert chat_parts(wrapper, "Hi", " there ") == ("<|user|>Hi[SEP]\n<|assistant|>", " there", " [SEP]\n")
    assert chat_parts(wrapper, "Hi", "") == ("<|user|>Hi[SEP]\n<|assistant|>", "[SEP]\n", "")


def test_the_blocks_template_writes_what_tacit_renders(llama_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.chat_template = blocks_template("[CLS]", "[SEP]")
    user, answer = {"role": "user", "content": "How?\nSo"}, {"role": "assistant", "content": "It's \\ {so}"}
    system = {"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind"}]}
    for prompt in ([user], [system, user], [user, answer, user], []):
        for said in ([answer], [{"role": "assistant", "content": ""}]):
            text = tokenizer.apply_chat_template([*prompt, *said], tokenize=False)
            assert text == f"[CLS]{render(prompt, said)}[SEP]"
        if prompt:
            opened = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            assert opened + "ok" == f"[CLS]{render(prompt, 'ok')}"


def test_a_template_that_refuses_is_one_sentence(chat: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict"
    shutil.copytree(chat, strict)
    (strict / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(TacitError, match=r"roles user, assistant \(roles must alternate\)"):
        LanguageModelReward.of_checkpoint(strict).score(["a"], ["b"])


def test_a_rule_that_cannot_be_is_refused(chat: Path, llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TacitError, match="there is no template `x`"):
        LanguageModelReward.of_checkpoint(chat, template="x")
    with pytest.raises(TacitError, match="max_length is 1"):
        TextRule(max_length=1)
    plain = make(tmp_path / "plain", llama_folder, eos=False)
    with pytest.raises(TacitError, match="this tokenizer has none"):
        LanguageModelReward.of_checkpoint(plain, eos=True).score(["a"], ["b"])
    with pytest.raises(TacitError, match="no chat template"):
        LanguageModelReward.of_checkpoint(plain, template="chat").score(["a"], ["b"])


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_label_or_the_difference_of_two(llama_folder: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "three", llama_folder, labels=3)
    with pytest.raises(TacitError, match=r"has 3 labels: 0 \(LABEL_0\), 1 \(LABEL_1\), 2 \(LABEL_2\)"):
        tacit.load(folder)
    with pytest.raises(TacitError, match="no label `good`"):
        LanguageModelReward.of_checkpoint(folder, label="good")
    one = LanguageModelReward.of_checkpoint(folder, label="LABEL_2")
    logits = one.logits(PROMPTS, COMPLETIONS)
    np.testing.assert_array_equal(one.score(PROMPTS, COMPLETIONS), logits[:, 2])
    two = LanguageModelReward.of_checkpoint(folder, label=(2, "LABEL_0"))
    np.testing.assert_array_equal(two.score(PROMPTS, COMPLETIONS), logits[:, 2] - logits[:, 0])
    two.save(tmp_path / "saved")
    loaded = tacit.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.score(PROMPTS, COMPLETIONS), logits[:, 2] - logits[:, 0])
    pair = LanguageModelReward.of_checkpoint(make(tmp_path / "two", llama_folder, labels=2))
    assert pair.labels == (1, 0)


# --- folders ----------------------------------------------------------------------------------------------------------


def test_saved_folders_hold_or_refer_to_the_checkpoint(classifier: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(classifier, source)
    reward = LanguageModelReward.of_checkpoint(source, eos=False, max_length=50, name="mine")
    base = reward.score(PROMPTS, COMPLETIONS)
    reward.save(tmp_path / "holds")
    reward.save(tmp_path / "refers", copy=False)
    for folder in ("holds", "refers"):
        loaded = tacit.load(tmp_path / folder)
        assert (loaded.name, loaded.rule) == ("mine", reward.rule)
        np.testing.assert_array_equal(loaded.score(PROMPTS, COMPLETIONS), base)
    assert not (tmp_path / "refers" / "checkpoint").exists()
    weights = source / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-2] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(ArtefactError, match="has changed since: scores would drift"):
        tacit.load(tmp_path / "refers")
    shutil.rmtree(source)
    with pytest.raises(ArtefactError, match="is gone"):
        tacit.load(tmp_path / "refers")
    np.testing.assert_array_equal(tacit.load(tmp_path / "holds").score(PROMPTS, COMPLETIONS), base)


def test_a_checkpoint_inside_that_was_edited_is_refused(classifier: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    LanguageModelReward.of_checkpoint(classifier).save(tmp_path / "saved")
    weights = load_file(tmp_path / "saved/checkpoint/model.safetensors")
    edits: dict[str, Any] = {
        "half": weights["score.weight"].half(),
        "cut": weights["score.weight"][:, :-1].contiguous(),
        "other numbers": weights["score.weight"] + 1,
    }
    for what, new in edits.items():
        shutil.copytree(tmp_path / "saved", tmp_path / what)
        path = tmp_path / what / "checkpoint/model.safetensors"
        save_file({**weights, "score.weight": new}, path, metadata={"format": "pt"})
        with pytest.raises(ArtefactError, match="changed since"):
            tacit.load(tmp_path / what)
    for text in ("[]", "3", "{", '"text"'):
        (tmp_path / "saved/checkpoint/config.json").write_text(text)
        with pytest.raises(TacitError):
            tacit.load(tmp_path / "saved").score(["p"], ["c"])


def test_weights_that_are_not_finite_stop_with_the_row(classifier: Path) -> None:
    import torch

    reward = LanguageModelReward.of_checkpoint(classifier)
    with torch.no_grad():
        reward.model.score.weight[0, 0] = float("nan")
    with pytest.raises(TacitError, match=r"row 1: .* gives the score nan"):
        reward.score(["a"], ["b"])


def test_bfloat16_is_flagged(classifier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reward = LanguageModelReward.of_checkpoint(classifier, dtype="bfloat16")
    assert "bfloat16" in caplog.text
    reward.save(tmp_path / "bf16")
    assert "scores move by about 1e-2" in (tmp_path / "bf16" / "README.md").read_text()
    exact = LanguageModelReward.of_checkpoint(classifier).score(PROMPTS, COMPLETIONS)
    scores = tacit.load(tmp_path / "bf16").score(PROMPTS, COMPLETIONS)
    assert 0 < np.abs(scores - exact).max() < 0.2 * np.abs(exact).max()


def test_the_command_line_takes_checkpoints_and_saved_folders(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tacit.cli import main

    reward = LanguageModelReward.of_checkpoint(classifier)
    reward.save(tmp_path / "saved")
    pairs = [(p, c) for p, c in EXAMPLES if isinstance(p, str) and p][:4]
    rows = [{"prompt": p, "chosen": c, "rejected": f"{c} dog"} for p, c in pairs]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    best = [{"prompt": p, "completions": [c, f"{c} dog"]} for p, c in pairs]
    (tmp_path / "candidates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in best))
    for folder in (classifier, tmp_path / "saved"):
        main(["score", str(folder), str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "s.jsonl"), "--json"])
        scored = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
        expected = reward.score([p for p, _ in pairs], [c for _, c in pairs])
        assert_float32_close([row["score_chosen"] for row in scored], expected)
        capsys.readouterr()
        main(["audit", str(folder), str(tmp_path / "pairs.jsonl"), "--json", "--resamples", "20"])
        assert json.loads(capsys.readouterr().out)["n_test"] == 4
        main(["select", str(folder), str(tmp_path / "candidates.jsonl"), "--out", str(tmp_path / "b.jsonl"), "--json"])
        assert json.loads(capsys.readouterr().out)["prompts"] == len({p for p, _ in pairs})
