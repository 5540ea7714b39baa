"""What is known of a source before its rows are read: its columns by their plain names, and what flags say of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tacit.errors import EvidenceError
from tacit.evidence import prompts
from tacit.evidence.codes import is_blank
from tacit.evidence.judgements import Meaning
from tacit.evidence.layout import Layout, LayoutError, Row, Rows, without
from tacit.evidence.names import VERDICTS, canonical
from tacit.evidence.records import KINDS, Kind
from tacit.evidence.rows import is_list
from tacit.evidence.survey import Values, token
from tacit.evidence.verdicts import all_sides, names_side
from tacit.evidence.vocabulary import BESIDE, distinct, union


@dataclass(frozen=True)
class Request:
    """What is known beside the rows when they are recognised: the kind asked for, the meanings that flags give.

    `survey` maps names of columns (and a test that drops one) to all of their values in the source.
    """

    source: str
    survey: Callable[[Iterable[str], Callable[[Values], bool]], Mapping[str, Values]]
    kind: Kind | None = None
    labels: Mapping[str, Meaning] = field(default_factory=dict)
    verdict: Mapping[str, float | None] = field(default_factory=dict)
    ignored: Collection[str] = ()
    named: Collection[str] = ()
    """Our names that --columns gives."""
    has_items: bool = False
    """Whether texts are looked up by their ids (--items)."""
    judged: bool = True
    """Whether judgements of single answers are read; otherwise these are answers to score, whatever judges them."""
    theirs: Mapping[str, str] = field(default_factory=dict)
    """What the source calls the columns that --columns renamed."""
    inner: Callable[[Collection[str]], Mapping[str, Values]] = lambda texts: {}
    """The values inside objects and lists by their paths; texts of some columns are left as they are."""

    def title(self, column: str) -> str:
        """What the source calls a column."""
        return self.theirs.get(column, column)


class SourceColumns:
    """The columns of one source under their plain names.

    `row` has every column of the first rows (`peek`), each with its first value: a row may lack what others have.
    """

    def __init__(self, peek: Sequence[Row], request: Request) -> None:
        self.peek, self.request, self.kind = peek, request, request.kind
        self.row = distinct(union(peek), request.named, request.source)
        self.plain = {canonical(name): name for name in reversed(list(self.row))}
        self.prompt = prompts.prompt_columns(list(self.row))
        self.beside = {ours: theirs for ours, names in BESIDE.items() if (theirs := self.column(*names))}

    def column(self, *names: str) -> str | None:
        """The first of these columns that the rows have."""
        return next((self.plain[name] for name in names if name in self.plain), None)

    def one_column(self, *names: str) -> str | None:
        """The column that is filled among these; the first of the names goes before all others.

        Raises `EvidenceError` for several under other names, since the rows do not say which one is meant.
        """
        columns = [self.plain[name] for name in dict.fromkeys(names) if name in self.plain]
        filled = columns if len(columns) < 2 else [name for name in columns if self.is_filled(name)] or columns[:1]
        explicit = [column for column in filled if column in self.request.named]
        if len(filled) > 1 and canonical(filled[0]) != names[0] and len(explicit) != 1:
            shown = ", ".join(f"`{column}`" for column in filled)
            raise EvidenceError(
                f"the columns {shown} may each be `{names[0]}`",
                mend=f"Name it, as --columns {names[0]}={filled[-1]}, or leave the others out, as --ignore {filled[0]}",
                source=self.request.source,
                column=filled[-1],
            )
        return next(iter(filled if len(explicit) != 1 else explicit), None)

    def is_filled(self, column: str) -> bool:
        """Whether any row of the source says something in this column."""
        return not is_blank(self.row[column]) or not self.request.survey([column], lambda values: not values.count)

    def second_judgements(self, column: str) -> list[str]:
        """Columns with such judgements by others: named as this one with a number (`winner_2`), and with its values."""
        stem = canonical(column).rstrip("0123456789").rstrip("_")
        names = [name for name in self.row if re.fullmatch(rf"{re.escape(stem)}_?\d+", canonical(name))]
        others = [name for name in names if name != column]
        values = self.request.survey([column, *others], lambda values: True) if others else {}
        words = {name: cells.rows.keys() for name, cells in values.items()}
        return [self.request.title(name) for name in others if words.get(name, set()) & words.get(column, set())]

    def with_conversation(self) -> dict[str, str]:
        """The columns of the prompt, where the answers stand elsewhere: a conversation without its answer too."""
        column = self.column(*prompts.CONVERSATIONS)
        messages = prompts.as_messages(self.row[column]) if column else None
        if column is None or messages is None:
            return self.prompt
        answered = messages[-1].get("role") == "assistant"
        if answered and any(ours in prompts.MAIN for ours in self.prompt):
            return self.prompt
        return {**self.prompt, canonical(column): column}

    def asked(self, *kinds: Kind) -> bool:
        """Whether no kind is asked for, or one of these."""
        return self.kind is None or self.kind in kinds

    def made(
        self, name: str, kind: Kind, columns: Mapping[str | None, str], records: Callable[[Row], Rows],
        native: Callable[[Row], bool] | None = None, prompt: Mapping[str, str] | None = None,
    ) -> Layout:  # fmt: skip
        """A layout whose records have the prompt, and the columns beside it, under our names; `columns` have roles."""
        prompt = self.prompt if prompt is None else prompt
        main = (*prompts.MAIN, *prompts.CONVERSATIONS)
        asked = next((theirs for ours, theirs in prompt.items() if ours in main), None)
        needed = frozenset(column for column in (*columns, asked) if column)
        beside = {ours: theirs for ours, theirs in self.beside.items() if ours in KINDS[kind].model_fields}
        beside = {ours: theirs for ours, theirs in beside.items() if theirs not in needed | set(prompt.values())}
        moved = {theirs: ours for ours, theirs in beside.items() if ours != theirs}
        same = not moved and set(prompt.items()) <= {("prompt", "prompt")}

        def mapped(row: Row) -> Rows:
            taken = {**without(row, *prompt.values(), *moved), **{moved[n]: row[n] for n in moved if n in row}}
            if prompt or "prompt" not in row:
                taken["prompt"] = prompts.compose(row, prompt)
            return records(taken)

        uses = frozenset([*beside.values(), *prompt.values()])
        roles = {column: role for column, role in columns.items() if column} | dict.fromkeys(prompt.values(), "prompt")
        roles |= {theirs: ours for ours, theirs in beside.items()}
        return Layout(name, kind, needed, lambda row: True, mapped, uses, native if same else None, roles)

    def repeats(self, *columns: str) -> bool:
        """Whether the texts in these columns begin with their prompt in all of the first rows."""
        rows = [row for row in self.peek if all(isinstance(row.get(column), str) for column in columns)]
        asked = [self.composed(row) for row in rows] if self.prompt else []
        return bool(asked) and all(
            prompts.begins_with(row[column], prompt)
            for row, prompt in zip(rows, asked, strict=True)
            for column in columns
        )

    def composed(self, row: Row) -> Any:
        """The prompt of a row as far as it can be read."""
        try:
            return prompts.compose(row, self.prompt)
        except LayoutError:
            return ""

    def refuse_ids(self, columns: tuple[str, str]) -> None:
        """Raise where both answers are whole numbers under no prompt (or one): ids of texts that stand elsewhere."""
        cells = [str(row.get(column, "")) for row in self.peek for column in columns]
        asked = {str(self.composed(row)) for row in self.peek}
        if self.request.has_items or len(asked) > 1 or not all(cell.isdigit() for cell in cells):
            return
        raise EvidenceError(
            "the answers are numbers, which look like ids of texts",
            mend="Give the texts with --items FILE (columns `id` and `text`; --item-columns names others); if the"
            " numbers are the answers, give each row its prompt",
            source=self.request.source,
            column=columns[0],
            value=cells[0],
        )

    def refuse_names(self, columns: tuple[str, str]) -> None:
        """Raise where the better and the worse answer are names of two other columns (or of none), not texts."""
        pairs = all_sides(self.row)
        voted = (canonical(columns[0]), canonical(columns[1])) == ("winner", "loser")
        names = {canonical(column) for pair in pairs for column in pair}
        opposed = {token(row.get(self.plain[name])) for row in self.peek for name in VERDICTS if name in self.plain}
        if columns[0] == "chosen" and "rejected" in opposed:
            raise EvidenceError(
                "a column beside `chosen` and `rejected` says that the rejected answer is the better one",
                mend="Name the two answers for what they are, as --columns response_a=chosen response_b=rejected"
                " --verdict chosen=first,rejected=second, or leave that column out with --ignore",
                source=self.request.source,
            )
        cells = [row[column] for row in self.peek for column in columns if not is_blank(row.get(column))]
        if not (pairs or voted) or not all(names_side(cell) or canonical(str(cell)) in names for cell in cells):
            return
        raise EvidenceError(
            "it names an answer and is none",
            mend="Give the answers in two columns such as `response_a` and `response_b`, and a column `winner`"
            f"{'' if columns[0] == 'winner' else f', as --columns winner={columns[0]}'}",
            source=self.request.source,
            column=columns[0],
            value=cells[0],
        )

    def listed(self, names: Collection[str]) -> str | None:
        """The first column with one of these names that holds a list."""
        return next((name for plain, name in self.plain.items() if plain in names and is_list(self.row[name])), None)
