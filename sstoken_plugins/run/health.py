"""Are the numbers sound? Read back from the device when the step is over, so that no step waits for the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.weights import LARGEST_WEIGHT
from ..guard import expect, origin
from ..measure import Measurements
from ..methods import Method, Selection
from ..model.transfer import to_host


@dataclass(frozen=True)
class _Watched:
    sound: Tensor
    wait: Callable[[], None]
    selection: Selection
    trained: Tensor
    n_kept: int | None


class Health:
    """Looks at every micro-batch of an optimizer step, and speaks up at its end.

    Args:
        method: as which the method was chosen.
        owner: the method.
    """

    def __init__(self, method: str, owner: Method) -> None:
        self._method, self._owner = method, owner
        self._watched: list[_Watched] = []
        self._denominators: list[tuple[Tensor, Callable[[], None]]] = []

    def watch(self, selection: Selection, trained: Tensor, n_kept: int | None) -> None:
        """Args:
        trained: (B, S) log-probabilities that the loss is made of.
        n_kept: how many tokens the method promised to keep at most, if it did.
        """
        documents, weights = selection.documents, selection.weights
        sound = torch.isfinite(trained).all() & (weights.abs() <= LARGEST_WEIGHT).all()
        for values in selection.signals.values():
            sound = sound & ~(documents.response & values.isnan()).any()
        for values in selection.measured.values():
            if values.is_floating_point():
                sound = sound & torch.isfinite(values).all()
        if n_kept is not None:
            sound = sound & (selection.kept.sum() <= n_kept)
        if documents.indices is not None:
            counts = documents.response.flatten()[documents.indices].sum(), documents.response.sum()
            sound = sound & (counts[0] == documents.indices.numel()) & (counts[1] == documents.indices.numel())
        self._watched.append(_Watched(*to_host(sound), selection, trained.detach(), n_kept))

    def watch_denominator(self, total: Tensor, n_response: Tensor) -> None:
        """Args:
        total: what the method divides the loss of a micro-batch of so many response tokens by.
        """
        sound = torch.isfinite(total) & (total >= 0) & (total <= LARGEST_WEIGHT * n_response)
        self._denominators.append(to_host(torch.where(sound, 0, total)))

    def check(self) -> None:
        """Raises:
        PluginError: if the method's `denominator` was negative, not finite, or too large for anything to be learned.
        FloatingPointError: if a log-probability or a weight of the step was not finite, a weight too large to learn
            with, or a signal not a number.
        RuntimeError: if the method kept more tokens than it promised, or if a batch's labels are not those that its
            data loader gave it.
        """
        denominators, self._denominators = self._denominators, []
        for total, wait in denominators:
            wait()
            is_right = not bool(total != 0)  # not a number is not 0 either
            what = f"numbers from 0 to {LARGEST_WEIGHT:g} for each response token"
            expect("method", self._method, self._owner, "denominator", float(total), is_right, what)
        watched, self._watched = self._watched, []
        for each in watched:
            each.wait()
            if not each.sound:
                self._explain(each)

    def _explain(self, watched: _Watched) -> None:
        measured, selection = watched.selection.measured, watched.selection
        step = measured.progress.step
        require_finite("current", watched.trained, measured)
        for name, values in measured.items():
            if values.is_floating_point():
                require_finite(name, values, measured)
        who = f"Method {self._method!r} of {origin(type(self._owner))}"
        for name, values in selection.signals.items():
            if (selection.documents.response & values.isnan()).any():
                raise FloatingPointError(
                    f"Signal {name!r}, which method {self._method!r} reads, is not a number for a token in step "
                    f"{step}: tokens cannot be ranked by it. Report this to its author."
                )
        largest = selection.weights.abs().max()
        if not largest <= LARGEST_WEIGHT:
            raise FloatingPointError(
                f"{who} gave a token the weight {float(largest):g} in step {step}, and {LARGEST_WEIGHT:g} is the "
                "largest that can be learned with: beside it no other token counts, and gradients overflow. Bound "
                "what its `weights` returns, or report this to its author."
            )
        n_kept = int(selection.kept.sum())
        if watched.n_kept is not None and n_kept > watched.n_kept:
            raise RuntimeError(
                f"Method {self._method!r} gave weight to {n_kept} tokens of a micro-batch in step {step}, but its "
                f"`n_kept` had promised {watched.n_kept} at most: the others would have got no gradient. Correct its "
                "`n_kept`, or let it return None."
            )
        raise RuntimeError(
            f"In step {step} the labels of a micro-batch were not those that the data loader had given it: another "
            "plugin or callback changes batches on their way. Change them in the collator instead."
        )


def require_finite(which: str, log_probs: Tensor, measured: Measurements) -> None:
    """Raises:
    FloatingPointError: naming the first token whose value is not finite.
    """
    if torch.isfinite(log_probs).all():
        return
    documents = measured.documents
    row, column = (~torch.isfinite(log_probs)).nonzero()[0].tolist()
    document = int(documents.ids[row, column])
    tokens = measured.input_ids[row][documents.ids[row] == document][:12].tolist()
    what = f"The {which} model's log-probability" if which in ("current", "history") else f"Measurement {which!r}"
    raise FloatingPointError(
        f"{what} of a token is {log_probs[row, column].item()} in step {measured.progress.step}, row {row}, position "
        f"{column} of the micro-batch (document {document}, which begins with token ids {tokens}). The weights or the "
        "loss have diverged: lower the learning rate, or train in bfloat16 instead of float16."
    )
