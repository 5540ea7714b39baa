"""Every option of every method of `tacit tune` changes what is learnt, or is refused in a sentence that says why.

The options are the fields of `TuneOptions` themselves: one without a value here fails. A value alone must move the
weights, or be refused by a `TacitError` that names a flag; where an option works only beside others, `BESIDE` says with
which, and there it must move them. What cannot move weights by its nature stands in `MEASURES`, with what it changes.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep import Run, attempted, flag, moved, tensors, timeless, tiny, told, write

from tacit.demonstrations.run import TAKES as TAKES_OF_DEMONSTRATIONS
from tacit.options.common import Caution, Reading
from tacit.options.tune import TuneOptions
from tacit.tuning.job import GRADIENTS, RULES, TAKES
from tacit.tuning.preference import LOSSES

pytest.importorskip("transformers")

# --- methods ----------------------------------------------------------------------------------------------------------

COMMON = {"learning_rate": 0.02, "max_steps": 3, "per_device_train_batch_size": 8, "seed": 0}
SAMPLES = {"reward": "shorter", "max_completion_length": 6, "num_generations": 4, "data": "prompts"}
ROUNDS = {"num_iterations": 2, "num_mini_batches": 1}
MORE: dict[str, dict[str, Any]] = {
    "raft": {},
    "raft++": {**ROUNDS, "max_steps": 6},
    "hindsight": {"instructions": ("red", "blue", "green")},
    "robust": {"label_smoothing": 0.1},
    "simpo": {"beta": 2.0},
}
"""What a rule or a loss needs in order to be itself."""
IMITATES = {"data": "demonstrations"}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", IMITATES),
    "reward": ("reward", {"data": "comparisons"}),
    "dpo": ("dpo", {"data": "comparisons"}),
    "dpo --online": ("dpo", {**SAMPLES, "online": True}),
    **{name: (name, SAMPLES) for name in GRADIENTS},
    "ppo": ("ppo", {**SAMPLES, "num_iterations": 1}),
    "spin": ("spin", {**IMITATES, "iterations": 1, "max_completion_length": 6}),
    "adversarial": ("adversarial", {**IMITATES, "encoder": "hashed", "max_completion_length": 6, "num_generations": 4}),
    "iq": ("iq", IMITATES),
    **{f"rejection --rule {rule}": ("rejection", {**SAMPLES, "rule": rule, **MORE.get(rule, {})}) for rule in RULES},
    **{
        f"dpo --loss-type {loss}": (
            "dpo",
            {"data": "outcomes" if loss == "kto" else "comparisons", "loss_type": loss, **MORE.get(loss, {})},
        )
        for loss in LOSSES
    },
    "adversarial --discriminator language-model": (
        "adversarial",
        {**IMITATES, "discriminator": "language-model", "max_completion_length": 6, "num_generations": 4},
    ),
}
OWN = (
    "loss_type",
    "label_smoothing",
    "gamma",
    "sft_weight",
    "desirable_weight",
    "undesirable_weight",
    "beta",
    "average",
)
"""What losses differ in: all that is swept of them unless slow tests are asked for."""
QUICK = ("sft", "reward", "dpo", "grpo", "ppo", "rejection --rule raft", "iq")

# --- values -----------------------------------------------------------------------------------------------------------

SWITCHES = {
    *("online", "mask_truncated_completions", "measure_kl", "curriculum", "reverse_curriculum", "per_token", "resume"),
    *("run_code", "skip_broken"),
}
VALUES: dict[str, Any] = {
    **dict.fromkeys(SWITCHES, True),
    **{"policy": "other", "data": "more", "reward": "random", "gold": "shorter", "eval_data": "held", "seed": 7},
    **{"cache": "cache", "pessimism": "min", "pessimism_strength": 2.0, "learning_rate": 0.05, "weight_decay": 2.0},
    **{"lr_scheduler_type": "cosine", "warmup_ratio": 0.9, "min_lr_ratio": 0.5, "adam_beta1": 0.1, "adam_beta2": 0.5},
    **{"max_grad_norm": 1e-7, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 2},
    **{"num_train_epochs": 3.0, "dtype": "bfloat16", "device": "nowhere", "lora": 2, "max_length": 8, "max_kl": 1e-9},
    **{"stop_at_peak": "peak", "logging_steps": 3, "eval_steps": 1, "eval_prompts": 1, "save_steps": 1},
    **{"save_total_limit": 1, "num_samples": 2, "report_to": ("nobody",), "num_generations": 2},
    **{
        "max_completion_length": 3,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.5,
        "min_p": 0.5,
        "stop": ("e", "o"),
    },
    **{"dynamic_sampling": 4, "overlong_buffer": 5, "missing_end_penalty": 9.0, "brevity": 0.5, "loss_type": "ipo"},
    **{"label_smoothing": 0.3, "gamma": 0.1, "sft_weight": 5.0, "desirable_weight": 4.0, "undesirable_weight": 0.1},
    **{"prompts_per_round": 2, "beta": 0.7, "kl_estimator": "k2", "kl_in": "loss", "baseline": "moving"},
    **{"scale_rewards": "none", "average": "sequence", "epsilon": 0.9, "epsilon_high": 9.0, "discount": 0.3},
    **{"trace": 0.1, "vf_coef": 9.0, "cliprange_value": 1e-4, "num_iterations": 3, "num_mini_batches": 2},
    **{"rule": "rrhf", "threshold": -2.5, "instructions": ("lamp", "fox"), "credit": "uniform", "credit_share": 0.2},
    **{"credit_stride": 2, "success": -4.5, "bonus": "rnd", "bonus_weight": 9.0, "bonus_encoder": "hf"},
    **{"demonstrations": "demonstrations", "demonstration_weight": 9.0, "objective": "classification"},
    **{"center_rewards_coefficient": 9.0, "regulariser": "sft", "regulariser_weight": 0.9, "regulariser_beta": 9.0},
    **{"iterations": 2, "divergence": "js", "alpha": 0.3, "induced": "direct", "discriminator": "language-model"},
    **{"discriminator_model": "other", "discriminator_learning_rate": 0.1, "discriminator_steps": 1, "encoder": "hf"},
    **{"hidden": 4, "gradient_penalty": 0.01, "replay": 1, "clip": 1e-6, "td_weight": 5.0, "stop_when_same": False},
    **{"kind": "rating", "columns": ("prompt=topic",), "labels": ("ok=good", "poor=bad"), "verdict": ("0=first",)},
    **{"ignore": ("thumb",), "chat_template": "template", "items": "texts", "item_columns": ("id=number",)},
}
ELSEWHERE = {"config", "json_", "overwrite", "out"}
"""Of the command line and not of the method: tested at the end."""


def value_of(option: str, method: str, base: dict[str, Any]) -> Any:
    """A value that is not the default."""
    match option:
        case "whiten":
            return method != "ppo"
        case "data":
            return f"more_{base['data']}"
        case "num_generations" if method == "dpo":
            return 3
        case "discriminator" if base.get("discriminator"):
            return "features"
        case "online" if base.get("online"):
            return False
        case "beta" if method == "rejection":
            return 99.0
        case "loss_type" if base.get("loss_type") == "ipo":
            return "hinge"
        case "rule" if base.get("rule") == "rrhf":
            return "raft"
    return VALUES[option]


# --- what an option needs beside it -----------------------------------------------------------------------------------

Measure = Callable[[Run, Run], bool]
EVALUATED = {"eval_data": "held"}
BESIDE: dict[str, list[dict[str, Any]]] = {
    "num_train_epochs": [{"max_steps": None}],
    "min_lr_ratio": [{"lr_scheduler_type": "linear"}],
    "eval_steps": [EVALUATED],
    "eval_prompts": [EVALUATED],
    "save_total_limit": [{"save_steps": 1}],
    "max_kl": [{"eval_data": "held", "eval_steps": 1}],
    "stop_at_peak": [{"eval_data": "held", "eval_steps": 1}],
    **{name: [EVALUATED] for name in ("max_completion_length", "temperature", "top_k", "top_p", "min_p", "stop")},
    "gold": [EVALUATED],
    "reward": [EVALUATED],
    "online": [{"reward": "shorter", "data": "prompts", "max_completion_length": 6, "num_generations": 4}],
    "num_samples": [{"online": True, **SAMPLES}],
    "dynamic_sampling": [
        {"reward": "even", "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 2}
    ],
    "pessimism": [{"reward": "learnt"}],
    "pessimism_strength": [{"reward": "learnt", "pessimism": "variance"}],
    "cache": [{"reward": "learnt"}],
    "run_code": [{"data": "tests", "reward": None}],
    "label_smoothing": [{"loss_type": "robust", "label_smoothing": 0.1}, {"loss_type": "sigmoid"}],
    "gamma": [{"loss_type": "slic"}],
    "sft_weight": [{"loss_type": "slic"}],
    "desirable_weight": [{"loss_type": "kto", "data": "outcomes"}],
    "undesirable_weight": [{"loss_type": "kto", "data": "outcomes"}],
    "beta": [{"kl_in": "loss", "kl_estimator": "k2"}],
    "kl_estimator": [{"beta": 99.0}],
    "kl_in": [{"beta": 0.5, "kl_estimator": "k2"}],
    "chat_template": [{"data": "chats"}],
    "overlong_buffer": [{"reward": "random"}],
    "missing_end_penalty": [{"reward": "even"}],
    "mask_truncated_completions": [{"reward": "longer"}],
    "epsilon": [ROUNDS],
    "epsilon_high": [{**ROUNDS, "reward": "longer"}],
    "cliprange_value": [ROUNDS],
    "threshold": [{"rule": "raft"}],
    "instructions": [{"rule": "hindsight", "instructions": ("red", "blue")}],
    "credit_share": [{"credit": "uniform"}],
    "credit_stride": [{"credit": "prefix", "reward": "prefix"}],
    "success": [
        {"curriculum": True, "reward": "random"},
        {"reverse_curriculum": True, "demonstrations": "solutions", "reward": "random"},
    ],
    "reverse_curriculum": [{"demonstrations": "solutions"}],
    "bonus": [{"reward": "even"}],
    "bonus_weight": [
        {"bonus": "count", "reward": "random", "max_completion_length": 1},
        {"bonus": "rnd", "reward": "random"},
    ],
    "bonus_encoder": [{"bonus": "rnd", "reward": "random", "bonus_weight": 9.0}],
    "demonstration_weight": [{"demonstrations": "demonstrations"}],
    "regulariser_weight": [{"regulariser": "dpo_noref"}],
    "regulariser_beta": [{"regulariser": "sft"}],
    "alpha": [{"divergence": "alpha"}],
    "induced": [{"divergence": "forward_kl"}],
    "encoder": [{"discriminator": "features"}],
    "hidden": [{"discriminator": "features"}],
    "discriminator_model": [{"discriminator": "language-model", "encoder": None}],
    "discriminator_learning_rate": [{"discriminator": "language-model", "encoder": None}],
    "discriminator_steps": [{"discriminator": "language-model", "encoder": None}],
    "columns": [{"data": "topics"}],
    "labels": [{"data": "marked"}],
    "verdict": [{"data": "votes"}],
    "ignore": [{"data": "thumbs"}],
    "items": [{"data": "numbered"}],
    "item_columns": [{"data": "numbered", "items": "texts_of_numbers"}],
    "skip_broken": [{"data": "broken"}],
    "kind": [{"data": "either"}],
}
"""Where an option that is refused alone must have its effect, or has one more."""


def rows_of(run: Run, *names: str) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl that have one of these metrics."""
    return [row for row in run.rows("metrics.jsonl") if any(name in key for key in row for name in names)]


def checkpoints(run: Run) -> int:
    """How many there are."""
    return len({file.rpartition("/")[0] for file in run.files if "checkpoints/" in file})


MEASURES: dict[str, Measure] = {
    "logging_steps": lambda a, b: len(a.rows("metrics.jsonl")) > len(b.rows("metrics.jsonl")),
    "eval_data": lambda a, b: a.texts["result"].count("eval_") < b.texts["result"].count("eval_"),
    "eval_steps": lambda a, b: len(rows_of(a, "eval_")) < len(rows_of(b, "eval_")),
    "eval_prompts": lambda a, b: rows_of(a, "eval_") != rows_of(b, "eval_"),
    "save_steps": lambda a, b: checkpoints(a) == 0 < checkpoints(b),
    "save_total_limit": lambda a, b: checkpoints(a) == 2 and checkpoints(b) == 1,
    "num_samples": lambda a, b: len(a.texts["completions"].splitlines()) > len(b.texts["completions"].splitlines()) > 0,
    "gold": lambda a, b: not rows_of(a, "gold") and bool(rows_of(b, "gold")),
    "measure_kl": lambda a, b: bool(rows_of(b, "kl")),
    "cache": lambda a, b: any(file.startswith("CACHE/") for file in b.files - a.files),
    "run_code": lambda a, b: a.refused is not None and "run" in a.refused and b.refused is None,
}
"""What cannot move weights, and what it changes in their place."""
IDLE = (
    *("resume", "skip_broken", "stop_when_same", "run_code", "cache", "chat_template", "dynamic_sampling"),
    *("overlong_buffer", "missing_end_penalty", "mask_truncated_completions", "bonus"),
)
"""What changes nothing where there is no occasion: no checkpoint, no broken row, no code to run, no text to encode, no
messages, no group of equal rewards, no answer that is cut and would else be chosen, no rewards near a bonus's."""
SAMPLING = ("max_completion_length", "temperature", "top_k", "top_p", "min_p", "stop", "reward")
"""What changes nothing but an evaluation where the method does not sample."""


def effective(option: str, method: str, values: dict[str, Any], before: Run, after: Run) -> bool:
    """Whether the option did what it is there for."""
    if option in MEASURES:
        return MEASURES[option](before, after)
    if before.refused is not None or after.refused is not None:
        return before.refused != after.refused
    sampled = method not in ("sft", "reward", "iq", "spin", "adversarial", "dpo") or values.get("online")
    if option in Reading.model_fields and sampled:
        return True  # these say how a file is read, and its prompts are the same however they were answered
    if option in SAMPLING and method in ("sft", "iq", "dpo") and not values.get("online"):
        return told(before, after)
    return moved(before, after)


# --- the tiny problem -------------------------------------------------------------------------------------------------

PROMPTS = ("say red", "say blue", "who you", "count one two")
ANSWERS = (
    " red blue",
    " lamp",
    " dog fox one two three",
    " green",
    " thank you",
    " two three one",
    " fox",
    " blue blue",
)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> dict[str, str]:
    """Files and folders by the names that stand for them in the tables."""
    import tacit

    folder = tmp_path_factory.mktemp("options")
    pairs = [
        {"prompt": PROMPTS[i % 4], "chosen": ANSWERS[i % 8], "rejected": ANSWERS[(i * 3 + 1) % 8]} for i in range(16)
    ]
    demos = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    long = {"prompt": "say " * 5, "completion": " one two three dog"}
    found = write(
        folder,
        {
            "prompts": [{"prompt": p} for p in PROMPTS],
            "held": [{"prompt": p, "completion": " red", "chosen": " red", "rejected": " dog"} for p in PROMPTS[:2]],
            "demonstrations": [*demos, long],
            "comparisons": [*pairs, {**pairs[0], "prompt": long["prompt"]}],
            "outcomes": [
                *(
                    {"prompt": row["prompt"], "completion": row["chosen"], "label": i % 3 != 0}
                    for i, row in enumerate(pairs)
                ),
                {**long, "label": True},
            ],
            "solutions": [{"prompt": p, "completion": f" {' '.join(['red blue green'] * 2)}"} for p in PROMPTS],
            "tests": [{"prompt": p, "answer": "assert True", "checker": "unit_tests"} for p in PROMPTS],
            "chats": [
                {"prompt": [{"role": "user", "content": row["prompt"]}], "completion": row["chosen"]} for row in pairs
            ],
            "topics": [{**row, "prompt": "say", "topic": row["prompt"]} for row in pairs],
            "marked": [{**row, "label": "ok" if i % 3 else "poor"} for i, row in enumerate(demos)],
            "votes": [
                {"prompt": row["prompt"], "response_a": row["chosen"], "response_b": row["rejected"], "winner": 0}
                for row in pairs
            ],
            "thumbs": [{**row, "thumb": "up" if i % 2 else "down"} for i, row in enumerate(demos)],
            "numbered": [{**row, "chosen": 1 + i % 3, "rejected": 4 + i % 3} for i, row in enumerate(pairs)],
            "texts": [{"id": i, "text": ANSWERS[i]} for i in range(1, 7)],
            "texts_of_numbers": [{"id": 7 - i, "number": i, "text": ANSWERS[i]} for i in range(1, 7)],
            "broken": [*pairs, {"prompt": "say red", "chosen": " red"}],
            "either": [{**row, "label": i % 2} for i, row in enumerate(demos)],
        },
    )
    for name in ("prompts", "demonstrations", "comparisons", "outcomes"):
        rows = [json.loads(line) for line in Path(found[name]).read_text().splitlines()]
        found |= write(folder, {f"more_{name}": [*rows[1:], {**rows[0], "prompt": "thank you"}]})
    texts = {
        "shorter.yaml": "type: length_control\nunit: characters\nshorter: true\n",
        "longer.yaml": "type: length_control\nunit: characters\n",
        "template.jinja": "{% for m in messages %}{{ m.content }} red {% endfor %}",
        "even.yaml": "type: regex\npattern: red\n",
        "peak.json": json.dumps({"peak_kl": 1e-9}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    found |= {name.split(".")[0]: str(folder / name) for name in texts}
    found |= {"base": str(tiny(folder / "base")), "other": str(tiny(folder / "other", seed=1))}
    found |= {"hf": f"hf:{bert_folder}", "cache": str(folder / "cache"), "random": "random"}
    for name, options in (("learnt", {"members": 3}), ("prefix", {"model": "prefix", "stride": 1})):
        records = tacit.read(found["comparisons"])
        tacit.fit(records, encoder="hashed", l2=1e-3, **options).save(folder / name)  # type: ignore[arg-type]
        found[name] = str(folder / name)
    return found


FILES = (
    *("policy", "data", "reward", "gold", "eval_data", "cache", "stop_at_peak", "demonstrations", "bonus_encoder"),
    *("discriminator_model", "encoder", "items", "chat_template"),
)


class Runs:
    """Runs by their options, each made once."""

    def __init__(self, place: dict[str, str], folder: Path) -> None:
        self.place, self.folder, self.known = place, folder, dict[str, Run]()

    def __call__(self, method: str, values: dict[str, Any]) -> Run:
        """What a method makes of these options."""
        given = {name: value for name, value in {"policy": "base", **COMMON, **values}.items() if value is not None}
        key = json.dumps([method, given], sort_keys=True)
        if key not in self.known:
            resolved = {n: self.place.get(v, v) if n in FILES else v for n, v in given.items()}
            self.known[key] = attempted(lambda: self._made(method, resolved))
        return self.known[key]

    def _made(self, method: str, values: dict[str, Any]) -> Run:
        from tacit.cli.policy import tune

        out = self.folder / f"run-{len(self.known)}"
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            tune(method, options=TuneOptions(out=out, json_=True, **values))
        completions = sorted(out.glob("**/completions/*.jsonl"))
        texts = {
            "metrics.jsonl": "".join(
                json.dumps(timeless(json.loads(line))) + "\n"
                for line in (out / "metrics.jsonl").read_text().splitlines()
            ),
            "result": json.dumps(timeless(json.loads((out / "result.json").read_text()))),
            "completions": "".join(path.read_text() for path in completions),
        }
        files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        cache = Path(str(values.get("cache", "nowhere")))
        files |= {f"CACHE/{path.name}" for path in cache.rglob("*") if path.is_file()}
        return Run({**tensors(out / "policy"), **tensors(out / "reward")}, texts, frozenset(files))


@pytest.fixture(scope="session")
def runs(place: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(place, tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Base policies are read once, and policies are saved as their weights alone."""
    from safetensors.torch import save_file

    from tacit.policies.transformer import TransformerPolicy

    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))
    load, save = TransformerPolicy.load, TransformerPolicy.save

    def copied(cls: Any, path: Any, **options: Any) -> Any:
        if "run-" in str(path):
            return load(path, **options)
        key = (str(path), *sorted(options.items()))
        if key not in LOADED:
            LOADED[key] = load(path, **options)
        found = copy.copy(LOADED[key])
        found.model, found._reference = copy.deepcopy(found.model), None
        return found

    def weights_alone(policy: Any, folder: Any) -> None:
        if "iteration-" in str(folder) or hasattr(policy.model, "merge_and_unload"):
            save(policy, folder)
        else:
            Path(folder).mkdir(parents=True, exist_ok=True)
            held = {name: value.detach().clone() for name, value in policy.model.state_dict().items()}
            save_file(held, Path(folder) / "model.safetensors")

    monkeypatch.setattr(TransformerPolicy, "load", classmethod(copied))
    monkeypatch.setattr(TransformerPolicy, "save", weights_alone)


LOADED: dict[Any, Any] = {}


# --- the sweep --------------------------------------------------------------------------------------------------------


def swept(variant: str, *, every: bool) -> list[str]:
    """The options that are tried on a variant: in a quick run its own, and those of all methods on two of them."""
    names = [name for name in TuneOptions.model_fields if name not in ELSEWHERE]
    if every or variant in ("sft", "grpo"):
        return names
    if variant not in QUICK:
        return [name for name in names if name in OWN]
    shared = set.intersection(*(set(taken) for taken in (*TAKES.values(), *TAKES_OF_DEMONSTRATIONS.values())))
    return [name for name in names if name not in shared | {*Reading.model_fields, *Caution.model_fields, "lora"}]


def failures(variant: str, runs: Runs, options: list[str]) -> list[str]:
    """Options that are taken and change nothing, and refusals that name no flag, no option and no file."""
    method, base = VARIANTS[variant]
    found = []
    for option in options:
        before, changed = runs(method, base), {**base, option: value_of(option, method, base)}
        if before.refused is not None:
            return [f"{variant}: {before.refused}"]
        after = runs(method, changed)
        assert changed != base, f"{variant}: {option} has this value already"
        if after.refused is not None:
            if not any(named in after.refused for named in ("--", option, ".jsonl")):
                found.append(f"{variant} {flag(option)}: refused without a flag: {after.refused}")
        elif option not in IDLE and not effective(option, method, changed, before, after):
            found.append(f"{variant} {flag(option)}: taken, and nothing changed")
        for beside in BESIDE.get(option, []):
            before = runs(method, {**base, **beside})
            after = runs(method, {**base, **beside, option: value_of(option, method, base)})
            if after.refused is not None and (before.refused is not None or "takes no" in after.refused):
                continue  # this variant does not know the option, or what stands beside it
            if not effective(option, method, {**base, **beside}, before, after):
                found.append(f"{variant} {flag(option)} beside {beside}: {after.refused or 'nothing changed'}")
    return found


def test_every_option_has_a_value() -> None:
    missing = TuneOptions.model_fields.keys() - VALUES.keys() - ELSEWHERE - {"whiten"}
    assert not missing, f"give {sorted(missing)} a value in VALUES, and say in MEASURES what it changes beside weights"
    assert not (VALUES.keys() | BESIDE.keys() | MEASURES.keys()) - TuneOptions.model_fields.keys()


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name in QUICK or "loss-type" in name])
def test_an_option_changes_what_is_learnt_or_is_refused(variant: str, runs: Runs) -> None:
    found = failures(variant, runs, swept(variant, every=False))
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant not in ("sft", "grpo")])
def test_all_options_of_every_method_loss_and_rule(variant: str, runs: Runs) -> None:
    found = failures(variant, runs, swept(variant, every=True))
    assert not found, "\n".join(found)
