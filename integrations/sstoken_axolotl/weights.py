"""Weights that come with the data of a YAML, whatever prompt strategies and prepared data sets make of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from sstoken_plugins import SSTokenConfig
from sstoken_plugins.data import DataWeights
from sstoken_plugins.errors import refused
from sstoken_transformers.weights import data_weights

from .compat import raw_and_tokenised

ANSWERING = ("assistant", "gpt", "model")
"""How chats call who answers, where the YAML does not say whose turns train (`roles_to_train`)."""


def weights_of_data(config: SSTokenConfig, cfg: Any, tokenizer: Any) -> DataWeights:
    """The weights of all data sets.

    Raises:
        Refused: naming the data set, or the row.
    """
    if cfg.pretraining_dataset or cfg.streaming:
        raise refused("The data are a stream, whose weights cannot be read before training: load them whole.")
    if config.weights_file and len(cfg.datasets) > 1:
        raise refused("{weights_file} is set, but there are {n} `datasets`: merge them first.", n=len(cfg.datasets))
    found = DataWeights()
    for settings, raw, tokenised in raw_and_tokenised(cfg, tokenizer):
        if settings.shards:
            raise refused("`shards` of data set {path!r} hides rows from the weights: remove it.", path=settings.path)
        if len(raw) != len(tokenised):
            raise refused(
                "Data set {path!r} has {raw} rows, but {tokenised} samples were made of them: weights need one sample "
                "for each row.",
                path=settings.path,
                raw=len(raw),
                tokenised=len(tokenised),
            )
        answering = tuple(settings.roles_to_train or ANSWERING)
        renamed = (settings.message_property_mappings or {}).get("role", "role")

        def trains(message: Mapping[str, Any], role: str = renamed, roles: tuple[str, ...] = answering) -> bool:
            return message.get(role, message.get("from")) in roles

        cut = cfg.sequence_len if cfg.excess_length_strategy == "truncate" else None
        found.update(data_weights(config, raw, _batches(tokenised, cut), len(raw), cut, trains))
    return found


def _batches(tokenised: Any, cut: int | None) -> Iterator[dict[str, torch.Tensor]]:
    for row in tokenised:
        yield {name: torch.tensor([row[name][:cut]]) for name in ("input_ids", "labels")}
