"""`tacit tune` as a user types it, on a tiny language model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

PROMPTS = ["Who are you?", "Say a number", "The quick brown", "Count to ten"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    """A causal language model whose end token is [SEP]."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("policies") / "tiny"
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.eos_token = "[SEP]"
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    return {
        "prompts": write(tmp_path / "prompts.jsonl", [{"prompt": p} for p in PROMPTS]),
        "demonstrations": write(
            tmp_path / "demos.jsonl", [{"prompt": p, "completion": " one two three"} for p in PROMPTS * 4]
        ),
        "comparisons": write(
            tmp_path / "pairs.jsonl",
            [{"prompt": p, "chosen": " one two three", "rejected": " lazy dog"} for p in PROMPTS * 4],
        ),
        "outcomes": write(
            tmp_path / "labels.jsonl",
            [{"prompt": p, "completion": c, "label": c == " one"} for p in PROMPTS * 2 for c in (" one", " dog")],
        ),
        "ratings": write(
            tmp_path / "ratings.jsonl",
            [{"prompt": p, "completion": c, "score": s} for p in PROMPTS for c, s in ((" one", 1.5), (" dog", -1.0))],
        ),
        "problems": write(tmp_path / "problems.jsonl", [{"prompt": p, "answer": "7"} for p in PROMPTS]),
        "recipe": recipe(tmp_path),
    }


def recipe(folder: Path) -> Path:
    path = folder / "longer.yaml"
    path.write_text("type: length_control\nunit: characters\nshorter: true\n")
    return path


SMALL = ("--max-completion-length", 8, "--per-device-train-batch-size", 8, "--num-generations", 4, "--max-steps", 2)


def ran(done: Any, out: Path) -> dict[str, Any]:
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == done.json["steps"]
    assert np.isfinite([line["loss"] for line in lines if "loss" in line]).all()
    assert (out / "config.yaml").is_file()
    return lines[0]


def test_sft_lowers_the_loss_and_the_policy_can_be_tuned_on(tacit: Any, tiny: Path, data: dict[str, Path]) -> None:
    out = Path("run")
    done = tacit(
        "tune", "sft", "--policy", tiny, "--data", data["demonstrations"], "--eval-data", data["demonstrations"],
        "--out", out, "--num-train-epochs", 8, "--learning-rate", 0.01, "--json", "--max-completion-length", 8,
    )  # fmt: skip
    first = ran(done, out)
    assert done.json["eval_loss"] < 0.5 * first["loss"]
    assert done.json["eval_kl"] > 0
    assert (out / "policy" / "model.safetensors").is_file()
    again = tacit(
        "tune", "grpo", "--policy", out / "policy", "--data", data["prompts"], "--reward", "random", "--out", "more",
        *SMALL, "--json",
    )  # fmt: skip
    line = ran(again, Path("more"))
    assert line["completions/mean_length"] <= 8
    assert {"reward", "reward_std", "rewards/random/mean", "frac_reward_zero_std", "objective/entropy"} <= line.keys()
    samples = [json.loads(row) for row in Path("more/completions/step-000001.jsonl").read_text().splitlines()]
    assert samples[0].keys() == {"step", "prompt", "completion", "reward", "ended"}


@pytest.mark.parametrize(
    "method",
    [
        ("reinforce", "--baseline", "moving", "--credit", "uniform"),
        ("remax", "--beta", 0.1, "--curriculum"),
        ("rloo", "--kl-in", "loss", "--kl-estimator", "k2", "--bonus", "count"),
        ("grpo", "--scale-rewards", "none", "--average", "constant", "--credit", "potential", "--bonus", "rnd"),
        (
            "grpo",
            "--epsilon-high",
            0.28,
            "--dynamic-sampling",
            2,
            "--overlong-buffer",
            4,
            "--mask-truncated-completions",
            "--num-mini-batches",
            2,
        ),
        ("ppo", "--num-mini-batches", 2, "--num-iterations", 2, "--credit", "return"),
        ("rejection", "--rule", "raft"),
        ("rejection", "--rule", "raft++", "--threshold", -20),
        ("rejection", "--rule", "reinforce-rej"),
        ("rejection", "--rule", "rso"),
        ("rejection", "--rule", "rrhf"),
        ("rejection", "--rule", "hindsight", "--instructions", "long", "short"),
        ("dpo", "--online", "--loss-type", "ipo"),
    ],
)
def test_every_online_method_runs(method: tuple[Any, ...], tacit: Any, tiny: Path, data: dict[str, Path]) -> None:
    out = Path("run")
    done = tacit(
        "tune", method[0], "--policy", tiny, "--data", data["prompts"], "--reward", data["recipe"], "--out", out,
        *SMALL, *method[1:], "--json", "--gold", data["recipe"],
    )  # fmt: skip
    first = ran(done, out)
    if "--bonus" not in method and "--overlong-buffer" not in method:
        assert first["gold"] == pytest.approx(first["reward"])
    assert {"reward", "completions/max_length", "objective/entropy"} <= first.keys()
    if method[0] in ("rloo", "ppo"):
        assert {"entropy", "kl", "clip_ratio/low_mean", "policy/approxkl_avg"} <= first.keys()


@pytest.mark.parametrize("loss", ["sigmoid", "robust", "ipo", "hinge", "slic", "simpo", "reference_free", "kto"])
def test_every_preference_loss_runs(loss: str, tacit: Any, tiny: Path, data: dict[str, Path]) -> None:
    out = Path("run")
    kind = "outcomes" if loss == "kto" else "comparisons"
    done = tacit(
        "tune", "dpo", "--policy", tiny, "--data", data[kind], "--out", out, "--loss-type", loss, "--json",
        "--learning-rate", 0.003, "--num-train-epochs", 4, "--eval-data", data[kind], "--max-completion-length", 8,
        *(("--label-smoothing", 0.1) if loss == "robust" else ()),
    )  # fmt: skip
    first = ran(done, out)
    assert {"rewards/chosen", "rewards/rejected"} <= first.keys()
    assert done.json["rewards/chosen"] > done.json["rewards/rejected"]


@pytest.mark.parametrize("kind", ["comparisons", "outcomes", "ratings"])
def test_a_reward_is_tuned_scored_and_used(kind: str, tacit: Any, tiny: Path, data: dict[str, Path]) -> None:
    regular = ("--regulariser", "dpo_noref") if kind == "comparisons" else ()
    done = tacit(
        "tune", "reward", "--policy", tiny, "--data", data[kind], "--eval-data", data[kind], "--out", "run",
        "--learning-rate", 0.003, "--num-train-epochs", 8, "--json", *regular,
    )  # fmt: skip
    ran(done, Path("run"))
    scored = tacit("score", "run/reward", data["ratings"], "--out", "scored.jsonl", "--json")
    assert scored.code == 0, scored.err
    rows = [json.loads(row) for row in Path("scored.jsonl").read_text().splitlines()]
    good, bad = ([r["predicted_score"] for r in rows if r["completion"] == text] for text in (" one", " dog"))
    assert min(good) > max(bad) or kind == "comparisons"
    assert kind != "comparisons" or done.json["eval_accuracy"] == 1.0
    used = tacit(
        "tune", "grpo", "--policy", tiny, "--data", data["prompts"], "--reward", "run/reward", "--out", "more", *SMALL,
        "--credit", "attention", "--json",
    )  # fmt: skip
    ran(used, Path("more"))


def test_problems_are_checked_without_a_reward(tacit: Any, tiny: Path, data: dict[str, Path]) -> None:
    held = write(Path("held.jsonl"), [{"prompt": "A problem of its own", "answer": "8"}])
    done = tacit(
        "tune", "grpo", "--policy", tiny, "--data", data["problems"], "--out", "run", *SMALL, "--json",
        "--demonstrations", data["demonstrations"], "--reverse-curriculum", "--eval-data", held,
    )  # fmt: skip
    assert "rewards/verifier/mean" in ran(done, Path("run"))
    assert 0 <= done.json["eval_reward"] <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("tune", "gpro"), "no method `gpro`"),
        (("tune", "grpo"), "needs --reward"),
        (("tune", "sft", "--rule", "raft"), "takes no --rule"),
        (("tune", "grpo", "--reward", "random", "--num-generations", 3), "cannot be cut into groups of 3"),
        (("tune", "grpo", "--reward", "random", "--credit", "attention"), "has no attention"),
        (("tune", "grpo", "--reward", "random", "--credit", "prefix"), "does not score unfinished completions"),
        (("tune", "rloo", "--reward", "nowhere"), "nowhere holds no reward.json"),
        (("tune", "rejection", "--reward", "random", "--rule", "hindsight"), "at least two instructions"),
        (("tune", "grpo", "--reward", "random", "--reverse-curriculum"), "Give them with --demonstrations"),
        (("tune", "grpo", "--reward", "random", "--stop-at-peak", "none.json"), "no metrics.json of an audit"),
        (("tune", "grpo", "--reward", "random", "--report-to", "nobody"), "--report-to nobody is not installed"),
        (("tune", "sft"), "no layout that is known"),
        (("tune", "dpo", "--loss-type", "kto"), "no layout that is known"),
    ],
)
def test_bad_input_is_one_sentence(
    options: tuple[Any, ...], said: str, tacit: Any, tiny: Path, data: dict[str, Path]
) -> None:
    done = tacit(*options[:2], "--policy", tiny, "--data", data["prompts"], "--out", "run", *options[2:])
    assert done.code == 2, done.err
    assert said in done.err
    assert done.err.count("\n") == 1


LONG = "The quick brown fox jumps over the lazy dog. " * 40


@pytest.mark.parametrize(
    ("method", "kind", "more"),
    [
        ("sft", "demonstrations", ()),
        ("sft", "demonstrations", ("--max-length", 40)),
        ("dpo", "comparisons", ("--max-length", 40)),
        ("dpo", "outcomes", ("--loss-type", "kto")),
        ("iq", "demonstrations", ("--max-length", 40)),
        ("spin", "demonstrations", ("--iterations", 1)),
        ("adversarial", "demonstrations", ("--num-generations", 4, "--encoder", "hashed")),
        ("grpo", "prompts", ("--reward", "random", "--num-generations", 4)),
    ],
)
def test_rows_that_are_too_long_are_left_out_and_counted(
    method: str, kind: str, more: tuple[Any, ...], tacit: Any, tiny: Path, data: dict[str, Path]
) -> None:
    """The first row has a prompt that the model cannot read; it once stopped the run."""
    rows = [json.loads(line) for line in data[kind].read_text().splitlines()]
    mixed = write(Path("mixed.jsonl"), [{**rows[0], "prompt": LONG}, *rows])
    common = ("--policy", tiny, "--max-steps", 2, "--learning-rate", 0.01, "--per-device-train-batch-size", 8, "--json")
    length = () if method in ("sft", "dpo", "iq") else ("--max-completion-length", 8)
    results = {}
    for name, source in (("all", mixed), ("short", data[kind])):
        done = tacit("tune", method, "--data", source, "--out", name, *common, *length, *more)
        assert done.code == 0, done.err
        results[name] = done
    assert (results["all"].json["left_out"], results["short"].json["left_out"]) == (1, 0)
    assert results["all"].err.count("left out") == 1
    assert f"1 of {len(rows) + 1}" in results["all"].err or kind == "prompts"
    assert "left out" not in results["short"].err
    if method in ("sft", "dpo", "iq", "grpo"):  # the others draw numbers by the place of a row
        weights = [Path(name, "policy", "model.safetensors").read_bytes() for name in results]
        assert weights[0] == weights[1]
    if "--max-length" in more:
        assert "more than 40 tokens (--max-length)" in results["all"].err
        none = tacit("tune", method, "--data", mixed, "--out", "none", *common[:2], *more[:1], 3)
        assert none.code == 2
        assert "has at most 3 tokens" in none.err


def test_columns_of_bare_prompts_can_be_named(tacit: Any, tiny: Path, data: dict[str, Path]) -> None:
    rows = [{"prompt": "x", "text": "Say a word"}, {"prompt": "y", "text": "Say two"}]
    source = write(Path("named.jsonl"), rows)
    common = ("tune", "grpo", "--policy", tiny, "--data", source, "--reward", "random", "--json", *SMALL)
    done = tacit(*common, "--out", "run", "--columns", "prompt=text")
    assert done.code == 0, done.err
    samples = [json.loads(row) for row in Path("run/completions/step-000001.jsonl").read_text().splitlines()]
    assert {row["prompt"] for row in samples} == {"Say a word", "Say two"}
    for more in (("--kind", "rating"), ("--columns", "score=text")):
        refused = tacit(*common, "--out", "more", *more)
        assert refused.code == 2, more


def dropping(folder: Path, tiny: Path) -> Path:
    """The tiny model with so much dropout that two passes have nothing in common."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.config.attention_dropout = 0.5
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", ["iq", "dpo", "ppo", "spin", "sft"])
def test_dropout_is_off_where_probabilities_are_compared(
    method: str, tacit: Any, tiny: Path, data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed of torch's own generator, which alone decides what drops out, must not show; in sft it does."""
    from tacit.tuning import checkpoints

    kind = {"dpo": "comparisons", "ppo": "prompts"}.get(method, "demonstrations")
    more = {"ppo": ("--reward", "random"), "spin": ("--iterations", 1, "--max-completion-length", 8)}.get(method, ())
    folder, found = dropping(Path("dropping"), tiny), []
    for seed in (1, 2):
        monkeypatch.setattr(checkpoints, "seed_random", lambda *_, seed=seed: __import__("torch").manual_seed(seed))
        done = tacit(
            "tune", method, "--policy", folder, "--data", data[kind], "--out", f"run-{seed}", "--max-steps", 2,
            "--learning-rate", 0.01, "--per-device-train-batch-size", 4, "--json", *more,
        )  # fmt: skip
        assert done.code == 0, done.err
        found.append(Path(f"run-{seed}", "policy", "model.safetensors").read_bytes())
    assert (found[0] == found[1]) is (method != "sft")


def test_the_saved_configuration_repeats_the_run(tacit: Any, tiny: Path, data: dict[str, Path]) -> None:
    first = tacit(
        "tune", "rloo", "--policy", tiny, "--data", data["prompts"], "--reward", data["recipe"], "--out", "run", *SMALL,
        "--seed", 3, "--beta", 0, "--save-steps", 1, "--json",
    )  # fmt: skip
    assert first.code == 0, first.err
    again = tacit("tune", "--config", "run/config.yaml", "--out", "again", "--json")
    assert again.code == 0, again.err
    assert Path("run/policy/model.safetensors").read_bytes() == Path("again/policy/model.safetensors").read_bytes()
    over = tacit("tune", "--config", "run/config.yaml", "--resume", "--beta", 0.3)
    assert over.code == 2
    assert "was made with beta = 0.0, not 0.3" in over.err
    kept = bytes_of("run")
    fresh = tacit("tune", "--config", "run/config.yaml", "--beta", 0.3, "--json")
    assert (fresh.code, "run/config.yaml is read (--config) and lies in run" in fresh.err) == (2, True)
    assert bytes_of("run") == kept
    shutil.copyfile("run/config.yaml", "mine.yaml")
    fresh = tacit("tune", "--config", "mine.yaml", "--out", "run", "--beta", 0.3, "--json")
    assert fresh.code == 0, fresh.err
    Path("other").mkdir()
    Path("other/file").write_text("x")
    taken = tacit("tune", "--config", "run/config.yaml", "--out", "other")
    assert taken.code == 2
    assert "holds other files" in taken.err


def bytes_of(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_a_run_goes_on_from_any_folder_and_loses_nothing(
    tacit: Any, tiny: Path, data: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokens = ("tune", "rloo", "--policy", tiny, "--data", "prompts.jsonl", "--reward", "longer.yaml", *SMALL)
    tokens = (*tokens, "--beta", 0, "--save-steps", 1, "--json")
    assert tacit(*tokens, "--out", "run").code == 0
    whole = bytes_of("run")
    shutil.rmtree("run/checkpoints/step-000002")  # as if it was killed before
    shutil.rmtree("run/policy")
    Path("run/slurm-7.out").write_text("a log of mine")
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere/deep")
    again = tacit("tune", "--config", "../../run/config.yaml", "--resume", "--json")
    assert again.code == 0, again.err
    monkeypatch.chdir(tmp_path)
    for name in ("run/policy/model.safetensors", "run/config.yaml", "run/checkpoints/step-000002/weights.safetensors"):
        assert Path(name).read_bytes() == whole[name]
    assert Path("run/slurm-7.out").read_text() == "a log of mine"
    fresh = tacit(*tokens, "--out", "run")
    assert (fresh.code, "move run/slurm-7.out away" in fresh.err) == (2, True)
    Path("run/slurm-7.out").unlink()
    Path("run/policy/votes.jsonl").write_text("mine")
    for more in ((), ("--resume",), ("--overwrite",)):
        kept = bytes_of("run")
        done = tacit(*tokens, "--out", "run", *more)
        assert (done.code, "move run/policy/votes.jsonl away" in done.err) == (2, True)
        assert bytes_of("run") == kept
    Path("run/policy/votes.jsonl").unlink()
    assert tacit(*tokens, "--out", "run").code == 0
    assert bytes_of("run")["run/policy/model.safetensors"] == whole["run/policy/model.safetensors"]


def test_a_run_takes_the_place_of_another_verb_with_overwrite_alone(
    tacit: Any, tiny: Path, data: dict[str, Path]
) -> None:
    assert tacit("combine", data["recipe"], "--out", "run").code == 0
    kept = bytes_of("run")
    tokens = ("tune", "sft", "--policy", tiny, "--data", data["demonstrations"], "--out", "run", "--max-steps", 1)
    refused = tacit(*tokens)
    assert (refused.code, "run was written by `tacit combine`" in refused.err) == (2, True)
    assert bytes_of("run") == kept
    done = tacit(*tokens, "--overwrite")
    assert done.code == 0, done.err
    assert not Path("run/reward.json").exists()
    assert tacit(*tokens).code == 0


def test_metrics_go_to_trackers_as_well(
    tacit: Any, tiny: Path, data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import tracking

    told: list[tuple[int, dict[str, float]]] = []

    class Tracker:
        requires_logging_directory = False

        def __init__(self, name: str) -> None:
            self.name = name

        def log(self, values: dict[str, float], step: int) -> None:
            told.append((step, values))

        def finish(self) -> None:
            told.append((-1, {}))

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "mine", Tracker)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["mine"])
    done = tacit(
        "tune", "raft", "--policy", tiny, "--data", data["prompts"], "--reward", "random", "--out", "run", *SMALL
    )
    assert done.code == 2  # a rule and no method
    done = tacit(
        "tune", "rejection", "--policy", tiny, "--data", data["prompts"], "--reward", "random", "--out", "run", *SMALL,
        "--report-to", "mine",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [step for step, _ in told] == [1, 2, -1]
    assert "reward" in told[0][1]
