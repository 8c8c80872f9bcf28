"""Examines an Axolotl YAML: with Axolotl's own validation and preparation of data, and a model without weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from peft import PeftConfig, get_peft_model
from pydantic import ValidationError
from transformers import BitsAndBytesConfig

from sstoken_plugins import TokenSelector
from sstoken_plugins.errors import Problem, problems_of
from sstoken_plugins.model.head import known_tokens
from sstoken_transformers.doctor.data import count, judge
from sstoken_transformers.doctor.diagnosis import Diagnosis
from sstoken_transformers.doctor.model import can_quantise, examine_model, skeleton
from sstoken_transformers.doctor.versions import versions
from sstoken_transformers.rows import problems_of_media, problems_of_tokens
from sstoken_transformers.tokenizer import fingerprint
from sstoken_transformers.trainer import MEDIA_LOOKED_AT

from .activation import continues_from_adapter
from .args import block_of
from .compat import load_cfg, plugins
from .data import hint
from .names import PLUGIN, own_name
from .plugin import SSTokenPlugin
from .settings import leaving_no_trace, overrides_of
from .unsupported import unsupported_settings


def examine(path: Path, overrides: Sequence[str]) -> Diagnosis:
    """Raises:
    Refused: for overrides that are not written as `--key=value`.
    """
    found = Diagnosis(
        "Axolotl",
        list(versions("torch", "transformers", "axolotl", "trl", "peft", "bitsandbytes")),
        own_name,
    )
    options = overrides_of(overrides)
    with tempfile.TemporaryDirectory() as folder, leaving_no_trace():
        cfg, refused = _load(path, options, Path(folder), found)
        if cfg is not None:
            _examine(cfg, None if refused else _selector(cfg, found), found)
    return found


def _load(path: Path, options: dict[str, Any], folder: Path, found: Diagnosis) -> tuple[Any, bool]:
    """The configuration, and whether its block `sstoken` is refused: then it is as without that block."""
    options["output_dir"] = str(folder / "out")
    with found.looking_at("The configuration"):
        try:
            return load_cfg(path, **options), False
        except ValidationError as error:
            found.add(*_invalid(error))
            if not any(each["loc"][:1] == ("sstoken",) for each in error.errors()):
                return None, True
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        (folder / "run.yaml").write_text(yaml.safe_dump({**settings, "sstoken": {"enabled": False}}), encoding="utf-8")
        others = {name: value for name, value in options.items() if name.partition("__")[0] != "sstoken"}
        return load_cfg(folder / "run.yaml", **others), True
    return None, True


def _invalid(error: ValidationError) -> Iterator[Problem]:
    for each in error.errors():
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, Exception):
            yield from problems_of(cause)
        else:
            where = ".".join(map(str, each["loc"]))
            yield Problem(
                "`{where}`: {message} (it is {value!r}).", where=where, message=each["msg"], value=each["input"]
            )


def _selector(cfg: Any, found: Diagnosis) -> TokenSelector | None:
    block = block_of(cfg)
    if not any(isinstance(plugin, SSTokenPlugin) for plugin in plugins()):
        found.add(f"`plugins` does not have `{PLUGIN}`, so this run trains on every token: add it.")
    elif not block.enabled:
        found.add("`sstoken` has `enabled: false`: this run trains on every token. Set it to true.")
    with found.looking_at("The selection"):
        selector = TokenSelector(block.token_selection())
        found.selected(selector)
        return selector
    return None


def _examine(cfg: Any, selector: TokenSelector | None, found: Diagnosis) -> None:
    found.add(*unsupported_settings(cfg, selector))
    if selector is not None:
        found.note(
            *[" ".join(continues_from_adapter(selector, cfg)).removeprefix("NOTE: ")] * bool(cfg.lora_model_dir)
        )
    with found.looking_at("`load_in_4bit`"):
        can_quantise(BitsAndBytesConfig(load_in_4bit=True) if cfg.load_in_4bit else None)
    dataset = None
    with found.looking_at("The data"):
        dataset = _train_dataset(cfg)
        _examine_data(dataset, selector, found)
    with found.looking_at("The model"):
        from axolotl.loaders import load_tokenizer
        from axolotl.loaders.utils import load_model_config

        model = skeleton(load_model_config(cfg), cfg.torch_dtype, cfg.attn_implementation, found)
        found.add(*problems_of_tokens(dataset, known_tokens(model)))
        examine_model(_with_adapter(model, cfg), selector, fingerprint(load_tokenizer(cfg)), cfg.output_dir, found)
    judge(found, selector, None if cfg.max_steps else cfg.num_epochs, hint(cfg))


def _train_dataset(cfg: Any) -> Any:
    """As a training loads it, but for what this project's plugin refuses there."""
    from axolotl.common.datasets import load_datasets

    for plugin in plugins():
        loaded = None if isinstance(plugin, SSTokenPlugin) else plugin.load_datasets(cfg, preprocess=False)
        if loaded is not None:
            return loaded.train_dataset
    return load_datasets(cfg=cfg).train_dataset


def _examine_data(dataset: Any, selector: TokenSelector | None, found: Diagnosis) -> None:
    if not hasattr(dataset, "__len__"):
        found.note("The data are a stream: their tokens were not counted.")
        return
    if "labels" not in (dataset.column_names or ()):
        found.note("The data are tokenised when they are loaded, as pictures are: their tokens were not counted.")
        found.add(*problems_of_media(dataset, MEDIA_LOOKED_AT))
        return
    found.data = count(dataset, selector)


def _with_adapter(model: Any, cfg: Any) -> Any:
    from axolotl.loaders.adapter import load_lora

    if cfg.adapter not in ("lora", "qlora"):
        return model
    if cfg.lora_model_dir:
        return get_peft_model(model, PeftConfig.from_pretrained(cfg.lora_model_dir))
    return get_peft_model(model, load_lora(model, cfg, config_only=True)[1])
