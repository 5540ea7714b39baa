"""How one raw row of each layout becomes zero or more records (as mappings; the reader validates them).

Columns that a layout does not use are kept beside the record. A row that cannot be mapped raises `LayoutError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

from tacit.conversation import parse_transcript, split_shared_prompt
from tacit.evidence.layout import LayoutError, Row, Rows, is_messages, pair_of, without

TIES = {"tie", "tied", "equal", "draw", "same", "both", "neither", "none", "tie (bothbad)", "bothbad", "both_bad"}
_LEFT = {"left", "a", "1", "first", "model_a", "model_1", "response_a", "response_1", "output_1"}
_RIGHT = {"right", "b", "2", "second", "model_b", "model_2", "response_b", "response_2", "output_2"}
SIDES = (
    ("left", "right"),
    ("response_a", "response_b"),
    ("conversation_a", "conversation_b"),
    ("answer_a", "answer_b"),
    ("response1", "response2"),
    ("response_1", "response_2"),
    ("answer1", "answer2"),
    ("output_1", "output_2"),
)
SHOWN = ("left", "conversation_a")
"""First columns of `SIDES` whose names say where an answer stood; others may name two systems shown in any order."""
_VERDICTS = ("winner", "preference", "preferred", "vote", "choice")
ALIASES = {
    "prompt": ("instruction", "question", "query", "input", "context"),
    "chosen": ("winner", "chosen_response", "preferred", "better"),
    "rejected": ("loser", "rejected_response", "dispreferred", "worse"),
    "completion": ("response", "output"),
    "label": ("correct", "is_correct"),
    "score": ("rating",),
    "annotator": ("worker", "worker_id", "annotator_id"),
}


def is_transcript(value: Any) -> bool:
    """Whether a text has Human and Assistant turns."""
    return isinstance(value, str) and bool(parse_transcript(value)) and "Human:" in value


# --- comparisons ---


def implicit_prompt(row: Row) -> Rows:
    """The prompt lies inside both sides, as messages (TRL) or as a transcript (Anthropic HH)."""
    parts = split_shared_prompt(row["chosen"], row["rejected"])
    if parts is None:
        raise LayoutError(
            "`chosen` and `rejected` do not begin with the same prompt",
            "Give both the same first messages, or columns `prompt` and `rejected_prompt`",
            "rejected",
            value=row["rejected"],
        )
    prompt, chosen, rejected = parts
    return [{**row, "prompt": prompt, "chosen": chosen, "rejected": rejected}]


def repeats_prompt(row: Row) -> bool:
    """A text prompt that the message lists of both sides begin with (UltraFeedback binarised)."""
    return (
        isinstance(row["prompt"], str)
        and all(is_messages(row[side]) and len(row[side]) > 1 for side in ("chosen", "rejected"))
        and row["prompt"] in (m.get("content") for m in row["chosen"][:2])
    )


def both_lists(row: Row) -> bool:
    """Whether both sides are lists of completions."""
    return isinstance(row["chosen"], list) and isinstance(row["rejected"], list) and not is_messages(row["chosen"])


def reward_bench_2(row: Row) -> Rows:
    """RewardBench 2: one or more correct and several wrong completions, as a ranking with two places."""
    chosen, rejected = row["chosen"], row["rejected"]
    ranks = [1] * len(chosen) + [2] * len(rejected)
    return [{**without(row, "chosen", "rejected"), "completions": [*chosen, *rejected], "ranks": ranks}]


def reward_bench_2_pairs(row: Row) -> Rows:
    """RewardBench 2 as every pair of a correct and a wrong completion."""
    return [{**row, "chosen": c, "rejected": r} for c in row["chosen"] for r in row["rejected"]]


def system_and_input(row: Row) -> Rows:
    """Axolotl: `system`, `input`, `chosen`, `rejected`."""
    turns = [{"role": "system", "content": row["system"]}] if row["system"] else []
    prompt = [*turns, {"role": "user", "content": row["input"]}] if turns else row["input"]
    return [{**without(row, "system", "input"), "prompt": prompt}]


def sides_and_verdict(row: Row) -> tuple[str, str, str] | None:
    """The columns of the two answers and of the verdict, where a row has them."""
    verdict = next((name for name in _VERDICTS if name in row), None)
    sides = next(((a, b) for a, b in SIDES if a in row and b in row), None)
    return (*sides, verdict) if sides and verdict else None


def verdict_of(value: Any, left: str, right: str, column: str) -> float:
    """1 where the left side won, 0 for the right one, 0.5 for a tie; numbers run from 1 (left) to 2 (right)."""
    word = str(value).strip().lower()
    if word in TIES:
        return 0.5
    if word in _LEFT or word == left.lower():
        return 1.0
    if word in _RIGHT or word == right.lower():
        return 0.0
    try:
        number = float(word)
    except ValueError:
        number = float("nan")
    if number == 0:
        return 0.5
    if 1 <= number <= 2:
        return 0.5 if number == 1.5 else float(number < 1.5)
    raise LayoutError("the verdict names no side", f"Write `{left}`, `{right}` or `tie`", column, value=value)


def two_sided(row: Row) -> Rows:
    """Two answers and a verdict: AlpacaEval, arenas, crowd tables. Rows without a verdict give nothing."""
    left, right, column = sides_and_verdict(row) or ("", "", "")
    if not column:
        raise LayoutError("the row lacks its two answers or the verdict", "Keep one kind of row per file")
    if row[column] is None or row[column] == "":
        return []
    verdict = verdict_of(row[column], left, right, column)
    kept = _annotator(with_prompt(without(row, left, right)))
    if left.startswith("conversation"):
        return implicit_prompt(pair_of(kept, row[left], row[right], verdict, shown=True))
    return [pair_of(kept, row[left], row[right], verdict, shown=left in SHOWN)]


def _annotator(row: dict[str, Any]) -> dict[str, Any]:
    theirs = next((name for name in (*ALIASES["annotator"], "judge") if name in row), None)
    return row if "annotator" in row or theirs is None else {**row, "annotator": row[theirs]}


def with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """The prompt under its name; `instruction` and `input` of the Alpaca family are joined by a blank line."""
    if "prompt" in row:
        return row
    if "instruction" in row:
        extra = row.get("input")
        return {**row, "prompt": f"{row['instruction']}\n\n{extra}" if extra else row["instruction"]}
    theirs = next((name for name in ALIASES["prompt"] if name in row), None)
    return row if theirs is None else {**row, "prompt": row[theirs]}


def panda_lm(row: Row) -> Rows:
    """PandaLM: `annotator1`, `annotator2`, ... each say 1, 2 or 0 for a tie; one comparison for each of them."""
    names = [name for name in row if name.startswith("annotator") and name[9:].isdigit()]
    kept = with_prompt(without(row, "response1", "response2", *names))
    return [
        pair_of({**kept, "annotator": name}, row["response1"], row["response2"], verdict_of(row[name], "1", "2", name))
        for name in names
        if row[name] is not None
    ]


def votes(row: Row) -> Rows:
    """A list `votes` of {annotator, vote}, where a vote names one of two columns (`a1`, `a2`) or says it is a tie."""
    left, right = "a1", "a2"
    kept = without(row, left, right, "votes")
    return [
        pair_of(
            {**kept, **without(vote, "vote")}, row[left], row[right], verdict_of(vote["vote"], left, right, "votes")
        )
        for vote in row["votes"]
    ]


# --- several completions ---


def completions_have(*columns: str) -> Callable[[Row], bool]:
    """A test for `completions` that is a list of objects with these columns."""
    wanted = set(columns)

    def fits(row: Row) -> bool:
        items = row["completions"]
        return isinstance(items, list) and bool(items) and isinstance(items[0], Mapping) and wanted <= items[0].keys()

    return fits


def is_nemo_pair(row: Row) -> bool:
    """Whether NeMo's row has two completions."""
    return completions_have("rank", "completion")(row) and len(row["completions"]) == 2


def _dense_ranks(values: Iterable[float]) -> list[int]:
    listed = list(values)
    places = {value: place for place, value in enumerate(sorted(set(listed)), 1)}
    return [places[value] for value in listed]


def nemo(row: Row) -> Rows:
    """NeMo RL: `context` and `completions` of {rank, completion}; the lowest rank is the best."""
    ranks = _dense_ranks(item["rank"] for item in row["completions"])
    completions = [item["completion"] for item in row["completions"]]
    return [{**without(row, "context"), "prompt": row["context"], "completions": completions, "ranks": ranks}]


def nemo_pairs(row: Row) -> Rows:
    """NeMo RL as every pair of its completions; equal ranks tie."""
    (ranking,) = nemo(row)
    kept = without(ranking, "completions", "ranks")
    return [
        pair_of(kept, a, b, 0.5 if i == j else float(i < j))
        for (a, i), (b, j) in combinations(zip(ranking["completions"], ranking["ranks"], strict=True), 2)
    ]


def ultra_feedback(row: Row) -> Rows:
    """UltraFeedback: `completions` of {response, overall_score, annotations}; one rating for each that has a score."""
    kept = without(with_prompt(dict(row)), "completions")
    return [
        {
            **kept,
            **without(item, "response", "overall_score"),
            "completion": item["response"],
            "score": item["overall_score"],
        }
        for item in row["completions"]
        if item["overall_score"] is not None
    ]


def ultra_feedback_ranking(row: Row) -> Rows:
    """UltraFeedback as one ranking by overall score."""
    scored = [item for item in row["completions"] if item["overall_score"] is not None]
    ranks = _dense_ranks(-item["overall_score"] for item in scored)
    kept = with_prompt(without(row, "completions"))
    return [{**kept, "completions": [item["response"] for item in scored], "ranks": ranks}] if len(scored) > 1 else []


def _oasst_nodes(row: Row) -> Iterable[tuple[list[dict[str, Any]], list[Row]]]:
    """Every point of an Open Assistant tree where assistants replied: the messages so far, and the replies."""
    stack: list[tuple[list[dict[str, Any]], Row]] = [([], row["prompt"])]
    while stack:
        before, node = stack.pop()
        role = "user" if node["role"] == "prompter" else "assistant"
        messages = [*before, {"role": role, "content": node["text"]}]
        replies = [reply for reply in node.get("replies") or () if not reply.get("deleted")]
        if role == "user" and replies:
            yield messages, replies
        stack.extend((messages, reply) for reply in reversed(replies))


def oasst_rankings(row: Row) -> Rows:
    """Open Assistant trees: the ranked replies to each prompter's message (rank 0 is the best there)."""
    records: Rows = []
    for messages, replies in _oasst_nodes(row):
        ranked = [reply for reply in replies if reply.get("rank") is not None]
        if len(ranked) > 1:
            ranks = _dense_ranks(reply["rank"] for reply in ranked)
            completions = [reply["text"] for reply in ranked]
            tree = row.get("message_tree_id")
            records.append({"prompt": messages, "completions": completions, "ranks": ranks, "message_tree_id": tree})
    return records


def oasst_demonstrations(row: Row) -> Rows:
    """Open Assistant trees: the best reply to each prompter's message, and every reply without a rank."""
    return [
        {"prompt": messages, "completion": reply["text"], "message_tree_id": row.get("message_tree_id")}
        for messages, replies in _oasst_nodes(row)
        for reply in replies
        if not reply.get("rank")
    ]


def continuations(row: Row) -> Rows:
    """Steps labelled by sampled continuations: a step is right where any continuation of it reached the answer."""
    given = row["continuations"]
    if not isinstance(given, list) or not all(isinstance(of_step, list) and of_step for of_step in given):
        raise LayoutError(
            "`continuations` is not a list of lists",
            "Give for each step whether its continuations were right, as [[true, false], [false, false]]",
            "continuations",
            value=given,
        )
    return [{**row, "labels": [any(of_step) for of_step in given]}]


def answers(row: Row) -> Rows:
    """Several answers of one prompt, each right or wrong: one outcome for each."""
    completions, labels = row["completions"], row["labels"]
    if not isinstance(completions, list) or not isinstance(labels, list) or len(completions) != len(labels):
        raise LayoutError("`completions` and `labels` do not match", "Give one label for each completion", "labels")
    kept = without(row, "completions", "labels")
    return [{**kept, "completion": c, "label": label} for c, label in zip(completions, labels, strict=True)]


# --- demonstrations and problems ---


def last_message(row: Row) -> Rows:
    """A whole conversation in `messages`: its last message is the demonstration."""
    if not is_messages(row["messages"]) or len(row["messages"]) < 2:
        raise LayoutError(
            "`messages` is not a conversation", "Give two or more {role, content}", "messages", value=row["messages"]
        )
    return [{**without(row, "messages"), "prompt": row["messages"][:-1], "completion": row["messages"][-1:]}]


def alpaca(row: Row) -> Rows:
    """Alpaca: `instruction`, `input`, `output`."""
    return [{**with_prompt(without(row, "output")), "completion": row["output"]}]


def self_instruct(row: Row) -> Rows:
    """Self-Instruct: `instruction` and `instances` of {input, output}."""
    kept = without(row, "instances")
    return [record for item in row["instances"] for record in alpaca({**kept, **item})]


def verl(row: Row) -> Rows:
    """Verl: the answer is `reward_model.ground_truth`."""
    truth = row["reward_model"].get("ground_truth")
    if truth is None:
        raise LayoutError(
            "no ground truth", "Give `reward_model.ground_truth`", "reward_model", value=row["reward_model"]
        )
    return [{**row, "answer": str(truth)}]
