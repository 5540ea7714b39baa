"""Weights, gradients and optimiser states shared out over processes: PyTorch's FSDP2, layer by layer.

`accelerate launch` with `distributed_type: FSDP` and `fsdp_version: 2` asks for it through the environment. Each of W
processes then keeps 1/W of every weight, of its gradient and of AdamW's moments (ZeRO-3, Rajbhandari et al. 2020, arXiv
1910.02054; Zhao et al. 2023, arXiv 2304.11277). A run alternates between two states, the same in all processes:

    sharded     steps. A layer's weights are gathered for its forward and its backward pass, and its gradients are
                summed over processes as they are shared out. Every process must make as many passes as every other:
                one with fewer rows makes up for it with passes over a single token whose gradient is zero.
    gathered    sampling, credit, evaluation, saving. A second model without shards holds all weights, so that processes
                may make as many passes as they like. Its memory is given back before the next step.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.models.checkpoint import device_named
from tacit.policies import stock
from tacit.policies.contract import Responses, Rollout, TokenScores
from tacit.policies.scores import token_scores
from tacit.policies.transformer import TransformerPolicy, auto_dtype, spread, token_order, width_of
from tacit.tuning.processes import Processes

if TYPE_CHECKING:
    from tacit.tuning.loop import Loss, Method, Step

_REFUSED = {
    "FSDP_OFFLOAD_PARAMS": "fsdp_offload_params",
    "FSDP_ACTIVATION_CHECKPOINTING": "fsdp_activation_checkpointing",
}
"""Options of accelerate that change what is computed where, and that are not followed here."""


@dataclass(frozen=True)
class Sharding:
    """What accelerate's configuration says, as far as it is followed."""

    reshard_after_forward: bool = True
    """Give a layer's weights back between its forward and its backward pass; faster without, with more memory."""
    layers: tuple[str, ...] = ()
    """Classes of the layers; those that the model names itself unless given."""


def asked(processes: Processes) -> Sharding | None:
    """The sharding that the environment asks for; None for whole weights, or for one process alone.

    Raises `TacitError` for FSDP1, and for options that are not followed.
    """

    def on(name: str, default: str = "false") -> bool:
        return os.environ.get(name, default).strip().lower() in ("1", "true", "yes", "on")

    if not on("ACCELERATE_USE_FSDP") or processes.world == 1:
        return None
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise TacitError(
            "weights are sharded with FSDP2 alone. Write `fsdp_version: 2` into accelerate's configuration"
        )
    for name, option in _REFUSED.items():
        if on(name):
            raise TacitError(f"`{option}` is not followed. Write `{option}: false` into accelerate's configuration")
    # transformers would otherwise load weights in one process alone, those of references and rewards among them.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    named = os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP", "").replace(" ", "").split(",")
    reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() not in ("false", "no_reshard")
    return Sharding(reshard, tuple(name for name in named if name and name != "None"))


def refuse(method: str, processes: Processes) -> None:
    """Raise `TacitError` where sharding is asked for and this method knows none."""
    if asked(processes) is not None:
        raise TacitError(
            f"`tacit tune {method}` keeps all weights in each process. Launch it without FSDP (distributed_type: "
            "MULTI_GPU)"
        )


class ShardedPolicy(TransformerPolicy):
    """A policy whose trained weights are sharded; `model` holds this process's share as DTensors.

    Parameters
    ----------
    whole: the policy, in float32 in the memory of the processor; it becomes the one that samples.
    processes: those that share it.
    sharding: what `asked` gave.
    device: where to compute; CUDA if there is one unless given.
    dtype: of matrix products, as for `TransformerPolicy`; "auto" asks that device.

    Raises `TacitError` for adapters, and for a model whose layers are not known.
    """

    def __init__(
        self,
        whole: TransformerPolicy,
        processes: Processes,
        sharding: Sharding,
        *,
        device: str | None = None,
        dtype: str = "auto",
    ) -> None:
        if hasattr(whole.model, "disable_adapter"):
            raise TacitError("--lora trains few weights, and they are not sharded. Launch it without FSDP")
        if not stock.linear_head(whole.model):
            raise TacitError(f"the logits of {whole.name} are no linear map of its states. Use another model")
        place = torch.device(device_named(device))
        whole.dtype = auto_dtype(place, width_of(whole.model)) if dtype == "auto" else getattr(torch, dtype)
        self.whole, self.processes, self._reference = whole, processes, None
        self.tokenizer, self.name, self.folder, self.codec = whole.tokenizer, whole.name, whole.folder, whole.codec
        self.dtype, self.own_pass = whole.dtype, False
        if whole.folder is None:
            whole.reference().model.to(place)  # a copy, made while the weights are here
        whole.model.requires_grad_(True).eval()
        self.model = _taken_from(whole.model)
        self._passes = _shard(self.model, place, processes, sharding, self.dtype)
        self.gathered = False
        whole.model.to(place)

    # --- the two states ---------------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Hold all weights in each process, until `release`; every process must call it."""
        if self.gathered:
            return
        held = dict(self.whole.model.named_parameters())
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                held[name].data = whole_of(parameter)
        self.gathered = True

    def release(self) -> None:
        """Go back to this process's share."""
        if not self.gathered:
            return
        for parameter in self.whole.model.parameters():
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=self.device)
        self.gathered = False

    # --- what a policy does -----------------------------------------------------------------------------------------

    def rollout(self, *args: Any, **options: Any) -> Rollout:
        """As all weights sample; only between `gather` and `release`."""
        return self._whole().rollout(*args, **options)

    def logprobs(
        self, responses: Responses, *, temperature: float = 1.0, entropy: bool = False, hidden: bool = False
    ) -> TokenScores:
        """As `TransformerPolicy.logprobs`. In the sharded state every process must call it as often as every other."""
        if self.gathered:
            return self.whole.logprobs(responses, temperature=temperature, entropy=entropy, hidden=hidden)
        device = self.device
        mask_BT, tokens_BT = responses.mask.to(device), responses.tokens.to(device)
        batches = list(stock.row_batches(responses, device.type))
        parts = []
        for number in range(max(1, self.processes.most(len(batches)))):
            if number < len(batches):
                rows = torch.from_numpy(batches[number]).to(device)
                targets_N = tokens_BT[rows][mask_BT[rows]]
                inputs = stock.padded(responses, batches[number], device)
                parts.append(self._passes(*inputs, targets_N, temperature or 1.0, entropy))
            else:
                idle = self._passes(*_one_token(device), temperature or 1.0, entropy)
                parts.append(tuple(part[:0] for part in idle))
        logp_N, entropy_N, states_ND = (torch.cat(found) for found in zip(*parts, strict=True))
        order_N, places_N = token_order(batches, mask_BT)
        return spread(mask_BT, order_N, places_N, logp_N, entropy_N if entropy else None, states_ND if hidden else None)

    def idle(self) -> Loss:
        """The loss of a part without rows: 0, and a pass with every layer."""
        from tacit.tuning.loop import Loss

        passes = max(1, self.processes.most(0))
        found = [self._passes(*_one_token(self.device), 1.0, False)[0] for _ in range(passes)]
        return Loss(0.0 * torch.cat(found).sum())

    def reference(self) -> TransformerPolicy:
        """The policy as it was loaded, whole in each process."""
        return self.whole.reference()

    def save(self, folder: str | Path) -> None:
        """A transformers folder, written by the process that calls it; only between `gather` and `release`."""
        self._whole().save(folder)

    def _whole(self) -> TransformerPolicy:
        if not self.gathered:
            raise RuntimeError("the weights are sharded: call `gather` in every process first")
        return self.whole


class _Passes(torch.nn.Module):
    """The root of a sharded model: one padded pass, from token ids to what is said of the targets.

    The head is read here, so that its weights are there while it is.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(
        self, ids_BT: Tensor, real_BT: Tensor, wanted_BT: Tensor, targets_N: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (N,), entropies (N,) or nothing (0,), and the states (N, d) before the targets."""
        states_ND = stock.last_states(self.model, ids_BT, real_BT)[wanted_BT]
        linear = self.model.get_output_embeddings()
        logp_N, entropy_N = token_scores(
            states_ND, linear.weight, targets_N, bias_V=getattr(linear, "bias", None), temperature=temperature,
            entropy=entropy, dtype=self.dtype,
        )  # fmt: skip
        return logp_N, logp_N.new_zeros(0) if entropy_N is None else entropy_N, states_ND


def _one_token(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a pass reads that teaches nothing."""
    one = torch.ones(1, 1, dtype=torch.int64, device=device)
    return torch.zeros_like(one), one, one.bool(), torch.zeros_like(one[0])


def _taken_from(model: Any) -> Any:
    """A model of the same modules with the very parameters of this one, which is left with empty ones."""
    taken = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    empty = {
        id(parameter): torch.nn.Parameter(parameter.new_empty(0), parameter.requires_grad)
        for parameter in model.parameters()
    }
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = empty[id(parameter)]
    return taken


def _shard(model: Any, device: torch.device, processes: Processes, sharding: Sharding, dtype: torch.dtype) -> Any:
    """The root module of a model whose layers are sharded, in place."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    names = sharding.layers or tuple(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise TacitError(
            f"the model has no layers of class {', '.join(names) or '?'}. Name theirs in accelerate's configuration: "
            "fsdp_transformer_layer_cls_to_wrap"
        )
    mesh = init_device_mesh(device.type, (processes.world,))
    precision = MixedPrecisionPolicy(param_dtype=None if dtype is torch.float32 else dtype, reduce_dtype=torch.float32)
    passes = _Passes(model, dtype)
    for module in (*layers, passes):
        again = sharding.reshard_after_forward or module is passes
        fully_shard(module, mesh=mesh, reshard_after_forward=again, mp_policy=precision)
    for module in passes.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are divided already: gradients are summed
            module.set_force_sum_reduction_for_comms(True)
    return passes


# --- what the loop and checkpoints ask --------------------------------------------------------------------------------


def policy_of(method: Method) -> ShardedPolicy | None:
    """The sharded policy that a method tunes, if it does."""
    found = getattr(method, "policy", None)
    return found if isinstance(found, ShardedPolicy) else None


def gather(method: Method) -> None:
    """Hold all weights in each process; nothing where they are whole."""
    if (policy := policy_of(method)) is not None:
        policy.gather()


def dealt(method: Method, steps: Iterable[Step]) -> Iterator[Step]:
    """The steps of a round, dealt with weights gathered where the method reads its policy first, and made without."""
    policy = policy_of(method)
    if policy is None:
        yield from steps
        return
    if getattr(method, "reads_policy", True):
        policy.gather()
    for step in steps:
        policy.release()
        yield step


def is_sharded(value: Any) -> bool:
    """Whether a tensor is a share of a larger one."""
    return hasattr(value, "full_tensor")  # a DTensor, whose module takes long to import


def whole_of(value: Any) -> Tensor:
    """All of a tensor; every process must call it for a sharded one."""
    found: Tensor = value.full_tensor() if is_sharded(value) else value
    return found.detach()


def shared_like(value: Tensor, like: Any) -> Any:
    """This process's share of a whole tensor, where `like` is sharded and of its shape; else the tensor."""
    if not is_sharded(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def clip(parameters: Mapping[str, Any], limit: float, processes: Processes) -> float:
    """Scale gradients down to a norm of at most `limit`; the norm over all shares that they had."""
    held = [p for p in parameters.values() if p.grad is not None]
    if not any(is_sharded(p) for p in held):
        return float(torch.nn.utils.clip_grad_norm_(held, limit))
    own = [(p.grad.to_local() if is_sharded(p) else p.grad, is_sharded(p)) for p in held]
    squares = [torch.zeros((), dtype=torch.float64, device=own[0][0].device) for _ in range(2)]
    for gradient, shared in own:
        squares[int(shared)] += torch.linalg.vector_norm(gradient.float()).double().square()
    norm = float((squares[0] + processes.sum(squares[1])).sqrt())
    if math.isfinite(norm):
        torch._foreach_mul_([gradient for gradient, _ in own], min(1.0, limit / (norm + 1e-6)))
    return norm
