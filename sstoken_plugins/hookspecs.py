"""The whole extension surface. The built-in signals, histories and strategies are registered through these same hooks.

A plugin is a module with some of these functions, marked with `hookimpl`, and an entry point in its package:

    [project.entry-points.sstoken]
    my-plugin = "my_package.my_module"

Installed, its names work everywhere: `--sstoken_strategy my_name` under TRL, `strategy: my_name` under Axolotl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from torch import Tensor

    from .histories import History
    from .selection import Selection
    from .selector import TokenSelector
    from .signals import Signal
    from .strategies import Strategy

hookspec = HookspecMarker("sstoken")
hookimpl = HookimplMarker("sstoken")

Register = Callable[[str, Any], None]


@hookspec
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    """Name per-token signals that strategies can rank or weigh by.

    class Surprise(Signal):
        def __call__(self, scores):
            return -scores.log_probs

    @hookimpl
    def register_signals(register):
        register("surprise", Surprise)
    """


@hookspec
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    """Name earlier selves of the model.

    @hookimpl
    def register_histories(register):
        register("first-epoch", FirstEpochHistory)
    """


@hookspec
def register_strategies(register: Callable[[str, type[Strategy]], None]) -> None:
    """Name ways to turn signals into per-token weights: 0/1 to select, any number to re-weigh, negative to forget.

    class Focus(Strategy):
        def signals(self, step):
            return ["surprise"]

        def weights(self, signals, documents, step):
            return torch.sigmoid(signals["surprise"])

    @hookimpl
    def register_strategies(register):
        register("focus", Focus)
    """


@hookspec
def observe(selection: Selection, record: Callable[[str, Tensor, Tensor], None]) -> None:
    """See every micro-batch's selection; `record(name, total, count)` adds the mean `total / count` to the log.

        @hookimpl
        def observe(selection, record):
            kept = selection.kept
            record("kept_entropy", (selection.scores.entropy * kept).sum(), kept.sum())

    The trainer logs this as `sstoken/kept_entropy`. Totals and counts are summed over micro-batches and processes
    before they are divided. Observers must not change the selection, and should not read values back from the device:
    training would wait for them.
    """


@hookspec
def watch(trainer: Any, selector: TokenSelector) -> None:
    """See a whole training: called once by the integrations with a `transformers.Trainer`, before it trains.

        @hookimpl
        def watch(trainer, selector):
            trainer.add_callback(MyCallback(selector))

    `selector.inspect` says what would be selected of any batch, and leaves no trace in the training. With several
    processes, all of them are watched.
    """
