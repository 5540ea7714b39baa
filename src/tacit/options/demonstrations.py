"""The options of `fit --from demonstrations`, `audit --policy` and `tune spin | adversarial | iq`, as mixins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field

from tacit import terminal
from tacit.errors import TacitError

if TYPE_CHECKING:
    from tacit.demonstrations.audit import Imitated
    from tacit.evidence import Evidence

_Fit = Parameter(group="Demonstrations")
_Tune = Parameter(group="From demonstrations")


class FromDemonstrations(BaseModel):
    """Good examples alone as evidence."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)

    from_: Annotated[Literal["evidence", "demonstrations"], Parameter(name="--from", group="Demonstrations")] = (
        "evidence"
    )
    """demonstrations: DATA are good examples alone; comparisons are made of them, and the reward is fitted on those."""
    pairing: Annotated[Literal["init-sft", "init-demo", "sft-demo", "mismatched"] | None, _Fit] = None
    """What is compared, worse first: init-sft (the default): answers of --policy and of its SFT policy; init-demo,
    sft-demo: a policy's answers and demonstrations; mismatched: demonstrations of other prompts, without a policy."""
    policy: Annotated[str | None, _Fit] = None
    """Folder of the initial policy, a transformers causal language model."""
    sft: Annotated[str | None, _Fit] = None
    """Folder of the policy tuned on the demonstrations; trained, and kept in --work, unless given."""
    answers: Annotated[int, Field(ge=1), _Fit] = 1
    """Answers of each policy to each prompt."""
    max_completion_length: Annotated[int, Field(ge=1), _Fit] = 64
    """Most tokens of an answer."""
    sft_epochs: Annotated[float, Field(gt=0), _Fit] = 3.0
    """Epochs of supervised tuning."""
    sft_learning_rate: Annotated[float, Field(gt=0), _Fit] = 2e-5
    """Its learning rate."""
    work: Annotated[Path | None, _Fit] = None
    """Folder of answers and of the SFT policy, found there again; in the user's cache folder unless given."""

    def imitates(self, train: Evidence, test: Evidence | None, *, encoder: Any, cache: Path | None, seed: int) -> Any:
        """Comparisons made of demonstrations, or None without --from demonstrations.

        Raises `TacitError` for options that need it.
        """
        self._check_demonstrations()
        if self.from_ == "evidence":
            return None
        from tacit.demonstrations.extrapolation import AnswerOptions
        from tacit.demonstrations.fit import prepare

        options = AnswerOptions(
            self.answers, self.max_completion_length, sft_epochs=self.sft_epochs,
            sft_learning_rate=self.sft_learning_rate, seed=seed,
        )  # fmt: skip
        work = self.work or terminal.cache_folder("demonstrations")
        return prepare(
            train, test, pairing=self.pairing, policy=self.policy, sft=self.sft, options=options, work=work,
            encoder=encoder, cache=cache,
        )  # fmt: skip

    def _check_demonstrations(self) -> None:
        """Raise `TacitError` for an option of these that has no effect."""
        fields = FromDemonstrations.model_fields
        given = [name for name, field in fields.items() if name != "from_" and getattr(self, name) != field.default]
        asked = self.pairing not in (None, "mismatched") or self.policy is not None or self.sft is not None
        trains = asked and self.pairing != "init-demo" and self.sft is None
        for name in given:
            flag = "--" + name.replace("_", "-")
            if self.from_ == "evidence":
                raise TacitError(f"{flag} is about demonstrations. Give --from demonstrations")
            if name not in ("pairing", "policy", "sft") and not asked:
                raise TacitError(f"{flag} is about the answers of a policy, and none is asked. Give --policy FOLDER")
            if name in ("sft_epochs", "sft_learning_rate") and not trains:
                raise TacitError(
                    f"{flag} is about training the SFT policy, and none is trained. Take --pairing init-sft or sft-demo"
                    " without --sft"
                )


class AuditDemonstrations(BaseModel):
    """Demonstrations as what an audit measures on."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)

    policy: Annotated[str | None, _Fit] = None
    """DATA are demonstrations: folder of the policy whose answers they are compared with."""
    learnt: Annotated[str | None, _Fit] = None
    """Demonstrations that were learnt from: does the policy copy them?"""
    answers: Annotated[int, Field(ge=1), _Fit] = 1
    """Answers of the policy to each prompt."""
    max_completion_length: Annotated[int, Field(ge=1), _Fit] = 64
    """Most tokens of an answer."""

    def imitated(self, reward: Any, evidence: Evidence, read: Callable[[str], Evidence], seed: int) -> Imitated | None:
        """Demonstrations against the policy's answers; None for other evidence.

        Raises `TacitError` for demonstrations without a policy, and for a policy without demonstrations.
        """
        if evidence.kind != "demonstration":
            if self.policy is not None or self.learnt is not None:
                raise TacitError(
                    f"--policy and --learnt are about demonstrations, and {evidence.source} holds {evidence.kind}s."
                    " Leave them out"
                )
            return None
        if self.policy is None:
            raise TacitError(
                f"{evidence.source} holds demonstrations, which do not say what is worse. Give --policy FOLDER, whose"
                " answers they are compared with"
            )
        from tacit.demonstrations.audit import imitated
        from tacit.demonstrations.extrapolation import AnswerOptions

        return imitated(
            self.policy,
            evidence,
            learnt=None if self.learnt is None else read(self.learnt),
            encoder=getattr(reward, "encoder", "auto"),
            options=AnswerOptions(self.answers, self.max_completion_length, seed=seed),
            work=terminal.cache_folder("demonstrations"),
            cache=getattr(reward, "cache", None),
        )


class TuneOnDemonstrations(BaseModel):
    """Methods of `tacit tune` that learn from good examples alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)

    iterations: Annotated[int | None, Field(ge=1), _Tune] = None
    """spin: rounds of answers, each with the last one's policy as reference (3)."""
    divergence: Annotated[str | None, _Tune] = None
    """adversarial: reverse_kl (AIRL), js (GAIL), forward_kl (FAIRL), chi2, hellinger, tv or alpha (reverse_kl)."""
    alpha: Annotated[float | None, _Tune] = None
    """Of the divergence alpha (0.5)."""
    induced: Annotated[Literal["formal", "direct"] | None, _Tune] = None
    """adversarial: the divergence's exact reward f*(f'(u)), or -f(u) (formal)."""
    discriminator: Annotated[Literal["features", "language-model"] | None, _Tune] = None
    """adversarial: what judges answers: a head on text features, or a whole language model with a head (features)."""
    discriminator_model: Annotated[str | None, _Tune] = None
    """Folder of the discriminator's language model (a copy of --policy)."""
    discriminator_learning_rate: Annotated[float | None, Field(gt=0), _Tune] = None
    """Of the discriminator's language model (1e-5)."""
    discriminator_steps: Annotated[int | None, Field(ge=1), _Tune] = None
    """Steps that the discriminator's language model makes in each round (8)."""
    encoder: Annotated[str | None, _Tune] = None
    """Text features of the discriminator (auto)."""
    hidden: Annotated[int | None, Field(ge=0), _Tune] = None
    """Width of the discriminator's hidden layer; 0 for a linear one (0)."""
    gradient_penalty: Annotated[float | None, Field(ge=0), _Tune] = None
    """Weight of the squared slope of the discriminator between demonstrations and answers (1); of a language model's
    head in its last states (.1)."""
    replay: Annotated[int | None, Field(ge=0), _Tune] = None
    """Answers of earlier rounds that the discriminator goes on seeing (512)."""
    clip: Annotated[float | None, Field(gt=0), _Tune] = None
    """Largest log-ratio of demonstrator and policy that the reward sees (10)."""
    per_token: Annotated[bool, Parameter(negative="", group="From demonstrations")] = False
    """adversarial: the discriminator judges unfinished answers as well, and each word is credited with what it adds."""
    stop_when_same: Annotated[bool | None, Parameter(group="From demonstrations")] = None
    """adversarial: stop once a fresh discriminator cannot tell held-out demonstrations from answers (yes)."""
    td_weight: Annotated[float | None, Field(ge=0), _Tune] = None
    """iq: weight 1 / (4 alpha) of the chi^2 regulariser (0.1); 0 is supervised tuning."""
