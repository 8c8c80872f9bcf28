"""Everything of Axolotl that it does not document and this integration leans on; `tests/axolotl/test_compat.py` says
what each is for, and fails where it changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def load_cfg(path: Path, **options: Any) -> Any:
    """A YAML as `axolotl train` reads it: validated, with plugins loaded and defaults filled in."""
    from axolotl.cli.config import load_cfg

    return load_cfg(str(path), **options)


def plugins() -> Iterable[Any]:
    """The plugins of the configuration that was loaded last, as instances."""
    from axolotl.integrations.base import PluginManager

    found: Iterable[Any] = PluginManager.get_instance().plugins.values()
    return found


def load_datasets(cfg: Any) -> Any:
    """The data as a training loads them, `train_dataset` among them."""
    from axolotl.common.datasets import load_datasets
    from axolotl.integrations.base import PluginManager

    return PluginManager.get_instance().load_datasets(cfg, preprocess=False) or load_datasets(cfg=cfg)


def make_trainer(cfg: Any, data: Any) -> Any:
    """The trainer as a training makes it, with the model loaded."""
    from axolotl.train import setup_model_and_trainer

    return setup_model_and_trainer(cfg, data)[0]


def override(value: str) -> Any:
    """The value of `--key=value` as Axolotl's command line reads it."""
    from fire.parser import DefaultParseValue

    return DefaultParseValue(value)


def close_debug_log() -> None:
    """Ends Axolotl's copy of what is printed."""
    from axolotl.utils.tee import close_debug_log

    close_debug_log()
