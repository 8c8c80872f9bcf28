"""What Axolotl would train on, for `sstoken inspect` and `sstoken record`: its own trainer, from its own YAML."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sstoken_plugins import SSTokenConfig, registry
from sstoken_plugins.errors import refused
from sstoken_plugins.histories.below_adapter import CONTINUES
from sstoken_transformers.framework import Look, Looked
from sstoken_transformers.looking import OF_CHECKPOINT, UNCHANGED, is_full_checkpoint, recorded_store, register

from .args import block_of
from .compat import load_cfg, load_datasets, make_trainer
from .names import PLUGIN
from .settings import leaving_no_trace, overrides_of


@contextlib.contextmanager
def looking(path: Path, argv: Sequence[str], look: Look) -> Iterator[Looked]:
    """See `Framework.look`."""
    overrides, options = overrides_of(argv), dict[str, Any]()
    if is_full_checkpoint(look.adapter):
        assert look.adapter is not None
        overrides["base_model"] = look.adapter
        if store := recorded_store(Path(look.adapter)):
            register()
            options = {"history": OF_CHECKPOINT, "history_store": str(store)}
    elif look.adapter is not None:
        overrides["lora_model_dir"] = look.adapter
    # That the base model is below the trained adapter is what is to be seen here.
    warnings.filterwarnings("ignore", message=f".*{CONTINUES}")
    with _trainer(path, overrides, report_steps=None, history_record=None, **options) as (trainer, asked_for):
        yield Looked(trainer, asked_for, look.adapter)


def recording(path: Path, argv: Sequence[str]) -> int:
    """Fills the store that the YAML names; returns how many samples were new."""
    with _trainer(path, overrides_of(argv), records=True) as (trainer, _):
        new: int = trainer.record_history()
        return new


@contextlib.contextmanager
def _trainer(
    path: Path, overrides: dict[str, Any], *, records: bool = False, **options: Any
) -> Iterator[tuple[Any, SSTokenConfig]]:
    """Axolotl's trainer with token selection in it, and the options that were asked for; `options` replace some.

    Args:
        records: whether it is for filling the store that the training reads.
    """
    with tempfile.TemporaryDirectory() as folder, leaving_no_trace():
        overrides |= {"save_steps": None}
        if not records:  # the training's own folder is left alone
            overrides["output_dir"] = str(Path(folder) / "out")
        # What Axolotl prints on the way is not the answer.
        with contextlib.redirect_stdout(sys.stderr):
            cfg = load_cfg(path, **overrides)
            cfg.save_strategy = "no"  # as an override, Axolotl would read it as False where the YAML names none
            block = block_of(cfg)
            asked_for = block.token_selection()
            if PLUGIN not in (cfg.plugins or []):
                raise refused(
                    "`plugins` does not have `{plugin}`, so this run trains on every token: add it.", plugin=PLUGIN
                )
            if not block.enabled:
                raise refused("`sstoken` has `enabled: false`: this run trains on every token. Set it to true.")
            if records and (asked_for.history_store or asked_for.history != "auto"):
                options = {"history": "recorded", "history_record": True}
            if not (records or options.get("history") or cfg.adapter) and _begins_as_model(asked_for):
                register()
                options |= {"history": UNCHANGED, "history_store": None}
            for name, value in options.items():
                cfg.sstoken[name] = value
            trainer = make_trainer(cfg, load_datasets(cfg))
        yield trainer, asked_for


def _begins_as_model(asked_for: SSTokenConfig) -> bool:
    return asked_for.reads_history and registry.lookup("history", asked_for.history).begins_as_model
