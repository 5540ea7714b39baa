"""YAML of texts, numbers, true and false, lists and mappings: what configurations, judges and recipes are written in.

Anything else that YAML can express is refused, with the file and the row: tags (`!!binary`, `!!set`, `!!python/...`),
keys that stand twice in one mapping (YAML's own rule is that the last one wins without a word), characters that no file
name or text can hold (NUL, half of a surrogate pair), and documents whose aliases expand to more values than a person
writes (a few lines of `&a [*b, *b]` stand for a billion). Dates are read as the text that they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tacit.errors import TacitError

LARGEST_FILE = 16 << 20
"""Bytes of a file."""
MOST_VALUES = 100_000
"""Scalars, lists and mappings of a document, after every alias has been replaced by what it stands for."""
MOST_DIGITS = 400
"""Digits of a whole number."""
DEEPEST = 64
"""Lists and mappings inside each other."""

_TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_WRITE = "Write one `key: value` a line"


class YamlError(TacitError):
    """A file that is no plain YAML; the message names the file, the row and what would be right."""


def read_yaml(path: Path, *, mend: str = _WRITE) -> Any:
    """The value that a YAML file holds, made of str, int, float, bool, None, list and dict; None where it is empty.

    Raises `YamlError` for a file that is larger than `LARGEST_FILE`, is not UTF-8, is not YAML, or holds anything of
    what this module refuses. A file that cannot be opened raises `OSError` as ever.
    """
    import yaml

    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise YamlError(f"{path}: larger than {LARGEST_FILE >> 20} MB, so no file of options. {mend}")
    try:
        loader = _classes()[0](content.decode("utf-8-sig"))
        node = loader.get_single_node()
        if node is None:
            return None
        _Checked(path, mend).walk(node)
        return loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: not readable as YAML (the text is not UTF-8). {mend}") from error
    except RecursionError as error:
        raise YamlError(f"{path}: lists and mappings nested more than {DEEPEST} deep. {mend}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, row {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "a character that YAML forbids"
        raise YamlError(f"{place}: not readable as YAML ({problem}). {mend}") from error
    except (ValueError, LookupError) as error:  # `!!int x`, `!!bool maybe`
        raise YamlError(f"{path}: not readable as YAML ({error}). {mend}") from error


def write_yaml(values: Mapping[str, Any]) -> str:
    """A mapping of texts, numbers, lists and mappings as YAML that `read_yaml` gives back as it was."""
    import yaml

    text: str = yaml.dump(dict(values), Dumper=_classes()[1], sort_keys=True, allow_unicode=True)
    return text


class _Checked:
    """Refuses nodes of a document that are not plain, before anything is built from them."""

    def __init__(self, path: Path, mend: str) -> None:
        self.path, self.mend = path, mend
        self.sizes: dict[int, int] = {}
        """Expanded size of each list and mapping that was walked, by the identity of its node."""

    def walk(self, node: Any, depth: int = 1) -> int:
        """The number of values under a node, itself included, with every alias expanded."""
        import yaml

        if id(node) in self.sizes:
            return self.sizes[id(node)]
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if tag not in _TAGS:
            shown = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(node, f"the tag `{shown}` is not plain YAML", "Write texts, numbers, lists and keys")
        if isinstance(node, yaml.ScalarNode):
            if tag == "int" and len(node.value) > MOST_DIGITS:
                raise self._error(node, f"a number of more than {MOST_DIGITS} digits", "Write a smaller one")
            if _UNWRITABLE.search(node.value):
                raise self._error(node, f"a character that no text holds ({node.value[:40]!r})", "Take it out")
            return 1
        if depth > DEEPEST:
            raise self._error(node, f"lists and mappings nested more than {DEEPEST} deep", self.mend)
        self.sizes[id(node)] = MOST_VALUES  # a list that holds itself never ends
        inner = node.value if isinstance(node, yaml.SequenceNode) else self._keys_and_values(node)
        size = 1
        for child in inner:
            size += self.walk(child, depth + 1)
            if size > MOST_VALUES:
                raise self._error(node, f"more than {MOST_VALUES} values once aliases are expanded", "Write fewer")
        self.sizes[id(node)] = size
        return size

    def _keys_and_values(self, node: Any) -> list[Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise self._error(key, "a list or a mapping as a key", "Give each key a name")
            if (key.tag, key.value) in keys and not key.tag.endswith(":merge"):
                raise self._error(key, f"the key `{key.value[:80]}` stands twice", "Keep one of them")
            keys.add((key.tag, key.value))
        return [child for pair in node.value for child in pair]

    def _error(self, node: Any, reason: str, mend: str) -> YamlError:
        return YamlError(f"{self.path}, row {node.start_mark.line + 1}: {reason}. {mend}")


@cache
def _classes() -> tuple[Any, Any]:
    """PyYAML's safe loader and dumper, with numbers and texts told apart as people write them.

    1e-3 is a number; 2024-01-01, 1:30 and 010 are texts and not a date, 90 and 8.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    class Dumper(yaml.SafeDumper):
        pass

    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:merge")
    resolvers = {
        start: [(tag, pattern) for tag, pattern in several if tag in kept]
        for start, several in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, starts, pattern in _NUMBERS:
        for start in starts:
            resolvers.setdefault(start, []).append((f"tag:yaml.org,2002:{tag}", pattern))
    Loader.yaml_implicit_resolvers = Dumper.yaml_implicit_resolvers = resolvers
    return Loader, Dumper


_NUMBERS = (
    ("int", "-+0123456789", re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$")),
    ("float", "-+.0123456789", re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")),
    ("float", "-+0123456789", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$")),
    ("float", "-+.", re.compile(r"[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$")),
)
