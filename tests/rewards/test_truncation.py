"""What an encoder does not read of evidence is counted: by `check`, and by `fit`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.evidence import Comparison, Evidence, Outcome, Problem, Record
from tacit.features import load_encoder
from tacit.features.arrays import PrecomputedEncoder
from tacit.features.hashed import HashedEncoder
from tacit.rewards import truncation as module
from tacit.rewards.truncation import numbered, truncation, without_vector

WORDS = "the quick brown fox jumps over a lazy dog "


def pair(i: int, chosen: str, rejected: str) -> Comparison:
    return Comparison(prompt=f"question {i}", chosen=chosen, rejected=rejected)


class Letters(HashedEncoder):
    """An encoder that reads the first letters of an answer."""

    name = "letters"
    max_length = 100

    def cuts(self, texts: Any) -> np.ndarray:
        return np.array([len(text) > self.max_length for _, text in texts])

    def token_ids(self, texts: Any) -> list[list[int]]:
        return [[ord(letter) for letter in text[: self.max_length]] for _, text in texts]


LONG = "x" * 99
PAIRS = [
    pair(1, "short", "shorter still"),
    pair(2, f"{LONG}ab yes", f"{LONG}ab no"),  # equal for the first hundred letters
    pair(3, f"{LONG}a yes", f"{LONG}b no"),  # different in the last letter that is read
    pair(4, f"{LONG}ab yes", "no"),
    pair(5, f"{LONG}ab yes", f"{LONG}ab yes"),  # equal anyway: another finding
]


def test_texts_that_are_cut_and_pairs_that_become_equal_by_it() -> None:
    found = truncation(Letters(), numbered(PAIRS))
    assert found is not None
    assert (found.texts, found.cut, found.equal, found.rows, found.whole) == (10, 7, 1, [2], True)
    first, second = found.findings()
    assert first.reason.startswith("7 of 10 texts are longer than the 100 tokens that encoder `letters` reads")
    assert "--encoder hf:FOLDER?max_length=N" in first.mend
    assert (second.rows, second.count, second.level) == ([2], 1, "warning")


def test_nothing_is_said_where_nothing_is_cut() -> None:
    assert truncation(load_encoder("hashed"), numbered(PAIRS)) is None
    found = truncation(Letters(), numbered([pair(1, "a", "b"), Outcome(prompt="p", completion="c", label=True)]))
    assert found is not None
    assert found.findings() == []
    empty = truncation(Letters(), numbered([Problem(prompt=LONG * 3, answer="4")]))
    assert empty is not None
    assert empty.texts == 0


def test_only_the_first_of_many_long_texts_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5000)
    monkeypatch.setattr(module, "_ROWS", 10)
    read = 0

    def rows() -> Iterator[tuple[int, Record]]:
        nonlocal read
        for i in range(10_000):
            read += 1
            yield i, PAIRS[1]

    found = truncation(Letters(), rows())
    assert found is not None
    assert (found.whole, found.cut, found.texts) == (False, found.texts, 60)
    assert read < 100
    assert "60 of the first 60 texts" in found.findings()[0].reason


def test_a_fit_says_so_in_its_report_whatever_the_model() -> None:
    evidence = [pair(i, f"{LONG}ab yes {i}", f"{LONG}ab no {i}") for i in range(30)]
    evidence += [pair(i, f"good {i}", f"bad {i}") for i in range(30)]
    for model in ("scalar", "pairwise", "prefix"):
        reward = tacit.fit(iter(evidence), model=model, encoder=Letters())
        assert (reward.report["truncated"]["cut"], reward.report["truncated"]["equal"]) == (60, 30)
        said = " ".join(reward.report["warnings"])
        assert "60 of 120 texts are longer than the 100 tokens" in said
        assert "30 comparisons have different answers that are equal as far as encoder `letters` reads" in said
    assert "truncated" not in tacit.fit(evidence, encoder="hashed").report


def test_texts_without_a_vector_are_an_error() -> None:
    encoder = PrecomputedEncoder(["a", "b", "c"], np.eye(3, dtype=np.float32), by="completion")
    (finding,) = without_vector(encoder, numbered([pair(1, "a", "b"), pair(2, "a", "z"), pair(3, "y", "x")]))
    assert (finding.level, finding.count, finding.rows) == ("error", 3, [2, 3])
    assert finding.reason == "3 of 6 texts have no vector in the encoder"
    assert without_vector(encoder, numbered([pair(1, "a", "c")])) == []
    assert without_vector(load_encoder("hashed"), numbered(PAIRS)) == []


def test_a_transformer_counts_its_own_tokens(bert_folder: Path) -> None:
    """Few letters, as many words as tokens, and what lies between: the tokenizer decides."""
    encoder: Any = load_encoder(f"hf:{bert_folder}?max_length=16")
    texts = [("", WORDS[:8]), ("", WORDS), ("", WORDS * 9), ("", "é" * 9), ("prompt " * 20, "end"), ("", "")]
    texts += [("", WORDS[:end]) for end in range(8, 42)]
    whole: Any = load_encoder(f"hf:{bert_folder}?max_length=60")
    expected = [len(ids) > 16 for ids in whole.token_ids(texts)]
    assert encoder.cuts(texts).tolist() == expected
    assert 0 < sum(expected) < len(texts)
    same = [pair(1, WORDS * 9 + "yes", WORDS * 9 + "no"), pair(2, WORDS, "other")]
    found = truncation(encoder, Evidence.from_records(same).rows())
    assert found is not None
    assert (found.equal, found.rows) == (1, [1])
