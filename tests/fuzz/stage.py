"""The sound files that commands use beside the damaged one: evidence, rewards, recipes, tiny models."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from documents import DOCUMENTS, comparisons, write

FIT = "--encoder hashed --resamples 10"
REWARDS = {
    "scalar": f"fit comparisons.jsonl --out scalar {FIT}",
    "members": f"fit comparisons.jsonl --out members {FIT} --members 2 --laplace --l2 1",
    "boosted": f"fit comparisons.jsonl --out boosted {FIT} --model boosted --trees 5",
    "process": f"fit steps.jsonl --out process {FIT}",
    "verifier": "fit problems.jsonl --out verifier",
    "sum": "combine recipe.yaml --data comparisons.jsonl --out sum",
}
MORE = {
    "pairwise": f"fit comparisons.jsonl --out pairwise {FIT} --model pairwise --l2 1",
    "attributes": f"fit attributes.jsonl --out attributes {FIT} --model attributes",
    "groups": f"fit comparisons.jsonl --out groups {FIT} --people groups --groups 2 --restarts 1",
    "reliability": f"fit comparisons.jsonl --out reliability {FIT} --people reliability",
    "array": "fit comparisons.jsonl --out array --resamples 10 --encoder array:vectors.npz",
    "hf": "fit comparisons.jsonl --out hf --resamples 10 --encoder hf:bert",
    "judged": "fit comparisons.jsonl --out judged --resamples 10 --model judge --judge judge.yaml",
}
"""Rewards of the whole stage, some of which need a language model."""

RECIPE = {
    "type": "sum",
    "name": "both",
    "parts": [
        {"reward": "scalar", "weight": 1.0, "scale": "z"},
        {
            "type": "gate",
            "when": {"prompt": "question"},
            "then": {"type": "random"},
            "otherwise": {"reward": "members"},
        },
        {"type": "veto", "of": {"reward": "scalar"}, "unless": {"type": "length_control"}, "floor": -5.0},
        {"type": "number", "answers": "problems.jsonl", "unknown": 0.0, "weight": 0.5},
    ],
}
JUDGE = {
    "type": "judge",
    "name": "tiny",
    "mode": "yes_no",
    "folder": "llama",
    "template": "Is this a good answer?\n{prompt}\n{completion}",
    "max_length": 90,
    "retries": 0,
    "scale": [1, 10],
    "extra": {"logit_bias": {"7": -1}},
}
CONFIG = {
    "encoder": "hashed", "seed": 3, "resamples": 10, "test": 0.25, "head": "mlp", "hidden": [4, 4],
    "columns": ["prompt=prompt"], "l2": 0.1, "kind": "comparison", "no_cache": True,
}  # fmt: skip


def build(folder: Path, run: Callable[[list[str]], None], models: Mapping[str, Path]) -> None:
    """Fill `folder`; `run` runs a command there and raises where it fails.

    `models`, copied there by name, are a transformers encoder `bert` and a policy `llama`; without them the stage lacks
    `MORE`.
    """
    import yaml

    rng = random.Random(0)
    for name, rows in DOCUMENTS.items():
        write(folder / f"{name}.jsonl", rows, "jsonl", rng)
    for name, value in {"recipe": RECIPE, "judge": JUDGE, "config": CONFIG}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value), "utf-8")
    _vectors(folder)
    _llama2c(folder / "llama2c")
    for name, source in models.items():
        shutil.copytree(source, folder / name)
    commands = REWARDS | (MORE if models else {})
    for command in commands.values():
        run(command.split())


def _vectors(folder: Path) -> None:
    """Vectors of the texts of the comparisons, as .npz, and as .npy with the texts beside it."""
    texts = sorted({f"{row['prompt']}\n\n{row[side]}" for row in comparisons() for side in ("chosen", "rejected")})
    vectors = np.random.default_rng(0).normal(size=(len(texts), 6)).astype(np.float32)
    np.savez(folder / "vectors.npz", texts=np.array(texts), vectors=vectors)
    np.save(folder / "vectors.npy", vectors)
    write(folder / "vectors.texts.jsonl", texts, "jsonl", random.Random(0))


def _llama2c(folder: Path) -> None:
    """A random model of one layer and a tokenizer of bytes, in llama2.c's format."""
    folder.mkdir()
    pieces = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256)), " ", "a", " a"]
    d, hidden, layers, heads, context, v = 8, 12, 1, 2, 32, len(pieces)
    shapes = [(v, d), (layers, d), *[(layers, d, d)] * 4, (layers, d), (layers, hidden, d), (layers, d, hidden)]
    shapes += [(layers, hidden, d), (d,), (context, d // heads // 2), (context, d // heads // 2)]
    rng = np.random.default_rng(0)
    weights = b"".join(rng.normal(0, 0.5, shape).astype("<f4").tobytes() for shape in shapes)
    (folder / "model.bin").write_bytes(struct.pack("<7i", d, hidden, layers, heads, heads, v, context) + weights)
    body = b"".join(struct.pack("<fi", 0.0, len(piece.encode())) + piece.encode() for piece in pieces)
    (folder / "tokenizer.bin").write_bytes(struct.pack("<i", 8) + body)
