"""A tiny language model that says words evenly, and a demonstrator who prefers three of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tuning")]
pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The initial policy: six words of twelve, all alike."""
    from worlds import base_policy

    folder = tmp_path_factory.mktemp("demonstrations") / "base"
    base_policy(folder)
    return folder


@pytest.fixture(scope="session")
def demos_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from worlds import demonstrations

    path = tmp_path_factory.mktemp("data") / "demos.jsonl"
    rows = [{"prompt": r.prompt, "completion": r.completion} for r in demonstrations(150, seed=1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
