"""What a run is asked for: its method, and the options that this method takes, with its defaults."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from tacit import artefacts
from tacit.conversation import Prompt
from tacit.errors import TacitError, choices
from tacit.evidence import Evidence
from tacit.outputs import Output
from tacit.rewards.contract import Reward
from tacit.tuning.conditions import CONDITIONS, Choices, Condition, check, check_groups, refuse_unknown
from tacit.tuning.data import answerable
from tacit.tuning.loop import LoopOptions
from tacit.tuning.losses import PreferenceOptions
from tacit.tuning.policy_gradient import GradientOptions
from tacit.tuning.preference import EncodedLabels, EncodedPairs, PreferenceTuningOptions
from tacit.tuning.processes import Processes
from tacit.tuning.reward_model import RewardTuningOptions
from tacit.tuning.sampling import SamplingOptions
from tacit.tuning.supervised import Encoded

T = TypeVar("T", Encoded, EncodedPairs, EncodedLabels)

GRADIENTS = ("reinforce", "remax", "rloo", "grpo", "ppo")
RULES = ("raft", "raft++", "reinforce-rej", "rso", "rrhf", "hindsight")
METHODS = ("sft", "reward", "dpo", "rejection", *GRADIENTS)

_NO_FLAG = ("adam_epsilon", "prompts_per_round", "batch")
_LOOP = tuple(f.name for f in fields(LoopOptions) if f.name not in (*_NO_FLAG, "max_kl", "num_samples"))
_DATA = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "dtype",
    "device",
    "chat_template",
)
_POLICY = ("lora", "eval_prompts", "stop_at_peak", "max_kl", "gold")
_SAMPLING = ("num_samples", *(f.name for f in fields(SamplingOptions) if f.name not in _NO_FLAG))
_SPARSE = ("curriculum", "success", "reverse_curriculum", "bonus", "bonus_weight", "bonus_encoder", "demonstrations")
_EVAL = ("max_completion_length", "temperature", "top_k", "top_p", "min_p", "stop")
_GRADIENT = (
    *("beta", "kl_estimator", "kl_in", "average", "epsilon", "epsilon_high", "num_iterations", "num_mini_batches"),
    *("mask_truncated_completions", "measure_kl", "demonstration_weight"),
)
_CREDIT = ("credit", "credit_share", "credit_stride", "discount", "whiten")
_OWN: dict[str, tuple[str, ...]] = {"reinforce": ("baseline",), "grpo": ("scale_rewards",), "ppo": ("trace", "vf_coef", "cliprange_value")}  # noqa: E501  # fmt: skip
_PAIRS = ("loss_type", "beta", "label_smoothing", "gamma", "sft_weight")

TAKES: dict[str, tuple[str, ...]] = {
    "sft": (*_LOOP, *_DATA, *_POLICY, *_EVAL, "max_length", "average"),
    "reward": (
        *(*_LOOP, *_DATA, "max_length", "objective", "center_rewards_coefficient"),
        *("regulariser", "regulariser_weight", "regulariser_beta"),
    ),
    "dpo": (
        *(*_LOOP, *_DATA, *_POLICY, *_SAMPLING, *_PAIRS, *_SPARSE[:2], "max_length", "online", "prompts_per_round"),
        *("desirable_weight", "undesirable_weight"),
    ),
    "rejection": (
        *(*_LOOP, *_DATA, *_POLICY, *_SAMPLING, *_SPARSE, *_GRADIENT, "rule", "threshold", "instructions"),
        *("loss_type", "label_smoothing", "gamma", "sft_weight"),
    ),
    **{
        name: (*_LOOP, *_DATA, *_POLICY, *_SAMPLING, *_SPARSE, *_GRADIENT, *_CREDIT, *_OWN.get(name, ()))
        for name in GRADIENTS
    },
}
"""The options of each method; some work beside others alone (`tacit.tuning.conditions`)."""

_ONLINE = {"learning_rate": 1e-6, "per_device_train_batch_size": 64, "lr_scheduler_type": "constant"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "sft": {"learning_rate": 2e-5},
    "reward": {"learning_rate": 1e-5, "per_device_train_batch_size": 16},
    "dpo": {"learning_rate": 1e-6, "per_device_train_batch_size": 16, "num_generations": 2},
    "rejection": _ONLINE,
    "reinforce": {**_ONLINE, "beta": 0.05},
    "remax": {**_ONLINE, "beta": 0.05},
    "rloo": {**_ONLINE, "beta": 0.05},
    "grpo": _ONLINE,
    "ppo": {**_ONLINE, "beta": 0.05, "num_iterations": 4, "whiten": True, "num_generations": 1},
}
"""Where a method departs from the defaults of the options' own classes."""
RULE_DEFAULTS: dict[str, dict[str, Any]] = {
    "raft++": {"num_mini_batches": 4},
    "rso": {"beta": PreferenceOptions.beta},
    "rrhf": {"sft_weight": 1.0},
}
"""Where a rule of rejection departs from them."""
_COMMON = {
    **{"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_train_epochs": 1.0, "dtype": "auto"},
    **{"eval_prompts": 128, "average": "token", "rule": "raft", "loss_type": "sigmoid", "online": False},
    **{"credit": "none", "credit_share": 0.8, "credit_stride": 1, "curriculum": False, "reverse_curriculum": False},
    **{"bonus": "none", "bonus_weight": 0.1, "bonus_encoder": "hashed", "instructions": ()},
}
_CLASSES = (LoopOptions, SamplingOptions, PreferenceTuningOptions, PreferenceOptions, RewardTuningOptions)


def defaults_of(
    takes: Sequence[str], departures: Mapping[str, Any], rule: str | None, classes: Sequence[Any]
) -> dict[str, Any]:
    """The default of every option that a method takes, where it has one that is not None."""
    stated: dict[str, Any] = {}
    for kind in classes:
        stated |= {f.name: f.default for f in fields(kind)}
    stated |= _COMMON | dict(departures) | RULE_DEFAULTS.get(rule or "", {})
    known = {name: value for name, value in stated.items() if isinstance(value, bool | int | float | str | tuple)}
    return {name: known[name] for name in takes if name in known and name not in _NO_FLAG}


@dataclass(frozen=True)
class Catalogue:
    """What methods take."""

    takes: Mapping[str, Sequence[str]]
    """The options of each method."""
    departures: Mapping[str, Mapping[str, Any]]
    """Defaults of each method that are not those of the options' classes."""
    conditions: Sequence[Condition]
    """What options need beside them."""
    classes: Sequence[Any] = ()
    """Dataclasses of options beside those of `tacit.tuning`."""


RUN_FILES = (
    *("config.yaml", "metrics.jsonl", "result.json", "completions/step-[0-9]*.jsonl", "checkpoints/step-[0-9]*/"),
    *("policy/", "reward/", "trackers/**"),
    *("iteration-[0-9]*/metrics.jsonl", "iteration-[0-9]*/result.json", "iteration-[0-9]*/policy/"),
    *("iteration-[0-9]*/answers/*.jsonl", "iteration-[0-9]*/completions/step-[0-9]*.jsonl"),
    "iteration-[0-9]*/checkpoints/step-[0-9]*/",
)
"""What a run writes into its folder, as `tacit.artefacts.FileList` lists it."""
_ON_DISK = (
    *("policy", "data", "gold", "demonstrations", "discriminator_model", "encoder", "bonus_encoder", "stop_at_peak"),
    "chat_template",
)


@dataclass
class Job:
    """What a run is made of."""

    method: str
    policy: str
    data: str
    out: Path
    options: dict[str, Any]
    read: Callable[[str], Evidence]
    """Evidence in a file, folder or hub dataset."""
    reward: Callable[[], Reward] | None = None
    """Opens the reward, where one was given."""
    eval_data: str | None = None
    processes: Processes = field(default_factory=Processes)
    begun: Callable[[], None] | None = field(default=None, kw_only=True)
    """Called once everything is open and right: a good moment to write down what was asked for."""
    reading: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """The options of `read`. A file of bare prompts is no evidence, and of these only `columns` says anything of it."""
    left_out: dict[str, int] = field(default_factory=dict, init=False)
    """Rows that were too long, by the result's name for their number."""

    def __post_init__(self) -> None:
        known = self.catalogue()
        if self.method not in known.takes:
            raise TacitError(f"no method `{self.method}`. {choices(self.method, known.takes)}")
        refuse_unknown(self.method, list(self.options), known.takes)
        given = {name: value for name, value in self.options.items() if value is not None}
        rule = given.get("rule", "raft") if self.method == "rejection" else None
        if rule is not None and rule not in RULES:
            raise TacitError(f"no rule `{rule}`. {choices(rule, RULES)}")
        classes = (*_CLASSES, *(() if self.method == "dpo" or rule == "rso" else (GradientOptions,)), *known.classes)
        defaults = defaults_of(known.takes[self.method], known.departures[self.method], rule, classes)
        changed = {name for name, value in given.items() if value != defaults.get(name)}
        self.options = {**defaults, **given}
        changed |= {"reward"} if self.reward is not None else set()
        changed |= {"eval_data"} if self.eval_data is not None else set()
        self.choices = Choices(self.method, self.options, frozenset(changed))
        check(self.choices, known.conditions)
        check_groups(self.choices)

    def catalogue(self) -> Catalogue:
        """What methods take."""
        if self.method == "reward" and self.reward is not None:
            raise TacitError("`tacit tune reward` learns a reward from evidence. Leave --reward out")
        return Catalogue(TAKES, DEFAULTS, CONDITIONS)

    def get(self, name: str, default: Any = None) -> Any:
        """An option, or its default."""
        value = self.options.get(name)
        return default if value is None else value

    def pick(self, kind: Any, **more: Any) -> Any:
        """An options class, filled with the options that bear its fields' names."""
        names = {f.name for f in fields(kind)}
        return kind(**{k: v for k, v in self.options.items() if k in names and v is not None} | more)

    def leave_out(self, name: str, count: int, total: int, reason: str) -> None:
        """Count rows that are left out, for the result, and say so on stderr where there are any."""
        self.left_out[name] = count
        if count and self.processes.main:
            verb = "is" if count == 1 else "are"
            print(f"tacit: {count} of {total} {reason} and {verb} left out", file=sys.stderr)

    def answerable(self, policy: Any, prompts: Sequence[Prompt], name: str, source: str) -> list[int]:
        """Places of the prompts that leave room for an answer; the others are counted under `name`.

        Raises `TacitError` where none does.
        """
        room = answerable(policy, prompts)
        reason = f"prompts of {source} leave no room for an answer in what the model reads"
        self.leave_out(name, int((~room).sum()), len(room), reason)
        if not room.any():
            raise TacitError(
                f"no prompt of {source} leaves room for an answer in what {self.policy} reads. Shorten one"
            )
        return [int(place) for place in room.nonzero()[0]]

    def fitting(self, rows: T, name: str, source: str, limit: int | None) -> T:
        """Encoded rows, of which those that were too long are counted under `name`."""
        asked = " (--max-length)" if self.options.get("max_length") == limit else ""
        reason = f"rows of {source} have more than {limit} tokens{asked}, prompt and completion together,"
        self.leave_out(name, rows.left_out, len(rows) + rows.left_out, reason)
        return rows

    @property
    def micro(self) -> int:
        """Rows of one forward pass."""
        return int(self.get("per_device_train_batch_size"))

    @property
    def batch(self) -> int:
        """Rows of an optimiser step, over all processes."""
        return self.micro * int(self.get("gradient_accumulation_steps")) * self.processes.world

    def begin(self, *, resume: bool) -> None:
        """Make the folder of the run ready in the main process: its list of files, and no checkpoint of an older run.

        Whether a folder of another verb may be replaced was asked before. Raises `ArtefactError` where it holds what
        no run wrote.
        """
        if self.processes.main:
            Output("tune", self.out, overwrite=True).require_run(resume=resume)
            former = artefacts.read_list(self.out)
            if former is not None and not resume:
                stale = ("checkpoints/*", "iteration-*") if former.verb == "tune" else ("*",)
                artefacts.remove_listed(self.out, *stale)
            self.out.mkdir(parents=True, exist_ok=True)
            artefacts.write_list(self.out, "tune", RUN_FILES)
        self.processes.wait()

    def settings(self, quiet: Sequence[str]) -> dict[str, Any]:
        """What a resumed run must agree with, without the options `quiet`; files by their place relative to --out."""
        named = {k: v for k, v in self.options.items() if k not in quiet and v is not None}
        named |= {"policy": self.policy, "data": self.data}
        return {k: artefacts.relative_to(v, self.out) if k in _ON_DISK else v for k, v in named.items()}
