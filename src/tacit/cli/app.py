"""The command itself, the file that --config names, and what several verbs say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclopts import App, ArgumentCollection

from tacit import __version__, terminal
from tacit.options.common import SOURCES, holds_path

if TYPE_CHECKING:
    from tacit.rewards.contract import Reward


def _configure(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what no flag gave from the file that --config names."""
    from cyclopts.config import Dict

    tokens = [token.value for argument in arguments if argument.name == "--config" for token in argument.tokens]
    if not commands or not tokens:
        return
    known = {argument.name.removeprefix("--").replace("-", "_").lower(): argument.hint for argument in arguments}
    paths = {name: holds_path(hint) for name, hint in known.items() if name in SOURCES or holds_path(hint)}
    values = terminal.load_configuration(tokens[0], known.keys() - {"config"}, paths)
    Dict(values, source=tokens[0], use_commands_as_keys=False)(app, commands, arguments)


app = App(
    name="tacit",
    help="Infer the reward that people's behaviour implies, say how far it can be trusted, and use it.",
    version=__version__,
    config=_configure,
)


def usage(reward: Reward) -> dict[str, Any]:
    """Calls, tokens and cost of a reward that asks others."""
    used = getattr(reward, "usage", None)
    return {} if used is None else {"usage": used}
