"""Files and folders that are saved: complete or not there at all, and never in place of what tacit did not write.

Whatever is written takes shape in a workspace, a hidden folder `.NAME.tacit-1a2b3c4d` beside its target, and is renamed
when it is complete. The workspace is locked while its process lives, so that the next run knows, and removes, what a
killed one left.

A saved folder lists its files in `.tacit.json`, or a reward in its manifest. It is replaced only where it holds no
other file. Nothing is pickled; modes follow the umask.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from tacit.errors import ArtefactError, TacitError

FORMAT = 1
"""Version of the folder layout. A reader refuses a newer one and keeps reading every older one."""

LIST = ".tacit.json"
"""The list of files inside a saved folder."""

_WORKSPACE = re.compile(r"\..*\.tacit-[0-9a-f]{8}")
_NEW, _OLD = "new", "old"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_TEXT = re.compile(r"no space left|quota exceeded|file too large|\d+ requested and \d+ written", re.IGNORECASE)


# --- what may be replaced ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileList:
    """What `.tacit.json` says: who wrote the folder, and which files are in it."""

    verb: str | None = None
    """The verb of the command line that wrote it; None for `save` of the library."""
    files: tuple[str, ...] = ()
    """Every file by its path inside; or, of a run that goes on writing, patterns: `*` stands for part of a name, `/` at
    the end for a folder with a list of its own, `/**` for all that is below."""


def read_list(folder: Path) -> FileList | None:
    """The list in a folder, or that in the manifest of a reward; None where there is none that can be read."""
    for name, key in ((LIST, "files"), ("reward.json", "contents")):
        try:
            value = json.loads((folder / name).read_text("utf-8"))
            return FileList(value.get("verb"), tuple(map(str, value[key])))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    return None


def write_list(folder: Path, verb: str | None, files: Sequence[str]) -> None:
    """Write `.tacit.json`, in place only when complete."""
    with atomic_file(folder / LIST) as path:
        write_json(path, {"format": FORMAT, "verb": verb, "files": sorted(files)})


def foreign_files(folder: Path) -> Iterator[Path]:
    """The files in a folder that its list does not name, all where there is no list. Links count as files."""
    listed = read_list(folder)
    for name in _files(folder):
        if name != PurePosixPath(LIST) and not (listed and _is_listed(folder, name, listed)):
            yield folder / name


def remove_listed(folder: Path, *patterns: str) -> None:
    """Delete the files that a folder's list names and whose paths match one of these patterns; no other file."""
    listed = read_list(folder) or FileList()
    names = [n for n in _files(folder) if is_one_of(str(n), patterns) and _is_listed(folder, n, listed)]
    for name in names:
        (folder / name).unlink()
        with suppress(OSError):  # what still holds something stays
            for above in list(name.parents)[:-1]:
                (folder / above).rmdir()


def remove_saved(folder: Path) -> None:
    """Delete a saved folder, unless it holds a file that its list does not name."""
    if next(foreign_files(folder), None) is None:
        shutil.rmtree(folder)


def is_one_of(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of these patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def require_writable(path: str | Path, *, folder: bool = False) -> None:
    """Raise `ArtefactError` where no file (or folder) can be put at `path`; ask before an hour of work, not after."""
    target = Path(path)
    if "\0" in str(target):
        raise ArtefactError(f"{str(target)!r} holds a NUL character. Choose another --out")
    try:
        there = target.exists()
    except OSError as error:  # a circle of links, a name that is too long
        raise ArtefactError(f"{target} cannot be written: {_reason(error)}. Choose another --out") from error
    if folder and there and not target.is_dir():
        raise ArtefactError(f"{target} is a file. Choose another --out or move the file away")
    if not folder and target.is_dir():
        raise ArtefactError(f"{target} is a folder. Give --out the name of a file")
    if there and not (target.is_dir() or target.is_file()):
        raise ArtefactError(f"{target} is a device or a pipe. Choose another --out: the name of a file")
    if resolved(target).is_symlink():
        raise ArtefactError(f"{target} is a circle of symbolic links. Choose another --out")
    above = next((place for place in resolved(target).parents if place.exists()), target)
    if not above.is_dir():
        raise ArtefactError(f"{target} lies below {above}, which is a file. Choose another path")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ArtefactError(f"{target} cannot be written: {above} is read-only. Choose another path")


def require_replaceable(
    path: str | Path, manifest: str | None = None, verb: str | None = None, *, overwrite: bool = False
) -> None:
    """Raise `ArtefactError` where a folder cannot be put at `path`, or holds anything but what was saved there before.

    What lies there must list its files and hold no other one. Without `overwrite` it must be of the same kind as well:
    written by the same verb, or, where one of the two is the library, with the file `manifest` in it.
    """
    require_writable(path, folder=True)
    target = Path(path)
    if resolved(Path.cwd()).is_relative_to(resolved(target)):
        raise ArtefactError(f"{target} is the folder that you are in, or above it. Choose another --out")
    if not target.is_dir() or next(_files(target), None) is None:
        return
    if (stranger := next(foreign_files(target), None)) is not None:
        raise ArtefactError(f"{target} holds other files. Choose another --out, or move {shown(stranger)} away")
    listed = read_list(target) or FileList()
    if overwrite:
        return
    if verb is not None and listed.verb is not None and verb != listed.verb:
        raise ArtefactError(f"{target} was written by `tacit {listed.verb}`. Choose another --out, or give --overwrite")
    if manifest is not None and not (target / manifest).is_file():
        raise ArtefactError(f"{target} holds other files. Choose another --out: there is no {manifest} in it")


def resolved(path: Path) -> Path:
    """The file or folder itself, behind symbolic links."""
    return Path(os.path.realpath(path))


def files_in(folder: Path) -> list[str]:
    """The files in a folder by their paths inside, without its own list of them."""
    return [str(name) for name in _files(folder) if name != PurePosixPath(LIST)]


def relative_to(value: Any, folder: Path) -> Any:
    """The place of a file or folder relative to `folder`, the same from wherever it is named; other values as they are.

    `hf:` and `array:` before a path stay.
    """
    scheme = next((known for known in ("hf:", "array:") if str(value).startswith(known)), "")
    path = Path(str(value).removeprefix(scheme))
    if not isinstance(value, str | Path) or not os.path.lexists(path):
        return value
    return scheme + os.path.relpath(resolved(path), resolved(folder))


def _files(folder: Path) -> Iterator[PurePosixPath]:
    """Files and links below a folder, sorted; workspaces are left out."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders[:] = sorted(name for name in folders if name not in links and not _WORKSPACE.fullmatch(name))
        for name in sorted([*files, *links]):
            yield PurePosixPath(Path(place, name).relative_to(folder))


def _is_listed(folder: Path, name: PurePosixPath, listed: FileList) -> bool:
    if (folder / name).is_symlink():  # none was ever written
        return False
    text = str(name)
    for pattern in listed.files:
        if text == pattern or _matches(name, pattern):
            return True
        if pattern.endswith("/"):
            for above in list(name.parents)[:-1]:
                inner = read_list(folder / above) if _matches(above, pattern.removesuffix("/")) else None
                rest = name.relative_to(above)
                if inner and (rest == PurePosixPath(LIST) or _is_listed(folder / above, rest, inner)):
                    return True
    return False


def _matches(name: PurePosixPath, pattern: str) -> bool:
    if "*" not in pattern:  # a name may hold brackets
        return str(name) == pattern
    wanted, parts = pattern.split("/"), list(name.parts)
    if wanted[-1] == "**":
        wanted, parts = wanted[:-1], parts[: len(wanted) - 1]
    return len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted))


# --- workspaces -------------------------------------------------------------------------------------------------------


@contextmanager
def workspace(path: str | Path) -> Iterator[Path]:
    """An empty temporary folder beside `path`, gone when the block ends; what killed processes left there goes first.

    A full disk becomes an `ArtefactError` that names `path`.
    """
    target = Path(path)
    missing = [above for above in target.absolute().parents if not above.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    folder, lock = _locked_folder(target)
    try:
        yield folder
    except TacitError:
        raise
    except Exception as error:
        if reason := no_room(error):
            raise ArtefactError(
                f"{shown(target)} cannot be written: {reason}. Free some space, or choose another --out"
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        with suppress(OSError):
            for above in missing:  # those that stayed empty
                above.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Remove the workspaces of processes that were killed; a folder that one had taken away is put back first."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if _WORKSPACE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                left = Path(entry.path)
                if (lock := _lock(left, wait=False)) is not None:
                    for former in left.glob(f"{_OLD}/*"):
                        if not os.path.lexists(folder / former.name):
                            former.rename(folder / former.name)
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(lock)


def shown(path: Path) -> Path:
    """A path as the user knows it: that of the target, where it lies in a workspace."""
    parts = list(path.parts)
    while (at := next((i for i, part in enumerate(parts) if _WORKSPACE.fullmatch(part)), None)) is not None:
        del parts[at : at + 2]
    return Path(*parts)


def no_room(error: BaseException) -> str | None:
    """Why nothing more could be written, where that was it: the disk is full, say."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return _reason(error)
    said = _NO_ROOM_TEXT.search(str(error))
    return said and (said[0].lower() if said[0][0].isalpha() else "no space left on device")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    short = target.name if len(os.fsencode(target.name)) < 200 else target.name[:40]
    while True:
        folder = target.with_name(f".{short}.tacit-{secrets.token_hex(4)}")
        folder.mkdir()
        lock = _lock(folder, wait=True)
        if folder.is_dir():  # nobody took it for a leftover before it was locked
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """The handle of a locked folder, None where another process holds it or the file system locks nothing."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


# --- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def atomic_directory(
    path: str | Path,
    manifest: str | None = None,
    verb: str | None = None,
    *,
    overwrite: bool = False,
    listed: bool = False,
) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` when the block ends well, with a list of its files in it.

    The list is `.tacit.json`, unless the block leaves one in the manifest (`listed`). Raises `ArtefactError` as
    `require_replaceable` does, before the block and again after it.
    """
    require_replaceable(path, manifest, verb, overwrite=overwrite)
    target = resolved(Path(path))
    with workspace(target) as scratch:
        new = scratch / _NEW / target.name
        new.mkdir(parents=True)
        yield new
        files = files_in(new)
        if not listed:
            write_list(new, verb, files)
        mode = new.stat().st_mode & 0o666
        for name in files:
            os.chmod(new / name, mode)
        require_replaceable(path, manifest, verb, overwrite=overwrite)
        if target.exists():
            (scratch / _OLD).mkdir()
            target.rename(scratch / _OLD / target.name)
        new.rename(target)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path of the same name that replaces `path` when the block ends well."""
    require_writable(path)
    target = resolved(Path(path))
    with workspace(target) as scratch:
        new = scratch / _NEW / target.name
        new.parent.mkdir()
        new.touch()
        yield new
        put(new, target)


def put(new: Path, target: Path) -> None:
    """Move a file of a workspace to its target, with the mode that the umask gives."""
    require_writable(target)
    os.chmod(new, new.parent.stat().st_mode & 0o666)
    new.replace(target)


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON; NaN is refused."""
    path.write_text(json_text(value, sort_keys=True) + "\n", "utf-8")


def json_text(value: Any, **options: Any) -> str:
    """Indented JSON in UTF-8; half a character (a lone surrogate), which has no UTF-8, is escaped."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=2, allow_nan=False, **options)
    return text


def read_manifest(folder: str | Path, name: str = "reward.json") -> dict[str, Any]:
    """The manifest of a saved folder, after checking that this version can read it.

    Raises `ArtefactError` where the folder is missing, damaged, or from a newer version.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise ArtefactError(f"{folder} holds no {name}. Give a folder that `tacit fit --out` wrote")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        version = int(manifest["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Fit the reward again") from error
    if version > FORMAT:
        raise ArtefactError(
            f"{path} has format {version}, this tacit reads up to {FORMAT}. Upgrade with: pip install -U tacit"
        )
    return dict(manifest)
