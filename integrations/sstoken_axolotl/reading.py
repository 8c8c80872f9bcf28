"""What Axolotl would train on, as it has tokenised, masked, cut and shuffled it: for `sstoken audit`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sstoken_plugins.errors import refused
from sstoken_transformers.framework import TrainingData

from .compat import load_cfg, load_datasets
from .settings import leaving_no_trace, overrides_of


def training_data(path: Path, argv: Sequence[str]) -> TrainingData:
    """See `Framework.training_data`. Packing comes later and changes no row."""
    from axolotl.loaders import load_tokenizer
    from transformers import BitsAndBytesConfig

    # What Axolotl prints on the way is not the answer; the training's own folder is left alone.
    with tempfile.TemporaryDirectory() as folder, leaving_no_trace(), contextlib.redirect_stdout(sys.stderr):
        cfg = load_cfg(path, **{**overrides_of(argv), "output_dir": folder})
        tokenizer = load_tokenizer(cfg)
        rows = load_datasets(cfg).train_dataset
    if not hasattr(rows, "__len__"):
        raise refused("The training streams its data, which cannot be read twice: set `streaming: false`.")
    loading: dict[str, Any] = {"dtype": str(cfg.torch_dtype).removeprefix("torch."), "trust_remote_code": False}
    if cfg.trust_remote_code:
        loading["trust_remote_code"] = True
    if cfg.load_in_4bit:
        loading["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=cfg.torch_dtype,
        )
    return TrainingData(
        rows=rows,
        model=cfg.base_model,
        loading=loading,
        autocast="bf16" if cfg.bf16 is True else "fp16" if cfg.fp16 is True else "no",
        tokenizer=tokenizer,
    )
