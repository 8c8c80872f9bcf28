"""`trl sft` with `--sstoken`: the same flags, the same YAML.

sstoken sft --model_name_or_path Qwen/Qwen3-8B --dataset_name trl-lib/Capybara --use_peft --load_in_4bit --sstoken
accelerate launch -m sstoken_trl.sft --config run.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from trl import (
    DatasetMixtureConfig,
    ModelConfig,
    ScriptArguments,
    TrlParser,
    get_dataset,
    get_peft_config,
    get_quantization_config,
)

from .compat import accelerate_config
from .config import SSTokenSFTConfig
from .trainer import SSTokenSFTTrainer


def make_parser(prog: str | None = None) -> TrlParser:
    return TrlParser((ScriptArguments, SSTokenSFTConfig, ModelConfig, DatasetMixtureConfig), prog=prog)


def run(argv: Sequence[str]) -> None:
    """Runs one process of the training; `argv` without the program's name."""
    train(*make_parser(prog="sstoken sft").parse_args_and_config(list(argv), fail_with_unknown_args=False))


def train(
    script_args: ScriptArguments,
    training_args: SSTokenSFTConfig,
    model_args: ModelConfig,
    dataset_args: DatasetMixtureConfig,
) -> SSTokenSFTTrainer:
    """Trains and saves as the arguments say."""
    trainer = make_trainer(script_args, training_args, model_args, dataset_args)
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model(training_args.output_dir)
    trainer.accelerator.print(f"Model saved to {training_args.output_dir}")
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=script_args.dataset_name)
    end(trainer)
    return trainer


def make_trainer(
    script_args: ScriptArguments,
    training_args: SSTokenSFTConfig,
    model_args: ModelConfig,
    dataset_args: DatasetMixtureConfig,
    **replaced: Any,
) -> SSTokenSFTTrainer:
    """Loads data and model as the arguments say; `replaced` are arguments of the trainer that are known already."""
    if "train_dataset" not in replaced:
        replaced |= trainer_data(script_args, training_args, dataset_args)
    options = training_args.model_init_kwargs
    arguments = trainer_arguments(training_args, model_args)
    if "model" in replaced:  # a model that is loaded already takes none
        training_args.model_init_kwargs = options
    return SSTokenSFTTrainer(**{**arguments, **replaced})


def trainer_arguments(training_args: SSTokenSFTConfig, model_args: ModelConfig) -> dict[str, Any]:
    """Of an `SSTokenSFTTrainer`, less the data. Loads nothing."""
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "trust_remote_code": trusts_code(training_args, model_args),
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }
    return {
        "model": model_args.model_name_or_path,
        "args": training_args,
        "quantization_config": get_quantization_config(model_args),
        "peft_config": get_peft_config(model_args),
    }


def trusts_code(training_args: SSTokenSFTConfig, model_args: ModelConfig) -> bool:
    """Whether a model's own code may run: one of the two has the option, by the version of TRL."""
    return bool(getattr(training_args, "trust_remote_code", None) or getattr(model_args, "trust_remote_code", False))


def trainer_data(
    script_args: ScriptArguments, training_args: SSTokenSFTConfig, dataset_args: DatasetMixtureConfig
) -> dict[str, Any]:
    """The data sets of an `SSTokenSFTTrainer`."""
    dataset = load_data(script_args, dataset_args)
    evaluates = training_args.eval_strategy != "no"
    return {
        "train_dataset": dataset[script_args.dataset_train_split],
        "eval_dataset": dataset[script_args.dataset_test_split] if evaluates else None,
    }


def end(trainer: SSTokenSFTTrainer) -> None:
    """Closes trackers and the process group, from transformers 5.18 on."""
    if hasattr(trainer, "end"):
        trainer.end()


def load_data(script_args: ScriptArguments, dataset_args: DatasetMixtureConfig) -> Any:
    """The splits of the data that the arguments name."""
    if dataset_args.datasets:
        return get_dataset(dataset_args)
    if not script_args.dataset_name:
        raise ValueError("No data: set `dataset_name` (a hub data set or a local folder), or `datasets` in a YAML.")
    from datasets import load_dataset

    return load_dataset(
        script_args.dataset_name, name=script_args.dataset_config, streaming=script_args.dataset_streaming
    )


def main(argv: Sequence[str]) -> int:
    """`sstoken sft`: like `trl sft`, starts the script with `accelerate launch`, whose own flags may be mixed in."""
    return launch(argv, "sstoken_trl.sft", "sstoken sft")


def launch(argv: Sequence[str], module: str, prog: str, more: Sequence[str] = ()) -> int:
    """Starts a module that takes the flags of `sft` with `accelerate launch`; `more` are flags of the module alone."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    *_, from_config, for_launcher = make_parser(prog=prog).parse_args_and_config(
        list(argv), return_remaining_strings=True, separate_remaining_strings=True
    )
    launch_args = accelerate_config([*from_config, *for_launcher])
    script_args = _without(argv, for_launcher)
    launch_command(launch_command_parser().parse_args([*launch_args, "--module", module, *more, *script_args]))
    return 0


def _without(arguments: Sequence[str], taken: Sequence[str]) -> list[str]:
    """`arguments` less those in `taken`, which come in the same order."""
    left = list(taken)
    return [argument for argument in arguments if not (left and argument == left[0] and left.pop(0))]


if __name__ == "__main__":
    run(sys.argv[1:])
