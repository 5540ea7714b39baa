"""How rows of a source become records: exports of tools first, then by what columns are called and what they hold.

The general layouts are tried from what judges to what does not: two answers and a verdict, chosen and rejected, several
answers, one answer with a judgement; last of all, and only where no column judges, good examples and problems.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tacit.errors import EvidenceError
from tacit.evidence import prompts
from tacit.evidence.exports import export_layouts
from tacit.evidence.judgements import (
    CONTEXT,
    INVERTED,
    LABELS,
    SCORES,
    VERDICTS,
    Meaning,
    canonical,
    judges,
    scale_of,
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
    is_transcript,
    one_answer,
    pairs_by,
    ranked_answers,
)
from tacit.evidence.survey import Values, token
from tacit.evidence.verdicts import code_of, sides_of

CHOSEN = ("chosen", "winner", "chosen_response", "preferred", "better", "preferred_response", "accepted")
REJECTED = ("rejected", "loser", "rejected_response", "dispreferred", "worse", "dispreferred_response")
COMPLETION = (
    *("completion", "response", "output", "reply", "solution", "generation", "generated_text", "model_output"),
    *("model_response", "llm_output", "llm_response", "bot_response", "assistant", "prediction", "generated"),
)
COMPLETIONS = ("completions", "responses", "generations", "outputs", "candidates", "answers")
ANNOTATOR = ("annotator", "worker", "worker_id", "annotator_id", "rater", "rater_id", "labeler", "labeller")
BESIDE: Mapping[str, tuple[str, ...]] = {
    "annotator": ANNOTATOR,
    "tie": ("tie",),
    "margin": ("margin",),
    "weight": ("weight",),
    "group": ("group",),
    "rejected_prompt": ("rejected_prompt",),
    "chosen_first": ("chosen_first",),
    "template": ("template",),
    "checker": ("checker",),
    "ranks": ("ranks", "rank"),
    "labels": ("labels",),
    "continuations": ("continuations",),
}
"""Names of further columns of records; those of `Record` models themselves come first."""


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


def recognise(row: Row, peek: Sequence[Row], request: Request) -> Layout | None:
    """The layout of rows like this one; None where none fits. Raises `EvidenceError` for what judges and is not read.

    `peek` are the first rows of the source: whether answers repeat their prompt is seen from all of them.
    """
    seen = without(row, *request.ignored)
    for entry in export_layouts():
        if request.kind in (None, entry.kind) and entry.requires <= seen.keys() and entry.fits(seen):
            if entry.ids and not request.has_items:
                raise LayoutError(
                    "the answers are ids of texts that stand in another file",
                    "Give that file with --items FILE (columns `id` and `text`; --item-columns names others)",
                )
            return entry
    return _General(seen, [without(other, *request.ignored) for other in peek], request).layout()


class _General:
    """The general layouts of one source, by its columns under their plain names."""

    def __init__(self, row: Row, peek: Sequence[Row], request: Request) -> None:
        self.row, self.peek, self.request, self.kind = row, peek, request, request.kind
        self.plain = {canonical(name): name for name in reversed(list(row))}
        self.prompt = prompts.prompt_columns(list(row))
        self.beside = {ours: theirs for ours, names in BESIDE.items() if (theirs := self.column(*names))}

    def column(self, *names: str) -> str | None:
        """The first of these columns that the rows have."""
        return next((self.plain[name] for name in names if name in self.plain), None)

    def layout(self) -> Layout | None:
        for build in (self.two_sided, self.comparison, self.several, self.single, self.problem):
            if (layout := build()) is not None:
                return layout
        return None

    def asked(self, *kinds: Kind) -> bool:
        return self.kind is None or self.kind in kinds

    def made(
        self, name: str, kind: Kind, columns: Mapping[str | None, str], records: Callable[[Row], Rows],
        native: Callable[[Row], bool] | None = None, prompt: Mapping[str, str] | None = None,
    ) -> Layout:  # fmt: skip
        """A layout whose records have the prompt, and the columns beside it, under our names; `columns` have roles."""
        prompt = self.prompt if prompt is None else prompt
        asked = next((theirs for ours, theirs in prompt.items() if ours in prompts.MAIN), None)
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
        prompt = {ours: theirs for ours, theirs in self.prompt.items() if theirs not in (sides.first, sides.second)}
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
        chosen, rejected = self.column(*CHOSEN), self.column(*REJECTED)
        if chosen is None or rejected is None or not self.asked("comparison"):
            return None
        conversation = self.column(*prompts.CONVERSATIONS)
        strip = self.repeats(chosen, rejected)
        self.refuse_ids((chosen, rejected))
        native = None
        if (chosen, rejected) == ("chosen", "rejected") and not conversation and not strip and self.prompt:
            native = is_plain_comparison

        def records(row: Row) -> Rows:
            kept = {**without(row, chosen, rejected), "chosen": row[chosen], "rejected": row[rejected]}
            if conversation and not kept.get("prompt"):
                kept = {**without(kept, conversation), "prompt": prompts.as_messages(row[conversation]) or ""}
            return comparison_rows(kept, strip)

        name = self.comparison_name(chosen, rejected)
        layout = self.made(name, "comparison", {chosen: "chosen", rejected: "rejected"}, records, native)
        return replace(layout, uses=layout.uses | {conversation} if conversation else layout.uses)

    def comparison_name(self, chosen: str, rejected: str) -> str:
        sides = (prompts.as_messages(self.row[chosen]), prompts.as_messages(self.row[rejected]))
        if self.prompt:
            whole = all(side and side[0].get("role") != "assistant" for side in sides)
            return "repeated_prompt" if whole or self.repeats(chosen, rejected) else "preference"
        if all(sides) or all(is_transcript(self.row[side]) for side in (chosen, rejected)):
            return "implicit_prompt"
        return "preference" if self.column(*prompts.CONVERSATIONS) else "promptless"

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

    # --- several answers ---

    def several(self) -> Layout | None:
        completions = self.column(*COMPLETIONS)
        if completions is None or not isinstance(self.row[completions], list | type(None)):
            return None
        native = completions == "completions"

        def layout(name: str, kind: Kind, column: str, records: Callable[[Row], Rows], *, plain: bool) -> Layout:
            role = next((ours for ours, theirs in self.beside.items() if theirs == column), "score")

            def under_our_name(row: Row) -> Rows:
                return records({**without(row, completions), "completions": row[completions]})

            fast = has_text_prompt if plain and native else None
            return self.made(name, kind, {completions: "completions", column: role}, under_our_name, fast)

        if "continuations" in self.beside and self.asked("steps"):
            return layout("continuations", "steps", self.beside["continuations"], continued_steps, plain=False)
        if "labels" in self.beside and self.asked("steps", "outcome"):
            if self.kind == "outcome":
                return layout("answers", "outcome", self.beside["labels"], each_answer("labels", "label"), plain=False)
            return layout("steps", "steps", self.beside["labels"], lambda row: [dict(row)], plain=True)
        if "ranks" in self.beside and self.asked("ranking"):
            return layout("ranking", "ranking", self.beside["ranks"], lambda row: [dict(row)], plain=True)
        scores = next((name for word, name in self.plain.items() if word in SCORES and is_list(self.row[name])), None)
        if scores is not None and self.asked("rating", "ranking"):
            if self.kind == "ranking":
                return layout("answers", "ranking", scores, ranked_answers(scores), plain=False)
            return layout("answers", "rating", scores, each_answer(scores, "score"), plain=False)
        return None

    # --- one answer ---

    def single(self) -> Layout | None:
        completion, conversation = self.column(*COMPLETION), None
        if completion is None:
            conversation = self.column(*prompts.CONVERSATIONS)
            if conversation is not None and prompts.as_messages(self.row[conversation]) is None:
                conversation = None
        columns = (completion, conversation)
        answer_column = None if completion or conversation else self.column("answer")
        if not (completion or conversation or answer_column) or not (self.prompt or conversation):
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
            )
        needed = (completion, conversation)
        roles = {completion: "completion", conversation: "prompt and completion"}
        plain = completion == "completion" and not strip
        if judged is None:
            if not self.asked("demonstration"):
                return None
            if self.request.judged:
                self.refuse_judging([*needed, *self.prompt.values()], "demonstration")
            name = "messages" if conversation else "alpaca" if "instruction" in self.prompt else "demonstration"
            fast = is_plain_answer if plain else None
            return self.made(name, "demonstration", roles, lambda row: [answer(row)], fast)
        if not self.asked(judged.kind):
            if self.kind == "demonstration":
                raise EvidenceError(
                    f"`{judged.columns[0]}` judges these answers, and good examples have no judgement",
                    mend=f"Keep the rows that are good and leave the column out with --ignore {judged.columns[0]}",
                    source=self.request.source,
                    column=judged.columns[0],
                )
            return None
        native = judged.native(self.peek) if plain else None
        ours = "label" if judged.kind == "outcome" else "score"
        read = judged.read

        def records(row: Row) -> Rows:
            meaning = read(row)
            return [] if meaning is None else [{**without(answer(row), *judged.columns), ours: meaning}]

        fast = None if native is None else lambda row: is_plain_answer(row) and native(row)
        return self.made(judged.kind, judged.kind, roles | dict.fromkeys(judged.columns, ours), records, fast)

    def judged(self, completions: tuple[str | None, ...]) -> _Judged | None:
        """What judges the one answer of a row; None where nothing does."""
        request, source = self.request, self.request.source
        aside = {*completions, *self.prompt.values()}
        columns = [name for name in self.row if name not in aside and canonical(name) not in CONTEXT]
        known = [name for name in columns if canonical(name) in LABELS | SCORES | INVERTED | set(VERDICTS)]
        known = [name for name in known if not is_list(self.row[name])]
        if not known:
            return None
        explicit = next((name for name in ("label", "score") if name in known), None)
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
            if plain in INVERTED or (plain in VERDICTS and plain not in LABELS | SCORES):
                raise self.refused(name, values[name])
        asked = self.kind if self.kind in ("outcome", "rating") else None
        scales = [scale_of(name, values[name], request.labels, source, asked) for name in values]
        if not scales:
            return None
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

    def refused(self, column: str, values: Values) -> EvidenceError:
        word = next(iter(values.rows))
        return EvidenceError(
            "a column that judges, and not by a name whose values are known",
            mend=f"Say what its values mean, as --columns label={column} --labels {word}=bad (good, blank, a number),"
            f" or leave it out with --ignore {column}",
            source=self.request.source,
            row=values.rows[word],
            column=column,
            value=word,
        )

    def refuse_judging(self, columns: Iterable[str | None], kind: Kind) -> None:
        """Raise for a column of any name all of whose values could be judgements, of which there are two or more."""
        aside = {*columns, *self.beside.values(), *KINDS[kind].model_fields}
        names = [name for name in self.row if name not in aside and canonical(name) not in CONTEXT]
        values = self.request.survey(names, judges)
        for name, found in values.items():
            if len(found.rows) > 1:
                raise self.refused(name, found)

    # --- problems ---

    def problem(self) -> Layout | None:
        answer = self.column("answer", "reference", "ground_truth", "target")
        if answer is None or not self.prompt or not self.asked("problem"):
            return None
        self.refuse_judging([answer, *self.prompt.values()], "problem")

        def records(row: Row) -> Rows:
            value = row[answer]
            return [{**without(row, answer), "answer": token(value) if isinstance(value, bool) else answer_text(value)}]

        fast = (lambda row: type(row.get("answer")) is str and has_text_prompt(row)) if answer == "answer" else None
        return self.made("problem", "problem", {answer: "answer"}, records, fast)


@dataclass(frozen=True)
class _Judged:
    """What judges one answer: the kind of evidence it gives, the columns, and what a row says."""

    kind: Kind
    columns: tuple[str, ...]
    read: Callable[[Row], Any]

    def native(self, peek: Sequence[Row]) -> Callable[[Row], bool] | None:
        """A test for rows whose judgement is a record's own as it stands."""
        if self.columns == ("label",) and self.kind == "outcome":
            return lambda row: type(row.get("label")) is bool
        if self.columns == ("score",) and self.kind == "rating":
            return lambda row: type(row.get("score")) in (float, int, dict)
        return None


def _is_native(column: str, peek: Sequence[Row]) -> bool:
    """Whether `label` or `score` holds true and false, or numbers, as records do, in all of the first rows."""
    cells = [row[column] for row in peek if row.get(column) is not None]
    types = (bool,) if column == "label" else (float, int)
    return bool(cells) and all(type(cell) in types for cell in cells)
