"""The layouts of preference data in the wild, recognised by their columns.

A layout says which columns a row must have, and which function of `mappings` turns a row into records; layouts whose
rows are records already have none.
"""

from __future__ import annotations

from tacit.evidence import mappings as m
from tacit.evidence.exports import export_layouts
from tacit.evidence.layout import Layout, Row, is_messages
from tacit.evidence.layout import layout as _layout
from tacit.evidence.mappings import ALIASES
from tacit.evidence.records import Kind


def detect(row: Row, kind: Kind | None = None) -> tuple[Layout, dict[str, str]] | None:
    """The first layout that a row fits, and the columns to rename (theirs to ours); None where nothing fits.

    Layouts with their own column names go first, then TRL's names, then TRL's names under common aliases
    (`instruction` for `prompt`, `winner` and `loser` for `chosen` and `rejected`, ...). `kind` keeps to one kind.
    """
    aliased = _by_alias(row)
    for (renamed, renames), layouts in (
        ((row, {}), export_layouts()),
        ((row, {}), LAYOUTS),
        (aliased, LAYOUTS),
        (aliased, PROMPTLESS),
    ):
        for layout in layouts:
            if kind in (None, layout.kind) and layout.requires <= renamed.keys() and layout.fits(renamed):
                return layout, renames
    return None


def _by_alias(row: Row) -> tuple[Row, dict[str, str]]:
    renames: dict[str, str] = {}
    for ours, aliases in ALIASES.items():
        theirs = next((alias for alias in aliases if alias in row and alias not in renames), None)
        if ours not in row and theirs is not None:
            renames[theirs] = ours
    return {renames.get(name, name): value for name, value in row.items()}, renames


LAYOUTS: tuple[Layout, ...] = (
    _layout("two_sided", "comparison", "", m.two_sided, lambda r: m.sides_and_verdict(r) is not None),
    _layout("axolotl", "comparison", "system input chosen rejected", m.system_and_input),
    _layout("repeated_prompt", "comparison", "prompt chosen rejected", m.implicit_prompt, m.repeats_prompt),
    _layout("preference", "comparison", "prompt chosen rejected"),
    _layout("steps", "steps", "prompt completions labels"),
    _layout("continuations", "steps", "prompt completions continuations", m.continuations),
    _layout("answers", "outcome", "prompt completions labels", m.answers),
    _layout("ranking", "ranking", "prompt completions ranks"),
    _layout("outcome", "outcome", "prompt completion label"),
    _layout("rating", "rating", "prompt completion score"),
    _layout("demonstration", "demonstration", "prompt completion"),
    _layout("alpaca", "demonstration", "instruction output", m.alpaca),
    _layout("messages", "demonstration", "messages", m.last_message, lambda r: is_messages(r["messages"])),
    _layout("problem", "problem", "prompt answer"),
)
"""In the order in which they are tried: of several kinds with one name the first is read unless `kind` asks for one."""

PROMPTLESS: tuple[Layout, ...] = (
    _layout(
        "implicit_prompt",
        "comparison",
        "chosen rejected",
        m.implicit_prompt,
        lambda r: all(is_messages(r[side]) or m.is_transcript(r[side]) for side in ("chosen", "rejected")),
    ),
    _layout("promptless", "comparison", "chosen rejected"),
)
"""Tried last, so that a prompt under another name is found first."""
