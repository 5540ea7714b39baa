"""`tacit lab crowds`: ties and unreliable annotators in two real crowds, on prompts that no fit has seen.

- llmfao (dustalov/llmfao, CC BY 4.0): 8.9k votes, 39% of them ties, by 124 workers on answers of language models to 13
  prompts; each prompt is left out in turn.
- convarg (UKPLab/acl2016-convincing-arguments, CC BY 4.0): 13.9k pairs of arguments with five votes each; the debates
  are dealt into five folds.

Linear rewards on precomputed MiniLM vectors: Bradley-Terry with a tie as half a win each, or with ties left out; Rao
and Kupper's and Davidson's models of ties; and Bradley-Terry (ties as halves) with each annotator's reliability
estimated jointly: the share of wrong votes, the rationality beside it, or whichever is better on held-out prompts
(`reliability`).

`accuracy` is the share of decided votes that the reward orders right, `gold` that of the pairs that the authors'
aggregation (MACE) decides, and `nll3` the loss in nats of the three outcomes win, tie and loss: a model without ties
says tie with the share of ties in training. Intervals resample prompts (or debates) and annotators together; `gain` is
the paired difference in accuracy to the first row. `reliability` of convarg is the rank correlation of the estimated
agreement with the competence that the authors published, over annotators with ten votes or more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import softplus

from tacit.audit.bootstrap import Clusters, interval, ratio
from tacit.audit.ranking import spearman
from tacit.errors import TacitError
from tacit.evidence import read_rows
from tacit.progress import track
from tacit.rewards.fitting import fit
from tacit.rewards.options import FitOptions
from tacit.rewards.people.crowd import Crowd, compared
from tacit.rewards.people.reliability import ReliabilityOptions, annotator_rows, fit_reliability

Array = npt.NDArray[np.float64]
FOLDS = 5


@dataclass(frozen=True)
class Votes:
    """n votes on pairs of responses with vectors (u, d)."""

    name: str
    features: npt.NDArray[np.float32]
    chosen: npt.NDArray[np.int64]
    rejected: npt.NDArray[np.int64]
    tie: npt.NDArray[np.bool_]
    worker: npt.NDArray[np.str_]
    prompt: npt.NDArray[np.int64]
    """(n,) what is resampled."""
    fold: npt.NDArray[np.int64]
    """(n,) what is left out together."""
    gold: npt.NDArray[np.int64]
    """(n,) 1 where the aggregated label prefers `chosen`, -1 `rejected`, 0 where it is a tie or unknown."""
    competence: dict[str, float]

    def crowd(self, keep: npt.NDArray[np.bool_]) -> Crowd:
        """Some votes as a crowd, whose ridge is chosen over prompts."""
        blocks = np.stack([self.prompt[keep]] * 2, axis=1)
        return compared(
            *(self.features, self.chosen[keep], self.rejected[keep], self.worker[keep].tolist()),
            tie=self.tie[keep],
            blocks=blocks,
        )


@dataclass(frozen=True)
class Learnt:
    """Score differences of all votes, and the loss of (win, tie) as a function of them."""

    odds: Array
    """(n,) log-odds that `chosen` is better, of all votes."""
    outcome_loss: Callable[[Array], tuple[Array, Array]]
    """Losses (win, tie) in nats of votes with such log-odds."""
    reliability: float | None = None


def run(*, data: Path, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Accuracy and three-outcome loss of each model on unseen prompts of both crowds, with intervals."""
    rows = []
    for votes in (read_llmfao(data), read_convarg(data)):
        rows += _table(votes, seed, resamples)
    return {"experiment": "crowds", "rows": rows}


def _table(votes: Votes, seed: int, resamples: int) -> list[dict[str, Any]]:
    n = len(votes.chosen)
    models: dict[str, Callable[[npt.NDArray[np.bool_]], Learnt]] = {
        "Bradley-Terry, ties as halves": lambda keep: _plain(votes, keep, "bradley_terry", seed),
        "Bradley-Terry, ties left out": lambda keep: _plain(votes, keep & ~votes.tie, "bradley_terry", seed),
        "Rao-Kupper": lambda keep: _plain(votes, keep, "rao_kupper", seed),
        "Davidson": lambda keep: _plain(votes, keep, "davidson", seed),
        "reliability": lambda keep: _reliable(votes, keep, ReliabilityOptions(rounds=3, seed=seed)),
        "reliability, flips (Crowd-BT)": lambda keep: _reliable(
            votes, keep, ReliabilityOptions(rationality=False, rounds=3, seed=seed)
        ),
        "reliability, rationality and flips": lambda keep: _reliable(
            votes, keep, ReliabilityOptions(rationality=True, rounds=3, seed=seed)
        ),
    }
    odds = {name: np.zeros(n) for name in models}
    losses = {name: np.zeros(n) for name in models}
    reliable: dict[str, list[float]] = {name: [] for name in models}
    jobs = [(name, fold) for fold in np.unique(votes.fold) for name in models]
    for name, fold in track(jobs, votes.name, len(jobs)):
        test = votes.fold == fold
        learnt = models[name](~test)
        odds[name][test] = learnt.odds[test]
        win, tie = learnt.outcome_loss(learnt.odds[test])
        losses[name][test] = np.where(votes.tie[test], tie, win)
        reliable[name] += [] if learnt.reliability is None else [learnt.reliability]
    _, worker = np.unique(votes.worker, return_inverse=True)
    clusters = Clusters.of(votes.prompt, worker)
    decided, golden = ~votes.tie, votes.gold != 0
    first = next(iter(models))
    credit = {name: (np.sign(value) + 1) / 2 for name, value in odds.items()}
    rows = []
    for name in models:
        gold = (np.sign(odds[name] * votes.gold) + 1) / 2
        shares = {
            "accuracy": (credit[name], decided),
            "gain": (credit[name] - credit[first], decided),
            "gold": (gold, golden),
            "nll3": (losses[name], np.ones(n, bool)),
        }
        columns = [part for value, mask in shares.values() for part in (value * mask, mask.astype(np.float64))]
        drawn = clusters.sums(np.stack(columns, axis=1), resamples, np.random.default_rng(seed))
        row: dict[str, Any] = {"data": votes.name, "model": name}
        for k, (key, (value, mask)) in enumerate(shares.items()):
            if mask.any():
                row[key] = float(value[mask].mean())
                row[f"{key}_ci"] = interval(ratio(drawn[:, 2 * k], drawn[:, 2 * k + 1]))
        if reliable[name]:
            row["reliability"] = float(np.mean(reliable[name]))
        rows.append(row)
    return rows


def _plain(votes: Votes, keep: npt.NDArray[np.bool_], objective: str, seed: int) -> Learnt:
    found = fit(votes.features, votes.crowd(keep).examples, FitOptions(objective=objective, seed=seed))
    # The width of ties belongs to the scores before the temperature.
    heat = found.temperature if objective != "bradley_terry" else 1.0
    odds = _odds(votes, found.parameters["linear"][0].numpy() * heat)
    own = torch.tensor(found.report["own_parameters"], dtype=torch.float64)

    def rao_kupper(d: Array) -> tuple[Array, Array]:
        threshold = float(softplus(own[0]))
        win, lose = np.logaddexp(0, threshold - d), np.logaddexp(0, threshold + d)
        return win, win + lose - float(np.log(np.expm1(2 * threshold)))

    def davidson(d: Array) -> tuple[Array, Array]:
        total = np.logaddexp(np.logaddexp(d / 2, -d / 2), float(own[0]))
        return total - d / 2, total - float(own[0])

    outcome_loss = {"rao_kupper": rao_kupper, "davidson": davidson}.get(objective, _constant(votes, keep))
    return Learnt(odds, outcome_loss)


def _reliable(votes: Votes, keep: npt.NDArray[np.bool_], options: ReliabilityOptions) -> Learnt:
    crowd = votes.crowd(keep)
    found, temperature, _ = fit_reliability(crowd, options)
    odds = _odds(votes, (found.head / crowd.standardise.scale).numpy() / temperature)
    agreement = None
    if votes.competence:
        known = [a for a in annotator_rows(crowd, found) if a["votes"] >= 10 and a["annotator"] in votes.competence]
        agreement = spearman([a["agreement"] for a in known], [votes.competence[a["annotator"]] for a in known])
    return Learnt(odds, _constant(votes, keep), agreement)


def _constant(votes: Votes, keep: npt.NDArray[np.bool_]) -> Callable[[Array], tuple[Array, Array]]:
    """Bradley-Terry between decided outcomes, beside a constant share of ties (of the folds that are learnt from)."""
    folds = np.isin(votes.fold, np.unique(votes.fold[keep]))
    share = float(np.clip(votes.tie[folds].mean(), 1e-6, 1 - 1e-6))

    def loss(d: Array) -> tuple[Array, Array]:
        return np.logaddexp(0, -d) - np.log1p(-share), np.full(len(d), -np.log(share))

    return loss


def _odds(votes: Votes, head: npt.NDArray[Any]) -> Array:
    scores = votes.features @ head
    return np.asarray(scores[votes.chosen] - scores[votes.rejected], np.float64)


def read_llmfao(data: Path) -> Votes:
    """Votes on answers of language models; raises `TacitError` where a file is missing."""
    rows = _rows(data / "llmfao" / "crowd-comparisons.csv.gz")
    place, features = _vectors(data / "embeddings-minilm" / "llmfao-results.npz")
    kept = [r for r in rows if all(f"{r['prompt']}/{r[side]}" in place for side in ("model_x", "model_y"))]
    first = np.array([place[f"{r['prompt']}/{r['model_x']}"] for r in kept])
    second = np.array([place[f"{r['prompt']}/{r['model_y']}"] for r in kept])
    right = np.array([r["winner"] == "right" for r in kept])
    prompt = np.unique([str(r["prompt"]) for r in kept], return_inverse=True)[1]
    return Votes(
        name="llmfao",
        features=features,
        chosen=np.where(right, second, first),
        rejected=np.where(right, first, second),
        tie=np.array([r["winner"] == "tie" for r in kept]),
        worker=np.array([str(r["worker"]) for r in kept]),
        prompt=prompt,
        fold=prompt,
        gold=np.zeros(len(kept), np.int64),
        competence={},
    )


def read_convarg(data: Path) -> Votes:
    """Every single vote on pairs of arguments; raises `TacitError` where a file is missing."""
    pairs = _rows(data / "convarg" / "pairs.dev.jsonl.gz")
    place, features = _vectors(data / "embeddings-minilm" / "convarg-arguments.npz")
    rows: list[tuple[int, int, bool, str, str, int]] = []
    competence: dict[str, float] = {}
    for pair in pairs:
        a, b = place[pair["a1"]], place[pair["a2"]]
        for vote in pair["votes"]:
            chosen, rejected = (b, a) if vote["vote"] == "a2" else (a, b)
            gold = {"a1": 1, "a2": -1}.get(pair["gold"], 0) * (-1 if vote["vote"] == "a2" else 1)
            rows.append((chosen, rejected, vote["vote"] == "equal", vote["annotator"], pair["title"], gold))
            competence[vote["annotator"]] = float(vote["competence"])
    chosen_, rejected_, tie, worker, title, gold_ = zip(*rows, strict=True)
    debate = np.unique(title, return_inverse=True)[1]
    return Votes(
        name="convarg",
        features=features,
        chosen=np.array(chosen_),
        rejected=np.array(rejected_),
        tie=np.array(tie),
        worker=np.array(worker),
        prompt=debate,
        fold=debate % FOLDS,
        gold=np.array(gold_),
        competence=competence,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise TacitError(f"there is no {path}. Give --data the folder of real data")
    return [row for _, row in read_rows(path)]


def _vectors(path: Path) -> tuple[dict[str, int], npt.NDArray[np.float32]]:
    if not path.is_file():
        raise TacitError(f"there is no {path}. Give --data the folder of real data")
    stored = np.load(path)
    return {str(i): k for k, i in enumerate(stored["ids"])}, stored["emb"].astype(np.float32)
