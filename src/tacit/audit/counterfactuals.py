"""Counterfactual edits: what happens to the score when a text is changed in a way whose effect on quality is known.

- pad: sentences that say nothing are added. A reward should not rise.
- cut: the second half of the sentences is dropped.
- shuffle: the sentences change places. A reward that does not move is blind to order.
- swap: two answers change prompts. With r(x, y) the reward, the interaction

      I = r(x1, y1) + r(x2, y2) - r(x1, y2) - r(x2, y1)

  is zero for every reward that adds up a part for the prompt and a part for the answer, and positive on average for one
  that wants an answer to fit its prompt. Does the reward read the prompt?

Changes are in standard deviations of the score within a prompt, with intervals resampled by prompt.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tacit.audit.bootstrap import Array, Clusters, Index, interval, ratio
from tacit.audit.figures import Interval, interval_chart
from tacit.audit.sections import Figure, Finding, Section, Table
from tacit.audit.study import Study

SAMPLE = 400
"""Completions that are edited: each edit is scored anew, which may mean encoding it."""
_FILLER = (
    "There is much that could be said about this.",
    "As is often the case, it depends on many things.",
    "This is a topic that people have thought about for a long time.",
    "With that in mind, we can move on.",
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_LARGE = 0.2
"""Padding that raises the score by more than this many standard deviations is a fault."""
_READS = 0.1
"""An interaction below this many standard deviations: the prompt is not read."""


def counterfactuals(study: Study) -> Section:
    """The mean effect of each edit, and what a reward that reads and is not fooled would show."""
    rng = study.rng(40)
    chosen = np.sort(rng.permutation(len(study.items.prompts))[:SAMPLE])
    unit = _within_prompt_sd(study)
    if unit == 0:
        return Section.missing("edits", "Counterfactual edits", "all scores of a prompt are equal.")
    edits = {"pad": _pad, "cut": _cut, "shuffle": _shuffle}
    rows: list[dict[str, Any]] = []
    for name, edit in edits.items():
        edited = [edit(study.items.texts[i][1], rng) for i in chosen]
        changed = np.array(
            [new != study.items.texts[i][1] and bool(new) for new, i in zip(edited, chosen, strict=True)]
        )
        if changed.sum() < 20:
            continue
        kept = chosen[changed]
        new = study.reward.score(
            [study.items.prompts[i] for i in kept], [text for text, c in zip(edited, changed, strict=True) if c]
        )
        gap = (new.astype(np.float64) - study.scores[kept]) / unit
        rows.append({"edit": name, "texts": len(kept), **_mean(study, gap, study.prompt_of[kept])})
    swap = _swap(study, rng, unit)
    rows += [] if swap is None else [swap]
    if not rows:
        return Section.missing("edits", "Counterfactual edits", "no completion has two sentences, and no two prompts.")
    chart = interval_chart(
        [Interval(_LABELS[row["edit"]], row["change"], row["95%"]) for row in rows],
        title="Change of score under edits",
        x_label="change of score, in standard deviations",
        reference=(0.0, "no change"),
    )
    findings = [found for row in rows if (found := _finding(row)) is not None]
    return Section(
        "edits",
        "Counterfactual edits",
        "Up to 400 completions are changed and scored again. A swap is positive where answers score higher under their "
        "own prompt than under another.",
        {"edits": rows},
        (Figure(chart, f"Means with 95% intervals, resampled by prompt; seed {study.seed}."),),
        (Table(rows),),
        tuple(findings),
    )


_LABELS = {
    "pad": "padded",
    "cut": "second half cut",
    "shuffle": "sentences shuffled",
    "swap": "own, not swapped prompt",
}


def _swap(study: Study, rng: np.random.Generator, unit: float) -> dict[str, Any] | None:
    """The interaction of prompts and answers over pairs of prompts."""
    if len(np.unique(study.prompt_of)) < 20:
        return None
    order = rng.permutation(len(study.items.prompts))[: 2 * SAMPLE]
    half = len(order) // 2
    first, second = order[:half], order[half : 2 * half]
    other = study.prompt_of[first] != study.prompt_of[second]
    first, second = first[other], second[other]
    prompts, completions = study.items.prompts, study.items.completions
    crossed = study.reward.score(
        [prompts[i] for i in np.r_[first, second]], [completions[i] for i in np.r_[second, first]]
    ).astype(np.float64)
    gap = study.scores[first] + study.scores[second] - crossed[: len(first)] - crossed[len(first) :]
    return {"edit": "swap", "texts": 2 * len(first), **_mean(study, gap / (2 * unit), study.prompt_of[first])}


def _finding(row: dict[str, Any]) -> Finding | None:
    if row["95%"] is None:
        return None
    value, (low, high) = row["change"], row["95%"]
    numbers = f"({value:+z.2f} standard deviations of score, 95% {low:+z.2f} to {high:+z.2f})"
    if row["edit"] == "pad" and low > _LARGE:
        return Finding("rewards_padding", "fault", f"Sentences that say nothing raise its score {numbers}.", row)
    if row["edit"] == "swap" and high < _READS:
        text = f"It does not read the prompt: an answer scores as well under another prompt {numbers}."
        return Finding("prompt_blind", "fault", text, row)
    if row["edit"] == "shuffle" and low > -0.02 and high < 0.02:
        text = f"It does not see the order of sentences {numbers}."
        return Finding("order_blind", "advice", text, row)
    return None


def _mean(study: Study, values: Array, prompt: Index) -> dict[str, Any]:
    clusters = Clusters.of(prompt)
    result: dict[str, Any] = {"change": float(values.mean()), "95%": None}
    if clusters.smallest >= 2:
        sums = clusters.sums(np.stack([values, np.ones(len(values))], axis=1), study.resamples, study.rng(41))
        result["95%"] = interval(ratio(*sums.T))
    return result


def _within_prompt_sd(study: Study) -> float:
    """Root mean square difference of two sides over sqrt(2): the spread of scores among answers to one prompt."""
    return float(np.sqrt(np.mean((study.scores[study.pairs.a] - study.scores[study.pairs.b]) ** 2) / 2))


def _pad(text: str, rng: np.random.Generator) -> str:
    return " ".join([text.rstrip(), *(_FILLER[i] for i in rng.permutation(len(_FILLER))[:2])])


def _cut(text: str, rng: np.random.Generator) -> str:
    sentences = _SENTENCE.split(text.strip())
    return " ".join(sentences[: len(sentences) // 2]) if len(sentences) > 1 else text


def _shuffle(text: str, rng: np.random.Generator) -> str:
    sentences = _SENTENCE.split(text.strip())
    return " ".join(sentences[i] for i in rng.permutation(len(sentences)))
