"""Everything of ms-swift that it does not document and this integration leans on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CAUSAL_LM = "causal_lm"


def replace_trainers() -> None:
    """Registers ours for causal language models, and a refusal for each other kind of training."""
    from swift.trainers import TrainerFactory

    mapping = TrainerFactory.TRAINER_MAPPING
    for kind in mapping:
        mapping[kind] = f"sstoken_swift.trainer.{'SSTokenSwiftTrainer' if kind == CAUSAL_LM else 'NoSelection'}"


def read_arguments(argv: Sequence[str]) -> Any:
    """The arguments of `swift sft`, checked and filled in by swift; loads no weights.

    Raises:
        ValueError: for unknown arguments.
    """
    from swift.arguments import SftArguments
    from swift.utils import parse_args

    args, rest = parse_args(SftArguments, list(argv))
    if rest:
        raise ValueError(f"ms-swift does not know the arguments {' '.join(rest)}.")
    return args


def make_trainer(args: Any) -> Any:
    """The trainer that `swift sft` would train with, with data and model loaded."""
    from swift.pipelines import SwiftSft

    replace_trainers()

    class Made(SwiftSft):
        def train(self, trainer: Any) -> Any:
            return trainer

    return Made(args).run()


def template_and_rows(args: Any) -> tuple[Any, list[dict[str, Any]] | None]:
    """The run's template, and the training data as it encodes them; None of a stream."""
    from swift.model import get_processor

    template = args.get_template(get_processor(args.model_dir, model_type=args.model_type))
    template.set_mode("train")
    data, _ = args.load_dataset()
    return template, [template.encode(dict(row)) for row in data] if hasattr(data, "__len__") else None


def yaml_flags(path: str) -> list[str]:
    """A YAML as `swift sft` turns it into flags; sets what it has under `ENV`."""
    from swift.cli.main import parse_yaml_args

    argv = [path]
    parse_yaml_args(argv)
    return argv
