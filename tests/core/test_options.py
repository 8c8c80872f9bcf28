"""Options belong to whom they configure: checked by name, never ignored, and declared once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch

from sstoken_plugins import Method, NoOptions, Refused, SSTokenConfig, TokenSelector, all_options, hookimpl, option
from sstoken_plugins.registry import broken_plugins, plugin_manager

WRONG = {
    float: ["0.6", "", [], {}, True, (0.5,), object(), math.inf, -math.inf, math.nan],
    int: ["3", [], {}, True, 1.5, math.inf, math.nan],
    bool: ["yes", "true", 1, 0, [], 1.0],
    str: [3, 0.5, [], {}, True, b"bytes"],
}
OPTIONS = all_options()
EVERY = [(name, value) for name, each in OPTIONS.items() for value in WRONG[each.type]]


def choosing(name: str) -> dict[str, str]:
    """What the option belongs to has to be chosen, and what that cannot do without."""
    chosen: dict[str, str] = {}
    for owner in OPTIONS[name].owners:
        kind, _, called = owner.partition(" ")
        if kind in ("method", "history"):
            chosen = {"strategy" if kind == "method" else "history": called}
            break
    required = {"signal": {"signal": "loss"}, "adapter": {"history_adapter": "a"}, "recorded": {"history_store": "a"}}
    return chosen | required.get(next(iter(chosen.values()), ""), {})


@pytest.mark.parametrize(("name", "value"), EVERY, ids=lambda part: repr(part)[:20])
def test_a_value_of_the_wrong_kind_is_refused_by_name(name, value):
    with pytest.raises(Refused, match=f"^`{name}` is ") as refusal:
        SSTokenConfig(**{**choosing(name), name: value})
    assert len(refusal.value.texts) == 1
    assert refusal.value.texts[0].endswith(".") or refusal.value.texts[0].endswith(")")


@pytest.mark.parametrize("name", OPTIONS)
def test_none_is_the_same_as_leaving_it_out(name):
    assert SSTokenConfig(**{name: None}) == SSTokenConfig()
    assert SSTokenConfig(**{name: None}).given == {}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_help_and_a_default_that_works(name):
    each = OPTIONS[name]
    assert name.isidentifier()
    assert each.help.endswith(".")
    for default in each.owners.values():
        assert default is None or each.check(default) == (default, None)
        assert default is None or repr(default) in each.described or f"Default: {default}." in each.described


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(Refused) as refusal:
        SSTokenConfig(rho=0.0, gamma="half", loss="mine", rel_warmup_steps=-1)
    assert [text.split("`")[1] for text in refusal.value.texts] == ["rho", "gamma", "loss", "rel_warmup_steps"]
    with pytest.raises(Refused) as refusal:
        SSTokenConfig(roh=0.5, gama=1.0)
    assert [text.split(":")[0] for text in refusal.value.texts] == [
        "`roh` is not an option",
        "`gama` is not an option",
    ]
    with pytest.raises(Refused) as refusal:
        SSTokenConfig(strategy="nope", history="neither")
    assert len(refusal.value.texts) == 2


def test_options_are_named_as_the_user_writes_them():
    with pytest.raises(Refused) as refusal:
        SSTokenConfig(strategy="trimmed", rho=0.5)
    shown = str(refusal.value.named(lambda option: f"--sstoken_{option}"))
    assert shown.startswith("`--sstoken_rho` is 0.5, which `--sstoken_strategy` 'trimmed'")


def test_what_is_set_is_told_from_what_is_left_out():
    left_out, the_same = SSTokenConfig(), SSTokenConfig(rho=0.6)
    assert left_out == the_same
    assert (left_out.given, the_same.given) == ({}, {"rho": 0.6})
    assert left_out.replace(strategy="full").strategy == "full"
    with pytest.raises(Refused, match=r"`rho` is 0\.6, which `strategy` 'full' .* would ignore: remove it"):
        the_same.replace(strategy="full")
    always = {
        name
        for name, each in all_options().items()
        if any(owner == "general" or owner.startswith("extension ") for owner in each.owners)
    }
    in_use = the_same.replace(strategy="full", rho=None).to_dict().keys()
    assert always <= in_use
    assert "rho" not in in_use


@pytest.mark.parametrize(
    ("options", "named", "owner"),
    [
        ({"strategy": "trimmed", "rho": 0.5}, "rho", "`strategy` 'sstoken'"),
        ({"ema_alpha": 0.5}, "ema_alpha", "`history` 'ema'"),
        ({"history": "base", "history_store": "x"}, "history_store", "`history` 'recorded'"),
        ({"strategy": "full", "attention_layer": 3}, "attention_layer", "the measurement 'attention'"),
        ({"strategy": "full", "history": "ema", "ema_alpha": 0.5}, None, None),
        ({"seed": 3}, "seed", "the signal 'noise'"),
        ({"gamma": 1.0, "attention_layer": 3}, "attention_layer", "the measurement 'attention'"),
    ],
)
def test_what_means_nothing_here_is_refused_and_its_owner_named(options, named, owner):
    if named is None:  # a history may be chosen, and its options set, also where nothing reads it
        assert SSTokenConfig(**options).ema_alpha == 0.5
        return
    with pytest.raises(Refused, match=rf"^`{named}` is .* would ignore: remove it, or choose .*{owner}"):
        SSTokenConfig(**options)


def test_numbers_and_paths_become_what_was_declared(tmp_path):
    config = SSTokenConfig(rho=1, history="recorded", history_store=tmp_path / "store", history_record=True)
    assert type(config.rho) is float
    assert config.history_store == str(tmp_path / "store")
    assert SSTokenConfig(**config.to_dict()) == config


@pytest.mark.parametrize("name", ["history_store", "history_adapter"])
@pytest.mark.parametrize("path", ["x" * 5000, "/".join(["deep"] * 3000), "null\0byte", "/proc/version/below"])
def test_paths_that_cannot_be_are_refused_by_name(name, path):
    history = "recorded" if name == "history_store" else "adapter"
    with pytest.raises(Refused, match=f"`{name}`"):
        TokenSelector(SSTokenConfig(**{"history": history, name: path}))


# What owners declare


@pytest.fixture
def register():
    registered = []

    def add(name, options):
        class Some(Method):
            """Some method."""

            Options = options

            def signals(self, progress):
                return []

            def weights(self, signals, documents, progress):
                return torch.ones(documents.ids.shape)

        class Plugin:
            @hookimpl
            def register_methods(self, register):
                register(name, Some)

        plugin_manager().register(plugin := Plugin())
        registered.append(plugin)

    yield add
    for plugin in registered:
        plugin_manager().unregister(plugin)


def declares(default, help="How much.", kind="float"):
    @dataclass(frozen=True)
    class Options(NoOptions):
        how_much: float = option(default, help)

    Options.__annotations__["how_much"] = kind
    return Options


def test_one_declaration_may_be_shared_with_defaults_of_ones_own(register):
    register("one", declares(0.25))
    register("other", declares(0.75))
    shared = all_options()["how_much"]
    assert shared.owners == {"method one": 0.25, "method other": 0.75}
    assert shared.described == "How much. Default: 0.25 for one; 0.75 for other."
    assert (SSTokenConfig(strategy="one").how_much, SSTokenConfig(strategy="other").how_much) == (0.25, 0.75)


@pytest.mark.parametrize("other", [declares(0.25, "How many."), declares(3, kind="int")], ids=["help", "type"])
def test_of_two_plugins_whose_declarations_differ_both_are_left_out(register, caplog, other):
    register("one", declares(0.25))
    register("other", other)
    assert "how_much" not in all_options()
    assert "the option 'how_much' of its method 'one'" in caplog.text
    assert "is taken by the method 'one'" in caplog.text
    assert SSTokenConfig(strategy="full").strategy == "full"
    with pytest.raises(Refused, match=r"`strategy` is 'other', which is not registered.*was left out"):
        SSTokenConfig(strategy="other")


def undeclared():
    @dataclass(frozen=True)
    class Options(NoOptions):
        how_much: float = 0.5

    return Options


def of_a_list():
    @dataclass(frozen=True)
    class Options(NoOptions):
        how_much: list = field(default_factory=list, metadata=option([], "Some.").metadata)

    return Options


@pytest.mark.parametrize("options", [undeclared(), of_a_list(), dict, None], ids=["bare", "list", "dict", "none"])
def test_a_plugin_that_declares_its_options_wrongly_loses_only_itself(register, caplog, options):
    register("wrong", options)
    assert SSTokenConfig(strategy="full").strategy == "full"
    assert "is left out: its hook register_methods failed" in caplog.text
    with pytest.raises(Refused, match=r"`strategy` is 'wrong', which is not registered.*was left out"):
        SSTokenConfig(strategy="wrong")


def test_a_plugin_that_is_taken_off_is_no_longer_said_to_be_left_out(caplog):
    """Its name is its address, and so may be that of the next one."""

    class Plugin:
        @hookimpl
        def register_methods(self, register):
            raise OSError("out of order")

    before = broken_plugins()
    for _ in range(2):
        plugin_manager().register(plugin := Plugin(), "test")
        caplog.clear()
        assert SSTokenConfig(strategy="full").strategy == "full"
        assert "'test' is left out: its hook register_methods failed: out of order" in caplog.text
        assert broken_plugins() == {**before, "test": "its hook register_methods failed: out of order"}
        plugin_manager().unregister(plugin)
        assert broken_plugins() == before
