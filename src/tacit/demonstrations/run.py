"""`tacit tune spin | adversarial | iq`: from flags to a run, as `tacit.tuning.run` does for methods with a reward."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tacit.demonstrations.divergences import ALIASES
from tacit.demonstrations.extrapolation import Demos
from tacit.errors import TacitError
from tacit.tuning import sharding
from tacit.tuning.conditions import CONDITIONS as CONDITIONS_OF_TUNING
from tacit.tuning.conditions import Condition
from tacit.tuning.job import Catalogue
from tacit.tuning.loop import LoopOptions, train
from tacit.tuning.run import TAKES as TUNING
from tacit.tuning.run import Job, gold_of
from tacit.tuning.sampling import SamplingOptions

METHODS = ("spin", "adversarial", "iq")

_EVAL = ("max_completion_length", "temperature", "top_k", "top_p", "min_p", "stop")
_FEATURES = ("encoder", "hidden")
_TRUNK = ("discriminator_model", "discriminator_learning_rate", "discriminator_steps")
_DISCRIMINATOR = ("discriminator", "gradient_penalty", "replay", *_FEATURES, *_TRUNK)
_NOT = {
    "spin": (
        *("loss_type", "label_smoothing", "gamma", "sft_weight", "desirable_weight", "undesirable_weight", "online"),
        *("curriculum", "success", "prompts_per_round", "num_generations", "dynamic_sampling", "overlong_buffer"),
        *("missing_end_penalty", "brevity", "max_length", "eval_prompts", "eval_steps", "stop_at_peak", "max_kl"),
        *("num_samples", "gold"),
    ),
    "adversarial": (
        *("credit", "credit_share", "credit_stride", "demonstrations", "demonstration_weight", "curriculum", "success"),
        *("reverse_curriculum", "bonus", "bonus_weight", "bonus_encoder", "measure_kl", "stop_at_peak"),
    ),
    "iq": ("stop_at_peak",),
}
"""What the methods of `tacit.tuning` that these are made of take, and these do not."""

TAKES: dict[str, tuple[str, ...]] = {
    "spin": (*(name for name in TUNING["dpo"] if name not in _NOT["spin"]), "iterations"),
    "adversarial": (
        *(name for name in TUNING["rloo"] if name not in _NOT["adversarial"]),
        *("divergence", "alpha", "induced", "clip", "per_token", "stop_when_same", *_DISCRIMINATOR),
    ),
    "iq": (*(name for name in TUNING["sft"] if name not in _NOT["iq"]), "td_weight", "discount"),
}
"""The options of each method."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "spin": {"learning_rate": 1e-6, "per_device_train_batch_size": 16, "beta": 0.1, "iterations": 3},
    "adversarial": {
        "learning_rate": 1e-6,
        "per_device_train_batch_size": 64,
        "lr_scheduler_type": "constant",
        "beta": 0.02,
        "num_train_epochs": 10.0,
        "discriminator": "features",
        "encoder": "auto",
    },
    "iq": {"learning_rate": 2e-5},
}
"""Where a method departs from the defaults of the options' own classes."""

CONDITIONS = (
    *CONDITIONS_OF_TUNING,
    Condition(("alpha",), lambda c: c["divergence"] == "alpha", "with --divergence alpha"),
    Condition(
        ("induced",),
        lambda c: ALIASES.get(c["divergence"], c["divergence"]) != "reverse_kl",
        "with a --divergence other than reverse_kl, whose two rewards differ by a constant",
    ),
    Condition(
        _FEATURES,
        lambda c: c["discriminator"] != "language-model",
        "with --discriminator features: a language model reads texts by itself",
    ),
    Condition(_TRUNK, lambda c: c["discriminator"] == "language-model", "with --discriminator language-model"),
)


@dataclass
class DemonstrationJob(Job):
    """A run that learns from demonstrations; `data` is where they are."""

    cache: Path | None = None
    """Folder of encoded texts."""

    def catalogue(self) -> Catalogue:
        """What methods take."""
        from tacit.demonstrations.adversarial import AdversarialOptions
        from tacit.demonstrations.inverse_q import InverseQOptions

        if self.reward is not None:
            raise TacitError(f"`tacit tune {self.method}` learns from demonstrations alone. Leave --reward out")
        return Catalogue(TAKES, DEFAULTS, CONDITIONS, (AdversarialOptions, InverseQOptions))

    @property
    def seed(self) -> int:
        """--seed."""
        return int(self.get("seed", 0))


def tune(job: DemonstrationJob, *, resume: bool = False) -> dict[str, Any]:
    """Run a job; the policy lies in OUT/policy, and the reward of adversarial and iq in OUT/reward.

    Raises `TacitError` for options that do not fit the method, and `EvidenceError` for data that are no demonstrations.
    """
    sharding.refuse(job.method, job.processes)
    demos = Demos.of(job.read(job.data), job.data)
    job.begin(resume=resume)
    match job.method:
        case "spin":
            result = _spin(job, demos, resume)
        case "adversarial":
            result = _adversarial(job, demos, resume)
        case _:
            result = _iq(job, demos, resume)
    return {"method": job.method, **result, **job.left_out, "out": str(job.out / "policy")}


def _settings(job: DemonstrationJob) -> dict[str, Any]:
    quiet = ("logging_steps", "save_steps", "save_total_limit", "num_samples", "report_to", "device")
    return job.settings(quiet)


def _policy(job: DemonstrationJob, folder: str | Path) -> Any:
    from tacit.policies.transformer import TransformerPolicy

    return TransformerPolicy.load(
        folder,
        lora=job.get("lora"),
        dtype=job.get("dtype", "auto"),
        device=job.get("device"),
        chat_template=job.get("chat_template"),
    )


def _unseen(job: DemonstrationJob) -> Demos | None:
    return None if job.eval_data is None else Demos.of(job.read(job.eval_data), job.eval_data)


def _evaluation(job: DemonstrationJob, policy: Any, reward: Any = None) -> Any:
    from tacit.tuning.evaluation import Evaluation

    unseen = _unseen(job)
    if unseen is None:
        return None
    prompts = unseen.grouped()[0][: int(job.get("eval_prompts", 128))]
    kept = [prompts[i] for i in job.answerable(policy, prompts, "eval_left_out", str(job.eval_data))]
    return Evaluation(policy, kept, job.pick(SamplingOptions), reward, gold_of(job), processes=job.processes)


def _spin(job: DemonstrationJob, demos: Demos, resume: bool) -> dict[str, Any]:
    from tacit.demonstrations.self_play import SelfPlayOptions, self_play
    from tacit.tuning.supervised import encode, nll

    options = SelfPlayOptions(
        iterations=int(job.get("iterations")), beta=float(job.get("beta")), batch=job.batch, micro_batch=job.micro,
        epochs=float(job.get("num_train_epochs", 1.0)), steps=job.get("max_steps"), sampling=job.pick(SamplingOptions),
        seed=job.seed,
    )  # fmt: skip
    unseen = _unseen(job)

    def measure(policy: Any) -> dict[str, float]:
        if unseen is None:
            return {}
        rows = encode(policy, *unseen.columns(), policy.codec.context)
        return {"eval_loss": nll(policy, rows, job.micro, job.processes)}

    result = self_play(
        job.policy, demos, job.out, options, job.pick(LoopOptions), load=lambda folder: _policy(job, folder),
        measure=measure, processes=job.processes, resume=resume, agreed=_settings(job),
    )  # fmt: skip
    if job.processes.main:
        _one_log(job.out, len(result["iterations"]))
    reason = f"rows of {job.data} are longer than what the model reads"
    job.leave_out("left_out", result["iterations"][0]["left_out"], len(demos), reason)
    return result


def _one_log(out: Path, iterations: int) -> None:
    """The logs of all iterations as OUT/metrics.jsonl, which other verbs read; steps count on."""
    from tacit.artefacts import atomic_file

    before = 0
    with atomic_file(out / "metrics.jsonl") as temporary, temporary.open("w", encoding="utf-8") as file:
        for number in range(1, iterations + 1):
            lines = [
                json.loads(line)
                for line in (out / f"iteration-{number}" / "metrics.jsonl").read_text("utf-8").split("\n")
                if line
            ]
            for line in lines:
                file.write(json.dumps({**line, "step": before + line["step"], "iteration": number}) + "\n")
            before += max((line["step"] for line in lines), default=0)


def _adversarial(job: DemonstrationJob, demos: Demos, resume: bool) -> dict[str, Any]:
    from tacit.demonstrations.adversarial import Adversarial, AdversarialOptions, Adversary
    from tacit.demonstrations.discriminator import DiscriminatorOptions
    from tacit.tuning.policy_gradient import GradientOptions

    seed = job.seed
    options = job.pick(AdversarialOptions, discriminator=job.pick(DiscriminatorOptions, seed=seed), seed=seed)
    policy = _policy(job, job.policy)
    demos = demos.take(job.answerable(policy, demos.prompts, "left_out", job.data))
    adversary = Adversary(demos, _reads(job, policy), options, cache=job.cache, processes=job.processes)
    n = int(job.get("num_generations", 8))
    if job.batch % n:
        raise TacitError(
            f"a round of {job.batch} answers cannot be cut into groups of {n}. Give another --num-generations, or batch"
        )
    sampling = job.pick(SamplingOptions, prompts_per_round=job.batch // n, num_generations=n, batch=2 * job.micro)
    gradient = job.pick(GradientOptions, estimator="rloo", micro_batch=job.micro, measure_kl=True)
    per_round = gradient.num_iterations * gradient.num_mini_batches
    rounds = max(1, round(float(job.get("num_train_epochs")) * len(adversary.prompts) / sampling.prompts_per_round))
    method = Adversarial(
        policy, adversary, sampling, gradient, int(job.get("max_steps") or rounds * per_round),
        evaluation=_evaluation(job, policy, adversary.reward), gold=gold_of(job), processes=job.processes,
    )  # fmt: skip
    found = train(
        method, job.out, job.pick(LoopOptions), settings=_settings(job), resume=resume, processes=job.processes
    )
    if job.processes.main:
        method.save(job.out / "policy")
        method.save_reward(job.out / "reward")
    job.processes.wait()
    return {**found, **method.outcome(), "reward": str(job.out / "reward")}


def _reads(job: DemonstrationJob, policy: Any) -> Any:
    """What the discriminator reads through: an encoder, or the trunk of a language model."""
    language = job.get("discriminator") == "language-model"
    if not language:
        from tacit.features import load_encoder

        return load_encoder(str(job.get("encoder", "auto")))
    from tacit.demonstrations.language import TrunkOptions
    from tacit.policies import llama2c

    trunk = job.get("discriminator_model", job.policy)
    if llama2c.model_file(trunk) is not None:
        raise TacitError(f"{trunk} is no transformers folder, as a discriminator needs. Make one with tacit convert")
    given = {"learning_rate": "discriminator_learning_rate", "steps": "discriminator_steps"}
    more = {to: job.options[name] for to, name in given.items() if job.options.get(name) is not None}
    more |= {name: job.options[name] for name in ("gradient_penalty", "replay") if job.options.get(name) is not None}
    return TrunkOptions(
        Path(trunk), dtype=str(policy.dtype).removeprefix("torch."), device=str(policy.device), seed=job.seed, **more
    )


def _iq(job: DemonstrationJob, demos: Demos, resume: bool) -> dict[str, Any]:
    from tacit.demonstrations.inverse_q import InverseQ, InverseQOptions
    from tacit.tuning.supervised import encode

    policy = _policy(job, job.policy)
    limit = min(int(job.get("max_length") or policy.codec.context), policy.codec.context)
    unseen = _unseen(job)
    method = InverseQ(
        policy,
        job.fitting(encode(policy, *demos.columns(), limit), "left_out", job.data, limit),
        inverse=job.pick(InverseQOptions),
        batch=job.batch,
        micro_batch=job.micro,
        epochs=float(job.get("num_train_epochs", 1.0)),
        steps=job.get("max_steps"),
        average=job.get("average", "token"),
        seed=job.seed,
        held_out=None if unseen is None else encode(policy, *unseen.columns(), limit),
        evaluation=_evaluation(job, policy),
        processes=job.processes,
    )
    found = train(
        method, job.out, job.pick(LoopOptions), settings=_settings(job), resume=resume, processes=job.processes
    )
    if job.processes.main:
        method.save(job.out / "policy")
        method.reward(reference=policy.reference(), name="reward").save(job.out / "reward")
    job.processes.wait()
    return {**found, "reward": str(job.out / "reward")}
