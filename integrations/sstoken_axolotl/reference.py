"""`sstoken record --as reference` with an Axolotl YAML: another model over the data as the training tokenises them."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sstoken_plugins.errors import refused
from sstoken_transformers.tokenizer import fingerprint

from .args import block_of
from .compat import load_cfg, load_datasets, make_trainer
from .names import PLUGIN
from .settings import leaving_no_trace, overrides_of

OF_THE_TRAINED = ("base_model_config", "revision_of_model", "lora_model_dir", "peft_layers_to_transform")


def recording_reference(path: Path, argv: Sequence[str], model: str) -> int:
    """Fills the `reference_store` of the YAML; returns how many samples were new.

    Raises:
        Refused: if no store is named, or the reference has another tokenizer.
    """
    from axolotl.loaders import load_tokenizer
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as name, leaving_no_trace(), contextlib.redirect_stdout(sys.stderr):
        trained = load_cfg(path, **overrides_of(argv))
        if PLUGIN not in (trained.plugins or []):
            raise refused("`plugins` does not have `{plugin}`, which makes the recording: add it.", plugin=PLUGIN)
        folder = block_of(trained).token_selection().given.get("reference_store")
        if not folder:
            raise refused("`reference_store` is not set in `sstoken:`: set it to the folder to record into.")
        theirs = AutoTokenizer.from_pretrained(model, trust_remote_code=bool(trained.trust_remote_code))
        if fingerprint(load_tokenizer(trained)) != fingerprint(theirs):
            raise refused(
                "The reference {model!r} has another tokenizer than {trained!r}: token by token, only models with "
                "the same vocabulary can be compared.",
                model=model,
                trained=trained.base_model,
            )
        alone = Path(name, "reference.yaml")
        alone.write_text(yaml.safe_dump(_settings(path, trained, model)), encoding="utf-8")
        overrides = {key: value for key, value in overrides_of(argv).items() if not key.startswith("sstoken__")}
        cfg = load_cfg(alone, **{**overrides, "base_model": model, "output_dir": str(Path(name, "out"))})
        cfg.save_strategy = "no"
        trainer = make_trainer(cfg, load_datasets(cfg))
    new: int = trainer.record_reference(str(folder))
    return new


def _settings(path: Path, trained: Any, model: str) -> dict[str, Any]:
    """Those of the training, with the reference in place of its model, and the training's tokenizer.

    On quantised weights the trainer wants an adapter, and a fresh one changes nothing; else there is none.
    """
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in OF_THE_TRAINED:
        settings.pop(key, None)
    settings |= {
        "base_model": model,
        "tokenizer_config": trained.tokenizer_config or trained.base_model,
        "sstoken": {"strategy": "full"},
        "save_strategy": "no",
    }
    if not (trained.load_in_4bit or trained.load_in_8bit):
        settings = {key: value for key, value in settings.items() if key != "adapter" and not key.startswith("lora_")}
    return settings
