"""Looking at a selection in a notebook, with nothing but a model, batches and a tokenizer."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from sstoken_plugins import Refused, TokenSelector

from . import folder as files
from .page import render
from .samples import Samples
from .scoring import Scoring
from .table import Report


class SelectionView:
    """A report that a notebook shows as its page, in a frame of its own.

    Attributes:
        report: its numbers; `report.columns` are arrays, one entry for each token.
    """

    def __init__(self, report: Report, height: int = 640) -> None:
        self.report = report
        self._height = height

    @property
    def html(self) -> str:
        """The page, which needs nothing else."""
        return render(self.report)

    def save(self, path: str | Path) -> None:
        """Writes the page."""
        files.write_text(Path(path), self.html)

    def _repr_html_(self) -> str:
        # In its own frame, the page's scripts and styles meet neither the notebook's nor those of another view.
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" title="Which tokens train" '
            f'style="width: 100%; height: {self._height}px; border: 1px solid #8888"></iframe>'
        )

    def __repr__(self) -> str:
        kept, all_tokens = int(self.report.kept.sum()), int(self.report.response.sum())
        return f"SelectionView({self.report.n_samples} samples, {kept} of {all_tokens} response tokens kept)"


def show(
    selector: TokenSelector,
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    tokenizer: Any,
    *,
    step: int = 0,
    number: int = 50,
    max_batches: int = 50,
) -> SelectionView:
    """What a training would select of these batches at this step.

        selector = TokenSelector(SSTokenConfig(rho=0.6))
        selector.attach(model)
        show(selector, model, loader, tokenizer)

    Args:
        selector: attached to the model.
        batches: as the training's data loader gives them: `input_ids`, `labels`, ...
        step: optimizer steps done so far.
        number: how many samples to show at most.
        max_batches: how many batches to take at most.

    Raises:
        Refused: if no sample has a response token.
    """
    samples = Samples.of_batches(list(islice(batches, max_batches)), tokenizer, number)
    if not len(samples):
        raise Refused("None of the samples has a response token: nothing would be learned from them.")
    device = next(model.parameters()).device

    def to_device(value: Any) -> Any:
        return value.to(device) if hasattr(value, "to") else value

    name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    report = Scoring(selector, step).report(
        samples,
        lambda batch: selector.inspect(model, {key: to_device(value) for key, value in batch.items()}, step),
        name,
        quiet=True,
    )
    return SelectionView(report)
