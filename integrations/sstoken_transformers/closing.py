"""The end of a training: where things are, and what the model card says of the selection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sstoken_plugins import TokenSelector

from .state import STATE_FILE

TAG = "sstoken-plugins"
HEADING = "## Token selection"


def closing(selector: TokenSelector, folder: Path, places: dict[str, Path]) -> str:
    """One line that says where the selection, the history and the reports are.

    Args:
        places: what else wrote something, and where.
    """
    found = {"selection": folder / STATE_FILE, **places}
    if (recording := getattr(selector.history, "recording", None)) is not None:
        found["history"] = recording.store.folder
    return "ssToken: " + "; ".join(f"{what} in {where}" for what, where in found.items())


def describe(selector: TokenSelector) -> str:
    """The section of a model card that names the method and its options. Folders of this machine are left out."""
    config, method = selector.config, type(selector.method)
    folders = config.incidental
    options = {name: value for name, value in config.to_dict().items() if value is not None and name not in folders}
    lines = [
        HEADING,
        "",
        f"Trained with the method `{config.strategy}` of sstoken-plugins"
        + (f" ({method.reference})" if method.reference else "")
        + ", which chooses or weighs the tokens that train. Options:",
        "",
        "| option | value |",
        "|---|---|",
        *(f"| `{name}` | {value} |" for name, value in sorted(options.items())),
        "",
    ]
    return "\n".join(lines)


def add_to_card(selector: TokenSelector, path: Path) -> None:
    """Adds that section and a tag to the model card that the trainer has written."""
    from huggingface_hub import ModelCard

    card: Any = ModelCard.load(path)
    card.data.tags = [*dict.fromkeys([*(card.data.tags or []), TAG])]
    before, _, _ = card.text.partition(HEADING)
    card.text = f"{before.rstrip()}\n\n{describe(selector)}"
    card.save(path)
