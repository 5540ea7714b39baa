"""Commands with one damaged input each: every verb, every format, every way to damage a file, from one seed."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from documents import DOCUMENTS, FORMATS, encode
from mutations import mutated_bytes, mutated_rows, mutated_value, mutated_yaml
from stage import CONFIG, JUDGE, MORE, RECIPE, REWARDS
from tensors import mutated_npz, mutated_safetensors

ENCODED = "--encoder hashed --no-cache"
HASHED = f"{ENCODED} --resamples 10"
TINY = "--policy {w}/llama --max-steps 1 --per-device-train-batch-size 2 --device cpu --dtype float32"


@dataclass(frozen=True)
class Scenario:
    """A command in which `{x}` is the damaged input, `{w}` the folder of sound files and `{o}` what is written."""

    command: str
    damage: str
    """What {x} is: `rows:NAME` of `documents`, or `yaml:NAME`, `arrays:FILE`, `reward:FOLDER`, `bytes:FOLDER/FILE`."""
    weight: float = 1.0

    @property
    def whole(self) -> bool:
        """Whether it needs what only the whole stage has."""
        named = {part for word in self.command.split() for part in Path(word.partition("{w}/")[2]).parts[:1]}
        named.add(self.damage.partition(":")[2])
        return bool(named & {"llama", "judge", *MORE})


def _rows(command: str, names: str, weight: float = 1.0) -> list[Scenario]:
    listed = list(DOCUMENTS) if names == "*" else names.split()
    return [Scenario(command, f"rows:{name}", weight / len(listed)) for name in listed]


def _fits() -> list[Scenario]:
    fit = "fit {x} --out {o} " + HASHED
    return [
        *_rows(fit, "comparisons conversations transcripts verdicts outcomes ratings attributes rankings steps", 6),
        *_rows(
            f"fit {{x}} --out {{o}} {ENCODED} --test 0",
            "comparisons outcomes ratings rankings demonstrations prompts",
            2,
        ),
        *_rows(fit, "problems demonstrations candidates log", 1.5),
        *_rows(fit + " --head mlp --hidden 4 --epochs 2 --batch-size 8", "comparisons ratings outcomes", 0.7),
        *_rows(fit + " --model pairwise --l2 1", "comparisons", 0.15),
        *_rows(fit + " --model boosted --trees 3", "comparisons ratings outcomes rankings"),
        *_rows(fit + " --model mean_variance", "comparisons", 0.5),
        *_rows(fit + " --model categorical", "comparisons", 0.5),
        *_rows(fit + " --model attributes", "attributes"),
        *_rows(fit + " --model within", "outcomes", 0.7),
        *_rows(fit + " --model prefix", "comparisons", 0.7),
        *_rows(fit + " --people groups --groups 2 --restarts 1", "comparisons", 0.7),
        *_rows(fit + " --people reliability", "comparisons", 0.7),
        *_rows(fit + " --people decomposed --components 2", "comparisons", 0.5),
        *_rows(fit + " --robust flips --augment 0.5", "comparisons", 0.5),
        *_rows(fit + " --members 2 --laplace --by annotator", "comparisons", 0.5),
        *_rows(fit + " --from demonstrations --pairing mismatched", "demonstrations"),
        *_rows("fit {w}/ids.jsonl --items {x} --out {o} " + HASHED, "items"),
        *_rows("fit {x} --items {w}/items.jsonl --out {o} " + HASHED, "ids"),
        *_rows("fit {w}/comparisons.jsonl --test-data {x} --out {o} " + HASHED, "comparisons"),
        *_rows("fit {x} --check exact --out {o}", "problems"),
    ]


def _uses() -> list[Scenario]:
    return [
        *_rows("score {w}/scalar {x} --out {o}.jsonl", "*", 6),
        *_rows("score {w}/scalar {x} --out {o}.csv", "comparisons ratings conversations", 1.5),
        *_rows("score {w}/scalar {x} --out {o}.parquet", "comparisons ratings conversations", 1.5),
        *_rows("score {w}/members {x} --out {o}.tsv.gz --pessimism min", "comparisons outcomes"),
        *_rows("score {w}/pairwise {x} --out {o}.jsonl", "comparisons rankings"),
        *_rows("score {w}/boosted {x} --out {o}.jsonl", "comparisons rankings", 0.5),
        *_rows("score {w}/attributes {x} --out {o}.jsonl", "attributes ratings", 0.5),
        *_rows("score {w}/process {x} --out {o}.jsonl", "steps outcomes"),
        *_rows("score {w}/verifier {x} --out {o}.jsonl", "problems outcomes"),
        *_rows("score {w}/groups {w}/comparisons.jsonl --for {x} --out {o}.jsonl", "comparisons"),
        *_rows("score {w}/sum {x} --out {o}.jsonl", "comparisons outcomes"),
        *_rows("audit {w}/scalar {x} --resamples 10", "comparisons outcomes ratings rankings steps", 3),
        *_rows("audit {w}/members {x} --resamples 10 --out {o}.html", "comparisons outcomes ratings", 3),
        *_rows("audit {w}/process {x} --resamples 10 --out {o}.json", "steps", 0.7),
        *_rows("audit {w}/scalar {w}/comparisons.jsonl --candidates {x} --resamples 10 --out {o}.json", "candidates"),
        *_rows("audit {w}/scalar {w}/comparisons.jsonl --log {x} --resamples 10 --out {o}.json", "log"),
        *_rows("audit {w}/scalar {x} --reference {w}/boosted --resamples 10 --out {o}.json", "comparisons"),
        *_rows("audit {w}/scalar {w}/boosted {x} --resamples 10 --out {o}.json", "comparisons outcomes"),
        *_rows("select {w}/scalar {x} --out {o}.jsonl --curve", "candidates", 1.5),
        *_rows("select {w}/members {x} --out {o}.csv --n 2", "candidates demonstrations"),
        *_rows("combine {w}/recipe.yaml --data {x} --out {o}", "comparisons ratings problems"),
        *_rows("check {x}", "*", 6),
        *_rows("check {x} --against {w}/comparisons.jsonl --json", "comparisons outcomes"),
        *_rows("check {w}/comparisons.jsonl --against {x}", "comparisons"),
    ]


def _others() -> list[Scenario]:
    rewards = [*REWARDS, *(name for name in MORE if name not in ("hf", "judged"))]
    of_array = "fit {w}/comparisons.jsonl --encoder array:{x} --out {o} --resamples 10 --no-cache"
    score, scored = "score {x} {w}/comparisons.jsonl --out {o}.jsonl", "score {x} {w}/outcomes.jsonl --out {o}.jsonl"
    audit = "audit {x} {w}/comparisons.jsonl --out {o}.html --resamples 10"
    return [
        Scenario("fit {w}/comparisons.jsonl --out {o} --config {x}", "yaml:config", 4),
        Scenario("score {w}/scalar {w}/comparisons.jsonl --out {o}.jsonl --config {x}", "yaml:config"),
        Scenario(scored, "yaml:recipe", 3),
        Scenario("combine {x} --data {w}/comparisons.jsonl --out {o}", "yaml:recipe", 2),
        Scenario(of_array, "arrays:vectors.npz", 4),
        Scenario(of_array, "arrays:vectors.npy", 2),
        *[Scenario(score, f"reward:{name}", 0.6) for name in rewards],
        *[Scenario(audit, f"reward:{name}", 0.2) for name in rewards],
        Scenario("combine {w}/recipe.yaml --out {o} --data {x}", "reward:scalar", 0.2),
        Scenario("convert {x} --out {o}", "bytes:llama2c/model.bin", 1.5),
        Scenario("convert {x} --out {o}", "bytes:llama2c/tokenizer.bin", 1.5),
    ]


def _models() -> list[Scenario]:
    generate = "generate {w}/llama {x} --limit 2 --max-new-tokens 3 --out {o}"
    best = generate + ".csv --n 2 --reward {w}/scalar --best"
    tune = "tune {m} --data {x} --out {o} " + TINY
    grpo = "tune grpo --num-generations 2 --max-completion-length 3 --out {o} " + TINY
    return [
        *_rows(generate + ".jsonl", "prompts problems comparisons", 2),
        *_rows(best, "prompts"),
        *_rows(tune.replace("{m}", "sft"), "demonstrations conversations"),
        *_rows(tune.replace("{m}", "dpo"), "comparisons outcomes rankings"),
        *_rows(tune.replace("{m}", "reward"), "comparisons ratings outcomes"),
        *_rows(grpo + " --data {x} --reward {w}/scalar", "prompts problems demonstrations", 1.5),
        Scenario(grpo + " --data {w}/prompts.jsonl --reward {x}", "yaml:recipe", 0.7),
        Scenario("score {x} {w}/outcomes.jsonl --out {o}.jsonl", "yaml:judge", 1.5),
        Scenario("fit {w}/outcomes.jsonl --model judge --judge {x} --out {o} --resamples 10", "yaml:judge", 1.5),
        Scenario("export {x} --out {o}", "reward:hf", 1.5),
        Scenario("score {x} {w}/outcomes.jsonl --out {o}.jsonl", "reward:hf", 0.7),
        Scenario("score {x} {w}/outcomes.jsonl --out {o}.jsonl", "reward:judged", 0.7),
    ]


SCENARIOS = [*_fits(), *_uses(), *_others(), *_models()]


@dataclass(frozen=True)
class Case:
    """One command: its words, the folder that it runs in, the output that it may write."""

    seed: int
    tokens: list[str]
    folder: Path
    out: Path


def make(seed: int, folder: Path, world: Path, *, whole: bool) -> Case:
    """Case number `seed`: its folder with bystanders and the damaged input, and its command."""
    rng = random.Random(seed)
    listed = [s for s in SCENARIOS if whole or not s.whole]
    scenario = rng.choices(listed, [s.weight for s in listed])[0]
    folder.mkdir(parents=True)
    _bystanders(folder)
    what, _, name = scenario.damage.partition(":")
    path = DAMAGES[what](name, folder, world, rng)
    out = folder / "out"
    if rng.random() < 0.06:
        path = _replaced(path, rng)
    words = [word.format(x=path, w=world, o=out) for word in scenario.command.split()]
    if rng.random() < 0.06 and "--out" in words:
        spot = words.index("--out") + 1
        out = _taken(folder, path, rng)
        words[spot] = str(out)
    elif "--out" in words:
        out = Path(words[words.index("--out") + 1])
    return Case(seed, words, folder, out)


def _bystanders(folder: Path) -> None:
    """Files of others that nothing may touch, under names that tempt."""
    texts = {
        "thesis.tex": "x",
        "metrics.json": "{}",
        "out.config.yml": "a: 1\n",
        ".hidden": "",
        "notes/votes.jsonl": "{}\n",
    }
    texts |= {"mine/reward.json": "{}", "mine/votes.jsonl": "{}\n", "old.jsonl": '{"a": 1}\n', "page.html": "<p>"}
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def _rows_damage(name: str, folder: Path, world: Path, rng: random.Random) -> Path:
    kind = rng.choice(
        FORMATS if name not in ("log", "candidates", "items") else ("jsonl", "jsonl", "json", "csv", "parquet")
    )
    path, share = folder / f"data.{kind}", rng.random()
    rows = mutated_rows(DOCUMENTS[name], rng) if share < 0.75 else DOCUMENTS[name]
    inner = kind.removesuffix(".gz") if rng.random() < 0.8 else kind  # where bytes change: before packing, or after
    content = encode(rows, inner, rng)
    content = mutated_bytes(content, rng) if share > 0.7 else content
    path.write_bytes(gzip.compress(content, mtime=0) if inner != kind else content)
    return path


def _yaml_damage(name: str, folder: Path, world: Path, rng: random.Random) -> Path:
    value = {"recipe": _rebased(RECIPE, world), "judge": {**JUDGE, "folder": str(world / "llama")}, "config": CONFIG}[
        name
    ]
    path = folder / f"{name}.yaml"
    path.write_bytes(mutated_yaml(value, rng))
    return path


def _rebased(value: object, world: Path) -> object:
    """The recipe with the names of rewards and files as paths in the stage."""
    if isinstance(value, dict):
        paths = {key: str(world / value[key]) for key in ("reward", "answers") if isinstance(value.get(key), str)}
        return {key: paths.get(key) or _rebased(inner, world) for key, inner in value.items()}
    return [_rebased(inner, world) for inner in value] if isinstance(value, list) else value


def _arrays_damage(name: str, folder: Path, world: Path, rng: random.Random) -> Path:
    path = folder / name
    path.write_bytes(mutated_npz(world / name, rng))
    beside = Path(name).with_suffix(".texts.jsonl").name
    if path.suffix == ".npy":
        content = (world / beside).read_bytes()
        (folder / beside).write_bytes(mutated_bytes(content, rng) if rng.random() < 0.2 else content)
    return path


def _reward_damage(name: str, folder: Path, world: Path, rng: random.Random) -> Path:
    path = folder / "reward"
    shutil.copytree(world / name, path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix != ".md")
    likely = [file for file in files if file.name == "reward.json" or file.suffix == ".safetensors"]
    file = rng.choice(likely if rng.random() < 0.8 else files)
    match rng.randrange(12):
        case 0:
            file.unlink()
        case 1:
            file.write_bytes(b"")
        case 2:
            file.write_bytes(mutated_bytes(file.read_bytes(), rng))
        case 3:
            file.unlink()
            file.mkdir()
        case _ if file.suffix == ".safetensors":
            file.write_bytes(mutated_safetensors(file, rng))
        case _ if file.suffix == ".json":
            text = json.dumps(mutated_value(json.loads(file.read_text()), rng), default=str)
            file.write_text(text, "utf-8", errors="surrogatepass")
        case _:
            file.write_bytes(mutated_bytes(file.read_bytes(), rng))
    return path


def _bytes_damage(name: str, folder: Path, world: Path, rng: random.Random) -> Path:
    source = world / name
    shutil.copytree(source.parent, folder / "model")
    path = folder / "model" / source.name
    path.write_bytes(mutated_bytes(path.read_bytes()[: rng.choice([64, 10**9])], rng))
    return path.with_name("model.bin")


DAMAGES: dict[str, Callable[[str, Path, Path, random.Random], Path]] = {
    "rows": _rows_damage,
    "yaml": _yaml_damage,
    "arrays": _arrays_damage,
    "reward": _reward_damage,
    "bytes": _bytes_damage,
}


def _replaced(path: Path, rng: random.Random) -> Path:
    """Something else in place of the input: a folder, nothing, a pipe, a link to itself, a file nobody may read."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    match rng.randrange(7):
        case 0:
            path.mkdir()
        case 1:
            path.mkdir()
            (path / path.name).write_bytes(b"x")
        case 2:
            os.mkfifo(path)
        case 3:
            path.symlink_to(path)
        case 4:
            path.write_bytes(b"")
        case 5:
            path.write_bytes(b"\n\n")
        case _:
            pass
    return path


def _taken(folder: Path, path: Path, rng: random.Random) -> Path:
    """An output that is there already and belongs to someone else, or cannot be written."""
    names = ["thesis.tex", "old.jsonl", "metrics.json", "notes", "mine", "page.html", "thesis.tex/below", "link.jsonl"]
    name = rng.choice([*names, path.name])
    if name == "link.jsonl":
        (folder / name).symlink_to(folder / "old.jsonl")
    return folder / name
