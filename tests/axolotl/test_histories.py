"""Every history in a real Axolotl run: it works, it can be resumed exactly, it survives being killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..kill import killed_at_random
from .conftest import SSTOKEN, data, losses, run, train, write
from .test_training import QLORA, difference, saved

# In a random order, Axolotl itself packs other rows after resuming in the middle of an epoch.
PACKED_IN_ORDER = {"sample_packing": True, "micro_batch_size": 1, "curriculum_sampling": True}
HISTORIES = ["base", "adapter", "snapshot", "ema", "recorded", "last_visit"]


@pytest.fixture
def block(adapters, tmp_path):
    """The block `sstoken:` for a history."""

    def build(history: str) -> dict:
        own = {
            "adapter": {"history_adapter": str(adapters[1])},
            "snapshot": {"refresh_steps": 0.5},
            "ema": {"ema_alpha": 0.7},
            "recorded": {"history_store": str(tmp_path / "store"), "history_record": True},
        }
        return {"history": history, **own.get(history, {})}

    return build


def log(trainer, name: str) -> list[float]:
    return [entry[f"sstoken/{name}"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(("history", "four_bit"), [(name, name in ("snapshot", "recorded")) for name in HISTORIES])
def test_resuming_continues_exactly(settings, block, tmp_path, history, four_bit):
    options = {
        "sstoken": block(history),
        "max_steps": 10,
        "save_strategy": "steps",
        "save_steps": 7,
        **PACKED_IN_ORDER,
        **(QLORA if four_bit else {}),
    }
    whole = train(settings, **options, output_dir=str(tmp_path / "whole"))
    resumed = train(
        settings,
        **options,
        output_dir=str(tmp_path / "resumed"),
        resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-7"),
    )
    assert difference(saved(tmp_path / "whole"), saved(tmp_path / "resumed")) == 0
    assert losses(whole)[7:] == losses(resumed)[7:]
    if history == "last_visit":
        assert log(whole, "history_missing")[0] == 1
        assert log(whole, "history_missing")[-1] == 0
        assert log(whole, "rel_kept")[0] == 0 < log(whole, "rel_kept")[-1]
    if history == "recorded":
        assert log(whole, "history_missing") == [0] * 10


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_recorded_is_base(settings, block, tmp_path, packing):
    settings |= {"sample_packing": packing, "micro_batch_size": 1 if packing else 4, "max_steps": 6}
    live = train(settings, sstoken=block("base"), output_dir=str(tmp_path / "live"))
    recorded = train(settings, sstoken=block("recorded"), output_dir=str(tmp_path / "recorded"))
    assert losses(live) == losses(recorded)
    # The same samples, laid out in another way: nothing has to be recorded again.
    other = {"sample_packing": not packing, "micro_batch_size": 4 if packing else 1}
    strict = {**block("recorded"), "history_record": False, "history_strict": True}
    again = train(settings, **other, sstoken=strict, output_dir=str(tmp_path / "other"))
    assert log(again, "history_missing") == [0] * 6


@pytest.mark.parametrize("history", ["recorded", "last_visit"])
def test_full_fine_tuning(settings, block, history):
    settings = {name: value for name, value in settings.items() if not name.startswith(("lora", "adapter"))}
    trainer = train(settings, sstoken=block(history), max_steps=10, sample_packing=True, micro_batch_size=1)
    assert log(trainer, "rel_kept")[0] == 0
    assert log(trainer, "rel_kept")[-1] > log(trainer, "rel_dropped")[-1]


def test_a_store_of_another_model_is_refused(settings, block, adapters):
    train(settings, sstoken=block("recorded"), max_steps=1)
    with pytest.raises(ValueError, match="was made with another adapter"):
        train(settings, sstoken={**block("recorded"), "history_adapter": str(adapters[1])}, max_steps=1)


def test_auto_resume_passes_over_what_was_not_finished(settings, block, tmp_path):
    settings |= {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "auto_resume_from_checkpoints": True}
    train(settings, sstoken=block("ema"))
    whole = saved(settings["output_dir"])
    (Path(settings["output_dir"]) / "checkpoint-3" / "trainer_state.json").write_text("{")
    resumed = train(settings, sstoken=block("ema"))
    assert len(losses(resumed)) == 3
    assert difference(whole, saved(settings["output_dir"])) == 0


@pytest.mark.parametrize("history", ["adapter", "ema"])
def test_the_best_adapter_alone_is_kept(settings, block, four_chats, history):
    out = Path(settings["output_dir"])
    settings |= {"test_datasets": data(four_chats), "load_best_model_at_end": True, "learning_rate": 0.1}
    steps = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "eval_steps": 2, "save_total_limit": 1}
    trainer = train(settings, sstoken=block(history), **steps)
    best = Path(trainer.state.best_model_checkpoint)
    assert {path.name for path in out.glob("checkpoint-*")} <= {best.name, "checkpoint-4"}
    assert difference(saved(best), saved(out)) == 0
    assert not any("sstoken_history" in name for name in saved(out))
    assert [path.name for path in out.glob("sstoken*")] == ["sstoken.json"]  # no history among them


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES)
def test_killed_five_times(settings, block, tmp_path, chats, history):
    # More than one chat a file, and more files than one: Axolotl prepares them again after a kill.
    settings |= {
        "datasets": data(write(tmp_path / "own.jsonl", [])),
        "dataset_prepared_path": str(tmp_path / "prepared"),
    }
    Path(settings["datasets"][0]["path"]).write_bytes(chats.read_bytes())

    def train_once(elsewhere: bool = False) -> None:
        folder = tmp_path / ("whole" if elsewhere else "killed")
        own = block(history)
        if history == "recorded":
            own["history_store"] = str(folder / "store")
        options = {
            "sstoken": own,
            "output_dir": str(folder),
            "max_steps": 60,
            "save_strategy": "steps",
            "save_steps": 1,
            "save_total_limit": 3,
            "auto_resume_from_checkpoints": True,
            "gradient_accumulation_steps": 2,
            **PACKED_IN_ORDER,
        }
        run("train", {**settings, "plugins": [SSTOKEN], **options})

    killed_at_random(train_once, kills=5, seed=HISTORIES.index(history))
    assert difference(saved(tmp_path / "whole"), saved(tmp_path / "killed")) == 0
