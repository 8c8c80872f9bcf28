"""How fast is a history recorded, beside plain forward passes over the same batches?

    python recipes/benchmarks/recording.py                  # the CPU figure of docs/cost.md
    python recipes/benchmarks/recording.py --size 1b --length 4096 --precision bfloat16    # on a GPU

Every batch of a real trainer, all of whose weights train, is passed through the model twice: once as `history: auto`
records it, from the batch to the file, and once as an evaluation passes it, by `model(input_ids)` whose logits are
thrown away. The two take turns in who is first. What counts is the median over batches of the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contenders import Point, be_quiet, make_trainer
from run import SIZES, save_model

from sstoken_transformers.compat import prepare_inputs

WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="135m", help="shape of the model (default: %(default)s)")
    parser.add_argument("--layers", type=int, help="instead of the model's own number, to be done sooner")
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sample (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="samples of a batch (default: %(default)s)")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--batches", type=int, default=20, help="that count (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of a CPU (default: all)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmark/recording.json"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    be_quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder, arguments.size, arguments.layers, arguments.vocabulary, arguments.length)
        point = Point(
            model=name,
            tokens=arguments.length,
            batch=arguments.batch,
            vocabulary=arguments.vocabulary,
            precision=arguments.precision,
            gradient_checkpointing=False,
            lora_r=0,
        )
        found = measure(make_trainer("auto", point, folder / "run", arguments.batches + WARM_UP), point)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def measure(trainer: Any, point: Point) -> dict[str, Any]:
    selector = trainer.token_selector
    recorder = selector.recorder()
    model = trainer.model.to(trainer.args.device).train()
    recording: list[float] = []
    plain: list[float] = []
    with trainer.accelerator.autocast():
        for number, batch in enumerate(trainer.get_train_dataloader()):
            inputs = prepare_inputs(trainer, batch)
            turns: list[tuple[list[float], Callable[[], Any]]] = [
                (recording, partial(selector.record, model, inputs, recorder)),
                (plain, partial(forward, model, inputs)),
            ]
            for seconds, run in turns if number % 2 else reversed(turns):
                seconds.append(timed(run))
    recorder.history.store.flush()
    recording, plain = recording[WARM_UP:], plain[WARM_UP:]
    ratios = [slow / fast for slow, fast in zip(plain, recording, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    tokens = point.tokens * point.batch
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "tokens": point.tokens,
        "batch": point.batch,
        "vocabulary": point.vocabulary,
        "precision": point.precision,
        "batches": len(ratios),
        "plain_tokens_per_second": tokens / statistics.median(plain),
        "recording_tokens_per_second": tokens / statistics.median(recording),
        "throughput_ratio": statistics.median(ratios),
        "throughput_ratio_low": low,
        "throughput_ratio_high": high,
    }


@torch.no_grad()
def forward(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    model(input_ids=inputs["input_ids"], attention_mask=inputs.get("attention_mask"), use_cache=False)


def timed(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
