"""What a run is asked for: its method, and the options that this method takes, with its defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tacit import artefacts
from tacit.errors import TacitError
from tacit.evidence import Evidence
from tacit.outputs import Output
from tacit.rewards.contract import Reward
from tacit.tuning.loop import LoopOptions
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import SamplingOptions

GRADIENTS = ("reinforce", "remax", "rloo", "grpo", "ppo")
RULES = ("raft", "raft++", "reinforce-rej", "rso", "rrhf", "hindsight")
METHODS = ("sft", "reward", "dpo", "rejection", *GRADIENTS)

_LOOP = tuple(f.name for f in fields(LoopOptions))
_DATA = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "dtype",
    "device",
)
_POLICY = ("lora", "eval_prompts", "stop_at_peak", "gold")
_SAMPLING = tuple(f.name for f in fields(SamplingOptions) if f.name not in ("prompts_per_round", "batch"))
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
        *("loss_type", "label_smoothing", "sft_weight"),
    ),
    **{
        name: (*_LOOP, *_DATA, *_POLICY, *_SAMPLING, *_SPARSE, *_GRADIENT, *_CREDIT, *_OWN.get(name, ()))
        for name in GRADIENTS
    },
}
"""The options of each method."""

_ONLINE = {"learning_rate": 1e-6, "per_device_train_batch_size": 64, "lr_scheduler_type": "constant"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "sft": {"learning_rate": 2e-5},
    "reward": {"learning_rate": 1e-5, "per_device_train_batch_size": 16},
    "dpo": {"learning_rate": 1e-6, "per_device_train_batch_size": 16},
    "rejection": _ONLINE,
    "reinforce": {**_ONLINE, "beta": 0.05},
    "remax": {**_ONLINE, "beta": 0.05},
    "rloo": {**_ONLINE, "beta": 0.05},
    "grpo": _ONLINE,
    "ppo": {**_ONLINE, "beta": 0.05, "num_iterations": 4, "whiten": True, "num_generations": 1},
}
"""Where a method departs from the defaults of the options' own classes."""

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

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise TacitError(f"no method `{self.method}`. Choose one of: {', '.join(METHODS)}")
        takes = TAKES[self.method]
        if unknown := sorted(self.options.keys() - set(takes)):
            flags = ", ".join(sorted(set(takes)))
            raise TacitError(f"`tacit tune {self.method}` takes no --{unknown[0]}. It takes: {flags}")
        self.options = {**DEFAULTS[self.method], **self.options}

    def get(self, name: str, default: Any = None) -> Any:
        """An option, or its default."""
        value = self.options.get(name)
        return default if value is None else value

    def pick(self, kind: Any, **more: Any) -> Any:
        """An options class, filled with the options that bear its fields' names."""
        names = {f.name for f in fields(kind)}
        return kind(**{k: v for k, v in self.options.items() if k in names and v is not None} | more)

    @property
    def micro(self) -> int:
        """Rows of one forward pass."""
        return int(self.get("per_device_train_batch_size", 8))

    @property
    def batch(self) -> int:
        """Rows of an optimiser step, over all processes."""
        return self.micro * int(self.get("gradient_accumulation_steps", 1)) * self.processes.world

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
