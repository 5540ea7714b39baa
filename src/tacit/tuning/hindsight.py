"""Hindsight: every answer teaches, each to the instruction that it did satisfy (HIR, Zhang et al. 2023, 2302.05206).

Instructions go from the worst to the best. The policy is asked with the best one in front of the prompt; its answers
are sorted by reward into as many levels, at quantiles of the round or at given edges; and each becomes a demonstration
of its own level's instruction. A reward that is almost always zero still teaches what zero looks like. Rewards that
are right or wrong want an edge between the two: quantiles say nothing of a round whose answers are all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tacit.errors import TacitError
from tacit.policies.contract import Responses, TrainablePolicy
from tacit.tuning import losses
from tacit.tuning.data import as_responses, chunks, take
from tacit.tuning.evaluation import Evaluation
from tacit.tuning.loop import Loss, State, Step
from tacit.tuning.processes import Processes
from tacit.tuning.sampling import Sampler
from tacit.tuning.sparse import instructed, relabelled


class HindsightTuning:
    """A `Method` of the loop; a round is one step.

    Parameters
    ----------
    instructions: at least two texts, from the worst to the best; the sampler and the evaluation ask with the last.
    edges: rewards between them, one fewer; quantiles of each round unless given.
    """

    name = "hindsight"

    def __init__(
        self,
        policy: TrainablePolicy,
        sampler: Sampler,
        steps: int,
        instructions: Sequence[str],
        edges: Sequence[float] | None = None,
        *,
        micro_batch: int = 64,
        evaluation: Evaluation | None = None,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        if len(instructions) < 2:
            raise TacitError(
                "hindsight needs at least two instructions, from the worst to the best. Give --instructions"
            )
        self.policy, self.sampler, self.steps, self.processes = policy, sampler, steps, processes
        self.instructions, self.edges, self.micro_batch = list(instructions), edges, micro_batch
        self.evaluation = evaluation
        sampler.ask = partial(instructed, instruction=self.instructions[-1])
        if evaluation is not None:
            evaluation.ask = sampler.ask

    def modules(self) -> Mapping[str, Any]:
        """The policy's model."""
        return {"policy": self.policy.model}

    def round(self, step: int) -> Iterable[Step]:
        """Sample, relabel, imitate."""
        made, metrics = self.sampler.collect()
        rewards = made.rewards.cpu().numpy()
        everywhere = self.processes.concatenated(made.rewards).cpu().numpy()
        edges = quantile_edges(everywhere, len(self.instructions)) if self.edges is None else np.asarray(self.edges)
        prompts = [prompt for prompt in made.prompts for _ in range(made.n)]
        asked = self.policy.encode(relabelled(prompts, rewards, self.instructions, edges.tolist()))
        lengths, tokens = made.mask.sum(1).tolist(), made.rollout.tokens.tolist()
        said = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
        whole = as_responses(asked, said, made.rewards.device)
        total = float(sum(self.processes.gather(sum(lengths))))
        parts: list[Callable[[], Loss]] = [
            partial(self._part, take(whole, list(rows)), total) for rows in chunks(range(len(said)), self.micro_batch)
        ]
        yield Step(parts, metrics, made.samples())

    def _part(self, responses: Responses, total: float) -> Loss:
        return Loss(losses.sft(self.policy.logprobs(responses).logprobs, responses.mask, tokens=total))

    def evaluate(self) -> dict[str, float]:
        """What fresh samples under the best instruction are worth."""
        return {} if self.evaluation is None else self.evaluation()

    def state(self) -> State:
        """The sampler's."""
        return self.sampler.state()

    def restore(self, state: State) -> None:
        """Take it over."""
        self.sampler.restore(state)

    def save(self, folder: Path) -> None:
        """The policy as a transformers folder."""
        self.policy.save(folder)


def quantile_edges(rewards: np.ndarray, levels: int) -> np.ndarray:
    """Rewards (levels - 1,) that part these rewards (n,) into as many equal shares, and never the best from above.

    Rewards often repeat, and a quantile that is the best reward itself would have nothing above it. Such an edge goes
    half way down to the next reward, so that the best answers keep the best instruction; where all rewards are alike,
    none is above the edges.
    """
    edges: np.ndarray = np.quantile(rewards, np.linspace(0, 1, levels + 1)[1:-1])
    distinct = np.unique(rewards)
    return edges if len(distinct) == 1 else np.minimum(edges, distinct[-2:].mean())
