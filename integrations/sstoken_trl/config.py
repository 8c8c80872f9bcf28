"""`SFTConfig` with the selection's options as flat fields, so that TRL's parser makes flags and YAML keys of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from trl import SFTConfig

from sstoken_plugins import SSTokenConfig
from sstoken_plugins.refusal import Refused, problems_of

PREFIX = "sstoken_"


def _flat_fields() -> list[tuple[str, Any, Any]]:
    """`sstoken_rho` for `rho`, and so on: every option of the core, with its default and its help."""
    types = get_type_hints(SSTokenConfig)
    fields = []
    for option in dataclasses.fields(SSTokenConfig):
        metadata = {"help": option.metadata["help"].replace("%", "%%")}
        if option.name == "options":  # a mapping comes from the command line as JSON, like TRL's own
            fields.append((PREFIX + option.name, dict[str, Any] | str | None, field(default=None, metadata=metadata)))
        else:
            flat = field(default=option.default, metadata=metadata)
            fields.append((PREFIX + option.name, types[option.name], flat))
    return fields


_Options = dataclasses.make_dataclass("_Options", _flat_fields())


@dataclass
class SSTokenSFTConfig(_Options, SFTConfig):  # type: ignore[valid-type, misc]
    """`SFTConfig`, and `sstoken` to switch token selection on.

    Each option of `sstoken_plugins.SSTokenConfig` is a field with the prefix `sstoken_`: `sstoken_rho`,
    `sstoken_gamma`, `sstoken_history`, `sstoken_history_adapter`, ...

    Raises:
        ValueError: for values that can never work, when `sstoken` is on.
    """

    sstoken: bool = field(
        default=False, metadata={"help": "Train only on the tokens that matter (ssToken, arXiv 2510.18250)."}
    )

    def __post_init__(self) -> None:
        if isinstance(self.sstoken_options, str):
            self.sstoken_options = json.loads(self.sstoken_options)
        if self.sstoken:
            self.token_selection()
            if self.loss_type == "nll" and SFTConfig.loss_type != "nll" and not self.use_liger_kernel:
                # Before 1.16 this name asks for the full logits, for metrics; the other one for the same loss without.
                self.loss_type = "chunked_nll"
        else:
            changed = [
                option.name
                for option in dataclasses.fields(self)
                if option.name.startswith(PREFIX) and getattr(self, option.name) != option.default
            ]
            if changed:
                warnings.warn(
                    f"{', '.join(f'`{name}`' for name in changed)} will be ignored: `sstoken` is off. Set it to True.",
                    stacklevel=3,
                )
        super().__post_init__()

    def token_selection(self) -> SSTokenConfig:
        """The core's configuration.

        Raises:
            ValueError: for values that can never work, by the names of this class.
        """
        values = {option.name: getattr(self, PREFIX + option.name) for option in dataclasses.fields(SSTokenConfig)}
        with own_names():
            return SSTokenConfig(**{**values, "options": values["options"] or {}})


@contextlib.contextmanager
def own_names() -> Iterator[None]:
    """Errors of the core say `rho`; what the user set here is `sstoken_rho`."""
    try:
        yield
    except ValueError as error:
        raise Refused(*map(with_own_names, problems_of(error))) from error


def with_own_names(problem: str) -> str:
    for option in dataclasses.fields(SSTokenConfig):
        problem = problem.replace(f"`{option.name}`", f"`{PREFIX}{option.name}`")
    return problem
