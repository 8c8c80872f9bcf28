"""What methods with a reference need on disk, made once for a whole test session: an adapter and two recordings."""

from __future__ import annotations

import functools
import tempfile
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from sstoken_plugins import SSTokenConfig, TokenSelector, TrainingRun
from sstoken_plugins.histories.reference import ReferenceRecording
from sstoken_plugins.run.recording import Recorder

from .layouts import laid_out
from .tiny import tiny

_FOLDER = tempfile.TemporaryDirectory(prefix="sstoken-references-")


def learned(model, seed: int):
    """With LoRA that changes what the model computes."""
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def record_reference(model, batch, folder, tokenizer=None) -> int:
    """As `sstoken record --as reference` does: the model alone."""
    selector = TokenSelector(SSTokenConfig(strategy="full"))
    run = TrainingRun(tokenizer=tokenizer)
    selector.attach(model, run)
    recorder = Recorder(ReferenceRecording(str(folder), model, run), without_prompts=False)
    new = selector.record(model, batch, recorder)
    recorder.history.store.flush()
    return new


def record_base(model, batch, folder) -> None:
    """The store of the model below the adapter."""
    config = SSTokenConfig(gamma=1.0, history="recorded", history_store=str(folder), history_record=True)
    selector = TokenSelector(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selector.attach(model)
    recorder = selector.recorder()
    selector.record(model, batch, recorder)
    recorder.history.store.flush()


@functools.cache
def adapter() -> str:
    """Of `tiny("llama")`."""
    folder = Path(_FOLDER.name) / "adapter"
    learned(tiny("llama"), seed=5).save_pretrained(folder)
    return str(folder)


@functools.cache
def reference_store() -> str:
    """Another model's log-probabilities of `layouts.documents`."""
    folder = Path(_FOLDER.name) / "reference"
    record_reference(tiny("llama", seed=11), laid_out("right"), folder)
    return str(folder)


@functools.cache
def history_store() -> str:
    """Those of `tiny("llama")`, below an adapter."""
    folder = Path(_FOLDER.name) / "history"
    record_base(learned(tiny("llama"), seed=1), laid_out("right"), folder)
    return str(folder)


def by_sample() -> dict[str, str]:
    return {"over": "sample", "reference_adapter": adapter()}


def over_data() -> dict[str, str]:
    return {"reference_store": reference_store(), "history": "recorded", "history_store": history_store()}
