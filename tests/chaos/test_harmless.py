"""What is read is data: no code of it runs, nothing is fetched, and nothing is written elsewhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sstoken_audit.data import open_data
from sstoken_audit.errors import AuditError
from sstoken_audit.formats import Format
from sstoken_plugins import SSTokenConfig, TokenSelector
from sstoken_plugins.errors import Refused
from sstoken_plugins.store import DiskStore
from sstoken_report.folder import FOLDER
from sstoken_transformers import newest_whole_checkpoint
from sstoken_transformers.checkpoints import sound_checkpoint
from sstoken_transformers.state import load_state, save_state

from .process import apart
from .test_store import first_step, recorded
from .training import HISTORIES, adapted, earlier_adapter, make, pad, rows

FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "pickle.find_class", "subprocess.Popen", "os.system", "os.exec")


def watched(folder: Path, function: Any, *arguments: Any) -> None:
    """Runs a function; any forbidden event, and any file that is changed outside `folder`, ends the process."""

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            _end(f"{event}: {details}")
        if event == "open":
            path, _, flags = details
            changes = isinstance(path, str | os.PathLike) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if changes and not os.path.abspath(path).startswith((str(folder), "/dev/")):
                _end(f"{path} was written")

    sys.addaudithook(hook)
    function(*arguments)


def _end(reason: str) -> None:
    os.write(2, f"forbidden: {reason}\n".encode())
    os._exit(9)


def uses(folder: Path, history: str) -> None:
    """Everything that this project writes or reads for a history."""
    trainer = make(folder, history)
    selector, batch = trainer.token_selector, pad(list(rows(4)))
    if history == "recorded":
        selector.record(trainer.model, batch, selector.recorder())
        selector.history.store.flush()
        selector.history.refresh()
    selector.begin(2)
    selector.forward(trainer.model.train(), batch, step=0)
    selector.step_end(1, 0.5)
    (folder / "checkpoint-1").mkdir(parents=True)
    save_state(selector, folder / "checkpoint-1")
    load_state(selector, folder / "checkpoint-1")


@pytest.mark.parametrize("history", HISTORIES)
def test_nothing_is_fetched_unpickled_or_written_elsewhere(ledger, tmp_path, history):
    earlier_adapter(tmp_path)
    ledger.trial("harmless", history, lambda: apart(watched, tmp_path, uses, tmp_path / "run", history),
                 lambda status: status == 0)  # fmt: skip


def trains(folder: Path, history: str) -> None:
    """A whole run of `transformers.Trainer`: it trains, writes checkpoints and reports, and resumes."""
    make(folder, history, max_steps=2, reports=1).train()
    trainer = make(folder, history, max_steps=3, reports=1)
    trainer.train(resume_from_checkpoint=True)
    assert (folder / FOLDER / "step-000003.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES)
def test_a_whole_training_fetches_and_writes_nothing_elsewhere(ledger, tmp_path, history):
    earlier_adapter(tmp_path)
    make(tmp_path / "before", history, max_steps=1, reports=1).train()  # what libraries make once for all is there
    ledger.trial("harmless", ("training", history),
                 lambda: apart(watched, tmp_path, trains, tmp_path / "run", history), lambda status: status == 0
                 )  # fmt: skip


ESCAPE = "\x1b[31m"


def checkpoint_with_a_name(folder: Path) -> None:
    make(folder / "run", "ema", max_steps=1).train()
    path = folder / "run" / "checkpoint-1" / "trainer_state.json"
    path.write_text(path.read_text().replace('"optimizer.pt"', json.dumps(f"{ESCAPE}.pt")))
    assert newest_whole_checkpoint(folder / "run") is None
    sound_checkpoint(str(path.parent), folder / "run")


def store_with_a_name(folder: Path) -> None:
    recorded(folder / "store")
    (folder / "store" / f"{ESCAPE}.safetensors").write_bytes(b"x")
    DiskStore(folder / "store")


def adapter_with_a_name(folder: Path) -> None:
    path = earlier_adapter(folder) / "adapter_model.safetensors"
    save_file({f"{ESCAPE}.lora_A.weight": torch.full((2, 2), torch.nan)}, path, {"format": "pt"})
    TokenSelector(SSTokenConfig(history="adapter", history_adapter=str(folder / "earlier")))


def adapter_with_a_type(folder: Path) -> None:
    path = earlier_adapter(folder) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "peft_type": ESCAPE}))
    TokenSelector(SSTokenConfig(history="adapter", history_adapter=str(folder / "earlier"))).attach(adapted())


def data_with_a_column(folder: Path) -> None:
    list(open_data([{ESCAPE: 1}], "train").row(0))
    Format(open_data([{ESCAPE: "a", "other": "b"}], "train"))


HOSTILE = (
    checkpoint_with_a_name,
    store_with_a_name,
    adapter_with_a_name,
    adapter_with_a_type,
    data_with_a_column,
)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda each: each.__name__)
def test_names_are_no_commands_to_a_terminal(ledger, tmp_path, hostile, caplog, capsys):
    came = ledger.trial("harmless", hostile.__name__, lambda: hostile(tmp_path), lambda found: False,
                        also=(AuditError,))  # fmt: skip
    assert came == "refused"  # and `trial` has looked at the sentence
    assert ESCAPE not in caplog.text
    printed = capsys.readouterr()
    assert ESCAPE not in printed.out + printed.err


def test_links_that_wait_for_a_checkpoint_are_not_followed(ledger, tmp_path):
    """Under the names that its files had while they were written in earlier versions."""
    trainer = make(tmp_path / "run", "ema", max_steps=1)
    folder, victim = tmp_path / "run" / "checkpoint-1", tmp_path / "victim"
    folder.mkdir(parents=True)
    victim.write_text("mine")
    for name in ("sstoken.json", "sstoken_history.safetensors"):
        (folder / f".{name}.{os.getpid()}").symlink_to(victim)
    ledger.trial("harmless", "links", trainer.train, lambda found: victim.read_text() == "mine")


def test_the_watch_itself_sees(tmp_path):
    def unpickles() -> None:
        torch.save({"x": os.path.join}, tmp_path / "x.pt")
        torch.load(tmp_path / "x.pt", weights_only=False)

    assert apart(watched, tmp_path, unpickles) == 9
    assert apart(watched, tmp_path / "elsewhere", (tmp_path / "x").write_text, "x") == 9


def test_names_inside_of_files_lead_nowhere_else(ledger, tmp_path):
    """A checkpoint's list of files may name any path: it is read, compared, and nothing more."""
    make(tmp_path / "run", "ema", max_steps=1).train()
    path = tmp_path / "run" / "checkpoint-1" / "trainer_state.json"
    path.write_text(path.read_text().replace('"optimizer.pt"', '"../../../etc/passwd"'))
    ledger.trial("harmless", "names", lambda: sound_checkpoint(True, tmp_path / "run"), lambda found: found is True)
    with pytest.raises(Refused, match="incomplete"):
        sound_checkpoint(str(path.parent), tmp_path / "run")


def test_stores_of_a_model_do_not_depend_on_where_it_lies(ledger, tmp_path):
    batch = recorded(tmp_path / "store")
    model = adapted()
    model.config._name_or_path = "/somewhere/else"
    came = ledger.trial("store of the same model", "moved", lambda: first_step(model, tmp_path / "store", batch),
                        lambda rel: rel == 0)  # fmt: skip
    assert came == "survived"
