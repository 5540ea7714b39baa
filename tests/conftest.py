"""The command line as a user types it; tiny transformers with random weights and a tokenizer trained in place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest

# A deadline would be a test of timing: it fails where the machine is slow or busy.
hypothesis.settings.register_profile("tacit", deadline=None)
hypothesis.settings.load_profile("tacit")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tacit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run one command in an empty folder; `Done.code` is what the shell would see.

    However slow the machine, no line of progress stands in `Done.err`.
    """
    from tacit import progress
    from tacit.cli import main

    monkeypatch.setattr(progress, "FIRST", math.inf)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))

    def run(*tokens: str | Path | int) -> Done:
        capsys.readouterr()
        code = 0
        try:
            main([str(token) for token in tokens])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Done(code, *capsys.readouterr())

    return run


CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "Who are you?\n\nI am a tiny model, and I answer briefly.",
    "A reward is learnt from what people prefer; it is never given.",
    "one two three four five six seven eight nine ten",
    "Long answers are not always better answers, but they look so.",
]


def save_tokenizer(folder: Path, kind: str) -> int:
    """Train a tokenizer on CORPUS, save it and return its size: "bert" adds [CLS] and [SEP], "llama" adds nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if kind == "bert":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        # As in MiniLM's own file: settings that an encoder has to switch off.
        tokenizer.enable_truncation(5)
        tokenizer.enable_padding(length=7)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=save_tokenizer(folder, "bert"), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=save_tokenizer(folder, "llama"), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=96, initializer_range=0.5,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
