"""ssToken: what has begun to be learned, and attends to its prompt (arXiv 2510.18250)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Documents, Progress
from ..errors import refused
from ..markers import hookimpl
from ..options import option
from ..signals.builtin import retrospective_excess_loss
from .base import Controls, Method
from .ranked import RankedMethod, RhoOptions
from .ranking import check_rho, check_tokens, keep_best, minmax


def sstoken_score(
    documents: Documents,
    rel: Tensor | None = None,
    attention: Tensor | None = None,
    gamma: float = 0.5,
    eligible: Tensor | None = None,
) -> Tensor:
    """`gamma * minmax(rel) + (1 - gamma) * attention` (ssToken, eq. 6). A part with weight 0 may be None.

    Args:
        rel: (B, S) retrospective excess loss of each token.
        attention: (B, S) mass that each token's attention puts on its document's prompt, in [0, 1]. Counts as 0 in
            documents without a prompt (`Documents.has_prompt`), where the other part alone decides.
        eligible: (B, S) bool, the response tokens that count; all if None.

    Returns:
        (B, S) float, 0 where no token counts.
    """
    eligible = documents.response if eligible is None else eligible
    score = torch.zeros(documents.ids.shape, device=documents.ids.device)
    if gamma > 0:
        if rel is None:
            raise refused("`rel` is None but {gamma} is {value}: pass it, or set {gamma} to 0.", value=gamma)
        score = score + gamma * minmax(rel, documents, eligible)
    if gamma < 1:
        if attention is None:
            raise refused("`attention` is None but {gamma} is {value}: pass it, or set {gamma} to 1.", value=gamma)
        score = score + (1 - gamma) * torch.where(documents.broadcast(documents.has_prompt), attention, 0)
    return torch.where(eligible, score, 0)


def select_tokens(
    labels: Tensor,
    *,
    log_probs: Tensor | None = None,
    history_log_probs: Tensor | None = None,
    attention: Tensor | None = None,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    rho: float = 0.6,
    gamma: float = 0.5,
) -> Tensor:
    """ssToken's choice for one batch, on tensors from anywhere:

        rel   = log_probs - history_log_probs
        score = gamma * minmax(rel) + (1 - gamma) * attention
        keep the smallest k with k / n >= rho response tokens of each document, best score first

    Everything is aligned with `labels`: entry `[b, t]` belongs to token `t` of row `b`, so `log_probs[b, t]` is
    `log p(token t | tokens before t)`, read from the logits of position `t - 1`. Values off the response are ignored.

    Args:
        labels: (B, S) int64, -100 where there is nothing to learn.
        log_probs: (B, S) float, under the current model. May be None if gamma is 0.
        history_log_probs: (B, S) float, under the history model. May be None if gamma is 0.
        attention: (B, S) float, attention mass on the prompt. May be None if gamma is 1.
        attention_mask, position_ids: as the model gets them; see `Documents.from_labels`.
        rho: in (0, 1].
        gamma: in [0, 1].

    Returns:
        (B, S) float32 weights: 1 on kept tokens, 0 elsewhere.

    Raises:
        Refused: for values and shapes that cannot work, by name.

    >>> labels = torch.tensor([[-100, -100, 5, 6, 7, 8]])
    >>> rel = torch.tensor([[0.0, 0.0, 0.3, 0.1, 0.2, 0.4]])
    >>> select_tokens(labels, log_probs=rel, history_log_probs=torch.zeros(1, 6), gamma=1.0, rho=0.5)
    tensor([[0., 0., 1., 0., 0., 1.]])
    """
    check_rho(rho)
    if not 0 <= gamma <= 1:
        raise refused("{gamma} is {value!r}: set it in [0, 1], for example 0.5.", value=gamma)
    check_tokens(labels, log_probs=log_probs, history_log_probs=history_log_probs, attention=attention)
    if gamma > 0 and (log_probs is None or history_log_probs is None):
        raise refused(
            "{gamma} is {value}, so the excess loss counts: pass `log_probs` and `history_log_probs`, or set {gamma} "
            "to 0.",
            value=gamma,
        )
    documents = Documents.from_labels(labels, attention_mask, position_ids)
    rel = None
    if log_probs is not None and history_log_probs is not None:
        rel = retrospective_excess_loss(log_probs, history_log_probs)
    return keep_best(sstoken_score(documents, rel, attention, gamma), documents, rho).float()


@dataclass(frozen=True)
class SSTokenOptions(RhoOptions):
    gamma: float = option(
        0.5,
        "Weight of the retrospective excess loss in the score, in [0, 1]; the attention to the prompt gets the rest.",
        valid=lambda gamma: 0 <= gamma <= 1,
        otherwise=", but it weighs the retrospective excess loss against the attention to the prompt: set it in "
        "[0, 1], for example 0.5 (1.0 is the excess loss alone, 0.0 the attention alone).",
        shown=True,
    )
    rel_warmup_steps: int = option(
        0,
        "Optimizer steps during which the score is the attention alone (gamma counts as 0).",
        valid=lambda steps: steps >= 0,
        otherwise=", but it counts steps: set it to 0 or more.",
    )


class SSToken(RankedMethod):
    """The rho best of every document by `gamma * minmax(rel) + (1 - gamma) * attention` (arXiv 2510.18250)."""

    evidence = (
        "worse than plain fine-tuning in short trainings on clean data (by 0.126 nats of held-out loss) and on "
        "answers with debris inside (by 0.078), and not shown to be better at a new skill"
    )
    Options = SSTokenOptions
    reference = "arXiv 2510.18250"

    def gamma(self, progress: Progress) -> float:
        """At this step."""
        return 0.0 if progress.step < self.options.rel_warmup_steps else float(self.options.gamma)

    @property
    def reads(self) -> frozenset[str]:
        ends = (Progress(0), Progress(self.options.rel_warmup_steps))
        return frozenset(name for progress in ends for name in self.signals(progress))

    def signals(self, progress: Progress) -> Sequence[str]:
        gamma = self.gamma(progress)
        return (["rel"] if gamma > 0 else []) + (["attention"] if gamma < 1 else [])

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return sstoken_score(
            documents,
            signals.get("rel"),
            signals.get("attention"),
            self.gamma(progress),
            self.eligible(signals, documents, progress),
        )

    def controls(self, progress: Progress) -> Controls:
        return Controls(top="rho", blend=("gamma", "rel", "attention"), values={"gamma": self.gamma(progress)})

    def notes(self, progress: Progress) -> Sequence[str]:
        if self.gamma(progress) == self.options.gamma:
            return ()
        return (
            f"The attention alone decides until step {self.options.rel_warmup_steps} (`rel_warmup_steps`), then "
            f"`gamma` is {self.options.gamma:g}.",
        )


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    register("sstoken", SSToken)
