"""Several processes that tune one policy together, as `accelerate launch` and `torchrun` start them.

Every process holds all weights and works on its share of a step's rows. Losses are already divided by the counts of
the whole step, so that gradients add up: two processes make the step that one would have made, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among all of them; one alone unless told otherwise."""

    rank: int = 0
    world: int = 1

    @classmethod
    def joined(cls) -> Processes:
        """Join the processes that the environment names (RANK, WORLD_SIZE); one alone where it names none."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        import torch.distributed as distributed

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if not distributed.is_initialized():
            distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), world)

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> list[T]:
        """Every world-th row, from that of this rank on."""
        return list(rows[self.rank :: self.world])

    def block(self, rows: Sequence[T]) -> list[T]:
        """This rank's run of consecutive rows, where `world` divides their number."""
        size = len(rows) // self.world
        return list(rows[self.rank * size : (self.rank + 1) * size])

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes, element by element."""
        if self.world > 1:
            import torch.distributed as distributed

            values = values.clone()
            distributed.all_reduce(values)
        return values

    def most(self, value: int) -> int:
        """The largest of all processes' numbers."""
        if self.world == 1:
            return value
        import torch.distributed as distributed

        held = torch.tensor(value)
        distributed.all_reduce(held, distributed.ReduceOp.MAX)
        return int(held)

    def gather(self, value: Any) -> list[Any]:
        """The values (JSON-like, or tensors) of all processes, in the order of ranks."""
        if self.world == 1:
            return [value]
        import torch.distributed as distributed

        every: list[Any] = [None] * self.world
        distributed.all_gather_object(every, value)
        return every

    def concatenated(self, values: Tensor) -> Tensor:
        """The rows of all processes' tensors in the order of ranks; they may differ in number."""
        if self.world == 1:
            return values
        return torch.cat([part.to(values.device) for part in self.gather(values.cpu())])

    def add_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace every gradient by its sum over processes, in one exchange; a missing one counts as zero."""
        if self.world == 1:
            return
        held = list(parameters)
        if not held:
            return
        for parameter in held:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = self.sum(torch.cat([parameter.grad.flatten().float() for parameter in held]))
        start = 0
        for parameter in held:
            stop = start + parameter.numel()
            parameter.grad.copy_(flat[start:stop].view_as(parameter))
            start = stop

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.world > 1:
            import torch.distributed as distributed

            distributed.barrier()
