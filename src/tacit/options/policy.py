"""The options of the verbs that run policies: `tacit generate` and `tacit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

from tacit.errors import TacitError
from tacit.options.common import Caching, Caution, Flag, Many, Reading, Writing

if TYPE_CHECKING:
    from tacit.policies.contract import Policy, Sampling

_Sampling = Parameter(group="Sampling")
_Policy = Parameter(group="Policy")


class GenerateOptions(Reading, Caution, Caching, Writing):
    """Options of `tacit generate`."""

    out: Path
    """File of the samples: .jsonl, .csv, .tsv (each also .gz) or .parquet."""
    n: Annotated[int, Field(ge=1)] = 1
    """Samples of each prompt."""
    reward: Path | None = None
    """Folder of a reward, or a YAML file that describes one: every sample is scored."""
    best: Annotated[bool, Flag] = False
    """Keep only the best of each prompt's samples, by --reward."""
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False
    """With --best: all samples and their scores as lists beside the best."""
    limit: Annotated[int | None, Field(ge=1)] = None
    """Use only the first prompts, this many."""
    max_new_tokens: Annotated[int, Field(ge=1), _Sampling] = 256
    """Most tokens of a sample."""
    temperature: Annotated[float, Field(ge=0), _Sampling] = 1.0
    """0 takes the likeliest token always."""
    top_k: Annotated[int, Field(ge=0), _Sampling] = 0
    """Only the k likeliest tokens; 0 keeps all."""
    top_p: Annotated[float, Field(gt=0, le=1), _Sampling] = 1.0
    """Only the likeliest tokens that reach this probability together."""
    min_p: Annotated[float, Field(ge=0, le=1), _Sampling] = 0.0
    """Only tokens at least this many times as likely as the likeliest."""
    stop: Annotated[tuple[str, ...], Many, _Sampling] = ()
    """Texts that end a sample; they are left out of it."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], _Policy] = "auto"
    """Precision of matrix products; auto: bfloat16 where the device computes it faster."""
    device: Annotated[str | None, _Policy] = None
    """Where to run; CUDA if there is one unless given."""
    chat_template: Annotated[Path | None, _Policy] = None
    """File of a chat template (Jinja) in place of the model's own, which may refuse a system message."""
    model: Annotated[str | None, _Policy] = None
    """Name of the model, where the policy is the address of a server."""
    api: Annotated[Literal["chat", "completions"], _Policy] = "chat"
    """Which of a server's two interfaces."""
    key_env: Annotated[str | None, _Policy] = None
    """Environment variable that holds a server's key; OPENAI_API_KEY, if set, unless given."""
    concurrency: Annotated[int, Field(ge=1), _Policy] = 16
    """Calls to a server under way at once."""
    timeout: Annotated[float, Field(gt=0), _Policy] = 300.0
    """Seconds that a call to a server may take."""
    logprobs: Annotated[bool, Flag, _Policy] = False
    """Ask a server for log-probabilities."""

    def sampling(self) -> Sampling:
        """How to draw."""
        from tacit.policies.contract import Sampling

        return Sampling(self.max_new_tokens, self.temperature, self.top_k, self.top_p, self.min_p, self.stop, self.seed)

    def open(self, policy: str) -> Policy:
        """The policy in a folder or file, or behind an address."""
        from tacit.policies.opening import open_policy

        if (self.best or self.all_) and self.reward is None:
            raise TacitError("--best needs a reward to choose by. Name it: --reward")
        if self.all_ and not self.best:
            raise TacitError("--all goes with --best; without it every sample is a row of its own")
        return open_policy(
            policy, model=self.model, api=self.api, key_env=self.key_env, concurrency=self.concurrency,
            timeout=self.timeout, logprobs=self.logprobs, dtype=self.dtype, device=self.device,
            chat_template=self.chat_template,
        )  # fmt: skip


class ConvertOptions(Writing):
    """Options of `tacit convert`."""

    out: Path
    """Folder for the transformers model; one that is there already is replaced."""
    tokenizer: Path | None = None
    """File of the tokenizer; tokV.bin (V pieces) or tokenizer.bin beside the model unless given."""
