"""The same seed gives the same bytes: on one machine, with one build of everything and as many threads.

Files that say how long something took differ in their seconds alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")


SEVERAL = """
import json, sys
from tacit.cli import main
for tokens in json.loads(sys.argv[1]):
    try:
        main(tokens)
    except SystemExit as ended:
        if ended.code:
            raise
"""


def run(folder: Path, hash_seed: int, *commands: tuple[Any, ...]) -> None:
    """Commands in a process of their own, whose sets and dicts are ordered by another hash."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed), "TACIT_CACHE": str(folder / "cache")}
    environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    tokens = json.dumps([[str(token) for token in command] for command in commands])
    command = [sys.executable, "-c", SEVERAL, tokens]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def timeless(value: Any) -> Any:
    """JSON without what a clock said."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if "seconds" not in key}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Every file by its name: JSON without seconds, anything else as bytes."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = timeless(json.loads(path.read_text("utf-8")))
        elif path.name == "metrics.jsonl":
            found[name] = [timeless(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    words = ("red", "blue", "green", "a lamp", "two lamps", "no lamp at all", "thank you", "NO")
    rows = [
        {"prompt": f"Say {i % 12}", "chosen": f"{words[i % 7]} please, {i}", "rejected": words[(i * 3 + 1) % 8]}
        for i in range(48)
    ]
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def different(found: list[dict[str, Any]]) -> list[str]:
    """Names of files that two runs did not write alike."""
    assert found[0].keys() == found[1].keys()
    return [name for name in found[0] if found[0][name] != found[1][name]]


def test_two_fits_of_one_seed_leave_the_same_reward_and_scores(votes: Path, tmp_path: Path) -> None:
    common = ("--encoder", "hashed", "--resamples", 50, "--seed", 3)
    commands: list[tuple[Any, ...]] = []
    for name, more in (("linear", ("--members", 3, "--laplace")), ("mlp", ("--head", "mlp", "--hidden", 16))):
        commands.append(("fit", votes, "--out", name, *common, *more))
        commands.append(("score", name, votes, "--out", f"{name}.jsonl"))
    for number in (1, 2):
        run(tmp_path / str(number), number, *commands)
    for name in ("linear", "mlp"):
        assert different([contents(tmp_path / str(number) / name) for number in (1, 2)]) == []
        scores = [(tmp_path / str(number) / f"{name}.jsonl").read_bytes() for number in (1, 2)]
        assert scores[0] == scores[1]


def test_two_runs_of_one_seed_leave_the_same_policy_and_checkpoints(
    votes: Path, tmp_path: Path, llama_folder: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tmp_path / "base"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(llama_folder), AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = "[SEP]"
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.attention_dropout = 0.1
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    common = ("--policy", base, "--data", votes, "--save-steps", 1, "--seed", 3)
    sampled = (
        *("--reward", "random", "--bonus", "count", "--curriculum", "--credit", "return", "--learning-rate", 0.001),
        *("--max-completion-length", 8, "--per-device-train-batch-size", 8),
    )
    for number in (1, 2):
        run(
            tmp_path / str(number),
            number,
            ("tune", "sft", "--out", "sft", "--max-steps", 3, *common),
            ("tune", "ppo", "--out", "ppo", "--max-steps", 4, *common, *sampled),
        )
    for name, last in (("sft", 3), ("ppo", 4)):
        found = [contents(tmp_path / str(number) / name) for number in (1, 2)]
        assert different(found) == []
        assert f"checkpoints/step-00000{last}/method.safetensors" in found[0]
