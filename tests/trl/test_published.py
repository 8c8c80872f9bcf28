"""What others see of a run with a history of its own: the trained adapter, and nothing else."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.utils import filter_repo_objects
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from .test_histories import HISTORIES, options  # noqa: F401


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    """A folder that takes what is pushed to a hub."""
    folder = tmp_path / "hub"

    def upload_folder(
        self, *, folder_path, path_in_repo="", ignore_patterns=None, run_as_future=False, **_
    ) -> Future | None:
        source = Path(folder_path)
        names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, ignore_patterns=ignore_patterns):
            target = folder / path_in_repo / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target)
        done: Future = Future()
        done.set_result(None)
        return done if run_as_future else None

    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **_: RepoUrl(f"https://huggingface.co/me/{name}"))
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    return folder


@pytest.mark.parametrize("history", HISTORIES)
def test_the_best_adapter_alone_is_kept_and_pushed(make_trainer, options, dataset, model_dir, hub, tmp_path, history):  # noqa: F811
    out = tmp_path / "out"
    trainer = make_trainer(
        max_steps=6, learning_rate=0.1, eval_dataset=dataset.select(range(4)), eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, save_total_limit=1, load_best_model_at_end=True,
        push_to_hub=True, hub_strategy="checkpoint", **options(history),
    )  # fmt: skip
    trainer.train()
    trainer.push_to_hub()

    best = Path(trainer.state.best_model_checkpoint)
    assert {path.name for path in out.glob("checkpoint-*")} <= {best.name, "checkpoint-6"}
    expected = load_file(best / "adapter_model.safetensors")
    for folder in (out, hub):
        seen = load_file(folder / "adapter_model.safetensors")
        assert seen.keys() == expected.keys()
        assert all(torch.equal(seen[name], expected[name]) for name in expected)
    pushed = {str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()}
    assert {name for name in pushed if "sstoken" in name and "/" not in name} == {"sstoken.json"}, "how it was trained"
    # What is pushed to resume from elsewhere is whole.
    assert (hub / "last-checkpoint" / "sstoken.json").is_file()
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), hub).eval()
    assert list(plain.peft_config) == ["default"]
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, trainer.model.eval()(ids).logits)


def test_reports_and_recorded_histories_stay_here(make_trainer, hub, tmp_path):
    """They hold the training data, or what can be read from it."""
    pytest.importorskip("matplotlib")
    trainer = make_trainer(
        peft_config=None, max_steps=2, push_to_hub=True, sstoken_report_steps=2, sstoken_report_samples=3
    )
    trainer.train()
    trainer.push_to_hub()
    out = tmp_path / "out"
    assert (out / "_sstoken-report" / "index.html").is_file()
    assert list((out / "_sstoken-history").iterdir())
    pushed = {str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()}
    assert {"README.md", "model.safetensors", "sstoken.json"} <= pushed
    assert not any("report" in name or "history" in name for name in pushed), pushed
    assert "## Token selection" in (hub / "README.md").read_text()
