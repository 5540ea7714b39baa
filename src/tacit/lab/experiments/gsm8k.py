"""`tacit lab gsm8k`: verifier and outcome reward on 1,319 problems with four real model solutions each.

Needs the example solutions of GSM8K (`--data FOLDER` with test.jsonl.gz and example_model_solutions.jsonl.gz; Cobbe et
al. 2021, arXiv 2110.14168). Two questions:

- Verifier: how often does check `number`, given the answers of test.jsonl, agree with the labels that the authors
  published? Every disagreement is printed with both answers and which side is wrong.
- Best of 4: a reward is fitted on four fifths of the problems and chooses on the rest, five times, so that every
  problem is chosen on once by a reward that has not seen it. `outcome` is binary cross-entropy on single solutions;
  `within` is Bradley-Terry on right against wrong solutions of one problem, which a problem's difficulty cannot
  confound. Beside them: choice by lot, the longest and the shortest solution (in words), the majority's answer (ties by
  lot), the majority weighted by sigma(score), and any right solution (oracle). Intervals resample problems; `won` and
  `over_majority` are paired differences to choice by lot and to the majority. `auc_across` is P(a right solution scores
  above a wrong one) over all problems, `auc_within` among the four of one problem.

The four solutions come from four different models, so that a reward that tells models apart gains too:
`best generator` always takes the solution of the model that is best on the problems fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit import rewards, terminal
from tacit.audit import ranking
from tacit.audit.bootstrap import Clusters, interval
from tacit.errors import TacitError
from tacit.evidence import Evidence, Outcome, read, read_rows
from tacit.features import FeatureStore, load_encoder
from tacit.features.arrays import PrecomputedEncoder
from tacit.features.transformer import minilm_installed
from tacit.rewards.verifiers import Verifier
from tacit.rewards.verifiers import fit as fit_verifier
from tacit.rewards.verifiers.answers import answer_number

Array = npt.NDArray[np.float64]
GENERATORS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
FOLDS = 5


def run(
    *, data: Path, seed: int = 0, resamples: int = 2000, cache: Path | None = None, encoders: Sequence[str] = ()
) -> dict[str, Any]:
    """Agreement of the verifier with the labels, and best-of-4 of each way to choose, with intervals.

    Vectors are kept in `cache`, the user's cache folder unless given: MiniLM takes minutes the first time.
    """
    solutions = data / "example_model_solutions.jsonl.gz"
    problems = data / "test.jsonl.gz"
    for path in (solutions, problems):
        if not path.is_file():
            raise TacitError(f"{data} holds no {path.name}. Give --data the folder of GSM8K")
    rows = [row for _, row in read_rows(solutions)]
    questions = [str(row["question"]) for row in rows]
    texts = [[str(row[g]["solution"]) for g in GENERATORS] for row in rows]
    right = np.array([[row[g]["is_correct"] for g in GENERATORS] for row in rows], dtype=np.float64)
    verifier = fit_verifier(read(problems, kind="problem", columns={"prompt": "question"}))
    agreement = agree(verifier, questions, texts, right)
    rng = np.random.default_rng(seed)
    fold = np.arange(len(rows)) % FOLDS
    rng.shuffle(fold)
    answers = [[answer_number(text) for text in own] for own in texts]
    chosen = controls(texts, answers, right, fold)
    order: dict[str, dict[str, float]] = {}
    for name in encoders or (("minilm", "hashed") if minilm_installed() else ("hashed",)):
        for model, scores in fitted(questions, texts, right, fold, name, cache, seed).items():
            chosen[f"{model}, {name}"] = pick(scores, right)
            order[f"{model}, {name}"] = _order(scores, right)
            chosen[f"majority weighted by {model}, {name}"] = vote(answers, right, 1 / (1 + np.exp(-scores)))
    clusters = Clusters.of(np.arange(len(rows)))
    base, majority = chosen["by lot"], chosen["majority"]
    ends = {"accuracy": agreement["agreement"], "accuracy_ci": agreement["agreement_ci"]}
    table: list[dict[str, Any]] = [{"choice": "(the verifier agrees with the label)", **ends}]
    for name, gained in chosen.items():
        columns = {"accuracy": gained, "won": gained - base, "over_majority": gained - majority}
        sums = clusters.sums(np.stack(list(columns.values()), axis=1), resamples, np.random.default_rng(seed))
        table.append({"choice": name})
        for (key, values), draws in zip(columns.items(), sums.T, strict=True):
            if values.any():
                table[-1] |= {key: float(values.mean()), f"{key}_ci": interval(draws / len(rows))}
        table[-1] |= order.get(name, {})
    return {"experiment": "gsm8k", "problems": len(rows), "solutions": right.size, "verifier": agreement, "rows": table}


def agree(verifier: Verifier, questions: Sequence[str], texts: Sequence[Sequence[str]], right: Array) -> dict[str, Any]:
    """Share of solutions on which verifier and label agree, and each disagreement with what both go by.

    An answer stands in the last line of a solution; it is given beside the reference, so that the side at fault shows.
    """
    flat = [(q, text) for q, own in zip(questions, texts, strict=True) for text in own]
    found = verifier.score([q for q, _ in flat], [text for _, text in flat]).reshape(right.shape)
    disagreements = [
        {
            "question": questions[int(i)],
            "generator": GENERATORS[int(j)],
            "last_line": texts[int(i)][int(j)].strip().splitlines()[-1:],
            "reference": verifier.answers[questions[int(i)]].rsplit("####", 1)[-1].strip(),
            "label": bool(right[i, j]),
            "verifier": bool(found[i, j]),
        }
        for i, j in zip(*np.nonzero(found != right), strict=True)
    ]
    same = np.asarray(found == right, dtype=np.float64).mean(1)
    draws = Clusters.of(np.arange(len(same))).sums(same[:, None], 1000, np.random.default_rng(0))[:, 0] / len(same)
    return {
        **{"agreement": float(same.mean()), "agreement_ci": interval(draws), "n": right.size},
        "disagreements": disagreements,
    }


def controls(
    texts: Sequence[Sequence[str]], answers: Sequence[Sequence[Any]], right: Array, fold: npt.NDArray[np.int_]
) -> dict[str, Array]:
    """Expected correctness (n,) of every choice that needs no reward."""
    words = np.array([[len(text.split()) for text in own] for own in texts], dtype=np.float64)
    best = np.empty(len(right))
    for f in range(FOLDS):
        best[fold == f] = right[fold == f][:, right[fold != f].mean(0).argmax()]
    return {
        "by lot": right.mean(1),
        "longest": pick(words, right),
        "shortest": pick(-words, right),
        "majority": vote(answers, right, np.ones_like(right)),
        "majority weighted by length": vote(answers, right, 1 / (1 + np.exp((words.mean() - words) / words.std()))),
        "best generator": best,
        "any right (oracle)": right.max(1),
    }


def pick(scores: Array, right: Array) -> Array:
    """Correctness (n,) of the highest score, ties by lot; scores and right are (n, 4)."""
    top = scores == scores.max(1, keepdims=True)
    return np.asarray((right * top).sum(1) / top.sum(1))


def vote(answers: Sequence[Sequence[Any]], right: Array, weight: Array) -> Array:
    """Correctness (n,) of the answer with most weight, ties by lot; a solution without an answer has no vote."""
    same = np.array([[[a is not None and a == b for b in own] for a in own] for own in answers], dtype=np.float64)
    return pick(np.round((same * weight[:, None, :]).sum(2), 9), right)


def _order(scores: Array, right: Array) -> dict[str, float]:
    """How often a right solution scores above a wrong one, over all problems and within one."""
    across = ranking.weighted_auc(scores.ravel(), right.ravel(), np.ones((1, right.size)))[0]
    problem = np.repeat(np.arange(len(right)), right.shape[1])
    _, won, pairs = ranking.auc_by_group(scores.ravel(), right.ravel(), problem)
    return {"auc_across": float(across), "auc_within": float(won.sum() / pairs.sum())}


def fitted(
    questions: Sequence[str],
    texts: Sequence[Sequence[str]],
    right: Array,
    fold: npt.NDArray[np.int_],
    encoder: str,
    cache: Path | None,
    seed: int,
) -> dict[str, Array]:
    """Scores (n, 4) of solutions by rewards fitted on the other folds, by objective."""
    pairs = [(question, text) for question, own in zip(questions, texts, strict=True) for text in own]
    stored = FeatureStore(load_encoder(encoder), cache or terminal.cache_folder("features"))
    loaded = PrecomputedEncoder(pairs, stored.features(pairs))
    scores = {"outcome": np.empty_like(right), "within": np.empty_like(right)}
    for f in range(FOLDS):
        train, test = np.flatnonzero(fold != f).tolist(), np.flatnonzero(fold == f).tolist()
        outcomes = [
            Outcome(prompt=questions[i], completion=texts[i][j], label=bool(right[i, j]))
            for i in train
            for j in range(right.shape[1])
        ]
        asked = [questions[i] for i in test for _ in texts[i]]
        said = [text for i in test for text in texts[i]]
        for name, model in (("outcome", "scalar"), ("within", "within")):
            evidence = Evidence.from_records(outcomes)
            reward = rewards.fit(evidence, model=model, encoder=loaded, seed=seed)
            scores[name][test] = reward.score(asked, said).reshape(len(test), -1)
    return scores
