"""What a user meets before any work is done: imports that cost nothing, names that exist, one list of requirements."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tacit

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "sklearn", "scipy", "matplotlib", "pyarrow", "sentence_transformers", "numpy")
PROBE = f"""
import sys
{{body}}
print(",".join(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""


def loaded_by(body: str) -> str:
    """The heavy modules that are loaded after `body` ran in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", PROBE.format(body=body)], capture_output=True, text=True, check=True)
    return done.stderr.strip()


@pytest.mark.parametrize("tokens", [["--help"], ["fit", "--help"], ["audit", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(tokens: list[str]) -> None:
    assert loaded_by(f"from tacit.cli import main\nmain({tokens!r})") == ""


def test_importing_tacit_loads_nothing_heavy() -> None:
    assert loaded_by("import tacit") == ""


@pytest.mark.parametrize("room", ["evidence", "features", "rewards", "audit", "improve", "lab", "demonstrations"])
def test_every_room_has_a_statistical_check_that_is_always_run(room: str) -> None:
    marks = [
        block.split("def ", 1)[0]
        for path in (ROOT / "tests" / room).glob("test_*.py")
        for block in path.read_text("utf-8").split("\n@pytest.mark.statistical")[1:]
    ]
    assert any("mark.slow" not in others and "skipif" not in others for others in marks)


def test_the_probe_sees_a_heavy_import() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_every_exported_name_exists() -> None:
    assert sorted(tacit.__all__) == sorted(tacit._HOMES)
    for name in tacit.__all__:
        assert getattr(tacit, name).__name__ == name
    assert set(tacit.__all__) <= set(dir(tacit))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tacit' has no attribute 'fitt'"):
        _ = tacit.fitt  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_the_version_is_the_same_everywhere(project: dict) -> None:
    assert tacit.__version__ == project["project"]["version"]


def test_extras_and_groups_for_development_agree(project: dict) -> None:
    for name in ("test", "docs"):
        assert project["project"]["optional-dependencies"][name] == project["dependency-groups"][name]


def test_the_extra_all_holds_every_extra_for_users(project: dict) -> None:
    extras = project["project"]["optional-dependencies"]
    listed = extras["all"][0].removeprefix("tacit[").removesuffix("]").split(",")
    assert sorted(listed) == sorted(set(extras) - {"all", "test", "docs", "bench"})


def test_the_licence_is_there(project: dict) -> None:
    assert project["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")
