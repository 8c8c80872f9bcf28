"""The whole extension surface. Everything built in is registered through these same hooks.

A plugin is a module with some of these functions, marked with `hookimpl`, and an entry point in its package:

    [project.entry-points.sstoken]
    my-plugin = "my_package.my_module"

Installed, its names and its options work everywhere: `--sstoken_strategy my_name --sstoken_my_option 0.5` under TRL,
`strategy: my_name` and `my_option: 0.5` under Axolotl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .markers import hookspec

if TYPE_CHECKING:
    from torch import Tensor

    from .histories import History
    from .measure.base import Measurement
    from .methods.base import Method
    from .methods.selection import Selection
    from .run.selector import TokenSelector
    from .signals.base import Signal


@hookspec
def register_methods(register: Callable[[str, type[Method]], None]) -> None:
    """Name ways to turn signals into per-token weights: 0/1 to select, any number to re-weigh, negative to forget.

    class Focus(Method):
        def signals(self, progress):
            return ["surprise"]

        def weights(self, signals, documents, progress):
            return torch.sigmoid(signals["surprise"])

    @hookimpl
    def register_methods(register):
        register("focus", Focus)
    """


@hookspec
def register_signals(register: Callable[[str, type[Signal]], None]) -> None:
    """Name per-token signals, arithmetic on measurements, that methods can rank or weigh by.

    class Surprise(Signal):
        def __call__(self, measured):
            return -measured.log_probs

    @hookimpl
    def register_signals(register):
        register("surprise", Surprise)
    """


@hookspec
def register_measurements(register: Callable[[str, type[Measurement]], None]) -> None:
    """Name what a pass of the model can tell of every token; signals list such names as their `needs`.

    class Largest(HeadStatistic):
        def of(self, chunk):
            return chunk.probs.amax(-1)

    @hookimpl
    def register_measurements(register):
        register("largest", Largest)
    """


@hookspec
def register_histories(register: Callable[[str, type[History]], None]) -> None:
    """Name earlier versions of the model.

    @hookimpl
    def register_histories(register):
        register("first-epoch", FirstEpochHistory)
    """


@hookspec
def register_extensions(register: Callable[[str, type], None]) -> None:
    """Name the options of something that `observe`s or `watch`es, as a dataclass derived from `NoOptions`.

        @dataclass(frozen=True)
        class MyOptions(NoOptions):
            my_steps: int = option(0, "Every so many steps, do something. 0: never.")

        @hookimpl
        def register_extensions(register):
            register("mine", MyOptions)

    They can always be set, whatever the method; read them as `selector.config.my_steps`.
    """


@hookspec
def register_frameworks(register: Callable[[str, Any], None]) -> None:
    """Name a fine-tuning framework, as a class derived from `sstoken_transformers.Framework`.

    `sstoken doctor`, `inspect` and `record` pick one by the command line they are given.

        @hookimpl
        def register_frameworks(register):
            register("my_framework", MyFramework)
    """


@hookspec
def observe(selection: Selection, record: Callable[[str, Tensor, Tensor], None]) -> None:
    """See every micro-batch's selection; `record(name, total, count)` adds the mean `total / count` to the log.

        @hookimpl
        def observe(selection, record):
            kept = selection.kept
            record("kept_loss", -(selection.measured.log_probs * kept).sum(), kept.sum())

    The trainer logs this as `sstoken/kept_loss`. Totals and counts are summed over micro-batches and processes before
    they are divided. Observers must not change the selection, and should not read values back from the device:
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
