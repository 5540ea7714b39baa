"""How rows of a source become records: exports of tools first, then by what columns are called and what they hold.

The general layouts are tried from what judges to what does not: two answers and a verdict, chosen and rejected, several
answers, one answer with a judgement; last of all, and only where no column judges, good examples and problems.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tacit.errors import EvidenceError
from tacit.evidence import prompts
from tacit.evidence.advice import listed, option
from tacit.evidence.codes import is_blank
from tacit.evidence.exports import export_layouts
from tacit.evidence.judging import Judging
from tacit.evidence.layout import Layout, LayoutError, Row, Rows, without
from tacit.evidence.names import LABELS, SCORES, VERDICTS, canonical, is_named, judged_name
from tacit.evidence.records import Kind
from tacit.evidence.rows import (
    against_rejected,
    answer_text,
    comparison_rows,
    continued_steps,
    each_answer,
    has_text_prompt,
    is_plain_answer,
    is_plain_comparison,
    is_transcript,
    one_answer,
    pairs_by,
    ranked_answers,
)
from tacit.evidence.source_columns import Request
from tacit.evidence.survey import token
from tacit.evidence.verdicts import HigherScore, Sides, all_sides, code_of, find_sides, scores_beside, sides_of
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


class _General(Judging):
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
        candidates = sides_of(self.row, self.request.theirs) or self.named_by_verdict()
        if not candidates:
            return self.two_scored()
        values = self.request.survey([sides.verdict for sides in candidates], lambda values: True)
        filled = [sides for sides in candidates if values[sides.verdict].count]
        explicit = [sides for sides in filled if canonical(sides.verdict) in self.request.named]
        if not filled:
            filled = candidates[:1]
        sides = (explicit or filled)[0]
        verdicts = [other.shown_verdict for other in filled] + self.second_judgements(sides.verdict)
        if len(verdicts) > 1 and len(explicit) != 1:
            raise EvidenceError(
                f"the columns {listed(verdicts)} all say which answer is better",
                mend=f"Give each a row of its own, or leave out all but one, as {option('--ignore', verdicts[-1])}",
                source=self.request.source,
            )
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

    def two_scored(self) -> Layout | None:
        """Two answers with a score each, and no verdict."""
        pair = next(iter(all_sides(self.row)), None)
        scores = None if pair is None else scores_beside(self.row, pair)
        if pair is None or scores is None or find_sides(self.row) is None:
            return None
        self.refuse_ids(pair)
        prompt = {ours: theirs for ours, theirs in self.with_conversation().items() if theirs not in pair}
        records = pairs_by(HigherScore(Sides(*pair, scores[0]), scores), self.repeats(*pair))
        roles = zip((*pair, *scores), ("first answer", "second answer", "its score", "its score"), strict=True)
        return self.made("two_scored", "comparison", dict(roles), records, prompt=prompt)

    def named_by_verdict(self) -> list[Sides]:
        """Two answers in columns that the words of a verdict name, as `gpt-4` and `llama-2` do."""
        names = [name for name in self.row if judged_name(name) in VERDICTS]
        values = self.request.survey(names, lambda values: True) if names else {}
        for verdict, said in values.items():
            spoken = {canonical(word) for word in said.rows} - {""}
            sides = [name for name in self.row if name != verdict and canonical(name) in spoken]
            if len(sides) == 2 and all(isinstance(self.row[side], str) for side in sides):
                return [Sides(sides[0], sides[1], verdict)]
        return []

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
