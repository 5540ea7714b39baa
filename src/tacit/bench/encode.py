"""Speed of encoding: `minilm` here against sentence-transformers' own `encode`, on the same weights and texts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tacit.bench.rollout import matmul_limit
from tacit.errors import MissingExtra, extra_installed
from tacit.features.encoders import load_encoder
from tacit.features.transformer import TransformerEncoder
from tacit.models.precision import multiplies_bfloat16

_WORDS = """
the a people answer question because reward learns from what others preferred and helpful kind short long write about
river music garden science history cooking travel numbers language model policy choose better reason why how maybe
clearly simple example first second finally however although instead really never always often sometimes
"""


def run(texts: int = 256, tokens: int = 100, rounds: int = 3, seed: int = 0) -> dict[str, Any]:
    """Encode random texts of about `tokens` tokens `rounds` times on each side, alternating, after a warm-up each.

    Returns medians of texts per second (`ours`, `theirs`, and `ours_bfloat16` where the device multiplies bfloat16
    natively), `ratio` and `ratio_bfloat16` to theirs (the median of the ratios within a round), `share_of_matmul_limit`
    (our float32 multiply-adds against those of a large torch matrix product on this machine), `largest_difference`
    between the two sides' vectors and the least cosine of bfloat16 with float32. Lengths vary by a third about their
    mean. Raises `MissingExtra` without sentence-transformers or the MiniLM weights.
    """
    if not extra_installed("sentence_transformers"):
        raise MissingExtra("minilm", "`bench encode`")
    encoder = load_encoder("minilm?layers=last")
    assert isinstance(encoder, TransformerEncoder)
    import torch
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(encoder.folder), device=encoder.device)
    rng = np.random.default_rng(seed)
    words = _WORDS.split()
    lengths = rng.integers(tokens - tokens // 3, tokens + tokens // 3 + 1, texts)
    sentences = [" ".join(rng.choice(words, length)) for length in lengths]
    pairs = [("", sentence) for sentence in sentences]

    def their_encode() -> np.ndarray:
        return np.asarray(theirs.encode(sentences, normalize_embeddings=True, show_progress_bar=False))

    sides: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: encoder.encode(pairs),
        "theirs": their_encode,
    }
    if encoder.device != "cpu" or multiplies_bfloat16():
        fast = load_encoder("minilm?layers=last&dtype=bfloat16")
        sides["ours_bfloat16"] = lambda: fast.encode(pairs)
    vectors = {side: encode() for side, encode in sides.items()}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, encode in sides.items():
            seconds[side].append(_timed(encode))
    result: dict[str, Any] = {
        "texts": texts,
        "mean_tokens": float(np.mean([len(ids) for ids in encoder.token_ids(pairs)])),
        "rounds": rounds,
        "device": encoder.device,
    }
    for side, times in seconds.items():
        result[side] = round(texts / statistics.median(times), 2)
    for side in [side for side in sides if side != "theirs"]:
        ratios = [other / mine for other, mine in zip(seconds["theirs"], seconds[side], strict=True)]
        result[side.replace("ours", "ratio")] = round(statistics.median(ratios), 3)
    flops = _multiply_adds_per_token(encoder) * result["mean_tokens"] * result["ours"]
    result["share_of_matmul_limit"] = round(flops / matmul_limit(torch.float32), 3)
    result["largest_difference"] = float(np.abs(vectors["ours"] - vectors["theirs"]).max())
    if "ours_bfloat16" in vectors:
        result["least_cosine_bfloat16"] = float((vectors["ours"] * vectors["ours_bfloat16"]).sum(1).min())
    return result


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _multiply_adds_per_token(encoder: TransformerEncoder) -> float:
    """Multiply-adds of the linear layers for one token: per layer 4 d^2 for attention, 2 d f for the feed-forward."""
    settings = encoder.settings
    hidden, inner, layers = (settings[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    return float(layers * (4 * hidden**2 + 2 * hidden * inner))
