"""`tacit lab convarg`: an audit of a plain reward where length alone is the better one.

Arguments in 13 debates (UKPLab/acl2016-convincing-arguments, CC BY 4.0, in `--data`), judged which of two is more
convincing; the pairs are those that the authors' aggregation of five votes decides. The rewards are linear
Bradley-Terry fits on MiniLM vectors, cross-fitted in five folds of whole debates, so that each argument is scored by a
fit that has seen no argument of its debate: `plain`, and `with length`, which has log2 of the number of characters as
one feature more.

Rows are the report's own table of control rewards: `gain` is the paired difference in accuracy of the reward over the
control, and intervals resample debates with the stance argued for. `says` is what the report says of it, if anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.audit.biases import biases
from tacit.audit.controls import controls
from tacit.audit.quality import right_and_sure
from tacit.audit.report import Report, run_sections
from tacit.audit.study import Study
from tacit.conversation import Completion, Prompt, texts
from tacit.errors import TacitError
from tacit.evidence import read_rows
from tacit.evidence.records import Comparison
from tacit.features.arrays import PrecomputedEncoder
from tacit.rewards.feature_reward import fit

FOLDS = 5


@dataclass(frozen=True)
class Arguments:
    """Decided pairs with the debate of each, and a vector for every argument (prompt, text)."""

    pairs: list[Comparison]
    debate: npt.NDArray[np.intp]
    vectors: dict[tuple[str, str], npt.NDArray[np.float32]]


@dataclass
class CrossFitted:
    """A reward that is a table: every argument as scored by the fit that has not seen its debate."""

    table: dict[tuple[str, str], float]
    name: str

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> np.ndarray:
        """Scores (n,) float32; raises `TacitError` for an argument that is not in the table."""
        try:
            return np.array([self.table[texts(*pair)] for pair in zip(prompts, completions, strict=True)], np.float32)
        except KeyError as missing:
            raise TacitError(f"the table of `{self.name}` holds no argument {missing.args[0]}") from None


def run(*, data: Path, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Both rewards beside their controls, as their reports show them."""
    arguments = read_arguments(data)
    rows: list[dict[str, Any]] = []
    verdicts: dict[str, list[str]] = {}
    for name in ("plain", "with length"):
        report = audited(arguments, name, seed=seed, resamples=resamples)
        said = {finding.key: finding.sentence for _, finding in report.findings}
        verdicts[name] = list(said.values())
        for row in report.to_dict()["sections"]["controls"]["controls"]:
            if row["gain over it"] is None:
                accuracy = {"accuracy": row["accuracy"], "accuracy_ci": row["95%"]}
                rows.append({"reward": name, "against": "", **accuracy})
                continue
            rows.append(
                {
                    "reward": name,
                    "against": row["reward"],
                    "accuracy": row["accuracy"],
                    "accuracy_ci": row["95%"],
                    "gain": row["gain over it"],
                    "gain_ci": row["gain 95%"],
                    "says": said.get("beaten_by_" + row["reward"].replace(" ", "_"), ""),
                }
            )
    return {"experiment": "convarg", "pairs": len(arguments.pairs), "rows": rows, "verdicts": verdicts}


def audited(arguments: Arguments, name: str, *, seed: int = 0, resamples: int = 1000) -> Report:
    """The report on one of the two rewards: right and sure, beside its controls, and its biases."""
    reward = CrossFitted(cross_fitted(arguments, length=name == "with length", seed=seed), name)
    study = Study.of(reward, arguments.pairs, "comparison", "convarg", resamples=resamples, seed=seed)
    return run_sections(study, (right_and_sure, controls, biases))


def cross_fitted(arguments: Arguments, *, length: bool, seed: int = 0) -> dict[tuple[str, str], float]:
    """The score of every argument by a fit on the debates of other folds."""
    keys = list(arguments.vectors)
    vectors = np.stack([arguments.vectors[key] for key in keys])
    if length:
        size = np.log2([1 + len(text) for _, text in keys]).astype(np.float32)
        vectors = np.concatenate([vectors, (size - size.mean())[:, None] / size.std()], axis=1)
    encoder = PrecomputedEncoder(keys, vectors)
    place = {key: k for k, key in enumerate(keys)}
    table: dict[tuple[str, str], float] = {}
    fold = arguments.debate % FOLDS
    for held in range(FOLDS):
        known = [pair for pair, k in zip(arguments.pairs, fold, strict=True) if k != held]
        reward = fit(known, encoder=encoder, seed=seed)
        asked = {
            texts(pair.prompt, side)
            for pair, k in zip(arguments.pairs, fold, strict=True)
            if k == held
            for side in (pair.chosen, pair.rejected)
        }
        scored = sorted(asked)
        scores = reward.score_features(vectors[[place[key] for key in scored]])[0]
        table |= dict(zip(scored, scores.tolist(), strict=True))
    return table


def read_arguments(data: Path) -> Arguments:
    """Decided pairs and vectors; raises `TacitError` where a file is missing."""
    paths = [data / "convarg" / name for name in ("arguments.dev.jsonl.gz", "pairs.dev.jsonl.gz")]
    stored = data / "embeddings-minilm" / "convarg-arguments.npz"
    for path in (*paths, stored):
        if not path.is_file():
            raise TacitError(f"{data} holds no {path.relative_to(data)}. Give --data FOLDER")
    arguments, rows = ({str(r.get("id", k)): r for k, r in read_rows(path)} for path in paths)
    arrays = np.load(stored)
    row = {str(i): k for k, i in enumerate(arrays["ids"])}
    emb = arrays["emb"].astype(np.float32)
    decided = [pair for pair in rows.values() if pair["gold"] in ("a1", "a2")]
    pairs: list[Comparison] = []
    vectors: dict[tuple[str, str], npt.NDArray[np.float32]] = {}
    for pair in decided:
        sides = [pair["a1"], pair["a2"]] if pair["gold"] == "a1" else [pair["a2"], pair["a1"]]
        prompt = f"{pair['title']} Argue for: {arguments[sides[0]]['stance']}"
        better, worse = (str(arguments[side]["text"]) for side in sides)
        pairs.append(Comparison(prompt=prompt, chosen=better, rejected=worse))
        vectors |= {(prompt, better): emb[row[sides[0]]], (prompt, worse): emb[row[sides[1]]]}
    debate = np.unique([pair["title"] for pair in decided], return_inverse=True)[1].astype(np.intp)
    return Arguments(pairs, debate, vectors)
