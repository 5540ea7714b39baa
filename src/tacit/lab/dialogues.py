"""Dialogues of HH (Bai et al. 2022): which of two last answers was more helpful, or less harmful, and their vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tacit.conversation import texts
from tacit.errors import TacitError
from tacit.evidence import Comparison, Evidence, read
from tacit.features.arrays import PrecomputedEncoder


def dialogues(data: Path, *names: str) -> tuple[Evidence, PrecomputedEncoder]:
    """Comparisons of the splits `names` (helpful, harmless) together, but for the few whose sides are equal, and an
    encoder that knows every answer.

    `data` is the folder described in the documentation, with `hh-rlhf` and `embeddings-minilm`. Raises `TacitError`
    where these are absent.
    """
    sound: list[Comparison] = []
    known: dict[tuple[str, str], np.ndarray] = {}
    for name in names:
        source = data / "hh-rlhf" / f"{name}-base.test.jsonl.gz"
        stored = data / "embeddings-minilm" / f"hh-{name}-base-lastturn.npz"
        for path in (source, stored):
            if not path.is_file():
                raise TacitError(f"{data} holds no {path.relative_to(data)}. Give --data FOLDER")
        vectors = np.load(stored)
        chosen, rejected = vectors["chosen"], vectors["rejected"]
        for i, record in enumerate(read(source)):
            assert isinstance(record, Comparison)
            if record.chosen != record.rejected:
                sound.append(record)
            known[texts(record.prompt, record.chosen)] = chosen[i]
            known[texts(record.prompt, record.rejected)] = rejected[i]
    return Evidence.from_records(sound), PrecomputedEncoder(list(known), np.stack(list(known.values())))
