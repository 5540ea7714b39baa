"""`tacit bench real`: what the fits reach on real comparisons, over seeds, beside length alone.

Needs a folder of the data described in the documentation (`--data`); vectors are precomputed MiniLM, so that nothing is
encoded. Splits are by prompt for dialogues and by item for one-liners; the spread over seeds is a standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tacit.audit.metrics import evaluate
from tacit.audit.ranking import spearman
from tacit.conversation import texts
from tacit.errors import TacitError
from tacit.evidence import Evidence, read, split
from tacit.evidence.records import Comparison
from tacit.features.arrays import PrecomputedEncoder
from tacit.lab.humour import one_liners
from tacit.progress import track
from tacit.rewards.feature_reward import FeatureReward, fit

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "linear": {},
    "linear, classification": {"objective": "classification"},
    "linear, 5 members": {"members": 5},
    "mlp": {"head": "mlp"},
    "mlp, 5 members": {"head": "mlp", "members": 5},
}


def run(*, data: Path, repeats: int = 5, seed: int = 0) -> dict[str, Any]:
    """Mean and standard deviation over `repeats` seeds of accuracy, NLL and ECE on unseen prompts or items."""
    if not (data / "hh-rlhf").is_dir() or not (data / "humour").is_dir():
        raise TacitError(f"{data} holds no folders hh-rlhf and humour. Give --data FOLDER")
    dialogues = {name: _dialogues(data, name) for name in ("helpful", "harmless")}
    rows = []
    for name, (evidence, encoder) in dialogues.items():
        rows += list(_table(f"hh-rlhf/{name}-base", evidence, encoder, "prompt", repeats, seed))
    evidence, encoder, gold = one_liners(data)
    rows += list(_table("humour", evidence, encoder, "item", repeats, seed, gold))
    return {"suite": "real", "repeats": repeats, "rows": rows, "transfer": _transfer(dialogues, seed)}


def _table(
    name: str,
    evidence: Evidence,
    encoder: PrecomputedEncoder,
    by: Any,
    repeats: int,
    seed: int,
    gold: dict[str, float] | None = None,
) -> Iterator[dict[str, Any]]:
    for configuration, options in track(CONFIGURATIONS.items(), name, len(CONFIGURATIONS)):
        found: dict[str, list[float]] = {}
        for s in range(seed, seed + repeats):
            train, test = split(evidence, by=by, test=0.2, seed=s)
            reward = fit(train, encoder=encoder, seed=s, **options)
            metrics = evaluate(reward, test, resamples=10, seed=s)
            values = {key: metrics[key] for key in ("accuracy", "length_accuracy", "nll", "ece_binned", "ece_floor")}
            values |= {"n_test": metrics["n_test"], "fit_seconds": reward.report["fit_seconds"]}
            if gold is not None:
                values |= _against_gold(reward, test, gold)
            for key, value in values.items():
                found.setdefault(key, []).append(value)
        row: dict[str, Any] = {"data": name, "reward": configuration}
        for key, several in found.items():
            row[key] = float(np.mean(several))
            if key in ("accuracy", "spearman"):
                row[f"{key}_sd"] = float(np.std(several))
        yield row


def _against_gold(reward: FeatureReward, test: Evidence, gold: dict[str, float]) -> dict[str, float]:
    """Rank correlation with the gold score over the unseen items, and how often gold agrees with the votes."""
    pairs = [(str(r.chosen), str(r.rejected)) for r in test if isinstance(r, Comparison)]
    items = sorted({text for pair in pairs for text in pair})
    scores = reward.score([""] * len(items), items)
    agreed = np.mean([gold[a] > gold[b] for a, b in pairs])
    return {"spearman": spearman(scores, [gold[text] for text in items]), "gold_accuracy": float(agreed)}


def _dialogues(data: Path, name: str) -> tuple[Evidence, PrecomputedEncoder]:
    """Pairs of one split of HH, without the few whose sides are equal, and a vector for each side."""
    evidence = read(data / "hh-rlhf" / f"{name}-base.test.jsonl.gz")
    vectors = np.load(data / "embeddings-minilm" / f"hh-{name}-base-lastturn.npz")
    known: dict[tuple[str, str], np.ndarray] = {}
    sound = []
    for i, record in enumerate(evidence):
        assert isinstance(record, Comparison)
        sound.append(record.chosen != record.rejected)
        known[texts(record.prompt, record.chosen)] = vectors["chosen"][i]
        known[texts(record.prompt, record.rejected)] = vectors["rejected"][i]
    return evidence.select(np.array(sound)), PrecomputedEncoder(list(known), np.stack(list(known.values())))


def _transfer(dialogues: dict[str, tuple[Evidence, PrecomputedEncoder]], seed: int) -> list[dict[str, Any]]:
    """A reward of one kind of dialogue on the other: below one half where the values conflict."""
    rows = []
    for source, target in (("helpful", "harmless"), ("harmless", "helpful")):
        evidence, encoder = dialogues[source]
        reward = fit(evidence, encoder=encoder, seed=seed)
        other, vectors = dialogues[target]
        abroad = FeatureReward(vectors, reward.parameters, reward.name, reward.report)
        metrics = evaluate(abroad, other, seed=seed)
        rows.append({"fitted_on": source, "tested_on": target, **{k: metrics[k] for k in ("accuracy", "accuracy_ci")}})
    return rows
