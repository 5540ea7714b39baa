"""How long a whole audit takes, with its page, on features that are cached already."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tacit.evidence import Evidence
from tacit.evidence.annotators import Annotator
from tacit.features import FeatureStore
from tacit.lab.worlds import World
from tacit.rewards.feature_reward import fit

_PEOPLE = 20
_FITTED = 4000
_TIMER = """
import json, sys, time
start, cpu = time.perf_counter(), time.process_time()
from tacit.cli import main
folder = sys.argv[1]
stdout, sys.stdout = sys.stdout, sys.stderr
main(["audit", f"{folder}/reward", f"{folder}/votes.jsonl", "--out", f"{folder}/page.html",
      "--cache", f"{folder}/cache"])
print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}), file=stdout)
"""


def run(rows: int = 50_000, seed: int = 0) -> dict[str, Any]:
    """A reward of five members on hashed features, audited on `rows` comparisons of the built-in world by 20 people.

    The command runs as a user types it, in a process of its own: `seconds` holds imports, both readings of the file,
    every section with 1,000 resamples, and the page. `page_kb` is its size.
    """
    with tempfile.TemporaryDirectory(prefix="tacit-bench-") as name:
        folder = Path(name)
        world, people = World(), [Annotator(rationality=2.0, name=f"person-{i}") for i in range(_PEOPLE)]
        fitted = world.compare(_FITTED, np.random.default_rng([seed, 0]), people)
        evidence = Evidence.from_records(fitted, kind="comparison", source="votes")
        reward = fit(evidence, encoder="hashed", members=5, seed=seed)
        reward.save(folder / "reward")
        votes = world.compare(rows, np.random.default_rng([seed, 1]), people)
        with (folder / "votes.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in votes)
        texts = [(row["prompt"], row[side]) for row in votes for side in ("chosen", "rejected")]
        FeatureStore(reward.encoder, folder / "cache").features(texts)
        command = [sys.executable, "-c", _TIMER, str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout.strip().splitlines()[-1])
        page = (folder / "page.html").stat().st_size
    return {
        "comparisons": rows,
        "seconds": round(result["seconds"], 1),
        "cpu_seconds": round(result["cpu_seconds"], 1),
        "page_kb": round(page / 1024),
    }
