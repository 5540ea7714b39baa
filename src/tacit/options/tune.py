"""The options of `tacit tune`: one flat model for all methods, each of which says which of them it takes.

An option that is not given has the method's own default (`tacit.tuning.run.DEFAULTS`, else the options classes of
`tacit.tuning`). Names are TRL's where TRL has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field

from tacit.errors import TacitError
from tacit.options.common import Caution, Flag, Many, Reading, Writing
from tacit.options.demonstrations import TuneOnDemonstrations

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class TuneOptions(Reading, Caution, TuneOnDemonstrations, Writing):
    """Options of `tacit tune`."""

    policy: str
    """Folder of a transformers causal language model, or a hub id in the local cache."""
    data: str
    """sft, spin, adversarial, iq: demonstrations; dpo: comparisons, rankings or (kto) outcomes; reward: any evidence;
    else prompts or problems."""
    out: Path
    """Folder of the run: policy/ (or reward/), metrics.jsonl, completions/, checkpoints/, config.yaml."""
    reward: str | None = None
    """Folder of a reward or YAML recipe; `random` is the control; problems are checked without one."""
    gold: str | None = None
    """Folder of a reward or recipe that is measured and not tuned for: over-optimisation shows in it."""
    eval_data: str | None = None
    """Held-out evidence or prompts: losses on it, and reward and KL of fresh samples."""
    resume: Annotated[bool, Flag] = False
    """Go on from the last checkpoint in --out, if there is one."""
    cache: Path | None = None
    """Folder of encoded texts that the reward may use."""

    learning_rate: Annotated[float | None, Field(gt=0), Parameter(group="Optimisation")] = None
    """Peak learning rate of AdamW."""
    lr_scheduler_type: Annotated[Literal["constant", "linear", "cosine"] | None, Parameter(group="Optimisation")] = None
    """constant, or falling to --min-lr-ratio in a line or along a cosine."""
    warmup_ratio: Annotated[Share | None, Parameter(group="Optimisation")] = None
    """Share of the steps over which the rate rises from 0."""
    min_lr_ratio: Annotated[Share | None, Parameter(group="Optimisation")] = None
    """Where the schedule ends, as a share of the rate."""
    weight_decay: Annotated[float | None, Field(ge=0), Parameter(group="Optimisation")] = None
    """Decoupled weight decay of matrices."""
    adam_beta1: Annotated[float | None, Field(ge=0, lt=1), Parameter(group="Optimisation")] = None
    """How much of the mean gradient AdamW keeps at each step (0.9)."""
    adam_beta2: Annotated[float | None, Field(ge=0, lt=1), Parameter(group="Optimisation")] = None
    """How much of the mean square it keeps (0.999); short runs take less."""
    max_grad_norm: Annotated[float | None, Field(ge=0), Parameter(group="Optimisation")] = None
    """Longest gradient; 0 for any length."""
    per_device_train_batch_size: Annotated[Positive | None, Parameter(group="Optimisation")] = None
    """Rows (pairs for dpo and reward) of one forward and backward pass."""
    gradient_accumulation_steps: Annotated[Positive | None, Parameter(group="Optimisation")] = None
    """Passes of one step: 8 x 1 and 1 x 8 make the same step."""
    num_train_epochs: Annotated[float | None, Field(gt=0), Parameter(group="Optimisation")] = None
    """Times that the data (or the prompts) are gone through."""
    max_steps: Annotated[Positive | None, Parameter(group="Optimisation")] = None
    """Optimiser steps, in place of epochs."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16"] | None, Parameter(group="Optimisation")] = None
    """Matrix products; weights are float32. auto: bfloat16 where the device has it."""
    chat_template: Annotated[Path | None, Parameter(group="Optimisation")] = None
    """File of a chat template (Jinja) in place of that of --policy, which may refuse a system message; it is saved."""
    device: Annotated[str | None, Parameter(group="Optimisation")] = None
    """cpu, cuda, ...; CUDA if there is one unless given."""
    lora: Annotated[Positive | None, Parameter(group="Optimisation")] = None
    """Rank of low-rank adapters, in place of all weights."""
    max_length: Annotated[Positive | None, Parameter(group="Optimisation")] = None
    """Longer rows are left out (sft, dpo) or cut (reward); what the model reads unless given."""

    max_kl: Annotated[float | None, Field(gt=0), Parameter(group="Run")] = None
    """Stop once the KL of a response to the first policy passes this many nats."""
    stop_at_peak: Annotated[Path | None, Parameter(group="Run")] = None
    """metrics.json of `tacit audit --candidates`: its predicted peak is the KL budget."""
    logging_steps: Annotated[Positive | None, Parameter(group="Run")] = None
    """Steps behind each line of metrics.jsonl."""
    eval_steps: Annotated[int | None, Field(ge=0), Parameter(group="Run")] = None
    """Steps between evaluations; 0 evaluates at the end alone."""
    eval_prompts: Annotated[Positive | None, Parameter(group="Run")] = None
    """Prompts of --eval-data that are sampled (128)."""
    save_steps: Annotated[int | None, Field(ge=0), Parameter(group="Run")] = None
    """Steps between checkpoints; 0 writes none."""
    save_total_limit: Annotated[Positive | None, Parameter(group="Run")] = None
    """Checkpoints kept (2)."""
    num_samples: Annotated[int | None, Field(ge=0), Parameter(group="Run")] = None
    """Completions written beside each line of metrics.jsonl (8)."""
    report_to: Annotated[tuple[str, ...], Many, Parameter(group="Run")] = ()
    """accelerate's trackers: trackio, wandb, tensorboard, mlflow, ..."""

    num_generations: Annotated[Positive | None, Parameter(group="Sampling")] = None
    """Responses to each prompt (8; ppo 1; dpo --online 2)."""
    max_completion_length: Annotated[Positive | None, Parameter(group="Sampling")] = None
    """Most tokens of a response (64)."""
    temperature: Annotated[float | None, Field(gt=0), Parameter(group="Sampling")] = None
    """Of sampling and of log-probabilities (1)."""
    top_k: Annotated[int | None, Field(ge=0), Parameter(group="Sampling")] = None
    """Only the k likeliest tokens; 0 keeps all."""
    top_p: Annotated[float | None, Field(gt=0, le=1), Parameter(group="Sampling")] = None
    """Only the likeliest tokens that reach this probability together."""
    min_p: Annotated[Share | None, Parameter(group="Sampling")] = None
    """Only tokens at least this many times as likely as the likeliest."""
    stop: Annotated[tuple[str, ...], Many, Parameter(group="Sampling")] = ()
    """Texts that end a response."""
    dynamic_sampling: Annotated[int | None, Field(ge=0), Parameter(group="Sampling")] = None
    """Most times that groups of equal rewards are replaced by fresh ones (DAPO); 0 keeps them."""
    overlong_buffer: Annotated[int | None, Field(ge=0), Parameter(group="Sampling")] = None
    """Tokens before the limit over which a penalty grows to 1 (DAPO); 0 for none."""
    missing_end_penalty: Annotated[float | None, Field(ge=0), Parameter(group="Sampling")] = None
    """Taken off the reward of a response that was cut."""
    brevity: Annotated[float | None, Field(gt=0, le=1), Parameter(group="Sampling")] = None
    """Multiplies the reward once for every token after the first."""

    loss_type: Annotated[
        Literal["sigmoid", "robust", "ipo", "hinge", "slic", "simpo", "reference_free", "kto"] | None,
        Parameter(group="Preferences"),
    ] = None
    """Loss of dpo and of the rule rso (sigmoid)."""
    label_smoothing: Annotated[float | None, Field(ge=0, lt=0.5), Parameter(group="Preferences")] = None
    """Share of labels assumed to be flipped: cDPO with sigmoid, and robust."""
    gamma: Annotated[float | None, Field(ge=0), Parameter(group="Preferences")] = None
    """Target margin of simpo and slic (1)."""
    sft_weight: Annotated[float | None, Field(ge=0), Parameter(group="Preferences")] = None
    """Weight of the likelihood in slic (0.1) and rrhf (1)."""
    desirable_weight: Annotated[float | None, Field(ge=0), Parameter(group="Preferences")] = None
    """Weight of good responses in kto."""
    undesirable_weight: Annotated[float | None, Field(ge=0), Parameter(group="Preferences")] = None
    """Weight of bad responses in kto."""
    online: Annotated[bool, Flag, Parameter(group="Preferences")] = False
    """dpo in rounds: fresh samples that the reward labels, best against worst."""
    prompts_per_round: Annotated[Positive | None, Parameter(group="Preferences")] = None
    """Prompts of a round of --online: many for iterative dpo, few for online."""

    beta: Annotated[float | None, Field(ge=0), Parameter(group="Policy gradient")] = None
    """Weight of the KL to the first policy; of dpo the inverse temperature (0.1)."""
    kl_estimator: Annotated[Literal["k1", "k2", "k3"] | None, Parameter(group="Policy gradient")] = None
    """d, d^2 / 2 or e^-d - 1 + d, with d the difference of log-probabilities."""
    kl_in: Annotated[Literal["reward", "loss"] | None, Parameter(group="Policy gradient")] = None
    """Where the KL term stands; in the loss take k2 or k3."""
    baseline: Annotated[Literal["none", "batch", "moving"] | None, Parameter(group="Policy gradient")] = None
    """Of reinforce (batch)."""
    scale_rewards: Annotated[Literal["group", "batch", "none"] | None, Parameter(group="Policy gradient")] = None
    """Standard deviation that grpo divides by; none is Dr. GRPO."""
    whiten: Annotated[bool | None, Parameter(group="Policy gradient")] = None
    """Advantages of a round to mean 0 and deviation 1 (ppo does)."""
    average: Annotated[Literal["token", "sequence", "constant"] | None, Parameter(group="Policy gradient")] = None
    """Of token losses: all tokens alike (DAPO), all responses alike (GRPO), or by the longest length (Dr. GRPO)."""
    epsilon: Annotated[float | None, Field(gt=0, lt=1), Parameter(group="Policy gradient")] = None
    """Clip of the ratio (0.2)."""
    epsilon_high: Annotated[float | None, Field(gt=0), Parameter(group="Policy gradient")] = None
    """Upper clip where it differs (DAPO: 0.28)."""
    discount: Annotated[float | None, Field(gt=0, le=1), Parameter(group="Policy gradient")] = None
    """Of later token rewards."""
    trace: Annotated[Share | None, Parameter(group="Policy gradient")] = None
    """GAE's lambda of ppo (0.95)."""
    vf_coef: Annotated[float | None, Field(ge=0), Parameter(group="Policy gradient")] = None
    """Weight of the critic's loss in ppo (0.1)."""
    cliprange_value: Annotated[float | None, Field(gt=0), Parameter(group="Policy gradient")] = None
    """Clip of the critic's step in ppo (0.2)."""
    num_iterations: Annotated[Positive | None, Parameter(group="Policy gradient")] = None
    """Passes over the samples of a round (ppo 4, else 1)."""
    num_mini_batches: Annotated[Positive | None, Parameter(group="Policy gradient")] = None
    """Steps of a pass; a round samples that many batches."""
    mask_truncated_completions: Annotated[bool | None, Flag, Parameter(group="Policy gradient")] = None
    """Responses that were cut teach nothing."""
    measure_kl: Annotated[bool | None, Flag, Parameter(group="Policy gradient")] = None
    """Measure the KL even where nothing depends on it."""

    rule: Annotated[
        Literal["raft", "raft++", "reinforce-rej", "rso", "rrhf", "hindsight"] | None, Parameter(group="Rejection")
    ] = None
    """Which samples teach in `rejection`, and how (raft)."""
    threshold: Annotated[float | None, Parameter(group="Rejection")] = None
    """raft keeps all responses with more reward, in place of the best of each group."""
    instructions: Annotated[tuple[str, ...], Many, Parameter(group="Rejection")] = ()
    """Of hindsight: texts put before the prompt, from the worst answer's to the best's."""

    credit: Annotated[
        Literal["none", "uniform", "attention", "prefix", "return", "potential"] | None, Parameter(group="Credit")
    ] = None
    """How a reward is spread over tokens; all on the last one unless given."""
    credit_share: Annotated[Share | None, Parameter(group="Credit")] = None
    """Share that uniform and attention spread (0.8)."""
    credit_stride: Annotated[Positive | None, Parameter(group="Credit")] = None
    """Tokens between the prefixes that --credit prefix scores."""

    curriculum: Annotated[bool, Flag, Parameter(group="Sparse rewards")] = False
    """Ask prompts of uncertain success more often."""
    success: Annotated[float | None, Parameter(group="Sparse rewards")] = None
    """A response succeeds where its reward passes this (0.5); parts the two --instructions of hindsight where given."""
    reverse_curriculum: Annotated[bool, Flag, Parameter(group="Sparse rewards")] = False
    """Begin from most of a solution in --demonstrations, and give less as answers succeed."""
    bonus: Annotated[Literal["none", "count", "rnd"], Parameter(group="Sparse rewards")] = "none"
    """A reward for answers that are new."""
    bonus_weight: Annotated[float | None, Field(ge=0), Parameter(group="Sparse rewards")] = None
    """Its weight (0.1)."""
    bonus_encoder: Annotated[str | None, Parameter(group="Sparse rewards")] = None
    """Features that tell answers apart (hashed)."""
    demonstrations: Annotated[str | None, Parameter(group="Sparse rewards")] = None
    """Good examples mixed into every step."""
    demonstration_weight: Annotated[float | None, Field(ge=0), Parameter(group="Sparse rewards")] = None
    """Weight of their likelihood (0.1)."""

    objective: Annotated[str | None, Parameter(group="Reward")] = None
    """Loss of `tacit tune reward`, as for `tacit fit`."""
    center_rewards_coefficient: Annotated[float | None, Field(ge=0), Parameter(group="Reward")] = None
    """Weight of (r+ + r-)^2."""
    regulariser: Annotated[Literal["none", "sft", "dpo_noref"] | None, Parameter(group="Reward")] = None
    """Keep hidden states useful for text (GRM)."""
    regulariser_weight: Annotated[Share | None, Parameter(group="Reward")] = None
    """Its share of the loss (0.01)."""
    regulariser_beta: Annotated[float | None, Field(gt=0), Parameter(group="Reward")] = None
    """Its inverse temperature (0.1)."""

    def refuse_unused(self, method: str) -> None:
        """Raise `TacitError` for an option about a reward that has none to be about."""
        reads = self.reward not in (None, "random")
        samples = method not in ("sft", "reward", "spin", "adversarial", "iq") and (method != "dpo" or self.online)
        for name, effect, needs in (
            ("pessimism", reads, "with --reward DIR: it says how that is read"),
            ("pessimism_strength", reads, "with --reward DIR: it says how that is read"),
            ("run_code", reads or samples or self.gold is not None, "with a reward that checks answers"),
            ("cache", reads or method == "adversarial", "with --reward DIR, which may encode texts"),
        ):
            if getattr(self, name) not in (None, False) and not effect:
                raise TacitError(f"`tacit tune {method}` takes --{name.replace('_', '-')} only {needs}")

    def chosen(self) -> dict[str, Any]:
        """The options that concern the method: those given, and the seed."""
        about = {
            "policy",
            "data",
            "out",
            "reward",
            "eval_data",
            "resume",
            "cache",
            "config",
            "json_",
            "overwrite",
        }
        about |= {*Reading.model_fields, *Caution.model_fields} - {"seed"}
        # By their defaults and not by their values: 0 and False may be what somebody asks for.
        values = self.model_dump(exclude=about, exclude_none=True, exclude_defaults=True)
        if self.chat_template is not None:
            values["chat_template"] = str(self.chat_template)
        return {"seed": self.seed, **values}
