"""Are the numbers sound? Read back from the device when the step is over, so that no step waits for the answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .selection import TokenScores
from .transfer import to_host


class Health:
    """Looks at every micro-batch of an optimizer step, and speaks up at its end."""

    def __init__(self) -> None:
        self._watched: list[tuple[Tensor, Callable[[], None], TokenScores, Tensor]] = []

    def watch(self, scores: TokenScores, log_probs: Tensor) -> None:
        """Args:
        log_probs: (B, S), those that the loss is made of.
        """
        documents = scores.documents
        sound = torch.isfinite(log_probs).all()
        if scores.history_log_probs is not None:
            sound = sound & torch.isfinite(scores.history_log_probs).all()
        if scores.unprompted_log_probs is not None:
            sound = sound & torch.isfinite(scores.unprompted_log_probs).all()
        if documents.places is not None:
            counts = documents.response.flatten()[documents.places].sum(), documents.response.sum()
            sound = sound & (counts[0] == documents.places.numel()) & (counts[1] == documents.places.numel())
        self._watched.append((*to_host(sound), scores, log_probs.detach()))

    def check(self) -> None:
        """Raises:
        FloatingPointError: if a log-probability of the step was not finite.
        RuntimeError: if a batch's labels are not those that its data loader gave it.
        """
        watched, self._watched = self._watched, []
        for sound, wait, scores, log_probs in watched:
            wait()
            if not sound:
                require_finite("current", log_probs, scores)
                if scores.history_log_probs is not None:
                    require_finite("history", scores.history_log_probs, scores)
                if scores.unprompted_log_probs is not None:
                    require_finite("history", scores.unprompted_log_probs, scores)
                raise RuntimeError(
                    f"In step {scores.step} the labels of a micro-batch were not those that the data loader had given "
                    "it: another plugin or callback changes batches on their way. Change them in the collator instead."
                )


def require_finite(which: str, log_probs: Tensor, scores: TokenScores) -> None:
    if torch.isfinite(log_probs).all():
        return
    row, column = (~torch.isfinite(log_probs)).nonzero()[0].tolist()
    document = int(scores.documents.ids[row, column])
    tokens = scores.input_ids[row][scores.documents.ids[row] == document][:12].tolist()
    raise FloatingPointError(
        f"The {which} model's log-probability of a token is {log_probs[row, column].item()} in step {scores.step}, "
        f"row {row}, position {column} of the micro-batch (document {document}, which begins with token ids "
        f"{tokens}). The weights or the loss have diverged: lower the learning rate, or train in bfloat16 instead of "
        "float16."
    )
