"""`sstoken audit`: which rows of your data do not belong there.

sstoken audit chats.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct
sstoken audit data.csv --columns question,answer --model ./model --clean good.jsonl --suspects bad.jsonl
accelerate launch -m sstoken_plugins audit chats.jsonl --model ./model     on several GPUs
sstoken audit --config run.yaml --fail-above 0.05       the YAML of a training with TRL or Axolotl
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AuditError

if TYPE_CHECKING:
    from .training import Training


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        The exit status: 0; 2 if something is wrong with what was asked; 3 if more rows are suspicious than
        `--fail-above` allows.
    """
    arguments = make_parser().parse_args(list(argv))
    if "WORLD_SIZE" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one is plenty for one process
    try:
        return _run(arguments)
    except (AuditError, OSError) as error:
        from .terminal import harmless

        print(f"sstoken audit: {harmless(str(error))}", file=sys.stderr)
        return 2


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sstoken audit",
        description="Score every row of a data set for fine-tuning, and list those that do not belong: answers to "
        "another question, gibberish, boilerplate, duplicates, truncated answers, and more.",
        epilog="Exit status: 0, or 3 if --fail-above is exceeded, or 2 for what is wrong with the data or the flags.",
    )
    add = parser.add_argument
    add("data", nargs="?", help="a .jsonl, .json, .parquet or .csv file, or the name of a data set on the hub")
    add("--config", type=Path, help="the YAML of a training with TRL or Axolotl: its data, model and precision")
    add("--framework", help="that the YAML is for, if its keys do not tell")
    add("--model", help="folder or hub name of the model that is asked; without: only checks of the text alone")
    add("--adapter", help="folder of a LoRA adapter for the model")
    add(
        "--columns",
        help="names of the prompt's and the answer's column: question,answer; or as `sstoken sft` takes them",
    )
    add("--split", default="train", help="of a data set on the hub (default: train)")
    add("--checks", help="only these, separated by commas (see --list)")
    add("--skip", default="", help="not these")
    add("--threshold", action="append", default=[], metavar="CHECK=VALUE", help="another threshold; may be repeated")
    add("--fdr", type=float, help="share of right rows that may be among those flagged as mismatch (default: 0.1)")
    add("--dtype", help="auto, float32, bfloat16 or float16 (default: the training's, or auto)")
    add("--load_in_4bit", "--load-in-4bit", action="store_true", help="load the model in 4 bits (bitsandbytes)")
    add("--max_length", "--max-length", type=int, default=1024, help="tokens of a row, as TRL cuts it (default: 1024)")
    add("--batch-tokens", type=int, help="tokens of a batch")
    add("--seed", type=int, default=0)
    add("--out", type=Path, help="folder of the page and the tables (default: NAME-audit)")
    add(
        "--cache", type=Path, help="folder of the scores, from which an interrupted audit resumes (default: OUT/cache)"
    )
    add(
        "--history",
        type=Path,
        help="store of a training with history 'recorded': rows that it knows are not scored again, others are added",
    )
    add("--clean", type=Path, help="write the rows without a flag to this .jsonl")
    add("--suspects", type=Path, help="write the flagged rows to this .jsonl")
    add("--weights", type=Path, help="write a weight for each row to this .jsonl")
    add("--force", action="store_true", help="write over files that exist")
    add("--fail-above", type=float, metavar="SHARE", help="exit with 3 if a larger share of the rows is flagged")
    add("--show", type=int, default=5, help="how many of the most suspicious rows to print (default: 5)")
    add("--list", action="store_true", help="list the checks with their formulas, and stop")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list()
    data: Any = arguments.data
    training = None
    if arguments.config is not None:
        from .training import read

        training = read(arguments)
        data = training.source
    if data is None:
        raise AuditError("No data: name a file or a data set, or --config.")
    thresholds = _thresholds(arguments)
    if arguments.fail_above is not None and not 0 <= arguments.fail_above <= 1:
        raise AuditError(f"--fail-above is {arguments.fail_above}: give a share from 0 to 1.")
    from rich.console import Console

    from . import output
    from .data import open_data
    from .processes import Processes
    from .run import audit
    from .terminal import show

    source = open_data(data, arguments.split)
    files = {"--clean": arguments.clean, "--suspects": arguments.suspects, "--weights": arguments.weights}
    processes = Processes()
    out = arguments.out or Path(f"{Path(source.name).stem or 'data'}-audit")
    output.refuse_existing(files, arguments.force, Path(str(arguments.data)) if arguments.data else None)
    output.claim(out, arguments.force)
    processes.wait()  # all have looked before one writes
    history, why_not = _history(arguments, training, out)
    result = audit(
        source,
        arguments.model,
        None if training is None else training.tokenizer,
        columns=arguments.columns.split(",") if arguments.columns else None,
        checks=arguments.checks.split(",") if arguments.checks else None,
        skip=[name for name in arguments.skip.split(",") if name],
        thresholds=thresholds,
        max_length=arguments.max_length,
        batch_tokens=arguments.batch_tokens,
        cache=arguments.cache or out / "cache",
        history=history,
        reads_history=arguments.history is not None,
        seed=arguments.seed,
        progress=sys.stderr.isatty() and processes.is_main,
        **_loading(arguments, training),
    )
    processes.end()
    share = float(result.flagged.mean())
    exceeded = arguments.fail_above is not None and share > arguments.fail_above
    if not processes.is_main:
        return 3 if exceeded else 0
    console = Console(highlight=False)
    show(console, result, arguments.show)
    page = output.write_report(result, out)
    output.write_split(result, source, **{option.strip("-"): path for option, path in files.items()})
    if arguments.model is None:
        console.print("\nNo --model: only the checks that read the text alone have run.")
    console.print(f"\n{page}  and all scores in {output.TABLE} and {output.LINES}", soft_wrap=True, markup=False)
    for path in files.values():
        if path is not None:
            console.print(str(path), soft_wrap=True, markup=False)
    if history is not None:
        console.print(f"{history}  for a training with history 'recorded'", soft_wrap=True, markup=False)
    elif why_not:
        console.print(f"No history for the training is left: {why_not}.", soft_wrap=True, markup=False)
    if exceeded:
        console.print(f"\n{share:.1%} of the rows are flagged, more than --fail-above {arguments.fail_above:.1%}.")
        return 3
    return 0


def _history(arguments: argparse.Namespace, training: Training | None, out: Path) -> tuple[Path | None, str | None]:
    """Where the history is left, or why the training could not use it."""
    why_not = None
    if arguments.adapter is not None:
        why_not = "--adapter is set, and a history is of a model without adapter"
    elif training is not None:
        why_not = training.other_tokens
    if arguments.history is not None and (why_not or arguments.model is None):
        raise AuditError(f"--history is {arguments.history}, but {why_not or 'no --model is set'}.")
    if arguments.model is None:
        return None, None
    return (None if why_not else arguments.history or out / "history"), why_not


def _loading(arguments: argparse.Namespace, training: Training | None) -> dict[str, Any]:
    """What is given here comes before what the training has."""
    if arguments.model is None:
        return {}
    found = {"adapter": arguments.adapter, **({} if training is None else training.loading)}
    if arguments.dtype is not None:
        found["dtype"] = arguments.dtype
    if arguments.load_in_4bit:
        found["load_in_4bit"] = True
    return found


def _thresholds(arguments: argparse.Namespace) -> dict[str, float]:
    found = {}
    for text in arguments.threshold:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise AuditError(f"--threshold is {text!r}: write it as CHECK=NUMBER.") from None
    if arguments.fdr is not None:
        if not 0 < arguments.fdr < 1:
            raise AuditError(f"--fdr is {arguments.fdr}: give a share between 0 and 1.")
        found["mismatch"] = arguments.fdr
    return found


def _list() -> int:
    from .registry import checks

    for name, check in checks().items():
        print(f"{name}{' (needs a model)' if check.needs_model else ''}\n    {check.title()}.")
        print(f"    {check.formula}\n    flagged from {check.threshold:g} on")
    return 0
