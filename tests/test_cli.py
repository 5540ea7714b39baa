"""The command line as a user types it."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from numerics import assert_float32_close
from tacit.cli import main
from tacit.options import fit as options

METRICS = ("accuracy", "accuracy_ci", "length_accuracy", "spearman", "nll", "ece", "n_train", "n_test", "seconds")


def votes(n: int = 240, seed: int = 0) -> list[dict[str, Any]]:
    """Comparisons in which people like thanks and dislike shouting, 9 times out of 10; lengths tell nothing."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        good = f"thank you, the {rng.choice(['egg', 'tea', 'rice'])} needs {rng.randint(1, 9)} minutes"
        bad = f"NO WAY, THE {rng.choice(['EGG', 'TEA', 'RICE'])} NEEDS {rng.randint(1, 9)} MINUTES!"
        chosen, rejected = (good, bad) if rng.random() < 0.9 else (bad, good)
        rows.append({"prompt": f"question {i % 80}", "chosen": chosen, "rejected": rejected})
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with votes.jsonl, later.jsonl and a fitted reward with three members."""
    folder = tmp_path_factory.mktemp("world")
    write_lines(folder / "votes.jsonl", votes())
    write_lines(folder / "later.jsonl", votes(120, seed=1))
    before = os.environ.get("TACIT_CACHE")
    os.environ["TACIT_CACHE"] = str(folder / "cache")
    main(
        [
            *("fit", str(folder / "votes.jsonl"), "--out", str(folder / "reward")),
            *("--encoder", "hashed", "--members", "3", "--resamples", "50"),
        ]
    )
    if before is None:
        del os.environ["TACIT_CACHE"]
    else:
        os.environ["TACIT_CACHE"] = before
    return folder


# --- fit --------------------------------------------------------------------------------------------------------------


def test_fit_json_has_the_promised_metrics_on_prompts_it_has_not_seen(tacit: Any, world: Path) -> None:
    done = tacit("fit", world / "votes.jsonl", "--out", "r", "--encoder", "hashed", "--json", "--resamples", 50)
    assert done.code == 0
    result = done.json
    assert set(METRICS) <= result.keys()
    assert result["accuracy"] > 0.8  # nine in ten votes agree with the truth
    assert result["accuracy_ci"][0] <= result["accuracy"] <= result["accuracy_ci"][1]
    assert result["n_train"] + result["n_test"] == 240
    assert result["n_test"] == 48  # 16 of the 80 prompts, three votes each
    assert json.loads(Path("r/metrics.json").read_text())["accuracy"] == result["accuracy"]
    assert {path.name for path in Path("r").iterdir()} >= {
        "reward.json",
        "head.safetensors",
        "README.md",
        "config.yaml",
    }


def test_the_saved_configuration_repeats_the_run(tacit: Any, world: Path) -> None:
    again = tacit("fit", "--config", world / "reward/config.yaml", "--out", "again", "--json")
    assert again.code == 0
    assert (world / "reward/head.safetensors").read_bytes() == Path("again/head.safetensors").read_bytes()
    first = json.loads((world / "reward/metrics.json").read_text())
    timed = {"seconds", "fit", "out", "reward"}
    assert {k: v for k, v in again.json.items() if k not in timed} == {k: v for k, v in first.items() if k not in timed}


def test_flags_win_over_the_configuration(tacit: Any, world: Path) -> None:
    Path("run.yaml").write_text("encoder: hashed\nmembers: 3\ntest: 0.5\nresamples: 20\n")
    done = tacit("fit", world / "votes.jsonl", "--config", "run.yaml", "--out", "r", "--members", "2", "--json")
    assert done.code == 0
    assert done.json["n_test"] == 120
    saved = yaml.safe_load(Path("r/config.yaml").read_text())
    assert (saved["members"], saved["test"], saved["encoder"]) == (2, 0.5, "hashed")
    assert json.loads(Path("r/reward.json").read_text())["members"] == 2


def test_test_data_is_reported_on_and_everything_is_fitted(tacit: Any, world: Path) -> None:
    done = tacit(
        *("fit", world / "votes.jsonl", "--test-data", world / "later.jsonl", "--out", "r"),
        *("--encoder", "hashed", "--resamples", 20, "--json"),
    )
    assert (done.json["n_train"], done.json["n_test"]) == (240, 120)


def test_no_test_share_fits_on_everything(tacit: Any, world: Path) -> None:
    done = tacit("fit", world / "votes.jsonl", "--test", 0, "--out", "r", "--encoder", "hashed", "--json")
    assert (done.code, done.json["n_train"], done.json["n_test"]) == (0, 240, 0)


def test_columns_go_by_other_names(tacit: Any) -> None:
    rows = [{"q": row["prompt"], "better": row["chosen"], "worse": row["rejected"]} for row in votes()]
    with Path("votes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["q", "better", "worse"])
        writer.writeheader()
        writer.writerows(rows)
    tokens = ["fit", "votes.csv", "--out", "r", "--encoder", "hashed", "--resamples", "20", "--json"]
    done = tacit(*tokens, "--columns", "prompt=q", "chosen=better", "rejected=worse")
    assert (done.code, done.json["n_test"]) == (0, 48)
    assert tacit(*tokens, "--columns", "prompt=q,chosen=better,rejected=worse").code == 0
    bad = tacit(*tokens, "--columns", "prompt")
    assert (bad.code, bad.err) == (2, "tacit: --columns prompt: give ours=theirs, as prompt=question\n")


def test_the_options_of_fit_are_those_of_the_library() -> None:
    from tacit.rewards.options import FitOptions

    defaults = {field.name: field.default for field in fields(FitOptions)}
    assert set(options.FIT_OPTIONS) == set(defaults)
    assert {name: options.FitOptions.model_fields[name].default for name in options.FIT_OPTIONS} == defaults


# --- score, audit, select ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s.jsonl", "s.csv", "s.parquet"])
def test_score_writes_beside_every_row(tacit: Any, world: Path, name: str) -> None:
    from tacit.evidence import read_rows

    done = tacit("score", world / "reward", world / "later.jsonl", "--out", name, "--json")
    assert (done.code, done.json["rows"]) == (0, 120)
    rows = [row for _, row in read_rows(name)]
    for row, given in zip(rows, votes(120, seed=1), strict=True):
        assert row.items() >= given.items()
        sides = [float(row[f"score_{side}"]) for side in ("chosen", "rejected")]
        assert_float32_close(float(row["score"]), sides[0] - sides[1], scale=max(map(abs, sides)))
        assert float(row["score_std"]) > 0
    assert sum(float(row["score"]) > 0 for row in rows) > 90
    assert yaml.safe_load(Path("s.config.yaml").read_text())["out"] == name


def test_scores_do_not_depend_on_the_file_they_come_from(tacit: Any, world: Path) -> None:
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in votes(120, seed=1)]
    write_lines(Path("plain.jsonl"), rows[::-1])
    tacit("score", world / "reward", "plain.jsonl", "--out", "plain.csv")
    tacit("score", world / "reward", world / "later.jsonl", "--out", "pairs.jsonl")
    with Path("plain.csv").open(newline="") as file:
        plain = [float(row["score"]) for row in csv.DictReader(file)]
    pairs = [json.loads(line)["score_chosen"] for line in Path("pairs.jsonl").read_text().splitlines()]
    assert_float32_close(plain[::-1], pairs)


def test_audit_json_has_the_promised_metrics(tacit: Any, world: Path) -> None:
    done = tacit(
        *("audit", world / "reward", world / "later.jsonl"),
        *("--out", "m.json", "--json", "--resamples", 50),
    )
    assert done.code == 0
    assert set(METRICS) <= done.json.keys()
    assert (done.json["n_test"], done.json["n_train"]) == (120, 192)
    assert json.loads(Path("m.json").read_text()) == done.json
    assert yaml.safe_load(Path("m.config.yaml").read_text())["resamples"] == 50


def test_select_takes_the_best_and_draws_the_curve(tacit: Any, world: Path) -> None:
    rows = [row for row in votes(60, seed=2) if row["chosen"].startswith("thank")]
    write_lines(
        Path("candidates.jsonl"),
        [
            {"prompt": f"p{i}", "completions": [row["rejected"], row["chosen"]], "gold": [0, 1]}
            for i, row in enumerate(rows)
        ],
    )
    done = tacit("select", world / "reward", "candidates.jsonl", "--out", "best.jsonl", "--curve", "--json")
    assert done.code == 0
    best = [json.loads(line) for line in Path("best.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in best] == [row["chosen"] for row in rows]
    assert done.json["curve"]["n"] == [1, 2]
    assert done.json["curve"]["gold"] == pytest.approx([0.5, 1.0])
    assert json.loads(Path("best.curve.json").read_text()) == done.json["curve"]


def test_a_curve_without_gold_writes_nothing(tacit: Any, world: Path) -> None:
    write_lines(Path("candidates.jsonl"), [{"prompt": "p", "completions": ["a", "b"]}])
    done = tacit("select", world / "reward", "candidates.jsonl", "--out", "best.jsonl", "--curve")
    assert done.code == 2
    assert "Add a gold column" in done.err
    assert {path.name for path in Path().iterdir()} == {"candidates.jsonl", "cache"}


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("mean_variance", ["--risk", "0.2"]),
        ("categorical", ["--atoms", "4", "--entropy", "0.05"]),
        ("pairwise", ["--rank", "1", "--references", "10"]),
        ("boosted", ["--trees", "20", "--leaves", "4"]),
    ],
)
def test_models_of_comparisons_are_fitted_scored_and_audited(
    tacit: Any, world: Path, model: str, flags: list[str]
) -> None:
    if model == "boosted":
        pytest.importorskip("lightgbm", reason="the extra `boost` is not installed")
    tokens = ["--encoder", "hashed", "--resamples", "20", "--json", "--model", model, *flags]
    done = tacit("fit", world / "votes.jsonl", "--out", "r", *tokens)
    assert done.code == 0, done.err
    assert set(METRICS) <= done.json.keys()
    assert done.json["accuracy"] > 0.8
    assert tacit("score", "r", world / "later.jsonl", "--out", "s.jsonl", "--json").code == 0
    rows = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert sum(row["score"] > 0 for row in rows) > 90
    assert ("score_chosen_disagreement" in rows[0]) == (model in ("mean_variance", "categorical"))
    audit = tacit("audit", "r", world / "later.jsonl", "--json", "--resamples", 20)
    assert audit.json["accuracy"] == pytest.approx(sum(row["score"] > 0 for row in rows) / 120)
    again = tacit("fit", "--config", "r/config.yaml", "--out", "again", "--json")
    assert (again.code, again.json["accuracy"]) == (0, done.json["accuracy"])


def test_attributes_are_fitted_weighed_and_mixed(tacit: Any, world: Path) -> None:
    rows = [
        {
            "prompt": row["prompt"],
            "completion": row[side],
            "score": {"kind": float(side == "chosen") + i % 3, "long": None if i % 2 else float(len(row[side]))},
        }
        for i, row in enumerate(votes(120))
        for side in ("chosen", "rejected")
    ]
    write_lines(Path("rated.jsonl"), rows)
    tokens = ["--model", "attributes", "--encoder", "hashed", "--resamples", "20", "--json"]
    done = tacit("fit", "rated.jsonl", "--out", "r", *tokens, "--weights", "kind=1", "long=-0.01")
    assert done.code == 0, done.err
    assert done.json["fit"]["attributes"]["long"]["weight"] == -0.01
    assert tacit("score", "r", "rated.jsonl", "--out", "s.jsonl").code == 0
    first = json.loads(Path("s.jsonl").read_text().splitlines()[0])
    kind, long = first["predicted_score_kind"], 0.01 * first["predicted_score_long"]
    assert_float32_close(first["predicted_score"], kind - long, scale=max(abs(kind), abs(long)))
    assert set(tacit("audit", "r", "rated.jsonl", "--json", "--resamples", 20).json["attributes"]) == {"kind", "long"}
    gated = tacit("fit", "rated.jsonl", "--out", "g", *tokens, "--gate", world / "votes.jsonl")
    assert gated.code == 0, gated.err
    assert sum(gated.json["fit"]["gate"]["mean_mixture"].values()) == pytest.approx(1)
    bad = tacit("fit", "rated.jsonl", "--out", "x", *tokens, "--weights", "nice=1")
    assert (bad.code, bad.out) == (2, "")
    assert "there is no attribute `nice` to weigh. The ratings have: kind, long" in bad.err


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_is_content_with_good_data(tacit: Any, world: Path) -> None:
    done = tacit("check", world / "votes.jsonl", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["ok"] is True
    assert done.json["statistics"]["records"] == 240


def test_check_names_the_rows_and_ends_with_2(tacit: Any) -> None:
    lines = [json.dumps(row) for row in votes(5)]
    Path("broken.jsonl").write_text("\n".join([*lines, '{"prompt": "x", ', '{"prompt": "x"}']) + "\n")
    done = tacit("check", "broken.jsonl")
    assert done.code == 2
    assert "row 6" in done.out
    assert "row 7" in done.out
    assert done.err.startswith("tacit: broken.jsonl: 2 kinds of errors")


# --- demo -------------------------------------------------------------------------------------------------------------


def test_the_demo_ends_with_a_table_and_a_page(tacit: Any) -> None:
    done = tacit("demo", "--n", 400, "--out", "page", "--no-tuning", "--json")
    assert done.code == 0
    rows = done.json["table"]
    assert [row["n"] for row in rows] == [1, 2, 4, 8, 16, 32, 64]
    assert rows[-1]["delivered"] > rows[0]["delivered"] + 0.3  # choosing by what was learnt gains true reward
    assert "<svg" in Path("page/index.html").read_text("utf-8")
    assert yaml.safe_load(Path("page/config.yaml").read_text())["n"] == 400


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["fit", "votes.jsonl"], "--out requires an argument"),
        (["fti", "votes.jsonl"], 'Unknown command "fti". Did you mean "fit"?'),
        (["fit", "votes.jsonl", "--out", "r", "--hed", "mlp"], "Unknown option: --hed. Did you mean --head?"),
        (["fit", "votes.jsonl", "--out", "r", "--test", "1.5"], "--test 1.5: input should be less than 1"),
        (["fit", "votes.jsonl", "--out", "r", "--head", "cnn"], "--head cnn: input should be 'linear' or 'mlp'"),
        (["fit", "votes.jsonl", "--out", "r", "--seed", "x"], "--seed"),
        (["fit", "absent.jsonl", "--out", "r"], "absent.jsonl: there is no such file or folder"),
        (["fit", "votes.jsonl", "--out", "r", "--encoder", "bert"], "there is no encoder `bert`. Use one of: auto,"),
        (["fit", "votes.jsonl", "--out", "r", "--objective", "x"], "no objective `x`. Choose one of: auto"),
        (["fit", "votes.jsonl", "--out", "votes.jsonl"], "votes.jsonl is a file. Choose another --out"),
        (["fit", "votes.jsonl", "--out", "full"], "full holds other files. Choose another --out"),
        (["fit", "empty.jsonl", "--out", "r"], "empty.jsonl: the file is empty"),
        (["fit", "torn.jsonl", "--out", "r"], "torn.jsonl, row 3: broken JSON"),
        (["fit", "mixed.jsonl", "--out", "r"], "mixed.jsonl, row 3, column `chosen`"),
        (
            ["fit", "votes.jsonl", "--out", "r", "--config", "typo.yaml"],
            "unknown key `encodr`. Did you mean `encoder`?",
        ),
        (["score", "absent", "votes.jsonl", "--out", "s.csv"], "absent holds no reward.json"),
        (["score", "newer", "votes.jsonl", "--out", "s.csv"], "newer/reward.json has format 999"),
        (["score", "absent", "votes.jsonl", "--out", "s.xls"], "s.xls: rows cannot be written as this type"),
        (["bench", "speed"], "there is no `speed`. Choose one of: "),
        (["bench", "fit", "--tokens", "3"], "`fit` takes no option `tokens`"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tacit: Any, tokens: list[str], said: str) -> None:
    good = [json.dumps(row) for row in votes(8)]
    Path("votes.jsonl").write_text("\n".join(good) + "\n")
    Path("empty.jsonl").write_text("")
    Path("torn.jsonl").write_text("\n".join([*good[:2], good[2][:30], *good[3:]]) + "\n")
    other = json.dumps({"prompt": "p", "completion": "c", "label": True})
    Path("mixed.jsonl").write_text("\n".join([*good[:2], other, *good[3:]]) + "\n")
    Path("typo.yaml").write_text("encodr: hashed\n")
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("x")
    Path("newer").mkdir()
    Path("newer/reward.json").write_text('{"format": 999}')
    before = sorted(path for path in Path().rglob("*") if "cache" not in path.parts)
    done = tacit(*tokens)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("tacit: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert sorted(path for path in Path().rglob("*") if "cache" not in path.parts) == before


@pytest.mark.parametrize(
    ("tokens", "said", "takes", "lacks"),
    [
        ("fit v.jsonl --out r --hed mlp", "--head", ["--head", "--l2", "--overwrite"], ["--pessimist", "--curve"]),
        ("score r v.jsonl --out s.csv --curv", "Unknown option: --curv", ["--for", "--skip-broken"], ["--curve"]),
        ("tune sft --policy p --data d --out o --max-lenght 3", "--max-length", ["--lora"], ["--beta", "--no-whiten"]),
        ("tune ppo --policy p --data d --out o --wite", "Unknown option: --wite", ["--no-whiten"], ["--rule"]),
        ("tune spin --policy p --data d --out o --iteration 2", "--iterations", ["--beta"], ["--rule", "--td-weight"]),
        ("bench encode --tokns 3", "--tokens", ["--rounds"], ["--pairs", "--flip"]),
        ("lab drift --sedes 3", "--seeds", ["--experiment"], ["--data"]),
    ],
)
def test_a_wrong_flag_names_the_right_one_and_those_of_that_method_alone(
    tacit: Any, tokens: str, said: str, takes: list[str], lacks: list[str]
) -> None:
    if tokens.startswith("tune"):
        pytest.importorskip("transformers")
    done = tacit(*tokens.split())
    assert (done.code, done.err.count("\n")) == (2, 1)
    question, _, listed = done.err.partition(" takes ")
    assert said in question
    flags = listed.partition(". See ")[0].split(", ")
    assert set(takes) <= set(flags)
    assert not set(lacks) & set(flags)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ("fit v.jsonl --out r --head mpl", "--head mpl: input should be 'linear' or 'mlp'. Did you mean `mlp`?"),
        ("fit v.jsonl --out r --model scaler --encoder hashed", "no model `scaler`. Did you mean `scalar`? Choose one"),
        ("fit v.jsonl --out r --objective davidsn --encoder hashed", "Did you mean `davidson`? Choose one of: auto,"),
        (
            "fit v.jsonl --out r --trees 5 --model scalar --encoder hashed",
            "no fit option `trees`. Choose from: --augment",
        ),
        ("bench encod", "there is no `encod`. Did you mean `encode`? Choose one of: audit,"),
    ],
)
def test_a_wrong_value_names_the_right_one(tacit: Any, tokens: str, said: str) -> None:
    write_lines(Path("v.jsonl"), votes(40))
    done = tacit(*tokens.split())
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err


# --- from another folder ----------------------------------------------------------------------------------------------


def test_a_configuration_repeats_its_run_from_any_folder(
    tacit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was typed as a relative path is found again, next to the configuration or far from it."""
    home, away = tmp_path / "home/project", tmp_path / "away"
    for folder in (home / "data", home / "out", away):
        folder.mkdir(parents=True)
    write_lines(home / "data/votes.jsonl", votes())
    write_lines(home / "data/later.jsonl", votes(60, seed=1))
    rows = [{"prompt": f"p{i}", "completions": [v["chosen"], v["rejected"]]} for i, v in enumerate(votes(9, seed=2))]
    write_lines(home / "data/candidates.jsonl", rows)
    (home / "recipe.yaml").write_text("type: sum\nparts:\n  - reward: reward\n  - type: length_control\n")
    (tmp_path / "link").symlink_to(home)
    monkeypatch.chdir(tmp_path / "link")
    quick = ("--resamples", 10)
    runs: dict[str, tuple[Any, ...]] = {
        "reward": ("fit", "data/votes.jsonl", "--test-data", "./data/later.jsonl", "--encoder", "hashed", *quick),
        "out/mix": ("combine", "recipe.yaml", "--data", "data/votes.jsonl"),
        "out/scores.csv": ("score", "reward", "../project/data/later.jsonl"),
        "audit.json": ("audit", "reward", "data/later.jsonl", "--reference", "reward", *quick),
        "both.json": ("audit", "reward", "out/mix", "data/later.jsonl", *quick),
        "out/best.jsonl": ("select", "out/mix", "data/candidates.jsonl"),
    }
    for out, words in runs.items():
        done = tacit(*words, "--out", out)
        assert done.code == 0, done.err
    for where in (away, home / "out", home):
        monkeypatch.chdir(where)
        for out, words in runs.items():
            path = home / out
            config = path / "config.yaml" if path.is_dir() else path.with_suffix(".config.yaml")
            shown = Path(os.path.relpath(config, where))
            again = away / f"again{path.suffix}"
            done = tacit(words[0], "--config", shown, "--out", again, "--json")
            assert done.code == 0, done.err
            if path.suffix in (".csv", ".jsonl"):
                assert again.read_bytes() == path.read_bytes()
            elif path.is_dir():
                assert (again / "reward.json").is_file()
                assert {p.name for p in again.iterdir()} == {p.name for p in path.iterdir()}
            else:
                assert json.loads(again.read_text()).keys() == json.loads(path.read_text()).keys()
            shutil.rmtree(again) if again.is_dir() else [p.unlink() for p in away.glob("again*")]
    here = tacit("score", "--config", home / "out/scores.config.yaml")  # over itself
    assert (here.code, "scores.config.yaml is the file that is read (--config)" in here.err) == (2, True)
    assert yaml.safe_load((home / "out/scores.config.yaml").read_text())["data"] == "../data/later.jsonl"


def test_an_answer_of_ten_megabytes_is_scored_audited_and_chosen(tacit: Any, world: Path) -> None:
    huge = "well, thank you, " * 620_000
    write_lines(Path("rows.jsonl"), [{"prompt": "p", "chosen": huge, "rejected": "NO", "id": 7}])
    write_lines(Path("candidates.jsonl"), [{"prompt": "p", "completions": ["NO", huge]}])
    for out in ("s.jsonl", "s.csv", "s.parquet"):
        done = tacit("score", world / "reward", "rows.jsonl", "--out", out, "--json")
        assert (done.code, done.json["rows"]) == (0, 1), done.err
    assert json.loads(Path("s.jsonl").read_text())["chosen"] == huge
    assert tacit("audit", world / "reward", "rows.jsonl", "--resamples", 10, "--json").code == 0
    done = tacit("select", world / "reward", "candidates.jsonl", "--out", "b.jsonl")
    assert done.code == 0, done.err
    write_lines(Path("more.jsonl"), [*votes(60), {"prompt": "p", "chosen": huge, "rejected": "NO"}])
    assert tacit("check", "more.jsonl").code == 0
    assert tacit("fit", "more.jsonl", "--out", "r", "--encoder", "hashed", "--resamples", 10, "--json").code == 0


def test_rows_with_odd_columns_are_scored(tacit: Any, world: Path) -> None:
    import datetime
    import decimal

    import pyarrow
    import pyarrow.parquet

    from tacit.evidence import read_rows

    rows = votes(4, seed=3)
    when = datetime.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=datetime.UTC)
    odd = {
        "when": pyarrow.array([when, None, when, when], pyarrow.timestamp("us", "UTC")),
        "day": pyarrow.array([when.date()] * 4),
        "raw": pyarrow.array([b"\x00\xff", b"", None, b"x"]),
        "price": pyarrow.array([decimal.Decimal("-1.50"), None, decimal.Decimal("2.25"), decimal.Decimal("0.00")]),
        "nan": pyarrow.array([float("nan"), float("inf"), None, 1.5]),
        "tags": pyarrow.array([[("a", 1)], [], None, [("b", 2)]], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "note": pyarrow.array(["=1+1", "-5", "plain", None]),
    }
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pyarrow.parquet.write_table(pyarrow.table(columns | odd), "in.parquet")
    for name in ("s.parquet", "s.jsonl", "s.csv", "s.tsv"):
        done = tacit("score", world / "reward", "in.parquet", "--out", name, "--json")
        assert (done.code, done.json["rows"]) == (0, 4), done.err
    again = pyarrow.parquet.read_table("s.parquet")
    for name, column in odd.items():
        assert again[name].type == column.type
        assert str(again[name].to_pylist()) == str(column.to_pylist())
    first = next(row for _, row in read_rows("s.jsonl"))
    assert first["when"] == "2024-05-06T07:08:09.000010+00:00"
    assert (first["raw"], first["price"], first["nan"], first["note"]) == ("AP8=", "-1.50", None, "=1+1")
    cells = [row for _, row in read_rows("s.csv")]
    assert [row["note"] for row in cells] == ["'=1+1", "-5", "plain", ""]
    assert [row["price"] for row in cells] == ["-1.50", "", "2.25", "0.00"]


# --- the installed command --------------------------------------------------------------------------------------------


def test_results_go_to_stdout_and_errors_to_stderr_in_a_process_of_its_own(world: Path) -> None:
    command = [sys.executable, "-m", "tacit", "check", str(world / "votes.jsonl"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"] is True
    failed = subprocess.run([*command[:4], "absent.csv"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.splitlines() == ["tacit: absent.csv: there is no such file or folder. Check the path"]


def test_a_closed_pipe_is_no_traceback(world: Path) -> None:
    command = f"{sys.executable} -m tacit check {world / 'votes.jsonl'} --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_score_writes_every_row_whatever_judges_it(tacit: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    votes = [{"prompt": f"p{i}", "chosen": f"thanks {i}", "rejected": f"go away {i}"} for i in range(20)]
    Path("votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    assert tacit("fit", "votes.jsonl", "--encoder", "hashed", "--out", "reward", "--resamples", "10").code == 0
    for column, values in {
        "thumbs": ["up", None, "sideways"],
        "score": [3, None, "x"],
        "label": [True, None, 7],
    }.items():
        rows = [{"question": f"q{i}", "answer": "thanks", column: value} for i, value in enumerate(values)]
        Path("log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = tacit("score", "reward", "log.jsonl", "--out", f"{column}.jsonl")
        assert done.code == 0, done.err
        written = [json.loads(line) for line in Path(f"{column}.jsonl").read_text().splitlines()]
        assert [row[column] for row in written] == values, "no row is left out, and what judged it stands beside it"
        assert all(isinstance(row["predicted_score" if column == "score" else "score"], float) for row in written)
