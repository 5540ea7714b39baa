from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tacit.array_files import (
    by_prompt,
    open_arrays,
    read_array,
    require_finite,
    rewards_by_prompt,
    rows_of,
    to_float32,
)
from tacit.errors import FeatureError
from tacit.features import FeatureStore, encoder_from_config, load_encoder
from tacit.features.arrays import PrecomputedEncoder, read_precomputed

VECTORS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # 2 prompts, 3 responses, 4 dimensions


def test_every_layout_becomes_prompts_responses_dim() -> None:
    responses_first = np.swapaxes(VECTORS, 0, 1).copy()
    for array in (VECTORS, responses_first, VECTORS.reshape(6, 4)):
        view = by_prompt(array, 2, 3)
        np.testing.assert_array_equal(view, VECTORS)
        assert np.shares_memory(view, array)
    rewards = VECTORS[..., 0]
    alone = (rewards[..., None], rewards.T.copy()[..., None], rewards.reshape(-1, 1))
    for array in (rewards, rewards.T.copy(), rewards.reshape(-1), *alone):
        np.testing.assert_array_equal(rewards_by_prompt(array, 2, 3), rewards)


def test_square_counts_need_the_order() -> None:
    square = np.arange(8.0).reshape(2, 2, 2)
    with pytest.raises(FeatureError, match="does not say which axis is which"):
        by_prompt(square, 2, 2)
    np.testing.assert_array_equal(by_prompt(square, 2, 2, order="prompts"), square)
    np.testing.assert_array_equal(by_prompt(square, 2, 2, order="responses"), np.swapaxes(square, 0, 1))
    assert by_prompt(np.ones((1, 1, 5)), 1, 1).shape == (1, 1, 5)


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 3, 4), (5, 4), (2, 3), (2, 3, 4, 1), (24,)])
def test_shapes_that_do_not_match_say_what_would(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        FeatureError, match=r"v\.npy: shape .* does not match 2 prompts with 3 responses.*\(3, 2, dim\)"
    ):
        by_prompt(np.ones(shape), 2, 3, source="v.npy")


def test_number_formats_read_the_same() -> None:
    numbers = np.array([[1.0, -2.5, 0.15625]], np.float32)  # exact in float16 and bfloat16
    as_bfloat16 = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    for array in (numbers, numbers.astype(np.float16), numbers.astype(np.float64), as_bfloat16):
        assert to_float32(array).dtype == np.float32
        np.testing.assert_array_equal(to_float32(array), numbers)


def test_npy_is_memory_mapped_and_npz_found_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    assert isinstance(read_array(tmp_path / "v.npy"), np.memmap)
    np.savez(tmp_path / "v.npz", emb=VECTORS, ids=np.arange(2))
    np.testing.assert_array_equal(read_array(tmp_path / "v.npz"), VECTORS)
    with pytest.raises(FeatureError, match=r"holds \['emb', 'ids'\], none of which is `x`"):
        read_array(tmp_path / "v.npz", "x")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="there is no file"):
        read_array(tmp_path / "none.npy")
    (tmp_path / "junk.npy").write_bytes(b"junk")
    with pytest.raises(FeatureError, match="cannot be read"):
        read_array(tmp_path / "junk.npy")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(FeatureError, match="cannot be read"):
        read_array(tmp_path / "o.npy")
    np.save(tmp_path / "i.npy", np.arange(3))
    with pytest.raises(FeatureError, match="holds int64, not feature vectors"):
        read_array(tmp_path / "i.npy")


def test_not_finite_names_the_row() -> None:
    vectors = VECTORS.reshape(6, 4).copy()
    require_finite(vectors)
    vectors[4, 2] = np.nan
    with pytest.raises(FeatureError, match="row 5 has a feature that is not finite"):
        require_finite(vectors, "v.npy")
    encoder = PrecomputedEncoder([str(row) for row in range(6)], vectors)
    assert encoder.encode([("", "3")]).shape == (1, 4)
    with pytest.raises(FeatureError, match="row 5 has a feature that is not finite"):
        encoder.encode([("", "3"), ("", "4")])


def test_lookup_by_rendered_text_through_the_store(tmp_path: Path) -> None:
    texts = [("p", "a"), ("p", "b"), ("", "c")]
    encoder = PrecomputedEncoder(texts, VECTORS.reshape(6, 4)[:3].astype(np.float16))
    found = FeatureStore(encoder, tmp_path).features([("", "c"), ("p", "a"), ("", "c")])
    np.testing.assert_array_equal(found, VECTORS.reshape(6, 4)[[2, 0, 2]])
    with pytest.raises(FeatureError, match=r"no vector for 1 of 2 texts, the first being 'p\\n\\nz'"):
        encoder.encode([("p", "a"), ("p", "z")])


def test_rows_must_match_texts_and_texts_must_agree() -> None:
    rows = VECTORS.reshape(6, 4)
    with pytest.raises(FeatureError, match=r"shape \(6, 4\) do not match 5 texts"):
        PrecomputedEncoder(["a"] * 5, rows)
    with pytest.raises(FeatureError, match="rows 2 and 4 have the same text but different vectors"):
        PrecomputedEncoder(["a", "b", "c", "b", "d", "e"], rows)
    assert PrecomputedEncoder(["a", "a"], rows[[0, 0]]).encode([("", "a")]).shape == (1, 4)


def test_files_as_encoders(tmp_path: Path) -> None:
    rows = VECTORS.reshape(6, 4)
    prompts, completions = np.array(["x", "y"]), np.array([["a", "b", "c"], ["d", "e", "f"]])
    wanted = [("y", "d"), ("x", "b")]
    np.savez(tmp_path / "pr.npz", vectors=VECTORS, prompts=prompts, completions=completions)
    np.savez(tmp_path / "rp.npz", vectors=np.swapaxes(VECTORS, 0, 1), prompts=prompts, completions=completions)
    np.savez(tmp_path / "texts.npz", emb=rows, texts=["x\n\na", "x\n\nb", "x\n\nc", "y\n\nd", "y\n\ne", "y\n\nf"])
    np.savez(tmp_path / "flat.npz", features=rows, prompts=np.repeat(prompts, 3), completions=completions.reshape(-1))
    np.save(tmp_path / "beside.npy", rows)
    pairs = [(str(prompts[i]), str(completions[i, j])) for i in range(2) for j in range(3)]
    lines = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in pairs]
    lines[1] = json.dumps("x\n\nb")
    (tmp_path / "beside.texts.jsonl").write_text("\n".join(lines))
    prints = []
    for name in ("pr.npz", "rp.npz", "texts.npz", "flat.npz", "beside.npy"):
        encoder = load_encoder(f"array:{tmp_path / name}")
        np.testing.assert_array_equal(encoder.encode(wanted), rows[[3, 1]])
        prints.append(encoder.fingerprint)
        assert encoder_from_config(encoder.config()).fingerprint == encoder.fingerprint
    assert len(set(prints)) == 1
    before = load_encoder(f"array:{tmp_path / 'beside.npy'}").config()
    np.save(tmp_path / "beside.npy", rows + 1)
    with pytest.raises(FeatureError, match="not the one this was fitted with"):
        encoder_from_config(before)


def test_ids_stand_for_texts(tmp_path: Path) -> None:
    np.savez(tmp_path / "ids.npz", emb=VECTORS.reshape(6, 4).astype(np.float16), ids=np.arange(10, 16))
    encoder = load_encoder(f"array:{tmp_path / 'ids.npz'}")
    np.testing.assert_array_equal(encoder.encode([("", "12")])[0], VECTORS.reshape(6, 4)[2])


def test_files_without_their_texts(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=VECTORS.reshape(6, 4))
    with pytest.raises(FeatureError, match="no texts to find vectors by"):
        load_encoder(f"array:{tmp_path / 'v.npz'}")
    np.save(tmp_path / "v.npy", VECTORS.reshape(6, 4))
    with pytest.raises(FeatureError, match=r"needs its texts in v\.texts\.jsonl"):
        load_encoder(f"array:{tmp_path / 'v.npy'}")
    (tmp_path / "v.texts.jsonl").write_text('"a"\n{"prompt": "b"}\n')
    with pytest.raises(FeatureError, match="row 2: not a JSON string"):
        load_encoder(f"array:{tmp_path / 'v.npy'}")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"texts": np.array("one")}, "`texts` holds <U3 of shape .*. Give texts, as an array of 1 or 2 axes"),
        ({"texts": np.array([1.5, 2.5])}, "`texts` holds float64"),
        ({"texts": np.array([b"a", b"\xff"])}, "`texts` holds a text that is not UTF-8"),
        ({"completions": np.array(["a", "b"]), "prompts": np.array([["p"], ["q"]])}, "`prompts` holds <U1 of shape"),
        ({"completions": np.array(["a", "b"]), "prompts": np.array("p")}, "`prompts` holds <U1 of shape"),
        ({"completions": np.array([True, False])}, "`completions` holds bool"),
    ],
)
def test_arrays_that_are_no_texts_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", vectors=np.ones((2, 3), np.float32), **arrays)
    with pytest.raises(FeatureError, match=said):
        read_precomputed(tmp_path / "a.npz")


def test_texts_kept_as_bytes_are_read_as_utf_8(tmp_path: Path) -> None:
    texts = np.array(["café".encode(), b"tea"])
    np.savez(tmp_path / "a.npz", vectors=np.eye(2, dtype=np.float32), texts=texts)
    assert read_precomputed(tmp_path / "a.npz").encode([("", "café"), ("", "tea")]).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("seed", range(60))
def test_damaged_array_files_are_refused_or_read(tmp_path: Path, seed: int) -> None:
    """Bits flipped and bytes cut out of headers, archives and data: an error that names the file, or an array."""
    rng = random.Random(seed)
    path = tmp_path / rng.choice(["a.npy", "a.npz"])
    if path.suffix == ".npy":
        np.save(path, np.ones((4, 3), np.float32))
    else:
        rng.choice([np.savez, np.savez_compressed])(path, vectors=np.ones((4, 3), np.float32), texts=list("abcd"))
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 3])):
        start = rng.randrange(len(content))
        content[start : start + rng.choice([0, 1, 5])] = rng.randbytes(rng.choice([0, 1, 5]))
    path.write_bytes(content)
    try:
        kind, said = read_array(path).dtype.kind, str(path)
    except FeatureError as error:
        kind, said = "f", str(error)
    assert kind == "f"
    assert str(path) in said


# --- safetensors, large archives, ids, rows by number ---


def test_safetensors_are_mapped_and_bfloat16_is_read(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    rows = torch.from_numpy(VECTORS.reshape(6, 4))
    save_file(
        {"embeddings": rows.bfloat16(), "ids": torch.arange(6), "none": torch.zeros(0, 3)}, tmp_path / "v.safetensors"
    )
    array = read_array(tmp_path / "v.safetensors")
    assert isinstance(array, np.memmap)
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(to_float32(array), VECTORS.reshape(6, 4))  # whole numbers below 256 are exact
    found = open_arrays(tmp_path / "v.safetensors")
    assert isinstance(found, dict)
    assert found["none"].shape == (0, 3)
    assert load_encoder(f"array:{tmp_path / 'v.safetensors'}").encode([("any prompt", "2")]).tolist() == [
        [8, 9, 10, 11]
    ]


@pytest.mark.parametrize("keep", [0, 7, 8, 40, -1])
def test_a_safetensors_file_that_is_cut_off_is_refused(tmp_path: Path, keep: int) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"vectors": torch.ones(6, 4)}, tmp_path / "v.safetensors")
    (tmp_path / "v.safetensors").write_bytes((tmp_path / "v.safetensors").read_bytes()[:keep])
    with pytest.raises(FeatureError, match=r"v\.safetensors cannot be read"):
        read_array(tmp_path / "v.safetensors")


def test_large_arrays_of_an_archive_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.array_files._MAPPED_BYTES", 200)
    np.savez(tmp_path / "v.npz", vectors=VECTORS, few=np.arange(3), fortran=np.asfortranarray(VECTORS.reshape(6, 4)))
    np.savez_compressed(tmp_path / "c.npz", vectors=VECTORS)
    found = open_arrays(tmp_path / "v.npz")
    assert isinstance(found, dict)
    assert [isinstance(found[name], np.memmap) for name in ("vectors", "fortran", "few")] == [True, True, False]
    np.testing.assert_array_equal(found["vectors"], VECTORS)
    np.testing.assert_array_equal(found["fortran"], VECTORS.reshape(6, 4))
    np.testing.assert_array_equal(read_array(tmp_path / "c.npz"), VECTORS)


def test_ids_stand_for_the_texts_of_items_whatever_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "ids.npz"
    np.savez(path, emb=VECTORS.reshape(6, 4), ids=np.arange(10, 16))
    items = {"12": "a duck", "13": "a cow", "99": "no vector"}
    encoder = read_precomputed(path, items=items, items_from={"file": "items.csv"})
    np.testing.assert_array_equal(
        encoder.encode([("Tell a joke", "a cow"), ("", "a duck")]), VECTORS.reshape(6, 4)[[3, 2]]
    )
    assert encoder.ids is None
    assert encoder.config()["items"] == {"file": "items.csv"}
    again = encoder_from_config(encoder.config(), items=items)
    assert again.fingerprint == encoder.fingerprint
    with pytest.raises(FeatureError, match="goes by ids"):
        encoder_from_config(encoder.config())
    with pytest.raises(FeatureError, match=r"no vector for 1 of 1 texts, the first being 'no vector'"):
        encoder.encode([("", "no vector")])
    with pytest.raises(FeatureError, match=r"none of its ids, such as '10', is among the ids of --items, such as 'a'"):
        read_precomputed(path, items={"a": "b"})
    plain = read_precomputed(path)
    assert plain.ids is not None
    assert plain.ids["12"] == "12"
    with pytest.raises(FeatureError, match=r"It knows ids such as '10': give the texts behind them with --items"):
        plain.encode([("", "a duck")])


def test_ids_may_have_the_axes_of_prompts_and_responses(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", vectors=np.swapaxes(VECTORS, 0, 1), ids=[["a", "b", "c"], ["d", "e", "f"]])
    encoder = load_encoder(f"array:{tmp_path / 'i.npz'}")
    np.testing.assert_array_equal(encoder.encode([("", "d"), ("", "b")]), VECTORS.reshape(6, 4)[[3, 1]])
    np.savez(tmp_path / "flat.npz", vectors=VECTORS, ids=list("abcdef"))
    with pytest.raises(FeatureError, match=r"`ids` has one axis and the vectors of shape \(2, 3, 4\) have two of rows"):
        load_encoder(f"array:{tmp_path / 'flat.npz'}")


def test_rows_by_their_numbers(tmp_path: Path) -> None:
    rows, responses_first = VECTORS.reshape(6, 4), np.swapaxes(VECTORS, 0, 1)
    np.save(tmp_path / "flat.npy", rows)
    np.save(tmp_path / "pr.npy", VECTORS)
    np.save(tmp_path / "rp.npy", responses_first)
    flat = load_encoder(f"array:{tmp_path / 'flat.npy'}?ids=rows")
    np.testing.assert_array_equal(flat.encode([("p", "4"), ("q", "0")]), rows[[4, 0]])
    for name in ("pr.npy?ids=rows&order=prompts", "rp.npy?order=responses&ids=rows", "flat.npy?ids=rows&responses=3"):
        encoder = load_encoder(f"array:{tmp_path / name}")
        np.testing.assert_array_equal(encoder.encode([("any", "1/0"), ("", "0/2")]), rows[[3, 2]])
        again = load_encoder(encoder.name)
        assert again.fingerprint == encoder.fingerprint
    for name in ("pr.npy", "rp.npy", "flat.npy"):
        encoder = read_precomputed(tmp_path / name, counts=(2, 3))
        np.testing.assert_array_equal(encoder.encode([("any", "1/0"), ("", "0/2")]), rows[[3, 2]])
        assert load_encoder(encoder.name).fingerprint == encoder.fingerprint
    with pytest.raises(FeatureError, match=r"does not say whether prompts or responses come first.*order=responses"):
        load_encoder(f"array:{tmp_path / 'pr.npy'}?ids=rows")
    with pytest.raises(FeatureError, match=r"unknown option `order=rows`. Options are order=prompts\|responses"):
        load_encoder(f"array:{tmp_path / 'pr.npy'}?order=rows")
    with pytest.raises(FeatureError, match=r"shape \(2, 3, 4\) does not match 4 prompts with 3 responses"):
        read_precomputed(tmp_path / "pr.npy", counts=(4, 3))


def test_a_store_keeps_no_second_copy_of_vectors_that_exist(tmp_path: Path) -> None:
    encoder = PrecomputedEncoder(list("abcdef"), VECTORS.reshape(6, 4), source=None)
    store = FeatureStore(encoder, tmp_path / "cache")
    texts = [("", "b"), ("", "a"), ("", "b")]
    np.testing.assert_array_equal(store.features(texts), VECTORS.reshape(6, 4)[[1, 0, 1]])
    vectors, index = store.unique(texts)
    np.testing.assert_array_equal(vectors[index], VECTORS.reshape(6, 4)[[1, 0, 1]])
    assert len(vectors) == 2
    assert store.missing([("", "a"), ("", "z"), ("", "y"), ("", "z")]) == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory from /proc")
def test_an_array_of_a_hundred_thousand_vectors_is_not_loaded_whole(tmp_path: Path) -> None:
    """154 MB of vectors: opening, fingerprint and a thousand look-ups need a fraction of that."""
    mapped = np.lib.format.open_memmap(tmp_path / "v.npy", "w+", np.float32, (100_000, 384))
    mapped[:, 0] = np.arange(100_000)
    mapped.flush()
    code = f"""
import re
from pathlib import Path
from tacit.features import load_encoder
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
encoder = load_encoder("array:{tmp_path / "v.npy"}?ids=rows")
assert len(encoder.fingerprint) == 32
found = encoder.encode([("", str(i)) for i in range(0, 100_000, 100)])
assert found[:, 0].tolist() == list(range(0, 100_000, 100))
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100, done.stdout


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_read_from_the_file_whatever_the_axes(tmp_path: Path, order: str) -> None:
    whole = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float16)
    np.save(tmp_path / "v.npy", np.asarray(whole, order=order))
    mapped = read_array(tmp_path / "v.npy")
    rows = np.array([34, 0, 12, 12])
    np.testing.assert_array_equal(rows_of(mapped, rows), whole.reshape(35, 3)[rows])
    np.testing.assert_array_equal(
        rows_of(np.swapaxes(mapped, 0, 1), rows), np.swapaxes(whole, 0, 1).reshape(35, 3)[rows]
    )
    np.testing.assert_array_equal(rows_of(mapped[2], rows[1:2]), whole[2][[0]])
    assert rows_of(mapped, rows[:0]).shape == (0, 3)


def test_a_file_that_became_shorter_is_no_bus_error(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((100_000, 3), np.float32))
    encoder = load_encoder(f"array:{tmp_path / 'v.npy'}?ids=rows")
    (tmp_path / "v.npy").write_bytes((tmp_path / "v.npy").read_bytes()[:4096])
    with pytest.raises(FeatureError, match="has become shorter since it was opened"):
        encoder.encode([("", "99999")])
