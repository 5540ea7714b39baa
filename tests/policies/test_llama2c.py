"""Files of llama2.c: against a forward pass in numpy that follows the file's own order, and against the real model."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from numerics import BFLOAT16, assert_float32_close
from real_data import DATA
from tacit.policies import llama2c
from tacit.policies.contract import Sampling
from tacit.policies.tokens import PolicyError
from tacit.policies.transformer import TransformerPolicy

STORIES = DATA / "tiny-lm" / "stories260K"
real = pytest.mark.skipif(not STORIES.is_dir(), reason="stories260K is not here: set TACIT_DATA")


def numpy_logits(file: Path, tokens: list[int]) -> np.ndarray:
    """Logits (T, V) by the definition, reading the file front to back."""
    content = file.read_bytes()
    d, f, n, heads, kv, vocabulary, context = struct.unpack_from("<7i", content)
    shared, vocabulary, size = vocabulary > 0, abs(vocabulary), d // heads
    flat = np.frombuffer(content, "<f4", offset=28).astype(np.float64)
    place = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal place
        count = int(np.prod(shape))
        place += count
        return flat[place - count : place].reshape(shape)

    embedding, norm1 = take(vocabulary, d), take(n, d)
    wq, wk, wv, wo = take(n, d, d), take(n, kv * size, d), take(n, kv * size, d), take(n, d, d)
    norm2, w1, w2, w3, last = take(n, d), take(n, f, d), take(n, d, f), take(n, f, d), take(d)
    take(context, size // 2)
    take(context, size // 2)
    output = embedding if shared else take(vocabulary, d)
    assert place == len(flat)

    def rms(x: np.ndarray, g: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * g

    angle = np.arange(len(tokens))[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)

    def turn(x: np.ndarray) -> np.ndarray:  # (T, heads, size): neighbours turn together
        pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[:, None]
        return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)

    x = embedding[tokens]
    for layer in range(n):
        z = rms(x, norm1[layer])
        q = turn((z @ wq[layer].T).reshape(len(z), heads, size))
        k = turn((z @ wk[layer].T).reshape(len(z), kv, size)).repeat(heads // kv, 1)
        v = (z @ wv[layer].T).reshape(len(z), kv, size).repeat(heads // kv, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(size)
        scores[:, ~np.tri(len(z), dtype=bool)] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        x = x + np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v).reshape(len(z), d) @ wo[layer].T
        z = rms(x, norm2[layer])
        gate = z @ w1[layer].T
        x = x + (gate / (1 + np.exp(-gate)) * (z @ w3[layer].T)) @ w2[layer].T
    return rms(x, last) @ output.T


@pytest.fixture(params=[True, False], ids=["shared", "own output"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random model and a tokenizer of 3 + 256 + 6 pieces in llama2.c's format."""
    rng = np.random.default_rng(0)
    pieces = ["<unk>", "\n<s>\n", "\n</s>\n"] + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [" ", "a", "b", " a", "ab", " ab"]
    scores = [0.0] * 259 + [-5.0, -6.0, -7.0, -2.0, -1.0, -3.0]
    d, f, n, heads, kv, context = 16, 24, 2, 4, 2, 32
    size, v = d // heads, len(pieces)
    shapes = [(v, d), (n, d), (n, d, d), (n, kv * size, d), (n, kv * size, d), (n, d, d), (n, d), (n, f, d), (n, d, f),
              (n, f, d), (d,), (context, size // 2), (context, size // 2)]  # fmt: skip
    shapes += [] if request.param else [(v, d)]
    weights = [rng.normal(0, 0.5, shape).astype("<f4") for shape in shapes]
    header = struct.pack("<7i", d, f, n, heads, kv, v if request.param else -v, context)
    (tmp_path / "model.bin").write_bytes(header + b"".join(w.tobytes() for w in weights))
    body = b"".join(
        struct.pack("<fi", score, len(piece.encode())) + piece.encode()
        for piece, score in zip(pieces, scores, strict=True)
    )
    (tmp_path / "tokenizer.bin").write_bytes(struct.pack("<i", 8) + body)
    return tmp_path


def test_logits_are_those_of_the_definition(made: Path) -> None:
    model, _ = llama2c.read(made)
    tokens = [1, 262, 263, 5, 261, 100, 264]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0].numpy()
    assert_float32_close(logits, numpy_logits(made / "model.bin", tokens))


def test_the_best_score_merges_first(made: Path) -> None:
    _, tokenizer = llama2c.read(made / "model.bin")
    # " ab": `ab` (-1) is merged before ` a` (-2), then ` ab` (-3) is made of ` ` and `ab`.
    assert tokenizer("ab")["input_ids"] == [1, 264]
    assert tokenizer("a b")["input_ids"] == [1, 262, 259, 261]
    assert tokenizer("aé")["input_ids"] == [1, 262, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode([1, 262, 3 + 0xC3, 3 + 0xA9], skip_special_tokens=True) == "aé"
    assert tokenizer.eos_token_id == 1 != tokenizer.pad_token_id


def test_the_command_writes_a_folder_that_samples_alike(made: Path, tacit) -> None:
    done = tacit("convert", made, "--out", "folder", "--json")
    assert done.code == 0, done.err
    assert done.json["vocabulary"] == 265
    sampling = Sampling(max_new_tokens=12, seed=4)
    direct = TransformerPolicy.load(made, dtype="float32", device="cpu")
    folder = TransformerPolicy.load("folder", dtype="float32", device="cpu")
    assert direct.generate(["a", "ab a"], 3, sampling) == folder.generate(["a", "ab a"], 3, sampling)
    assert folder.codec.ends == (1, 2)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-8]), "holds .* weights, and its header asks for"),
        (lambda path: path.write_bytes(b"\0" * 40), "its header is"),
        (lambda path: path.with_name("tokenizer.bin").unlink(), "has no tokenizer beside it"),
        (lambda path: path.with_name("tokenizer.bin").write_bytes(b"abcd" * 9), "is no tokenizer of 265 pieces"),
    ],
)
def test_what_is_wrong_is_said(made: Path, damage, said: str) -> None:
    damage(made / "model.bin")
    with pytest.raises(PolicyError, match=said):
        llama2c.read(made / "model.bin")


@real
def test_the_real_model_tells_a_story() -> None:
    policy = TransformerPolicy.load(STORIES, dtype="float32", device="cpu")
    tokens = policy.encode(["Once upon a time, there was"])[0]
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([tokens])).logits[0].numpy()
    assert_float32_close(logits, numpy_logits(STORIES / "stories260K.bin", tokens))
    (story,) = policy.generate(["Once upon a time"], 1, Sampling(max_new_tokens=60, temperature=0))[0]
    assert story.startswith(", there was a little girl named Lily. She loved to play outside in the park.")


@real
def test_what_is_sampled_by_default_is_what_training_says() -> None:
    policy = TransformerPolicy.load(STORIES)
    rollout = policy.rollout(["Once upon a time", "Lily"], 16, Sampling(48, seed=3))
    with torch.no_grad():
        said = policy.logprobs(rollout).logprobs
    assert_float32_close(said * rollout.mask, rollout.logprobs * rollout.mask, rtol=BFLOAT16)
