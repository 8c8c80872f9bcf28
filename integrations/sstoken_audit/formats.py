"""From a row to what trains: the texts for people, and the tokens as TRL's `SFTTrainer` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sstoken_plugins.errors import Refused
from sstoken_transformers.files import QUESTION_ANSWER, parse_columns

from .data import Row, Source
from .errors import AuditError
from .samples import Message, Sample, Tokens
from .tokenised import IDS, LABELS, is_tokenised, sample_of

ROLES = {"human": "user", "gpt": "assistant"}


class Format:
    """How the rows of a data set are read.

    Args:
        columns: (prompt, answer) as the user named them, or what `sstoken sft --columns` takes:
            ("question=prompt", "answer=completion"); None to find out from the first row.
        tokenizer: of the model; needed for rows that are tokenised.

    Raises:
        AuditError: if the first row's columns are none of the known ones.
    """

    columns: tuple[str, ...]

    def __init__(self, source: Source, columns: Sequence[str] | None = None, tokenizer: Any = None) -> None:
        self._name, self._tokenizer = source.name, tokenizer
        first = source.row(0)
        if columns is not None and any("=" in each for each in columns):
            self.kind, self.columns = _as_training_names_them(",".join(columns))
        elif columns is not None:
            if len(columns) != 2:
                raise AuditError(f"--columns is {','.join(columns)!r}: name two, as in --columns question,answer.")
            self.kind, self.columns = "pair", tuple(columns)
        elif "prompt" in first and "completion" in first:
            self.kind, self.columns = "prompt_completion", ("prompt", "completion")
        elif is_tokenised(source):
            self.kind, self.columns = "tokens", (IDS, LABELS)
            if tokenizer is None:
                raise AuditError(
                    f"{source.name} is tokenised ({IDS} and {LABELS}): name the model whose tokens these are, with "
                    "--model."
                )
        elif found := [name for name in ("messages", "conversations") if name in first]:
            self.kind, self.columns = "messages", (found[0],)
        elif pairs := [pair for pair in QUESTION_ANSWER if pair[0] in first and pair[1] in first]:
            self.kind, self.columns = "pair", pairs[0]
        else:
            raise AuditError(
                f"{source.name} has the columns {', '.join(map(repr, first))}: none of prompt and completion, "
                "messages, or question and answer. Name the two that hold them: --columns PROMPT,ANSWER."
            )
        for column in self.columns:
            if column not in first:
                raise AuditError(f"{source.name} has no column {column!r}; it has {', '.join(map(repr, first))}.")

    def read(self, row: Row, number: int) -> Sample:
        """Raises:
        AuditError: naming row and column.
        """
        values = []
        for column in self.columns:
            if column not in row:
                raise self._bad(number, column, "is missing")
            values.append(row[column])
        if self.kind == "tokens":
            try:
                return sample_of(values[0], values[1], number, self._tokenizer)
            except AuditError as error:
                raise self._bad(number, LABELS, str(error)) from error
        if self.kind == "messages":
            return self._conversation(number, self._turns(values[0], number, self.columns[0]), None)
        if any(isinstance(value, (list, tuple, np.ndarray)) for value in values):
            asked, learned = (
                self._turns(value, number, name) for value, name in zip(values, self.columns, strict=True)
            )
            return self._conversation(number, [*asked, *learned], len(asked))
        prompt, answer = (self._text(value, number, name) for value, name in zip(values, self.columns, strict=True))
        if self.kind == "pair":
            turns = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
            return Sample(number, prompt, answer, turns, 1)
        return Sample(number, prompt, answer)

    def _conversation(self, number: int, turns: list[Message], n_prompt: int | None) -> Sample:
        if n_prompt is None:
            learned = [turn for turn in turns if turn["role"] == "assistant"]
            asked = [turn for turn in turns if turn["role"] != "assistant"]
        else:
            asked, learned = turns[:n_prompt], turns[n_prompt:]
        prompt, answer = ("\n".join(str(turn["content"]) for turn in part) for part in (asked, learned))
        return Sample(number, prompt, answer, tuple(turns), n_prompt)

    def _turns(self, value: Any, number: int, column: str) -> list[Message]:
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise self._bad(number, column, f"is {type(value).__name__}, where a list of messages is needed")
        turns = []
        for place, turn in enumerate(value):
            if not isinstance(turn, dict) or not ({"role", "from"} & turn.keys()):
                raise self._bad(number, column, f"has a message {place} without `role` and `content`")
            role = str(turn.get("role", turn.get("from")))
            content = turn.get("content", turn.get("value"))
            if content is not None and not isinstance(content, str):
                raise self._bad(
                    number, column, f"has a message {place} whose content is {type(content).__name__}, not text"
                )
            turns.append({**turn, "role": ROLES.get(role, role), "content": content or ""})
        return turns

    def _text(self, value: Any, number: int, column: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._bad(number, column, f"is {type(value).__name__} ({value!r:.40}), where text is needed")
        return value

    def _bad(self, number: int, column: str, what: str) -> AuditError:
        return AuditError(f"{self._name}, row {number}, column {column!r}: {what}. Fix the row, or take it out.")


def _as_training_names_them(text: str) -> tuple[str, tuple[str, ...]]:
    try:
        theirs = {ours: theirs for theirs, ours in parse_columns(text).items()}
    except Refused as error:
        raise AuditError(str(error)) from error
    if "prompt" in theirs and "completion" in theirs:
        return "prompt_completion", (theirs["prompt"], theirs["completion"])
    for name in ("messages", "conversations"):
        if name in theirs:
            return "messages", (theirs[name],)
    raise AuditError(f"--columns is {text!r}: name what is the prompt and the completion, or the messages.")


class Renderer:
    """Tokenises samples as TRL's `SFTTrainer` does with its defaults, and `assistant_only_loss` for conversations.

    Raises:
        AuditError: if a conversation's assistant turns cannot be told by this tokenizer's chat template.
    """

    def __init__(self, tokenizer: Any, kind: str, max_length: int | None) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._plain = not getattr(tokenizer, "chat_template", None)
        self._training_template: str | None = None
        if self._plain and kind == "messages":
            raise AuditError(
                "The data are conversations, and the model's tokenizer has no chat template: use another model."
            )
        if kind == "messages":
            self._training_template = _training_template(tokenizer)

    def tokens(self, sample: Sample) -> Tokens:
        if sample.tokens is not None:
            return self._cut(sample.tokens.ids, sample.tokens.response)
        if sample.messages is None or self._plain:
            ids, n_prompt = self._pair(sample)
            response = np.arange(len(ids)) >= n_prompt
        elif sample.n_prompt is None:
            made = self._apply(sample.messages, self._training_template, masks=True)
            ids, response = made["input_ids"], np.array(made["assistant_masks"], bool)
        else:
            prompt = self._apply(sample.messages[: sample.n_prompt], None, add_generation_prompt=True)["input_ids"]
            ids = self._apply(sample.messages, None)["input_ids"]
            response = np.arange(len(ids)) >= _common_prefix(prompt, ids)
        return self._cut(np.array(ids, np.int32), np.array(response, bool))

    def _cut(self, ids: np.ndarray, response: np.ndarray) -> Tokens:
        response[:1] = False
        end = len(ids) if self.max_length is None else min(len(ids), self.max_length)
        return Tokens(ids[:end], response[:end], len(ids) - end)

    def _pair(self, sample: Sample) -> tuple[list[int], int]:
        end = self.tokenizer.eos_token or ""
        # A pair of columns that no template frames gets a line end between.
        prompt = sample.prompt if sample.messages is None else sample.prompt + "\n"
        completion = sample.answer if sample.answer.endswith(end) else sample.answer + end
        ids = self.tokenizer(prompt + completion)["input_ids"]
        return ids, _common_prefix(self.tokenizer(prompt)["input_ids"], ids)

    def _apply(self, messages: Sequence[Message], template: str | None, masks: bool = False, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(
            list(messages),
            chat_template=template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=masks,
            **options,
        )


def _training_template(tokenizer: Any) -> str | None:
    from sstoken_trl.compat import training_template

    try:
        return training_template(tokenizer)
    except ValueError as error:
        raise AuditError(
            "The chat template of this model does not mark assistant turns ({% generation %}), and TRL knows no "
            "replacement for it: give the data as prompt and completion."
        ) from error


def _common_prefix(ids: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b), min(len(ids), len(other)))
