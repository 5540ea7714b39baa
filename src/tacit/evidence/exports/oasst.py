"""Open Assistant's conversation trees (`oasst_*_trees.jsonl`): {message_tree_id, tree_state, prompt}.

`prompt` is a node {text, role: prompter | assistant, rank, deleted, replies: [nodes]}. Among the replies to one message
rank 0 is the best; a reply without a rank was not ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tacit.evidence.codes import dense_ranks
from tacit.evidence.layout import Row, Rows, layout


def rankings(row: Row) -> Rows:
    """The ranked replies to each prompter's message, where there are two or more."""
    records: Rows = []
    for messages, replies in _nodes(row):
        ranked = [reply for reply in replies if reply.get("rank") is not None]
        if len(ranked) > 1:
            ranks = dense_ranks(reply["rank"] for reply in ranked)
            completions = [reply["text"] for reply in ranked]
            tree = row.get("message_tree_id")
            records.append({"prompt": messages, "completions": completions, "ranks": ranks, "message_tree_id": tree})
    return records


def demonstrations(row: Row) -> Rows:
    """The best reply to each prompter's message, and every reply without a rank."""
    return [
        {"prompt": messages, "completion": reply["text"], "message_tree_id": row.get("message_tree_id")}
        for messages, replies in _nodes(row)
        for reply in replies
        if not reply.get("rank")
    ]


def _nodes(row: Row) -> Iterable[tuple[list[dict[str, Any]], list[Row]]]:
    """Every point of the tree where assistants replied: the messages so far, and the replies."""
    stack: list[tuple[list[dict[str, Any]], Row]] = [([], row["prompt"])]
    while stack:
        before, node = stack.pop()
        role = "user" if node["role"] == "prompter" else "assistant"
        messages = [*before, {"role": role, "content": node["text"]}]
        replies = [reply for reply in node.get("replies") or () if not reply.get("deleted")]
        if role == "user" and replies:
            yield messages, replies
        stack.extend((messages, reply) for reply in reversed(replies))


def _is_tree(row: Row) -> bool:
    return isinstance(row["prompt"], Mapping)


LAYOUTS = (
    layout("oasst", "ranking", "message_tree_id prompt", rankings, _is_tree),
    layout("oasst", "demonstration", "message_tree_id prompt", demonstrations, _is_tree),
)
