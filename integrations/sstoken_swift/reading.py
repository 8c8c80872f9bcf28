"""What ms-swift would train on, as its template encodes it: for `sstoken audit`."""

from __future__ import annotations

import tempfile

from sstoken_plugins.errors import refused
from sstoken_transformers.framework import CommandLine, TrainingData

from .compat import read_arguments, template_and_rows
from .looking import arguments, own_environment


def training_data(command: CommandLine) -> TrainingData:
    """See `Framework.training_data`."""
    with own_environment(), tempfile.TemporaryDirectory() as folder:  # the training's own is left alone
        args = read_arguments([*arguments(command), "--output_dir", folder, "--report_to", "none"])
        template, rows = template_and_rows(args)
    if rows is None:
        raise refused("The training streams its data, which cannot be read twice: set `streaming` to false.")
    quantised = args.get_quantization_config()
    return TrainingData(
        rows=[{name: row[name] for name in ("input_ids", "labels")} for row in rows],
        model=args.model_dir,
        loading={"dtype": args.torch_dtype, **({"quantization_config": quantised} if quantised else {})},
        autocast="bf16" if args.bf16 else "fp16" if args.fp16 else "no",
        tokenizer=template.tokenizer,
    )
