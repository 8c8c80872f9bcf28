"""The methods that are compared with those of the package, through the hooks that any plugin uses.

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

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sstoken_plugins import Controls, Documents, Measurements, Method, Progress, Selection, Signal, hookimpl, minmax
from sstoken_plugins.data.hashing import document_keys
from sstoken_plugins.methods.sstoken import SSToken


class Corrupted(Signal):
    """1 on tokens that the condition put there, which `KNOWN` knows."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, measured: Measurements) -> Tensor:
        documents = measured.documents
        keys = document_keys(measured.input_ids, measured.batch.labels, documents)
        corrupted = torch.zeros(documents.ids.shape, device=documents.ids.device)
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


class RelativeExcessLoss(Signal):
    """`rel / -log p_history`, at most 1."""

    needs = frozenset({"log_probs", "history"})

    def __call__(self, measured: Measurements) -> Tensor:
        # Where there was next to nothing to learn, next to nothing was learned.
        return (measured.log_probs - measured["history"]) / (0.1 - measured["history"])


class AttentionExcess(Signal):
    """`attention - n_prompt / position`."""

    needs = frozenset({"attention"})

    def __call__(self, measured: Measurements) -> Tensor:
        attention, documents = measured["attention"], measured.documents
        n_prompt = torch.zeros_like(attention).flatten()
        n_prompt = n_prompt.index_add(0, documents.ids.clamp(min=0).flatten(), documents.prompt.float().flatten())
        return attention - documents.broadcast(n_prompt) / (documents.positions + 1)


class Oracle(Method):
    selects = True

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["corrupted"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return 1 - signals["corrupted"]


class TrimmedCurrent(Method):
    selects = True

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["plausibility"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return (signals["plausibility"] > 0).float()


class Posterior(Method):
    def signals(self, progress: Progress) -> Sequence[str]:
        return ["history_plausibility"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals["history_plausibility"].sigmoid()


class _Variant(SSToken):
    """ssToken, with other signals in the places of its two, and more signals beside them."""

    in_place: ClassVar[Mapping[str, str]] = {}
    beside: ClassVar[Sequence[str]] = ()

    def signals(self, progress: Progress) -> Sequence[str]:
        return [*(self.in_place.get(name, name) for name in super().signals(progress)), *self.beside]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        places = {name: signals[self.in_place.get(name, name)] for name in super().signals(progress)}
        return super().score({**signals, **places}, documents, progress)

    def controls(self, progress: Progress) -> Controls:
        return Controls(top="rho")


class SSTokenPosterior(_Variant):
    selects = False
    beside = ("history_plausibility",)

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return super().weights(signals, documents, progress) * signals["history_plausibility"].sigmoid()


class RelRelative(_Variant):
    in_place: ClassVar[Mapping[str, str]] = {"rel": "rel_relative"}


class AttentionCorrected(_Variant):
    in_place: ClassVar[Mapping[str, str]] = {"attention": "attention_excess"}


class RelAbsolute(_Variant):
    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return super().score({**signals, "rel": signals["rel"].abs()}, documents, progress)


class RelRank(_Variant):
    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        order = torch.where(documents.response, signals["rel"], torch.inf).flatten().argsort(stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return super().score({**signals, "rel": self._within(rank, documents)}, documents, progress)

    def _within(self, rank: Tensor, documents: Documents) -> Tensor:
        """Ranks among all tokens to ranks among those of the same document."""
        flat = torch.where(documents.response.flatten(), documents.ids.flatten(), len(rank))
        order = (flat * (len(rank) + 1) + rank).argsort()
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return place.view_as(documents.ids).float()  # min-max takes the offset of each document away


class Anchored(_Variant):
    beside = ("history_log_prob",)

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return super().score(signals, documents, progress) + minmax(signals["history_log_prob"], documents)


@hookimpl
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    register("corrupted", Corrupted)
    register("rel_relative", RelativeExcessLoss)
    register("attention_excess", AttentionExcess)


@hookimpl
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
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
def observe(selection: Selection) -> None:
    """Of what is kept and of what is dropped: which share is corrupted?"""
    corrupted = Corrupted()(selection.measured).bool()
    response = selection.documents.response
    SEEN.add(
        weight=selection.weights,
        weight_corrupted=selection.weights * corrupted,
        clean=response & ~corrupted,
        corrupted=response & corrupted,
    )
