"""Can the assistant's turns be told from the others?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import AutoTokenizer

from sstoken_plugins.errors import Problem
from sstoken_transformers.files import columns_of

from .compat import training_template


def problems_of_assistant_only(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """What of the data and the chat template cannot be combined with `assistant_only_loss`, before the weights load.

    Args:
        arguments: of an `SFTTrainer`.
    """
    args, model = arguments["args"], arguments.get("model")
    columns = columns_of(arguments["train_dataset"])
    if not args.assistant_only_loss or "input_ids" in columns:
        return
    if {"messages", "conversations"}.isdisjoint(columns) and not _is_chat(arguments["train_dataset"]):
        yield Problem(
            "`assistant_only_loss` is True, but the data have no conversations (their columns are {columns}): set it "
            "to False (of prompt and completion only the completion trains), or give data with the column messages.",
            columns=", ".join(columns),
        )
        return
    tokenizer = arguments.get("processing_class")
    if tokenizer is None and isinstance(model, str) and not args.chat_template_path:
        tokenizer = _tokenizer(model, args.model_init_kwargs or {})
    if not isinstance(getattr(tokenizer, "chat_template", None), str):
        return  # which is not known yet
    try:
        training_template(tokenizer)
    except ValueError:
        yield Problem(
            "`assistant_only_loss` is True, but the chat template of {model} does not mark what the assistant says "
            "({{% generation %}}), and TRL knows no replacement for it: give data with the columns prompt and "
            "completion and set it to False, or name a template that marks it in `chat_template_path`.",
            model=model if isinstance(model, str) else "this model",
        )


def _is_chat(dataset: Any) -> bool:
    """Whether the prompts are lists of messages."""
    first = next(iter(dataset), None)
    return isinstance(first, Mapping) and isinstance(first.get("prompt"), list)


def _tokenizer(model: str, options: Mapping[str, Any]) -> Any:
    known = {name: options[name] for name in ("revision", "trust_remote_code") if options.get(name)}
    try:
        return AutoTokenizer.from_pretrained(model, **known)
    except Exception:
        return None  # loading the model will say it better
