"""`tacit lab hidden-context-dialogues --data FOLDER`: two purposes in one data set, and nobody says which is which.

The real experiment of distributional preference learning (arXiv 2312.08358, section 5) on the test splits of HH with
sentence vectors: comparisons of helpful dialogues, of harmless dialogues, and as many of both together. The vectors are
of the last answer alone, so that the purpose is hidden from the reward; `humour` is a data set of one purpose.

Each seed splits by prompt (one-liners by item), 80% to fit. `accuracy` and `nll` are on the rest, `gained` is how much
less nll than the scalar reward's, `r2` and `gain` as in `tacit lab hidden-context`, `flag` how often hidden context was
reported; `circular`: whether the pairwise model kept a circular part.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tacit import rewards
from tacit.audit.metrics import evaluate
from tacit.evidence import Evidence, split
from tacit.features import Encoder
from tacit.lab.dialogues import dialogues
from tacit.lab.humour import one_liners
from tacit.lab.seeds import repeat

MODELS = ("scalar", "mean_variance", "categorical", "pairwise")


def run(*, data: Path, seeds: int = 10, seed: int = 0) -> dict[str, Any]:
    """The table: every model on every data set, means and intervals over `seeds` splits."""
    sets = {name: dialogues(data, *parts) for name, parts in (("helpful", ("helpful",)), ("harmless", ("harmless",)))}
    sets["both"] = dialogues(data, "helpful", "harmless")
    jokes, encoder, _ = one_liners(data)
    sets["humour"] = jokes, encoder
    rows = repeat(lambda s: _once(s, sets), seeds, seed, "hidden context, dialogues")
    return {"experiment": "hidden-context-dialogues", "seeds": seeds, "rows": rows}


def _once(seed: int, sets: Mapping[str, tuple[Evidence, Encoder]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    most = min(len(evidence) for evidence, _ in sets.values())
    for name, (evidence, encoder) in sets.items():
        keep = np.sort(np.random.default_rng(seed).permutation(len(evidence))[:most])  # equally many of each set
        train, test = split(evidence.select(keep), by="item" if name == "humour" else "prompt", test=0.2, seed=seed)
        plain = None
        for model in MODELS:
            reward = rewards.fit(train, model=model, encoder=encoder, seed=seed)
            found, report = evaluate(reward, test, resamples=10, seed=seed), reward.report
            plain = found["nll"] if plain is None else plain
            row = {"data": name, "model": model, "accuracy": found["accuracy"], "nll": found["nll"]}
            row["gained"] = plain - found["nll"]
            if "context_gain" in report:
                row |= {
                    "r2": report["explained_variance"],
                    "gain": report["context_gain"],
                    "flag": bool(report["hidden_context"]),
                }
            if model == "pairwise":
                row["circular"] = bool(report["circular"])
            rows.append(row)
    return rows
