"""Which columns of a row judge its one answer, and the refusal of those that would be dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tacit.errors import EvidenceError
from tacit.evidence.advice import flags_for, listed, option, shortened
from tacit.evidence.judgements import require_labels, scale_of
from tacit.evidence.layout import Row, nested
from tacit.evidence.names import (
    INVERTED,
    LABELS,
    MEASURES,
    SCORES,
    UNCLEAR,
    VERDICTS,
    canonical,
    describes,
    hints_at_judgement,
    is_named,
    judged_name,
)
from tacit.evidence.records import KINDS, Kind
from tacit.evidence.rows import attribute_scores, is_list, is_plain_outcome, is_plain_rating
from tacit.evidence.source_columns import SourceColumns
from tacit.evidence.survey import Values, token
from tacit.evidence.unread import is_few, judging_inside
from tacit.evidence.values import are_numbers, judges


@dataclass(frozen=True)
class Judged:
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


class Judging(SourceColumns):
    """The columns of one source, and what judges the one answer of its rows."""

    def judged(self, completions: tuple[str | None, ...]) -> Judged | None:
        """What judges the one answer of a row; None where nothing does."""
        request, source = self.request, self.request.source
        aside = {*completions, *self.prompt.values()}
        columns = [name for name in self.row if name not in aside and not describes(name)]
        known = [name for name in columns if is_named(name)]
        known = [name for name in known if not is_list(self.row[name])]
        if not known:
            return None
        explicit = next((name for name in ("label", "score") if name in known and self.is_filled(name)), None)
        objects = [name for name in known if any(isinstance(nested(row.get(name)), Mapping) for row in self.peek)]
        if objects and explicit in (None, objects[0]):
            return self.judged_by_object(objects[0])
        self.refuse_second(explicit or known[0])
        if explicit and not request.labels and _is_native(explicit, self.peek):
            kind: Kind = "outcome" if explicit == "label" else "rating"
            if self.kind in (None, kind):
                return Judged(kind, (explicit,), lambda row: None if token(row[explicit]) is None else row[explicit])
        names: list[str] = [explicit] if explicit else known
        values = {name: found for name, found in request.survey(names, lambda values: True).items() if found.count}
        for name in values:
            plain = judged_name(name)
            if plain in INVERTED | UNCLEAR or (plain in VERDICTS and plain not in LABELS | SCORES):
                raise self.refused(name, values[name])
        require_labels(values, request.labels, source)
        asked = self.kind if self.kind in ("outcome", "rating") else None
        scales = [scale_of(name, values[name], request.labels, source, asked, request.title(name)) for name in values]
        if not scales:
            return None
        self.refuse_echo(completions, values)
        kinds = {scale.kind for scale in scales if scale is not None}
        if len(scales) == 1 and scales[0] is not None:
            scale = scales[0]
            return Judged(scale.kind, (scale.column,), lambda row: scale.value(row.get(scale.column)))
        if kinds == {"rating"} and None not in scales:
            read = [scale for scale in scales if scale is not None]
            return Judged("rating", tuple(scale.column for scale in read), lambda row: attribute_scores(row, read))
        titles = [request.title(name) for name in values]
        raise EvidenceError(
            f"the columns {listed(titles)} all judge the answer",
            mend=f"Give the one to learn from as {option('--columns', f'label={titles[0]}')}, or leave the others out,"
            f" as {option('--ignore', titles[-1])}",
            source=source,
        )

    def refuse_second(self, column: str) -> None:
        """Raise where other columns hold the same judgement by others, which would be dropped."""
        others = [] if column in self.request.named else self.second_judgements(column)
        if others:
            raise EvidenceError(
                f"the columns {listed([self.request.title(column), *others])} all judge the answer",
                mend=f"Give each a row of its own, or leave out all but one, as {option('--ignore', others[-1])}",
                source=self.request.source,
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

    def judged_by_object(self, column: str) -> Judged:
        """Numbers by the names of attributes are a rating; in any other object a path says which value judges."""
        cells = [cell for row in self.peek if isinstance(cell := nested(row.get(column)), Mapping)]
        if column == "score" or (
            judged_name(column) in SCORES
            and all(isinstance(v, int | float) and not isinstance(v, bool) for cell in cells for v in cell.values())
        ):
            if self.request.labels:
                title = self.request.title(column)
                raise EvidenceError(
                    f"--labels explains {shortened(list(self.request.labels))}, and the column holds numbers by names",
                    mend=f"Leave it out, or name one of them, as {option('--columns', f'label={title}.NAME')}",
                    source=self.request.source,
                    column=title,
                )
            return Judged("rating", (column,), lambda row: nested(row.get(column)))
        inner = {
            path: values
            for path, values in self.request.inner(()).items()
            if path.startswith(f"{self.request.title(column)}.")
        }
        path = judging_inside(inner)
        if path is not None:
            raise self.refused(path, inner[path])
        title = self.request.title(column)
        raise EvidenceError(
            "the column judges these answers with objects, and which of their values counts is not known",
            mend=f"Name it, as {option('--columns', f'label={title}.NAME')}, or leave the column out with"
            f" {option('--ignore', title)}",
            source=self.request.source,
            column=title,
            value=cells[0],
        )

    def refused(self, column: str, values: Values) -> EvidenceError:
        """The refusal of a column (or a path) that judges and is not read."""
        word, title = next(iter(values.rows)), self.request.title(column)
        return EvidenceError(
            f"the column seems to judge these answers ({shortened(list(values.rows))}), and would be dropped",
            mend=flags_for(title, values, read=column in self.request.named and judged_name(title) not in INVERTED),
            source=self.request.source,
            row=values.rows[word],
            column=title,
            value=word,
        )

    def refuse_judging(self, columns: Iterable[str | None], kind: Kind) -> None:
        """Raise for what judges and would be dropped (`tacit.evidence.unread`), in a column or inside one."""
        texts = {column for column in columns if column}
        aside = {*texts, *self.beside.values(), *KINDS[kind].model_fields}
        names = [name for name in self.row if name not in aside and not describes(name)]
        measured = [name for name in names if MEASURES & set(canonical(name).split("_"))]
        self._refuse_first({**self.request.survey(names, judges), **self.request.survey(measured, are_numbers)})
        inner = self.request.inner(texts)
        if (path := judging_inside(inner)) is not None:
            raise self.refused(path, inner[path])
        objects = {path.split(".")[0] for path in (*inner, *self.request.ignored) if "." in path}
        others = [name for name in names if name not in measured and self.request.title(name) not in objects]
        if few := [name for name in others if hints_at_judgement(name)]:
            self._refuse_first(self.request.survey(few, is_few))

    def _refuse_first(self, values: Mapping[str, Values]) -> None:
        for name, cells in values.items():
            if len(cells.rows) > 1:
                raise self.refused(name, cells)


def _is_native(column: str, peek: Sequence[Row]) -> bool:
    """Whether `label` or `score` holds true and false, or numbers, as records do, in all of the first rows."""
    cells = [row[column] for row in peek if row.get(column) is not None]
    types = (bool,) if column == "label" else (float, int)
    return bool(cells) and all(type(cell) in types for cell in cells)
