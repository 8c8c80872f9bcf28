"""A saved PEFT adapter, read and judged before any model is loaded."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import Problem, Refused, refuse, refused
from .below_adapter import MOVING

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
# Entries of the configuration that do not change what the saved weights compute.
_COSMETIC = frozenset((
    "base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping", "peft_version",
    "lora_dropout", "init_lora_weights", "path_initial_model_for_weight_conversion", "ensure_weight_tying",
    "runtime_config", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_config",
    "megatron_core",
))  # fmt: skip


@contextlib.contextmanager
def naming_folder(option: str) -> Iterator[None]:
    """Refusals name the option that the folder stands in."""
    try:
        yield
    except Refused as error:
        renamed = (each.template.replace("{history_adapter}", f"{{{option}}}") for each in error.problems)
        raise Refused(
            *(Problem(new, **each.values) for new, each in zip(renamed, error.problems, strict=True))
        ) from error


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The adapter's configuration, after checking that the folder holds what is needed.

    Raises:
        Refused: naming what is missing or cannot be.
    """
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # a name that is too long, for example, or has a zero in it
        is_folder = False
    if not is_folder:
        raise refused(
            "{history_adapter} is {folder!r}, which is not a folder: set it to the folder of a saved PEFT adapter. "
            "(One from a hub has to be downloaded first.)",
            folder=str(folder)[:200],
        )
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            hint = ""
            if name == WEIGHTS_FILE and (folder / "adapter_model.bin").is_file():
                hint = " It has adapter_model.bin, a pickle, which is not loaded: save it again with current PEFT."
            raise refused(
                "{history_adapter} {folder!r} has no {file}, so it is not a saved PEFT adapter.{hint}",
                folder=str(folder),
                file=name,
                hint=hint,
            )
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refused("{history_adapter}: {path!r} cannot be read ({error}).", path=str(path), error=error) from error
    except (ValueError, RecursionError) as error:
        raise refused(
            "{history_adapter}: {path!r} is not valid JSON ({error}).", path=str(path), error=error
        ) from error
    if not isinstance(config, dict):
        raise refused(
            "{history_adapter}: {path!r} holds {value}, but the configuration of an adapter is an object with "
            "`peft_type`, `r` and so on: save the adapter again.",
            path=str(path),
            value=_shown(config),
        )
    refuse(_problems(str(folder), config))
    return config


def _problems(folder: str, config: Mapping[str, Any]) -> Iterator[Problem]:
    def wrong(name: str, expected: str) -> Problem:
        return Problem(
            "{history_adapter} {folder!r}: `{name}` in its {file} is {value}, but it has to be {expected}. Save the "
            "adapter again.",
            folder=folder,
            name=name,
            file=CONFIG_FILE,
            value=_shown(config.get(name)),
            expected=expected,
        )

    if not isinstance(config.get("peft_type"), str):
        yield wrong("peft_type", "text, such as 'LORA'")
    base = config.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        yield wrong("base_model_name_or_path", "text")
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        yield wrong("r", "a whole number above 0")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        yield wrong("lora_alpha", "a number")
    targets = config.get("target_modules")
    if not isinstance(targets, str | None) and not (
        isinstance(targets, list) and all(isinstance(each, str) for each in targets)
    ):
        yield wrong("target_modules", "text, or a list of texts")
    initialisation = config.get("init_lora_weights")
    if isinstance(initialisation, str) and initialisation.startswith(MOVING):
        yield Problem(
            "{history_adapter} {folder!r} was initialised by {initialisation!r} (init_lora_weights), which changes "
            "the base model below it: convert it to a plain LoRA when it is saved "
            "(`path_initial_model_for_weight_conversion`), or use another adapter.",
            folder=folder,
            initialisation=initialisation,
        )
    if (bias := config.get("bias", "none")) != "none":
        yield Problem(
            "{history_adapter} {folder!r} was saved with biases (bias={bias!r}), which would replace those of the "
            "base model in training: use an adapter without.",
            folder=folder,
            bias=bias,
        )


def check_adapter_weights(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises:
    Refused: if the weights cannot be read, are not finite, or are not of the configuration's rank.
    """
    from safetensors import safe_open

    path = folder / WEIGHTS_FILE
    plain_rank = config.get("peft_type") == "LORA" and not config.get("rank_pattern")
    try:
        n = 0
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensor, n = file.get_tensor(name), n + 1
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise refused(
                        "{history_adapter}: {name!r} in {path!r} is not finite: use another adapter.",
                        name=name,
                        path=str(path),
                    )
                if plain_rank and name.endswith("lora_A.weight") and tensor.shape[0] != config.get("r", 8):
                    raise refused(
                        "{history_adapter}: {name!r} in {path!r} has rank {rank}, but {file} says r={r}: the two are "
                        "not of one adapter.",
                        name=name,
                        path=str(path),
                        rank=tensor.shape[0],
                        file=CONFIG_FILE,
                        r=config.get("r", 8),
                    )
    except ValueError:
        raise
    except Exception as error:  # of safetensors, which has one class for all, or of the file system
        raise refused(
            "{history_adapter}: {path!r} is damaged or cannot be read ({error}): copy or save the adapter again.",
            path=str(path),
            error=error,
        ) from error
    if n == 0:
        raise refused("{history_adapter}: {path!r} holds no weights: save the adapter again.", path=str(path))


def fingerprint_of(folder: Path, config: Mapping[str, Any]) -> str:
    """A hash of the weights, and of what the configuration makes of them."""
    meaning = {name: value for name, value in config.items() if name not in _COSMETIC and value}
    for name, value in meaning.items():
        if isinstance(value, list):
            meaning[name] = sorted(value, key=str)  # PEFT saves sets in any order
    with (folder / WEIGHTS_FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(meaning, sort_keys=True).encode())
    return digest.hexdigest()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
