"""What can happen to a file: to its bytes, its values, its columns, its structure. Everything follows from a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from documents import DOCUMENTS, Raw, Rows

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 0.5, -0.0, 17.0, 3, 1e15, 1e16, 1e308, -1e308, 1e-308, 2**31, 2**63, 10**30),
    *(float("nan"), float("inf"), float("-inf"), Raw("1e400"), Raw("9" * 5000), Raw("-" + "9" * 330)),
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\ud83d",
        Raw('"\\ud83d"'),
        "\u2028",
        "\r\n",
        "\r",
        "\t",
        "é" * 300,
        "x" * 200_000,
        "👍👎",
    ),
    *("NaN", "null", "None", "true", "no", "1", "0", "-inf", "1/0", "3/5", "★★★", "tie", "A", "b", "both bad", "=1+1"),
    *(
        "[",
        "[]",
        "{}",
        '{"a": 1}',
        '["a"]',
        '"',
        "<|endoftext|>",
        "{prompt}",
        "$(id)",
        "../../x",
        "https://",
        "a" * 300,
    ),
    *([], {}, [None], [[]], [{}], {"a": None}, [1, "a"], ["a", "b"], [True, None], {"": ""}, [[["a"]]]),
    *({"role": "user"}, [{"role": "user", "content": None}], [{"role": 3, "content": "x"}], [{"content": "x"}]),
    *([{"role": "user", "content": [None]}], [{"role": "user", "content": [{"type": "text", "text": None}]}]),
    *([{"role": "user", "content": [{"type": "image", "image": "x.png"}]}], [{"role": "assistant", "content": "hi"}]),
    *([{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],),
    *([{"role": "tool", "content": 3}], [{"role": "user", "content": {"a": 1}}], [["user", "hi"]]),
    *(datetime(2024, 1, 2, 3, 4, 5, 678901), datetime(2024, 1, 2, tzinfo=UTC), date(1, 1, 1), timedelta(days=-1)),
    *(Decimal("1.50"), Decimal("NaN"), b"\xff\x00", b"", b"text", Raw("[" * 150 + "]" * 150)),
    *(Raw("[" * 400 + "]" * 400), Raw("[" * 9000), Raw("[" * 9000 + "]" * 9000), Raw('{"a":' * 300 + "1" + "}" * 300)),
)
"""Replacements of a value: what other programs write, what people type, and what nobody should."""

NAMES = (
    *(
        "prompt",
        "chosen",
        "rejected",
        "completion",
        "completions",
        "label",
        "labels",
        "score",
        "ranks",
        "tie",
        "margin",
    ),
    *(
        "weight",
        "annotator",
        "group",
        "winner",
        "loser",
        "instruction",
        "input",
        "output",
        "system",
        "question",
        "answer",
    ),
    *(
        "context",
        "messages",
        "reward",
        "rating",
        "thumbs",
        "votes",
        "preference",
        "a1",
        "a2",
        "response_a",
        "response1",
    ),
    *("annotator1", "annotations", "data", "message_tree_id", "reward_model", "continuations", "gold", "id", "text"),
    *("checker", "template", "chosen_first", "rejected_prompt", "step", "kl", "", " prompt", "Prompt", "model_config"),
    *("self", "__class__", "items", "choices", "annotation_id", "instances", "a\nb", "x" * 500, "\u202etxt"),
)
"""Names of columns that layouts know, and some that none does."""

Mutation = Callable[[Any, random.Random], Any]


# --- bytes ---


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip bits, cut off, splice, repeat, blank out, overwrite lengths; once or several times."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if not changed:
            break
        at, other = rng.randrange(len(changed)), rng.randrange(len(changed))
        size = rng.choice([1, 4, 16, 200])
        match rng.randrange(8):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = changed[other : other + size]
            case 3:
                changed[at : at + size] = changed[other : other + size]
            case 4:
                changed[at : at + size] = bytes(len(changed[at : at + size]))
            case 5:
                del changed[at : at + size]
            case 6:
                number = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62])
                changed[at : at + 8] = number.to_bytes(8, "little")[: len(changed[at : at + 8])]
            case 7:
                changed[at:at] = rng.choice([b"\0", b"\xff", b"\r", b'"', b"\n\n", b"\xef\xbb\xbf", b"{", b"]", b",,"])
    return bytes(changed)


# --- JSON-like values ---


def _spots(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a value."""
    keys: list[Any] = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    return [(value, key) for key in keys] + [spot for key in keys for spot in _spots(value[key])]


def mutated_value(value: Any, rng: random.Random) -> Any:
    """A copy with one to three values inside replaced, dropped, renamed or repeated."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 2, 3])):
        spots = _spots(changed)
        if not spots:
            return copy.deepcopy(rng.choice(VALUES))
        container, key = rng.choice(spots)
        match rng.randrange(6):
            case 0 | 1 | 2:
                container[key] = copy.deepcopy(rng.choice(VALUES))
            case 3:
                del container[key]
            case 4 if isinstance(container, dict):
                container[rng.choice(NAMES)] = container.pop(key)
            case 4 | 5 if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[rng.randrange(len(container))]))
            case _:
                container[rng.choice(NAMES)] = copy.deepcopy(rng.choice(VALUES))
    return changed


# --- rows ---


def _alike(value: Any, rng: random.Random) -> Any:
    """Another value of the same type, up to the ends of what the type allows."""
    if isinstance(value, bool):
        return rng.random() < 0.5
    if isinstance(value, str):
        return rng.choice([v for v in VALUES if isinstance(v, str) and not isinstance(v, Raw)])
    if isinstance(value, int):
        return rng.choice([0, 1, 2, 3, 10**9, 2**31, 17])
    if isinstance(value, float):
        return rng.choice([0.0, -0.0, 1.0, 1e15, 1e-300, 1e-30, 0.5, 3.0, -1e15])
    if isinstance(value, list):
        return rng.choice([value[::-1], value * 2, value[:1], value[:2], [_alike(inner, rng) for inner in value]])
    return {key: _alike(inner, rng) for key, inner in value.items()} if isinstance(value, dict) else value


def values_of_the_type(rows: Rows, rng: random.Random) -> Rows:
    """A column in which some or all values are others of their type: rows that are sound, and strange."""
    name, share = rng.choice(list(rows[0])), rng.choice([0.05, 0.5, 1.0])
    return [{**row, name: _alike(row[name], rng)} if rng.random() < share else row for row in rows]


def one_value_of_the_type(rows: Rows, rng: random.Random) -> Rows:
    """A column with one and the same value of its type."""
    name = rng.choice(list(rows[0]))
    value = _alike(rows[0][name], rng)
    return [{**row, name: copy.deepcopy(value)} for row in rows]


def more_columns(rows: Rows, rng: random.Random) -> Rows:
    """Further columns of anything."""
    for _ in range(rng.choice([1, 3])):
        rows = [{**row, rng.choice(NAMES[-9:]): copy.deepcopy(rng.choice(VALUES))} for row in rows]
    return rows


def some_values(rows: Rows, rng: random.Random) -> Rows:
    """A few values somewhere in the rows, nested ones too."""
    for _ in range(rng.choice([1, 1, 5])):
        row = rng.randrange(len(rows))
        rows[row] = mutated_value(rows[row], rng)
    return rows


def one_value_everywhere(rows: Rows, rng: random.Random) -> Rows:
    """The same replacement in a column of every row."""
    name, value = rng.choice(list(rows[0])), rng.choice(VALUES)
    return [{**row, name: copy.deepcopy(value)} for row in rows]


def alternating_values(rows: Rows, rng: random.Random) -> Rows:
    """A column of two or three values of any type, as codes and verdicts are."""
    name, values = rng.choice([*rows[0], rng.choice(NAMES)]), rng.choices(VALUES, k=rng.choice([2, 3]))
    return [{**row, name: copy.deepcopy(values[i % len(values)])} for i, row in enumerate(rows)]


def renamed_column(rows: Rows, rng: random.Random) -> Rows:
    """A column under another name."""
    old, new = rng.choice(list(rows[0])), rng.choice(NAMES)
    return [{new if name == old else name: value for name, value in row.items()} for row in rows]


def dropped_column(rows: Rows, rng: random.Random) -> Rows:
    """A column less."""
    old = rng.choice(list(rows[0]))
    return [{name: value for name, value in row.items() if name != old} for row in rows]


def repeated_column(rows: Rows, rng: random.Random) -> Rows:
    """A column that stands under a second name as well."""
    old, new = rng.choice(list(rows[0])), rng.choice(NAMES)
    return [{**row, new: copy.deepcopy(row[old])} for row in rows]


def swapped_columns(rows: Rows, rng: random.Random) -> Rows:
    """Two columns that changed names."""
    a, b = rng.choice(list(rows[0])), rng.choice(list(rows[0]))
    return [{**row, a: row[b], b: row[a]} for row in rows]


TYPES: tuple[Callable[[Any], Any], ...] = (
    *(str, repr, bool, lambda v: [v], lambda v: {"value": v}, lambda v: len(str(v)), lambda v: float(len(str(v)))),
    *(lambda v: str(v).encode(), lambda v: datetime(2024, 1, 1) + timedelta(len(str(v))), lambda v: str(len(str(v)))),
    *(lambda v: Decimal(len(str(v))), lambda v: [{"role": "user", "content": v}]),
)
"""Other types for a value."""


def retyped_column(rows: Rows, rng: random.Random) -> Rows:
    """A column of another type."""
    name = rng.choice(list(rows[0]))
    as_type = rng.choice(TYPES)
    return [{**row, name: as_type(row[name])} for row in rows]


def mixed_kinds(rows: Rows, rng: random.Random) -> Rows:
    """Rows of another document among these."""
    other = copy.deepcopy(DOCUMENTS[rng.choice(sorted(DOCUMENTS))])
    at = rng.randrange(len(rows) + 1)
    return rows[:at] + other[: rng.choice([1, 5, len(other)])] + rows[at:]


def strange_rows(rows: Rows, rng: random.Random) -> Rows:
    """Rows that are no objects."""
    rows.insert(rng.randrange(len(rows) + 1), copy.deepcopy(rng.choice(VALUES)))
    return rows


def few_rows(rows: Rows, rng: random.Random) -> Rows:
    """None, one, two, or one over and over."""
    return rng.choice([[], rows[:1], rows[:2], rows[:3], rows[:1] * 12, [{}], [{}] * 9])


ROWS: tuple[Mutation, ...] = (
    *(values_of_the_type, values_of_the_type, values_of_the_type, one_value_of_the_type, more_columns, more_columns),
    *(some_values, some_values, some_values, one_value_everywhere, alternating_values, renamed_column, dropped_column),
    *(repeated_column, swapped_columns, retyped_column, mixed_kinds, strange_rows, few_rows),
)


def mutated_rows(rows: Rows, rng: random.Random) -> Rows:
    """A copy of the rows after one or two mutations."""
    changed = copy.deepcopy(rows)
    for _ in range(rng.choice([1, 1, 1, 2])):
        if changed and all(isinstance(row, dict) and row for row in changed):
            changed = rng.choice(ROWS)(_aligned(changed), rng)
    return changed


def _aligned(rows: Rows) -> Rows:
    """Rows with the columns of the first one at least, so that column mutations find them."""
    return [{**dict.fromkeys(rows[0]), **row} for row in rows]


# --- YAML ---

SNIPPETS = (
    *(
        "seed: 2024-01-01\n",
        "seed: !!binary aGk=\n",
        "name: !!python/object/apply:os.getcwd []\n",
        "seed: 1\nseed: 2\n",
    ),
    *("a: &a [x, x]\nb: &b [*a, *a]\n", "x: &x [*x]\n", "<<: {seed: 3}\n", "? [a]\n: 1\n", 'out: "a\\0b"\n', "- a\n"),
    *("name: [" * 200, "seed: 1e400\n", "seed: 0x\n", "\t seed: 1\n", "%YAML 9.9\n---\n", "---\n---\n", "seed: 1:30\n"),
    *("&a " * 50, "seed: .nan\n", 'name: "\\ud800"\n', "seed: " + "9" * 6000 + "\n", "= : 3\n", "*a : 1\n", "!!str\n"),
    *("".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(12)),),
)


def mutated_yaml(value: Any, rng: random.Random) -> bytes:
    """A YAML document with values, text or bytes changed."""
    import yaml

    if rng.random() < 0.5:
        value = mutated_value(value, rng)
    text = yaml.dump(_dumpable(value), allow_unicode=True)
    if rng.random() < 0.4:
        lines = text.splitlines(keepends=True)
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(SNIPPETS))
        text = "".join(lines)
    content = text.encode("utf-8", "surrogatepass")
    return mutated_bytes(content, rng) if rng.random() < 0.3 else content


def _dumpable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _dumpable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_dumpable(inner) for inner in value]
    if isinstance(value, Decimal | timedelta | Raw):
        return str(value)[:200]
    return value
