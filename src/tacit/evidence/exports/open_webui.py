"""Open WebUI's exports of feedback (Admin, Evaluations, Feedback, Export) and of chats (Export Chats), JSON arrays.

What its interface writes (`FeedbackModel`, and `feedbackHandler` of its chat):

- `data.rating` is 1 for thumb up and -1 for thumb down; `data.details.rating` is a number from 1 to 10 that people may
  add.
- `snapshot.chat.chat.history.messages` has every message by its id, with `parentId` and `childrenIds`; the one that was
  rated is `meta.message_id`.
- `data.sibling_model_ids` stands there where the same question had several answers (an arena, several models, or one
  that was asked again). Its leaderboard counts 1 as a win against each of them and -1 as a loss against each of them,
  and so does kind comparison.
- A chat has `chat.history.messages`, where a rated message keeps the `data` of its feedback as `annotation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tacit.evidence.codes import coded, is_blank, number
from tacit.evidence.layout import LayoutError, Row, Rows, layout, nested, pair_of

_THUMBS = {1: True, -1: False}


def is_feedback(row: Row) -> bool:
    """Whether a row is one of its feedbacks: `data` and `meta` are objects, and `meta` names a message or an arena."""
    data, meta = nested(row["data"]), nested(row["meta"])
    return isinstance(data, Mapping) and isinstance(meta, Mapping) and ("message_id" in meta or "rating" in data)


def thumbs(row: Row) -> Rows:
    """The rated answer with its thumb; none where nobody gave one."""
    good = _thumb(row)
    return [] if good is None else [{**_answered(row), "label": good}]


def details(row: Row) -> Rows:
    """The rated answer with its number from 1 to 10; none where nobody gave one."""
    detailed = nested(row["data"]).get("details")
    score = detailed.get("rating") if isinstance(detailed, Mapping) else None
    score = number(score, "data", "`details.rating` from 1 to 10", 1, 10)
    return [] if score is None else [{**_answered(row), "score": score}]


def arena(row: Row) -> Rows:
    """The rated answer against every other answer to the same question; none where there is no other."""
    good = _thumb(row)
    if good is None:
        return []
    messages, rated = _history(row)
    answered = _answered(row)
    children = messages.get(str(rated.get("parentId")), {}).get("childrenIds") or ()
    others = [messages[name] for name in children if name != rated.get("id") and name in messages]
    ours = answered.pop("completion")
    return [
        pair_of({**answered, "other_model": _model(other)}, ours, str(other["content"]), float(good))
        for other in others
        if not is_blank(other.get("content")) and str(other["content"]) != ours
    ]


def _thumb(row: Row) -> bool | None:
    return coded(nested(row["data"]).get("rating"), _THUMBS, "data", "a `rating` of 1 or -1")


def _history(row: Row) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The messages of the conversation by id, and the one that was rated."""
    value: Any = nested(row.get("snapshot"))
    for name in ("chat", "chat", "history", "messages"):
        value = value.get(name) if isinstance(value, Mapping) else None
    rated = nested(row["meta"]).get("message_id")
    if not isinstance(value, Mapping) or rated not in value:
        raise LayoutError(
            "the feedback does not hold the conversation",
            "Export it under Admin, Evaluations, Feedback, which adds `snapshot` with the rated message",
            "snapshot",
        )
    return value, value[rated]


def _answered(row: Row) -> dict[str, Any]:
    """The rated answer, what was said before it, who rated, and what stands beside."""
    messages, rated = _history(row)
    prompt: list[dict[str, Any]] = []
    seen = set()
    position = str(rated.get("parentId"))
    while position in messages and position not in seen:
        seen.add(position)
        prompt.insert(0, {"role": messages[position]["role"], "content": messages[position]["content"]})
        position = str(messages[position].get("parentId"))
    if not prompt:
        raise LayoutError("the rated message answers nothing", "Only answers can be read", "meta", value=row["meta"])
    data = nested(row["data"])
    extras = {name: data[name] for name in ("reason", "comment", "tags", "details", "rating") if data.get(name)}
    return {
        **extras,
        "prompt": prompt,
        "completion": str(rated["content"]),
        "annotator": row["user_id"],
        "model": data.get("model_id") or _model(rated),
        "feedback_id": row.get("id"),
    }


def _model(message: Mapping[str, Any]) -> Any:
    return message.get("selectedModelId") or message.get("model")


def is_chat(row: Row) -> bool:
    """Whether a row is one of its chats."""
    chat = nested(row["chat"])
    history = chat.get("history") if isinstance(chat, Mapping) else None
    return isinstance(history, Mapping) and isinstance(history.get("messages"), Mapping)


def _feedbacks(row: Row) -> list[dict[str, Any]]:
    """The rated messages of a chat as feedbacks."""
    chat = nested(row["chat"])
    return [
        {
            "id": row.get("id"),
            "user_id": row["user_id"],
            "data": message["annotation"],
            "meta": {"message_id": name},
            "snapshot": {"chat": {"chat": chat}},
        }
        for name, message in chat["history"]["messages"].items()
        if isinstance(message.get("annotation"), Mapping)
    ]


def _rated_in(records: Callable[[Row], Rows]) -> Callable[[Row], Rows]:
    return lambda row: [record for feedback in _feedbacks(row) for record in records(feedback)]


LAYOUTS = (
    layout("open_webui", "outcome", "user_id type data meta", thumbs, is_feedback, uses="snapshot id"),
    layout("open_webui", "rating", "user_id type data meta", details, is_feedback, uses="snapshot id"),
    layout("open_webui", "comparison", "user_id type data meta", arena, is_feedback, uses="snapshot id"),
    layout("open_webui_chats", "outcome", "user_id title chat", _rated_in(thumbs), is_chat, uses="id"),
    layout("open_webui_chats", "rating", "user_id title chat", _rated_in(details), is_chat, uses="id"),
    layout("open_webui_chats", "comparison", "user_id title chat", _rated_in(arena), is_chat, uses="id"),
)
