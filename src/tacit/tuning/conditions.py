"""Beside which others an option of `tacit tune` has an effect; where it has none it is refused, not ignored.

`METHODS` say which options a method takes at all (`tacit.tuning.job`). Of those, some work only together with others:
`--credit-share` with `--credit uniform`, `--epsilon` where a round has several steps, `--top-k` of `sft` where held-out
prompts are sampled. A `Condition` says so once, for the check and for its message. An option counts as given where its
value is not its default, so that a saved configuration repeats its run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tacit.errors import TacitError, flag, flags

SURROGATE = ("raft", "raft++", "reinforce-rej")
"""Rules of `rejection` that run as policy gradients; the others have losses of their own."""
SFT_LIKE = ("sft", "iq")
"""Methods that imitate given rows, and sample for nothing but an evaluation."""


@dataclass(frozen=True)
class Choices:
    """What a run is asked for."""

    method: str
    values: Mapping[str, Any]
    """Every option that the method takes, defaults filled in; None where there is none."""
    given: frozenset[str]
    """Options whose value is not the default; `reward` and `eval_data` among them."""

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    @property
    def rule(self) -> str | None:
        """The rule of rejection."""
        return self["rule"] if self.method == "rejection" else None

    @property
    def loss(self) -> str | None:
        """The preference loss of dpo and of the rule rso."""
        return self["loss_type"] if self.method == "dpo" or self.rule == "rso" else None

    @property
    def surrogate(self) -> bool:
        """Whether the method is a policy gradient."""
        return self.method not in ("dpo", *SFT_LIKE, "spin", "reward") and self.rule in (None, *SURROGATE)

    @property
    def evaluates(self) -> bool:
        """Whether held-out data are given."""
        return "eval_data" in self.given

    @property
    def steps_of_round(self) -> int:
        """Steps that one set of samples gives."""
        return int(self["num_iterations"] or 1) * int(self["num_mini_batches"] or 1)

    @property
    def samples(self) -> bool:
        """Whether the method learns from samples of the policy that a reward scores."""
        return self.method not in (*SFT_LIKE, "spin", "reward") and (self.method != "dpo" or bool(self["online"]))

    @property
    def measures_kl(self) -> bool:
        """Whether the KL to the first policy is known while the run goes on."""
        return self.surrogate or (self.evaluates and bool(self["eval_steps"]))


@dataclass(frozen=True)
class Condition:
    """Options that have an effect only where something holds."""

    options: tuple[str, ...]
    holds: Callable[[Choices], bool]
    needs: str
    """How to make it hold, as it follows "takes --option only"."""


def check(choices: Choices, conditions: Sequence[Condition]) -> None:
    """Raise `TacitError` for the first option that is given and has no effect beside the others."""
    for condition in conditions:
        for option in condition.options:
            if option in choices.given and not condition.holds(choices):
                raise TacitError(f"`tacit tune {choices.method}` takes {flag(option)} only {condition.needs}")


def refuse_unknown(method: str, options: Sequence[str], takes: Mapping[str, Sequence[str]]) -> None:
    """Raise `TacitError` for an option that `takes[method]` lacks, with the methods that have it."""
    unknown = sorted(set(options) - {*takes[method], "seed"})
    if unknown:
        others = [name for name, known in takes.items() if unknown[0] in known]
        works = f"; it works with {_listed(others)}" if others else ""
        raise TacitError(
            f"`tacit tune {method}` takes no {flag(unknown[0])}{works}. {method} takes {flags(list(takes[method]))}"
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"


_EVALUATION = ("max_completion_length", "temperature", "top_k", "top_p", "min_p", "stop")
"""How to sample."""

CONDITIONS = (
    # --- the run
    Condition(("num_train_epochs",), lambda c: "max_steps" not in c.given, "without --max-steps, which counts steps"),
    Condition(
        ("min_lr_ratio",),
        lambda c: c["lr_scheduler_type"] != "constant",
        "with --lr-scheduler-type linear or cosine: a constant rate does not fall",
    ),
    Condition(("save_total_limit",), lambda c: bool(c["save_steps"]), "with --save-steps, which writes checkpoints"),
    Condition(
        ("num_samples",), lambda c: c.samples, "with --online: without it there are no completions that could be kept"
    ),
    Condition(
        ("eval_steps",), lambda c: c.evaluates or c.method == "adversarial", "with --eval-data, which is evaluated"
    ),
    Condition(("eval_prompts",), lambda c: c.evaluates, "with --eval-data, whose prompts are sampled"),
    Condition(
        ("max_kl", "stop_at_peak"),
        lambda c: c.measures_kl,
        "with --eval-data and --eval-steps, which measure the KL that it bounds",
    ),
    Condition(("stop_at_peak",), lambda c: "max_kl" not in c.given, "without --max-kl: both are the KL budget"),
    Condition(
        (*_EVALUATION, "gold", "reward"),
        lambda c: c.method not in SFT_LIKE or c.evaluates,
        "with --eval-data, whose prompts are sampled",
    ),
    Condition(
        (*_EVALUATION, "gold", "reward"),
        lambda c: c.method != "dpo" or c.evaluates or bool(c["online"]),
        "with --online, or with --eval-data, whose prompts are sampled",
    ),
    Condition(("reward",), lambda c: c.method != "reward", "for methods that sample: this one learns a reward"),
    # --- dpo
    Condition(
        (
            *("num_generations", "dynamic_sampling", "overlong_buffer", "missing_end_penalty", "brevity", "curriculum"),
            *("prompts_per_round",),
        ),
        lambda c: c.samples,
        "with --online: given pairs are not sampled",
    ),
    Condition(
        ("max_length",), lambda c: not c["online"], "without --online, whose samples have --max-completion-length"
    ),
    Condition(
        ("label_smoothing",),
        lambda c: c.loss in ("sigmoid", "robust", "reference_free"),
        "with --loss-type sigmoid, robust or reference_free",
    ),
    Condition(
        ("loss_type",),
        lambda c: c.loss != "robust" or "label_smoothing" in c.given,
        "robust with --label-smoothing, the share of labels that are wrong: without one it is sigmoid",
    ),
    Condition(("gamma",), lambda c: c.loss in ("simpo", "slic"), "with --loss-type simpo or slic"),
    Condition(
        ("sft_weight",),
        lambda c: c.loss == "slic" or c.rule == "rrhf",
        "with --loss-type slic (of dpo, or of rejection --rule rso), or with rejection --rule rrhf",
    ),
    Condition(("desirable_weight", "undesirable_weight"), lambda c: c.loss == "kto", "with --loss-type kto"),
    Condition(
        ("beta",), lambda c: c.loss != "slic", "with a --loss-type that compares with a reference, or simpo: not slic"
    ),
    # --- rejection
    Condition(("loss_type",), lambda c: c.loss is not None, "with --rule rso"),
    Condition(("threshold",), lambda c: c.rule in ("raft", "raft++"), "with --rule raft or raft++"),
    Condition(("instructions",), lambda c: c.rule == "hindsight", "with --rule hindsight"),
    Condition(
        ("beta",),
        lambda c: c.rule not in ("rrhf", "hindsight"),
        "with --rule raft, raft++, reinforce-rej or rso: the others have no KL term",
    ),
    Condition(
        (
            *("kl_estimator", "kl_in", "average", "num_iterations", "num_mini_batches", "mask_truncated_completions"),
            "measure_kl",
        ),
        lambda c: c.surrogate,
        "with --rule raft, raft++ or reinforce-rej: the others are no policy gradients",
    ),
    Condition(("epsilon", "epsilon_high"), lambda c: c.rule != "raft", "with --rule raft++ or reinforce-rej"),
    Condition(
        ("epsilon", "epsilon_high"),
        lambda c: c.surrogate,
        "with --rule raft++ or reinforce-rej: the others are no policy gradients",
    ),
    Condition(
        ("rule",),
        lambda c: c.rule != "raft++" or c.steps_of_round > 1,
        "raft++ with --num-mini-batches or --num-iterations of 2 or more: with one step a round it is raft",
    ),
    Condition(
        ("epsilon",),
        lambda c: c.rule != "raft++" or "epsilon_high" not in c.given,
        "without --epsilon-high where --rule is raft++: no advantage is negative, and the upper clip alone acts",
    ),
    # --- policy gradients
    Condition(
        ("epsilon", "epsilon_high", "cliprange_value"),
        lambda c: c.steps_of_round > 1,
        "with --num-iterations or --num-mini-batches of 2 or more: at the first step of a round nothing is clipped",
    ),
    Condition(
        ("kl_estimator", "kl_in"),
        lambda c: bool(c["beta"]),
        "with --beta above 0, the weight of the KL term",
    ),
    Condition(
        ("dynamic_sampling",),
        lambda c: int(c["num_generations"]) > 1,
        "with --num-generations of 2 or more: one response alone is no group of equal rewards",
    ),
    # --- credit
    Condition(
        ("credit_share",), lambda c: c["credit"] in ("uniform", "attention"), "with --credit uniform or attention"
    ),
    Condition(("credit_stride",), lambda c: c["credit"] == "prefix", "with --credit prefix"),
    # --- sparse rewards
    Condition(
        ("success",),
        lambda c: (
            bool(c["curriculum"] or c["reverse_curriculum"])
            or (c.rule == "hindsight" and len(c["instructions"] or ()) == 2)
        ),
        "with --curriculum, --reverse-curriculum, or the two --instructions of rejection --rule hindsight",
    ),
    Condition(("bonus_weight", "bonus_encoder"), lambda c: c["bonus"] != "none", "with --bonus count or rnd"),
    Condition(
        ("demonstrations",),
        lambda c: c.surrogate or bool(c["reverse_curriculum"]),
        "with --reverse-curriculum, or with --rule raft, raft++ or reinforce-rej",
    ),
    Condition(
        ("demonstration_weight",),
        lambda c: c.surrogate and c["demonstrations"] is not None and not c["reverse_curriculum"],
        "with --demonstrations, and without --reverse-curriculum, which begins from them",
    ),
    # --- reward
    Condition(
        ("regulariser_weight", "regulariser_beta"),
        lambda c: c["regulariser"] != "none",
        "with --regulariser sft or dpo_noref",
    ),
)
"""Those of `tacit.tuning`'s methods."""


def check_groups(choices: Choices) -> None:
    """Raise `TacitError` where a method compares the responses to one prompt, and each prompt has one."""
    single = choices.samples and int(choices["num_generations"]) < 2
    name = choices.method if choices.rule is None else f"{choices.method} --rule {choices.rule}"
    compares = choices.method in ("rloo", "grpo", "dpo", "adversarial") or (
        choices.rule in ("raft", "raft++", "reinforce-rej", "rso", "rrhf") and choices["threshold"] is None
    )
    if single and compares:
        raise TacitError(
            f"`tacit tune {name}` compares the responses to one prompt. Give --num-generations of 2 or more"
        )
