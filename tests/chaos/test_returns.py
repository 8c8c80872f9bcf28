"""Plugins' histories, measurements and methods that return what nobody can work with: named, whatever it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sstoken_plugins import HeadStatistic, LiveHistory, OwnPass, Signal, Stored, TrainingPass

from .damage import some
from .test_plugins import Surprise, Works, one_step

WRONG: dict[str, Any] = {"None": None, "text": "x", "a list": [1], "a number": 3}
TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "narrow": lambda values: values[1:],
    "not a number": lambda values: values * torch.nan,
    "infinite": lambda values: values - torch.inf,
    "complex": lambda values: values * 1j,
    "on meta": lambda values: values.to("meta"),
    "with gradient": lambda values: values.clone().requires_grad_(),
}


class Earlier(LiveHistory):
    """The model itself."""

    @contextlib.contextmanager
    def active(self, model: Any) -> Iterator[None]:
        yield


class FromHistory(Works):
    def signals(self, progress):
        return ["hostile"]

    def weights(self, signals, documents, progress):
        return torch.ones_like(signals["hostile"])


def derived(base: type, **methods: Any) -> type:
    """A class of this module, so that it is this module's name that has to be told."""
    return type("Hostile", (base,), {"__module__": __name__, **methods})


def returns(value: Any) -> Callable[..., Any]:
    return lambda self, *arguments, **named: value


def fails(self: Any, *arguments: Any, **named: Any) -> None:
    raise KeyError("gone")


def changed(how: Callable[[Tensor], Any]) -> dict[str, Any]:
    """A history and measurements whose numbers were changed."""

    @contextlib.contextmanager
    def record(self, documents):
        found: list[Any] = []
        yield found
        found.append(how(torch.zeros(documents.ids.shape)))

    return {
        "history.compare": lambda self, history_log_probs, log_probs: how(history_log_probs),
        "history.stored": lambda self, batch: Stored(how(torch.zeros(batch.labels.shape)), 0),
        "head.of": lambda self, chunk: how(chunk.log_probs),
        "own.measure": lambda self, passes, batch: how(passes.log_probs(batch)),
        "own.compare": lambda self, values, known: how(values),
        "pass.record": record,
    }


@contextlib.contextmanager
def recorded(self: Any, documents: Any) -> Iterator[list[Tensor]]:
    found: list[Tensor] = []
    yield found
    found.append(torch.zeros(documents.ids.shape))


KINDS = {
    "head": derived(HeadStatistic, of=lambda self, chunk: chunk.log_probs),
    "own": derived(OwnPass, measure=lambda self, passes, batch: passes.log_probs(batch)),
    "pass": derived(TrainingPass, record=recorded),
}


def step(register: Any, where: str, what: Any) -> Tensor:
    """A step of training with a plugin whose `where`, such as "head.of", is `what`."""
    part, method = where.split(".")
    signal = derived(
        Signal, needs=frozenset({"log_probs", "history" if part == "history" else "measured"}),
        __call__=lambda self, measured: measured["history" if part == "history" else "measured"].float(),
    )  # fmt: skip
    kind = derived(KINDS.get(part, KINDS["own"]), **({method: what} if part in KINDS else {}))
    history = derived(Earlier, **({method: what} if part == "history" else {}))
    register(
        register_methods=lambda self, register: register("hostile", FromHistory),
        register_signals=lambda self, register: register("hostile", signal),
        register_measurements=lambda self, register: register("measured", kind),
        register_histories=lambda self, register: register("hostile", history),
    )
    return one_step(history="hostile") if part == "history" else one_step()


def test_without_a_fault_it_trains(ledger, register):
    for where in ("history.nothing", "head.nothing", "own.nothing", "pass.nothing"):
        assert torch.isfinite(step(register, where, None))
        register.undo()


ASKED = ("history.stored", "history.compare", "history.active", "history.problems", "history.state_dict",
         "head.of", "own.measure", "own.compare", "pass.record")  # fmt: skip
FINE = {("history.stored", "None")}


@pytest.mark.parametrize("where", ASKED)
@pytest.mark.parametrize("case", some(WRONG, "None"))
def test_what_is_no_tensor(ledger, register, where, case):
    if (where, case) in FINE or (where == "history.problems" and case in ("a list", "text")):
        pytest.skip("may be returned")
    ledger.trial("plugin returns", (where, case), lambda: step(register, where, returns(WRONG[case])),
                 lambda loss: False, names=(where.split(".")[1], __name__))  # fmt: skip


@pytest.mark.parametrize("where", changed(lambda values: values))
@pytest.mark.parametrize("case", some(TENSORS, "narrow", "on meta"))
def test_tensors_that_are_not_one_number_for_each_token(ledger, register, where, case):
    ledger.trial("plugin returns", (where, case), lambda: step(register, where, changed(TENSORS[case])[where]),
                 lambda loss: case == "with gradient" and bool(torch.isfinite(loss)))  # fmt: skip


@pytest.mark.parametrize("where", [*ASKED, "history.attach", "history.remember", "history.step_end", "own.attach"])
def test_what_fails(ledger, register, where):
    ledger.trial("plugin raises", where, lambda: step(register, where, fails), lambda loss: False,
                 names=(where.split(".")[1], __name__, "gone"))  # fmt: skip


def method(register: Any, **methods: Any) -> Tensor:
    register(
        register_methods=lambda self, register: register("hostile", derived(Works, **methods)),
        register_signals=lambda self, register: register("surprise", Surprise),
    )
    return one_step()


NAMES = {**WRONG, "an unknown name": ["nope"], "a name and None": ["surprise", None]}


@pytest.mark.parametrize("name", ["signals", "state_dict", "denominator"])
@pytest.mark.parametrize("case", some(NAMES, "None", "an unknown name"))
def test_what_methods_return(ledger, register, name, case):
    unknown = name == "signals" and case in ("an unknown name", "text")
    ledger.trial("plugin returns", (name, case), lambda: method(register, **{name: returns(NAMES[case])}),
                 lambda loss: False, names="not registered" if unknown else (name, __name__))  # fmt: skip


def test_a_signal_that_comes_later(ledger, register):
    reads = frozenset({"surprise"})
    ledger.trial("plugin returns", "later", lambda: method(register, reads=reads, signals=returns(["later"])),
                 lambda loss: False, names=("signals", "'later'", __name__))  # fmt: skip


@pytest.mark.parametrize("reads", [None, 3, "surprise", [None]])
def test_reads_that_are_no_names(ledger, register, reads):
    ledger.trial("plugin returns", ("reads", reads), lambda: method(register, reads=reads), lambda loss: False,
                 names=("reads", __name__))  # fmt: skip


@pytest.mark.parametrize("needs", [None, 3, "log_probs", [None]])
def test_needs_that_are_no_names(ledger, register, needs):
    register(
        register_methods=lambda self, register: register("hostile", Works),
        register_signals=lambda self, register: register("surprise", derived(Surprise, needs=needs)),
    )
    ledger.trial("plugin returns", ("needs", needs), one_step, lambda loss: False, names=("needs", __name__))


@pytest.mark.parametrize("factor", [-1, torch.nan, torch.inf, 1e30])
def test_denominators_that_nothing_can_be_divided_by(ledger, register, factor):
    change = {"denominator": lambda self, counts, progress: counts.n_response * factor}
    ledger.trial("plugin returns", ("denominator", factor), lambda: method(register, **change), lambda loss: False,
                 names=("denominator", __name__))  # fmt: skip
