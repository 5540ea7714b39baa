"""Evidence to reward: `tacit check`, `fit` and `combine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

from tacit.errors import TacitError
from tacit.options.common import Caching, Caution, Flag, Many, Reading, Writing
from tacit.options.demonstrations import FromDemonstrations

if TYPE_CHECKING:
    from tacit.features import Encoder


class Vectors(Reading):
    """The encoder of text that stands between evidence and a reward."""

    encoder: Annotated[str, Parameter(group="Reward")] = "auto"
    """auto, hashed, minilm, hf:FOLDER or array:FILE (vectors by text or id); auto is minilm where installed, else
    hashed."""

    def opened(self, data: str) -> Encoder:
        """The encoder for DATA; ids of `array:FILE` stand for the texts of --items."""
        from tacit.rewards.encoding import open_encoder

        return open_encoder(self.encoder, data=data, **self.texts_of_ids())

    def vectors(self, data: str) -> str | Encoder:
        """The encoder, by its name unless it is `array:FILE`.

        Raises `TacitError` where DATA is an array of rewards and no vectors are given for it.
        """
        from tacit.rewards.encoding import require_vectors

        encoder = self.opened(data) if self.encoder.startswith("array:") else self.encoder
        require_vectors(data, encoder)
        return encoder


class CheckOptions(Vectors):
    """Options of `tacit check`."""

    against: str | None = None
    """Other evidence (the training data, say): prompts in both are reported."""
    limit: Annotated[int, Field(ge=1)] = 20
    """Most rows named for each finding."""


class FitOptions(Vectors, Caution, FromDemonstrations, Caching, Writing):
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

    def refuse_unused(self, kind: str) -> None:
        """Raise `TacitError` for an option that has no effect on evidence of this kind."""
        checks = kind == "problem"
        splits = self.test_data is None and self.test > 0 and not checks
        tests = splits or self.test_data is not None
        for name, effect, needs in (
            ("test", splits or not self.test, "without --test-data, for evidence that is learnt from"),
            ("by", splits, "where a share is held out: with --test above 0, and without --test-data"),
            ("resamples", tests, "where something is tested: with --test above 0, or --test-data"),
            (
                "encoder",
                not checks and self.model != "judge",
                "for models on text features, not for a judge or verifier",
            ),
            ("cache", not checks, "for models that encode or ask: a verifier does neither"),
            ("no_cache", not checks, "for models that encode or ask: a verifier does neither"),
            ("run_code", checks and tests, "for problems whose checks run code, tested with --test-data"),
        ):
            if getattr(self, name) != type(self).model_fields[name].default and not effect:
                raise TacitError(f"`tacit fit` takes --{name.replace('_', '-')} only {needs}")

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


class CombineOptions(Reading, Caution, Caching, Writing):
    """Options of `tacit combine`."""

    out: Path
    """Folder for the reward; a reward that is there already is replaced."""
    data: str | None = None
    """Evidence to measure the mean and spread of parts on, for the scales z and log_sigmoid."""
