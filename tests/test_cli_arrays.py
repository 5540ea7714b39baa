"""Vectors that were computed elsewhere, end to end as a user types it: by text, by id, and as bare arrays."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DIM = 6
TRUTH = np.array([2.0, -1.0, 0.5, 0.0, 0.0, 1.0])


def vectors_of(texts: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(texts, DIM)).astype(np.float32)


def votes(vectors: np.ndarray, count: int = 600) -> list[tuple[int, int]]:
    """Pairs of rows, the better one by the truth first."""
    rng, worth = random.Random(0), vectors @ TRUTH
    pairs = (rng.sample(range(len(vectors)), 2) for _ in range(count))
    return [(a, b) if worth[a] > worth[b] else (b, a) for a, b in pairs]


def accuracy(done: Any) -> float:
    assert done.code == 0, done.err
    return float(done.json["accuracy"])


def test_vectors_by_the_ids_of_items(tacit: Any) -> None:
    vectors = vectors_of(60)
    Path("jokes.csv").write_text("joke_id,joke\n" + "".join(f"{i + 100},joke number {i}\n" for i in range(60)))
    Path("votes.csv").write_text("winner,loser\n" + "".join(f"{a + 100},{b + 100}\n" for a, b in votes(vectors)))
    np.savez("emb.npz", embeddings=vectors.astype(np.float16), ids=np.arange(100, 160))
    items = ("--items", "jokes.csv", "--item-columns", "id=joke_id", "text=joke")
    fitted = tacit("fit", "votes.csv", *items, "--encoder", "array:emb.npz", "--out", "r", "--json", "--resamples", 20)
    assert accuracy(fitted) > 0.9
    assert accuracy(tacit("audit", "r", "votes.csv", *items, "--json", "--resamples", 20)) > 0.95
    # The reward takes texts, as any other.
    Path("rows.jsonl").write_text('{"prompt": "Tell a joke", "completion": "joke number 3"}\n')
    assert tacit("score", "r", "rows.jsonl", "--out", "s.jsonl").code == 0
    Path("new.jsonl").write_text('{"prompt": "Tell a joke", "completion": "a new joke"}\n')
    unknown = tacit("score", "r", "new.jsonl", "--out", "s.jsonl")
    assert unknown.code == 2
    assert "emb.npz has no vector for 1 of 1 texts, the first being 'a new joke'" in unknown.err
    Path("jokes.csv").unlink()
    gone = tacit("score", "r", "rows.jsonl", "--out", "s.jsonl")
    assert gone.code == 2
    assert "jokes.csv" in gone.err
    assert len(gone.err.splitlines()) == 1


def test_vectors_by_the_ids_that_the_data_holds(tacit: Any) -> None:
    vectors = vectors_of(60)
    Path("votes.csv").write_text("winner,loser\n" + "".join(f"{a},{b}\n" for a, b in votes(vectors)))
    np.savez("emb.npz", vectors=vectors, ids=np.arange(60))
    fitted = tacit("fit", "votes.csv", "--encoder", "array:emb.npz", "--out", "r", "--json", "--resamples", 20)
    assert accuracy(fitted) > 0.9
    assert accuracy(tacit("audit", "r", "votes.csv", "--json", "--resamples", 20)) > 0.95
    assert tacit("score", "r", "votes.csv", "--out", "s.jsonl").code == 0
    first = json.loads(Path("s.jsonl").read_text().splitlines()[0])
    assert first["score"] == pytest.approx(first["score_chosen"] - first["score_rejected"])
    Path("strange.csv").write_text("winner,loser\n3,77\n")
    done = tacit("audit", "r", "strange.csv")
    assert done.code == 2
    assert "no item has this id (found '77')" in done.err


def arrays(prompts: int, responses: int, seed: int, name: str = "") -> None:
    """The files that embedding research keeps: vectors in every layout, and rewards (prompts, responses, 1)."""
    import torch
    from safetensors.torch import save_file

    vectors = vectors_of(prompts * responses, seed).reshape(prompts, responses, DIM)
    np.save(f"gold{name}.npy", (vectors @ TRUTH)[..., None])
    np.save(f"prompts{name}.npy", vectors)
    np.save(f"responses{name}.npy", np.swapaxes(vectors, 0, 1).copy())
    np.save(f"flat{name}.npy", vectors.reshape(-1, DIM))
    save_file({"emb": torch.from_numpy(vectors).swapaxes(0, 1).contiguous()}, f"tensors{name}.safetensors")


@pytest.mark.parametrize("file", ["prompts{}.npy", "responses{}.npy", "flat{}.npy", "tensors{}.safetensors"])
def test_arrays_without_a_text(tacit: Any, file: str) -> None:
    arrays(60, 5, 1)
    arrays(20, 5, 2, "_test")
    train, test = f"array:{file.format('')}", f"array:{file.format('_test')}"
    fitted = tacit("fit", "gold.npy", "--encoder", train, "--out", "r", "--json", "--resamples", 20)
    assert accuracy(fitted) > 0.97
    assert (fitted.json["n_prompts"], fitted.json["n_items"]) == (12, 60)
    audited = tacit("audit", "r", "gold_test.npy", "--encoder", test, "--json", "--resamples", 20)
    assert accuracy(audited) > 0.97
    assert audited.json["n_prompts"] == 20
    ranked = tacit(
        *("fit", "gold.npy", "--kind", "ranking", "--encoder", train, "--out", "rr", "--json", "--resamples", 20)
    )
    assert accuracy(ranked) > 0.97
    scored = tacit("score", "r", "gold_test.npy", "--encoder", test, "--out", "s.jsonl")
    assert scored.code == 0, scored.err
    rows = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert (rows[7]["prompt"], rows[7]["completion"]) == ("1", "1/2")
    gold = np.load("gold_test.npy").reshape(-1)
    assert np.corrcoef(gold, [row["predicted_score"] for row in rows])[0, 1] > 0.99
    assert [row["score"] for row in rows] == pytest.approx(gold.tolist())


def test_numbers_of_rows_are_never_taken_for_texts_or_for_rows_of_another_array(tacit: Any) -> None:
    arrays(60, 5, 1)
    arrays(20, 5, 2, "_test")
    assert tacit("fit", "gold.npy", "--encoder", "array:prompts.npy", "--out", "r", "--resamples", 20).code == 0
    said = "holds rewards of responses that go by their numbers. Give their vectors with --encoder array:FILE"
    for tokens in (
        ("fit", "gold.npy", "--encoder", "hashed", "--out", "x"),
        ("fit", "gold.npy", "--out", "x"),
        ("audit", "r", "gold_test.npy"),
        ("score", "r", "gold_test.npy", "--out", "s.jsonl"),
        ("fit", "gold.npy", "--encoder", "array:prompts.npy", "--test-data", "gold_test.npy", "--out", "x"),
    ):
        done = tacit(*tokens)
        assert done.code == 2
        assert said in done.err, done.err
    wrong = tacit("audit", "r", "gold_test.npy", "--encoder", "array:prompts.npy")
    assert wrong.code == 2
    assert "shape (60, 5, 6) does not match 20 prompts with 5 responses each" in wrong.err
    swapped = tacit("fit", "prompts.npy", "--encoder", "array:prompts.npy", "--out", "x")
    assert "which are no rewards of responses" in swapped.err


def test_as_many_prompts_as_responses_need_the_order(tacit: Any) -> None:
    arrays(8, 8, 1)
    done = tacit("fit", "gold.npy", "--encoder", "array:responses.npy", "--out", "r")
    assert done.code == 2
    assert "does not say which axis is which" in done.err
    assert "?order=prompts" in done.err
    for name, order in (("responses", "responses"), ("prompts", "prompts")):
        tokens = ("fit", "gold.npy", "--encoder", f"array:{name}.npy?order={order}", "--out", name, "--json")
        assert accuracy(tacit(*tokens, "--resamples", 20)) > 0.9


def test_one_file_holds_vectors_texts_and_rewards(tacit: Any) -> None:
    vectors = vectors_of(200).reshape(40, 5, DIM)
    prompts = np.array([f"question {p}" for p in range(40)])
    completions = np.array([[f"answer {p} {r}" for r in range(5)] for p in range(40)])
    rewards = (vectors @ TRUTH)[..., None]
    np.savez(
        "all.npz", embeddings=np.swapaxes(vectors, 0, 1), prompts=prompts, completions=completions, rewards=rewards
    )
    done = tacit("fit", "all.npz", "--encoder", "array:all.npz", "--out", "r", "--json", "--resamples", 20)
    assert accuracy(done) > 0.97
    Path("rows.jsonl").write_text('{"prompt": "question 3", "completion": "answer 3 1"}\n')
    assert tacit("score", "r", "rows.jsonl", "--out", "s.jsonl").code == 0
    assert json.loads(Path("s.jsonl").read_text())["score"] == pytest.approx(float(rewards[3, 1, 0]), abs=0.5)


def test_a_reward_that_is_not_finite_names_its_response(tacit: Any) -> None:
    arrays(10, 4, 1)
    gold = np.load("gold.npy")
    gold[6, 2] = np.nan
    np.save("gold.npy", gold)
    done = tacit("fit", "gold.npy", "--encoder", "array:prompts.npy", "--out", "r")
    assert done.code == 2
    assert "gold.npy, row 7, column `response 3`: the reward is not finite" in done.err
    kept = tacit("fit", "gold.npy", "--encoder", "array:prompts.npy", "--out", "r", "--skip-broken", "--resamples", 20)
    assert kept.code == 0, kept.err


def test_the_configuration_repeats_the_fit_from_another_folder(tacit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = vectors_of(60)
    Path("votes.csv").write_text("winner,loser\n" + "".join(f"{a},{b}\n" for a, b in votes(vectors)))
    np.save("emb.npy", vectors)
    tokens = ("fit", "votes.csv", "--encoder", "array:emb.npy?ids=rows", "--out", "r", "--json", "--resamples", 20)
    expected = accuracy(tacit(*tokens))
    Path("elsewhere").mkdir()
    config = Path("r/config.yaml").absolute()
    monkeypatch.chdir("elsewhere")
    again = tacit("fit", "--config", config, "--out", "again", "--json")
    assert accuracy(again) == expected
