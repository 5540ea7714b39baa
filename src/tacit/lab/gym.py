"""Worlds of the laboratory as Gymnasium environments; needs the extra `lab`.

    env = tacit.lab.gym.WorldEnv(frozen_lake())

Observations and actions are numbers of states and actions; `info["text"]` is the text of a token world. An absorbing
state terminates an episode, the horizon truncates it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import MissingExtra
from tacit.lab.mdp import MDP
from tacit.lab.tokens import TokenMDP

try:
    import gymnasium
    from gymnasium import spaces
except ImportError:
    raise MissingExtra("lab", "A world as Gymnasium environment") from None


class WorldEnv(gymnasium.Env[np.int64, np.int64]):
    """A world, move by move.

    Rewards are R(s, a), the expectation over where the move leads; an episode's discounted sum has the mean that
    `solve.returns` computes. A horizon of the world, or `steps`, truncates.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, world: MDP, *, steps: int | None = None, render_mode: str | None = None) -> None:
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode {render_mode!r} is unknown. Take None or 'ansi'")
        self.world, self.render_mode = world, render_mode
        self.observation_space: Any = spaces.Discrete(world.states)
        self.action_space: Any = spaces.Discrete(world.actions)
        self.steps = steps if steps is not None else world.horizon
        self._state, self._time = 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin an episode; the options know `state`, to begin there."""
        super().reset(seed=seed)
        state = (options or {}).get("state")
        self._state = int(self.np_random.choice(self.world.states, p=self.world.start) if state is None else state)
        self._time = 0
        return np.int64(self._state), self._info()

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Make a move."""
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not in 0..{self.world.actions - 1}")
        reward = float(self.world.reward[self._state, action])
        text = self._text(int(action))
        outcome = self.np_random.choice(self.world.chances.shape[-1], p=self.world.chances[self._state, action])
        self._state = int(self.world.successors[self._state, action, outcome])
        self._time += 1
        terminated = not bool(self.world.live[self._state])
        truncated = not terminated and self.steps is not None and self._time >= self.steps
        return np.int64(self._state), reward, terminated, truncated, self._info(text)

    def render(self) -> str | None:
        """The text written so far, or the number of the state."""
        return None if self.render_mode is None else str(self._info().get("text", self._state))

    def _text(self, action: int) -> str | None:
        if not isinstance(self.world, TokenMDP) or not self.world.live[self._state]:
            return None
        said = self.world.text(self._state)
        last = action == self.world.actions - 1
        return said if last else f"{said} {self.world.vocabulary[action]}"

    def _info(self, text: str | None = None) -> dict[str, Any]:
        if isinstance(self.world, TokenMDP):
            if self.world.live[self._state]:
                text = self.world.text(self._state)
            return {} if text is None else {"text": text}
        return {}
