"""What a user gets from `SSTokenSFTTrainer`, checked against plain `SFTTrainer` and a per-sample reference."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MixtralConfig, MixtralForCausalLM
from trl import SFTConfig, SFTTrainer

from sstoken_trl import SSTokenSFTConfig

from . import oracle

# Where two computations of the same are compared: Adam makes a full step of the rounding of a gradient near zero.
SGD = {"optim": "sgd", "learning_rate": 0.1}


def nf4() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        bnb_4bit_use_double_quant=True,
    )


def load(model_dir, adapter=None, four_bit=False, attention="sdpa"):
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, quantization_config=nf4() if four_bit else None, attn_implementation=attention, dtype=torch.float32
    )
    model = PeftModel.from_pretrained(model, adapter, is_trainable=True) if adapter else model
    return model.train()  # in evaluation, bitsandbytes may use another 4-bit kernel


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def trainable(model) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def round_adapters(model) -> None:
    """The adapters' bfloat16 values, as TRL has them on a 4-bit model, but computed with in float32.

    In bfloat16 the last bit of an activation, which differs between attention kernels, moves the loss by 1e-3.
    """
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16).float()


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def mean_loss(outputs, labels, num_items_in_batch):
    logits = outputs.logits[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum") / num_items_in_batch


def difference(a, b) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def test_off_is_plain_sft_bit_for_bit(make_trainer):
    plain = make_trainer(SFTTrainer, sstoken=False)
    off = make_trainer(sstoken=False)
    plain.train()
    off.train()
    assert losses(plain) == losses(off)
    assert difference(weights(plain), weights(off)) == 0


@pytest.mark.parametrize("four_bit", [False, True], ids=["float32", "nf4"])
@pytest.mark.parametrize("history", ["base", "adapter"])
@pytest.mark.parametrize("layout", ["padded", "packed", "padding_free", "conversations"])
def test_first_loss_equals_the_reference(
    make_trainer, model_dir, adapters, dataset, conversations, layout, history, four_bit
):
    chat = layout == "conversations"
    data = (conversations if chat else dataset).select(range(4))
    options = {
        "packed": {"packing": True, "max_length": 128},
        "padding_free": {"padding_free": True, "max_length": None},
        "conversations": {"assistant_only_loss": True},
    }.get(layout, {})
    trainer = make_trainer(
        model=load(model_dir, adapters[0], four_bit),
        peft_config=None,
        train_dataset=data,
        max_steps=1,
        sstoken_history=history,
        sstoken_history_adapter=str(adapters[1]) if history == "adapter" else None,
        **options,
    )
    if four_bit:
        round_adapters(trainer.model)
    trainer.train()

    reference_data = make_trainer(
        SFTTrainer, sstoken=False, train_dataset=data, assistant_only_loss=chat, max_steps=1
    ).train_dataset
    rows = [(row["input_ids"], row["labels"]) for row in reference_data]
    assert sum(-100 in labels for _, labels in rows) == 4
    model = load(model_dir, adapters[0], four_bit, "eager")
    past = load(model_dir, adapters[1], four_bit, "eager") if history == "adapter" else None
    if four_bit:
        for reference in filter(None, (model, past)):
            round_adapters(reference)
    expected = oracle.loss(model, rows, rho=0.6, gamma=0.5, history=past)
    assert losses(trainer) == [pytest.approx(expected, abs=1e-5)]


def test_whole_answers_left_out_are_the_same_in_any_layout(make_trainer, dataset, tmp_path):
    recorded = {"history": "recorded", "history_store": str(tmp_path / "store"), "history_record": True}
    results = []
    for layout in (
        {},
        {"packing": True, "max_length": 128},
        {"padding_free": True, "max_length": None},
        {f"sstoken_{name}": value for name, value in recorded.items()},
    ):
        trainer = make_trainer(
            train_dataset=dataset.select(range(4)), sstoken_strategy="grounded", sstoken_trim=1.0, **SGD, **layout
        )
        trainer.train()
        results.append((losses(trainer), trainer.state.log_history[0]["sstoken/keep_rate"]))
    assert 0 < results[0][1] < 1
    for other in results[1:]:
        assert other == (pytest.approx(results[0][0], abs=1e-5), results[0][1])


def test_batch_and_accumulation_do_not_matter(make_trainer):
    results = []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=4,
            **SGD,
        )
        trainer.train()
        results.append(weights(trainer))
    assert difference(results[0], results[1]) < 1e-5
    assert difference(results[0], results[2]) < 1e-5


@pytest.mark.parametrize(("architecture", "accumulation"), [("llama", 2), ("mixtral", 1)])
def test_full_strategy_is_plain_sft(make_trainer, model_dir, tmp_path, architecture, accumulation):
    """Through all of the selection's code, router losses included, training on every token changes nothing."""
    model = str(model_dir)
    if architecture == "mixtral":
        torch.manual_seed(0)
        config = MixtralConfig(
            vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_local_experts=4, output_router_logits=True, router_aux_loss_coef=0.1,
        )  # fmt: skip
        model = str(tmp_path / "mixtral")
        MixtralForCausalLM(config).save_pretrained(model)
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(model_dir).save_pretrained(model)
    results = []
    for options in ({"sstoken": False}, {"sstoken_strategy": "full"}):
        trainer = make_trainer(model=model, gradient_accumulation_steps=accumulation, **SGD, **options)
        trainer.train()
        results.append((losses(trainer), weights(trainer)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    assert difference(results[0][1], results[1][1]) < 1e-5


FRAMEWORK_LOSSES = {
    "plain": {"sstoken_loss": "framework"},
    "label smoothing": {"label_smoothing_factor": 0.1},
    "dft": {"loss_type": "dft"},
    "own function": {"compute_loss_func": mean_loss},
}


@pytest.mark.parametrize("kind", FRAMEWORK_LOSSES)
def test_a_loss_that_only_trl_can_compute_is_trls(make_trainer, kind):
    """Where every token is kept, nothing changes: the same losses and the same weights."""
    results = []
    for options in ({"sstoken": False}, {"sstoken_strategy": "full"}):
        options = {**FRAMEWORK_LOSSES[kind], **options}
        if not options.get("sstoken", True):
            options.pop("sstoken_loss", None)
            if SFTConfig.loss_type is None and kind in ("label smoothing", "own function"):
                options["loss_type"] = "nll"  # without, TRL before 1.16 crashes
        trainer = make_trainer(gradient_accumulation_steps=2, per_device_train_batch_size=2, **SGD, **options)
        trainer.train()
        results.append((losses(trainer), weights(trainer)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert difference(results[0][1], results[1][1]) < 1e-6


@pytest.mark.parametrize("kind", FRAMEWORK_LOSSES)
def test_a_loss_that_only_trl_can_compute_is_taken_over_the_kept_tokens(make_trainer, kind):
    trainer = make_trainer(max_steps=4, **FRAMEWORK_LOSSES[kind])
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(0.6 <= entry["sstoken/keep_rate"] < 0.75 for entry in logs)
    assert logs[-1]["sstoken/rel_kept"] > logs[-1]["sstoken/rel_dropped"]


@pytest.mark.parametrize(
    ("layout", "history", "four_bit"),
    [
        *itertools.product(
            ["padded", "packed", "padding_free", "checkpointed", "dropout"],
            ["base", "adapter", "snapshot", "last_visit"],
            [False],
        ),
        *itertools.product(["padded", "checkpointed"], ["base", "last_visit"], [True]),
    ],
)
def test_one_pass_trains_what_two_passes_train(make_trainer, adapters, lora, layout, history, four_bit):
    """The slow path scores first, takes the labels of dropped tokens away, and leaves the loss to TRL."""
    options = {
        "packed": {"packing": True, "max_length": 128, "per_device_train_batch_size": 2},
        "padding_free": {"padding_free": True, "max_length": None},
        "checkpointed": {"gradient_checkpointing": True},
        "dropout": {"peft_config": dataclasses.replace(lora, lora_dropout=0.1)},
    }.get(layout, {})
    results = []
    for loss in ("own", "framework"):
        trainer = make_trainer(
            quantization_config=nf4() if four_bit else None,
            sstoken_loss=loss,
            sstoken_history=history,
            sstoken_history_adapter=str(adapters[1]) if history == "adapter" else None,
            **({"sstoken_refresh_steps": 2} if history == "snapshot" else {}),
            max_steps=4,
            num_train_epochs=2,
            gradient_accumulation_steps=2,
            **{"gradient_checkpointing": False, **options},
            **SGD,
        )
        if four_bit:
            round_adapters(trainer.model)
        trainer.train()
        results.append((losses(trainer), weights(trainer)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    assert difference(results[0][1], results[1][1]) < 1e-5


def test_evaluation_is_untouched(make_trainer, dataset):
    selecting = make_trainer(eval_dataset=dataset)
    selecting.train()
    plain = make_trainer(SFTTrainer, sstoken=False, eval_dataset=dataset)
    plain.model.load_state_dict(selecting.model.state_dict())
    assert selecting.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]


def test_metrics_are_in_the_log(make_trainer):
    trainer = make_trainer(max_steps=3)
    trainer.train()
    first, *_, last = [entry for entry in trainer.state.log_history if "loss" in entry]
    for name in ("keep_rate", "rel_kept", "rel_dropped", "attention_kept", "attention_dropped"):
        assert f"sstoken/{name}" in first
    assert {"mean_token_accuracy", "entropy", "num_tokens"} <= first.keys()  # TRL's own are still there
    assert 0.6 <= first["sstoken/keep_rate"] < 0.75
    assert first["sstoken/rel_kept"] == first["sstoken/rel_dropped"] == 0  # nothing learned yet
    assert last["sstoken/rel_kept"] > last["sstoken/rel_dropped"]
    assert first["sstoken/attention_kept"] > first["sstoken/attention_dropped"]


def test_attention_alone_needs_no_adapter(make_trainer):
    trainer = make_trainer(peft_config=None, sstoken_gamma=0.0)
    before = weights(trainer)
    trainer.train()
    assert difference(before, weights(trainer)) > 0
    assert "sstoken/rel_kept" not in trainer.state.log_history[0]


def test_samples_without_response_are_skipped(make_trainer):
    """A micro-batch with nothing to learn adds nothing, also when it is all there is."""
    learn = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}
    nothing = {"input_ids": [5, 6, 7, 8, 9], "labels": [-100] * 5}

    def train(rows, **options):
        trainer = make_trainer(train_dataset=Dataset.from_list(rows), max_length=None, max_steps=1, **SGD, **options)
        trainer.train()
        return losses(trainer), weights(trainer)

    with_empty = train([nothing, learn] * 4, per_device_train_batch_size=1, gradient_accumulation_steps=8)
    without = train([learn] * 4, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    assert with_empty[0] == pytest.approx(without[0], abs=1e-6)
    assert difference(with_empty[1], without[1]) < 1e-6

    assert with_empty[0][0] > 0

    # All there is: a loss of zero that can be back-propagated, and a step that changes nothing.
    trainer = make_trainer(
        train_dataset=Dataset.from_list([nothing] * 2), max_length=None, max_steps=1, weight_decay=0.0
    )
    before = weights(trainer)
    trainer.train()
    assert losses(trainer) == [0.0]
    assert difference(before, weights(trainer)) == 0


@pytest.mark.parametrize("history", ["base", "adapter"])
def test_checkpoints_hold_the_trained_adapter_alone(make_trainer, model_dir, adapters, tmp_path, history):
    trainer = make_trainer(
        save_strategy="steps", save_steps=2, sstoken_history=history,
        sstoken_history_adapter=str(adapters[0]) if history == "adapter" else None,
    )  # fmt: skip
    trainer.train()
    checkpoint = tmp_path / "out" / "checkpoint-2"
    assert not [entry for entry in checkpoint.iterdir() if entry.is_dir()]
    assert json.loads((checkpoint / "sstoken.json").read_text())["config"]["history"] == history

    trainer.save_model(tmp_path / "final")
    for folder in (checkpoint, tmp_path / "final"):
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), folder).eval()
        assert list(plain.peft_config) == ["default"]
        ids = torch.arange(3, 20)[None]
        with torch.no_grad():
            torch.testing.assert_close(plain(ids).logits, trainer.model.eval()(ids).logits)


@pytest.mark.parametrize("four_bit", [False, True], ids=["float32", "nf4"])
@pytest.mark.parametrize("history", ["base", "adapter"])
def test_resuming_continues_exactly(make_trainer, adapters, tmp_path, history, four_bit):
    options = {
        "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "sstoken_history": history,
        "sstoken_history_adapter": str(adapters[0]) if history == "adapter" else None,
        "quantization_config": nf4() if four_bit else None,
    }  # fmt: skip
    whole = make_trainer(output_dir=tmp_path / "whole", **options)
    whole.train()
    resumed = make_trainer(output_dir=tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert difference(weights(whole), weights(resumed)) == 0
    assert losses(whole)[2:] == losses(resumed)[2:]


def test_resuming_with_another_history_is_refused(make_trainer, adapters, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "sstoken_history": "adapter"}
    make_trainer(sstoken_history_adapter=str(adapters[0]), **options).train()
    other = make_trainer(sstoken_history_adapter=str(adapters[1]), **options)
    with pytest.raises(ValueError, match="give the run the history it was started with"):
        other.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))


def test_best_model_is_loaded_at_the_end(make_trainer, adapters, dataset):
    trainer = make_trainer(
        max_steps=4, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1, save_total_limit=1,
        load_best_model_at_end=True, eval_dataset=dataset, learning_rate=0.5,
        sstoken_history="adapter", sstoken_history_adapter=str(adapters[0]),
    )  # fmt: skip
    trainer.train()
    best = min(entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(best, abs=1e-6)


def test_continuing_from_an_adapter_is_pointed_out(make_trainer, model_dir, adapters):
    with pytest.warns(UserWarning, match="continues from an adapter that has learned already"):
        make_trainer(model=load(model_dir, adapters[0]), peft_config=None)


def test_options_without_the_switch_are_pointed_out():
    with pytest.warns(UserWarning, match="`sstoken_rho` will be ignored: `sstoken` is off"):
        SSTokenSFTConfig(output_dir="out", sstoken_rho=0.5, bf16=False, use_cpu=True)


@pytest.mark.parametrize("loss", ["own", pytest.param("framework", marks=pytest.mark.slow)])
def test_compiled(make_trainer, caplog, loss, dataset):
    """The selecting passes run without: the same losses as without `torch_compile`, and evaluation as ever."""
    torch._dynamo.reset()
    evaluation = {"eval_dataset": dataset.select(range(4)), "eval_strategy": "steps", "eval_steps": 1}
    options = {**evaluation, "sstoken_loss": loss}
    plain = make_trainer(**options)
    plain.train()
    compiled = make_trainer(**options, torch_compile=True, torch_compile_backend="eager")
    assert "`torch_compile` is on: the passes that select tokens run without it" in caplog.text
    compiled.train()
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-5)
    for name in ("eval_loss", "eval_entropy"):
        before, after = ([e[name] for e in each.state.log_history if name in e] for each in (plain, compiled))
        assert after == pytest.approx(before, abs=1e-5)
