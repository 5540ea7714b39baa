"""Chatbot Arena and MT-bench: `conversation_a`, `conversation_b` (whole conversations) and `winner`.

`winner` is `model_a`, `model_b`, `tie`, `tie (bothbad)` (lmsys/chatbot_arena_conversations,
lmarena-ai/arena-human-preference-100k), `both_bad` (-140k) or `tie (inconsistent)`, where a judge changed its mind with
the order of the answers (lmsys/mt_bench_human_judgments, split gpt4_pair). `judge` is who judged. The messages that
both sides share are the prompt; conversation A stood left. Search Arena (lmarena-ai/search-arena-24k) calls the
conversations `messages_a` and `messages_b`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tacit.conversation import split_shared_prompt
from tacit.evidence.codes import coded, is_blank
from tacit.evidence.layout import Layout, LayoutError, Row, Rows, is_messages, layout, pair_of, without

SHARES = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "both_bad": 0.5, "tie (bothbad)": 0.5, "tie (inconsistent)": 0.5}
"""What `winner` says, as the share of the first answer."""
RIGHT = "`model_a`, `model_b`, `tie` or `tie (bothbad)`"


def between(stem: str) -> Callable[[Row], Rows]:
    """Comparisons of the endings of two conversations, in the columns `{stem}_a` and `{stem}_b`."""
    left, right = f"{stem}_a", f"{stem}_b"

    def comparisons(row: Row) -> Rows:
        share = coded(row["winner"], SHARES, "winner", RIGHT)
        if share is None:
            return []
        parts = split_shared_prompt(row[left], row[right])
        if parts is None:
            reason = "the conversations do not begin with the same message"
            raise LayoutError(reason, "Both must begin with the same prompt", right, value=row[right])
        prompt, first, second = parts
        kept = {**without(row, left, right), "prompt": prompt, **_annotator(row)}
        return [pair_of(kept, first, second, share, shown=True)]

    return comparisons


def _annotator(row: Row) -> dict[str, Any]:
    """Who judged: a name, or (GPT-4 in MT-bench) the model and its prompt."""
    judge = row.get("judge", row.get("user_id"))
    if row.get("annotator") is not None or is_blank(judge):
        return {}
    return {"annotator": "/".join(map(str, judge)) if isinstance(judge, list) else str(judge)}


def _layout(name: str, stem: str) -> Layout:
    left, right = f"{stem}_a", f"{stem}_b"
    return layout(
        name,
        "comparison",
        f"{left} {right} winner",
        between(stem),
        lambda row: is_messages(row[left]) and is_messages(row[right]),
        uses="judge user_id annotator",
    )


LAYOUTS = (_layout("arena", "conversation"), _layout("search_arena", "messages"))
