"""Folders of an earlier adapter that are damaged, or of another kind."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from sstoken_plugins import SSTokenConfig, TokenSelector

from ..core.tiny import tiny
from .damage import damaged, wrong_entries
from .training import adapted, pad, rows

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    adapted(learned=True, seed=5).save_pretrained(tmp_path / "earlier")
    return tmp_path / "earlier"


def said(folder: Path) -> torch.Tensor:
    """Log-probabilities of the history that the folder makes."""
    selector = TokenSelector(SSTokenConfig(history="adapter", history_adapter=str(folder)))
    model = adapted()
    selector.attach(model)
    return selector.forward(model.train(), pad(list(rows())), step=0)[1].measured["history"]


def loaded_by_peft(folder: Path) -> torch.Tensor:
    """The same, as PEFT itself would load it."""
    model = PeftModel.from_pretrained(tiny("llama", num_hidden_layers=1), folder)
    batch = pad(list(rows()))
    with torch.no_grad():
        log_probs = model(**batch).logits.log_softmax(-1)
    labels = batch["labels"][:, 1:]
    found = log_probs[:, :-1].gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return torch.nn.functional.pad(torch.where(labels == -100, 0, found), (1, 0))


def as_peft(folder: Path, found: torch.Tensor) -> bool:
    return torch.allclose(found, loaded_by_peft(folder), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [20, pytest.param(150, marks=pytest.mark.slow)])
def test_any_damage(ledger, folder, n):
    """PEFT's files have no checksums: what still is an adapter is loaded as PEFT loads it, all else is named."""
    rng = random.Random(0)
    for number in range(n):
        path = folder / (WEIGHTS if number % 3 == 0 else CONFIG)
        content = path.read_bytes()
        how, wrong = damaged(content, rng)
        if number % 3 == 1:
            how, wrong = next(wrong_entries(content, rng, 1))
        path.write_bytes(wrong)
        ledger.trial("damaged adapter", (path.name, how), lambda: said(folder), lambda found: as_peft(folder, found),
                     names="`history_adapter`")  # fmt: skip
        path.write_bytes(content)


def config(**values: Any) -> Any:
    def change(folder: Path) -> None:
        (folder / CONFIG).write_text(json.dumps({**json.loads((folder / CONFIG).read_text()), **values}))

    return change


def tensors(change: Any) -> Any:
    def write(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        save_file(change(found), folder / WEIGHTS, {"format": "pt"})

    return write


CASES = {
    "truncated": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
    "empty": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "no tensors": tensors(lambda found: {}),
    "other tensors": tensors(lambda found: {"x": torch.zeros(2)}),
    "another rank": tensors(lambda found: {name: torch.cat([each, each], 0 if "lora_A" in name else 1)
                                           for name, each in found.items()}),
    "not finite": tensors(lambda found: {name: each * torch.inf for name, each in found.items()}),
    "one missing": tensors(lambda found: dict(list(found.items())[1:])),
    "config a list": lambda folder: (folder / CONFIG).write_text("[]"),
    "config null": lambda folder: (folder / CONFIG).write_text("null"),
    "config deep": lambda folder: (folder / CONFIG).write_text("[" * 100_000),
    "config binary": lambda folder: (folder / CONFIG).write_bytes(b"\xff\xfe"),
    "r text": config(r="x"),
    "r zero": config(r=0),
    "r other": config(r=7),
    "alpha text": config(lora_alpha="x"),
    "base a number": config(base_model_name_or_path=3),
    "base another": config(base_model_name_or_path="somebody/else"),
    "type unknown": config(peft_type="NEW"),
    "type null": config(peft_type=None),
    "targets a number": config(target_modules=4),
    "targets unknown": config(target_modules=["nothing"]),
    "pissa": config(init_lora_weights="pissa"),
    "olora": config(init_lora_weights="olora"),
    "bias": config(bias="all"),
    "pickle": lambda folder: shutil.move(folder / WEIGHTS, folder / "adapter_model.bin"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_folders_that_hold_no_adapter_for_this_model(ledger, folder, case):
    CASES[case](folder)
    ledger.trial("damaged adapter", case, lambda: said(folder), lambda found: as_peft(folder, found),
                 names="`history_adapter`")  # fmt: skip


@pytest.mark.parametrize("kind", ["pissa", "olora"])
@pytest.mark.parametrize("history", ["base", "adapter"])
def test_a_run_whose_own_adapter_moves_the_base(ledger, folder, kind, history):
    more = {"history_adapter": str(folder)} if history == "adapter" else {}
    selector = TokenSelector(SSTokenConfig(history=history, **more))
    model = adapted(init_lora_weights=kind)
    ledger.trial("adapter of another kind", (kind, history), lambda: selector.attach(model), lambda found: False,
                 names="init_lora_weights")  # fmt: skip


@pytest.mark.parametrize("mine", [None, ["lm_head"]])
@pytest.mark.parametrize("theirs", [None, ["lm_head"]])
def test_modules_to_save_are_loaded_as_peft_loads_them(ledger, tmp_path, mine, theirs):
    """And neither the state dict nor what is saved of the model has them."""
    other = adapted(learned=True, seed=5, modules_to_save=theirs)
    for parameter in other.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.05)
    other.save_pretrained(tmp_path / "earlier")
    model = adapted(modules_to_save=mine)
    names = list(model.state_dict())
    selector = TokenSelector(SSTokenConfig(history="adapter", history_adapter=str(tmp_path / "earlier")))
    selector.attach(model)
    assert sorted(model.state_dict()) == sorted(names)
    model.save_pretrained(tmp_path / "mine")
    plain = adapted(modules_to_save=mine)
    plain.save_pretrained(tmp_path / "plain")
    assert load_file(tmp_path / "mine" / WEIGHTS).keys() == load_file(tmp_path / "plain" / WEIGHTS).keys()
    ledger.trial(
        "adapter of another kind", ("modules_to_save", mine, theirs),
        lambda: selector.forward(model.train(), pad(list(rows())), step=0)[1].measured["history"],
        lambda found: as_peft(tmp_path / "earlier", found),
    )  # fmt: skip
