"""What every verb takes, or every verb that reads evidence or asks a reward."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field

from tacit import terminal
from tacit.errors import TacitError
from tacit.outputs import CONFIG, Files, Output, named_in

if TYPE_CHECKING:
    from tacit.evidence import Evidence, Record
    from tacit.rewards.contract import Reward

Pessimism = Literal["none", "min", "variance", "quantile", "laplace"]
Kind = Literal["comparison", "demonstration", "outcome", "rating", "ranking", "steps", "problem"]
Many = Parameter(consume_multiple=True, negative="")
Flag = Parameter(negative="")


SOURCES = frozenset(
    (
        *("against", "bonus_encoder", "data", "demonstrations", "discriminator_model", "encoder", "eval_data", "for"),
        *("gold", "learnt", "others", "policy", "prompts", "recipe", "reward", "sft", "source", "test_data"),
    )
)
"""Options and arguments whose text may be a path, or something else: a column, a name, an address, hub:NAME."""
_KEPT = ("--cache", "--work")


class Options(BaseModel):
    """What every verb takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)

    config: Annotated[Path | None, Parameter(group="Common")] = None
    """YAML file of options: the same names in snake_case, one a line. Flags win."""
    seed: Annotated[int, Field(ge=0, lt=2**63), Parameter(group="Common")] = 0
    """The same seed gives the same result."""
    json_: Annotated[bool, Parameter(name="--json", negative="", group="Common")] = False
    """Print one JSON document on stdout instead of a table."""

    def show(self, result: Any, rows: Sequence[dict[str, Any]], title: str = "") -> None:
        """The result on stdout: all of it as JSON, or its table."""
        if self.json_:
            terminal.print_json(result)
        else:
            terminal.print_table(rows, title)


class Writing(Options):
    """What every verb with an --out takes."""

    overwrite: Annotated[bool, Flag, Parameter(group="Common")] = False
    """Replace what lies at --out even where something else wrote it; never what is read, nor a folder with other files
    in it."""

    def output(self, verb: str, out: Path, **arguments: Any) -> Output:
        """--out of a verb, with all that the run reads: `arguments` are those that are no options, by their names."""
        kept = tuple((flag, path) for flag, path in self._paths() if flag in _KEPT)
        read = [(flag, path) for flag, path in self._paths() if flag not in _KEPT]
        read += [(name.upper(), path) for name, value in arguments.items() for path in _paths_of(name, value)]
        recipes = [(f"{flag} {path}", part) for flag, path in read if flag != "--config" for part in named_in(path)]
        return Output(verb, out, (*read, *recipes), kept, self.overwrite)

    @contextmanager
    def files(self, verb: str, out: Path, *beside: Path, **arguments: Any) -> Iterator[Files]:
        """Yield what stages --out and files beside it: they appear together, with a configuration, or not at all."""
        config = terminal.beside(out, CONFIG)
        with self.output(verb, out, **arguments).files(*dict.fromkeys((out, *beside)), config) as files:
            yield files
            files.finish(config, self.configuration(config.parent, **arguments))

    @contextmanager
    def folder(self, verb: str, out: Path, manifest: str, **arguments: Any) -> Iterator[Path]:
        """Yield a temporary folder that becomes --out, with the configuration in it."""
        with self.output(verb, out, **arguments).folder(manifest) as folder:
            yield folder
            (folder / "config.yaml").write_text(self.configuration(out, **arguments), "utf-8")

    @contextmanager
    def folder_and_file(self, verb: str, out: Path, manifest: str, **arguments: Any) -> Iterator[Path]:
        """Yield a temporary folder that becomes --out, with the configuration beside it."""
        config = terminal.beside(out, CONFIG)
        output = self.output(verb, out, **arguments)
        output.require_folder(manifest)
        with output.files(config) as files:
            with output.folder(manifest) as folder:
                yield folder
            files.finish(config, self.configuration(config.parent, **arguments))

    def configuration(self, folder: Path, **arguments: Any) -> str:
        """The resolved options as YAML in `folder`, so that --config repeats this run; its paths are relative to it."""
        dumped = self.model_dump(mode="json", exclude={"config", "json_", "overwrite"})
        values = {name.rstrip("_"): value for name, value in dumped.items()}
        values |= {name: v if isinstance(v, list) else str(v) for name, v in arguments.items()}
        always = {name.rstrip("_") for name, field in type(self).model_fields.items() if holds_path(field.annotation)}
        return terminal.configuration_text(
            {
                name: terminal.relative(value, folder, always=name in always) if name in always | SOURCES else value
                for name, value in values.items()
            }
        )

    def _paths(self) -> Iterator[tuple[str, Path]]:
        """Flag and path of each option that names one, but --out."""
        for name, field in type(self).model_fields.items():
            plain = name.rstrip("_")
            if plain != "out" and (plain in SOURCES or holds_path(field.annotation)):
                for path in _paths_of(plain, getattr(self, name)):
                    yield f"--{plain.replace('_', '-')}", path


class Reading(Options):
    """How to read evidence."""

    kind: Annotated[Kind | None, Parameter(group="Reading")] = None
    """What people gave, where the columns allow several readings."""
    columns: Annotated[tuple[str, ...], Parameter(group="Reading"), Many] = ()
    """Columns under other names, as prompt=question chosen=better; label=COLUMN judges an answer, and a path as
    label=metadata.feedback goes into objects."""
    labels: Annotated[tuple[str, ...], Parameter(group="Reading"), Many] = ()
    """What values of a judgement mean, as ok=good poor=bad none=blank, or numbers, as poor=1 ok=2 great=3."""
    verdict: Annotated[tuple[str, ...], Parameter(group="Reading"), Many] = ()
    """What values of a verdict between two answers mean, as 0=first 1=second 2=tie 9=blank."""
    ignore: Annotated[tuple[str, ...], Parameter(group="Reading"), Many] = ()
    """Columns that do not judge although they look like it; they are kept beside the records."""
    items: Annotated[Path | None, Parameter(group="Reading")] = None
    """File of texts with columns `id` and `text`, where the evidence holds ids of them."""
    item_columns: Annotated[tuple[str, ...], Parameter(group="Reading"), Many] = ()
    """Columns of --items under other names, as id=joke_id text=joke."""
    skip_broken: Annotated[bool, Parameter(group="Reading"), Flag] = False
    """Leave out rows that cannot be read, and say how many, in place of stopping at the first."""

    def read(self, source: str | Path, *, judged: bool = True, ids: Mapping[str, str] | None = None) -> Evidence:
        """The evidence in `source`; without `judged`, single answers to score, whatever judges them.

        `ids` of vectors stand for texts where there are no --items.
        """
        from tacit.evidence import read

        items = {"items": ids} if ids and self.items is None else {}
        return read(source, **self.reading() | items, judged=judged)

    def texts_of_ids(self) -> dict[str, Any]:
        """The options that say which texts ids stand for, as `tacit.rewards.encoding.open_encoder` takes them."""
        return {name: self.reading()[name] for name in ("items", "item_columns")}

    def reading(self) -> dict[str, Any]:
        """These options as `tacit.evidence.read` takes them."""
        return {
            "kind": self.kind,
            "columns": pairs("--columns", self.columns) or None,
            "labels": self.labels,
            "verdict": self.verdict,
            "ignore": list(self.ignore),
            "items": self.items,
            "item_columns": pairs("--item-columns", self.item_columns) or None,
            "skip_broken": self.skip_broken,
        }


def pairs(flag: str, given: Sequence[str]) -> dict[str, str]:
    """Our names to theirs, from ours=theirs."""
    named: dict[str, str] = {}
    for pair in (part for text in given for part in re.split(r",(?=\s*[a-z_]+\s*=)", text)):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise TacitError(f"{flag} {pair}: give ours=theirs, as prompt=question")
        if named.setdefault(ours, theirs) != theirs:
            raise TacitError(f"{flag} {pair}: `{ours}` is given twice. Give it once")
    return named


class Caching(Options):
    """Where encoded texts are kept: the same folder for every verb, so that no text is encoded twice."""

    cache: Annotated[Path | None, Parameter(group="Common")] = None
    """Folder of encoded texts, which all verbs share; the user's cache folder unless given."""
    no_cache: Annotated[bool, Flag, Parameter(group="Common")] = False
    """Keep encoded texts in memory only."""

    def encoded(self) -> Path | None:
        """The folder of encoded texts; None keeps them in memory. Raises `TacitError` where both options are given."""
        if self.no_cache and self.cache is not None:
            raise TacitError(f"--no-cache keeps nothing in --cache {self.cache}. Give one of the two")
        return None if self.no_cache else self.cache or terminal.cache_folder("features")


class Caution(Options):
    """How to read the scores of a reward that is not sure."""

    pessimism: Annotated[Pessimism | None, Parameter(group="Uncertainty")] = None
    """none, min, variance or quantile of the members, or laplace: the score less its standard deviation; as saved."""
    pessimism_strength: Annotated[float | None, Field(ge=0), Parameter(group="Uncertainty")] = None
    """The weight of variance (0.5) and laplace (1), or the quantile (0.1)."""

    run_code: Annotated[bool, Flag, Parameter(group="Safety")] = False
    """Let checks of unit tests run the code in completions. No sandbox: give it inside a container."""

    def permit(self) -> None:
        """Allow or forbid this process to run code in completions."""
        from tacit.rewards.verifiers.code import allow_code

        allow_code(self.run_code)

    def load(self, reward: Path, cache: Path | None) -> Reward:
        """The reward in a folder, or that a YAML file describes, read so."""
        from tacit import rewards

        self.permit()
        return rewards.load(reward, cache=cache, pessimism=self.pessimism, strength=self.pessimism_strength)


class Asking(Caution, Caching):
    """What every verb takes that asks a reward about data."""

    encoder: Annotated[str | None, Parameter(group="Reading")] = None
    """array:FILE with the vectors of DATA, for a reward that was fitted on another array; or where its encoder has
    moved to, as hf:FOLDER."""
    chat_template: Annotated[Path | None, Parameter(group="Reading")] = None
    """File of a chat template (Jinja) in place of the one of REWARD, where that is the folder of a language model."""

    def load_for(self, reward: Path, data: str | Path, **texts_of_ids: Any) -> Reward:
        """The reward in a folder, or that a YAML file describes, to ask about `data`."""
        from tacit import rewards
        from tacit.rewards.encoding import open_encoder, require_vectors

        self.permit()
        loaded = rewards.load(
            reward,
            cache=self.encoded(),
            encoder=None if self.encoder is None else open_encoder(self.encoder, data=data, **texts_of_ids),
            chat_template=self.chat_template,
            pessimism=self.pessimism,
            strength=self.pessimism_strength,
        )
        require_vectors(data, loaded, given=self.encoder is not None)
        return loaded


class ForOne(Reading, Asking):
    """What every verb that can ask a reward on behalf of one person takes."""

    for_: Annotated[str | None, Parameter(name="--for", group="Reading")] = None
    """Comparisons that one person made: the reward is made that person's own first."""

    def read_for(self, reward: Reward, data: str | Path, *, judged: bool = True) -> Evidence:
        """The evidence in `data`, which may name texts by the ids of the reward's own vectors."""
        from tacit.rewards.encoding import ids_of

        return self.read(data, judged=judged, ids=ids_of(reward))

    def load_own(self, reward: Path, data: str | Path) -> tuple[Reward, list[Record]]:
        """The reward in a folder, adapted to the person's choices where there are any, and these choices."""
        loaded = self.load_for(reward, data, **self.texts_of_ids())
        if self.for_ is None:
            return loaded, []
        from tacit.evidence import read
        from tacit.rewards.people.choices import adapted

        choices = list(
            read(self.for_, kind="comparison", items=self.items, item_columns=self.reading()["item_columns"])
        )
        return adapted(loaded, choices), choices


def holds_path(annotation: Any) -> bool:
    """Whether an option of this type is a path, or several."""
    return annotation is Path or any(holds_path(inner) for inner in get_args(annotation))


def _paths_of(name: str, value: Any) -> Iterator[Path]:
    """The paths that a value may be, without the word that says how to read them (hf:, array:)."""
    if isinstance(value, tuple | list):
        for one in value:
            yield from _paths_of(name, one)
    elif isinstance(value, Path):
        yield value
    elif isinstance(value, str) and name in SOURCES and (text := value.removeprefix("hf:").removeprefix("array:")):
        yield Path(text if text == value else text.partition("?")[0])
