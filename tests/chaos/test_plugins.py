"""Plugins that do not what they should: each is left out, or named with its module, hook and method."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sstoken_plugins import (
    History,
    Method,
    Signal,
    SSTokenConfig,
    TokenSelector,
    weighted_nll,
)

from .training import adapted, pad, rows


class Works(Method):
    def signals(self, progress):
        return ["surprise"]

    def weights(self, signals, documents, progress):
        return torch.ones_like(signals["surprise"])

    def denominator(self, counts, progress):
        return counts.n_response


class Surprise(Signal):
    def __call__(self, measured):
        return -measured.log_probs


class Bare(Method):  # abstract
    def signals(self, progress):
        return []


NOT_CLASSES: list[Any] = [
    None,
    Works(),
    "text",
    3,
    [Works],
    Surprise,
    History,
    Bare,
    object,
    int,
    lambda: Works,
    Method,
]


def one_step(strategy: str = "hostile", **options: Any) -> torch.Tensor:
    selector = TokenSelector(SSTokenConfig(strategy=strategy, **options))
    model = adapted()
    selector.attach(model)
    batch = pad(list(rows()))
    forward, selection = selector.forward(model.train(), batch, step=0)
    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    loss.backward()
    selector.step_end(1)
    selector.state_dict()
    return loss.detach()


@pytest.mark.parametrize("what", NOT_CLASSES, ids=lambda each: getattr(each, "__name__", type(each).__name__))
def test_what_is_no_method_is_left_out(ledger, register, what, caplog):
    register(register_methods=lambda self, register: register("hostile", what))
    ledger.trial("plugin registers", what, lambda: SSTokenConfig(strategy="hostile"), lambda found: False,
                 names=("`strategy`", "'hostile-0' was left out"))  # fmt: skip
    SSTokenConfig()  # the others are still there


@pytest.mark.parametrize("name", [None, 3, "", ["x"], b"x"])
def test_names_that_are_no_text(ledger, register, name):
    register(register_methods=lambda self, register: register(name, Works))
    ledger.trial("plugin registers", name, lambda: SSTokenConfig(strategy="hostile"), lambda found: False,
                 names="was left out")  # fmt: skip


def test_a_hook_that_fails(ledger, register):
    def fail(self, register):
        raise OSError("no such thing")

    register(register_methods=fail)
    ledger.trial("plugin registers", "fails", lambda: SSTokenConfig(strategy="hostile"), lambda found: False,
                 names=("was left out", "register_methods", "no such thing"))  # fmt: skip


WEIGHTS = {
    "None": lambda ones: None,
    "a number": lambda ones: 1.0,
    "a list": lambda ones: [1.0],
    "narrow": lambda ones: ones[:, 1:],
    "flat": lambda ones: ones.flatten(),
    "one more": lambda ones: ones[..., None],
    "complex": lambda ones: ones * 1j,
    "on meta": lambda ones: ones.to("meta"),
    "with gradient": lambda ones: ones.clone().requires_grad_(),
    "not a number": lambda ones: ones * torch.nan,
    "infinite": lambda ones: ones * torch.inf,
    "huge": lambda ones: ones * 1e30,
    "a numpy array": lambda ones: ones.numpy(),
    "raises": lambda ones: 1 / 0,
    "raises what it should not": lambda ones: [][0],
    "a property that fails": lambda ones: ones.no_such_thing,
}
FINE = {
    "float64": lambda ones: ones.double(),
    "int64": lambda ones: ones.long(),
    "bool": lambda ones: ones.bool(),
    "bfloat16": lambda ones: ones.bfloat16(),
    "expanded": lambda ones: ones[:1, :1].expand_as(ones),
}


def method_of(weigh):
    class Hostile(Works):
        def weights(self, signals, documents, progress):
            return weigh(torch.ones_like(signals["surprise"]))

    return Hostile


@pytest.mark.parametrize("case", [*WEIGHTS, *FINE])
def test_weights(ledger, register, case):
    weigh = {**WEIGHTS, **FINE}[case]
    register(
        register_methods=lambda self, register: register("hostile", method_of(weigh)),
        register_signals=lambda self, register: register("surprise", Surprise),
    )
    expected = one_step("full")
    came = ledger.trial("plugin's weights", case, one_step, lambda loss: torch.allclose(loss, expected),
                        names=("hostile", __name__))  # fmt: skip
    assert came == ("refused" if case in WEIGHTS else "survived")


@pytest.mark.parametrize("case", [name for name in WEIGHTS if name not in ("huge", "infinite")])
def test_signals(ledger, register, case):
    class Hostile(Signal):
        def __call__(self, measured):
            return WEIGHTS[case](torch.ones_like(measured.log_probs))

    register(
        register_methods=lambda self, register: register("hostile", Works),
        register_signals=lambda self, register: register("surprise", Hostile),
    )
    ledger.trial("plugin's signal", case, one_step, lambda loss: False, names="surprise")


def failing(name: str) -> type[Method]:
    def fail(self: Any, *arguments: Any) -> None:
        raise KeyError("gone")

    return type("Hostile", (Works,), {name: fail, "__module__": __name__})


@pytest.mark.parametrize("name", ["signals", "weights", "denominator", "observe", "step_end"])
def test_methods_that_raise(ledger, register, name):
    register(
        register_methods=lambda self, register: register("hostile", failing(name)),
        register_signals=lambda self, register: register("surprise", Surprise),
    )
    ledger.trial("plugin raises", name, one_step, lambda loss: False,
                 names=("hostile", __name__, name, "register_methods"))  # fmt: skip


def test_an_observer_that_raises(ledger, register):
    def observe(self, selection, record):
        raise KeyError("gone")

    register(observe=observe)
    ledger.trial("plugin raises", "observe", lambda: one_step("full"), lambda loss: False,
                 names=("hostile-0", __name__, "`observe`"))  # fmt: skip


def test_two_of_one_name(ledger, register):
    register(register_methods=lambda self, register: register("full", Works))
    ledger.trial("plugin registers", "twice", lambda: TokenSelector(SSTokenConfig(strategy="full")).method,
                 lambda method: not isinstance(method, Works))  # fmt: skip
