"""The suite `real`: its intervals by hand, its features, and what the default encoder reaches on human votes."""

import numpy as np
import pytest

from numerics import assert_float32_close
from real_data import DATA
from tacit.bench import real
from tacit.evidence import Evidence
from tacit.evidence.records import Comparison
from tacit.features import load_encoder
from tacit.features.arrays import PrecomputedEncoder
from tacit.features.transformer import minilm_installed

needs_minilm = pytest.mark.skipif(not minilm_installed(), reason="the extra `minilm` is not installed")


def test_the_interval_knows_that_splits_share_their_data():
    # mean .02, variance .0001, t(.975, 2) = 4.30265: 4.30265 * sqrt((1/3 + .25) * .0001)
    assert real.corrected_interval([0.02, 0.01, 0.03]) == pytest.approx([0.02 - 0.032862, 0.02 + 0.032862], abs=1e-5)
    assert real.corrected_interval([0.02]) is None


def test_dialogues_are_encoded_by_their_last_turn():
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    long = Comparison(prompt=[*turns, {"role": "user", "content": "three"}], chosen="yes", rejected="no")
    known = real._known(Evidence.from_records([long, Comparison(prompt="p", chosen="a", rejected="b")]))
    short = list(known.values())
    assert [completion for _, completion in short] == ["yes", "no", "a", "b"]
    assert "three" in short[0][0]
    assert "one" not in short[0][0]
    assert short[2] == ("p", "a")
    assert len(known) == 4


@needs_minilm
def test_all_features_are_of_the_same_texts():
    texts = {("whole", f"answer {i}"): ("last", f"answer {i}") for i in range(3)}
    stored = PrecomputedEncoder(list(texts), np.arange(6, dtype=np.float32).reshape(3, 2))
    encoders = real._encoders(texts, stored, None)
    keys, said = list(texts), list(texts.values())
    assert_float32_close(encoders[real.DEFAULT].encode(keys), load_encoder("minilm").encode(said))
    assert_float32_close(encoders[real.ALL].encode(keys), load_encoder("minilm?layers=all").encode(said))
    np.testing.assert_array_equal(encoders[real.BOTH].encode(keys)[:, :2], stored.encode(keys))


@needs_minilm
@pytest.mark.slow
def test_the_default_reaches_people_better_than_sentence_vectors_do():
    if not (DATA / "humour").is_dir():
        pytest.skip(f"no humour data in {DATA}; set TACIT_DATA")
    evidence, stored, gold = real.one_liners(DATA)
    world = real.World("humour", evidence, real._encoders(real._known(evidence), stored, None), "item", gold)
    names = ("linear, sentence vectors", "linear, minilm")
    real_fits = {name: real.FITS[name] for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real, "FITS", real_fits)
        first, *controls, default = real._table(world, 10, 0)
    assert default["accuracy"] > 0.62
    assert default["spearman"] > 0.61
    assert default["accuracy_gain"] > 0.0
    assert default["spearman_gain_ci"][0] > 0.02
    assert first["ece_floor"] > 0
    ceiling = {row["reward"]: row["accuracy"] for row in controls}
    assert ceiling["length alone"] < default["accuracy"] < ceiling["the gold score"]
    assert default["ece_binned"] < default["ece_floor"] + 0.01
