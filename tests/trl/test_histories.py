"""Every history in a real `SSTokenSFTTrainer`: what it costs, what it compares with, and that it survives."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import pytest
import torch
from datasets import concatenate_datasets

from sstoken_plugins import History, Stored, hookimpl
from sstoken_plugins.registry import plugin_manager

from .test_training import SGD, difference, losses, nf4, weights

HISTORIES = ["base", "adapter", "snapshot", "ema", "recorded", "last_visit"]


@pytest.fixture
def options(adapters, tmp_path):
    """What switches a history on."""

    def build(history: str) -> dict:
        own = {
            "adapter": {"sstoken_history_adapter": str(adapters[0])},
            "snapshot": {"sstoken_refresh_steps": 3},
            "ema": {"sstoken_ema_alpha": 0.7},
            "recorded": {"sstoken_history_store": str(tmp_path / "store"), "sstoken_history_record": True},
        }
        return {"sstoken_history": history, **own.get(history, {})}

    return build


@contextlib.contextmanager
def registered(plugin):
    plugin_manager().register(plugin)
    try:
        yield
    finally:
        plugin_manager().unregister(plugin)


@contextlib.contextmanager
def selections():
    """What is selected in the micro-batches of a run."""
    seen = []

    class Observer:
        @hookimpl
        def observe(self, selection, record):
            seen.append(selection)

    with registered(Observer()):
        yield seen


def by_document(seen) -> dict[tuple[int, tuple[int, ...]], tuple[list[bool], list[float]]]:
    """Step and tokens of each document -> which tokens are kept, and their excess loss."""
    found = {}
    for selection in seen:
        measured, ids = selection.measured, selection.documents.ids
        for document in range(int(ids.max()) + 1):
            tokens = ids == document
            key = (measured.progress.step, tuple(measured.input_ids[tokens].tolist()))
            rel = (measured.log_probs - measured["history"])[tokens]
            found[key] = (selection.kept[tokens].tolist(), rel.tolist())
    return found


def log(trainer, name: str) -> list[float]:
    return [entry[f"sstoken/{name}"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("history", HISTORIES)
def test_forward_passes_of_a_step(make_trainer, options, history):
    """Live histories cost one more; what was recorded or seen before costs none."""
    trainer = make_trainer(max_steps=12, **options(history))  # two epochs of six steps
    calls = []
    counts = []
    with selections():
        if history == "recorded":
            trainer.record_history()
        trainer.model.base_model.model.model.register_forward_hook(lambda *_: calls.append(1))
        step_end = trainer.token_selector.step_end
        trainer.token_selector.step_end = lambda *args: (counts.append(len(calls)), calls.clear(), step_end(*args))
        trainer.train()
    live = history in ("base", "adapter", "snapshot", "ema")
    assert counts[1:] == [2 if live else 1] * 11  # the first step also compares with the model's own logits


@pytest.mark.parametrize("four_bit", [False, True], ids=["float32", "nf4"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_snapshot_is_renewed(make_trainer, options, lora, dropout, four_bit):
    """The excess loss is exactly 0 right after a renewal, and not before the next."""
    trainer = make_trainer(
        peft_config=replace(lora, lora_dropout=dropout), quantization_config=nf4() if four_bit else None,
        max_steps=8, **options("snapshot"),
    )  # fmt: skip  # renewed every 3 steps
    trainer.train()
    zero = [step for step, rel in enumerate(log(trainer, "rel_kept")) if rel == 0]
    assert zero == [0, 3, 6]


def test_snapshot_by_fractions_of_an_epoch(make_trainer):
    trainer = make_trainer(max_steps=12, sstoken_history="snapshot", sstoken_refresh_steps=0.5)  # 6 steps an epoch
    trainer.train()
    assert [step for step, rel in enumerate(log(trainer, "rel_kept")) if rel == 0] == [0, 3, 6, 9]


@pytest.mark.parametrize("four_bit", [False, True], ids=["float32", "nf4"])
def test_ema_is_the_average_of_what_was_trained(make_trainer, options, four_bit):
    trainer = make_trainer(
        max_steps=1, quantization_config=nf4() if four_bit else None, learning_rate=1e-3, **options("ema")
    )
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    state = trainer.token_selector.history.state_dict()
    for name, average in state.items():
        name = name.removeprefix("weights.")
        expected = (
            0.7 * before[name].float() + 0.3 * after[name].float()
        )  # bfloat16 on a 4-bit model, the average is not
        torch.testing.assert_close(average, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("layout", ["padded", "packed", "padding_free"])
def test_recorded_selects_what_base_does(make_trainer, options, dataset, layout):
    """Token for token, though the store was recorded in another order, in another layout, with other samples in it."""
    recorded = options("recorded")
    with_more = concatenate_datasets(
        [dataset.shuffle(seed=3), dataset.map(lambda row: {"prompt": "w9 " + row["prompt"]})]
    )
    make_trainer(train_dataset=with_more, per_device_train_batch_size=5, **recorded).record_history()

    data = dataset.shuffle(seed=1).select(range(20))
    run = {
        "max_steps": 8,
        "train_dataset": data,
        **{
            "packed": {"packing": True, "max_length": 128, "per_device_train_batch_size": 1},
            "padding_free": {"padding_free": True, "max_length": None},
        }.get(layout, {}),
    }
    found = []
    for history in ("base", "recorded"):
        trainer = make_trainer(**run, **{**options(history), "sstoken_history_record": False})
        with selections() as seen:
            trainer.train()
        found.append(by_document(seen))
        assert history == "base" or log(trainer, "history_missing") == [0] * 8
    live, read = found
    assert live.keys() == read.keys()
    assert len(live) >= 20
    for key in live:
        assert live[key][0] == read[key][0], key
        assert read[key][1] == pytest.approx(live[key][1], abs=2e-4)
    assert all(rel == 0 for (step, _), (_, values) in read.items() if step == 0 for rel in values)


def test_recorded_from_an_adapter(make_trainer, options, adapters):
    adapter = {"sstoken_history_adapter": str(adapters[0])}
    live = make_trainer(max_steps=3, **options("adapter"))
    live.train()
    recorded = make_trainer(max_steps=3, **adapter, **options("recorded"))
    recorded.train()
    assert losses(live) == losses(recorded)
    other = {**options("recorded"), "sstoken_history_adapter": str(adapters[1])}
    with pytest.raises(ValueError, match="was made with another adapter"):
        make_trainer(**other)


def test_samples_that_were_not_recorded(make_trainer, options, dataset, caplog):
    recorded = {**options("recorded"), "sstoken_history_record": False}
    with pytest.raises(ValueError, match="nothing was recorded yet: fill it with `sstoken record`"):
        make_trainer(**recorded)
    make_trainer(train_dataset=dataset.select(range(12)), **options("recorded")).record_history()

    live, partly = make_trainer(max_steps=6), make_trainer(max_steps=6, **recorded)
    live.train()
    partly.train()
    assert losses(partly) == pytest.approx(losses(live), abs=1e-6)
    assert 0 < log(partly, "history_missing")[0] < 1
    assert "are not in the store" in caplog.text

    strict = make_trainer(max_steps=6, sstoken_history_strict=True, **recorded)
    with pytest.raises(ValueError, match=r"`sstoken_history_strict` is True and \d samples"):
        strict.train()

    assert make_trainer(**options("recorded")).record_history() == 12  # only what it lacked


def test_last_visit_compares_with_the_epoch_before(make_trainer):
    trainer = make_trainer(max_steps=18, sstoken_history="last_visit")  # three epochs
    with selections() as seen:
        trainer.train()
    last: dict[tuple[int, ...], torch.Tensor] = {}
    for selection in seen:
        measured, ids = selection.measured, selection.documents.ids
        for document in range(int(ids.max()) + 1):
            tokens = ids == document
            key = tuple(measured.input_ids[tokens].tolist())
            now = measured.log_probs[tokens]
            torch.testing.assert_close(measured["history"][tokens], last.get(key, now), rtol=0, atol=2e-4)
            last[key] = now
    assert log(trainer, "history_missing") == [1] * 6 + [0] * 12
    assert log(trainer, "rel_kept")[:6] == [0] * 6
    assert log(trainer, "rel_kept")[6] > log(trainer, "rel_dropped")[6]


def test_last_visit_can_begin_with_base(make_trainer):
    base = make_trainer(max_steps=6)
    last_visit = make_trainer(max_steps=6, sstoken_history="last_visit", sstoken_first_visit="base")
    base.train()
    last_visit.train()
    assert losses(base) == losses(last_visit)
    assert difference(weights(base), weights(last_visit)) == 0


def test_last_visit_does_not_depend_on_how_a_step_is_cut(make_trainer):
    results = []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=12,
            sstoken_history="last_visit", **SGD,
        )  # fmt: skip
        trainer.train()
        results.append(weights(trainer))
    assert difference(results[0], results[1]) < 1e-5
    assert difference(results[0], results[2]) < 1e-5


def test_a_plugin_brings_its_own(make_trainer):
    """Registered as the built-in ones are, and used by name."""

    class Uniform(History):
        """The model that knows nothing."""

        def attach(self, model, run):
            self.vocabulary = model.config.vocab_size

        def stored(self, batch):
            return Stored(torch.full(batch.labels.shape, -math.log(self.vocabulary)), 0)

    class Plugin:
        @hookimpl
        def register_histories(self, register):
            register("uniform", Uniform)

    with registered(Plugin()):
        trainer = make_trainer(sstoken_history="uniform")
        with selections() as seen:
            trainer.train()
    measured = seen[0].measured
    expected = (measured.log_probs + math.log(trainer.model.config.vocab_size))[measured.documents.response]
    torch.testing.assert_close(seen[0].signals["rel"][measured.documents.response], expected)


@pytest.mark.parametrize("history", ["recorded", "last_visit"])
def test_full_fine_tuning(make_trainer, options, history):
    """Without an adapter the earlier weights are gone; what they said is not."""
    trainer = make_trainer(peft_config=None, max_steps=12, **options(history))
    trainer.train()
    rel = log(trainer, "rel_kept")
    assert rel[0] == 0
    assert rel[-1] > log(trainer, "rel_dropped")[-1]


@pytest.mark.parametrize("history", ["base", "adapter", "snapshot", "ema"])
def test_full_fine_tuning_has_no_earlier_weights(make_trainer, options, history):
    with pytest.raises(ValueError, match=r"`sstoken_history` to 'auto'"):
        make_trainer(peft_config=None, **options(history))


@pytest.mark.parametrize("history", HISTORIES)
def test_workers_load_the_data(make_trainer, options, history):
    """What the data loader's workers look up is what the training process would."""
    results = []
    for workers in (0, 2):
        trainer = make_trainer(max_steps=8, dataloader_num_workers=workers, **options(history))
        trainer.train()
        results.append(losses(trainer))
    assert results[0] == results[1]


@pytest.mark.parametrize("four_bit", [False, True], ids=["float32", "nf4"])
@pytest.mark.parametrize("history", HISTORIES)
def test_resuming_continues_exactly(make_trainer, options, tmp_path, history, four_bit):
    run = {
        "max_steps": 10, "save_strategy": "steps", "save_steps": 4, "warmup_steps": 3, "sstoken_rel_warmup_steps": 2,
        "quantization_config": nf4() if four_bit else None, **options(history),
    }  # fmt: skip
    whole = make_trainer(output_dir=tmp_path / "whole", **run)
    whole.train()
    for step in (4, 8):  # in the first epoch of six steps, and in the second
        resumed = make_trainer(output_dir=tmp_path / "resumed", **run)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert difference(weights(whole), weights(resumed)) == 0
        assert losses(whole)[step:] == losses(resumed)[step:]


def test_a_checkpoint_that_was_not_finished_is_passed_over(make_trainer, options, tmp_path, caplog):
    run = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, **options("snapshot")}
    whole = make_trainer(**run)
    whole.train()
    newest = tmp_path / "out" / "checkpoint-3"
    (newest / "trainer_state.json").write_text('{"epoch": 0.')

    with pytest.raises(ValueError, match=r"is incomplete: resume from checkpoint-2"):
        make_trainer(**run).train(resume_from_checkpoint=str(newest))
    resumed = make_trainer(**run)
    resumed.train(resume_from_checkpoint=True)
    assert "checkpoint-3 is incomplete" in caplog.text
    assert difference(weights(whole), weights(resumed)) == 0


def test_a_damaged_history_in_a_checkpoint_is_refused(make_trainer, options, tmp_path):
    run = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, **options("snapshot")}
    make_trainer(**run).train()
    path = tmp_path / "out" / "checkpoint-1" / "sstoken_history.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"is incomplete: resume from checkpoint-2. \(sstoken_history.safetensors has"
    ):
        make_trainer(**run).train(resume_from_checkpoint=str(path.parent))
    path.unlink()
    with pytest.raises(ValueError, match=r"\(sstoken_history.safetensors, which trainer_state.json"):
        make_trainer(**run).train(resume_from_checkpoint=str(path.parent))
