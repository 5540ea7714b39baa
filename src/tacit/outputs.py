"""What a run may write where: never over what it reads, and never over what another wrote.

A file is replaced only where the same verb wrote it and nobody changed it since, or with --overwrite. Who wrote it
stands in the first line of the configuration that is saved beside it:

    # tacit {"files": {"scores.config.yaml": ["1f..."], "scores.jsonl": ["9c..."]}, "verb": "score"}

with a digest of each file. A folder lists its files itself (`tacit.artefacts`). What is read is never replaced,
whatever the flag. All of it is asked before any work, and again right before a file is moved to its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tacit import artefacts
from tacit.artefacts import resolved
from tacit.errors import ArtefactError, TacitError
from tacit.plain_yaml import read_yaml

_HEAD = b"# tacit {"
CONFIG = ".config.yaml"
_ROWS = (
    *("DATA", "PROMPTS", "--data", "--demonstrations", "--eval-data", "--for", "--gate", "--items", "--learnt"),
    "--test-data",
)
"""What is read file by file where it is a folder, with whatever is put into it."""


@dataclass(frozen=True)
class Output:
    """The file or folder that --out names, the verb that writes it, and what the run reads."""

    verb: str
    path: Path
    inputs: tuple[tuple[str, Path], ...] = ()
    """Flag (or DATA, REWARD, ...) and path of everything that is read."""
    kept: tuple[tuple[str, Path], ...] = ()
    """Flag and path of folders that the run fills and later runs find again, as --cache."""
    overwrite: bool = False

    def require_folder(self, manifest: str) -> None:
        """Raise `ArtefactError` where the folder cannot be put there; ask before any work."""
        artefacts.require_writable(self.path, folder=True)
        self._require_apart(self.path, folder=True)
        artefacts.require_replaceable(self.path, manifest, self.verb, overwrite=self.overwrite)

    @contextmanager
    def folder(self, manifest: str) -> Iterator[Path]:
        """Yield a temporary folder that takes the place of --out when the block ends well."""
        self.require_folder(manifest)
        with artefacts.atomic_directory(self.path, manifest, self.verb, overwrite=self.overwrite) as new:
            yield new
            self._require_apart(self.path, folder=True)

    def require_run(self, *, resume: bool) -> None:
        """Raise `ArtefactError` where a run that writes as it goes on cannot start, or go on, in the folder --out.

        A run that goes on replaces single files: others beside them stay, but none may lie in its subfolders.
        """
        artefacts.require_writable(self.path, folder=True)
        self._require_apart(self.path, folder=True)
        if not resume:
            artefacts.require_replaceable(self.path, None, self.verb, overwrite=self.overwrite)
            return
        listed = artefacts.read_list(self.path)
        inner = {name.split("/")[0] for name in listed.files if "/" in name} if listed else set()
        for stranger in artefacts.foreign_files(self.path):
            top, *below = stranger.relative_to(self.path).parts
            if not listed or (below and artefacts.is_one_of(top, inner)):
                raise ArtefactError(
                    f"{self.path} holds other files. Choose another --out, or move {stranger} away before --resume"
                )

    def require_file(self, target: Path) -> None:
        """Raise `ArtefactError` where this run may not put a file at `target`."""
        artefacts.require_writable(target)
        self._require_apart(target, folder=False)
        if not target.exists() or self.overwrite:
            return
        heads = [head for head in _heads(target.parent) if target.name in head["files"]]
        same = [head for head in heads if head["verb"] == self.verb]
        if any(_digest(target) in head["files"][target.name] for head in same):
            return
        who = f"`tacit {heads[0]['verb']}`" if heads else "another program or person"
        reason = f"was changed since `tacit {self.verb}` wrote it" if same else f"was written by {who}"
        raise ArtefactError(f"{target} {reason}. Choose another --out, or give --overwrite to replace it")

    @contextmanager
    def files(self, *targets: Path) -> Iterator[Files]:
        """Yield what stages these files; the block moves them to their names with `Files.finish`, or not at all."""
        for target in targets:
            self.require_file(target)
        with ExitStack() as stack:
            yield Files(self, targets, stack)

    def _require_apart(self, target: Path, *, folder: bool) -> None:
        out = resolved(target)
        for flag, path in self.inputs:
            if not os.path.lexists(path):
                continue
            names = (resolved(path), resolved(path.parent) / path.name)
            if _same(target, path):
                kind = "folder" if folder else "file"
                raise ArtefactError(f"{target} is the {kind} that is read ({flag}). Choose another --out")
            if folder and any(name.is_relative_to(out) for name in names):
                raise ArtefactError(
                    f"{path} is read ({flag}) and lies in {target}. Choose another --out, or move it away"
                )
            if path.is_dir() and target.is_file() and any(_same(target, file) for file in path.rglob("*")):
                raise ArtefactError(f"{target} is a file of {path}, which is read ({flag}). Choose another --out")
            inside = path.is_dir() and out.is_relative_to(resolved(path))
            if inside and (os.path.lexists(target) or flag in _ROWS):
                raise ArtefactError(f"{target} lies in {path}, which is read ({flag}). Choose another --out")
        for flag, path in self.kept if folder else ():
            if resolved(path).is_relative_to(out):
                raise ArtefactError(f"{flag} {path} lies in --out {target}. Choose another folder for one of them")


class Files:
    """The files of a run, written in a workspace, and moved to their names together."""

    def __init__(self, output: Output, targets: Sequence[Path], stack: ExitStack) -> None:
        self.output, self.targets = output, targets
        self._stack, self._places = stack, dict[Path, Path]()
        self._new: dict[Path, Path] = {}

    def new(self, target: Path) -> Path:
        """The temporary path of a file."""
        if target not in self.targets:
            raise ValueError(f"{target} was not announced")
        parent = resolved(target).parent
        if parent not in self._places:
            self._places[parent] = self._stack.enter_context(artefacts.workspace(resolved(target))) / "new"
            self._places[parent].mkdir()
        self._new[target] = self._places[parent] / target.name
        return self._new[target]

    def finish(self, config: Path, text: str) -> None:
        """Move all files to their names, with the configuration `text` beside them that says who wrote them.

        The configuration goes first and names the files as they will be and as they were, so that a run which is killed
        in between leaves none that nobody knows.
        """
        digests = {target.name: [_digest(new)] for target, new in self._new.items()}
        digests[config.name] = [_text_digest(text)]
        before = {name: self._before(config.with_name(name)) for name in digests}
        self._configure(config, text, {name: [*new, *before[name]] for name, new in digests.items()})
        for target, new in self._new.items():
            if target != config:
                self.output.require_file(target)
                artefacts.put(new, resolved(target))
        if any(before.values()):
            self._configure(config, text, digests)

    def _before(self, target: Path) -> list[str]:
        """The digest of a file that is there, where the same verb wrote it."""
        if not target.exists():
            return []
        digest = _digest(target)
        heads = [head for head in _heads(target.parent) if head["verb"] == self.output.verb]
        return [digest] if any(digest in head["files"].get(target.name, ()) for head in heads) else []

    def _configure(self, config: Path, text: str, digests: Mapping[str, Sequence[str]]) -> None:
        head = {
            "verb": self.output.verb,
            "files": {name: list(dict.fromkeys(every)) for name, every in digests.items()},
        }
        new = self.new(config)
        new.write_text(f"# tacit {json.dumps(head, sort_keys=True)}\n{text}", "utf-8")
        self.output.require_file(config)
        artefacts.put(new, resolved(config))


def _same(target: Path, other: Path) -> bool:
    try:
        return target.samefile(other)
    except OSError:  # a link that leads nowhere
        return False


def _heads(folder: Path) -> list[dict[str, Any]]:
    """What the configurations in a folder say of the files beside them."""
    heads = []
    for path in sorted(folder.glob(f"*{CONFIG}")):
        try:
            with path.open("rb") as file:
                line = file.readline()
            head = json.loads(line.removeprefix(b"# tacit")) if line.startswith(_HEAD) else {}
            if isinstance(head.get("files"), dict) and isinstance(head.get("verb"), str):
                heads.append(head)
        except (OSError, ValueError, RecursionError):
            continue
    return heads


def _digest(path: Path) -> str:
    """Digest of a file; of a configuration without its first line, which holds the digest."""
    with path.open("rb") as file:
        if not file.readline(len(_HEAD)).startswith(_HEAD):
            file.seek(0)
        else:
            file.readline()
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def named_in(recipe: Path) -> list[Path]:
    """The files and folders that a YAML file names, in any of its keys: what a recipe is made of is read as well."""
    if recipe.suffix not in (".yaml", ".yml") or not recipe.is_file():
        return []
    try:
        value = read_yaml(recipe)
    except (OSError, TacitError):  # whoever reads the recipe says what is wrong
        return []
    paths, todo, seen = list[Path](), [value], set[int]()
    while todo:
        node = todo.pop()
        if isinstance(node, str) and node and "\0" not in node:
            path = recipe.parent / node
            if len(node) < 4096 and os.path.lexists(path) and path != recipe.parent:
                paths.append(path)
        elif isinstance(node, dict | list) and id(node) not in seen:
            seen.add(id(node))
            todo += node.values() if isinstance(node, dict) else node
    return paths
