"""How rows of a source become records: exports of tools first, then by what columns are called and what they hold.

The general layouts are tried from what judges to what does not: two answers and a verdict, chosen and rejected, several
answers, one answer with a judgement; last of all, and only where no column judges, good examples and problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tacit.errors import EvidenceError
from tacit.evidence import prompts
from tacit.evidence.codes import is_blank
from tacit.evidence.exports import export_layouts
from tacit.evidence.judgements import (
    CONTEXT,
    INVERTED,
    LABELS,
    MEASURES,
    SCORES,
    UNCLEAR,
    VERDICTS,
    are_numbers,
    canonical,
    is_named,
    judges,
    require_labels,
    scale_of,
    shortened,
)
from tacit.evidence.layout import Layout, LayoutError, Row, Rows, without
from tacit.evidence.records import KINDS, Kind
from tacit.evidence.rows import (
    against_rejected,
    answer_text,
    attribute_scores,
    comparison_rows,
    continued_steps,
    each_answer,
    has_text_prompt,
    is_list,
    is_plain_answer,
    is_plain_comparison,
    is_plain_outcome,
    is_plain_rating,
    is_transcript,
    one_answer,
    pairs_by,
    ranked_answers,
)
from tacit.evidence.source_columns import Request, SourceColumns
from tacit.evidence.survey import Values, token
from tacit.evidence.verdicts import code_of, sides_of
from tacit.evidence.vocabulary import (
    COMPLETION,
    COMPLETIONS,
    PREFERENCES,
    REFERENCES,
    REJECTED,
    is_late,
)


def export_of(row: Row, request: Request) -> Layout | None:
    """The layout of an export or a data set that a row has. Raises `LayoutError` for one that cannot be read."""
    seen = without(row, *request.ignored)
    for entry in export_layouts():
        if request.kind in (None, entry.kind) and entry.requires <= seen.keys() and entry.fits(seen):
            if entry.ids and not request.has_items:
                raise LayoutError(
                    "the answers are ids of texts that stand in another file",
                    "Give that file with --items FILE (columns `id` and `text`; --item-columns names others)",
                )
            if entry.kind in ("demonstration", "problem") and request.judged:
                _refuse_judged(entry, seen)
            return entry
    return None


def _refuse_judged(entry: Layout, row: Row) -> None:
    """Raise for a row of good examples or problems in which something judges beside its own columns."""
    for name, value in row.items():
        if name not in entry.requires | entry.uses and is_named(name) and not is_blank(value):
            raise LayoutError(
                f"a column that judges beside those of {entry.name}, whose rows are of kind {entry.kind}",
                f"Leave it out with --ignore {name}, or name the prompt and the answer with --columns prompt=..."
                " completion=...",
                name,
                value=value,
            )


def general_layout(peek: Sequence[Row], request: Request) -> Layout | None:
    """The general layout of a source, by the columns that its first rows have together; None where none fits.

    Raises `EvidenceError` or `LayoutError` for what judges and is not read.
    """
    layout = _General([without(row, *request.ignored) for row in peek], request).layout()
    if layout is None:
        return None
    known = frozenset(name for row in peek for name in row)
    return replace(
        layout, known=known, is_late=is_late(layout.kind, verdict=layout.name == "two_sided", judged=request.judged)
    )


class _General(SourceColumns):
    """The general layouts of one source, tried in turn."""

    def layout(self) -> Layout | None:
        for build in (self.two_sided, self.comparison, self.several, self.single, self.problem):
            if (layout := build()) is not None:
                return layout
        return None

    # --- two answers and a verdict ---

    def two_sided(self) -> Layout | None:
        if not self.asked("comparison"):
            return None
        candidates = sides_of(self.row)
        if not candidates:
            return None
        values = self.request.survey([sides.verdict for sides in candidates], lambda values: True)
        filled = [sides for sides in candidates if values[sides.verdict].count]
        explicit = [sides for sides in filled if canonical(sides.verdict) in self.request.named]
        if not filled:
            filled = candidates[:1]
        if len(filled) > 1 and len(explicit) != 1:
            names = ", ".join(f"`{sides.verdict}`" for sides in filled)
            raise EvidenceError(
                f"the columns {names} all say which answer is better",
                mend=f"Leave out all but one, as --ignore {filled[-1].verdict}",
                source=self.request.source,
            )
        sides = (explicit or filled)[0]
        code = code_of(sides, values[sides.verdict], self.request.verdict, self.request.source)
        judge = self.column("judge") if "annotator" not in self.beside else None
        if judge:
            self.beside["annotator"] = judge
        self.refuse_ids((sides.first, sides.second))
        prompt = self.with_conversation()
        prompt = {ours: theirs for ours, theirs in prompt.items() if theirs not in (sides.first, sides.second)}
        records = pairs_by(code, self.repeats(sides.first, sides.second))
        columns: dict[str | None, str] = {
            sides.first: "first answer",
            sides.second: "second answer",
            sides.verdict: "verdict",
        }
        layout = self.made("two_sided", "comparison", columns, records, prompt=prompt)
        return replace(layout, uses=layout.uses | set(sides.models or ()))

    # --- chosen and rejected ---

    def comparison(self) -> Layout | None:
        if not self.asked("comparison"):
            return None
        if not all(self.column(*(pair[i] for pair in PREFERENCES)) for i in (0, 1)):
            return None
        pairs = [pair for pair in PREFERENCES if all(name in self.plain for name in pair)] or PREFERENCES
        chosen = self.one_column("chosen", *(better for better, _ in pairs))
        rejected = self.one_column("rejected", *(worse for _, worse in pairs))
        if chosen is None or rejected is None:
            return None
        prompt = self.with_conversation()
        strip = self.repeats(chosen, rejected)
        self.refuse_ids((chosen, rejected))
        self.refuse_names((chosen, rejected))
        native = None
        if (chosen, rejected) == ("chosen", "rejected") and not strip and self.prompt:
            native = is_plain_comparison

        def records(row: Row) -> Rows:
            kept = {**without(row, chosen, rejected), "chosen": row[chosen], "rejected": row[rejected]}
            return comparison_rows(kept, strip)

        name = self.comparison_name(chosen, rejected)
        return self.made(name, "comparison", {chosen: "chosen", rejected: "rejected"}, records, native, prompt)

    def comparison_name(self, chosen: str, rejected: str) -> str:
        sides = (prompts.as_messages(self.row[chosen]), prompts.as_messages(self.row[rejected]))
        if self.prompt:
            whole = all(side and side[0].get("role") != "assistant" for side in sides)
            return "repeated_prompt" if whole or self.repeats(chosen, rejected) else "preference"
        if all(sides) or all(is_transcript(self.row[side]) for side in (chosen, rejected)):
            return "implicit_prompt"
        return "preference" if self.with_conversation() else "promptless"

    # --- several answers ---

    def several(self) -> Layout | None:
        lists = [name for name in COMPLETIONS if name in self.plain and isinstance(self.row[self.plain[name]], list)]
        completions = self.one_column(COMPLETIONS[0], *lists)
        if completions is None or not isinstance(self.row[completions], list | type(None)):
            return None
        native = completions == "completions"
        prompt = self.with_conversation()

        def layout(name: str, kind: Kind, column: str, records: Callable[[Row], Rows], *, plain: bool) -> Layout:
            role = next((ours for ours, theirs in self.beside.items() if theirs == column), "score")

            def under_our_name(row: Row) -> Rows:
                return records({**without(row, completions), "completions": row[completions]})

            fast = has_text_prompt if plain and native else None
            return self.made(name, kind, {completions: "completions", column: role}, under_our_name, fast, prompt)

        if "continuations" in self.beside and self.asked("steps"):
            return layout("continuations", "steps", self.beside["continuations"], continued_steps, plain=False)
        if "labels" in self.beside and self.asked("steps", "outcome"):
            if self.kind == "outcome" or (self.kind is None and canonical(completions) != "completions"):
                return layout("answers", "outcome", self.beside["labels"], each_answer("labels", "label"), plain=False)
            return layout("steps", "steps", self.beside["labels"], lambda row: [dict(row)], plain=True)
        if "ranks" in self.beside and self.asked("ranking"):
            return layout("ranking", "ranking", self.beside["ranks"], lambda row: [dict(row)], plain=True)
        if (verdicts := self.listed(LABELS)) is not None and self.asked("outcome"):
            if canonical(completions) == "completions" and self.kind is None:
                raise EvidenceError(
                    f"`{verdicts}` may judge each of several answers, or each step of one",
                    mend=f"Give --kind outcome for answers, or --columns labels={verdicts} for steps",
                    source=self.request.source,
                    column=verdicts,
                )
            return layout("answers", "outcome", verdicts, each_answer(verdicts, "label"), plain=False)
        scores = self.listed(SCORES)
        if scores is not None and self.asked("rating", "ranking"):
            if self.kind == "ranking":
                return layout("answers", "ranking", scores, ranked_answers(scores), plain=False)
            return layout("answers", "rating", scores, each_answer(scores, "score"), plain=False)
        return None

    # --- one answer ---

    def single(self) -> Layout | None:
        completion, conversation, prompt = self.one_column(*COMPLETION), None, self.prompt
        if completion is None:
            conversation = self.column(*prompts.CONVERSATIONS)
            if conversation is not None and prompts.as_messages(self.row[conversation]) is None:
                conversation = None
        columns = (completion, conversation)
        answer_column = None if completion or conversation else self.column("answer")
        if completion or answer_column:
            prompt = self.with_conversation()
        if not (completion or conversation or answer_column) or not (prompt or conversation):
            return None
        judged = self.judged((*columns, answer_column)) if self.request.judged else None
        if answer_column is not None:
            if judged is None and self.request.judged:
                return None
            completion = answer_column
        strip = completion is not None and self.repeats(completion)
        answer = one_answer(completion, conversation, strip)
        rejected = self.column(*REJECTED)
        if rejected is not None and self.asked("comparison"):
            return self.made(
                "preference",
                "comparison",
                {completion: "chosen", conversation: "chosen", rejected: "rejected"},
                against_rejected(answer, rejected),
                prompt=prompt,
            )
        needed = (completion, conversation)
        roles = {completion: "completion", conversation: "prompt and completion"}
        plain = completion == "completion" and not strip
        if judged is None:
            if not self.asked("demonstration"):
                return None
            if self.request.judged:
                self.refuse_judging([*needed, *prompt.values()], "demonstration")
            name = "messages" if conversation else "alpaca" if "instruction" in self.prompt else "demonstration"
            return self.made(
                name, "demonstration", roles, lambda row: [answer(row)], is_plain_answer if plain else None, prompt
            )
        if not self.asked(judged.kind):
            if self.kind == "demonstration":
                raise EvidenceError(
                    f"`{judged.columns[0]}` judges these answers, and good examples have no judgement",
                    mend=f"Keep the rows that are good and leave the column out with --ignore {judged.columns[0]}",
                    source=self.request.source,
                    column=judged.columns[0],
                )
            return None
        fast = judged.native() if plain and not self.request.labels else None
        ours = "label" if judged.kind == "outcome" else "score"
        read = judged.read

        def records(row: Row) -> Rows:
            meaning = read(row)
            return [] if meaning is None else [{**without(answer(row), *judged.columns), ours: meaning}]

        return self.made(judged.kind, judged.kind, roles | dict.fromkeys(judged.columns, ours), records, fast, prompt)

    def judged(self, completions: tuple[str | None, ...]) -> _Judged | None:
        """What judges the one answer of a row; None where nothing does."""
        request, source = self.request, self.request.source
        aside = {*completions, *self.prompt.values()}
        columns = [name for name in self.row if name not in aside and canonical(name) not in CONTEXT]
        known = [name for name in columns if is_named(name)]
        known = [name for name in known if not is_list(self.row[name])]
        if not known:
            return None
        explicit = next((name for name in ("label", "score") if name in known and self.is_filled(name)), None)
        if explicit == "score" and any(isinstance(row.get("score"), Mapping) for row in self.peek):
            return _Judged("rating", ("score",), lambda row: row["score"])
        if explicit and not request.labels and _is_native(explicit, self.peek):
            kind: Kind = "outcome" if explicit == "label" else "rating"
            if self.kind in (None, kind):
                return _Judged(kind, (explicit,), lambda row: None if token(row[explicit]) is None else row[explicit])
        names: list[str] = [explicit] if explicit else known
        values = {name: found for name, found in request.survey(names, lambda values: True).items() if found.count}
        for name in values:
            plain = canonical(name)
            if plain in INVERTED | UNCLEAR or (plain in VERDICTS and plain not in LABELS | SCORES):
                raise self.refused(name, values[name])
        require_labels(values, request.labels, source)
        asked = self.kind if self.kind in ("outcome", "rating") else None
        scales = [scale_of(name, values[name], request.labels, source, asked) for name in values]
        if not scales:
            return None
        self.refuse_echo(completions, values)
        kinds = {scale.kind for scale in scales if scale is not None}
        if len(scales) == 1 and scales[0] is not None:
            scale = scales[0]
            return _Judged(scale.kind, (scale.column,), lambda row: scale.value(row.get(scale.column)))
        if kinds == {"rating"} and None not in scales:
            read = [scale for scale in scales if scale is not None]
            return _Judged("rating", tuple(scale.column for scale in read), lambda row: attribute_scores(row, read))
        shown = ", ".join(f"`{name}`" for name in values)
        raise EvidenceError(
            f"the columns {shown} all judge the answer",
            mend=f"Give the one to learn from as --columns label={next(iter(values))}, or leave the others out, as"
            f" --ignore {list(values)[-1]}",
            source=source,
        )

    def refuse_echo(self, completions: tuple[str | None, ...], values: Mapping[str, Values]) -> None:
        """Raise where the answers are such words themselves as judge them (yes and no): these may be the right ones."""
        answers = {token(row.get(name)) for row in self.peek for name in completions if name} - {None}
        for name, cells in values.items():
            if answers and answers <= cells.rows.keys() and not self.request.labels:
                word = next(iter(cells.rows))
                raise EvidenceError(
                    f"the answers are words such as these too ({shortened(list(cells.rows))}): the column may hold the"
                    " right answers, or judge those that were given",
                    mend=f"If it judges, say so with --labels {word}=good (or bad) for each value; if it holds the"
                    f" right answers, leave it out with --ignore {name}",
                    source=self.request.source,
                    row=cells.rows[word],
                    column=name,
                    value=word,
                )

    def refused(self, column: str, values: Values) -> EvidenceError:
        word = next(iter(values.rows))
        higher = f", --columns score={column} if higher is better" if are_numbers(values) else ""
        return EvidenceError(
            "a column that judges, and not by a name whose values are known",
            mend=f"Say what its values mean, as --columns label={column} --labels {word}=bad (good, blank, a number)"
            f"{higher}, or leave it out with --ignore {column}",
            source=self.request.source,
            row=values.rows[word],
            column=column,
            value=word,
        )

    def refuse_judging(self, columns: Iterable[str | None], kind: Kind) -> None:
        """Raise for a column of any name all of whose values could be judgements, of which there are two or more."""
        aside = {*columns, *self.beside.values(), *KINDS[kind].model_fields}
        names = [name for name in self.row if name not in aside and canonical(name) not in CONTEXT]
        measured = [name for name in names if MEASURES & set(canonical(name).split("_"))]
        values = {**self.request.survey(names, judges), **self.request.survey(measured, are_numbers)}
        for name, cells in values.items():
            if len(cells.rows) > 1:
                raise self.refused(name, cells)

    # --- problems ---

    def problem(self) -> Layout | None:
        prompt = self.with_conversation()
        if not prompt or not self.asked("problem"):
            return None
        answer = self.reference()
        if answer is None:
            return None
        self.refuse_judging([answer, *prompt.values()], "problem")

        def records(row: Row) -> Rows:
            value = row[answer]
            return [{**without(row, answer), "answer": token(value) if isinstance(value, bool) else answer_text(value)}]

        fast = (lambda row: type(row.get("answer")) is str and has_text_prompt(row)) if answer == "answer" else None
        return self.made("problem", "problem", {answer: "answer"}, records, fast, prompt)

    def reference(self) -> str | None:
        """The reference. Raises `EvidenceError` for two that differ: one may be what a model answered."""
        columns = [self.plain[name] for name in REFERENCES if name in self.plain]
        if any(len({str(row.get(column)) for column in columns}) > 1 for row in self.peek):
            raise EvidenceError(
                f"the columns {', '.join(f'`{column}`' for column in columns)} may each be the reference, and differ",
                mend=f"Leave out what is none, as --ignore {columns[0]}; a model's answers are judged by a column such"
                " as `correct`",
                source=self.request.source,
                column=columns[0],
            )
        return next(iter(columns), None)


@dataclass(frozen=True)
class _Judged:
    """What judges one answer: the kind of evidence it gives, the columns, and what a row says."""

    kind: Kind
    columns: tuple[str, ...]
    read: Callable[[Row], Any]

    def native(self) -> Callable[[Row], bool] | None:
        """A test for rows that are records as they stand, where the judgement stands in a record's own column."""
        if self.columns == ("label",) and self.kind == "outcome":
            return is_plain_outcome
        if self.columns == ("score",) and self.kind == "rating":
            return is_plain_rating
        return None


def _is_native(column: str, peek: Sequence[Row]) -> bool:
    """Whether `label` or `score` holds true and false, or numbers, as records do, in all of the first rows."""
    cells = [row[column] for row in peek if row.get(column) is not None]
    types = (bool,) if column == "label" else (float, int)
    return bool(cells) and all(type(cell) in types for cell in cells)
