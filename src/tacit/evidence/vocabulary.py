"""Names of the columns that make records, and a source's columns under them: all of them, which come twice or late."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tacit.errors import EvidenceError
from tacit.evidence import prompts
from tacit.evidence.codes import is_blank
from tacit.evidence.layout import Row
from tacit.evidence.names import VERDICTS, canonical, is_named
from tacit.evidence.records import KINDS, Kind

PREFERENCES = (
    *(("chosen", "rejected"), ("winner", "loser"), ("chosen_response", "rejected_response")),
    *(("preferred", "dispreferred"), ("better", "worse"), ("preferred_response", "dispreferred_response")),
    *(("accepted", "rejected"), ("preferred_response", "rejected_response"), ("preferred", "rejected")),
)
"""Columns of the better and of the worse answer."""
REJECTED = ("rejected", "loser", "rejected_response", "dispreferred", "worse", "dispreferred_response")
COMPLETION = (
    *("completion", "response", "output", "reply", "solution", "generation", "generated_text", "model_output"),
    *("model_response", "llm_output", "llm_response", "bot_response", "assistant", "prediction", "generated"),
    *("bot_reply", "assistant_response", "assistant_reply", "ai_response", "model_reply", "completion_text"),
    *("response_text", "output_text", "generated_response", "generated_answer", "model_answer"),
)
COMPLETIONS = ("completions", "responses", "generations", "outputs", "candidates", "answers")
REFERENCES = ("answer", "reference", "ground_truth", "target")
ANNOTATOR = (
    *("annotator", "worker", "worker_id", "annotator_id", "rater", "rater_id", "evaluator", "labeler", "labeller"),
    *("reviewer", "reviewer_id"),
)
BESIDE: Mapping[str, tuple[str, ...]] = {
    "annotator": ANNOTATOR,
    "tie": ("tie",),
    "margin": ("margin",),
    "weight": ("weight",),
    "group": ("group",),
    "rejected_prompt": ("rejected_prompt",),
    "chosen_first": ("chosen_first",),
    "template": ("template",),
    "checker": ("checker",),
    "ranks": ("ranks", "rank"),
    "labels": ("labels",),
    "continuations": ("continuations",),
}
"""Names of further columns of records; those of `Record` models themselves come first."""
_ANSWERS = {*COMPLETION, *COMPLETIONS, *REFERENCES, *(name for pair in PREFERENCES for name in pair)}
_PROMPTS = {*prompts.PROMPT_COLUMNS, *prompts.CONVERSATIONS}
_BESIDE = {name for names in BESIDE.values() for name in names}


def union(rows: Sequence[Row]) -> dict[str, Any]:
    """All columns of some rows, each with its first value that is not blank."""
    whole: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            if name not in whole or (is_blank(whole[name]) and not is_blank(value)):
                whole[name] = value
    return whole


def distinct(row: Row, named: Collection[str], source: str) -> dict[str, Any]:
    """The columns of a row without those that have the name of another one but for case and punctuation.

    Of two such the one that --columns names (in `named`) stays. Raises `EvidenceError` where it names neither, and the
    name is one that is read.
    """
    names: dict[str, list[str]] = {}
    for name in row:
        names.setdefault(canonical(name), []).append(name)
    hidden: set[str] = set()
    for plain, same in names.items():
        if len(same) == 1 or not (plain in _ANSWERS | _PROMPTS | _BESIDE or is_named(plain)):
            continue
        explicit = [name for name in same if name in named]
        if len(explicit) != 1:
            raise EvidenceError(
                f"the columns {', '.join(f'`{name}`' for name in same)} differ in case and punctuation alone",
                mend=f"Leave out all but one, as --ignore {same[-1]}, or rename them",
                source=source,
                column=same[-1],
            )
        hidden |= {*same} - {*explicit}
    return {name: value for name, value in row.items() if name not in hidden}


def is_late(kind: Kind, *, verdict: bool, judged: bool = True) -> Callable[[str], bool]:
    """Whether a column that the first rows do not have would have changed how rows of this kind are read.

    `verdict` says that rows are two answers and a verdict, `judged` that judgements are read at all.
    """
    fields = KINDS[kind].model_fields

    def late(name: str) -> bool:
        plain = canonical(name)
        if plain in _PROMPTS and name != "prompt":
            return True
        if plain in _BESIDE and name not in fields:
            ours = next(ours for ours, names in BESIDE.items() if plain in names)
            return ours in fields
        if kind in ("demonstration", "problem", "outcome", "rating"):
            return judged and (is_named(name) or plain in REJECTED)
        return verdict and plain in VERDICTS

    return late
