"""Writing as a Markov decision process (survey section 2.2), exactly: every text that can be written is a state.

A state is a prompt with the tokens written so far, an action the next token of the vocabulary, and the move is
concatenation. After the end token, or after T tokens, a text is finished. The survey keeps each finished text as an
absorbing state of its own; nothing more is earned there, so all of them are one absorbing state here. The reward of a
finished text is paid with the move that finishes it. Each state is reached in one way alone: the occupancy of finishing
moves *is* the distribution of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from tacit.lab.mdp import MDP, Array, Ints, WorldError

Scorer = Callable[[list[str], list[str]], Array]
"""Prompts and completions, in pairs, to rewards (n,); the `score` of any `Reward` is one."""
_MOST = 200_000
END = "</s>"


@dataclass(frozen=True, eq=False)
class TokenMDP(MDP):
    """An MDP of texts: states are laid out prompt by prompt, short texts first; the last state is the finished one."""

    vocabulary: tuple[str, ...] = ()
    """V tokens; the last one ends the text."""
    prompts: tuple[str, ...] = ()
    length: int = 1
    """T, the most tokens of a completion, its end token included."""

    @property
    def texts(self) -> int:
        """Unfinished texts of each prompt: sum of (V - 1)^t for t < T."""
        return (self.states - 1) // len(self.prompts)

    @cached_property
    def written(self) -> tuple[tuple[str, ...], ...]:
        """The tokens of each unfinished text, in the order of the states of one prompt."""
        words = self.vocabulary[:-1]
        return tuple(text for t in range(self.length) for text in product(words, repeat=t))

    @cached_property
    def finishing(self) -> Ints:
        """(N, 2) moves (state, action) that finish a text, prompt by prompt: one for each completion."""
        ends = (self.successors[..., 0] == self.states - 1) & self.live[:, None]
        return np.argwhere(ends)

    @cached_property
    def completions(self) -> tuple[str, ...]:
        """The N completions that `finishing` writes, without the end token."""
        last = len(self.vocabulary) - 1
        done = []
        for state, action in self.finishing:
            words = self.written[state % self.texts] + (() if action == last else (self.vocabulary[action],))
            done.append(" ".join(words))
        return tuple(done)

    def state(self, prompt: str, words: str = "") -> int:
        """The state of an unfinished text; raises `WorldError` for a prompt or token that this world does not have."""
        if prompt not in self.prompts:
            raise WorldError(f"no prompt {prompt!r} in this world. It has: {', '.join(map(repr, self.prompts))}")
        text = tuple(words.split())
        if text not in self.written:
            known = ", ".join(self.vocabulary[:-1])
            raise WorldError(f"{words!r} is no unfinished text of up to {self.length - 1} of the tokens {known}")
        return self.prompts.index(prompt) * self.texts + self.written.index(text)

    def text(self, state: int) -> str:
        """Prompt and words of an unfinished state."""
        if not 0 <= state < self.states - 1:
            raise WorldError(f"state {state} is no unfinished text. Those are 0..{self.states - 2}")
        prompt, place = divmod(state, self.texts)
        return " ".join((self.prompts[prompt], *self.written[place]))

    def distribution(self, occupancy: Array) -> Array:
        """(..., N) probability of each completion and its prompt from visits (..., S, A) at discount 1."""
        state, action = self.finishing.T
        return occupancy[..., state, action]


def token_mdp(
    vocabulary: Sequence[str],
    prompts: Sequence[str],
    max_new_tokens: int,
    reward: Scorer | None = None,
    *,
    end: str = END,
    discount: float = 1.0,
) -> TokenMDP:
    """The MDP of completions of up to `max_new_tokens` of these tokens (and `end`) to these prompts, equally often.

    `reward(prompts, completions)` scores finished texts; None leaves it 0 (survey Table 2: MDP without reward). Raises
    `WorldError` for tokens or prompts given twice, tokens with blanks, and worlds of more than 200,000 states.
    """
    words = tuple(token for token in vocabulary if token != end)
    if len(set(words)) != len(words) or any(len(word.split()) != 1 for word in words) or not words:
        raise WorldError(f"the vocabulary {list(vocabulary)} must hold different tokens without blanks")
    if len(set(prompts)) != len(prompts) or not prompts:
        raise WorldError(f"the prompts {list(prompts)} must differ, and there must be one")
    if max_new_tokens < 1:
        raise WorldError(f"max_new_tokens {max_new_tokens} is below 1")
    width = len(words)
    sizes = width ** np.arange(max_new_tokens, dtype=object)
    texts = int(sum(sizes))
    total = texts * len(prompts) + 1
    if total > _MOST:
        raise WorldError(f"{total:,} states are too many to solve. Take fewer tokens, prompts or steps")
    first = np.cumsum([0, *[int(size) for size in sizes]])
    length = np.repeat(np.arange(max_new_tokens), [int(size) for size in sizes])
    code = np.arange(texts) - first[length]
    following = first[length + 1][:, None] + code[:, None] * width + np.arange(width)
    following[length + 1 == max_new_tokens] = -1
    shift = (np.arange(len(prompts)) * texts)[:, None, None]
    moves = np.where(following < 0, total - 1, following + shift)  # (P, texts, width)
    moves = np.concatenate([moves, np.full((*moves.shape[:2], 1), total - 1)], -1).reshape(-1, width + 1)
    successors = np.concatenate([moves, np.full((1, width + 1), total - 1)])[..., None].astype(np.int64)
    start = np.zeros(total)
    start[np.arange(len(prompts)) * texts] = 1 / len(prompts)
    world = TokenMDP(
        successors,
        np.ones(successors.shape),
        np.zeros((total, width + 1)),
        start,
        discount,
        vocabulary=(*words, end),
        prompts=tuple(prompts),
        length=max_new_tokens,
    )
    if reward is None:
        return world
    state, action = world.finishing.T
    table = np.zeros((total, width + 1))
    table[state, action] = reward([world.prompts[s // texts] for s in state], list(world.completions))
    return world.rewarded(table)


def sky() -> TokenMDP:
    """The survey's example: after "The color of the sky", "is blue" is the text that earns something.

    Solved for the best policy it writes "The color of the sky is blue" and stops.
    """

    def truth(prompts: list[str], completions: list[str]) -> Array:
        return np.array([float(completion == "is blue") for completion in completions])

    return token_mdp(("The", "color", "of", "the", "sky", "is", "blue"), ["The color of the sky"], 3, truth)
