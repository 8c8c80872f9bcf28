"""What this project leans on in TRL, transformers and accelerate without their promise: each test says what breaks if
they change."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import SFTTrainer

from sstoken_transformers import compat as transformers_compat
from sstoken_trl import compat
from sstoken_trl.inspection import _long
from sstoken_trl.sft import make_parser


def test_loss_in_chunks_says_which_loss_type_goes_without_logits(make_trainer):
    """COMPUTES_LOSS_IN_CHUNKS: else 'nll' would be renamed where it need not be, or TRL make logits of every token."""
    trainer = make_trainer(SFTTrainer, sstoken=False, loss_type="nll", max_steps=1)
    with_logits = []
    trainer.model.register_forward_hook(
        lambda _model, _inputs, outputs: with_logits.append(getattr(outputs, "logits", None) is not None)
    )
    trainer.train()
    assert with_logits
    assert all(made is compat.COMPUTES_LOSS_IN_CHUNKS for made in with_logits)

    args = make_trainer(loss_type="nll", max_steps=1).args
    assert args.loss_type == ("chunked_nll" if compat.COMPUTES_LOSS_IN_CHUNKS else "nll")


def test_the_meta_trainer_prepares_as_a_training_does(make_trainer, model_dir, lora):
    """MetaTrainer: else the doctor would fail on every configuration, or count other tokens than are trained."""

    def skeleton():
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_dir))

    options = {"sstoken": False, "model_init_kwargs": None}
    trainer = make_trainer(SFTTrainer, sstoken=False)
    with pytest.raises(NotImplementedError, match="meta"):  # if it can, the class has had its day
        make_trainer(SFTTrainer, model=_named(skeleton(), model_dir), **options)
    on_meta = make_trainer(compat.MetaTrainer, model=_named(skeleton(), model_dir), **options)
    assert list(on_meta.train_dataset) == list(trainer.train_dataset)
    trained = [{n: p.shape for n, p in t.model.named_parameters() if p.requires_grad} for t in (on_meta, trainer)]
    assert trained[0] == trained[1]
    assert all(parameter.is_meta for name, parameter in on_meta.model.named_parameters() if "lora" not in name)


def _named(model, folder: Path):
    """As if loaded from there: the tokenizer is looked for where the model came from."""
    model.config._name_or_path = str(folder)
    return model


def test_knows_flag_tells_trls_own_flags():
    """knows_flag: else `sstoken inspect --seed 3` would change the noise of the selection, and not TRL's seed."""
    parser = make_parser()
    assert compat.knows_flag(parser, "--seed")
    assert compat.knows_flag(parser, "--sstoken_rho")
    assert not compat.knows_flag(parser, "--rho")
    assert _long(["--seed", "3", "--rho=0.5"], parser) == ["--seed", "3", "--sstoken_rho=0.5"]


def test_accelerate_config_finds_trls_own_configurations():
    """accelerate_config: else `sstoken sft --accelerate_config single_gpu` would not start as `trl sft` does."""
    resolved = compat.accelerate_config(["--accelerate_config", "single_gpu", "--num_processes", "2"])
    launcher = launch_command_parser().parse_args([*resolved, "train.py"])
    assert Path(launcher.config_file).is_file()
    assert launcher.num_processes == 2
    assert compat.accelerate_config(["--num_processes", "2"]) == ["--num_processes", "2"]


def test_load_model_loads_what_the_trainer_would(make_trainer, model_dir):
    """load_model: else `sstoken inspect --adapter` would score another model than trained, or in another precision."""
    trainer = make_trainer(SFTTrainer, sstoken=False, peft_config=None, model_init_kwargs={"dtype": "bfloat16"})
    loaded = compat.load_model(str(model_dir), dtype="bfloat16", revision=None, quantization_config=None)
    assert type(loaded) is type(trainer.model)
    expected = trainer.model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor.cpu(), expected[name].cpu())


def test_preparation_names_the_arguments_of_trls_preparation(make_trainer, dataset):
    """preparation: else columns that come with the data, such as weights, would be lost or given to the wrong set."""
    seen = []

    class Spy(SFTTrainer):
        def _prepare_dataset(self, *args, **kwargs):
            seen.append(compat.preparation(self, *args, **kwargs))
            return super()._prepare_dataset(*args, **kwargs)

    trainer = make_trainer(Spy, sstoken=False, eval_dataset=dataset.select(range(4)))
    assert [call["dataset_name"] for call in seen] == ["train", "eval"]
    assert [len(call["dataset"]) for call in seen] == [len(dataset), 4]
    assert seen[0]["dataset"].column_names == dataset.column_names  # before it is tokenised
    assert seen[0]["packing"] is False
    assert seen[0]["args"] is trainer.args
    assert seen[0]["processing_class"] is trainer.processing_class


def test_a_training_step_gets_its_inputs_by_prepare_inputs(make_trainer):
    """prepare_inputs: else a recording would score batches that are not where, or not what, the training has."""
    prepared, trained = [], []

    class Spy(SFTTrainer):
        def _prepare_inputs(self, inputs):
            prepared.append(super()._prepare_inputs(inputs))
            return prepared[-1]

        def compute_loss(self, model, inputs, *args, **kwargs):
            trained.append(inputs["input_ids"])
            return super().compute_loss(model, inputs, *args, **kwargs)

    trainer = make_trainer(Spy, sstoken=False, max_steps=1)
    trainer.train()
    assert any(trained[0] is each["input_ids"] for each in prepared)
    batch = next(iter(trainer.get_train_dataloader()))
    mine = transformers_compat.prepare_inputs(trainer, batch)
    assert mine.keys() == batch.keys()
    assert all(mine[name].device == trainer.args.device and torch.equal(mine[name].cpu(), batch[name].cpu())
               for name in ("input_ids", "labels"))  # fmt: skip


def test_name_or_path_is_where_the_model_came_from(model_dir, lora):
    """name_or_path: else a checkpoint and its tokenizer would be told by nothing."""
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    assert transformers_compat.name_or_path(model) == str(model_dir)
    assert AutoTokenizer.from_pretrained(transformers_compat.name_or_path(model)).eos_token == "</s>"
    assert transformers_compat.name_or_path(get_peft_model(model, lora)) == str(model_dir)
    fresh = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY))
    assert transformers_compat.name_or_path(fresh) == ""


TINY = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


@pytest.mark.parametrize("version", [1, 2])
def test_fsdp_version_is_accelerates(make_trainer, version):
    """fsdp_version: else histories that FSDP1 breaks would not be refused, or those that FSDP2 serves would be."""
    assert transformers_compat.fsdp_version(make_trainer(SFTTrainer, sstoken=False)) is None
    # Sharding takes several processes; accelerate's own plugin is what a trainer then has.
    plugin = FullyShardedDataParallelPlugin(fsdp_version=version)
    accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
    assert transformers_compat.fsdp_version(SimpleNamespace(is_fsdp_enabled=True, accelerator=accelerator)) == version
