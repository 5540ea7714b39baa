"""Encoders of one's own and arrays of vectors: a saved reward finds its encoder again, or says which object to give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.errors import ArtefactError, TacitError
from tacit.evidence import Comparison, Evidence, Rating, Steps
from tacit.features.arrays import PrecomputedEncoder, read_precomputed
from tacit.rewards.combination import Part, WeightedSum
from tacit.rewards.controls import InvertedReward, LengthReward

PAIRS = [
    Comparison(prompt=f"q{i % 20}", chosen=f"thank you {i}", rejected=f"NO {i}", annotator=f"w{i % 6}")
    for i in range(120)
]
ASKED = (["q1", "q2", ""], ["thank you", "NO", "something else"])


class Counts:
    """An encoder of one's own: how often some letters occur."""

    name = "letter counts"
    dim = 8
    fingerprint = "letters-1"

    def encode(self, texts: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([[text.count(letter) for letter in "thanNOyu"] for _, text in texts], np.float32)

    def config(self) -> dict[str, Any]:
        return {"encoder": "mine", "name": self.name, "dim": self.dim, "fingerprint": self.fingerprint}


class Others(Counts):
    name = "other counts"
    fingerprint = "letters-2"


def rewards() -> dict[str, Any]:
    ratings = [Rating(prompt=f"q{i % 20}", completion=f"text {i}", score={"a": i % 5, "b": i % 3}) for i in range(90)]
    steps = [Steps(prompt=f"q{i}", completions=[f"a {i}", f"b {i}"], labels=[True, i % 2 == 0]) for i in range(60)]

    def fitted(model: str, records: Any = PAIRS, **options: Any) -> Any:
        return tacit.fit(Evidence.from_records(records), model=model, encoder=Counts(), **options)

    scalar = fitted("scalar")
    return {
        "scalar": scalar,
        "pessimistic": fitted("scalar", members=2, pessimism="min"),
        "mean_variance": fitted("mean_variance"),
        "pairwise": fitted("pairwise"),
        "boosted": fitted("boosted"),
        "attributes": fitted("attributes", ratings),
        "process": fitted("process", steps),
        "prefix": fitted("prefix"),
        "decomposed": fitted("decomposed"),
        "inverted": InvertedReward(scalar),
        "sum": WeightedSum([Part(scalar, 1.0), Part(LengthReward(), 0.1)]),
    }


def test_an_encoder_of_ones_own_is_given_to_load(tmp_path: Path) -> None:
    for name, reward in rewards().items():
        expected = reward.score(*ASKED)
        reward.save(tmp_path / name)
        with pytest.raises(
            ArtefactError, match=r"an encoder of your own, `letter counts`. Give that object: tacit.load"
        ):
            tacit.load(tmp_path / name)
        with pytest.raises(ArtefactError, match=r"`other counts` is not it"):
            tacit.load(tmp_path / name, encoder=Others())
        again = tacit.load(tmp_path / name, encoder=Counts())
        np.testing.assert_array_equal(again.score(*ASKED), expected, err_msg=name)
    card = (tmp_path / "scalar" / "README.md").read_text()
    assert 'tacit.load("this folder", encoder=the encoder that it was fitted on)' in card


def test_vectors_in_memory_are_an_encoder_of_ones_own(tmp_path: Path) -> None:
    texts = [(p.prompt, text) for p in PAIRS for text in (p.chosen, p.rejected)]
    encoder = PrecomputedEncoder(texts, Counts().encode(texts))
    reward = tacit.fit(PAIRS, encoder=encoder)
    reward.save(tmp_path / "r")
    with pytest.raises(ArtefactError, match=r"encoder of your own, `array:memory`"):
        tacit.load(tmp_path / "r")
    asked = ([texts[0][0]], [texts[0][1]])
    np.testing.assert_array_equal(tacit.load(tmp_path / "r", encoder=encoder).score(*asked), reward.score(*asked))


def test_an_encoder_that_nothing_was_fitted_on_is_refused(tmp_path: Path) -> None:
    tacit.fit(PAIRS, encoder="hashed").save(tmp_path / "r")
    LengthReward().save(tmp_path / "length")
    for name in ("r", "length"):
        with pytest.raises(TacitError, match="not fitted on the encoder `letter counts`"):
            tacit.load(tmp_path / name, encoder=Counts())
    assert tacit.load(tmp_path / "r", encoder="hashed").score(*ASKED).shape == (3,)


def test_an_array_of_other_texts_by_the_same_model_is_taken(tmp_path: Path) -> None:
    """The road of embedding research: vectors of the test set lie in a file of their own."""
    texts = {f"{name} {i}": [i % 7, len(name), 1.0] for i in range(30) for name in ("good", "bad")}
    np.savez(tmp_path / "train.npz", vectors=np.array(list(texts.values()), np.float32), texts=list(texts))
    np.savez(tmp_path / "test.npz", vectors=np.array([[3, 4, 1.0]], np.float32), texts=["never seen"])
    np.savez(tmp_path / "other.npz", vectors=np.array([[3, 4]], np.float32), texts=["never seen"])
    pairs = [Comparison(chosen=f"good {i}", rejected=f"bad {i}") for i in range(30)]
    reward = tacit.fit(pairs, encoder=f"array:{tmp_path / 'train.npz'}")
    reward.save(tmp_path / "r")
    with pytest.raises(TacitError, match="has no vector for 1 of 1 texts"):
        tacit.load(tmp_path / "r").score([""], ["never seen"])
    again = tacit.load(tmp_path / "r", encoder=f"array:{tmp_path / 'test.npz'}")
    assert again.score([""], ["never seen"])[0] == pytest.approx(reward.score([""], ["good 3"])[0])
    with pytest.raises(ArtefactError, match=r"vectors of 3 numbers, and .* gives 2"):
        tacit.load(tmp_path / "r", encoder=f"array:{tmp_path / 'other.npz'}")
    with pytest.raises(ArtefactError, match="vectors of 3 numbers"):
        tacit.load(tmp_path / "r", encoder="hashed")


def test_vectors_by_ids_of_items_are_found_again(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=Counts().encode([("", t) for t in ("thanks", "NO")]), ids=[7, 8])
    (tmp_path / "items.csv").write_text("joke,words\n7,thanks\n8,NO\n")
    where = {"file": str(tmp_path / "items.csv"), "columns": {"id": "joke", "text": "words"}}
    encoder = read_precomputed(tmp_path / "v.npz", items={"7": "thanks", "8": "NO"}, items_from=where)
    pairs = [Comparison(prompt=f"q{i}", chosen="thanks", rejected="NO") for i in range(9)]
    reward = tacit.fit(pairs, encoder=encoder)
    reward.save(tmp_path / "r")
    assert json.loads((tmp_path / "r" / "reward.json").read_text())["encoder"]["items"] == where
    asked = (["q", ""], ["thanks", "NO"])
    np.testing.assert_array_equal(tacit.load(tmp_path / "r").score(*asked), reward.score(*asked))
    alone = read_precomputed(tmp_path / "v.npz", items={"7": "thanks", "8": "NO"})
    tacit.fit(pairs, encoder=alone).save(tmp_path / "alone")
    with pytest.raises(ArtefactError, match="encoder of your own"):
        tacit.load(tmp_path / "alone")
