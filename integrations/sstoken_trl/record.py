"""One process of `sstoken record` with the flags and the YAML of `sstoken sft`.

accelerate launch -m sstoken_trl.record --config run.yaml --sstoken_history_store history
accelerate launch -m sstoken_trl.record --as reference --model larger --config run.yaml --sstoken_reference_store store
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoTokenizer

from sstoken_plugins.errors import Refused, refused
from sstoken_transformers.framework import reference_flags
from sstoken_transformers.tokenizer import fingerprint

from .arguments import parse
from .config import SSTokenSFTConfig, own_names
from .help import asked_for_help
from .launch import finish, launch
from .names import PREFIX
from .sft import end, make_trainer, trusts_code

PROG = "sstoken record"
SWITCHES = {"--sstoken": "true"}
RECORDED = {"--sstoken_history": "recorded", "--sstoken_history_record": "true"}
"""What is recorded where a store is named: then the training that reads it need not be full fine-tuning."""


def run(argv: Sequence[str]) -> int:
    """Runs one process of the recording; `argv` without the program's name. Returns how many samples were new."""
    trainer = make_trainer(*_parse(argv))
    with own_names():
        new: int = trainer.record_history()
    end(trainer)
    return new


def run_reference(argv: Sequence[str], model: str) -> int:
    """The same of a reference: another model alone, over the data as the training tokenises them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will be ignored: `sstoken` is off")
        script_args, training_args, model_args, dataset_args = parse(argv, PROG, ["--sstoken", "false"])
    folder = _only_recording(training_args)
    tokenizer = _tokenizer_of_both(model_args, model, trusts_code(training_args, model_args))
    model_args.model_name_or_path, model_args.model_revision = model, "main"
    if not (model_args.load_in_4bit or model_args.load_in_8bit):
        model_args.use_peft = False  # on quantised weights, Trainer wants an adapter; a fresh one changes nothing
    trainer = make_trainer(script_args, training_args, model_args, dataset_args, processing_class=tokenizer)
    with own_names():
        new: int = trainer.record_reference(folder)
    end(trainer)
    return new


def _only_recording(training_args: SSTokenSFTConfig) -> str:
    """Leaves nothing of the options but where the reference goes, which is returned."""
    given = training_args.given_options()
    folder = given.get("reference_store")
    with own_names():
        if not folder:
            raise refused("{reference_store} is not set: set it to the folder that the reference is recorded into.")
    for name in given:
        setattr(training_args, PREFIX + name, None)
    training_args.sstoken, training_args.sstoken_strategy = True, "full"
    training_args.loss_type = "nll"
    return str(folder)


def _tokenizer_of_both(model_args: Any, model: str, trust_remote_code: bool) -> Any:
    """That of the model in training.

    Raises:
        Refused: if the reference has another.
    """
    ours, theirs = (
        AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
        for name, revision in ((model_args.model_name_or_path, model_args.model_revision), (model, "main"))
    )
    if fingerprint(ours) != fingerprint(theirs):
        raise refused(
            "The reference {model!r} has another tokenizer than {trained!r}: token by token, only models with the "
            "same vocabulary can be compared.",
            model=model,
            trained=model_args.model_name_or_path,
        )
    return ours


def _parse(argv: Sequence[str]) -> tuple[Any, ...]:
    """The arguments, for history 'recorded' where they name a store, and else for the history that they name."""

    def parse_with(switches: Mapping[str, str]) -> tuple[Any, ...]:
        return parse(argv, PROG, _flags(switches))

    try:
        return parse_with({**SWITCHES, **RECORDED})
    except Refused as without_store:
        try:
            parsed = parse_with(SWITCHES)
        except Refused:
            raise without_store from None
        if parsed[1].sstoken_history_store:
            raise
        return parsed


def _flags(switches: Mapping[str, str]) -> list[str]:
    """What makes a recording of a training: these flags win, since they come last."""
    return [part for flag, value in switches.items() for part in (flag, value)]


def main(argv: Sequence[str]) -> int:
    """Starts it with `accelerate launch`, whose own flags may be mixed in."""
    if (status := asked_for_help(argv, PROG)) is not None:
        return status
    return launch(argv, "sstoken_trl.record", PROG)


def main_reference(argv: Sequence[str], model: str) -> int:
    """The same for a reference."""
    return launch(argv, "sstoken_trl.record", PROG, more=("--as", "reference", "--model", model))


def program() -> None:
    """One process, with the arguments of the command line."""
    arguments, reference = reference_flags(sys.argv[1:])
    if reference is None:
        run(arguments)
    else:
        run_reference(arguments, reference)


if __name__ == "__main__":
    sys.exit(finish(PROG, program))
