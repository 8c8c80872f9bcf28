"""`sstoken inspect` with an Axolotl YAML: the trainer that Axolotl would train with, and its first samples."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sstoken_report.inspection import InspectArguments, present, resume

from .args import SSTokenBlock
from .settings import leaving_no_trace, overrides_of

PLUGIN = "sstoken_axolotl.SSTokenPlugin"


def inspect(path: Path, argv: Sequence[str]) -> None:
    """Scores the samples, prints them, and writes the page and the tables.

    Args:
        path: the YAML.
        argv: `InspectArguments` as flags, and overrides of the YAML as `--key=value`.

    Raises:
        ValueError: for what the training would refuse too.
        OSError: if something can't be read or written.
    """
    own, overrides = _parse(argv)
    Path(own.out).mkdir(parents=True, exist_ok=True)
    # That the base model is below the trained adapter is what is to be seen here.
    warnings.filterwarnings("ignore", message="`history` is 'base' and training continues from an adapter")
    with tempfile.TemporaryDirectory() as folder, leaving_no_trace():
        # The training's own folder is left alone, and what Axolotl prints on the way is not the answer.
        overrides |= {"output_dir": str(Path(folder) / "out"), "save_strategy": "no", "save_steps": None}
        if own.adapter is not None:
            overrides["lora_model_dir"] = own.adapter
        with contextlib.redirect_stdout(sys.stderr):
            trainer, asked_for = _trainer(path, overrides)
        step = resume(trainer.token_selector, Path(own.adapter)) if own.adapter else 0
        present(trainer, own, asked_for, step)


def _parse(argv: Sequence[str]) -> tuple[InspectArguments, dict[str, Any]]:
    parser = argparse.ArgumentParser(
        prog="sstoken inspect AXOLOTL.yaml",
        description="Shows which tokens would train. Overrides of the YAML are written as --key=value.",
        allow_abbrev=False,
    )
    for option in dataclasses.fields(InspectArguments):
        kind = int if isinstance(option.default, int) else str
        names = [f"--{option.name}", *option.metadata.get("aliases", ())]
        parser.add_argument(*names, type=kind, default=option.default, help=option.metadata["help"])
    known, rest = parser.parse_known_args(argv)
    return InspectArguments(**vars(known)), overrides_of(rest)


def _trainer(path: Path, overrides: dict[str, Any]) -> tuple[Any, Any]:
    """Axolotl's trainer with token selection in it, and the options that were asked for."""
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.integrations.base import PluginManager
    from axolotl.train import setup_model_and_trainer

    cfg = load_cfg(str(path), **overrides)
    block = SSTokenBlock.model_validate(cfg.sstoken.to_dict() if cfg.sstoken else {})
    asked_for = block.token_selection()
    if PLUGIN not in (cfg.plugins or []):
        raise ValueError(f"`plugins` does not have `{PLUGIN}`, so this run trains on every token: add it.")
    if not block.enabled:
        raise ValueError("`sstoken` has `enabled: false`: this run trains on every token. Set it to true.")
    if cfg.sstoken:
        cfg.sstoken.report_steps, cfg.sstoken.history_record = 0, False
    data = PluginManager.get_instance().load_datasets(cfg, preprocess=False) or load_datasets(cfg=cfg)
    return setup_model_and_trainer(cfg, data)[0], asked_for
