"""`SFTConfig` with the selection's options as flat fields, so that TRL's parser makes flags and YAML keys of them."""

from __future__ import annotations

import dataclasses
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig

from sstoken_plugins import Option, SSTokenConfig, all_options
from sstoken_plugins.errors import named

from .compat import COMPUTES_LOSS_IN_CHUNKS
from .names import PREFIX, own_name


def _flat_fields() -> list[tuple[str, Any, Any]]:
    """`sstoken_rho` for `rho`, and so on: every option that anybody registered. None is unset."""
    return [
        (
            PREFIX + name,
            bool if each.type is bool else each.type | None,
            field(default=each.default if each.type is bool else None, metadata={"help": _help(each)}),
        )
        for name, each in all_options().items()
    ]


def _help(option: Option) -> str:
    return option.described.replace("%", "%%")  # argparse formats it


_Options = dataclasses.make_dataclass("_Options", _flat_fields())


@dataclass
class SSTokenSFTConfig(_Options, SFTConfig):  # type: ignore[valid-type, misc]
    """`SFTConfig`, and `sstoken` to switch token selection on.

    Each option of the selection, those of installed plugins included, is a field with the prefix `sstoken_`:
    `sstoken_rho`, `sstoken_gamma`, `sstoken_history`, `sstoken_history_adapter`, ... None is unset: then the default
    of the chosen method or history holds.

    Raises:
        Refused: for values that can never work, when `sstoken` is on.
    """

    sstoken: bool = field(
        default=False, metadata={"help": "Train only on the tokens that matter (ssToken, arXiv 2510.18250)."}
    )

    def __post_init__(self) -> None:
        if self.sstoken:
            self.token_selection()
            if getattr(self, "loss_type", None) == "nll" and COMPUTES_LOSS_IN_CHUNKS and not self.use_liger_kernel:
                # Before 1.16 this name asks for the full logits, for metrics; the other one for the same loss without.
                self.loss_type = "chunked_nll"
        elif self.given_options():
            warnings.warn(
                f"{', '.join(f'`{PREFIX}{name}`' for name in self.given_options())} will be ignored: `sstoken` is "
                "off. Set it to True.",
                stacklevel=3,
            )
        super().__post_init__()

    def given_options(self) -> dict[str, Any]:
        """The options of the selection that are set, by the core's names."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(_Options)}
        return {
            each.name.removeprefix(PREFIX): values[each.name]
            for each in dataclasses.fields(_Options)
            if values[each.name] is not None and values[each.name] is not each.default
        }

    def token_selection(self) -> SSTokenConfig:
        """The core's configuration.

        Raises:
            Refused: for values that can never work, by the names of this class.
        """
        with own_names():
            return SSTokenConfig(**self.given_options())


def own_names() -> AbstractContextManager[None]:
    """Refusals inside name options as this framework's users write them: `sstoken_rho`."""
    return named(own_name)
