"""What an Axolotl user gets from one more line in a YAML, checked against plain Axolotl and a per-sample reference."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel, prepare_model_for_kbit_training
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from .. import processes
from ..trl import oracle
from . import spy
from .conftest import ONE_KERNEL, SPY, SSTOKEN, data, evaluation, losses, run, train, write

QLORA = {"adapter": "qlora", "load_in_4bit": True}


def load(model_dir, adapter=None, four_bit=False, attention="sdpa"):
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        bnb_4bit_use_double_quant=True,
    )
    model = AutoModelForCausalLM.from_pretrained(
        model_dir,
        quantization_config=quantization if four_bit else None,
        attn_implementation=attention,
        dtype=torch.float32,
    )
    if four_bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    return model.train()  # in evaluation, bitsandbytes may use another 4-bit kernel


def saved(folder) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "adapter_model.safetensors")


def difference(a, b) -> float:
    assert a.keys() == b.keys()
    return max((a[name].float() - b[name].float()).abs().max().item() for name in a)


def history(kind, adapters) -> dict[str, str]:
    return {"history": kind, **({"history_adapter": str(adapters[1])} if kind == "adapter" else {})}


def test_one_line_in_a_yaml_that_works(settings, capfd):
    trainer = train(settings)
    assert "ssToken is ON" in capfd.readouterr().out
    first, last = [entry for entry in trainer.state.log_history if "loss" in entry]
    for name in ("keep_rate", "rel_kept", "rel_dropped", "attention_kept", "attention_dropped"):
        assert f"sstoken/{name}" in first
    assert 0.6 <= first["sstoken/keep_rate"] < 0.7
    assert first["sstoken/rel_kept"] == first["sstoken/rel_dropped"] == 0  # nothing learned yet
    assert last["sstoken/rel_kept"] > last["sstoken/rel_dropped"]
    assert first["sstoken/attention_kept"] > first["sstoken/attention_dropped"]
    # The other plugin's trainer class is still in charge of what it does.
    assert isinstance(trainer, spy.OwnTrainer)
    assert trainer.batches == 2


@pytest.mark.parametrize("block", [{"sstoken": {"enabled": False}}, {"sstoken": False}], ids=["enabled", "short"])
def test_switched_off_is_plain_axolotl(settings, tmp_path, block):
    plain = run("train", {**settings, "plugins": [SPY], "output_dir": str(tmp_path / "plain")})
    off = train(settings, output_dir=str(tmp_path / "off"), **block)
    assert losses(plain) == losses(off)
    assert difference(saved(tmp_path / "plain"), saved(tmp_path / "off")) == 0


@pytest.mark.parametrize("four_bit", [False, True], ids=["lora", "qlora"])
@pytest.mark.parametrize("kind", ["base", "adapter"])
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_first_loss_equals_the_reference(settings, model_dir, adapters, four_chats, packing, kind, four_bit):
    trainer = train(
        settings,
        **(QLORA if four_bit else {}),
        datasets=data(four_chats),
        lora_model_dir=str(adapters[0]),
        gradient_checkpointing=packing,
        sample_packing=packing,
        micro_batch_size=1 if packing else 4,
        max_steps=1,
        sstoken=history(kind, adapters),
    )
    rows = [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]
    assert len(rows) == 4
    assert any(labels.count(-100) != next(i for i, label in enumerate(labels) if label != -100) for _, labels in rows)
    model = load(model_dir, adapters[0], four_bit, "eager")
    past = load(model_dir, adapters[1], four_bit, "eager") if kind == "adapter" else None
    assert losses(trainer) == [pytest.approx(oracle.loss(model, rows, rho=0.6, gamma=0.5, history=past), abs=1e-5)]


def test_whole_answers_left_out_are_the_same_padded_and_packed(settings, adapters, four_chats, tmp_path):
    results = []
    for packing in (False, True):
        trainer = train(
            settings,
            datasets=data(four_chats),
            lora_model_dir=str(adapters[0]),
            sample_packing=packing,
            micro_batch_size=1 if packing else 4,
            max_steps=1,
            output_dir=str(tmp_path / str(packing)),
            sstoken={"strategy": "grounded", "trim": 1.0},
        )
        results.append((losses(trainer), trainer.state.log_history[0]["sstoken/keep_rate"]))
    assert 0 < results[0][1] < 1
    assert results[1] == (pytest.approx(results[0][0], abs=1e-5), results[0][1])


@pytest.mark.parametrize("four_bit", [False, True], ids=["lora", "qlora"])
def test_evaluation_is_untouched(settings, chats, four_chats, tmp_path, four_bit):
    settings |= {"test_datasets": data(four_chats), "eval_batch_size": 2, **(QLORA if four_bit else {})}
    trainer = train(settings, eval_steps=2, sample_packing=True, eval_sample_packing=False)
    (during,) = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]

    # bitsandbytes has 4-bit kernels for inference on some CPUs; while training with ssToken they are not used.
    settings |= {"lora_model_dir": settings["output_dir"], "eval_sample_packing": False}
    plain = evaluation({**settings, "output_dir": str(tmp_path / "plain"), "plugins": [ONE_KERNEL]})
    with_plugin = evaluation({**settings, "output_dir": str(tmp_path / "with"), "plugins": [ONE_KERNEL, SSTOKEN]})
    assert plain["loss"] == with_plugin["loss"]
    assert during == pytest.approx(plain["loss"], abs=1e-6)


def test_batch_and_accumulation_do_not_matter(settings, tmp_path):
    results = []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        folder = tmp_path / f"{batch}x{accumulation}"
        train(
            settings,
            micro_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=4,
            optimizer="sgd",  # Adam turns the rounding of a gradient near zero into a step of full size
            learning_rate=0.1,
            output_dir=str(folder),
        )
        results.append(saved(folder))
    assert difference(results[0], results[1]) < 1e-5
    assert difference(results[0], results[2]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "snapshot", "recorded", "last_visit"])
def test_two_processes_are_one(settings, adapters, tmp_path, kind):
    """Every kept token of a step weighs the same, on whichever process it was."""
    settings |= {"lora_model_dir": str(adapters[0]), "optimizer": "sgd", "learning_rate": 0.1, "micro_batch_size": 2}
    settings |= {"plugins": ["tests.axolotl.spy.OnCpuPlugin", SSTOKEN], "curriculum_sampling": True}
    own = {
        "snapshot": {"refresh_steps": 2},
        "recorded": {"history_store": str(tmp_path / "store"), "history_record": True},
    }
    settings |= {"sstoken": {"history": kind, **own.get(kind, {})}, "max_steps": 9}  # six steps are an epoch
    run("train", {**settings, "gradient_accumulation_steps": 2, "output_dir": str(tmp_path / "one")})
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({**settings, "output_dir": str(tmp_path / "two")}))
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "axolotl.cli.train", path]
    status, printed = processes.run(sys.executable, *launch, ACCELERATE_USE_CPU="true")
    assert status == 0, printed
    assert difference(saved(tmp_path / "one"), saved(tmp_path / "two")) < 1e-6


def test_full_strategy_is_plain_axolotl(settings, tmp_path):
    """Through all of the selection's code, training on every token changes nothing."""
    settings |= {"sample_packing": True, "micro_batch_size": 1, "optimizer": "sgd", "learning_rate": 0.1}
    plain = run("train", {**settings, "plugins": [SPY], "output_dir": str(tmp_path / "plain")})
    full = train(settings, sstoken={"strategy": "full"}, output_dir=str(tmp_path / "full"))
    assert losses(plain) == pytest.approx(losses(full), abs=1e-5)
    assert difference(saved(tmp_path / "plain"), saved(tmp_path / "full")) < 1e-5


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_checkpoints_hold_the_trained_adapter_alone(settings, model_dir, adapters, tmp_path, kind):
    trainer = train(settings, save_strategy="steps", save_steps=2, sstoken=history(kind, adapters))
    out = tmp_path / "out"
    checkpoint = out / "checkpoint-2"
    assert json.loads((checkpoint / "sstoken.json").read_text())["config"]["history"] == kind
    for folder in (checkpoint, out):
        assert not [path for path in folder.rglob("adapter_model*") if path.parent not in (out, checkpoint)]
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), folder).eval()
        assert list(plain.peft_config) == ["default"]
        ids = torch.arange(3, 20)[None]
        with torch.no_grad():
            torch.testing.assert_close(plain(ids).logits, trainer.model.eval()(ids).logits)


@pytest.mark.parametrize(
    ("kind", "four_bit"), [("base", True), ("adapter", False)], ids=["base-qlora", "adapter-lora"]
)
def test_resuming_continues_exactly(settings, adapters, tmp_path, kind, four_bit):
    options = {
        "sstoken": history(kind, adapters),
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "sample_packing": True,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "lora_dropout": 0.1,
        **(QLORA if four_bit else {}),
    }
    whole = train(settings, **options, output_dir=str(tmp_path / "whole"))
    resumed = train(
        settings,
        **options,
        output_dir=str(tmp_path / "resumed"),
        resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"),
    )
    assert difference(saved(tmp_path / "whole"), saved(tmp_path / "resumed")) == 0
    assert losses(whole)[2:] == losses(resumed)[2:]


def test_attention_alone_in_full_fine_tuning(settings):
    settings = {name: value for name, value in settings.items() if not name.startswith(("lora", "adapter"))}
    trainer = train(settings, sstoken={"gamma": 0})
    assert "sstoken/rel_kept" not in trainer.state.log_history[0]
    assert 0.6 <= trainer.state.log_history[0]["sstoken/keep_rate"] < 0.7


def test_excess_loss_alone_on_plain_text(settings, tmp_path):
    texts = write(tmp_path / "texts.jsonl", [{"text": "w1 w2 w3 w4 w5 w6 w7 w8"}] * 8)
    trainer = train(settings, datasets=data(texts, type="completion"), sstoken={"gamma": 1})
    assert 0.6 <= trainer.state.log_history[0]["sstoken/keep_rate"] < 0.7


def test_continuing_from_an_adapter_is_pointed_out(settings, adapters, capfd):
    train(settings, lora_model_dir=str(adapters[0]), max_steps=1)
    out = capfd.readouterr().out
    assert f"NOTE: training continues from `lora_model_dir` {adapters[0]}" in out


def test_it_never_trains_without_selection_unnoticed(settings):
    hijacked = [SSTOKEN, "tests.axolotl.spy.HijackPlugin"]
    with pytest.raises(RuntimeError, match="training step 1 was done without it"):
        run("train", {**settings, "plugins": hijacked})


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        ("padded", "base"), ("padded", "snapshot"), ("padded", "last_visit"), ("packed", "base"),
        ("packed", "last_visit"), ("checkpointed", "base"), ("nf4", "base"),
    ],
)  # fmt: skip
def test_one_pass_trains_what_two_passes_train(settings, layout, kind):
    """The slow path scores first, takes the labels of dropped tokens away, and leaves the loss to the framework."""
    settings |= {
        "padded": {},
        "packed": {"sample_packing": True, "pad_to_sequence_len": True},
        "checkpointed": {"gradient_checkpointing": True},
        "nf4": QLORA,
    }[layout]
    settings |= {
        "optimizer": "sgd", "learning_rate": 0.1, "micro_batch_size": 2, "gradient_accumulation_steps": 2,
        "max_steps": 4, "num_epochs": 4,
    }  # fmt: skip
    results = []
    for loss in ("own", "framework"):
        renewed = {"refresh_steps": 2} if kind == "snapshot" else {}
        trainer = train(settings, sstoken={"loss": loss, "history": kind, **renewed})
        trained = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
        results.append((losses(trainer), trained))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5 if layout != "nf4" else 1e-3)
    assert difference(results[0][1], results[1][1]) < (1e-5 if layout != "nf4" else 1e-3)
