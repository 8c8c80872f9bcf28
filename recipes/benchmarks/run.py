"""Time and memory of a training step, as ratios to plain TRL fine-tuning in the same run.

    python recipes/benchmarks/run.py    # the CPU table of docs/cost.md: a quarter of an hour
    python recipes/benchmarks/run.py --lengths 512 1024 2048 4096   # growth with the length of the samples
    python recipes/benchmarks/run.py --vocabularies 32768 131072 262144 --lengths 1024
    python recipes/benchmarks/run.py --contenders dft eaft prift rho1    # methods by name
    python recipes/benchmarks/run.py --lora-r 0 --contenders auto full    # all weights train
    python recipes/benchmarks/run.py --framework axolotl --precisions float32 --contenders recorded base
    python recipes/benchmarks/run.py --size 1b --lengths 4096 --precisions 4bit    # on a GPU
    pip install --no-deps --target other PATH && python recipes/benchmarks/run.py --against other  # two versions

Every contender trains in a process of its own, a real trainer on a model with random weights; the processes take
turns, step by step, so that whatever slows the machine down slows all of them. What counts is the median over rounds
of the ratio to plain fine-tuning's step of the same round. Writes results.json, and with --plot a plot, into --output.

`full` trains on every token through this package's output head, so that the rest above it is what the selection
costs; `naive` is a naive implementation; `bare` has neither scores nor loss, so that what is above it
is the own part of each.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from contenders import CONTENDERS, Point, serve
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# Shapes of SmolLM2-135M and Llama-3.2-1B; `tiny` is for tests.
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8},
}  # fmt: skip
AGAINST = " (other)"
WARM_UP = 3  # steps: every sample is seen once, and the optimizer has its state
VERSIONS = ("sstoken-plugins", "torch", "transformers", "trl", "peft", "bitsandbytes")


def main() -> int:
    arguments = _parse()
    console = Console()
    contenders: dict[str, Path | None] = {"plain": None}
    for name in arguments.contenders:
        contenders[name] = None
        if arguments.against is not None and name not in ("plain", "naive", "bare"):
            contenders[name + AGAINST] = arguments.against
    grid = itertools.product(
        arguments.precisions, arguments.checkpointing, arguments.vocabularies, arguments.batches, arguments.lengths
    )
    results = []
    for precision, checkpointing, vocabulary, batch, tokens in grid:
        with tempfile.TemporaryDirectory() as folder:
            save_model(Path(folder), arguments.size, arguments.layers, vocabulary, tokens)
            point = Point(
                model=folder,
                tokens=tokens,
                batch=batch,
                vocabulary=vocabulary,
                precision=precision,
                gradient_checkpointing=checkpointing == "yes",
                lora_r=arguments.lora_r,
            )
            measured = _measure(arguments.framework, point, contenders, arguments.rounds, arguments.threads, console)
        row = {"framework": arguments.framework, **dataclasses.asdict(point), "model": arguments.size}
        row |= {"layers": arguments.layers, **measured}
        results.append(row)
        console.print(_table(row))
        _write(arguments.output, results)
    if arguments.plot:
        from plot import plot

        plot(results, arguments.output / "results.svg")
    console.print(f"Written: {arguments.output}")
    return 0


def _parse() -> argparse.Namespace:
    from sstoken_plugins import registry  # here: a contender's process may use another version

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=("trl", "axolotl"), default="trl")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=[*CONTENDERS, *registry.registered("method")],
        default=[name for name in CONTENDERS if name != "auto"],  # which is `base` with LoRA
        metavar="NAME",
        help="those of contenders.py, or methods",
    )
    parser.add_argument("--against", type=Path, help="folder with another version of this package, to compare with")
    parser.add_argument("--size", choices=SIZES, default="135m", help="shape of the model (default: %(default)s)")
    parser.add_argument("--layers", type=int, help="instead of the model's own number, to be done sooner")
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024], help="tokens of a sample")
    parser.add_argument("--batches", nargs="+", type=int, default=[1], help="samples of a step")
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[49152])
    parser.add_argument("--precisions", nargs="+", choices=("bfloat16", "float32", "4bit"), default=["bfloat16"])
    parser.add_argument("--checkpointing", nargs="+", choices=("yes", "no"), default=["yes"])
    parser.add_argument("--lora-r", type=int, default=16, help="rank; 0: all weights train (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each that count (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of a CPU (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark"), help="folder (default: %(default)s)")
    parser.add_argument("--plot", action="store_true", help="draw results.svg too (needs matplotlib)")
    return parser.parse_args()


def save_model(folder: Path, size: str, layers: int | None, vocabulary: int, tokens: int) -> None:
    """Random weights, in bfloat16, and a tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shape = {**SIZES[size], "vocab_size": vocabulary, "max_position_embeddings": tokens}
    if layers:
        shape["num_hidden_layers"] = layers
    torch.manual_seed(0)
    config = LlamaConfig(**shape, tie_word_embeddings=size == "135m", pad_token_id=0, eos_token_id=1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    # The samples are tokens already; trainers want a tokenizer all the same.
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1}, "<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


def _measure(
    framework: str, point: Point, contenders: dict[str, Path | None], rounds: int, threads: int, console: Console
) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    workers: dict[str, tuple[Any, Any]] = {}
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    title = f"{point.tokens} tokens x {point.batch}, vocabulary {point.vocabulary}, {point.precision}"
    with progress:
        task = progress.add_task(title, total=(WARM_UP + rounds) * len(contenders))
        try:
            for name, packages in contenders.items():
                ours, theirs = context.Pipe()
                which = name.removesuffix(AGAINST)
                process = context.Process(target=serve, args=(framework, which, point, threads, packages, theirs))
                process.start()
                workers[name] = process, ours
            for _ in range(WARM_UP + rounds):
                for name in contenders:
                    steps[name].append(_step(name, *workers[name]))
                    progress.advance(task)
        finally:
            for process, connection in workers.values():
                if process.is_alive():
                    connection.send("stop")
                process.terminate()
                process.join()
    counted = {name: some[WARM_UP:] for name, some in steps.items()}
    return {"contenders": {name: _summary(some, counted["plain"], point) for name, some in counted.items()}}


def _step(name: str, process: Any, connection: Any) -> dict[str, float]:
    with contextlib.suppress(BrokenPipeError):  # what broke is in the last answer
        connection.send("go")
    while not connection.poll(1):
        if not process.is_alive():
            raise RuntimeError(f"{name} died with exit code {process.exitcode}")
    answer: dict[str, float] = connection.recv()
    if "error" in answer:
        raise RuntimeError(f"{name}: {answer['error']}")
    return answer


def _summary(steps: list[dict[str, float]], plain: list[dict[str, float]], point: Point) -> dict[str, float]:
    seconds = [step["seconds"] for step in steps]
    ratios = [step["seconds"] / base["seconds"] for step, base in zip(steps, plain, strict=True)]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    peak = max(step["peak_mb"] for step in steps)
    return {
        "seconds": statistics.median(seconds),
        "tokens_per_second": point.tokens * point.batch / statistics.median(seconds),
        "time_ratio": statistics.median(ratios),
        "time_ratio_low": quarters[0],
        "time_ratio_high": quarters[2],
        "peak_mb": peak,
        "memory_ratio": peak / max(step["peak_mb"] for step in plain),
    }


def _table(row: dict[str, Any]) -> Table:
    checkpointing = "with" if row["gradient_checkpointing"] else "without"
    table = Table(
        title=f"{row['framework']}: {row['tokens']} tokens x {row['batch']}, vocabulary {row['vocabulary']}, "
        f"{row['precision']}, {checkpointing} gradient checkpointing",
        caption="time and memory: ratios to plain; in brackets the middle half of the rounds",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for column in ("step", "tokens/s", "time", "peak MB", "memory"):
        table.add_column(column, justify="right")
    for name, values in row["contenders"].items():
        table.add_row(
            name,
            f"{values['seconds']:.2f} s",
            f"{values['tokens_per_second']:.0f}",
            f"{values['time_ratio']:.3f} ({values['time_ratio_low']:.2f}-{values['time_ratio_high']:.2f})",
            f"{values['peak_mb']:.0f}",
            f"{values['memory_ratio']:.3f}",
        )
    return table


def _version(package: str) -> str | None:
    """None for a package that is used from its checkout."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _write(folder: Path, results: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU {platform.machine()}"
    content = {
        "date": datetime.date.today().isoformat(),
        "device": device,
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in VERSIONS},
        "results": results,
    }
    path = folder / "results.json"
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


if __name__ == "__main__":
    sys.exit(main())
