from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import FeatureError
from tacit.features import encoder_from_config, hashed, load_encoder
from tacit.features.hashed import HashedEncoder, _Buffer

ENCODER = HashedEncoder()
TEXTS = [
    ("How do I boil an egg?", "Put it in boiling water for seven minutes."),
    ("", ""),
    ("", "a"),
    ("Ünïcödé ☃", "日本語 naïve \ud800"),
    ("x " * 3000, "- one\n- two\n\n1. three! four? (five)"),
]
WORDS = slice(0, hashed.COMPLETION_WORDS)


def test_shape_type_and_name() -> None:
    vectors = ENCODER.encode(TEXTS)
    assert vectors.shape == (5, 512)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert ENCODER.encode([]).shape == (0, 512)
    assert encoder_from_config(ENCODER.config()).fingerprint == ENCODER.fingerprint


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=6))
def test_rows_are_the_same_bit_for_bit_alone_in_any_order_and_in_any_chunk(texts: list[tuple[str, str]]) -> None:
    together = ENCODER.encode(texts)
    assert np.isfinite(together).all()
    np.testing.assert_array_equal(np.concatenate([ENCODER.encode([text]) for text in texts]), together)
    np.testing.assert_array_equal(ENCODER.encode(texts[::-1])[::-1], together)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashed, "_CHUNK_BYTES", 30)
        np.testing.assert_array_equal(ENCODER.encode(texts), together)


def test_another_process_gives_the_same_bytes() -> None:
    code = (
        "import sys, tacit.features as f; v = f.load_encoder('hashed').encode([('a question', 'an answer, 42!')]);"
        "sys.stdout.write(v.tobytes().hex())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there == ENCODER.encode([("a question", "an answer, 42!")]).tobytes().hex()


def test_words_are_found_at_letters_digits_and_row_borders() -> None:
    buffer = _Buffer(["The cat-sat 42", "cat", "", "sat the"])
    words = buffer.words()
    assert words.row.tolist() == [0, 0, 0, 0, 1, 3, 3]
    the, cat, sat, number, cat_again, sat_again, the_again = words.code.tolist()
    assert (the, cat, sat) == (the_again, cat_again, sat_again)
    assert len({the, cat, sat, number}) == 4


def test_run_code_is_the_polynomial_of_the_docstring() -> None:
    text = b"xxabc"
    total = sum((byte + 1) * hashed._MULTIPLIER**place for place, byte in enumerate(text[2:])) % (1 << 64)
    expected = hashed._mix(np.array([total], np.uint64))
    code = _Buffer([text.decode()]).run_codes(np.array([2]), np.array([5]))
    np.testing.assert_array_equal(code, expected)


@pytest.mark.statistical
def test_inner_products_are_those_of_the_log_counts() -> None:
    # E<z, z'> = <w, w'>: the mean over 300 pairs of texts with known overlap. Each text has 8 words, 4 of them shared,
    # in an order that shares no pair of neighbours, so its 15 features (8 words, 7 pairs) share 4: cosine 4 / 15.
    rng = np.random.default_rng(0)
    names = [f"w{number}" for number in rng.permutation(300 * 12)]
    left, right = [], []
    for at in range(0, len(names), 12):
        shared, own, other = names[at : at + 4], names[at + 4 : at + 8], names[at + 8 : at + 12]
        left.append(("", " ".join(word for pair in zip(shared, own, strict=True) for word in pair)))
        right.append(("", " ".join(word for pair in zip(other, shared, strict=True) for word in pair)))
    a, b = ENCODER.encode(left)[:, WORDS], ENCODER.encode(right)[:, WORDS]
    products = (a * b).sum(1)
    standard_error = products.std() / math.sqrt(len(products))
    assert abs(products.mean() - 4 / 15) < 4 * standard_error
    assert standard_error < 0.01
    assert abs((a * a).sum(1).mean() - 1) < 0.03


def test_statistics_by_hand() -> None:
    vector = ENCODER.encode([("red cat", "Cat sat. Cat!")])[0, -hashed.STATISTICS :]
    # 13 bytes, 3 words of which 2 distinct, 1 of them in the prompt of 7 bytes and 2 words; 2 capitals, 2 spaces.
    expected = [
        math.log(14) / 5, math.log(4) / 4, math.log(8) / 5, math.log(3) / 4, 13 / 21, 13 / 3 / 6, 2 / 3, 1 / 2,
        0, 0, 5 * 2 / 13, 0, 0, 5 * 2 / 13,
    ]  # fmt: skip
    np.testing.assert_allclose(vector[: len(expected)], expected, rtol=1e-6)
    marks = dict(zip(hashed._PUNCTUATION.decode(), vector[len(expected) : -2], strict=True))
    assert marks["."] == pytest.approx(math.log(2) / 2)
    assert marks["!"] == pytest.approx(math.log(2) / 2)
    assert sum(map(abs, marks.values())) == pytest.approx(math.log(2))
    assert vector[-2:].tolist() == [1, 0]


def test_prompt_and_completion_are_kept_apart() -> None:
    one, other = ENCODER.encode([("apples", "pears"), ("pears", "apples")])
    assert np.abs(one - other).max() > 0.1
    assert not np.array_equal(ENCODER.encode([("", "a b c")])[0, WORDS], ENCODER.encode([("", "c b a")])[0, WORDS])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hashd", "there is no encoder `hashd`"),
        ("hashed?dim=3", "takes no options"),
        ("", "there is no encoder"),
        ("hf:somewhere?pool=max", "unknown option `pool=max`"),
        ("hf:somewhere?max_length=0", "unknown option `max_length=0`"),
        ("hf:no/such/folder", "holds no config.json"),
    ],
)
def test_wrong_names_say_what_would_be_right(name: str, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        load_encoder(name)
