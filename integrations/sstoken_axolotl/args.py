"""The `sstoken:` block of an Axolotl YAML: every option that anybody registered, by its name there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from sstoken_plugins import SSTokenConfig, all_options
from sstoken_plugins.errors import Problem, refuse


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
    def _unknown_options(cls, names: Iterable[Any]) -> Iterator[Problem]:
        for name in names:
            if name not in cls.model_fields:
                close = difflib.get_close_matches(str(name), cls.model_fields, n=1)
                yield Problem(
                    "`{key}` is not an option of `sstoken`{hint} Its options are {all}.",
                    key=name,
                    hint=f": did you mean `{close[0]}`?" if close else ".",
                    all=", ".join(cls.model_fields),
                )

    @model_validator(mode="after")
    def _possible_values(self) -> Self:
        self.token_selection()
        return self

    def token_selection(self) -> SSTokenConfig:
        """The core's configuration.

        Raises:
            Refused: for values that can never work.
        """
        return SSTokenConfig(**self.model_dump(exclude={"enabled"}, exclude_none=True))


def _fields() -> dict[str, Any]:
    """None is unset: then the default of the chosen method or history holds."""
    return {
        name: (each.type | None, Field(default=None, description=each.described))
        for name, each in all_options().items()
    }


SSTokenBlock: type[_Block] = create_model("SSTokenBlock", __base__=_Block, **_fields())


class SSTokenArgs(BaseModel):
    """What the plugin adds to Axolotl's configuration: one optional block, on by default."""

    @model_validator(mode="before")
    @classmethod
    def _not_as_under_trl(cls, settings: Any) -> Any:
        refuse(
            Problem(
                "`{key}` is how TRL's users write it, and would change nothing here: set `{option}` in the block "
                "`sstoken:`, or on the command line --sstoken__{option}={value}",
                key=key,
                option=key.removeprefix("sstoken_").lstrip("_"),
                value=settings[key],
            )
            for key in (settings if isinstance(settings, Mapping) else ())
            if str(key).startswith("sstoken_")
        )
        return settings

    sstoken: SSTokenBlock = Field(  # type: ignore[valid-type]
        default_factory=SSTokenBlock,
        validate_default=True,
        description="Train only on the tokens that matter (ssToken, arXiv 2510.18250).",
    )


def block_of(cfg: Any) -> _Block:
    """The block of a loaded configuration; unset options are left out."""
    settings = cfg.sstoken.to_dict() if cfg.sstoken else {}
    return SSTokenBlock.model_validate({name: value for name, value in settings.items() if value is not None})
