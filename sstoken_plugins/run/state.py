"""What a checkpoint holds of a selection: what it was made with, and what its history and method remember."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..config import SSTokenConfig
from ..guard import expect_tensors
from .plan import Plan

METHOD = "method."
"""Stands before the names of the method's tensors; the others are the history's."""


def described(config: SSTokenConfig, plan: Plan) -> dict[str, Any]:
    """What a resumed run has to have in common with the run it continues, as JSON values."""
    identities = {name: dict(each.identity()) for name, each in plan.measurements.items()}
    history = {name: identity for name, identity in identities.items() if identity}
    options = config.to_dict()
    if plan.history is not None:
        history = {**plan.history.describe(), **history}
        if plan.history.known_as != config.history:  # "auto" is what it was decided to be
            own = {each.name for each in dataclasses.fields(plan.history.options)}
            options = {name: value for name, value in options.items() if name not in own}
            options["history"] = plan.history.known_as
    return {"config": options, "history": history}


def state_of(config: SSTokenConfig, plan: Plan) -> dict[str, Tensor]:
    """The tensors that a resumed run needs to continue exactly."""
    of_history = plan.history.state_dict() if plan.history is not None else {}
    of_method = plan.method.state_dict()
    if plan.history is not None:
        expect_tensors("history", plan.history.name, plan.history, of_history)
    expect_tensors("method", config.strategy, plan.method, of_method)
    return {**of_history, **{METHOD + name: value for name, value in of_method.items()}}


def restore(plan: Plan, state: Mapping[str, Tensor]) -> None:
    """Gives history and method back what `state_of` took."""
    of_history = {name: value for name, value in state.items() if not name.startswith(METHOD)}
    if plan.history is not None:
        plan.history.load_state_dict(of_history)
    plan.method.load_state_dict(
        {name.removeprefix(METHOD): value for name, value in state.items() if name not in of_history}
    )
