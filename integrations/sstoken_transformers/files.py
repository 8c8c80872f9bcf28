"""Reading the rows that a user names: a file, a folder, or a data set of the hub; and columns by other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sstoken_plugins.errors import Problem, Refused, refused

LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
"""How `datasets` calls what reads a file, by its ending."""
ON_DISK = ("dataset_dict.json", "state.json")
"""What `save_to_disk` of `datasets` leaves in a folder."""

QUESTION_ANSWER = (
    ("question", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("query", "response"),
    ("input", "output"),
)
"""Columns that hold a prompt and its completion in many data sets."""
CONVERSATIONS = ("conversation", "dialogue", "dialog", "chat", "turns")
"""The same of conversations."""


def load(name: str, split: str | None = None, *, config: str | None = None, streaming: bool = False) -> Any:
    """All splits of the data by name; with `split`, the rows of that one.

    Args:
        name: a .jsonl, .json, .parquet or .csv file, whose rows are the split `train`; a folder of such files, or one
            that `save_to_disk` wrote; or a data set on the hub.
        config: of a data set on the hub that has several.
        streaming: whether the rows are read as they are needed.

    Raises:
        Refused: if it is none of these, or cannot be read.
    """
    from datasets import Dataset, load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError

    path = Path(name)
    try:
        if path.is_file():
            if path.suffix not in LOADERS:
                raise refused(
                    "{name} is of another type: files of type .jsonl, .json, .parquet and .csv are read.", name=name
                )
            splits = load_dataset(LOADERS[path.suffix], data_files={"train": name}, streaming=streaming)
        elif path.suffix in LOADERS:
            raise refused("{name} does not exist.", name=name)
        elif path.is_dir() and any((path / each).is_file() for each in ON_DISK):
            saved = load_from_disk(name)
            splits = {"train": saved} if isinstance(saved, Dataset) else saved
        else:
            splits = load_dataset(name, config, streaming=streaming)
    except DatasetGenerationError as error:
        raise refused("{name} cannot be read: {error}", name=name, error=_line(error.__cause__ or error)) from error
    except (OSError, ValueError) as error:
        if isinstance(error, Refused):
            raise
        raise refused(
            "{name} is neither a file, nor a folder, nor a data set that can be loaded: {error}",
            name=name,
            error=_line(error),
        ) from error
    return splits if split is None else split_of(splits, split, name)


def split_of(splits: Mapping[str, Any], split: str, name: str) -> Any:
    """Raises:
    Refused: if there is no such split.
    """
    if split in splits:
        return splits[split]
    raise refused(
        "{name} has no split {split!r}; it has {known}.", name=name, split=split, known=", ".join(map(repr, splits))
    )


def parse_columns(text: str) -> dict[str, str]:
    """`question=prompt,answer=completion` as a mapping of the data's columns to the names that training reads.

    Raises:
        Refused: for anything else.
    """
    pairs = [pair.split("=") for pair in text.split(",")]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        raise refused(
            "`columns` is {text!r}: write the data's own columns first, as in question=prompt,answer=completion.",
            text=text,
        )
    return {theirs.strip(): ours.strip() for theirs, ours in pairs}


def renamed(rows: Any, columns: Mapping[str, str], name: str) -> Any:
    """A `datasets.Dataset`, or a stream, with its columns by other names.

    Raises:
        Refused: if it lacks one of the columns, or two would get one name.
    """
    known = columns_of(rows)
    if missing := [theirs for theirs in columns if theirs not in known]:
        raise refused(
            "`columns` renames {missing}, but the columns of {name} are {known}.",
            missing=", ".join(missing),
            name=name,
            known=", ".join(known),
        )
    after = [columns.get(each, each) for each in known]
    if twice := sorted({each for each in after if after.count(each) > 1}):
        raise refused(
            "`columns` would give two columns of {name} the name {twice}: rename the other one as well.",
            name=name,
            twice=", ".join(twice),
        )
    return rows.rename_columns(dict(columns))


def columns_of(rows: Any) -> tuple[str, ...]:
    """Names of the columns; of a stream that does not know them, those of its first row."""
    names = getattr(rows, "column_names", None)
    if names is None:
        first = next(iter(rows), None)
        names = first if isinstance(first, Mapping) else ()
    return tuple(names)


def suggestion(columns: Iterable[str]) -> str:
    """What `columns` may have to be for data with these columns; an example where nothing tells."""
    known = tuple(columns)
    for prompt, completion in QUESTION_ANSWER:
        if prompt in known and completion in known:
            return f"{prompt}=prompt,{completion}=completion"
    for each in CONVERSATIONS:
        if each in known:
            return f"{each}=messages"
    return "question=prompt,answer=completion"


def unknown_columns(columns: Iterable[str], how: str) -> Problem:
    """Says of data that cannot be trained on what their columns are, and what they should be.

    Args:
        how: the way to rename them, in which `{columns}` is what they may be renamed to.
    """
    known = tuple(columns)
    return Problem(
        "The columns are {known}; expected prompt and completion, or messages: " + how,
        known=", ".join(known),
        columns=suggestion(known),
    )


def why_no_model(name: str, error: object) -> str:
    """Why transformers could not load a model: the hub's rules for names are no answer to a wrong path."""
    is_path = Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    return "there is no such folder" if is_path and not Path(name).exists() else _line(error)


def _line(error: object) -> str:
    return " ".join(str(error).split())
