"""Speed and memory of `read` and `check` on a file of comparisons, against the loop that one would write instead."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

_WORDS = [
    "the",
    "cat",
    "sat",
    "with",
    "great",
    "care",
    "and",
    "nothing",
    "else",
    "to",
    "say",
    "about",
    "rain",
    "all",
    "day",
]
_TIMER = """
import json, resource, sys, time
start, cpu = time.perf_counter(), time.process_time()
{body}
print(json.dumps({{"records": n, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))}}))
"""
_SIDES = {
    "read": "from tacit.evidence import read\nn = len(read(sys.argv[1]))",
    "read + check": "from tacit.evidence import check, read\nn = check(read(sys.argv[1])).statistics['records']",
    "read + split": "from tacit.evidence import read, split\nn = sum(map(len, split(read(sys.argv[1]))))",
    "json + pydantic loop": (
        "from tacit.evidence.records import Comparison\n"
        "records = [Comparison(**json.loads(line)) for line in open(sys.argv[1])]\nn = len(records)"
    ),
}


def run(rows: int = 1_000_000, seed: int = 0) -> dict[str, Any]:
    """Write `rows` synthetic comparisons as JSON lines and read them on each side, each in a process of its own.

    Each row of the result has `side`, `records`, `seconds`, `cpu_seconds`, `rows_per_second` and `peak_mb` (the largest
    resident set, interpreter and imports included); `ratio` is our `read` against the loop, which does less than `read`
    (no row numbers, no layouts) and holds all records.
    """
    with tempfile.TemporaryDirectory(prefix="tacit-bench-") as folder:
        path = Path(folder) / "comparisons.jsonl"
        _write(path, rows, seed)
        results = [{"side": side, **_timed(body, path)} for side, body in _SIDES.items()]
        megabytes = path.stat().st_size / 2**20
    speeds = {result["side"]: result["rows_per_second"] for result in results}
    return {
        "rows": results,
        "file_mb": round(megabytes, 1),
        "rows_per_second": speeds["read + check"],
        "peak_mb": results[1]["peak_mb"],
        "ratio": round(speeds["read"] / speeds["json + pydantic loop"], 2),
    }


def _write(path: Path, rows: int, seed: int) -> None:
    """Comparisons of about 300 characters: a prompt of 12 words and answers of 15 to 35."""
    rng = np.random.default_rng(seed)
    pool = [" ".join(rng.choice(_WORDS, size)) for size in rng.integers(5, 13, 4096)]
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, rows, 8192):
            block = rng.integers(len(pool), size=(min(8192, rows - start), 8)).tolist()
            for i, (a, b, c, d, e, f, g, h) in enumerate(block, start):
                row = {
                    "prompt": f"{i} {pool[a]} {pool[b]}",
                    "chosen": f"{pool[c]} {pool[d]} {pool[e]}",
                    "rejected": f"{pool[f]} {pool[g]} {pool[h]}",
                }
                file.write(json.dumps(row) + "\n")


def _timed(body: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", _TIMER.format(body=body), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    seconds, cpu, peak = result["seconds"], result["cpu_seconds"], result["peak_mb"]
    result["rows_per_second"] = round(result["records"] / seconds)
    return {**result, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_mb": round(peak, 1)}
