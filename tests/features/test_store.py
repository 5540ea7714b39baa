from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tacit.errors import FeatureError
from tacit.features import FeatureStore, text_keys
from tacit.features import store as store_module


class Counting:
    """Three numbers from each text, and a list of every text it was ever asked for."""

    name, dim, fingerprint = "counting", 3, "c0ffee"

    def __init__(self, value: float = 1.0) -> None:
        self.asked: list[tuple[str, str]] = []
        self.value = value

    def encode(self, texts: Sequence[tuple[str, str]]) -> np.ndarray:
        self.asked.extend(texts)
        return np.array([[len(p), len(c), self.value] for p, c in texts], np.float32).reshape(-1, 3)

    def config(self) -> dict:
        return {"name": self.name}


def some_texts(count: int) -> list[tuple[str, str]]:
    return [("p" * (number % 7), "c" * number) for number in range(count)]


def test_keys_are_blake2b_of_length_prompt_completion_and_do_not_run_together() -> None:
    keys = text_keys([("ab", "c"), ("a", "bc"), ("", "abc"), ("ab", "c"), ("é", "\ud800")])
    assert keys.view("V16")[0].tobytes() == hashlib.blake2b(b"2:abc", digest_size=16).digest()
    assert keys[0] == keys[3]
    assert len(np.unique(keys)) == 4


@pytest.mark.parametrize("on_disk", [False, True])
def test_no_text_is_encoded_twice_and_rows_come_back_in_order(on_disk: bool, tmp_path: Path) -> None:
    encoder, texts = Counting(), some_texts(700)
    store = FeatureStore(encoder, tmp_path if on_disk else None)
    wanted = texts[::-1] + texts[100:300]
    vectors = store.features(wanted)
    np.testing.assert_array_equal(vectors[:, 1], [len(completion) for _, completion in wanted])
    np.testing.assert_array_equal(vectors[:, 0], [len(prompt) for prompt, _ in wanted])
    store.features(texts)
    assert len(encoder.asked) == len(set(encoder.asked)) == 700
    assert len(store) == 700
    assert store.missing([*texts, ("new", "text"), ("new", "text")]) == 1


def test_unique_keeps_order_of_first_appearance() -> None:
    store = FeatureStore(Counting())
    vectors, index = store.unique([("", "ccc"), ("", "a"), ("", "ccc"), ("", "bb")])
    assert vectors[:, 1].tolist() == [3, 1, 2]
    assert index.tolist() == [0, 1, 0, 2]


def test_no_texts_give_no_rows(tmp_path: Path) -> None:
    assert FeatureStore(Counting(), tmp_path).features([]).shape == (0, 3)


def test_another_store_on_the_same_folder_finds_everything(tmp_path: Path) -> None:
    first, second, texts = Counting(), Counting(), some_texts(600)
    early = FeatureStore(second, tmp_path)
    before = FeatureStore(first, tmp_path).features(texts)
    np.testing.assert_array_equal(early.features(texts), before)  # opened before the shards were there
    assert second.asked == []


def test_other_fingerprints_do_not_meet(tmp_path: Path) -> None:
    other = Counting(value=2.0)
    other.fingerprint = "decaf"
    FeatureStore(Counting(), tmp_path).features(some_texts(3))
    assert FeatureStore(other, tmp_path).features(some_texts(3))[:, 2].tolist() == [2, 2, 2]


def test_large_results_are_memory_mapped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "_IN_MEMORY_BYTES", 100)
    vectors = FeatureStore(Counting(), tmp_path).features(some_texts(50))
    assert isinstance(vectors, np.memmap)
    np.testing.assert_array_equal(vectors[:, 1], np.arange(50))
    assert {path.suffix for path in (tmp_path / "c0ffee").iterdir()} == {".npy", ".json"}  # nothing left behind


def test_shards_grow_while_they_are_quick_and_stay_within_their_bytes(tmp_path: Path, monkeypatch) -> None:
    sizes: list[int] = []

    class Recording(Counting):
        def encode(self, texts: Sequence[tuple[str, str]]) -> np.ndarray:
            sizes.append(len(texts))
            return super().encode(texts)

    monkeypatch.setattr(store_module, "_FIRST_SHARD_ROWS", 10)
    monkeypatch.setattr(store_module, "_SHARD_BYTES", 12 * 35)
    FeatureStore(Recording(), tmp_path).features(some_texts(120))
    assert sizes == [10, 20, 35, 35, 20]


def test_a_damaged_shard_is_left_out_and_its_texts_encoded_again(tmp_path: Path, caplog) -> None:
    texts = some_texts(76)  # two shards: 32 and 44
    FeatureStore(Counting(), tmp_path).features(texts)
    shards = sorted((tmp_path / "c0ffee").glob("*.vectors.npy"), key=lambda path: path.stat().st_size)
    shards[1].write_bytes(shards[1].read_bytes()[:-7])
    encoder = Counting()
    vectors = FeatureStore(encoder, tmp_path).features(texts)
    assert len(encoder.asked) == 44
    np.testing.assert_array_equal(vectors[:, 1], np.arange(76))
    assert "damaged" in caplog.text


def test_vectors_without_keys_are_ignored_and_removed_after_a_day(tmp_path: Path) -> None:
    texts = some_texts(5)
    FeatureStore(Counting(), tmp_path).features(texts)
    folder = tmp_path / "c0ffee"
    next(folder.glob("*.keys.npy")).unlink()
    orphan = next(folder.glob("*.vectors.npy"))
    temporary = folder / ".shard-1.vectors.npy.tacit-0a1b2c3d"  # what a killed process was writing
    temporary.mkdir()
    (temporary / "half").write_bytes(b"half")
    encoder = Counting()
    FeatureStore(encoder, tmp_path).features(texts)
    assert len(encoder.asked) == 5
    assert orphan.exists()  # it may be another process's shard in flight
    os.utime(orphan, (time.time() - 90_000,) * 2)
    FeatureStore(Counting(), tmp_path)
    assert not orphan.exists()
    assert not temporary.exists()
    assert len(list(folder.glob("*.vectors.npy"))) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_names_its_row_and_is_not_stored(bad: float, tmp_path: Path) -> None:
    class Broken(Counting):
        def encode(self, texts: Sequence[tuple[str, str]]) -> np.ndarray:
            vectors = super().encode(texts)
            vectors[vectors[:, 1] == 4, 2] = bad
            return vectors

    with pytest.raises(FeatureError, match=r"text 7 has a feature that is not finite.*'cccc'"):
        FeatureStore(Broken(), tmp_path).features([("", "")] * 2 + some_texts(9))
    assert len(FeatureStore(Counting(), tmp_path)) == 0


def test_a_wrong_shape_is_refused() -> None:
    class Short(Counting):
        def encode(self, texts: Sequence[tuple[str, str]]) -> np.ndarray:
            return super().encode(texts)[1:]

    with pytest.raises(FeatureError, match=r"gave shape \(1, 3\) for 2 texts of 3 dimensions"):
        FeatureStore(Short()).features([("", "a"), ("", "b")])


KILLED = """
import sys, time
sys.path.insert(0, {here!r})
from test_store import Counting, some_texts
from tacit.features import FeatureStore, store

class Slow(Counting):
    def encode(self, texts):
        if len(self.asked) >= 30:
            print("stuck", flush=True)
            time.sleep(60)
        return super().encode(texts)

store._FIRST_SHARD_ROWS, store._SHARD_SECONDS = 10, 0.0
FeatureStore(Slow(), {root!r}).features(some_texts(100))
"""


def test_kill_nine_loses_only_the_shard_in_flight(tmp_path: Path) -> None:
    code = KILLED.format(here=str(Path(__file__).parent), root=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "stuck"
        process.send_signal(signal.SIGKILL)
    encoder = Counting()
    store = FeatureStore(encoder, tmp_path)
    vectors = store.features(some_texts(100))
    assert len(encoder.asked) == 70
    np.testing.assert_array_equal(vectors[:, 1], np.arange(100))


def test_two_processes_fill_one_store_without_harm(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_store import Counting, some_texts\nfrom tacit.features import FeatureStore, store\n"
        f"store._FIRST_SHARD_ROWS = 5\nFeatureStore(Counting(), {str(tmp_path)!r}).features(some_texts(400))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    encoder = Counting()
    vectors = FeatureStore(encoder, tmp_path).features(some_texts(400))
    assert encoder.asked == []
    np.testing.assert_array_equal(vectors[:, 1], np.arange(400))
