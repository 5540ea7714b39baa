"""SQuALITY (nyu-mll/SQuALITY): summaries of stories that answer a question, and people's ratings of them.

- The data has `document` and `questions`, a list of {question_text, responses: [{worker_id, response_text}]}: each
  response is a demonstration; the story and the question are its prompt, joined by a blank line.
- The human evaluation has `passage-id` and `questions`, {number: {system: {response, reviews}}}. A review has ratings
  from 0 to 100 and ranks (1 is the best) for correctness, selection and overall. One rating for each review with the
  three as attributes; with `--kind ranking` one ranking for each reviewer of a question, by the overall rank. The texts
  of story and question are not in that file: the prompt is the id of the passage and the number of the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tacit.evidence.codes import answer, dense_ranks, joined, number
from tacit.evidence.layout import Row, Rows, layout, without

_ASPECTS = ("correctness", "selection", "overall")


def demonstrations(row: Row) -> Rows:
    """Every response to every question of the story."""
    return [
        {
            **without(row, "document", "questions"),
            **without(question, "responses"),
            **without(response, "response_text"),
            "prompt": joined(row["document"], question["question_text"]),
            "completion": answer(response["response_text"], "questions"),
        }
        for question in row["questions"]
        for response in question["responses"]
    ]


def ratings(row: Row) -> Rows:
    """Every review that has a rating."""
    records: Rows = []
    for prompt, text, review in _reviews(row):
        score = {
            name: number(review.get(f"{name}-rating"), "questions", f"a `{name}-rating` from 0 to 100", 0, 100)
            for name in _ASPECTS
        }
        if any(value is not None for value in score.values()):
            beside = {"system": review.get("system"), "annotator": review.get("worker_id")}
            records.append({**beside, "prompt": prompt, "completion": text, "score": score})
    return records


def rankings(row: Row) -> Rows:
    """The systems in the order of each reviewer of each question."""
    found: dict[tuple[str, Any], list[tuple[str, float]]] = {}
    for prompt, text, review in _reviews(row):
        rank = number(review.get("overall-rank"), "questions", "an `overall-rank` from 1 (the best)", low=1)
        if rank is not None:
            found.setdefault((prompt, review.get("worker_id")), []).append((text, rank))
    return [
        {
            "prompt": prompt,
            "completions": [text for text, _ in ranked],
            "ranks": dense_ranks(rank for _, rank in ranked),
            "annotator": worker,
        }
        for (prompt, worker), ranked in found.items()
        if len(ranked) > 1
    ]


def _reviews(row: Row) -> Iterator[tuple[str, str, Row]]:
    """(prompt, response, review) of every review."""
    for question, systems in row["questions"].items():
        for system in systems.values():
            for review in system.get("reviews") or ():
                yield f"{row['passage-id']}/{question}", answer(system["response"], "questions"), review


def _are_asked(row: Row) -> bool:
    items = row["questions"]
    return isinstance(items, list) and bool(items) and isinstance(items[0], Mapping) and "responses" in items[0]


def _are_reviewed(row: Row) -> bool:
    return isinstance(row["questions"], Mapping)


LAYOUTS = (
    layout("squality", "demonstration", "document questions", demonstrations, _are_asked),
    layout("squality_reviews", "rating", "passage-id questions", ratings, _are_reviewed),
    layout("squality_reviews", "ranking", "passage-id questions", rankings, _are_reviewed),
)
