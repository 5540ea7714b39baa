"""Nothing is lost: whatever verb writes whatever --out, what it reads and what others wrote keeps every byte."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tacit.artefacts import LIST, atomic_directory
from tacit.lab import demo
from tacit.lab import experiments as lab_experiments
from tacit.options.policy import GenerateOptions
from tacit.rewards.contract import Reward


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What verbs read: votes, candidates, prompts, a recipe, and a reward that `tacit fit` wrote."""
    from tacit.cli import main

    folder, rng = tmp_path_factory.mktemp("sources"), random.Random(0)
    votes = [
        {"prompt": f"question {i % 20}", "chosen": f"thank you {rng.random()}", "rejected": f"NO WAY {rng.random()}"}
        for i in range(60)
    ]
    write_lines(folder / "votes.jsonl", votes)
    answers = [[row["chosen"], row["rejected"]] for row in votes[:20]]
    rows = [{"prompt": f"p{i}", "completions": pair, "gold": [1, 0]} for i, pair in enumerate(answers)]
    write_lines(folder / "candidates.jsonl", rows)
    (folder / "recipe.yaml").write_text("type: sum\nparts:\n  - reward: reward\n  - type: length_control\n")
    (folder / "length.yaml").write_text("type: length_control\n")
    (folder / "model.bin").write_bytes(b"weights")
    main(["fit", str(folder / "votes.jsonl"), "--out", str(folder / "reward"), "--no-cache", *QUICK])
    return folder


QUICK = ("--encoder", "hashed", "--resamples", "10")
VERBS: dict[str, tuple[str, ...]] = {
    "fit": ("fit", "votes.jsonl", "--out", "OUT", *QUICK),
    "combine": ("combine", "recipe.yaml", "--out", "OUT"),
    "score": ("score", "reward", "votes.jsonl", "--out", "OUT"),
    "audit": ("audit", "reward", "votes.jsonl", "--out", "OUT", "--resamples", "10"),
    "audit page": ("audit", "reward", "votes.jsonl", "--out", "OUT", "--resamples", "10"),
    "audit several": ("audit", "reward", "length.yaml", "votes.jsonl", "--out", "OUT", "--resamples", "10"),
    "select": ("select", "reward", "candidates.jsonl", "--out", "OUT", "--curve"),
    "generate": ("generate", "reward", "candidates.jsonl", "--out", "OUT"),
    "export": ("export", "reward", "--out", "OUT"),
    "convert": ("convert", "model.bin", "--out", "OUT"),
    "demo": ("demo", "--out", "OUT"),
    "bench": ("bench", "encode", "--out", "OUT"),
    "lab": ("lab", "drift", "--out", "OUT"),
    "tune": ("tune", "sft", "--policy", "reward", "--data", "votes.jsonl", "--out", "OUT"),
}
OUTS = {"score": "scores.csv", "audit": "numbers.json", "audit page": "page.html", "audit several": "both.html"}
OUTS |= {"select": "best.jsonl", "generate": "samples.jsonl", "bench": "encode.json", "lab": "drift.json"}
BESIDE = {
    **{verb: [str(Path(out).with_suffix(".config.yaml"))] for verb, out in OUTS.items()},
    **{"export": ["made.config.yaml"], "convert": ["made.config.yaml"]},
}
for _verb, _more in {"audit page": "metrics.json", "select": "best.curve.json", "lab": "drift.svg"}.items():
    BESIDE[_verb].append(_more)
FILES, FOLDERS = sorted(OUTS), sorted(VERBS.keys() - OUTS.keys())
INPUTS = {
    verb: [word for word in words if word in ("votes.jsonl", "candidates.jsonl", "recipe.yaml", "reward", "model.bin")]
    for verb, words in VERBS.items()
}


class Echo:
    """A policy that says what it is asked."""

    def generate(self, prompts: list[Any], n: int, sampling: Any) -> list[list[str]]:
        return [[f"{prompt}!"] * n for prompt in prompts]


@pytest.fixture
def world(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources to write in; what takes long (models, experiments) is left out of the verbs."""
    from tacit.policies import llama2c
    from tacit.rewards import export

    def model(*_: Any, **__: Any) -> dict[str, Any]:
        with atomic_directory(_[1], "config.json") as folder:
            (folder / "config.json").write_text("{}")
        return {"weights": 1, "load": f"from_pretrained({str(folder)!r})"}

    def page(out: Path, **_: Any) -> dict[str, Any]:
        (out / "index.html").write_text("page")
        (out / "reward").mkdir()
        (out / "reward/reward.json").write_text("{}")
        return {"summary": [], "table": [{"n": 1}], "tuning_table": [], "page": "index.html", "seconds": 0}

    shutil.copytree(sources, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(llama2c, "convert", model)
    monkeypatch.setattr(export, "to_hf", model)
    monkeypatch.setattr(demo, "run", page)
    monkeypatch.setattr(GenerateOptions, "open", lambda *_: Echo())
    monkeypatch.setattr("tacit.terminal.run_suite", lambda *_, **__: {"rows": [{"x": 1.0}]})
    monkeypatch.setattr(lab_experiments.__name__ + ".drift.figure", lambda _: "<svg/>", raising=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(folder: Path) -> dict[str, Any]:
    """Every file and link below a folder with its bytes (or target) and inode."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if "cache" not in path.parts:
            kind = path.lstat()
            link = stat.S_ISLNK(kind.st_mode)
            content = os.readlink(path) if link else path.read_bytes() if stat.S_ISREG(kind.st_mode) else kind.st_mode
            found[str(path.relative_to(folder))] = (content, kind.st_ino)
    return found


def line(verb: str, out: str | Path, *more: str) -> list[str]:
    return [str(out) if word == "OUT" else word for word in (*VERBS[verb], *more)]


def out_of(verb: str) -> str:
    return OUTS.get(verb, "made")


def refused(done: Any, named: str | Path, before: dict[str, Any], world: Path) -> None:
    """One sentence that names the file, before any work, and nothing changed."""
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.startswith("tacit: ")
    assert done.err.count("\n") == 1
    assert str(named) in done.err
    assert "Choose another" in done.err
    assert state(world) == before


# --- what another wrote -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", FILES)
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_file_of_another_is_not_replaced(tacit: Any, world: Path, verb: str, more: tuple[str, ...]) -> None:
    Path(out_of(verb)).write_text("mine")
    refused(tacit(*line(verb, out_of(verb), *more)), out_of(verb), state(world), world)


@pytest.mark.parametrize(("verb", "beside"), [(verb, name) for verb in BESIDE for name in BESIDE[verb]])
def test_a_neighbour_of_another_is_not_replaced(tacit: Any, world: Path, verb: str, beside: str) -> None:
    Path(beside).write_text("mine: 1\n")
    refused(tacit(*line(verb, out_of(verb))), beside, state(world), world)


@pytest.mark.parametrize("verb", FILES)
def test_a_file_of_another_verb_is_replaced_with_overwrite_alone(tacit: Any, world: Path, verb: str) -> None:
    other = "bench" if verb != "bench" else "lab"
    out = Path(out_of(verb))
    if verb in ("score", "select", "generate"):  # bench and lab write JSON
        other = "score" if verb != "score" else "select"
    assert tacit(*line(other, out)).code == 0
    for path in [*Path().glob("*.curve.json"), *Path().glob("*.svg")]:
        path.unlink()
    refused(tacit(*line(verb, out)), f"`tacit {other}`", state(world), world)
    done = tacit(*line(verb, out, "--overwrite"))
    assert done.code == 0, done.err
    assert tacit(*line(verb, out)).code == 0  # now it is its own


@pytest.mark.parametrize("verb", FOLDERS)
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_folder_of_other_files_is_never_replaced(tacit: Any, world: Path, verb: str, more: tuple[str, ...]) -> None:
    Path("made/deep").mkdir(parents=True)
    Path("made/deep/thesis.tex").write_text("mine")
    refused(tacit(*line(verb, "made", *more)), "made/deep/thesis.tex", state(world), world)


@pytest.mark.parametrize("verb", FOLDERS)
@pytest.mark.parametrize("stranger", ["notes.txt", "deep/notes.txt", ".hidden", "link"])
def test_one_file_more_than_is_listed_stops_the_run(tacit: Any, world: Path, verb: str, stranger: str) -> None:
    saved(tacit, verb)
    path = Path("made") / stranger
    path.parent.mkdir(exist_ok=True)
    if stranger == "link":
        path.symlink_to(world / "votes.jsonl")
    else:
        path.write_text("mine")
    for more in ((), ("--overwrite",)):
        refused(tacit(*line(verb, "made", *more)), path, state(world), world)


@pytest.mark.parametrize("verb", FOLDERS)
def test_a_folder_of_another_verb_is_replaced_with_overwrite_alone(tacit: Any, world: Path, verb: str) -> None:
    if verb == "tune":
        pytest.skip("in test_cli_tune")
    other = "combine" if verb != "combine" else "fit"
    assert tacit(*line(other, "made")).code == 0
    refused(tacit(*line(verb, "made")), f"`tacit {other}`", state(world), world)
    done = tacit(*line(verb, "made", "--overwrite"))
    assert done.code == 0, done.err
    listed = json.loads(Path("made", LIST).read_text())
    assert listed["verb"] == verb
    names = {str(path.relative_to("made")) for path in Path("made").rglob("*") if path.is_file()}
    assert names == {LIST, *listed["files"]}


def saved(tacit: Any, verb: str) -> None:
    """The folder `made` as a verb leaves it."""
    if verb == "tune":
        from tacit.tuning.job import RUN_FILES

        Path("made").mkdir()
        Path("made", LIST).write_text(json.dumps({"format": 1, "verb": "tune", "files": list(RUN_FILES)}))
        Path("made/metrics.jsonl").write_text("{}\n")
        return
    done = tacit(*line(verb, "made"))
    assert done.code == 0, done.err


# --- its own ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "tune"])
def test_what_a_verb_wrote_it_replaces(tacit: Any, world: Path, verb: str) -> None:
    out = out_of(verb)
    first = tacit(*line(verb, out))
    assert first.code == 0, first.err
    written = state(world)
    again = tacit(*line(verb, out))
    assert again.code == 0, again.err
    assert state(world).keys() == written.keys()
    assert not [name for name in written if ".tacit-" in name]
    for name in ("votes.jsonl", "candidates.jsonl", "recipe.yaml", "reward/head.safetensors"):
        assert state(world)[name] == written[name]


@pytest.mark.parametrize("verb", FILES)
def test_a_file_that_was_changed_since_is_not_its_own_any_more(tacit: Any, world: Path, verb: str) -> None:
    out = Path(out_of(verb))
    assert tacit(*line(verb, out)).code == 0
    with out.open("a") as file:
        file.write("a note of mine\n")
    refused(tacit(*line(verb, out)), f"{out} was changed since", state(world), world)
    assert tacit(*line(verb, out, "--overwrite")).code == 0
    config = out.with_suffix(".config.yaml")
    config.write_text(config.read_text() + "# mine\n")
    refused(tacit(*line(verb, out)), f"{config} was changed since", state(world), world)


def test_a_run_that_was_killed_between_its_files_can_be_repeated(
    tacit: Any, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tacit import artefacts

    move, moved = artefacts.put, list[Path]()

    def killed(at: int) -> Callable[[Path, Path], None]:
        def put(new: Path, target: Path) -> None:
            if target.parent == world and new.parent.name == "new" and target.suffix != ".csv-":
                if len(moved) == at:
                    raise KeyboardInterrupt
                moved.append(target)
            move(new, target)

        return put

    assert tacit(*line("select", "best.jsonl")).code == 0
    for at in range(4):  # configuration, rows, curve, configuration
        moved.clear()
        monkeypatch.setattr(artefacts, "put", killed(at))
        assert tacit(*line("select", "best.jsonl", "--seed", str(at + 1))).code == 130
        monkeypatch.setattr(artefacts, "put", move)
        done = tacit(*line("select", "best.jsonl"))
        assert done.code == 0, (at, done.err)
    for path in Path().glob("best.*"):
        path.unlink()
    for at in range(3):
        moved.clear()
        monkeypatch.setattr(artefacts, "put", killed(at))
        assert tacit(*line("select", "best.jsonl")).code == 130
        monkeypatch.setattr(artefacts, "put", move)
        assert tacit(*line("select", "best.jsonl", "--seed", "3")).code == 0


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "name"), [(verb, name) for verb in FILES for name in INPUTS[verb]])
@pytest.mark.parametrize("way", ["itself", "symlink", "hard link", "through a link", "input is a link"])
def test_a_file_that_is_read_is_never_replaced(tacit: Any, world: Path, verb: str, name: str, way: str) -> None:
    victim = Path("reward/head.safetensors") if name == "reward" else Path(name)
    target, words = Path("out") / f"it{Path(out_of(verb)).suffix}", line(verb, "OUT")
    target.parent.mkdir()
    match way:
        case "itself":
            target = victim
        case "symlink":
            target.symlink_to(world / victim)
        case "hard link":
            target.hardlink_to(victim)
        case "through a link":
            Path("elsewhere").symlink_to(world)
            target = Path("elsewhere") / victim
        case "input is a link":
            shutil.move(victim, target)
            victim.symlink_to(world / target)
    words = [str(target) if word == "OUT" else word for word in words]
    before = state(world)
    for more in ((), ("--overwrite",)):
        done = tacit(*words, *more)
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert state(world) == before


@pytest.mark.parametrize(("verb", "name"), [(verb, name) for verb in FOLDERS for name in INPUTS[verb]])
@pytest.mark.parametrize("deep", ["", "deep"])
@pytest.mark.parametrize("way", ["inside", "linked inside", "a link inside"])
def test_a_folder_with_what_is_read_is_never_replaced(
    tacit: Any, world: Path, verb: str, name: str, deep: str, way: str
) -> None:
    saved(tacit, verb)
    inside = Path("made") / deep / name
    inside.parent.mkdir(exist_ok=True)
    if way == "a link inside":
        inside.symlink_to(world / name)
    else:
        shutil.move(name, inside)
    if name == "recipe.yaml":
        (world / "made" / deep / "reward").exists() or shutil.copytree("reward", Path("made") / deep / "reward")
    if way == "linked inside":
        Path(name).symlink_to(world / inside)
    words = line(verb, "made")
    if way != "linked inside":
        words = [str(inside) if word == name else word for word in words]
    before = state(world)
    for more in ((), ("--overwrite",)):
        refused(tacit(*words, *more), "made", before, world)


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("fit", ["--test-data", "made/x.jsonl"]),
        ("fit", ["--items", "made/x.jsonl"]),
        ("fit", ["--gate", "made/x.jsonl"]),
        ("fit", ["--judge", "made/x.jsonl"]),
        ("fit", ["--config", "made/x.yaml"]),
        ("fit", ["--encoder", "array:made/x.jsonl"]),
        ("combine", ["--data", "made/x.jsonl"]),
        ("tune", ["--eval-data", "made/x.jsonl"]),
        ("tune", ["--reward", "made/x.jsonl"]),
        ("tune", ["--gold", "made/x.jsonl"]),
        ("tune", ["--demonstrations", "made/x.jsonl"]),
        ("tune", ["--stop-at-peak", "made/x.jsonl"]),
        ("convert", ["--tokenizer", "made/x.jsonl"]),
    ],
)
def test_every_option_that_is_read_counts(tacit: Any, world: Path, verb: str, flags: list[str]) -> None:
    saved(tacit, verb)
    Path("made/x.jsonl").write_text("{}\n")
    Path("made/x.yaml").write_text("seed: 1\n")
    before = state(world)
    words = VERBS[verb][: VERBS[verb].index("OUT")]
    done = tacit(*words, "made", *flags)
    refused(done, f"{flags[1].removeprefix('array:')} is read ({flags[0]})", before, world)


@pytest.mark.parametrize("flag", ["--candidates", "--log", "--items", "--for", "--reference", "--gold", "--config"])
def test_every_file_of_an_audit_counts(tacit: Any, world: Path, flag: str) -> None:
    for name in ("metrics.json", "page.config.yaml"):
        Path(name).write_text("{}\n")
        before = state(world)
        for more in ((), ("--overwrite",)):
            done = tacit(*line("audit page", "page.html", flag, name, *more))
            refused(done, f"{name} is the file that is read ({flag})", before, world)
        Path(name).unlink()


def test_the_data_of_an_audit_may_be_called_metrics_json(tacit: Any, world: Path) -> None:
    shutil.move("votes.jsonl", "metrics.json")
    words = [word.replace("votes.jsonl", "metrics.json") for word in line("audit page", "page.html")]
    refused(tacit(*words), "metrics.json is the file that is read (DATA)", state(world), world)


def test_what_a_recipe_is_made_of_counts(tacit: Any, world: Path) -> None:
    before = state(world)
    for more in ((), ("--overwrite",)):
        refused(tacit(*line("combine", "reward", *more)), "reward is the folder that is read", before, world)


@pytest.mark.parametrize(("verb", "out"), [("fit", "data/reward"), ("score", "data/scores.csv"), ("tune", "data/run")])
def test_nothing_is_written_into_a_folder_of_data(tacit: Any, world: Path, verb: str, out: str) -> None:
    Path("data").mkdir()
    shutil.move("votes.jsonl", "data/votes.jsonl")
    words = [word.replace("votes.jsonl", "data") for word in line(verb, out)]
    refused(tacit(*words), f"{out} lies in data, which is read", state(world), world)


def test_an_audit_may_lie_beside_the_files_of_a_reward(tacit: Any, world: Path) -> None:
    before = state(world)
    refused(tacit(*line("audit", "reward/metrics.json")), "reward/metrics.json is a file of reward", before, world)
    refused(tacit(*line("audit page", "reward/page.html")), "reward/metrics.json is a file of reward", before, world)
    assert tacit(*line("audit", "reward/numbers.json")).code == 0
    kept = state(world)
    assert {name: kept[name] for name in before} == before
    refused(tacit(*line("fit", "reward")), "reward/numbers.config.yaml", kept, world)


def test_a_cache_does_not_lie_in_the_folder_of_the_reward(tacit: Any, world: Path) -> None:
    before = state(world)
    refused(tacit(*line("fit", "made", "--cache", "made/cached")), "--cache made/cached lies in --out", before, world)


# --- links, devices, places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", FILES)
def test_a_link_to_its_own_file_is_written_through(tacit: Any, world: Path, verb: str) -> None:
    name = out_of(verb)
    Path("store").mkdir()
    link = Path(f"link{Path(name).suffix}")
    link.symlink_to(world / "store" / name)  # leads nowhere yet
    for _ in range(2):
        done = tacit(*line(verb, link))
        assert done.code == 0, done.err
        assert link.is_symlink()
        assert (world / "store" / name).is_file()
    (world / "store" / name).write_text("mine")
    refused(tacit(*line(verb, link)), link, state(world), world)


@pytest.mark.parametrize("verb", [verb for verb in FOLDERS if verb != "tune"])
def test_a_link_to_its_own_folder_is_written_through(tacit: Any, world: Path, verb: str) -> None:
    Path("store").mkdir()
    Path("made").symlink_to(world / "store/real")
    for _ in range(2):
        done = tacit(*line(verb, "made"))
        assert done.code == 0, done.err
        assert Path("made").is_symlink()
        assert (world / "store/real" / LIST).is_file()
    (world / "store/real/mine.txt").write_text("mine")
    refused(tacit(*line(verb, "made")), "made/mine.txt", state(world), world)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_device_a_pipe_or_a_circle_of_links_is_refused(tacit: Any, world: Path, verb: str) -> None:
    suffix = Path(out_of(verb)).suffix
    pipe, circle = Path(f"pipe{suffix}"), Path(f"circle{suffix}")
    os.mkfifo(pipe)
    circle.symlink_to(circle)
    for out in (pipe, circle, *(["/dev/null"] if verb in ("audit", "bench", "lab", "fit") else [])):
        refused(tacit(*line(verb, out)), out, state(world), world)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_path_that_cannot_be_is_one_sentence(tacit: Any, world: Path, verb: str) -> None:
    suffix = Path(out_of(verb)).suffix
    for out in (f"a\0b{suffix}", "x" * 300 + suffix, f"votes.jsonl/x{suffix}"):
        before = state(world)
        done = tacit(*line(verb, out))
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert state(world) == before


def test_the_folder_that_one_is_in_is_not_taken_away(tacit: Any, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("made/in").mkdir(parents=True)
    monkeypatch.chdir(world / "made/in")
    for out in (".", ".."):
        done = tacit("fit", "../../votes.jsonl", "--out", out, *QUICK)
        assert (done.code, "is the folder that you are in" in done.err) == (2, True)


# --- the library ------------------------------------------------------------------------------------------------------


def test_save_replaces_a_reward_and_nothing_else(world: Path) -> None:
    import tacit
    from tacit.errors import ArtefactError

    reward: Reward = tacit.load("reward")
    reward.save("other")  # type: ignore[attr-defined]
    reward.save("other")  # type: ignore[attr-defined]
    reward.save("reward")  # type: ignore[attr-defined]  # fit wrote it, and nothing more is in it
    assert {path.name for path in Path("reward").iterdir()} == {path.name for path in Path("other").iterdir()}
    Path("other/votes.jsonl").write_text("mine")
    with pytest.raises(ArtefactError, match=r"other holds other files.*other/votes\.jsonl"):
        reward.save("other")  # type: ignore[attr-defined]
    assert Path("other/votes.jsonl").read_text() == "mine"
    with atomic_directory("policy", "config.json") as folder:
        (folder / "config.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"no reward\.json in it"):
        reward.save("policy")  # type: ignore[attr-defined]
