from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from numerics import assert_float32_close
from real_data import DATA
from tacit.errors import FeatureError, MissingExtra, extra_installed
from tacit.features import encoder_from_config, load_encoder
from tacit.features import transformer as transformer_module
from tacit.features.transformer import TransformerEncoder, minilm_installed
from tacit.models import checkpoint as checkpoint_module
from tacit.models.checkpoint import batches

pytest.importorskip("transformers")

TEXTS = [
    ("Who are you?", "I am a tiny model."),
    ("", "dog"),
    ("The quick brown fox", ""),
    ("", ""),
    ("Say numbers", "one two three four five six seven eight nine ten " * 3),
    ("Ünïcödé ☃ 日本", "naïve café \ud800"),
]


def encoder(folder: Path, query: str = "") -> TransformerEncoder:
    loaded = load_encoder(f"hf:{folder}{query}")
    assert isinstance(loaded, TransformerEncoder)
    return loaded


@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_row_does_not_depend_on_batch_order_or_neighbours(kind: str, pool: str, request, monkeypatch) -> None:
    model = encoder(request.getfixturevalue(f"{kind}_folder"), f"?pool={pool}")
    together = model.encode(TEXTS)
    assert together.shape == (len(TEXTS), 32)
    assert together.dtype == np.float32
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    backwards = model.encode(TEXTS[::-1])[::-1]
    monkeypatch.setitem(checkpoint_module._TOKENS_PER_BATCH, "cpu", 40)
    small_batches = model.encode(TEXTS)
    for other in (alone, backwards, small_batches):
        assert_float32_close(other, together)
    assert np.abs(together[0] - together[1]).max() > 0.1


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_pooling_equals_the_plain_forward_pass_of_one_text(kind: str, request) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = request.getfixturevalue(f"{kind}_folder")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    text = "Who are you?\n\nI am a tiny model."
    # padding=False, truncation=False: the file of the bert tokenizer asks for both.
    ids = tokenizer(text, return_tensors="pt", padding=False, truncation=False)["input_ids"]
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state[0].numpy()
    pairs = [("Who are you?", "I am a tiny model."), *TEXTS]
    assert_float32_close(encoder(folder, "?pool=last").encode(pairs)[0], states[-1])
    assert_float32_close(encoder(folder, "?pool=mean").encode(pairs)[0], states.mean(0))
    unit = states.mean(0) / np.linalg.norm(states.mean(0))
    assert_float32_close(encoder(folder, "?pool=mean&normalize=true").encode(pairs)[0], unit)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_several_layers_stand_one_after_another(kind: str, request) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = request.getfixturevalue(f"{kind}_folder")
    model = AutoModel.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(
        "Who are you?\n\nI am a tiny model.", return_tensors="pt", padding=False, truncation=False
    )["input_ids"]
    with torch.no_grad():
        states = [layer[0].numpy() for layer in model(input_ids=ids, output_hidden_states=True).hidden_states]
    means = [layer.mean(0) for layer in states]
    pairs = [("Who are you?", "I am a tiny model."), *TEXTS]
    every = encoder(folder, "?pool=mean&layers=all")
    assert every.dim == 32 * len(states)
    for ours, theirs in zip(np.split(every.encode(pairs)[0], len(states)), means, strict=True):
        assert_float32_close(ours, theirs)
    last = len(states) - 1
    unit = encoder(folder, f"?pool=mean&normalize=true&layers={last},0")
    expected = [means[k] / np.linalg.norm(means[k]) for k in (last, 0)]
    assert_float32_close(unit.encode(pairs)[0], np.concatenate(expected))
    token = encoder(folder, "?pool=last&layers=1").encode(pairs)[0]
    assert_float32_close(token, states[1][-1], rtol=1e-5)
    again = encoder_from_config(unit.config())
    assert (again.name, again.dim, again.fingerprint) == (unit.name, 64, unit.fingerprint)
    assert encoder(folder, "?layers=last").fingerprint == encoder(folder).fingerprint


def test_layers_that_a_model_does_not_have_are_refused(llama_folder: Path) -> None:
    for bad in ("9", "0,0", "first", "-1", ""):
        with pytest.raises(
            FeatureError, match=rf"there are no layers `{bad}`.*from 0, the embedding of the tokens, to"
        ):
            encoder(llama_folder, f"?layers={bad}")


def test_defaults_come_from_the_model(bert_folder: Path, llama_folder: Path, tmp_path: Path) -> None:
    assert (encoder(bert_folder).pool, encoder(bert_folder).max_length) == ("mean", 64)
    assert (encoder(llama_folder).pool, encoder(llama_folder).max_length) == ("last", 96)
    folder = tmp_path / "sentence"
    shutil.copytree(bert_folder, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    assert (encoder(folder).pool, encoder(folder).max_length) == ("last", 20)
    for file, damage in (("1_Pooling/config.json", "[]"), ("sentence_bert_config.json", "[" * 50_000)):
        whole = (folder / file).read_text()
        (folder / file).write_text(damage)
        with pytest.raises(FeatureError, match=f"{file} .*Save the model again"):
            encoder(folder).max_length  # noqa: B018
        (folder / file).write_text(whole)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_long_prompt_loses_its_beginning_and_the_completion_stays_whole(kind: str, request) -> None:
    model = encoder(request.getfixturevalue(f"{kind}_folder"), "?max_length=16")
    special = 2 if kind == "bert" else 0
    completion = "one two three four"
    whole = encoder(request.getfixturevalue(f"{kind}_folder"), "?max_length=2048").token_ids(
        [("the lazy dog " * 50, completion)]
    )[0]
    cut = model.token_ids([("the lazy dog " * 50, completion)])[0]
    assert len(cut) == 16
    body = cut[1:-1] if special else cut
    assert body == (whole[1:-1] if special else whole)[-len(body) :]
    if special:
        assert (cut[0], cut[-1]) == (2, 3)
    assert model._tokenizer.decode(body).endswith("\n\n" + completion)
    # What is far to the left does not matter any more, what is near the end does.
    far, near = ("seven " + "the lazy dog " * 50, completion), ("the lazy dog " * 50 + "seven", completion)
    base, with_far, with_near = model.encode([("the lazy dog " * 50, completion), far, near])
    assert_float32_close(with_far, base)
    assert np.abs(with_near - base).max() > 1e-2


def test_a_completion_that_is_too_long_keeps_its_beginning(llama_folder: Path) -> None:
    model = encoder(llama_folder, "?max_length=8")
    ids = model.token_ids([("who are you?", "one two three four five six seven eight nine ten " * 9)])[0]
    assert len(ids) == 8
    assert model._tokenizer.decode(ids).startswith("one two three")


def test_a_text_of_only_a_prompt_keeps_its_end(llama_folder: Path) -> None:
    model = encoder(llama_folder, "?max_length=8")
    ids = model.token_ids([("one two three four five six seven eight nine ten", "")])[0]
    assert len(ids) == 8
    assert model._tokenizer.decode(ids).endswith("nine ten")


def test_very_long_text_and_empty_text_give_finite_vectors(llama_folder: Path) -> None:
    vectors = encoder(llama_folder).encode([("x" * 20_000, "y" * 20_000), ("", "")])
    assert np.isfinite(vectors).all()


def test_batches_are_sorted_by_length_and_hold_the_budget() -> None:
    lengths = [3, 9, 1, 9, 4, 30]
    found = [batch.tolist() for batch in batches(lengths, 18)]
    assert found == [[5], [1, 3], [4, 0, 2]]


def test_fingerprint_follows_weights_and_options_but_not_the_place(llama_folder: Path, tmp_path: Path) -> None:
    model = encoder(llama_folder)
    copied = tmp_path / "copy"
    shutil.copytree(llama_folder, copied)
    assert encoder(copied).fingerprint == model.fingerprint
    options = ["?pool=mean", "?max_length=50", "?normalize=true", "?dtype=bfloat16", "?layers=all", "?layers=0,1"]
    prints = {encoder(copied, option).fingerprint for option in options}
    assert len(prints | {model.fingerprint}) == 7
    weights = copied / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-2] ^= 1
    weights.write_bytes(changed)
    assert encoder(copied).fingerprint != model.fingerprint
    with pytest.raises(FeatureError, match="not the one this was fitted with"):
        encoder_from_config({**encoder(copied).config(), "fingerprint": model.fingerprint})


def test_config_rebuilds_the_same_encoder(llama_folder: Path) -> None:
    model = encoder(llama_folder, "?pool=mean&max_length=33&normalize=true")
    again = encoder_from_config(json.loads(json.dumps(model.config())))
    assert again.name == model.name
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "not a model that transformers can read"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"junk"), "not a model that transformers can read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
    ],
)
def test_a_damaged_folder_gives_one_clear_error(damage, message: str, llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(llama_folder, folder)
    damage(folder)
    with pytest.raises(FeatureError, match=message):
        encoder(folder).encode(TEXTS[:1])


def test_lacking_weights_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "lacking"
    shutil.copytree(llama_folder, folder)
    weights = load_file(folder / "model.safetensors")
    dropped = next(name for name in weights if "layers.1.mlp" in name)
    del weights[dropped]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FeatureError, match="lacks weights"):
        encoder(folder).encode(TEXTS[:1])


def test_a_missing_extra_is_named(monkeypatch) -> None:
    monkeypatch.setattr(transformer_module, "extra_installed", lambda *modules: False)
    with pytest.raises(MissingExtra, match=r"tacit\[minilm\]"):
        load_encoder("minilm")
    with pytest.raises(MissingExtra, match=r"tacit\[hf\]"):
        load_encoder("hf:anywhere")
    assert load_encoder("auto").name == "hashed"
    assert not extra_installed("json", "no_such_module")


needs_minilm = pytest.mark.skipif(not minilm_installed(), reason="the extra `minilm` is not installed")


@needs_minilm
def test_minilm_gives_the_vectors_of_the_humour_items() -> None:
    items, vectors = DATA / "humour" / "items.dev.tsv.gz", DATA / "embeddings-minilm" / "humour-items.npz"
    if not items.is_file() or not vectors.is_file():
        pytest.skip(f"no humour data in {DATA}; set TACIT_DATA")
    with gzip.open(items, "rt", encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines][1:61]
    stored = np.load(vectors)
    at = {int(item): place for place, item in enumerate(stored["ids"])}
    truth = stored["emb"][[at[int(row[0])] for row in rows]].astype(np.float32)
    ours = load_encoder("minilm?layers=last").encode([("", row[2]) for row in rows])
    cosine = (ours * truth).sum(1) / np.linalg.norm(truth, axis=1)
    assert cosine.min() > 0.9999
    assert_float32_close(np.linalg.norm(ours, axis=1), np.ones(len(ours)))


@needs_minilm
def test_minilm_puts_like_texts_together_and_rows_stand_alone() -> None:
    model = load_encoder("minilm")
    assert (model.name, model.dim) == ("minilm", 768)
    last = load_encoder("minilm?layers=last&normalize=true")
    assert (last.name, last.dim) == ("minilm?layers=last", 384)
    assert load_encoder("minilm?layers=3,6").fingerprint == model.fingerprint != last.fingerprint
    texts = [
        ("", "A cat sits on the mat."),
        ("", "The kitten is lying on the rug."),
        ("", "Interest rates rose sharply last quarter."),
        ("long " * 400, "The answer stays whole."),
    ]
    vectors = model.encode(texts)
    assert_float32_close(vectors[:, 384:], last.encode(texts))
    assert_float32_close(np.linalg.norm(vectors[:, :384], axis=1), np.ones(len(texts)))
    assert vectors[0, 384:] @ vectors[1, 384:] > vectors[0, 384:] @ vectors[2, 384:] + 0.3
    alone = np.concatenate([model.encode([text]) for text in texts])
    assert_float32_close(alone, vectors)
