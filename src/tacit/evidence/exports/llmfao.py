"""LLMFAO's crowd comparisons (dustalov/llmfao): votes on two models, whose answers stand in another file.

`left` and `right` are names of models, `prompt` is the id of a prompt, and `winner` is left, right or tie. The answers
stand in `results.jsonl`, one for each prompt and model; no single column names them, so that no flag can join them.
"""

from __future__ import annotations

from tacit.evidence.layout import LayoutError, Row, layout


def refuse(row: Row) -> bool:
    """Raises `LayoutError`: without the answers there is nothing to compare."""
    raise LayoutError(
        "`left` and `right` are names of models, and the file has none of their answers",
        "Write the answers of results.jsonl (by `prompt` and `model`) into `left` and `right`, the text of the prompt"
        " into `prompt`, and leave `model_x` and `model_y` out",
        "left",
        value=row["left"],
    )


LAYOUTS = (layout("llmfao", "comparison", "prompt model_x model_y left right winner worker", fits=refuse),)
