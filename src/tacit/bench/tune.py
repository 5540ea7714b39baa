"""Speed of a step of tuning: `tacit tune` beside TRL, on equal weights, data, lengths and batches.

Each side runs in a process of its own, and a step of one is followed by a step of the other. First both compute in
bfloat16 where the machine multiplies it natively, then both in float32. All else is TRL's default;
it saves memory by computing activations twice (gradient checkpointing), so peak memory stands beside the seconds.
"""

from __future__ import annotations

import copy
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tacit.bench.rollout import SIZES, bench_policy, gflops, matmul_limits, multiply_adds
from tacit.errors import MissingExtra, TacitError, extra_installed
from tacit.evidence import Comparison
from tacit.progress import track

ROWS = 64
GROUP = 8
MICRO = 32
"""Rows of one pass of a reward on our side: TRL, which computes activations twice, needs no more memory for 64."""
PROMPT = 16
ANSWER = 48
LONGEST = 256
"""Tokens of the longest text among ragged ones; they average 64."""

WORKS = ("grpo", "grpo, KL", "rloo, KL", "sft", "sft, ragged", "dpo", "reward", "reward, ragged")
RATE = 1e-5


@dataclass(frozen=True)
class Work:
    """What both sides learn from: numbers as words, one token each."""

    name: str
    prompts: list[str]
    chosen: list[str]
    rejected: list[str]

    @property
    def method(self) -> str:
        """The method without its variant."""
        return self.name.split(",")[0]

    @property
    def beta(self) -> float:
        """Weight of the KL term: that of TRL's rloo where there is one."""
        return 0.05 if "KL" in self.name else 0.0

    @property
    def tokens(self) -> int:
        """Tokens of a step, without padding, prompts that rows share counted for each."""
        if self.method in ("grpo", "rloo"):
            return ROWS * (PROMPT + ANSWER)
        texts = [*self.chosen, *(self.rejected if self.method != "sft" else ())]
        asked = [*self.prompts, *(self.prompts if self.method != "sft" else ())]
        return sum(len(p.split()) + len(c.split()) + 1 for p, c in zip(asked, texts, strict=True))


class Even:
    """A reward that costs nothing: the share of even numbers."""

    name = "even"

    def score(self, prompts: Any, completions: Any) -> np.ndarray:
        """(n,) float32"""
        return np.array([even(text) for text in completions], np.float32)


def even(text: str) -> float:
    """The share of even numbers."""
    words = text.split()
    return sum(word[-1] in "02468" for word in words) / max(1, len(words))


def run(
    sizes: tuple[int, ...] = (15,), repeats: int = 3, works: tuple[str, ...] = WORKS, seed: int = 0
) -> dict[str, Any]:
    """Time `repeats` steps of each side of each work, after one that is not counted.

    Rows hold medians of seconds and of processor seconds, `times_faster` than TRL at the same precision (median of the
    ratios of neighbouring steps), the share of the device's matrix products that the step needs at least (a forward
    pass is one, a backward pass two), and `peak_mb`, the memory above what the process held with its packages imported.
    Raises `MissingExtra` without TRL.
    """
    for package, extra in (("transformers", "hf"), ("trl", "bench")):
        if not extra_installed(package):
            raise MissingExtra(extra, "`bench tune`")
    if unknown := [name for name in works if name not in WORKS]:
        raise TacitError(f"there is no work `{unknown[0]}`. Choose from: {'; '.join(WORKS)}")
    import torch

    limits = matmul_limits()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for size, name in track([(size, name) for size in sizes for name in works], "tuning"):
            rows += _compare(size, work(name, size, seed), repeats, limits, Path(place))
    return {
        "rows": rows,
        "threads": torch.get_num_threads(),
        **gflops(limits),
    }


def work(name: str, size: int, seed: int = 0) -> Work:
    """Random texts of 64 tokens, or ragged ones, for the steps of one work."""
    rng = np.random.default_rng(seed)
    vocabulary = SIZES[size][-1]

    def text(count: int) -> str:
        return " ".join(map(str, rng.integers(3, vocabulary, count).tolist()))

    method = name.split(",")[0]
    if method in ("grpo", "rloo"):
        return Work(name, [text(PROMPT) for _ in range(8 * ROWS)], [], [])
    rows, asked = (8 * ROWS, 1) if method == "sft" else (4 * ROWS, PROMPT)
    answers = np.full((2, rows), ANSWER + PROMPT - asked - 1)
    if "ragged" in name:
        drawn = np.exp(rng.normal(3.55, 1.0, (2, rows))) + 8
        answers = np.clip(drawn, 8, LONGEST).astype(int) - 1
    chosen, rejected = ([text(int(count)) for count in side] for side in answers)
    return Work(name, [text(asked) for _ in range(rows)], chosen, rejected)


def _compare(size: int, given: Work, repeats: int, limits: dict[Any, float], place: Path) -> list[dict[str, Any]]:
    rows = []
    for dtype in reversed(limits):
        precision = str(dtype).split(".")[1]
        sides = {name: _Side(name, size, given, precision, place, repeats + 1) for name in ("TRL", "tacit")}
        times: dict[str, list[Timed]] = {name: [] for name in sides}
        for _ in range(repeats + 1):
            for name, side in sides.items():
                times[name].append(side.step())
        ratios = [theirs[0] / ours[0] for theirs, ours in zip(times["TRL"][1:], times["tacit"][1:], strict=True)]
        for name, found in times.items():
            seconds = statistics.median(one for one, _ in found[1:])
            rows.append(
                {
                    "work": given.name, "weights": f"{size}M", "side": name, "dtype": precision,
                    "seconds": round(seconds, 3),
                    "processor_seconds": round(statistics.median(busy for _, busy in found[1:]), 3),
                    "times_faster": 1.0 if name == "TRL" else round(statistics.median(ratios), 2),
                    "share_of_products": round(_least(size, given) / seconds / limits[dtype], 3),
                    "peak_mb": sides[name].peak(),
                }
            )  # fmt: skip
    return rows


def _least(size: int, given: Work) -> float:
    """Multiply-adds that a step needs at least: forward passes of tokens, a backward pass being two of them."""
    policy = bench_policy(size, "float32", LONGEST)
    each = multiply_adds(policy.model)
    head = policy.model.get_output_embeddings().weight.numel()
    sampled = ROWS * ANSWER
    prompts = ROWS // GROUP * PROMPT
    passes = {
        "grpo": 3 * (sampled + prompts) + (sampled + prompts),
        "rloo": 3 * (sampled + prompts) + 2 * (sampled + prompts),
        "sft": 3 * ROWS / len(given.prompts) * given.tokens,
        "dpo": 4 * ROWS / 2 / max(1, len(given.prompts)) * given.tokens,
        "reward": 3 * ROWS / 2 / max(1, len(given.prompts)) * given.tokens,
    }[given.method] + (sampled + prompts if given.name == "grpo, KL" else 0)
    return float(passes) * (each - head if given.method == "reward" else each)


# --- a process for each side ------------------------------------------------------------------------------------------

Timed = tuple[float, float]
"""Seconds and processor seconds of a step."""


class _Side:
    """A side in a process of its own, which makes one step when told to."""

    def __init__(self, name: str, size: int, given: Work, precision: str, place: Path, steps: int) -> None:
        from multiprocessing import get_context

        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, name, size, given, precision, place / name, steps)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def step(self) -> Timed:
        """Make one step."""
        self.pipe.send("step")
        made: Timed = self._told()
        return made

    def peak(self) -> int:
        """The most memory in MB; the process ends."""
        found = int(self._told())
        self.process.join()
        return found

    def _told(self) -> Any:
        try:
            return self.pipe.recv()
        except EOFError:
            raise TacitError("a side of the comparison stopped; its reason stands above") from None


def _serve(pipe: Any, name: str, size: int, given: Work, precision: str, place: Path, steps: int) -> None:
    import resource

    import torch

    if name == "TRL":
        _trl_names()
    else:
        from tacit.tuning import policy_gradient, preference, reward_model, supervised  # noqa: F401
    place.mkdir(parents=True, exist_ok=True)
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 10
    dtype = getattr(torch, precision)
    if name == "TRL":
        _trl(size, given, dtype, place, steps, pipe)
    else:
        made = _tacit(size, given, dtype, place)
        for _ in range(steps):
            pipe.recv()
            start, worked = time.perf_counter(), time.process_time()
            next(made)
            pipe.send((time.perf_counter() - start, time.process_time() - worked))
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) // 1024)


# --- our side ---------------------------------------------------------------------------------------------------------


def _tacit(size: int, given: Work, dtype: Any, place: Path) -> Iterator[None]:
    """A generator, each step of which is one optimiser step."""
    from tacit.policies.memory import keep_blocks
    from tacit.tuning.loop import LoopOptions, optimiser_of, trained, update
    from tacit.tuning.processes import Processes

    keep_blocks()
    method = _method(size, given, dtype, place)
    parameters = trained(method.modules())
    options = LoopOptions(learning_rate=RATE)
    optimiser = optimiser_of(parameters, options)
    step = 0
    while True:
        for dealt in method.round(step):
            update(dealt, parameters, optimiser, options, Processes(), step)
            step += 1
            yield


def _method(size: int, given: Work, dtype: Any, place: Path) -> Any:
    from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
    from tacit.tuning.preference import PreferenceTuning, PreferenceTuningOptions, encode_pairs
    from tacit.tuning.reward_model import RewardTuning, RewardTuningOptions
    from tacit.tuning.sampling import Sampler, SamplingOptions
    from tacit.tuning.supervised import SupervisedTuning, encode

    precision = str(dtype).split(".")[1]
    policy = bench_policy(size, precision, 2 * LONGEST)
    triples = [(p, c, r, 1.0) for p, c, r in zip(given.prompts, given.chosen, given.rejected, strict=False)]
    match given.method:
        case "sft":
            rows = encode(policy, given.prompts, given.chosen)
            return SupervisedTuning(policy, rows, batch=ROWS, micro_batch=ROWS, steps=1000)
        case "dpo":
            preference = PreferenceTuningOptions(batch=ROWS // 2, micro_batch=ROWS // 2, steps=1000)
            return PreferenceTuning(policy, encode_pairs(policy, triples), preference)
        case "reward":
            folder = _saved(policy, size, place)
            records = [Comparison(prompt=p, chosen=c, rejected=r) for p, c, r, _ in triples]
            reward = RewardTuningOptions(batch=ROWS // 2, micro_batch=MICRO // 2, steps=1000, dtype=precision)
            return RewardTuning(folder, records, reward)
    sampling = SamplingOptions(ROWS // GROUP, GROUP, ANSWER)
    options = GradientOptions(
        given.method, beta=given.beta, kl_in="reward" if given.method == "rloo" else "loss",
        kl_estimator="k1" if given.method == "rloo" else "k3", micro_batch=ROWS,
    )  # fmt: skip
    return PolicyGradient(policy, Sampler(policy, given.prompts, Even(), sampling), options, 1000)


def _saved(policy: Any, size: int, place: Path) -> Path:
    folder = place / f"base-{size}"
    if not folder.exists():
        policy.save(folder)
    return folder


# --- TRL --------------------------------------------------------------------------------------------------------------


def _trl(size: int, given: Work, dtype: Any, place: Path, steps: int, pipe: Any) -> None:
    """Run TRL's trainer for some steps, each when the pipe says so."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback

    trl = _trl_names()
    disable_progress_bars()

    class Clock(TrainerCallback):  # type: ignore[misc, no-any-unimported, unused-ignore]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            pipe.recv()
            self.start, self.worked = time.perf_counter(), time.process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            pipe.send((time.perf_counter() - self.start, time.process_time() - self.worked))

    common: dict[str, Any] = {
        "output_dir": str(place / "trl"), "per_device_train_batch_size": ROWS, "max_steps": steps,
        "learning_rate": RATE, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(), "bf16": dtype is torch.bfloat16, "logging_steps": 10 * steps,
    }  # fmt: skip
    policy = bench_policy(size, "float32", 2 * LONGEST)
    model, tokenizer = policy.model, policy.tokenizer
    model.config._name_or_path = str(_saved(policy, size, place))  # where TRL looks for the reference
    columns = {"prompt": [f"{prompt} " for prompt in given.prompts], "chosen": given.chosen, "rejected": given.rejected}
    pairs = {name: texts for name, texts in columns.items() if texts}

    def rewarded(completions: list[str], **_: Any) -> list[float]:
        return [even(text) for text in completions]

    trainer: Any
    match given.method:
        case "sft":
            rows = Dataset.from_dict({"prompt": pairs["prompt"], "completion": given.chosen})
            trainer = trl.SFTTrainer(
                model, trl.SFTConfig(**common), train_dataset=rows, processing_class=tokenizer, callbacks=[Clock()]
            )
        case "dpo":
            halved = {**common, "per_device_train_batch_size": ROWS // 2}
            trainer = trl.DPOTrainer(
                model, args=trl.DPOConfig(**halved), train_dataset=Dataset.from_dict(pairs),
                processing_class=tokenizer, callbacks=[Clock()],
            )  # fmt: skip
        case "reward":
            halved = {**common, "per_device_train_batch_size": ROWS // 2}
            trainer = trl.RewardTrainer(
                _classifier(policy), trl.RewardConfig(**halved), train_dataset=Dataset.from_dict(pairs),
                processing_class=tokenizer, callbacks=[Clock()],
            )  # fmt: skip
        case method:
            kinds: dict[str, Any] = {
                "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
                "rloo": (trl.RLOOTrainer, trl.RLOOConfig),
            }
            trainer_type, config = kinds[method]
            online: dict[str, Any] = {"num_generations": GROUP, "max_completion_length": ANSWER, "beta": given.beta}
            trainer = trainer_type(
                model, rewarded, config(**common, **online), train_dataset=Dataset.from_dict(pairs),
                processing_class=tokenizer, callbacks=[Clock()],
            )  # fmt: skip
    with _quiet():
        trainer.train()


def _trl_names() -> Any:
    """The package, with all that is used of it loaded."""
    trl = import_module("trl")
    for name in ("SFT", "DPO", "Reward", "GRPO", "RLOO"):
        getattr(trl, f"{name}Trainer")
    return trl


def _classifier(policy: Any) -> Any:
    """The policy's weights below a head of one label."""
    from transformers import LlamaForSequenceClassification

    config = copy.deepcopy(policy.model.config)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(policy.model.model.state_dict())
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """TRL reports to the terminal; the result of a suite is the table."""
    with redirect_stdout(io.StringIO()):
        yield
