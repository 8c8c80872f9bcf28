"""The strategies that are compared with those of the package, through the hooks that any plugin uses.

With `p_h` and `p` the probabilities under the history and the current model, `V` the size of the vocabulary, `a` the
attention to the prompt, `rel = log p - log p_h`:

    oracle             drop exactly the corrupted tokens: the ceiling, which nobody has outside of a study
    trimmed_current    keep what p > 1 / V: the package's `trimmed` with `trim_by: current` and `trim: 1`
    posterior          weight p_h / (p_h + 1 / V): the chance that a token is text, if half of all were uniform noise
    sstoken_posterior  ssToken's rho best, with that weight
    rel_relative       rel / -log p_h in place of rel: which share of the loss was learned
    rel_absolute       |rel| in place of rel
    rel_rank           the rank of rel, in [0, 1], in place of its min-max
    anchored           ssToken's score + minmax(log p_h): what the history model predicts well is kept as well
    attention_corrected  a - prompt tokens / tokens so far, in place of a: more than evenly spread attention pays
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sstoken_plugins import Documents, Signal, SSTokenConfig, Strategy, TokenScores, hookimpl
from sstoken_plugins.hashing import document_keys
from sstoken_plugins.scores import keep_best, keep_count, minmax, sstoken_score


class Corrupted(Signal):
    """1 on tokens that the condition put there, which `KNOWN` knows."""

    reads_scores = False

    def __call__(self, scores: TokenScores) -> Tensor:
        documents = scores.documents
        keys = document_keys(scores.input_ids, documents)
        corrupted = torch.zeros_like(scores.log_probs)
        for number in documents.ids[documents.response].unique().tolist():
            tokens = documents.response & (documents.ids == number)
            corrupted[tokens] = KNOWN[int(keys[number])].to(corrupted)
        return corrupted


KNOWN: dict[int, Tensor] = {}
"""Which response tokens of a document are corrupted: (n_response,) bool, by the document's key."""


class Seen(dict[str, float]):
    """What was kept of a whole training, clean and corrupted."""

    def add(self, **tokens: Tensor) -> None:
        for name, values in tokens.items():
            self[name] = self.get(name, 0.0) + float(values.sum())

    def shares(self) -> dict[str, float | None]:
        """`keep_rate`, and `corrupted`: the share of the corrupted among all, the kept and the dropped tokens; None
        among none. Of weights between 0 and 1, the kept part of a token counts as kept and the rest as dropped."""
        total, corrupted = self["clean"] + self["corrupted"], self["corrupted"]
        kept, kept_corrupted = self["weight"], self["weight_corrupted"]
        return {
            "keep_rate": kept / total,
            "corrupted": corrupted / total,
            "corrupted_of_kept": kept_corrupted / kept if kept else None,
            "corrupted_of_dropped": (corrupted - kept_corrupted) / (total - kept) if total - kept > 0.5 else None,
        }


SEEN = Seen()


class HistoryLogProb(Signal):
    """`log p_history`."""

    needs = frozenset({"history"})

    def __call__(self, scores: TokenScores) -> Tensor:
        assert scores.history_log_probs is not None
        return scores.history_log_probs


class LogProb(Signal):
    """`log p_current`."""

    def __call__(self, scores: TokenScores) -> Tensor:
        return scores.log_probs


class RelativeExcessLoss(Signal):
    """`rel / -log p_history`, at most 1."""

    needs = frozenset({"history"})

    def __call__(self, scores: TokenScores) -> Tensor:
        assert scores.history_log_probs is not None
        # Where there was next to nothing to learn, next to nothing was learned.
        return (scores.log_probs - scores.history_log_probs) / (0.1 - scores.history_log_probs)


class AttentionExcess(Signal):
    """`attention - n_prompt / position`."""

    needs = frozenset({"attention"})

    def __call__(self, scores: TokenScores) -> Tensor:
        assert scores.attention is not None
        documents = scores.documents
        n_prompt = torch.zeros_like(scores.attention).flatten()
        n_prompt = n_prompt.index_add(0, documents.ids.clamp(min=0).flatten(), documents.prompt.float().flatten())
        return scores.attention - documents.spread(n_prompt) / (documents.positions + 1)


class _Variant(Strategy):
    def signals(self, step: int) -> Sequence[str]:
        return ["rel", "attention"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents) -> Tensor:
        return sstoken_score(documents, signals["rel"], signals["attention"], self.config.gamma)


class Oracle(_Variant):
    def signals(self, step: int) -> Sequence[str]:
        return ["corrupted"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return 1 - signals["corrupted"]


class TrimmedCurrent(_Variant):
    def signals(self, step: int) -> Sequence[str]:
        return ["plausibility"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return (signals["plausibility"] > 0).float()


class Posterior(_Variant):
    def signals(self, step: int) -> Sequence[str]:
        return ["history_plausibility"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return signals["history_plausibility"].sigmoid()


class _Best(_Variant):
    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return keep_best(self.score(signals, documents), documents, self.config.rho).float()

    def denominator(self, n_response: Tensor) -> Tensor:
        return keep_count(n_response, self.config.rho)


class SSTokenPosterior(_Best):
    def signals(self, step: int) -> Sequence[str]:
        return ["rel", "attention", "history_plausibility"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, step: int) -> Tensor:
        return super().weights(signals, documents, step) * signals["history_plausibility"].sigmoid()


class RelRelative(_Best):
    def signals(self, step: int) -> Sequence[str]:
        return ["rel_relative", "attention"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents) -> Tensor:
        return sstoken_score(documents, signals["rel_relative"], signals["attention"], self.config.gamma)


class AttentionCorrected(_Best):
    def signals(self, step: int) -> Sequence[str]:
        return ["rel", "attention_excess"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents) -> Tensor:
        return sstoken_score(documents, signals["rel"], signals["attention_excess"], self.config.gamma)


class RelAbsolute(_Best):
    def score(self, signals: Mapping[str, Tensor], documents: Documents) -> Tensor:
        return sstoken_score(documents, signals["rel"].abs(), signals["attention"], self.config.gamma)


class RelRank(_Best):
    def score(self, signals: Mapping[str, Tensor], documents: Documents) -> Tensor:
        order = torch.where(documents.response, signals["rel"], torch.inf).flatten().argsort(stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return sstoken_score(documents, self._within(rank, documents), signals["attention"], self.config.gamma)

    def _within(self, rank: Tensor, documents: Documents) -> Tensor:
        """Ranks among all tokens to ranks among those of the same document."""
        flat = torch.where(documents.response.flatten(), documents.ids.flatten(), len(rank))
        order = (flat * (len(rank) + 1) + rank).argsort()
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return place.view_as(documents.ids).float()  # min-max takes the offset of each document away


class Anchored(_Best):
    def signals(self, step: int) -> Sequence[str]:
        return ["rel", "attention", "history_log_prob"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents) -> Tensor:
        return super().score(signals, documents) + minmax(signals["history_log_prob"], documents)


@hookimpl
def register_signals(register):
    register("corrupted", Corrupted)
    register("log_prob", LogProb)
    register("history_log_prob", HistoryLogProb)
    register("rel_relative", RelativeExcessLoss)
    register("attention_excess", AttentionExcess)


@hookimpl
def register_strategies(register):
    register("oracle", Oracle)
    register("trimmed_current", TrimmedCurrent)
    register("posterior", Posterior)
    register("sstoken_posterior", SSTokenPosterior)
    register("rel_relative", RelRelative)
    register("attention_corrected", AttentionCorrected)
    register("rel_absolute", RelAbsolute)
    register("rel_rank", RelRank)
    register("anchored", Anchored)


@hookimpl
def observe(selection, record):
    """Of what is kept and of what is dropped: which share is corrupted?"""
    corrupted = Corrupted(SSTokenConfig())(selection.scores).bool()
    response = selection.documents.response
    SEEN.add(
        weight=selection.weights,
        weight_corrupted=selection.weights * corrupted,
        clean=response & ~corrupted,
        corrupted=response & corrupted,
    )
