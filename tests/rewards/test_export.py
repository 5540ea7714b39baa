"""Feature rewards as Hugging Face checkpoints: export, load with transformers alone, compare."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tacit
from numerics import assert_float32_close
from tacit.conversation import render
from tacit.errors import ArtefactError, TacitError
from tacit.evidence.records import Comparison, Outcome
from tacit.features import load_encoder
from tacit.features.transformer import TransformerEncoder, minilm_installed
from tacit.rewards.check import EXAMPLES, allowed, check_reward
from tacit.rewards.export import to_hf

pytest.importorskip("transformers")

WORDS = ["fox", "dog", "reward", "people", "answer", "long", "seven", "model"]


def comparisons(n: int = 60) -> list[Comparison]:
    rng = random.Random(0)
    rows = []
    for i in range(n):
        say = " ".join(rng.choices(WORDS, k=4))
        rows.append(Comparison(prompt=f"question {i}", chosen=f"{say} brief", rejected=f"{say} shouting"))
    return rows


def outcomes(n: int = 60) -> list[Outcome]:
    return [Outcome(prompt=row.prompt, completion=row.chosen, label=i % 3 > 0) for i, row in enumerate(comparisons(n))]


# What transformers alone makes of some folders: nothing of tacit is imported.
_ALONE = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
import torch
asked, found = json.load(sys.stdin), []
for folder, trust in asked["folders"]:
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=trust).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    def score(texts, **options):
        batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=False, **options)
        with torch.no_grad():
            return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
    chats = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in asked["chats"]]
    found.append({
        "class": type(model).__name__, "labels": model.config.num_labels, "pad": model.config.pad_token_id,
        "eos": tokenizer.eos_token_id, "texts": score(asked["texts"]), "chats": score(chats, add_special_tokens=False),
    })
assert "tacit" not in sys.modules
print(json.dumps(found))
"""


class Exported(NamedTuple):
    """A folder, and what is expected of it."""

    reward: Any
    folder: Path
    kind: str
    offset: float = 0.0


def alone(exported: list[Exported], modules: Path) -> list[dict[str, Any]]:
    """Scores of short examples by transformers, as plain texts and as chats, padded to one length."""
    texts, chats = [], []
    for prompt, completion in short():
        texts.append(render(prompt, completion))
        chats.append([{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}])
    folders = [(str(one.folder), one.kind.startswith("Pooled")) for one in exported]
    done = subprocess.run(
        [sys.executable, "-c", _ALONE],
        input=json.dumps({"texts": texts, "chats": chats, "folders": folders}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_MODULES_CACHE": str(modules)},
    )
    assert done.returncode == 0, done.stderr
    result: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return result


def short() -> list[tuple[str, str]]:
    return [("Who are you?", "I am a tiny model."), ("Say it", "fox"), ("one", "two three four five six " * 3)]


def require_equal(exported: list[Exported], modules: Path) -> None:
    """The same scores from transformers alone, and from the language-model reward on the contract's own examples."""
    from transformers import AutoModelForSequenceClassification

    from tacit.rewards.pooled_classifier import PooledForSequenceClassification, register

    for one, theirs in zip(exported, alone(exported, modules), strict=True):
        truth = one.reward.score([p for p, _ in short()], [c for _, c in short()])
        assert (theirs["class"], theirs["labels"]) == (one.kind, 1)
        assert theirs["pad"] is not None
        assert theirs["pad"] != theirs["eos"]
        size = max(float(np.abs(truth).max()), abs(one.offset))
        assert_float32_close(np.array(theirs["texts"]) + one.offset, truth, scale=size)
        assert_float32_close(np.array(theirs["chats"]) + one.offset, truth, scale=size)
        if one.kind.startswith("Pooled"):
            register()
            known = AutoModelForSequenceClassification.from_pretrained(one.folder)
            assert isinstance(known, PooledForSequenceClassification)  # not the copy in the folder
        prompts, completions = [p for p, _ in EXAMPLES], [c for _, c in EXAMPLES]
        assert_float32_close(tacit.load(one.folder).score(prompts, completions), one.reward.score(prompts, completions))


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    """A model whose final norm has a bias, and whose tokenizer takes EOS for padding."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = tokenizer.pad_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=96, initializer_range=0.5,
        bos_token_id=None, eos_token_id=3, pad_token_id=None,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


STOCK = {"gpt2": "GPT2ForSequenceClassification", "llama": "LlamaForSequenceClassification"}
POOLED = "PooledForSequenceClassification"


def test_stock_classes_hold_linear_heads_on_the_last_token(
    gpt2_folder: Path, llama_folder: Path, tmp_path: Path
) -> None:
    # A final norm with a bias takes the constant.
    absolute = tacit.fit(outcomes(), encoder=f"hf:{gpt2_folder}", members=3, l2=1.0)
    assert abs(float(absolute.parameters["bias"].mean())) > 1e-2
    first = to_hf(absolute, tmp_path / "gpt2")
    assert (first["class"], first["offset"]) == (STOCK["gpt2"], 0.0)
    # An RMS norm cannot: a relative reward leaves its constant out and names it.
    relative = tacit.fit(comparisons(), encoder=f"hf:{llama_folder}?pool=last", members=2, l2=1.0)
    second = to_hf(relative, tmp_path / "llama")
    assert second["offset"] == pytest.approx(float(relative.parameters["bias"].mean()), rel=1e-6)
    assert second["offset"] != 0
    require_equal(
        [
            Exported(absolute, tmp_path / "gpt2", STOCK["gpt2"]),
            Exported(relative, tmp_path / "llama", STOCK["llama"], second["offset"]),
        ],
        tmp_path / "modules",
    )
    bad = [str(f) for f in check_reward(tacit.load(tmp_path / "gpt2"), new_process=True) if not f.ok]
    assert not bad


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "?pool=mean", {"members": 2, "l2": 1.0}),
    ("llama", "?pool=last&normalize=true", {"l2": 1.0}),
    ("bert", "?pool=mean&normalize=true", {"l2": 1.0}),
    ("bert", "?pool=mean&normalize=true&layers=all", {"l2": 1.0}),
    ("llama", "?pool=last&layers=0,1", {"l2": 1.0}),
    ("bert", "?pool=last", {"l2": 1.0}),
    ("llama", "?pool=last", {"head": "mlp", "hidden": (8, 6), "members": 3, "epochs": 2}),
    ("bert", "", {"head": "mlp", "hidden": (8,), "members": 2, "shared_trunk": True, "epochs": 2}),
]


def test_other_poolings_and_heads_take_a_class_of_their_own(
    llama_folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    exported = []
    for number, (kind, query, options) in enumerate(CASES):
        base = llama_folder if kind == "llama" else bert_folder
        reward = tacit.fit(comparisons(), encoder=f"hf:{base}{query}", **options)
        result = to_hf(reward, tmp_path / str(number))
        assert (result["class"], result["offset"]) == (POOLED, 0.0)
        with pytest.raises(TacitError, match=r"no stock class holds .* Use --form custom"):
            to_hf(reward, tmp_path / "stock", form="stock")
        exported.append(Exported(reward, tmp_path / str(number), POOLED))
    assert not (tmp_path / "stock").exists()
    # Outcomes have a zero that means something, so that an RMS norm is no place for them either.
    absolute = tacit.fit(outcomes(), encoder=f"hf:{llama_folder}", l2=1.0)
    assert to_hf(absolute, tmp_path / "absolute")["class"] == POOLED
    exported.append(Exported(absolute, tmp_path / "absolute", POOLED))
    relative = tacit.fit(comparisons(), encoder=f"hf:{llama_folder}", l2=1.0)
    assert to_hf(relative, tmp_path / "exact", form="custom")["offset"] == 0.0
    exported.append(Exported(relative, tmp_path / "exact", POOLED))
    if minilm_installed():
        small = tacit.fit(comparisons(), encoder="minilm", members=4, l2=1.0)
        to_hf(small, tmp_path / "minilm")
        exported.append(Exported(small, tmp_path / "minilm", POOLED))
    require_equal(exported, tmp_path / "modules")


def test_the_last_token_is_scored_even_where_it_is_the_old_padding(gpt2_folder: Path, tmp_path: Path) -> None:
    """A text that ends with EOS: with EOS for padding transformers would read the score before it."""
    reward = tacit.fit(comparisons(), encoder=f"hf:{gpt2_folder}", l2=1.0)
    to_hf(reward, tmp_path / "out")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token == "<|tacit_pad|>"
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    ids = tokenizer("Who are you?\n\nA fox[SEP]", return_tensors="pt")["input_ids"]
    assert ids[0, -1] == tokenizer.eos_token_id
    assert_float32_close(model(input_ids=ids).logits[0, 0], reward.score(["Who are you?"], ["A fox[SEP]"])[0])


def test_loading_never_asks_to_run_code_of_the_folder(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = tacit.fit(comparisons(), encoder=f"hf:{bert_folder}", l2=1.0)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on the terminal"))
    to_hf(reward, tmp_path / "out")
    (tmp_path / "out" / "modeling_tacit.py").write_text("raise SystemExit('code of the folder was run')\n")
    assert_float32_close(tacit.load(tmp_path / "out").score(["a"], ["b"]), reward.score(["a"], ["b"]))


def test_a_language_model_reward_is_passed_on(gpt2_folder: Path, tmp_path: Path) -> None:
    reward = tacit.fit(comparisons(), encoder=f"hf:{gpt2_folder}", l2=1.0)
    to_hf(reward, tmp_path / "first")
    tacit.load(tmp_path / "first").save(tmp_path / "saved")
    to_hf(tacit.load(tmp_path / "saved"), tmp_path / "second")
    prompts, completions = [p for p, _ in short()], [c for _, c in short()]
    np.testing.assert_array_equal(
        tacit.load(tmp_path / "second").score(prompts, completions),
        tacit.load(tmp_path / "first").score(prompts, completions),
    )


def test_what_cannot_be_exported_is_one_sentence(llama_folder: Path, tmp_path: Path) -> None:
    hashed = tacit.fit(comparisons(), encoder="hashed", l2=1.0)
    with pytest.raises(TacitError, match=r"`hashed`, which is no transformer. Fit with --encoder minilm or hf:PATH"):
        to_hf(hashed, tmp_path / "out")
    rough = tacit.fit(comparisons(), encoder=f"hf:{llama_folder}?dtype=bfloat16", l2=1.0)
    with pytest.raises(TacitError, match="dtype=float32"):
        to_hf(rough, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(ArtefactError, match="holds other files"):
        to_hf(rough, tmp_path / "full")

    class Other:
        name = "other"

    with pytest.raises(TacitError, match="is a Other: only a feature reward on a transformer"):
        to_hf(Other(), tmp_path / "out")  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_a_wrong_export_would_be_noticed(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = tacit.fit(comparisons(), encoder=f"hf:{llama_folder}", l2=1.0)
    encoder = load_encoder(f"hf:{llama_folder}")
    assert isinstance(encoder, TransformerEncoder)
    monkeypatch.setattr("tacit.rewards.export._set_head", lambda model, weight, bias: bias + 1e-3)
    with pytest.raises(TacitError, match=r"the exported scores differ by .* Use --form custom"):
        to_hf(reward, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_exports(gpt2_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tacit.cli import main

    reward = tacit.fit(comparisons(), encoder=f"hf:{gpt2_folder}", l2=1.0)
    reward.save(tmp_path / "reward")
    main(["export", str(tmp_path / "reward"), "--to", "hf", "--out", str(tmp_path / "out"), "--json"])
    result = json.loads(capsys.readouterr().out)
    scores = reward.score(*zip(*EXAMPLES, strict=True))
    assert result["largest_difference"] <= allowed(scores).max()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert config["id2label"] == {"0": "reward"}
    assert config["architectures"] == ["GPT2ForSequenceClassification"]
    assert not list((tmp_path / "out").glob("*.bin"))
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "absent"), "--out", str(tmp_path / "x")])
    assert "absent holds no reward.json" in capsys.readouterr().err
