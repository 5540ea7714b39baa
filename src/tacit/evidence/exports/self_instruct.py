"""Self-Instruct's seed tasks: `instruction` and `instances`, a list of {input, output}. One demonstration for each."""

from __future__ import annotations

from tacit.evidence.codes import joined
from tacit.evidence.layout import Row, Rows, layout, without


def demonstrations(row: Row) -> Rows:
    """Each instance: the instruction and its input (if any), joined by a blank line, and the output."""
    kept = without(row, "instances")
    return [
        {
            **kept,
            **without(item, "output"),
            "prompt": joined(row["instruction"], item.get("input")),
            "completion": item["output"],
        }
        for item in row["instances"]
    ]


LAYOUTS = (
    layout(
        "self_instruct",
        "demonstration",
        "instruction instances",
        demonstrations,
        lambda row: isinstance(row["instances"], list),
    ),
)
