"""Are the rows of a data set what training needs? Each problem names the row and the column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sstoken_plugins.data import IGNORE_INDEX
from sstoken_plugins.errors import Problem

from .loader import media_of

ROWS = 1000
# Columns that hold text or chats under TRL; under other names a formatting function or a template reads them.
NO_PICTURES = {"audio", "audios", "input_audio", "video", "videos"}
TEXT, CHAT, FIELDS = ("prompt", "completion", "text"), ("messages", "conversations"), ("role", "content")


def problems_of_tokens(dataset: Any, vocabulary: int, most: int | None = None) -> Iterator[Problem]:
    """What is wrong with the `input_ids` and `labels` of a `datasets.Dataset`: the first problem of each column.

    Args:
        vocabulary: how many tokens the model knows.
        most: so many rows are looked at; None: all.
    """
    if not hasattr(dataset, "select_columns") or not hasattr(dataset, "__len__"):
        return  # a stream, which cannot be looked at without consuming it
    if len(dataset) == 0:
        yield Problem("The training data have no rows (or all were left out): give data with at least one sample.")
        return
    for column in ("input_ids", "labels"):
        if column in dataset.column_names:
            yield from _first(_of_tokens(dataset, column, vocabulary, most))


def problems_of_texts(dataset: Any, text_field: str = "text") -> Iterator[Problem]:
    """What is wrong with the texts and chats of a `datasets.Dataset`, before anything is tokenised."""
    if not hasattr(dataset, "select_columns") or not hasattr(dataset, "__len__"):
        return
    if len(dataset) == 0:
        yield Problem("The training data have no rows: give data with at least one sample.")
        return
    names = dataset.column_names or ()
    if "input_ids" in names:
        return
    for column in dict.fromkeys((*TEXT, text_field, *CHAT)):
        if column in names:
            yield from _first(_of_texts(dataset, column))


def problems_of_media(dataset: Any, most: int) -> Iterator[Problem]:
    """What is wrong with the media of the first rows of data that are tokenised when they are loaded."""
    if not hasattr(dataset, "__len__") or "input_ids" in (getattr(dataset, "column_names", None) or ()):
        return
    for i in range(min(most, len(dataset))):
        row = dataset[i]
        if not isinstance(row, Mapping):
            return
        kinds = {part["type"] for part in media_of(row)} | {name for name in row if row[name] is not None}
        for kind in sorted(kinds & NO_PICTURES):
            yield Problem(
                "Row {row} of the data has {kind}: token selection reads text and pictures. Leave such rows out, or "
                "train them without it.",
                row=i,
                kind=kind,
            )
            return


def _first(problems: Iterator[Problem]) -> Iterator[Problem]:
    for problem in problems:
        yield problem
        return


def _of_tokens(dataset: Any, column: str, vocabulary: int, most: int | None) -> Iterator[Problem]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for begin, values in _pieces(dataset, column, most):
        kind = values.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(kind.value_type):
            yield _wrong(column, begin, f"is of type {kind}", "token ids are lists of whole numbers")
            return
        if values.null_count:
            yield _wrong(column, begin + _where(pc.is_null(values)), "is None", "every sample needs its token ids")
            return
        lengths = pc.list_value_length(values)
        if column == "input_ids" and pc.min(lengths).as_py() == 0:
            yield _wrong(column, begin + _where(pc.equal(lengths, 0)), "is empty", "a sample needs at least one token")
            return
        flat, parents = pc.list_flatten(values), pc.list_parent_indices(values)
        fine = pc.and_(pc.greater_equal(flat, 0), pc.less(flat, vocabulary))
        if column == "labels":
            fine = pc.or_(fine, pc.equal(flat, IGNORE_INDEX))
        fine = pc.fill_null(fine, False)
        if len(fine) and not pc.all(fine).as_py():
            place = _where(pc.invert(fine))
            yield _wrong(
                column,
                begin + parents[place].as_py(),
                f"holds {flat[place].as_py()}",
                f"the model knows the tokens 0 to {vocabulary - 1}"
                + (f", and {IGNORE_INDEX} for no label" if column == "labels" else ""),
            )
            return


def _of_texts(dataset: Any, column: str) -> Iterator[Problem]:
    import pyarrow as pa
    import pyarrow.compute as pc

    def is_text(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    for begin, values in _pieces(dataset, column, None):
        if values.null_count:
            yield _wrong(
                column, begin + _where(pc.is_null(values)), "is None", "text or a chat is needed in every row"
            )
            return
        kind = values.type
        if is_text(kind):
            continue
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            yield _wrong(column, begin, f"is of type {kind}", "text or a chat is needed")
            return
        messages, parents = pc.list_flatten(values), pc.list_parent_indices(values)
        if not pa.types.is_struct(messages.type):
            yield _wrong(column, begin, f"is a list of {messages.type}", "a chat is a list of messages")
            return
        if pc.min(pc.list_value_length(values)).as_py() == 0:
            empty = _where(pc.equal(pc.list_value_length(values), 0))
            yield _wrong(column, begin + empty, "is a chat without messages", "a sample needs at least one")
            return
        for field in FIELDS:
            if messages.type.get_field_index(field) < 0:
                continue
            told = pc.struct_field(messages, field)
            if not is_text(told.type) and not pa.types.is_nested(told.type):
                yield _wrong(f"{column}.{field}", begin, f"is of type {told.type}", "text is needed")
                return
            calls = messages.type.get_field_index("tool_calls") >= 0  # of a tool, which may come without words
            if told.null_count and not (field == "content" and calls):
                row = parents[_where(pc.is_null(told))].as_py()
                yield _wrong(f"{column}.{field}", begin + row, "is None", "text is needed in every message")
                return


def _pieces(dataset: Any, column: str, most: int | None) -> Iterator[tuple[int, Any]]:
    """Number of the first row, and the column's values as one Arrow array."""
    rows = dataset if most is None or len(dataset) <= most else dataset.select(range(most))
    begin = 0
    for table in rows.select_columns(column).with_format("arrow").iter(batch_size=ROWS):
        chunked = table[column]
        values = chunked.combine_chunks()
        yield begin, values.chunk(0) if hasattr(values, "num_chunks") else values
        begin += len(chunked)


def _where(flags: Any) -> int:
    return int(flags.index(True).as_py())


def _wrong(column: str, row: int, what: str, needed: str) -> Problem:
    return Problem(
        "The training data's column {column!r} {what} in row {row}, but {needed}: correct or remove that row.",
        column=column,
        what=what,
        row=row,
        needed=needed,
    )
