"""Reads the weights that come with the data, and gives them to the documents that the training sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sstoken_plugins import SSTokenConfig
from sstoken_plugins.data import DataWeights
from sstoken_plugins.errors import refused

Numbers = float | Sequence[float]
# Where chats keep their messages; only those that train have a run of labels.
MESSAGES = ("messages", "conversations", "completion")


def data_weights(
    config: SSTokenConfig,
    raw: Iterable[Mapping[str, Any]],
    tokenised: Iterable[Mapping[str, Any]],
    n_rows: int,
    max_length: int | None = None,
    trains: Callable[[Mapping[str, Any]], bool] = lambda message: message.get("role") == "assistant",
) -> DataWeights:
    """The weights of a data set.

    Args:
        raw: its rows as the user gave them.
        tokenised: the same rows, each a batch of one with `input_ids` and `labels` of shape (1, S).
        max_length: at which samples are cut; a sample of that length may have more weights than turns.
        trains: whether a message of a chat is one that trains.

    Raises:
        Refused: naming the first row whose weights are missing or do not fit.
    """
    if config.weights_file:
        lines = list(_from_file(Path(config.weights_file)))
        if len(lines) != n_rows:
            raise refused(
                "{weights_file} {path!r} has {lines} lines, but the data have {rows} rows: give one line for each "
                "row.",
                path=config.weights_file,
                lines=len(lines),
                rows=n_rows,
            )
        numbers: Iterable[Numbers] = lines
    else:
        numbers = _from_rows(raw, str(config.weights), trains)
    found = DataWeights()
    for row, (each, batch) in enumerate(zip(numbers, tokenised, strict=True)):
        inputs = {name: batch[name] for name in ("input_ids", "labels")}
        was_cut = max_length is not None and inputs["input_ids"].shape[1] >= max_length
        found.add(f"Row {row} of the data", inputs, each, was_cut)
    return found


def _from_rows(
    raw: Iterable[Mapping[str, Any]], name: str, trains: Callable[[Mapping[str, Any]], bool]
) -> Iterable[Numbers]:
    for i, row in enumerate(raw):
        messages = next((row[key] for key in MESSAGES if isinstance(row.get(key), list)), None)
        if messages and not all(isinstance(message, Mapping) for message in messages):
            raise refused(
                "Row {row} of the data has a message that is {message!r:.80}: a chat is a list of messages, each with "
                "a role and a content.",
                row=i,
                message=next(message for message in messages if not isinstance(message, Mapping)),
            )
        if row.get(name) is not None:
            yield row[name]
        elif messages and any(message.get(name) is not None for message in messages):
            trained = [message for message in messages if trains(message)]
            yield [1.0 if message.get(name) is None else message[name] for message in trained]
        elif name in row or messages:
            yield 1.0
        else:
            raise refused(
                "{weights} is {name!r}, but row {row} of the data has no such column, nor messages with such a field. "
                "Its columns are {columns}.",
                name=name,
                row=i,
                columns=", ".join(row),
            )


def _from_file(path: Path) -> Iterable[Numbers]:
    try:
        # Not `splitlines`: JSON may hold further characters that end a line elsewhere.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise refused("{weights_file} {path!r} cannot be read: {error}.", path=str(path), error=error) from error
    for i, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, Mapping):
            value = value.get("weights", value.get("weight"))
        if not isinstance(value, int | float | list) or isinstance(value, bool):
            raise refused(
                "{weights_file} {path!r}, line {line}: a number, a list of numbers, or an object with `weight` or "
                "`weights` is needed.",
                path=str(path),
                line=i,
            )
        yield value
