"""From prompts and completions to feature vectors, as every reward on text features does it; encoders by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tacit.array_files import ENDINGS
from tacit.artefacts import resolved
from tacit.conversation import Completion, Prompt, texts
from tacit.errors import TacitError
from tacit.features import Encoder, FeatureStore, load_encoder
from tacit.rewards.inputs import require_rows

_INSIDE = ("encoder", "inner", "of", "step", "prefix")
"""Where rewards hold their encoder, or the reward that they are made of."""


def open_encoder(
    name: str,
    *,
    items: str | Path | None = None,
    item_columns: Mapping[str, str] | None = None,
    data: str | Path | None = None,
) -> Encoder:
    """The encoder of that name, for certain evidence.

    Of `array:FILE` the ids stand for the texts of `items` (as in `tacit.read`), where evidence is read with them, and
    the axes are those of `data`, where it is an array of rewards itself. Raises as `load_encoder`.
    """
    if not name.removeprefix("array:") or not name.startswith("array:"):
        return load_encoder(name)
    from tacit.evidence.read import item_texts
    from tacit.evidence.reward_arrays import counts
    from tacit.features.arrays import read_precomputed

    texts = items_from = None
    if items is not None:
        texts = item_texts(items, item_columns or {})
        items_from = {"file": str(resolved(Path(items).expanduser())), "columns": dict(item_columns or {})}
    arrays = data is not None and Path(data).suffix in ENDINGS
    return read_precomputed(
        name.removeprefix("array:"),
        items=texts,
        items_from=items_from,
        counts=counts(data) if arrays and data is not None else None,
    )


def ids_of(model: object) -> Mapping[str, str] | None:
    """The ids by which an encoder, or that of a reward, knows its vectors, each as its own text; None for other ones.

    It is what `tacit.read` takes as `items` for evidence that names these ids.
    """
    ids: Mapping[str, str] | None = getattr(encoder_in(model), "ids", None)
    return ids


def encoder_in(model: object) -> object:
    """The encoder of a reward, or of the reward that it is made of; an encoder itself as it is."""
    inner = next((getattr(model, name) for name in _INSIDE if getattr(model, name, None) is not None), None)
    return model if inner is None else encoder_in(inner)


def require_vectors(data: str | Path, model: object, *, given: bool = True) -> None:
    """Raise `TacitError` where `data` is an array of rewards whose responses go by their numbers, and no vectors are
    `given` for it by the ids of `model`, an encoder or a reward: numbers are no texts to encode, and another array has
    other vectors under the same ones."""
    from tacit.evidence.reward_arrays import numbered

    if (
        Path(data).suffix in ENDINGS
        and Path(data).is_file()
        and numbered(data)
        and (not given or ids_of(model) is None)
    ):
        raise TacitError(
            f"{data} holds rewards of responses that go by their numbers. Give their vectors with --encoder array:FILE"
        )


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
