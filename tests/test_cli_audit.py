"""Audits as a user types them: what evidence people have, and what the report owes them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest


def write_lines(path: str, rows: list[dict[str, Any]]) -> Path:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Path(path)


def jokes(prompt: str | None, votes: int = 600) -> list[dict[str, Any]]:
    """Votes on sixty jokes in which people like exclamations nine times out of ten."""
    rng = random.Random(0)
    words = ["duck", "bar", "priest", "pun", "cow"]
    texts = [f"joke {i} {' '.join(rng.choices(words, k=5))}{'!' if i % 2 else '.'}" for i in range(60)]
    rows = []
    for _ in range(votes):
        a, b = sorted(rng.sample(range(60), 2), key=lambda i: i % 2, reverse=rng.random() < 0.9)
        rows.append({"prompt": prompt, "chosen": texts[a], "rejected": texts[b]})
    return rows if prompt is not None else [{k: v for k, v in row.items() if k != "prompt"} for row in rows]


@pytest.mark.parametrize("prompt", ["Tell me a joke", "", None])
def test_votes_under_one_prompt_are_split_by_answer_and_say_so(tacit: Any, prompt: str | None) -> None:
    data = write_lines("votes.jsonl", jokes(prompt))
    done = tacit("fit", data, "--out", "r", "--encoder", "hashed", "--json", "--resamples", 50)
    assert done.code == 0, done.err
    assert "same prompt, or none. Split by item" in done.err
    assert done.json["n_train"] + done.json["n_test"] + done.json["n_dropped"] == 600
    assert done.json["resampled"] == "item"
    assert done.json["accuracy"] > 0.7
    audited = tacit("audit", "r", data, "--out", "report.html", "--resamples", 50)
    assert audited.code == 0, audited.err


def test_four_candidates_of_a_prompt_are_enough_for_a_report(tacit: Any) -> None:
    data = write_lines("votes.jsonl", jokes("Tell me a joke", 300))
    assert tacit("fit", data, "--out", "r", "--encoder", "hashed", "--test", 0).code == 0
    rows = [
        {"prompt": f"p{i}", "completions": [f"{i} a.", f"{i} b!", f"{i} c.", f"{i} d!"], "gold": [0, 1, 0, 1]}
        for i in range(20)
    ]
    candidates = write_lines("candidates.jsonl", rows)
    done = tacit("audit", "r", data, "--candidates", candidates, "--resamples", 50, "--json")
    assert done.code == 0, done.err
    curve = done.json["audit"]["sections"]["optimised"]["curves"]["none"]
    assert curve["n"] == [1, 2, 3, 4]


def test_all_verbs_share_the_cache_of_encoded_texts(tacit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_lines("votes.jsonl", jokes("Tell me a joke", 200))
    candidates = write_lines(
        "candidates.jsonl", [{"prompt": "Tell me a joke", "completions": [row["chosen"] for row in jokes("", 4)]}]
    )
    for name in ("r", "other"):
        assert tacit("fit", data, "--out", name, "--encoder", "hashed", "--test", 0).code == 0

    def refuse(self: Any, texts: Any) -> Any:
        raise AssertionError(f"{len(texts)} texts are encoded again")

    monkeypatch.setattr("tacit.features.hashed.HashedEncoder.encode", refuse)
    for verb in (
        ("score", "r", data, "--out", "scores.jsonl"),
        ("audit", "r", data, "--json"),
        ("audit", "r", "other", data, "--json"),
        ("select", "r", candidates, "--out", "best.jsonl"),
    ):
        done = tacit(*verb)
        assert done.code == 0, done.err
        with pytest.raises(AssertionError, match="encoded again"):
            tacit(*verb, "--no-cache")
        with pytest.raises(AssertionError, match="encoded again"):
            tacit(*verb, "--cache", "elsewhere")
        both = tacit(*verb, "--cache", "elsewhere", "--no-cache")
        assert both.code == 2
        assert "--no-cache keeps nothing in --cache elsewhere" in both.err


def test_without_a_cache_nothing_is_kept(tacit: Any, tmp_path: Path) -> None:
    data = write_lines("votes.jsonl", jokes("Tell me a joke", 100))
    assert tacit("fit", data, "--out", "r", "--encoder", "hashed", "--test", 0, "--no-cache").code == 0
    assert tacit("score", "r", data, "--out", "scores.jsonl", "--no-cache").code == 0
    assert not (tmp_path / "cache").exists()


def test_check_and_fit_say_what_the_encoder_cuts(tacit: Any, bert_folder: Path) -> None:
    long = "the quick brown fox jumps over a lazy dog " * 9
    rows = [{"prompt": f"q{i}", "chosen": f"{long}yes {i}", "rejected": f"{long}no {i}"} for i in range(20)]
    rows += [{"prompt": f"r{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(20)]
    data = write_lines("votes.jsonl", rows)
    encoder = ("--encoder", f"hf:{bert_folder}?max_length=32")
    checked = tacit("check", data, *encoder, "--json")
    assert checked.code == 0, checked.err
    found = {finding["code"]: finding for finding in checked.json["warnings"]}
    assert found["truncated"]["count"] == 40
    assert (found["equal_when_truncated"]["count"], found["equal_when_truncated"]["rows"]) == (20, list(range(1, 21)))
    fitted = tacit("fit", data, *encoder, "--out", "r", "--json", "--test", 0)
    assert fitted.code == 0, fitted.err
    assert fitted.json["fit"]["truncated"]["cut"] == 40
    assert "20 comparisons have different answers that are equal as far as encoder" in fitted.err
    assert "truncated" not in {
        finding["code"] for finding in tacit("check", data, "--encoder", "hashed", "--json").json["warnings"]
    }


def test_check_names_rows_without_a_vector(tacit: Any) -> None:
    import numpy as np

    np.savez("emb.npz", vectors=np.eye(3, dtype=np.float32), ids=["a", "b", "c"])
    data = write_lines(
        "votes.jsonl",
        [{"prompt": "p", "chosen": "a", "rejected": x} for x in "bcb"]
        + [{"prompt": "q", "chosen": "c", "rejected": "zebra"}],
    )
    done = tacit("check", data, "--encoder", "array:emb.npz", "--json")
    assert done.code == 2
    assert "no item has this id" in done.out
    np.savez("texts.npz", vectors=np.eye(3, dtype=np.float32), completions=["a", "b", "c"])
    done = tacit("check", data, "--encoder", "array:texts.npz", "--json")
    assert done.code == 2
    (error,) = (finding for finding in done.json["errors"] if finding["code"] == "no_vector")
    assert (error["count"], error["rows"]) == (8, [1, 2, 3, 4])
