"""Signals, methods and metrics that plugins bring, and what they may not do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from sstoken_plugins import (
    Method,
    NoOptions,
    Signal,
    SSTokenConfig,
    TokenSelector,
    hookimpl,
    option,
    token_forward,
    weighted_nll,
)
from sstoken_plugins.guard import PluginError
from sstoken_plugins.methods.sstoken import SSToken

from .selectors import attached
from .tiny import VOCABULARY

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


class Rarity(Signal):
    """High for tokens with a high number."""

    def __call__(self, measured):
        return measured.input_ids / VOCABULARY


@dataclass(frozen=True)
class ForgetOptions(NoOptions):
    forget_above: float = option(1.0, "What is rarer is unlearned.")


class Forget(Method):
    """Unlearns what is rarer than the option `forget_above`, learns the rest."""

    Options = ForgetOptions

    def signals(self, progress):
        return ["rarity"]

    def weights(self, signals, documents, progress):
        return torch.where(signals["rarity"] > self.options.forget_above, -1.0, 2.0)


class Plugin:
    @hookimpl
    def register_signals(self, register):
        register("rarity", Rarity)

    @hookimpl
    def register_methods(self, register):
        register("forget", Forget)

    @hookimpl
    def observe(self, selection, record):
        negative = (selection.weights < 0) & selection.kept
        record("forgotten", negative.sum(), selection.kept.sum())


def test_a_plugin_brings_a_signal_a_method_and_a_metric(model, batch, register):
    register(Plugin())
    selector = attached(model, strategy="forget", forget_above=0.5)
    forward, selection = selector.forward(model, batch, step=0)
    response, rare = selection.documents.response, batch["input_ids"] / VOCABULARY > 0.5
    assert torch.equal(selection.weights, torch.where(response, torch.where(rare, -1.0, 2.0), 0.0))
    assert selector.denominator(batch) == response.sum()

    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    learned, unlearned = forward.log_probs[response & ~rare].sum(), forward.log_probs[response & rare].sum()
    torch.testing.assert_close(loss, (unlearned - 2 * learned) / response.sum())
    loss.backward()
    assert selector.metrics.drain()["sstoken/forgotten"] == pytest.approx(
        ((rare & response).sum() / response.sum()).item()
    )

    _, selection = attached(model, strategy="signal", signal="rarity").forward(model, batch, step=0)
    assert selection.kept.any()


def test_an_unregistered_plugin_leaves_nothing():
    with pytest.raises(ValueError, match="`strategy` is 'forget', which is not registered"):
        TokenSelector(SSTokenConfig(strategy="forget"))


def test_a_plugin_cannot_take_the_name_of_a_method(register, caplog):
    class Impostor:
        @hookimpl
        def register_methods(self, register):
            register("sstoken", Forget)

    register(Impostor())
    assert isinstance(TokenSelector(SSTokenConfig()).method, SSToken)
    assert "the name of its method 'sstoken'" in caplog.text


def test_the_weights_of_a_method_off_the_response_do_not_matter(model, batch, register):
    class Everything(Method):
        def signals(self, progress):
            return []

        def weights(self, signals, documents, progress):
            return torch.full(documents.ids.shape, 3.0)

    class Careless:
        @hookimpl
        def register_methods(self, register):
            register("everything", Everything)

    register(Careless())
    forward, selection = attached(model, strategy="everything").forward(model, batch, step=0)
    assert torch.equal(selection.weights, 3.0 * selection.documents.response)
    expected = token_forward(model, batch, selection.documents).log_probs
    assert torch.equal(forward.log_probs, expected)


def method_of(register, weigh, promise=None):
    """Registers a method with these weights and this `n_kept`, as 'careless'."""

    class Careless(Method):
        """As given."""

        def signals(self, progress):
            return ["loss"]

        def weights(self, signals, documents, progress):
            return weigh(signals["loss"], documents)

        def n_kept(self, counts, progress):
            return None if promise is None else promise(counts.n_response)

    class Brings:
        @hookimpl
        def register_methods(self, register):
            register("careless", Careless)

    register(Brings())


def test_a_method_that_keeps_more_than_it_promised_stops_the_run(model, batch, register):
    """Backward visits as many tokens as were promised: the others would silently get no gradient."""
    method_of(register, lambda loss, documents: documents.response.float(), lambda n: n // 2)
    selector = attached(model, strategy="careless")
    selector.lookup(batch)  # only then is the promise used
    selector.forward(model, batch, step=4)
    kept, promised = int((batch["labels"] != -100).sum()), 3 + 2
    with pytest.raises(
        RuntimeError,
        match=rf"'careless' gave weight to {kept} tokens .* in step 4, but its `n_kept` had promised {promised} at "
        "most.*Correct its `n_kept`",
    ):
        selector.step_end(5)


def test_a_method_may_keep_less_than_it_promised(model, batch, register):
    method_of(register, lambda loss, documents: (documents.response & (loss > 3)).float(), lambda n: n)
    results = []
    for helped in (False, True):
        model.zero_grad()
        selector = attached(model, strategy="careless")
        if helped:
            selector.lookup(batch)
        forward, selection = selector.forward(model, batch, step=0)
        assert selection.dropped.any()
        weighted_nll(forward.log_probs, selection.weights, 5).backward()
        selector.step_end(1)
        results.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(*results)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("helped", [False, True])
def test_weights_that_are_not_finite_stop_the_run(model, batch, register, value, helped):
    method_of(register, lambda loss, documents: torch.where(loss > loss[documents.response].mean(), value, 1.0))
    selector = attached(model, strategy="careless")
    if helped:
        selector.lookup(batch)
    selector.forward(model, batch, step=2)
    with pytest.raises(
        FloatingPointError, match=r"Method 'careless' of .* gave a token the weight (nan|inf).* in step 2"
    ):
        selector.step_end(3)


@pytest.mark.parametrize(
    ("weigh", "got"),
    [
        (lambda loss, documents: loss[:, 1:], r"shape \(2, 10\)"),
        (lambda loss, documents: loss.flatten(), r"shape \(22,\)"),
        (lambda loss, documents: None, "None"),
        (lambda loss, documents: 1.0, r"1\.0"),
    ],
    ids=["narrow", "flat", "none", "number"],
)
def test_weights_of_another_shape_are_refused_with_the_method_and_its_module(model, batch, register, weigh, got):
    method_of(register, weigh)
    with pytest.raises(
        PluginError, match=rf"The method 'careless' of module {__name__}.* returned {got} .*shape \(2, 11\)"
    ):
        attached(model, strategy="careless").forward(model, batch, step=0)


def test_a_signal_of_another_shape_is_refused_with_its_module(model, batch, register):
    class Row(Signal):
        def __call__(self, measured):
            return measured.log_probs[0]

    class Brings:
        @hookimpl
        def register_signals(self, register):
            register("row", Row)

    register(Brings())
    with pytest.raises(PluginError, match=rf"The signal 'row' of module {__name__}.* returned shape \(11,\)"):
        attached(model, strategy="signal", signal="row").forward(model, batch, step=0)


def test_a_method_that_weighs_cannot_leave_the_loss_to_the_framework(register):
    register(Plugin())
    with pytest.raises(ValueError, match="`strategy` is 'forget', which weighs tokens"):
        TokenSelector(SSTokenConfig(strategy="forget", loss="framework", forget_above=0.5))
