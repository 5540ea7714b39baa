"""The one-liners: votes on which of two is funnier, a vector for each, and a gold best-worst score."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np

from tacit.errors import TacitError
from tacit.evidence import Evidence, read
from tacit.features.arrays import PrecomputedEncoder


def one_liners(data: Path) -> tuple[Evidence, PrecomputedEncoder, dict[str, float]]:
    """Votes, an encoder that knows every one-liner, and the gold score by text.

    `data` is the folder described in the documentation, with `humour` and `embeddings-minilm`. Raises `TacitError`
    where these are absent.
    """
    source, vectors_of = data / "humour" / "items.dev.tsv.gz", data / "embeddings-minilm" / "humour-items.npz"
    for path in (source, vectors_of):
        if not path.is_file():
            raise TacitError(f"{data} holds no {path.relative_to(data)}. Give --data FOLDER")
    evidence = read(data / "humour" / "votes.dev.csv.gz", items=source)
    with gzip.open(source, "rt", encoding="utf-8", newline="") as lines:
        items = list(csv.DictReader(lines, delimiter="\t"))
    stored = np.load(vectors_of)
    row = {str(i): k for k, i in enumerate(stored["ids"])}
    by_text = {item["text"]: item for item in items}
    vectors = stored["emb"][[row[item["id"]] for item in by_text.values()]]
    gold = {text: float(item["bws_score"]) for text, item in by_text.items()}
    return evidence, PrecomputedEncoder([("", text) for text in by_text], vectors), gold
