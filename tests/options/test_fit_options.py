"""Every option of every model of `tacit fit` changes the reward, or is refused in a sentence that says why.

As `test_tune_options`: the options are the fields of `FitOptions`; a value alone must move the weights or the scores,
or be refused by a `TacitError` that names it; where an option works only beside others, `BESIDE` says with which.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep import Run, attempted, flag, moved, tensors, timeless, tiny, write

import tacit
from tacit.errors import TacitError
from tacit.evidence import Comparison
from tacit.options.fit import FitOptions
from tacit.rewards import MODELS
from tacit.rewards.contract import Personal
from tacit.rewards.verifiers import allow_code

pytest.importorskip("transformers")

# --- models -----------------------------------------------------------------------------------------------------------

COMMON = {"encoder": "hashed", "resamples": 20, "test": 0.25, "l2": None}
HIDDEN = ("hidden", "weight_decay", "learning_rate", "batch_size", "epochs", "validation", "precision")
MLP = {"head": "mlp", "hidden": (8,), "epochs": 2, "learning_rate": 0.02}
VARIANTS: dict[str, dict[str, Any]] = {
    "scalar": {"data": "votes"},
    "scalar, outcomes": {"data": "outcomes", "model": "scalar"},
    "scalar, ratings": {"data": "ratings", "model": "scalar"},
    "mean_variance": {"data": "votes", "model": "mean_variance"},
    "categorical": {"data": "votes", "model": "categorical"},
    "pairwise": {"data": "circles", "model": "pairwise"},
    "attributes": {"data": "attributes", "model": "attributes"},
    "boosted": {"data": "votes", "model": "boosted", "trees": 12, "smallest": 4},
    "process": {"data": "steps"},
    "prefix": {"data": "votes", "model": "prefix", "stride": 1},
    "within": {"data": "outcomes", "model": "within"},
    "verifier": {"data": "problems", "encoder": None, "resamples": None, "test": 0.0},
    "judge": {"data": "votes", "model": "judge", "judge": "judge", "encoder": None},
    "decomposed": {"data": "votes", "people": "decomposed", "components": 4},
    "groups": {"data": "crowd", "people": "groups", "groups": 2},
    "latent": {"data": "crowd", "people": "latent"},
    "reliability": {"data": "crowd", "people": "reliability"},
    "from demonstrations": {"data": "demonstrations", "from_": "demonstrations", "pairing": "mismatched"},
}
QUICK = ("scalar", "attributes", "boosted", "process")
VALUES: dict[str, Any] = {
    **{
        "data": "more",
        "seed": 5,
        "test": 0.5,
        "test_data": "later",
        "by": "annotator",
        "resamples": 40,
        "cache": "cache",
    },
    **dict.fromkeys(("no_cache", "run_code", "shared_trunk", "laplace", "length_regressed", "skip_broken"), True),
    **{"from_": "demonstrations", "pairing": "init-demo", "policy": "base", "sft": "other", "answers": 3},
    **{"max_completion_length": 2, "sft_epochs": 9.0, "sft_learning_rate": 0.1, "work": "work"},
    **{"pessimism": "min", "pessimism_strength": 1e6, "kind": "rating", "columns": ("prompt=topic",)},
    **{"labels": ("ok=good", "poor=bad"), "verdict": ("0=first",), "ignore": ("thumb",), "items": "texts"},
    **{
        "item_columns": ("id=number",),
        "model": "boosted",
        "encoder": "hf",
        "objective": "classification",
        "head": "mlp",
    },
    **{"members": 3, "hidden": (4,), "l2": 10.0, "weight_decay": 50.0, "learning_rate": 0.05, "batch_size": 4},
    **{"epochs": 4, "patience": 9, "validation": 0.45, "label_smoothing": 0.3, "robust": "symmetric", "flip_rate": 0.3},
    **{"augment": 2.0, "risk": 0.1, "atoms": 4, "entropy": 5.0, "rank": 1, "references": 3},
    **{"weights": ("helpful=1", "brief=-2"), "gate": "votes", "trees": 2, "leaves": 2, "shrinkage": 0.9, "smallest": 2},
    **{"cut": "sentence", "aggregate": "last", "after_error": "wrong", "step_labels": "soft", "stride": 2},
    **{"check": "exact", "unknown": -1.0, "judge": "rubric", "people": "decomposed", "components": 2},
    **{"directions": "uniform", "temperature": 0.1, "reduction": "mean", "groups": 3, "restarts": 1, "latent": 2},
    **{"decoder": "mlp", "pooling": "attention", "kl": 9.0},
}
ELSEWHERE = {"config", "json_", "overwrite", "out"}
"""Of the command line and not of the fit: tested with `tune`'s."""


def value_of(option: str, base: dict[str, Any]) -> Any:
    """A value that is not the default."""
    match option:
        case "precision":
            from tacit.rewards.perceptron import _bf16

            return "fp32" if _bf16("auto") else "bf16"
        case "model" if base.get("model") == "boosted":
            return "scalar"
        case "people" if base.get("people") == "decomposed":
            return "latent"
        case "objective" if base.get("model") == "boosted":
            return "bradley_terry"
        case "kind" if base["data"] in ("ratings", "attributes"):
            return "comparison"
        case "from_" if base.get("from_"):
            return "evidence"
    return VALUES[option]


AFD = {"from_": "demonstrations", "policy": "base", "sft": "other", "pairing": "init-sft", "max_completion_length": 6}
BESIDE: dict[str, list[dict[str, Any]]] = {
    **{name: [MLP] for name in HIDDEN},
    "patience": [{**MLP, "epochs": 12, "learning_rate": 0.5}],
    "shared_trunk": [{**MLP, "members": 3}],
    "flip_rate": [{"robust": "flips"}],
    "pessimism": [{"members": 3}],
    "pessimism_strength": [{"members": 3, "pessimism": "variance"}],
    "label_smoothing": [{"objective": "classification"}],
    "by": [{"data": "crowd"}],
    "trees": [{"model": "boosted", "data": "votes", "from_": None, "pairing": None}],
    "policy": [{**AFD, "policy": "other", "pairing": "init-demo", "sft": None}],
    "sft": [{**AFD, "sft": None}],
    "answers": [AFD],
    "max_completion_length": [AFD],
    "sft_epochs": [{**AFD, "sft": None}],
    "sft_learning_rate": [{**AFD, "sft": None}],
    "work": [AFD],
    "pairing": [{**AFD, "sft": None}],
    "step_labels": [{"data": "continued"}],
    "unknown": [{"data": "problems"}],
    "run_code": [{"data": "tests", "test_data": "programs"}],
    "columns": [{"data": "topics"}],
    "labels": [{"data": "marked", "model": "scalar"}],
    "verdict": [{"data": "sides"}],
    "ignore": [{"data": "thumbs", "from_": "demonstrations", "pairing": "mismatched"}],
    "items": [{"data": "numbered"}],
    "item_columns": [{"data": "numbered", "items": "texts_of_numbers"}],
    "skip_broken": [{"data": "broken"}],
    "kind": [{"data": "outcomes", "model": "scalar"}],
    "test_data": [{"test": None}],
}
"""Where an option that is refused alone must have its effect, or has one more."""

Measure = Callable[[Run, Run], bool]


def metric(run: Run, name: str) -> Any:
    """A number of metrics.json."""
    return json.loads(run.texts["metrics"]).get(name)


def changed(before: Run, after: Run) -> bool:
    """Whether weights or scores differ."""
    return moved(before, after) or before.texts["scores"] != after.texts["scores"]


def intervals(run: Run) -> list[Any]:
    """Every confidence interval of metrics.json."""
    return [value for name, value in json.loads(run.texts["metrics"]).items() if name.endswith("_ci")]


def histories(run: Run) -> list[Any]:
    """How the loss on held-out rows went, for everything that was learnt."""

    def within(value: Any) -> Iterator[Any]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield from [inner] if key == "history" else within(inner)

    return list(within(json.loads(run.texts["metrics"])))


MEASURES: dict[str, Measure] = {
    "test_data": lambda a, b: metric(a, "n_test") != metric(b, "n_test"),
    "resamples": lambda a, b: intervals(a) != intervals(b),
    "cache": lambda a, b: any(file.startswith("CACHE/") for file in b.files - a.files),
    "no_cache": lambda a, b: "USERS CACHE" in a.files and "USERS CACHE" not in b.files,
    **dict.fromkeys((*HIDDEN, "patience"), lambda a, b: changed(a, b) or histories(a) != histories(b)),
    "work": lambda a, b: any(file.startswith("WORK/") for file in b.files - a.files),
    "rank": lambda a, b: a.weights["head.safetensors:linear"].shape != b.weights["head.safetensors:linear"].shape,
}
"""What shows elsewhere than in weights and scores, and where; the weights before hidden layers may stay the best."""
IDLE = ("skip_broken", "run_code", "cache")
"""What changes nothing where there is no occasion."""


def effective(option: str, before: Run, after: Run) -> bool:
    """Whether the option did what it is there for."""
    if before.refused is not None or after.refused is not None:
        return before.refused != after.refused
    if option in MEASURES:
        return MEASURES[option](before, after)
    return changed(before, after)


# --- the tiny problem -------------------------------------------------------------------------------------------------

TEXTS = (
    *("red", "a blue lamp", "three dogs and a fox", "no", "thank you, kindly", "TWO LAMPS", "one two three four five"),
    *("green. And blue", "say it again, please", "count to ten"),
)
HARD = "Step one is right.\nStep two is wrong. It is."


def worth(text: str) -> float:
    """What the simulated people like: thanks, few capitals, and a little chance."""
    chance = int(hashlib.blake2b(text.encode(), digest_size=4).hexdigest(), 16) / 2**32
    return 2.0 * ("thank" in text) - sum(c.isupper() for c in text) / 4 + chance


class Endpoint(BaseHTTPRequestHandler):
    """A judge in OpenAI's dialect: Yes or No, or a number from 1 to 10, by what an answer is worth."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = "\n".join(message["content"] for message in body["messages"])
        value = worth(text)
        if "Yes" in text and "No" in text:
            yes = 1 / (1 + math.exp(-value))
            top = {"Yes": math.log(yes), "No": math.log(1 - yes)}
        else:
            top = {str(v): -((v - 5 - value) ** 2) for v in range(1, 10)}
        listed = [{"token": token, "logprob": logprob} for token, logprob in top.items()]
        content = [{**max(listed, key=lambda one: one["logprob"]), "top_logprobs": listed}]
        choice = {"message": {"content": content[0]["token"]}, "logprobs": {"content": content}}
        reply = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Iterator[dict[str, str]]:
    """Files and folders by the names that stand for them in the tables."""
    folder = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)

    def vote(i: int) -> dict[str, Any]:
        a, b = (f"{text} {i % 7}" for text in rng.choice(TEXTS, 2, replace=False))
        better, worse = (a, b) if worth(a) + rng.gumbel() / 4 > worth(b) else (b, a)
        return {"prompt": f"question {i % 16}", "chosen": better, "rejected": worse}

    votes = [vote(i) for i in range(64)]
    answers = [{"prompt": row["prompt"], "completion": row[side]} for row in votes for side in ("chosen", "rejected")]
    ring = [{"prompt": f"q {i % 16}", "chosen": TEXTS[i % 3], "rejected": TEXTS[(i + 1) % 3]} for i in range(96)]
    solved = [
        {"prompt": f"sum {i}", "completions": [f"step {i}. So it is", f"next is {i * 7 % 5}", "the end"],
         "labels": [True, i % 3 > 0, i % 2 > 0]}
        for i in range(32)
    ]  # fmt: skip
    found = write(
        folder,
        {
            "votes": votes,
            "later": [vote(i) for i in range(9)],
            "circles": ring,
            "outcomes": [{**row, "label": int(worth(row["completion"]) > 0.4)} for row in answers],
            "ratings": [{**row, "score": round(worth(row["completion"]), 2)} for row in answers],
            "attributes": [
                {**row, "score": {"helpful": round(worth(row["completion"]), 2), "brief": -len(row["completion"])}}
                for row in answers
            ],
            "steps": solved,
            "continued": [
                {**row, "continuations": [[True, i % 2 > 0], [i % 3 > 0, False], [i % 2 > 0, True]]}
                for i, row in enumerate(solved)
            ],
            "problems": [{"prompt": f"sum {i}", "answer": str(i)} for i in range(8)],
            "tests": [{"prompt": f"sum {i}", "answer": "assert True", "checker": "unit_tests"} for i in range(8)],
            "programs": [
                {"prompt": f"sum {i}", "completion": "x = 1" if i % 2 else "x =", "label": i % 2} for i in range(8)
            ],
            "crowd": [
                {
                    **(row if i % 5 else {**row, "chosen": row["rejected"], "rejected": row["chosen"]}),
                    "annotator": f"p{i % 8}",
                }
                for i, row in enumerate(votes * 2)
            ],
            "demonstrations": answers[::2],
            "topics": [{**row, "prompt": "question", "topic": row["prompt"]} for row in votes],
            "marked": [{**row, "label": "ok" if i % 3 else "poor"} for i, row in enumerate(answers)],
            "sides": [
                {"prompt": row["prompt"], "response_a": row["chosen"], "response_b": row["rejected"], "winner": 0}
                for row in votes
            ],
            "thumbs": [{**row, "thumb": "up" if i % 2 else "down"} for i, row in enumerate(answers)],
            "numbered": [{**row, "chosen": 1 + i % 4, "rejected": 5 + i % 4} for i, row in enumerate(votes)],
            "texts": [{"id": i, "text": TEXTS[i]} for i in range(1, 9)],
            "texts_of_numbers": [{"id": 9 - i, "number": i, "text": TEXTS[i]} for i in range(1, 9)],
            "broken": [*votes, {"prompt": "question", "chosen": "red"}],
        },
    )
    for name in ("votes", "outcomes"):
        rows = [json.loads(line) for line in Path(found[name]).read_text().splitlines()]
        found |= write(folder, {f"more_{name}": rows[5:]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, mode in (("judge", "yes_no"), ("rubric", "rubric")):
        settings = f"type: judge\nmodel: m\nmode: {mode}\nbase_url: http://127.0.0.1:{server.server_port}/v1\n"
        (folder / f"{name}.yaml").write_text(settings)
        found[name] = str(folder / f"{name}.yaml")
    found |= {"base": str(tiny(folder / "base")), "other": str(tiny(folder / "other", seed=1))}
    found |= {"hf": f"hf:{bert_folder}", "cache": str(folder / "cache"), "work": str(folder / "work")}
    yield found
    server.shutdown()


FILES = ("data", "test_data", "cache", "policy", "sft", "work", "items", "encoder", "gate", "judge")


class Runs:
    """Fits by their options, each made once."""

    def __init__(self, place: dict[str, str], folder: Path) -> None:
        self.place, self.folder, self.known = place, folder, dict[str, Run]()

    def __call__(self, values: dict[str, Any]) -> Run:
        """What these options make."""
        given = {name: value for name, value in {**COMMON, **values}.items() if value is not None}
        key = json.dumps(given, sort_keys=True)
        if key not in self.known:
            resolved = {n: self.place.get(v, v) if n in FILES else v for n, v in given.items()}
            self.known[key] = attempted(lambda: self._made(resolved.pop("data"), resolved))
        return self.known[key]

    def _made(self, data: str, values: dict[str, Any]) -> Run:
        from tacit.cli.fit import fit
        from tacit.terminal import cache_folder

        out = self.folder / f"run-{len(self.known)}"
        allow_code(False)
        os.environ["TACIT_CACHE"] = str(self.folder / f"cache-{len(self.known)}")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            fit(data, options=FitOptions(out=out, json_=True, **values))
        files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        for name in ("cache", "work"):
            folder = Path(str(values.get(name, "nowhere")))
            files |= {f"{name.upper()}/{path.name}" for path in folder.rglob("*") if path.is_file()}
        files |= {"USERS CACHE"} if any(path.is_file() for path in cache_folder("features").rglob("*")) else set()
        metrics = json.dumps(timeless(json.loads((out / "metrics.json").read_text())))
        return Run(tensors(out), {"metrics": metrics, "scores": scores(out)}, frozenset(files))


def scores(folder: Path) -> str:
    """What the reward says of texts, and of a person's where it can be made one."""
    reward = tacit.load(folder)
    prompts = [f"question {i % 3}" for i in range(len(TEXTS))]
    found: dict[str, Any] = {}
    for name, asked, said in (("texts", prompts, list(TEXTS)), ("steps", ["sum 3"] * 3, [HARD, "3", "The answer: 3"])):
        try:
            found[name] = np.round(reward.score(asked, said), 4).tolist()
        except TacitError as error:
            found[name] = str(error)
    if isinstance(reward, Personal):
        choices = [Comparison(prompt="question 1", chosen=TEXTS[i], rejected=TEXTS[i + 1]) for i in range(4)]
        found["adapted"] = np.round(reward.adapt(choices).score(prompts, list(TEXTS)), 4).tolist()
    return json.dumps(found)


@pytest.fixture(scope="session")
def runs(place: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(place, tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every run sets its own, which does not stay."""
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))


# --- the sweep --------------------------------------------------------------------------------------------------------


def failures(variant: str, runs: Runs) -> list[str]:
    """Options that are taken and change nothing, and refusals that name no flag, no option and no file."""
    base, found = VARIANTS[variant], []
    for option in FitOptions.model_fields.keys() - ELSEWHERE:
        before, changed = runs(base), {**base, option: value_of(option, base)}
        if before.refused is not None:
            return [f"{variant}: {before.refused}"]
        after = runs(changed)
        if after.refused is not None:
            if not any(named in after.refused for named in ("--", option, ".jsonl")):
                found.append(f"{variant} {flag(option)}: refused without a flag: {after.refused}")
        elif option not in IDLE and not effective(option, before, after):
            found.append(f"{variant} {flag(option)}: taken, and nothing changed")
        for beside in BESIDE.get(option, []):
            before = runs({**base, **beside})
            after = runs({**base, **beside, option: value_of(option, base)})
            if after.refused is not None and (before.refused is not None or option in after.refused):
                continue  # this model does not know the option, or what stands beside it
            if not effective(option, before, after):
                found.append(f"{variant} {flag(option)} beside {beside}: {after.refused or 'nothing changed'}")
    return found


def test_every_option_has_a_value_and_every_model_a_variant() -> None:
    missing = FitOptions.model_fields.keys() - VALUES.keys() - ELSEWHERE - {"precision"}
    assert not missing, f"give {sorted(missing)} a value in VALUES"
    assert not (VALUES.keys() | BESIDE.keys() | MEASURES.keys()) - {"data"} - FitOptions.model_fields.keys()
    swept = {base.get("model") or base.get("people") for base in VARIANTS.values()} | {"process", "verifier"}
    assert swept >= MODELS.keys()


@pytest.mark.parametrize("variant", QUICK)
def test_an_option_changes_the_reward_or_is_refused(variant: str, runs: Runs) -> None:
    found = failures(variant, runs)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant not in QUICK])
def test_an_option_changes_slower_models_or_is_refused(variant: str, runs: Runs) -> None:
    found = failures(variant, runs)
    assert not found, "\n".join(found)
