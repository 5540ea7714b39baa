"""Tinker's labelled comparisons: `comparison` {prompt_conversation, completion_A, completion_B}, lists of messages, and
`label`: A, B or Tie. A stands first, in whatever order people saw the two.
"""

from __future__ import annotations

from collections.abc import Mapping

from tacit.evidence.codes import coded
from tacit.evidence.layout import Row, Rows, layout, nested, pair_of, without

_SHARES = {"A": 1.0, "B": 0.0, "Tie": 0.5}
_SIDES = {"prompt_conversation", "completion_A", "completion_B"}


def is_labelled(row: Row) -> bool:
    """Whether a row is a comparison of Tinker."""
    comparison = nested(row["comparison"])
    return isinstance(comparison, Mapping) and comparison.keys() >= _SIDES


def comparison(row: Row) -> Rows:
    """The comparison as one; none without a label."""
    share = coded(row["label"], _SHARES, "label", "A, B or Tie")
    if share is None:
        return []
    sides = nested(row["comparison"])
    extras = {**without(row, "comparison", "label"), **without(sides, *_SIDES), "prompt": sides["prompt_conversation"]}
    return [pair_of(extras, sides["completion_A"], sides["completion_B"], share)]


LAYOUTS = (layout("tinker", "comparison", "comparison label", comparison, is_labelled),)
