"""A third framework, as small as one can be: a YAML with tokenised rows, trained by `transformers.Trainer`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sstoken_plugins import SSTokenConfig, TokenSelector, hookimpl
from sstoken_transformers.framework import CommandLine, Framework, Look, Looked


class Tiny(Framework):
    label, package, extra = "Tiny", "transformers", "tiny"
    usage = "TINY.yaml"
    marks = frozenset({"tiny_model", "tiny_rows"})

    def naming(self, option: str) -> str:
        return f"tiny.{option}"

    def examine(self, command: CommandLine) -> Any:
        from datasets import Dataset
        from transformers import AutoConfig, AutoTokenizer

        from sstoken_transformers.doctor.data import count, judge
        from sstoken_transformers.doctor.diagnosis import Diagnosis
        from sstoken_transformers.doctor.model import examine_model, skeleton
        from sstoken_transformers.doctor.versions import versions
        from sstoken_transformers.tokenizer import fingerprint

        settings = _read(command)
        found, selector = Diagnosis(self.label, list(versions("torch", "transformers")), self.naming), None
        with found.looking_at("The selection"):
            selector = TokenSelector(SSTokenConfig(**settings["selection"]))
            found.selection = selector.config.summary()
        found.data = count(Dataset.from_list(settings["tiny_rows"]), selector)
        model = skeleton(AutoConfig.from_pretrained(settings["tiny_model"]), None, None, found)
        tokenizer = fingerprint(AutoTokenizer.from_pretrained(settings["tiny_model"]))
        examine_model(model, selector, tokenizer, None, found)
        judge(found, selector, 1)
        return found

    @contextlib.contextmanager
    def look(self, command: CommandLine, look: Look) -> Iterator[Looked]:
        trainer = _trainer(_read(command), look.out)
        yield Looked(trainer, trainer.token_selector.config, look.adapter)

    def record(self, command: CommandLine) -> int:
        settings = _read(command)
        settings["selection"] |= {"history": "recorded", "history_record": True}
        _trainer(settings, "out").record_history()
        return 0


def _read(command: CommandLine) -> dict[str, Any]:
    import yaml

    assert command.yaml is not None
    settings: dict[str, Any] = yaml.safe_load(command.yaml.read_text())
    return settings


def _trainer(settings: dict[str, Any], folder: str) -> Any:
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    from sstoken_transformers import with_token_selection

    tokenizer = AutoTokenizer.from_pretrained(settings["tiny_model"])
    trainer = with_token_selection(Trainer)(
        model=AutoModelForCausalLM.from_pretrained(settings["tiny_model"]),
        args=TrainingArguments(output_dir=folder, use_cpu=True, report_to=[], disable_tqdm=True),
        train_dataset=Dataset.from_list(settings["tiny_rows"]),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
    )
    trainer.enable_token_selection(TokenSelector(SSTokenConfig(**settings["selection"])))
    return trainer


@hookimpl
def register_frameworks(register: Callable[[str, type[Framework]], None]) -> None:
    register("tiny", Tiny)
