"""The options of every verb: pydantic models, so that a flag, a key of `--config file.yaml` and the saved configuration
are one thing. Heavy imports live inside the methods: `tacit --help` loads none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field

from tacit import terminal
from tacit.demonstration_options import AuditDemonstrations, FromDemonstrations
from tacit.errors import TacitError

if TYPE_CHECKING:
    from tacit.evidence import Evidence, Record
    from tacit.rewards.contract import Reward

Pessimism = Literal["none", "min", "variance", "quantile", "laplace"]
Kind = Literal["comparison", "demonstration", "outcome", "rating", "ranking", "steps", "problem"]
Many = Parameter(consume_multiple=True, negative="")
Flag = Parameter(negative="")


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

    def keep(self, path: Path, **arguments: Any) -> None:
        """Save the resolved configuration, so that --config repeats this run."""
        dumped = self.model_dump(mode="json", exclude={"config", "json_"})
        options = {name.rstrip("_"): value for name, value in dumped.items()}
        terminal.save_configuration(
            path, {**options, **{name: v if isinstance(v, list) else str(v) for name, v in arguments.items()}}
        )


class Reading(Options):
    """How to read evidence."""

    kind: Annotated[Kind | None, Parameter(group="Reading")] = None
    """What people gave, where the columns allow several readings."""
    columns: Annotated[tuple[str, ...], Parameter(group="Reading"), Many] = ()
    """Columns under other names, as prompt=question chosen=better."""
    items: Annotated[Path | None, Parameter(group="Reading")] = None
    """File with columns `id` and `text`, where the evidence holds ids of texts."""

    def read(self, source: str | Path) -> Evidence:
        """The evidence in `source`."""
        from tacit.evidence import read

        return read(source, kind=self.kind, columns=self.named() or None, items=self.items)

    def named(self) -> dict[str, str]:
        """Our columns by their names in the source."""
        named: dict[str, str] = {}
        for column in (part for given in self.columns for part in given.split(",")):
            ours, equals, theirs = column.partition("=")
            if not (ours and equals and theirs):
                raise TacitError(f"--columns {column}: give ours=theirs, as prompt=question")
            named[ours.strip()] = theirs.strip()
        return named


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


class DemoOptions(Options):
    """Options of `tacit demo`."""

    out: Path = Path("demo")
    """Folder of the page and the reward."""
    n: Annotated[int, Field(ge=100)] = 5000
    """Comparisons that the simulated people make."""
    tuning: bool = True
    """Tune a small language model with the learnt reward as well: a minute, and the extra hf."""


class CheckOptions(Reading):
    """Options of `tacit check`."""

    against: str | None = None
    """Other evidence (the training data, say): prompts in both are reported."""
    limit: Annotated[int, Field(ge=1)] = 20
    """Most rows named for each finding."""


class FitOptions(Reading, Caution, FromDemonstrations):
    """Options of `tacit fit`."""

    out: Path
    """Folder for the reward; a reward that is there already is replaced."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share held out to report on; 0 fits on everything and reports no test."""
    test_data: str | None = None
    """Evidence to report on instead of a share of DATA."""
    by: Literal["prompt", "item", "annotator", "group"] = "prompt"
    """What must not be on both sides of the split."""
    resamples: Annotated[int, Field(ge=10)] = 1000
    """Bootstrap draws behind each interval."""
    model: Annotated[str, Parameter(group="Reward")] = "auto"
    """auto: scalar, but process for steps and verifier for problems; scalar: one score; process: a score for each step
    of a solution; prefix: a score for unfinished completions; within: right against
    wrong answers of one prompt, from outcomes; verifier: the answers of problems, checked by a rule;
    mean_variance, categorical: how people's scores are spread; pairwise: preferences that may go in circles;
    attributes: several ratings; boosted: trees; judge: a language model that judges, see --judge."""
    encoder: Annotated[str, Parameter(group="Reward")] = "auto"
    """auto, hashed, minilm, hf:PATH or array:PATH; auto is minilm where installed, else hashed."""
    objective: Annotated[str, Parameter(group="Reward")] = "auto"
    """auto takes the natural one for the kind of evidence: bradley_terry for comparisons."""
    head: Annotated[Literal["linear", "mlp"], Parameter(group="Reward")] = "linear"
    """What maps features to scores; mlp adds hidden layers beside the linear part."""
    members: Annotated[int, Field(ge=1), Parameter(group="Reward")] = 1
    """Bootstrap members; two or more give each score its spread."""
    shared_trunk: Annotated[bool, Flag, Parameter(group="Reward")] = False
    """Members share the hidden layers and differ in their last one."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Many, Parameter(group="Reward")] = (256, 256, 256)
    """Widths of the hidden layers of mlp."""
    l2: Annotated[float | None, Field(ge=0, le=1e9), Parameter(group="Reward")] = None
    """Ridge of the linear part; chosen by cross-fitting over prompts unless given."""
    weight_decay: Annotated[float, Field(ge=0, le=1e9), Parameter(group="Reward")] = 0.1
    """Decoupled weight decay of mlp."""
    learning_rate: Annotated[float, Field(gt=0, le=1e9), Parameter(group="Reward")] = 1e-3
    """Peak learning rate of mlp."""
    batch_size: Annotated[int, Field(ge=1), Parameter(group="Reward")] = 1024
    """Examples a step of mlp."""
    epochs: Annotated[int | None, Field(ge=1), Parameter(group="Reward")] = None
    """Most epochs of mlp; by the number of examples unless given."""
    patience: Annotated[int, Field(ge=1), Parameter(group="Reward")] = 2
    """Half epochs without a better validation loss before mlp stops."""
    validation: Annotated[float, Field(gt=0, lt=0.9), Parameter(group="Reward")] = 0.1
    """Share of the fitted prompts that mlp holds out for early stopping and temperature."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5), Parameter(group="Reward")] = 0.0
    """Share of labels assumed to be flipped."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], Parameter(group="Reward")] = "auto"
    """Matrix products of mlp."""
    laplace: Annotated[bool, Flag, Parameter(group="Uncertainty")] = False
    """Keep the posterior of the last layer, which --pessimism laplace reads."""
    robust: Annotated[Literal["none", "flips", "gce", "symmetric"], Parameter(group="Robustness")] = "none"
    """Loss for wrong labels: flips models them, gce and symmetric bound what each can cost."""
    flip_rate: Annotated[float | None, Field(gt=0, lt=0.5), Parameter(group="Robustness")] = None
    """Share of labels turned round, for --robust flips; learnt unless given."""
    length_regressed: Annotated[bool, Flag, Parameter(group="Robustness")] = False
    """Let length explain what it can while fitting, and leave its part out of the score."""
    augment: Annotated[float, Field(ge=0, le=10), Parameter(group="Robustness")] = 0.0
    """Comparisons to add with answers of other prompts, as a share of those given: 0.5 is half as many."""
    risk: Annotated[float | None, Field(gt=0, lt=1), Parameter(group="Distributions")] = None
    """Quantile that is the score of mean_variance or categorical, as 0.1: low where people differ; else the mean."""
    atoms: Annotated[int, Field(ge=2), Parameter(group="Distributions")] = 10
    """Values that a score of categorical may take."""
    entropy: Annotated[float, Field(ge=0), Parameter(group="Distributions")] = 0.1
    """Entropy coefficient of categorical: how much all its values are used."""
    rank: Annotated[int, Field(ge=1), Parameter(group="Pairwise")] = 2
    """Circles that the preferences of pairwise may go in."""
    references: Annotated[int, Field(ge=1), Parameter(group="Pairwise")] = 256
    """Completions kept as opponents: the score of pairwise is the log-odds of winning against a random one."""
    weights: Annotated[tuple[str, ...], Parameter(group="Attributes"), Many] = ()
    """Weights of attributes, as helpful=1 verbose=-0.5; equal ones unless given, 0 for those left out."""
    gate: Annotated[Path | None, Parameter(group="Attributes")] = None
    """File of comparisons that teach how the prompt mixes the attributes."""
    trees: Annotated[int, Field(ge=1), Parameter(group="Trees")] = 1000
    """Most trees of boosted; held-out prompts say how many are kept."""
    leaves: Annotated[int, Field(ge=2), Parameter(group="Trees")] = 15
    """Most leaves of a tree."""
    shrinkage: Annotated[float, Field(gt=0, le=1), Parameter(group="Trees")] = 0.05
    """Step of each tree."""
    smallest: Annotated[int, Field(ge=1), Parameter(group="Trees")] = 20
    """Fewest responses in a leaf."""
    cut: Annotated[Literal["auto", "newline", "paragraph", "sentence", "list"], Parameter(group="Reasoning")] = "auto"
    """What a step of a solution is, for process; auto takes what gives the labelled steps back."""
    aggregate: Annotated[Literal["min", "product", "last"], Parameter(group="Reasoning")] = "min"
    """How the scores of steps become that of a solution, for process."""
    after_error: Annotated[Literal["drop", "keep", "wrong"], Parameter(group="Reasoning")] = "drop"
    """Steps after the first wrong one: left out (as in PRM800K), kept as labelled, or wrong as well."""
    step_labels: Annotated[Literal["given", "hard", "soft"], Parameter(group="Reasoning")] = "given"
    """hard or soft take them from column `continuations`: is any of them right, or the share that is."""
    stride: Annotated[int, Field(ge=1), Parameter(group="Reasoning")] = 8
    """Words between the prefixes that model prefix is fitted on."""
    check: Annotated[str | None, Parameter(group="Reasoning")] = None
    """number, latex, exact, regex, json_schema or unit_tests, for a verifier; number unless given."""
    unknown: Annotated[float | None, Parameter(group="Reasoning")] = None
    """Score of a verifier for prompts without a known answer; an error unless given."""
    judge: Annotated[Path | None, Parameter(group="Reward")] = None
    """YAML file of a language model that judges, for --model judge: it is calibrated to the evidence."""
    people: Annotated[Literal["pooled", "decomposed", "groups", "latent", "reliability"], Parameter(group="People")] = (
        "pooled"
    )
    """Whose reward, from comparisons with annotators: pooled: everybody's; decomposed: heads that one person's choices
    weigh; groups: known (column group) or found, scored for the worst; latent: a latent user, found from choices;
    reliability: everybody's, with how far each annotator can be trusted. See tacit score --for."""
    components: Annotated[int, Field(ge=1), Parameter(group="People")] = 50
    """Principal directions of decomposed; each gives two heads."""
    directions: Annotated[Literal["centred", "uncentred", "gaussian", "uniform"], Parameter(group="People")] = "centred"
    """Principal directions of decomposed: centred as published, uncentred keeps what all agree on; or random ones."""
    temperature: Annotated[float, Field(gt=0), Parameter(group="People")] = 1.0
    """Of the softmax over the heads of decomposed; less trusts a person's choices more."""
    reduction: Annotated[Literal["sum", "mean"], Parameter(group="People")] = "sum"
    """Sum or mean of a person's losses before that softmax."""
    groups: Annotated[int | None, Field(ge=1), Parameter(group="People")] = None
    """Groups to find; unless given the column group, else as many as held-out likelihood asks for."""
    restarts: Annotated[int, Field(ge=1), Parameter(group="People")] = 8
    """Starts of the search for groups."""
    latent: Annotated[int, Field(ge=1), Parameter(group="People")] = 8
    """Size of a latent user."""
    decoder: Annotated[Literal["linear", "mlp"], Parameter(group="People")] = "linear"
    """How a latent user's reward departs from the pooled one."""
    pooling: Annotated[Literal["product", "attention"], Parameter(group="People")] = "product"
    """How a latent user is read from comparisons: a product of Gaussian factors, or self-attention."""
    kl: Annotated[float, Field(ge=0), Parameter(group="People")] = 0.1
    """Weight of the KL term of latent."""
    cache: Annotated[Path | None, Parameter(group="Reward")] = None
    """Folder of encoded texts, so that none is encoded twice; the user's cache folder unless given."""
    no_cache: Annotated[bool, Flag, Parameter(group="Reward")] = False
    """Keep encoded texts in memory only."""

    def learns(self) -> str:
        """The model that --model and --people name together."""
        if self.people != "pooled" and self.model not in ("auto", self.people):
            raise TacitError(f"--people {self.people} is a model of its own. Leave --model {self.model} out")
        return self.model if self.people == "pooled" else self.people


FIT_OPTIONS = (
    *("objective", "head", "members", "shared_trunk", "hidden", "l2", "weight_decay", "learning_rate", "batch_size"),
    *("epochs", "patience", "validation", "label_smoothing", "precision", "laplace", "robust", "flip_rate"),
    *("length_regressed", "augment", "seed"),
)
"""The options of `tacit fit` that go to `tacit.rewards.fit` where they are given; a model refuses what it lacks."""


PEOPLE_OPTIONS = (
    *("components", "directions", "temperature", "reduction", "groups", "restarts"),
    *("latent", "decoder", "pooling", "kl"),
)
"""Likewise, for people models."""


SHAPE_OPTIONS = (
    *("risk", "atoms", "entropy", "rank", "references", "weights", "gate", "trees", "leaves", "shrinkage", "smallest"),
)
"""Likewise, for distributions, pairwise preferences, attributes and trees."""

JUDGE_OPTIONS = ("judge",)
"""Likewise, for a language model that judges."""


REASONING_OPTIONS = ("cut", "aggregate", "after_error", "step_labels", "stride", "check", "unknown")
"""Likewise, for rewards of solutions in steps and of problems."""


class CombineOptions(Reading, Caution):
    """Options of `tacit combine`."""

    out: Path
    """Folder for the reward; a reward that is there already is replaced."""
    data: str | None = None
    """Evidence to measure the mean and spread of parts on, for the scales z and log_sigmoid."""
    cache: Path | None = None
    """Folder of encoded texts; kept in memory only unless given."""


class ForOne(Reading, Caution):
    """What every verb that can ask a reward on behalf of one person takes."""

    for_: Annotated[str | None, Parameter(name="--for", group="Reading")] = None
    """Comparisons that one person made: the reward is made that person's own first."""

    def load_own(self, reward: Path, cache: Path | None) -> tuple[Reward, list[Record]]:
        """The reward in a folder, adapted to the person's choices where there are any, and these choices."""
        loaded = self.load(reward, cache)
        if self.for_ is None:
            return loaded, []
        from tacit.evidence import read
        from tacit.rewards.people.choices import adapted

        choices = list(read(self.for_, kind="comparison", items=self.items))
        return adapted(loaded, choices), choices


class ScoreOptions(ForOne):
    """Options of `tacit score`."""

    out: Path
    """File to write: .jsonl, .csv, .tsv (each also .gz) or .parquet."""
    cache: Path | None = None
    """Folder of encoded texts; kept in memory only unless given."""


class AuditOptions(ForOne, AuditDemonstrations):
    """Options of `tacit audit`."""

    out: Path | None = None
    """report.html for the whole report, with metrics.json beside it; or a JSON file for the metrics alone."""
    candidates: Path | None = None
    """File of candidates with a gold score, as for `tacit select`: how far to choose or tune by this reward."""
    gold: str = "gold"
    """Column of the gold score in --candidates; or a reward (folder or YAML file) that scores them as gold, or, without
    --candidates, the completions of DATA."""
    log: Path | None = None
    """metrics.jsonl of a tuning run, with `kl`, `reward` and, where known, `gold`: was it tuned too far?"""
    others: Annotated[tuple[Path, ...], Many] = ()
    """Further rewards to compare it with; the same as naming them before DATA."""
    domains: str | None = None
    """Column of the domains that are compared; domain, source, group, template or annotator unless given."""
    reference: Path | None = None
    """Folder of a reward that this one must not fall below: ends with 1 where it does."""
    allow: Annotated[tuple[str, ...], Many] = ()
    """How much worse than --reference a metric may be, as accuracy=0.01; accuracy=0 nll=0 unless given."""
    resamples: Annotated[int, Field(ge=10)] = 1000
    """Bootstrap draws behind each interval."""
    cache: Path | None = None
    """Folder of encoded texts; kept in memory only unless given."""

    def alone(self) -> None:
        """Raise `TacitError` for options that say something of one reward only, where several are compared."""
        given = {
            "for_": "for",
            "candidates": "candidates",
            "log": "log",
            "domains": "domains",
            "reference": "reference",
        }
        for name, flag in given.items():
            if getattr(self, name) is not None:
                raise TacitError(f"--{flag} is about one reward. Leave it out where several are compared")


AUDIT_OPTIONS = (*("candidates", "gold", "log", "domains", "reference", "allow", "resamples", "seed", "cache"),)
"""The options of `tacit audit` that go to `tacit.audit.run.run`."""


class SelectOptions(Caution):
    """Options of `tacit select`."""

    out: Path
    """File of the choices: .jsonl, .csv, .tsv (each also .gz) or .parquet."""
    n: Annotated[int | None, Field(ge=1)] = None
    """How many candidates of each prompt to look at; all unless given."""
    curve: Annotated[bool, Flag] = False
    """Estimate what best-of-n gains in true reward for n = 1, 2, 4, ...; needs the gold column."""
    gold: str = "gold"
    """Column of the true reward."""
    cache: Path | None = None
    """Folder of encoded texts; kept in memory only unless given."""


class ExportOptions(Options):
    """Options of `tacit export`."""

    out: Path
    """Folder for the checkpoint; one that is there already is replaced."""
    to: Literal["hf"] = "hf"
    """hf: what AutoModelForSequenceClassification reads."""
    form: Literal["auto", "stock", "custom"] = "auto"
    """stock: a class of transformers itself; custom: one whose code lies in the folder; auto: stock where it can be."""


class BenchOptions(Options):
    """Options of `tacit bench`; each suite takes some of them."""

    out: Path | None = None
    """JSON file for the result."""
    pairs: Annotated[int | None, Field(ge=100)] = None
    """Comparisons to fit on."""
    dims: Annotated[tuple[int, ...] | None, Many] = None
    """Sizes of the feature vectors."""
    epochs: Annotated[int | None, Field(ge=1)] = None
    """Epochs of the research loop."""
    repeats: Annotated[int | None, Field(ge=1)] = None
    """Times that each side runs; medians are reported."""
    rows: Annotated[int | None, Field(ge=1)] = None
    """Rows to read or score."""
    texts: Annotated[int | None, Field(ge=1)] = None
    """Texts to encode."""
    tokens: Annotated[int | None, Field(ge=1)] = None
    """Tokens of each text, about."""
    rounds: Annotated[int | None, Field(ge=1)] = None
    """Rounds of encoding on each side."""
    sizes: Annotated[tuple[int, ...] | None, Many] = None
    """Numbers of comparisons with flipped labels, for the suite `recovery`."""
    flip: Annotated[float | None, Field(ge=0.01, le=0.99)] = None
    """Share of those labels that are turned round."""
    seeds: Annotated[int | None, Field(ge=2)] = None
    """Repetitions behind each interval, with seeds that count up from --seed."""
    data: Path | None = None
    """Folder of real data, for the suite `real`."""
    cache: Path | None = None
    """Folder of encoded texts for it; kept in memory only unless given."""


class LabOptions(Options):
    """Options of `tacit lab`; each experiment takes some of them."""

    out: Path | None = None
    """JSON file for the result, with its picture beside it where there is one; NAME.svg for the picture alone."""
    seeds: Annotated[int | None, Field(ge=2)] = None
    """Repetitions behind each interval, with seeds that count up from --seed."""
    data: Path | None = None
    """Folder of real data, for the experiments on it."""
