"""Reddit posts with their authors' summaries (TL;DR), as demonstrations.

- CarperAI/openai_summarize_tldr has `prompt`, which ends with `TL;DR:`, and `label`: the summary, which judges nothing.
- The filtered set of openai/summarize-from-feedback has `subreddit`, `title`, `post`, `summary`.
"""

from __future__ import annotations

from tacit.evidence.codes import answer, joined
from tacit.evidence.layout import Row, Rows, layout, without


def labelled(row: Row) -> Rows:
    """The prompt and the summary that stands in `label`."""
    return [{**without(row, "label"), "completion": answer(row["label"], "label")}]


def posts(row: Row) -> Rows:
    """The title and the post, joined by a blank line, and the summary."""
    kept = without(row, "title", "post", "summary")
    return [{**kept, "prompt": joined(row["title"], row["post"]), "completion": answer(row["summary"], "summary")}]


def _ends_with_tldr(row: Row) -> bool:
    texts = (row["prompt"], row["label"])
    return all(isinstance(text, str) for text in texts) and row["prompt"].rstrip().upper().endswith("TL;DR:")


LAYOUTS = (
    layout("tldr", "demonstration", "prompt label", labelled, _ends_with_tldr),
    layout("tldr_posts", "demonstration", "subreddit title post summary", posts),
)
