"""The `sstoken:` block of an Axolotl YAML: every option of `SSTokenConfig`, by its name there."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from sstoken_plugins import SSTokenConfig
from sstoken_plugins.refusal import refuse


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(default=True, description="Set to false to train on every token, as without the plugin.")

    @model_validator(mode="before")
    @classmethod
    def _known_options(cls, block: Any) -> Any:
        if block is None:  # `sstoken:` with nothing below it
            return {}
        if isinstance(block, bool):  # `sstoken: false`
            return {"enabled": block}
        refuse(cls._unknown_options(block if isinstance(block, Mapping) else ()))
        return block

    @classmethod
    def _unknown_options(cls, names: Iterable[Any]) -> Iterator[str]:
        for name in names:
            if name not in cls.model_fields:
                close = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                yield (
                    f"`{name}` is no option of `sstoken`"
                    + (f": did you mean `{close[0]}`?" if close else ".")
                    + f" Its options are {', '.join(cls.model_fields)}."
                )

    @model_validator(mode="after")
    def _possible_values(self) -> Self:
        self.token_selection()
        return self

    def token_selection(self) -> SSTokenConfig:
        """The core's configuration.

        Raises:
            ValueError: for values that can never work.
        """
        return SSTokenConfig(**self.model_dump(exclude={"enabled"}))


def _fields() -> dict[str, Any]:
    types = get_type_hints(SSTokenConfig)
    fields = {}
    for option in dataclasses.fields(SSTokenConfig):
        default = {"default": option.default}
        if option.default is dataclasses.MISSING:
            default = {"default_factory": option.default_factory}
        fields[option.name] = (types[option.name], Field(**default, description=option.metadata["help"]))
    return fields


SSTokenBlock: type[_Block] = create_model("SSTokenBlock", __base__=_Block, **_fields())


class SSTokenArgs(BaseModel):
    """What the plugin adds to Axolotl's configuration: one optional block, on by default."""

    sstoken: SSTokenBlock = Field(  # type: ignore[valid-type]
        default_factory=SSTokenBlock,
        validate_default=True,
        description="Train only on the tokens that matter (ssToken, arXiv 2510.18250).",
    )
