"""`trl sft` with `--sstoken`: the same flags, the same YAML.

sstoken sft --model_name_or_path Qwen/Qwen3-8B --dataset_name trl-lib/Capybara --use_peft --load_in_4bit --sstoken
sstoken sft run.yaml --data chats.jsonl --assistant_only_loss --sstoken
accelerate launch -m sstoken_trl.sft --config run.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from trl import DatasetMixtureConfig, ModelConfig, get_dataset, get_peft_config, get_quantization_config

from sstoken_plugins.errors import refuse, refused
from sstoken_transformers import files

from .arguments import SSTokenScriptArguments, make_parser, parse
from .config import SSTokenSFTConfig
from .data import problems_of_columns
from .launch import finish
from .trainer import SSTokenSFTTrainer

__all__ = ["end", "load_rows", "make_parser", "make_trainer", "run", "train", "trainer_arguments"]


NO_MODEL = "No model: set `model_name_or_path` to a name or a folder (`--model Qwen/Qwen3-0.6B`)."


def run(argv: Sequence[str]) -> None:
    """Runs one process of the training; `argv` without the program's name."""
    train(*parse(argv, "sstoken sft"))


def train(
    script_args: SSTokenScriptArguments,
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
        trainer.push_to_hub(dataset_name=public_name(script_args))
    end(trainer)
    return trainer


def make_trainer(
    script_args: SSTokenScriptArguments,
    training_args: SSTokenSFTConfig,
    model_args: ModelConfig,
    dataset_args: DatasetMixtureConfig,
    **replaced: Any,
) -> SSTokenSFTTrainer:
    """Loads data and model as the arguments say; `replaced` are arguments of the trainer that are known already."""
    if "model" not in replaced:
        require_model(training_args, model_args)
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


def require_model(training_args: SSTokenSFTConfig, model_args: ModelConfig) -> None:
    """Raises:
    Refused: as `configuration` does.
    """
    configuration(
        model_args.model_name_or_path,
        revision=model_args.model_revision,
        trust_remote_code=trusts_code(training_args, model_args),
    )


def configuration(name: str | None, **options: Any) -> Any:
    """The model's configuration; no weights are loaded.

    Args:
        options: further arguments of `from_pretrained`.

    Raises:
        Refused: if no model is named, or none is found by that name.
    """
    if not name:
        raise refused(NO_MODEL)
    try:
        return AutoConfig.from_pretrained(name, **options)
    except OSError as error:
        raise refused(
            "`model_name_or_path` is {name!r}, whose configuration cannot be loaded: {why}",
            name=name,
            why=files.why_no_model(name, error).removesuffix(".") + ".",
        ) from error


def trusts_code(training_args: SSTokenSFTConfig, model_args: ModelConfig) -> bool:
    """Whether a model's own code may run: one of the two has the option, by the version of TRL."""
    return bool(getattr(training_args, "trust_remote_code", None) or getattr(model_args, "trust_remote_code", False))


def trainer_data(
    script_args: SSTokenScriptArguments, training_args: SSTokenSFTConfig, dataset_args: DatasetMixtureConfig
) -> dict[str, Any]:
    """The data sets of an `SSTokenSFTTrainer`."""
    evaluates = training_args.eval_strategy != "no"
    wanted = [script_args.dataset_train_split, *([script_args.dataset_test_split] * evaluates)]
    field = training_args.dataset_text_field
    train, *rest = load_rows(script_args, dataset_args, *wanted, text_field=field)
    return {"train_dataset": train, "eval_dataset": rest[0] if rest else None}


def public_name(script_args: SSTokenScriptArguments) -> str | None:
    """Of the data, for a model card; None for the user's own files."""
    name: str | None = script_args.data or script_args.dataset_name
    return None if name is None or Path(name).exists() else name


def end(trainer: SSTokenSFTTrainer) -> None:
    """Closes trackers and the process group, from transformers 5.18 on."""
    if hasattr(trainer, "end"):
        trainer.end()


def load_splits(script_args: SSTokenScriptArguments, dataset_args: DatasetMixtureConfig) -> tuple[Any, str]:
    """The splits of the data that the arguments name, and that name.

    Raises:
        Refused: if they name none, or what cannot be read.
    """
    name = script_args.data or (None if dataset_args.datasets else script_args.dataset_name)
    if name is not None:
        config, streaming = script_args.dataset_config, script_args.dataset_streaming
        return files.load(name, config=config, streaming=streaming), name
    if dataset_args.datasets:
        return get_dataset(dataset_args), "`datasets`"
    raise refused("No data: set `data` to a file, a folder or a data set of the hub (`--data chats.jsonl`).")


def load_rows(
    script_args: SSTokenScriptArguments, dataset_args: DatasetMixtureConfig, *wanted: str, text_field: str = "text"
) -> Iterator[Any]:
    """The rows of each wanted split, with their columns by the names that training reads.

    Raises:
        Refused: if the data or the splits are not there, or their columns are others.
    """
    splits, name = load_splits(script_args, dataset_args)
    columns = files.parse_columns(script_args.columns) if script_args.columns else {}
    for split in wanted:
        rows = files.split_of(splits, split, name)
        rows = files.renamed(rows, columns, name) if columns else rows
        how = "rename them with `--columns {columns}` (in a YAML, `columns: {columns}`)."
        refuse(problems_of_columns(rows, text_field, how))
        yield rows


if __name__ == "__main__":
    sys.exit(finish("sstoken sft", lambda: run(sys.argv[1:])))
