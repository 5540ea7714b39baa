"""lm-evaluation-harness: the samples of `--log_samples` (samples_TASK_DATE.jsonl, a document a line).

- `arguments` has the requests, {gen_args_0: {arg_0: prompt, arg_1: settings or the text to score}} (older versions: a
  list of lists); `resps` the replies of each, `filtered_resps` what a filter made of them, `filter` its name;
  `metrics` names the columns with the results (older versions lack it).
- A generation (`arg_1` are settings) is judged by `exact_match`, `acc` and the like, 1 or 0: the answer is the reply
  as it was given, not what the filter cut out of it. Several replies that one result judges are no single answer.
- A choice among texts (`arg_1` is a text, `resps` are log-likelihoods) answers with the likeliest; `acc` says whether
  that is right. Results such as `perplexity`, and the likelihood of one text, judge no answer.
- A file holds a document once for each filter (gsm8k: `strict-match`, `flexible-extract`): `criterion` names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.evidence.codes import coded, is_blank, number
from tacit.evidence.layout import LayoutError, Row, Rows, layout, nested, without

_YES_NO = ("exact_match", "acc", "prompt_level_strict_acc", "pass@1", "pass_at_1", "pass@1_instruct")
_HIGH = (
    "exact_match",
    "acc",
    "f1",
    "bleu",
    "chrf",
    "chrf++",
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "em",
    "bert_score",
)


def is_sample(row: Row) -> bool:
    """Whether a row is a sample of the harness."""
    return isinstance(nested(row["arguments"]), Mapping | list)


def outcome(row: Row) -> Rows:
    """A sample with its first result that is right or wrong."""
    name = next((name for name in _YES_NO if not is_blank(row.get(name))), None)
    if name is None:
        return _no_result(row, _HIGH, "rating")
    label = coded(row[name], {1: True, 0: False, "true": True, "false": False}, name, "1 or 0")
    filtered = row.get("filter")
    criterion = name if is_blank(filtered) or filtered == "none" else f"{name},{filtered}"
    return [{**_answered(row, name), "label": label, "criterion": criterion}]


def rating(row: Row) -> Rows:
    """A sample with one attribute a result that is better where it is high."""
    scores = {name: number(row[name], name, "a number") for name in _HIGH if not is_blank(row.get(name))}
    if not scores:
        return _no_result(row, _YES_NO, "outcome")
    return [{**_answered(row, next(iter(scores))), "score": scores}]


def _no_result(row: Row, others: tuple[str, ...], kind: str) -> Rows:
    if any(not is_blank(row.get(name)) for name in others):
        raise LayoutError(
            f"the results are read with --kind {kind} alone", f"Give --kind {kind}", "metrics", value=row.get("metrics")
        )  # fmt: skip
    return []


def _answered(row: Row, metric: str) -> dict[str, Any]:
    requests, replies = _requests(row), nested(row["resps"])
    extras = without(row, "arguments", "resps")
    prompt = requests[0][0]
    if len(requests[0]) > 1 and isinstance(requests[0][1], str):
        if metric != "acc":
            reason = f"`{metric}` does not say which of the texts the model chose"
            raise LayoutError(reason, "Only `acc` can be read of choices", metric)
        # requests without a prompt are the unconditional ones of acc_mutual_info
        scored = [(float(_flat(r)[0]), q) for q, r in zip(requests, replies, strict=True) if q[0]]
        if len(scored) < 2:
            reason = "the model was asked how likely one text is, so that the result judges no answer"
            raise LayoutError(reason, "Log a task that generates, or chooses among texts", "arguments")
        best = max(scored, key=lambda pair: pair[0])[1]
        return {**extras, "prompt": best[0], "completion": best[1]}
    texts = _flat(replies)
    if len(requests) != 1 or len(texts) != 1:
        raise LayoutError(
            f"one result judges {len(texts)} replies together", "Log one reply to each question (repeats: 1)", "resps"
        )
    return {**extras, "prompt": prompt, "completion": texts[0]}


def _requests(row: Row) -> list[list[Any]]:
    """The arguments of each request, as lists."""
    arguments = nested(row["arguments"])
    listed = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    return [list(request.values()) if isinstance(request, Mapping) else list(request) for request in listed]


def _flat(replies: Any) -> list[Any]:
    return [item for reply in replies for item in _flat(reply)] if isinstance(replies, list) else [replies]


_COLUMNS = "doc target arguments resps filtered_resps"
LAYOUTS = (
    layout(
        "lm_eval", "outcome", _COLUMNS, outcome,
        lambda row: is_sample(row) and (any(name in row for name in _YES_NO) or not any(n in row for n in _HIGH)),
        uses="filter metrics " + " ".join(_YES_NO),
    ),
    layout("lm_eval", "rating", _COLUMNS, rating, is_sample, uses="metrics " + " ".join(_HIGH)),
    layout("lm_eval", "outcome", _COLUMNS, outcome, is_sample, uses="filter metrics " + " ".join(_YES_NO)),
)  # fmt: skip
