"""From prompts and completions to feature vectors, as every reward on text features does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tacit.conversation import Completion, Prompt, texts
from tacit.features import Encoder, FeatureStore
from tacit.rewards.inputs import require_rows


def encode(
    encoder: Encoder, cache: Path | None, prompts: Sequence[Prompt], completions: Sequence[Completion]
) -> np.ndarray:
    """Vectors (n, d) float32; raises `TacitError` where there are not as many prompts as completions."""
    require_rows(prompts, completions)
    if len(prompts) == 0:
        return np.zeros((0, encoder.dim), np.float32)
    pairs = [texts(p, c) for p, c in zip(prompts, completions, strict=True)]
    return FeatureStore(encoder, cache).features(pairs)


def encode_two(
    encoder: Encoder,
    cache: Path | None,
    prompts: Sequence[Prompt],
    first: Sequence[Completion],
    second: Sequence[Completion],
) -> np.ndarray:
    """Vectors (n, 2, d) float32 of two completions of each prompt, each distinct text encoded once."""
    require_rows(prompts, first, second)
    vectors = encode(encoder, cache, [*prompts, *prompts], [*first, *second])
    return vectors.reshape(2, len(prompts), encoder.dim).swapaxes(0, 1)
