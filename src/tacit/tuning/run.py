"""From options to a run: which method, on what data, with which reward and tools.

Options are one flat mapping whose keys are the flags of `tacit tune`. Each method knows which of them it takes and has
defaults of its own; an option that it does not take is an error, not silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from tacit.conversation import Prompt, completion_text, prompt_text
from tacit.errors import EvidenceError, TacitError, flag
from tacit.evidence import Evidence
from tacit.evidence.prompts import prompt_columns
from tacit.rewards.contract import Reward
from tacit.tuning import sharding
from tacit.tuning.crediting import crediting
from tacit.tuning.data import read_prompts
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.hindsight import HindsightTuning
from tacit.tuning.job import DEFAULTS, METHODS, TAKES, Job
from tacit.tuning.loop import LoopOptions, Method, train
from tacit.tuning.losses import PreferenceOptions
from tacit.tuning.policy_gradient import GradientOptions, PolicyGradient
from tacit.tuning.preference import (
    OnlinePreference,
    PreferenceTuning,
    PreferenceTuningOptions,
    encode_labels,
    encode_pairs,
    extremes,
    pairs_of,
)
from tacit.tuning.rejection import RankTuning, Rejection, rso_pairing
from tacit.tuning.reward_model import RewardTuning, RewardTuningOptions
from tacit.tuning.sampling import Bonus, Sampler, SamplingOptions, continued
from tacit.tuning.sparse import CountBonus, Curriculum, NoveltyBonus, ReverseCurriculum, instructed
from tacit.tuning.supervised import Demonstrations, SupervisedTuning, demonstrations_of, encode

__all__ = ["DEFAULTS", "METHODS", "TAKES", "Job", "build", "peak_of", "tune"]


def tune(job: Job, *, resume: bool = False) -> dict[str, Any]:
    """Run a job; what was learnt lies in OUT/policy (or OUT/reward), the way there in OUT/metrics.jsonl.

    Raises `TacitError` for options that do not fit the method, evidence that it cannot learn from, and a checkpoint
    that belongs to another run.
    """
    loop = job.pick(LoopOptions)
    if job.get("stop_at_peak") is not None:
        loop = job.pick(LoopOptions, max_kl=peak_of(job.get("stop_at_peak")))
    method = build(job)
    job.begin(resume=resume)
    if job.begun is not None and job.processes.main and not resume:
        job.begun()
    job.processes.wait()
    quiet = (
        *("logging_steps", "save_steps", "save_total_limit", "num_samples", "report_to", "device"),
        *("per_device_train_batch_size", "gradient_accumulation_steps"),  # their product with the processes counts
    )
    settings = {**job.settings(quiet), "batch": job.batch}
    result = train(method, job.out, loop, settings=settings, resume=resume, processes=job.processes)
    place = job.out / ("reward" if job.method == "reward" else "policy")
    sharding.gather(method)
    if job.processes.main:
        method.save(place)
    job.processes.wait()
    return {"method": method.name, **result, **job.left_out, "out": str(place)}


def build(job: Job) -> Method:
    """The method of a job, with everything that it works on."""
    if job.method == "reward":
        sharding.refuse("reward", job.processes)
        options = job.pick(RewardTuningOptions, **_dealing(job), dtype=_arithmetic(job))
        held_out = None if job.eval_data is None else job.read(job.eval_data)
        return RewardTuning(
            job.policy, job.read(job.data), options, held_out=held_out, source=job.data, device=job.get("device"),
            processes=job.processes,
        )  # fmt: skip
    policy = _policy(job)
    if job.method == "sft":
        return _supervised(job, policy)
    if job.method == "dpo" and not job.get("online"):
        return _offline(job, policy)
    sampler = _sampler(job, policy)
    evaluation = _evaluation(job, policy, sampler.reward, sampler.options)
    if job.method == "dpo":
        return _online(job, policy, sampler, evaluation, "dpo")
    if job.method == "rejection":
        return _rejection(job, policy, sampler, evaluation)
    options = job.pick(GradientOptions, **_gradient(job))
    way = crediting(
        job.get("credit"), sampler.reward, share=job.get("credit_share"), stride=job.get("credit_stride"),
        discount=options.discount,
        temperature=sampler.options.temperature, batch=sampler.options.batch, processes=job.processes,
    )  # fmt: skip
    return PolicyGradient(
        policy, sampler, options, _steps(job, sampler, options), crediting=way, evaluation=evaluation,
        demonstrations=_mixed(job, policy), processes=job.processes,
    )  # fmt: skip


def _policy(job: Job) -> Any:
    from tacit.policies.transformer import TransformerPolicy

    lora, dtype, device = job.get("lora"), job.get("dtype"), job.get("device")
    template = job.get("chat_template")
    wanted = sharding.asked(job.processes)
    if wanted is None:
        return TransformerPolicy.load(job.policy, lora=lora, dtype=dtype, device=device, chat_template=template)
    whole = TransformerPolicy.load(job.policy, lora=lora, device="cpu", chat_template=template)
    return sharding.ShardedPolicy(whole, job.processes, wanted, device=device, dtype=dtype)


# --- methods ----------------------------------------------------------------------------------------------------------


def _supervised(job: Job, policy: Any) -> Method:
    limit = _max_length(job, policy)
    rows = encode(policy, *demonstrations_of(job.read(job.data), job.data), limit)
    job.fitting(rows, "left_out", job.data, limit)
    held_out = evaluation = None
    if job.eval_data is not None:
        held_out = encode(policy, *demonstrations_of(job.read(job.eval_data), job.eval_data), limit)
        job.fitting(held_out, "eval_rows_left_out", job.eval_data, limit)
        evaluation = _evaluation(job, policy, _reward(job, needed=False), job.pick(SamplingOptions))
    return SupervisedTuning(
        policy, rows, batch=job.batch, micro_batch=job.micro, epochs=job.get("num_train_epochs"),
        steps=job.get("max_steps"), average=job.get("average"), seed=job.get("seed", 0), held_out=held_out,
        evaluation=evaluation, processes=job.processes,
    )  # fmt: skip


def _offline(job: Job, policy: Any) -> Method:
    options = job.pick(PreferenceTuningOptions, **_dealing(job), loss=job.pick(PreferenceOptions))
    limit = _max_length(job, policy)
    data: Any
    if options.loss_type == "kto":
        data = encode_labels(policy, job.read(job.data), job.data, limit)
    else:
        pairs, ties = pairs_of(job.read(job.data), job.data)
        data = encode_pairs(policy, pairs, limit, ties)
    job.fitting(data, "left_out", job.data, limit)
    held_out = evaluation = None
    if job.eval_data is not None:
        if options.loss_type != "kto":
            held_out = encode_pairs(policy, pairs_of(job.read(job.eval_data), job.eval_data)[0], limit)
            job.fitting(held_out, "eval_rows_left_out", job.eval_data, limit)
        evaluation = _evaluation(job, policy, _reward(job, needed=False), job.pick(SamplingOptions))
    return PreferenceTuning(
        policy, data, options, evaluation=evaluation, held_out=held_out, processes=job.processes
    )  # fmt: skip


def _online(job: Job, policy: Any, sampler: Sampler, evaluation: Evaluation | None, name: str) -> Method:
    loss = job.pick(PreferenceOptions)
    options = PreferenceTuningOptions(
        job.get("loss_type"), loss, batch=job.batch, micro_batch=job.micro, steps=job.get("max_steps"),
        seed=job.get("seed", 0),
    )  # fmt: skip
    rounds = _rounds(job, sampler)
    pairing = rso_pairing(loss.beta) if name == "rso" else extremes
    return OnlinePreference(
        policy,
        sampler,
        options,
        rounds=rounds,
        pairing=pairing,
        name=name,
        evaluation=evaluation,
        processes=job.processes,
    )


def _rejection(job: Job, policy: Any, sampler: Sampler, evaluation: Evaluation | None) -> Method:
    rule = job.get("rule")
    if rule == "rso":
        return _online(job, policy, sampler, evaluation, "rso")
    steps = _steps(job, sampler, None)
    shared: dict[str, Any] = {"evaluation": evaluation, "processes": job.processes}
    if rule == "rrhf":
        return RankTuning(policy, sampler, steps, sft_weight=job.get("sft_weight"), micro_batch=job.micro, **shared)
    if rule == "hindsight":
        instructions = job.get("instructions", ())
        edges = [float(job.get("success"))] if job.get("success") is not None and len(instructions) == 2 else None
        return HindsightTuning(policy, sampler, steps, instructions, edges, micro_batch=job.micro, **shared)
    options = job.pick(GradientOptions, **{**_gradient(job), "estimator": rule})
    mixed = _mixed(job, policy)
    return Rejection(
        policy,
        sampler,
        options,
        _steps(job, sampler, options),
        threshold=job.get("threshold"),
        demonstrations=mixed,
        **shared,
    )


# --- pieces -----------------------------------------------------------------------------------------------------------


def _dealing(job: Job) -> dict[str, Any]:
    found = {"batch": job.batch, "micro_batch": job.micro, "steps": job.get("max_steps")}
    return found | {"epochs": job.get("num_train_epochs")}


def _arithmetic(job: Job) -> str:
    """float32 or bfloat16; auto as policies choose it."""
    import torch

    from tacit.models.checkpoint import device_named, hidden_size, model_folder, read_settings
    from tacit.policies.transformer import auto_dtype

    given = str(job.get("dtype"))
    device = torch.device(device_named(job.get("device")))
    if given != "auto":
        return given
    folder = model_folder(job.policy)
    return str(auto_dtype(device, hidden_size(folder, read_settings(folder)))).removeprefix("torch.")


def _gradient(job: Job) -> dict[str, Any]:
    measured = bool(job.get("measure_kl")) or job.get("max_kl") is not None or job.get("stop_at_peak") is not None
    return {"estimator": job.method, "micro_batch": job.micro, "measure_kl": measured}


def _steps(job: Job, sampler: Sampler, options: GradientOptions | None) -> int:
    if job.get("max_steps"):
        return int(job.get("max_steps"))
    return _rounds(job, sampler) * (options.num_iterations * options.num_mini_batches if options is not None else 1)


def _rounds(job: Job, sampler: Sampler) -> int:
    epochs = float(job.get("num_train_epochs"))
    return max(1, round(epochs * len(sampler.prompts) / sampler.options.prompts_per_round))


def _sampler(job: Job, policy: Any) -> Sampler:
    evidence = _evidence(job)
    prompts = _prompts(job, job.data, evidence)
    reward = _reward(job, evidence=evidence)
    n = int(job.get("num_generations"))
    rows = job.batch * int(job.get("num_mini_batches", 1))
    pairs = job.choices.loss is not None
    many = job.get("prompts_per_round") or (rows if pairs else rows // n)
    if not pairs and (rows % n or not rows):
        raise TacitError(
            f"a round of {rows} responses cannot be cut into groups of {n}. Give another --num-generations, or batch"
        )
    options = job.pick(SamplingOptions, prompts_per_round=many, num_generations=n, batch=2 * job.micro)
    seed = int(job.get("seed", 0))
    success = float(job.get("success", 0.5))
    solutions = _solutions(job, prompts) if job.get("reverse_curriculum") else None
    room = job.answerable(policy, _longest(job, prompts, solutions), "left_out", job.data)
    prompts = [prompts[i] for i in room]
    stream = Curriculum(len(prompts), threshold=success, seed=seed) if job.get("curriculum") else None
    starts = None
    if solutions is not None:
        starts = ReverseCurriculum([solutions[i] for i in room], threshold=success)
    return Sampler(
        policy, prompts, reward, options, seed, job.processes, stream=stream, bonus=_bonus(job), starts=starts,
        gold=gold_of(job),
    )  # fmt: skip


def _evidence(job: Job) -> Evidence | None:
    """The data as evidence, or None for a file of bare prompts."""
    try:
        evidence = job.read(job.data)
        next(iter(evidence), None)
        return evidence
    except EvidenceError as error:
        try:
            _prompts(job, job.data)
        except TacitError:
            raise error from None
        return None


def _prompts(job: Job, source: str, evidence: Evidence | None = None) -> list[Prompt]:
    """The distinct prompts of evidence, or of a file without any, whose columns may have other names.

    Raises `TacitError` for a way of reading that says nothing of bare prompts.
    """
    if evidence is not None:
        return read_prompts(source, evidence)
    for name, value in job.reading.items():
        if value and name != "columns":
            raise TacitError(
                f"{source} holds prompts and nothing else, of which {flag(name)} says nothing. Leave it out"
            )
    columns = job.reading.get("columns") or {}
    if others := [ours for ours in columns if not prompt_columns([ours])]:
        raise TacitError(
            f"--columns {others[0]}={columns[others[0]]}: {source} holds prompts and nothing else. Name `prompt`"
        )
    return read_prompts(source, columns=columns)


def _longest(job: Job, prompts: list[Prompt], solutions: Sequence[str | None] | None = None) -> list[Prompt]:
    """What the policy reads at most for each prompt: an instruction in front, or a solution behind it."""
    if solutions is not None:
        return [continued(prompt, said or "") for prompt, said in zip(prompts, solutions, strict=True)]
    if job.choices.rule == "hindsight" and job.get("instructions"):
        longest = max(job.get("instructions"), key=len)
        return [instructed(prompt, longest) for prompt in prompts]
    return prompts


def _reward(job: Job, *, evidence: Evidence | None = None, needed: bool = True) -> Any:
    if job.reward is not None:
        return job.reward()
    if not needed:
        return None
    if evidence is not None and evidence.kind == "problem":
        return _checking(evidence)
    raise TacitError(
        f"`tacit tune {job.method}` needs --reward DIR, a recipe, or `random`; problems are checked without one"
    )


def _checking(problems: Evidence) -> Reward:
    """The verifier of problems that come with their answers."""
    from tacit.rewards.verifiers import fit

    return fit(problems)


def gold_of(job: Job) -> Reward | None:
    """The reward that is measured and not tuned for."""
    if job.get("gold") is None:
        return None
    from tacit import rewards

    return rewards.load(job.get("gold"))


def _evaluation(job: Job, policy: Any, reward: Reward | None, sampling: SamplingOptions) -> Evaluation | None:
    if job.eval_data is None:
        return None
    try:
        evidence = job.read(job.eval_data)
        prompts = _prompts(job, job.eval_data, evidence)
        if job.reward is None and reward is not None and evidence.kind == "problem":
            reward = _checking(evidence)  # held-out problems bring answers of their own
    except EvidenceError:
        prompts = _prompts(job, job.eval_data)
    kept = prompts[: int(job.get("eval_prompts"))]
    kept = [kept[i] for i in job.answerable(policy, _longest(job, kept), "eval_left_out", job.eval_data)]
    return Evaluation(policy, kept, sampling, reward, gold_of(job), processes=job.processes)


def _bonus(job: Job) -> Bonus | None:
    kind = job.get("bonus", "none")
    if kind == "none":
        return None
    from tacit.features.encoders import load_encoder

    encoder = load_encoder(job.get("bonus_encoder"))
    weight = float(job.get("bonus_weight"))
    return CountBonus(encoder, weight) if kind == "count" else NoveltyBonus(encoder, weight)


def _mixed(job: Job, policy: Any) -> Demonstrations | None:
    source = job.get("demonstrations")
    if source is None or job.get("reverse_curriculum"):
        return None
    limit = _max_length(job, policy)
    rows = encode(policy, *demonstrations_of(job.read(source), source), limit)
    job.fitting(rows, "demonstrations_left_out", source, limit)
    size = max(1, job.batch // 4)
    return Demonstrations(policy, rows, size, job.micro, seed=job.get("seed", 0), processes=job.processes)


def _solutions(job: Job, prompts: list[Prompt]) -> list[str | None]:
    source = job.get("demonstrations")
    if source is None:
        raise TacitError("--reverse-curriculum begins from solutions. Give them with --demonstrations FILE")
    asked, said, _ = demonstrations_of(job.read(source), source)
    known = {prompt_text(p): completion_text(c) for p, c in zip(asked, said, strict=True)}
    return [known.get(prompt_text(prompt)) for prompt in prompts]


def _max_length(job: Job, policy: Any) -> int | None:
    given = job.get("max_length")
    context = getattr(getattr(policy, "codec", None), "context", None)
    if given is None:
        return None if context is None else int(context)
    return min(int(given), int(context or given))


def peak_of(path: str | Path) -> float:
    """The KL at which an audit expects the true reward to peak, from its metrics.json.

    Raises `TacitError` where the file holds no such number: the audit had no candidates, or found no peak in reach.
    """

    def found(value: Any) -> float | None:
        if isinstance(value, Mapping):
            if isinstance(value.get("peak_kl"), int | float):
                return float(value["peak_kl"])
            value = list(value.values())
        if isinstance(value, list):
            return next((peak for inner in value if (peak := found(inner)) is not None), None)
        return None

    try:
        peak = found(from_json(Path(path).read_bytes()))
    except (OSError, ValueError) as error:
        raise TacitError(f"{path} is no metrics.json of an audit ({error}). Give one with --candidates") from error
    if peak is None:
        raise TacitError(f"{path} predicts no peak. Audit with --candidates, or give --max-kl")
    return peak
