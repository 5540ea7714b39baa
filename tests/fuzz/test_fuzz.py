"""Damaged inputs of every format to every verb: a result, or one sentence and exit status 2; never a traceback.

Each case is made from a number (`scenarios.make`), so that a failure is tried again with `TACIT_FUZZ=17,4711`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from runner import Failure, Worker, digest, pool, run
from stage import build


def stage(folder: Path, worker: Worker, models: dict[str, Path]) -> Path:
    """A folder of sound files, made with the commands that are tried afterwards."""
    world = folder / "world"
    world.mkdir()

    def sound(tokens: list[str]) -> None:
        answer = worker.answer(world, tokens)
        assert answer.get("code") == 0, f"{' '.join(tokens)}: {answer}"

    build(world, sound, models)
    return world


def tried(seeds: list[int], folder: Path, models: dict[str, Path], *, workers: int) -> int:
    """Try cases; returns how many ended with a result."""
    named = os.environ.get("TACIT_FUZZ")
    seeds = [int(seed) for seed in named.split(",")] if named else seeds
    with pool(folder, workers) as processes:
        world = stage(folder, processes[0], models)
        before = digest(world)
        failures, sound = run(seeds, folder, world, processes, whole=bool(models))
    assert digest(world) == before, "the sound files were changed"
    assert not failures, _summary(failures, len(seeds))
    return sound


def _summary(failures: list[Failure], count: int) -> str:
    return f"{len(failures)} of {count} cases failed; their folders are kept\n\n" + "\n".join(map(str, failures))


def test_damaged_inputs_end_in_a_result_or_one_sentence(tmp_path: Path) -> None:
    assert tried(list(range(60)), tmp_path, {}, workers=1) >= 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_damaged_inputs(tmp_path: Path, bert_folder: Path, llama_folder: Path) -> None:
    start = time.monotonic()
    models = {"bert": bert_folder, "llama": llama_folder}
    assert tried(list(range(1000, 3000)), tmp_path, models, workers=min(2, os.cpu_count() or 1)) >= 300
    assert time.monotonic() - start < 900
