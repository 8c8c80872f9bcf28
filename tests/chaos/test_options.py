"""Options of any type and value, given in Python, are taken as they are or refused by name."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from sstoken_plugins import SSTokenConfig, TokenSelector, all_options

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**400, 0.0, 0.5, 1.0, 1.5, -0.5, math.nan, math.inf, -math.inf, 1e-300,
    "", "x", "0.6", "1", "true", "\x1b[31mred", "a\0b", "~nobody-has-this-name/x", "x" * 5000, "/" * 300, "{rho}",
    [], ["x"], {}, {"rho": 1}, (), b"x", object(), int, Path("x"), Path("/dev/null"), range(3), 1j, lambda: 1,
)  # fmt: skip


@pytest.mark.parametrize("n", [60, pytest.param(None, marks=pytest.mark.slow)])
def test_any_value_of_any_option(ledger, n):
    """All of them, each with the values above."""
    cases = [(name, value) for name in all_options() for value in VALUES]
    for name, value in cases if n is None else random.Random(0).sample(cases, n):
        ledger.trial("option in Python", (name, repr(value)[:60]), lambda name=name, value=value: made(name, value),
                     lambda config, name=name, value=value: taken(config, name, value), names=f"`{name}`")  # fmt: skip


def made(name: str, value: Any) -> SSTokenConfig:
    config = SSTokenConfig(**{name: value})
    TokenSelector(config)
    return config


def taken(config: SSTokenConfig, name: str, value: Any) -> bool:
    found = getattr(config, name)
    if value is None:
        return True  # unset
    return (bool(found == (str(value) if isinstance(value, Path) else value)) and found is not value) or found == value


@pytest.mark.parametrize("name", ["rhoo", "", "\x1b[31m", "strategy ", "x" * 3000])
def test_names_that_nobody_declares(ledger, name):
    ledger.trial("option in Python", name, lambda: SSTokenConfig(**{name: 1}), lambda config: False,
                 names="is not an option")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"rho": "0.6"}, "rho"),
        ({"strategy": []}, "strategy"),
        ({"history": {}}, "history"),
        ({"history": "snapshot", "refresh_steps": math.inf}, "refresh_steps"),
        ({"history": "snapshot", "refresh_steps": 2.5}, "refresh_steps"),
        ({"history": "adapter", "history_adapter": 3}, "history_adapter"),
        ({"history": "adapter", "history_adapter": "x" * 5000}, "history_adapter"),
        ({"history": "adapter", "history_adapter": "a\0b"}, "history_adapter"),
        ({"history": "recorded", "history_store": "x" * 5000}, "history_store"),
        ({"history": "recorded", "history_store": "a\0b"}, "history_store"),
        ({"history": "recorded", "history_store": "~nobody-has-this-name/x"}, "history_store"),
        ({"history": "recorded", "history_store": "/dev/null"}, "history_store"),
        ({"history": "recorded", "history_store": "/proc/self"}, "history_store"),
        ({"history": "ema", "ema_alpha": math.nan}, "ema_alpha"),
        ({"rel_warmup_steps": 2.0}, "rel_warmup_steps"),
        ({"rel_warmup_steps": True}, "rel_warmup_steps"),
        ({"attention_layer": "last"}, "attention_layer"),
    ],
)
def test_options_that_cannot_work(ledger, options, name):
    ledger.trial("option in Python", options, lambda: TokenSelector(SSTokenConfig(**options)), lambda found: False,
                 names=f"`{name}`")  # fmt: skip
