"""How fast is the audit beside plain forward passes, how much memory does it take, and does it resume?

    python recipes/audit/throughput.py               # minutes on one quiet core; --rows 1000 10000
    python recipes/audit/throughput.py --hidden 576 --layers 30 --vocabulary 49152 --samples 24   # as large as SmolLM2

Everything is made here: a model of random weights, words for samples of about 200 tokens. Compared in turns, in one
process: the audit's pass over whole samples, with the log-probability and the entropy of every response token; and the
model's own forward pass over the same samples in rows packed as the audit packs them, and in longer ones, whose logits
are thrown away. Then `sstoken audit` runs in processes of its own over `--rows`, and the largest once more,
killed half-way and started again. Writes results/throughput.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sstoken_audit.layout import ROW_TOKENS, packed
from sstoken_audit.model import CPU_BATCH_TOKENS
from sstoken_audit.rows import CHUNK
from sstoken_audit.samples import Tokens
from sstoken_audit.scorer import Scorer

HERE = Path(__file__).parent
PROMPT, TURNS = 0.4, 5
PLAIN_ROWS = (ROW_TOKENS, 2048)
CODE = """
import resource, sys
from sstoken_audit.command import main
status = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--samples", type=int, default=80, help="for the comparison of speed")
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 10000], help="for memory; none: not measured")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "throughput.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = json.loads(arguments.output.read_text("utf-8")) if arguments.output.is_file() else {}
    shape = (arguments.hidden, arguments.layers, arguments.vocabulary)
    found["x".join(map(str, shape))] = speed(make_model(*shape), arguments.samples)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    if arguments.rows:
        found["scale"] = scale(sorted(arguments.rows))
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found["scale"], indent=1))


def make_model(hidden: int, layers: int, vocabulary: int) -> LlamaForCausalLM:
    heads = max(1, hidden // 64)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def speed(model: LlamaForCausalLM, number: int) -> dict[str, Any]:
    """Tokens a second of each, by turns; medians, and the median, lowest and highest of their quotients."""
    rng = random.Random(0)
    samples = []
    for _ in range(number):
        ids = torch.randint(model.config.vocab_size, (rng.randint(100, 300),)).int().numpy()
        response = torch.arange(len(ids)).numpy() >= round(PROMPT * len(ids))
        samples.append(Tokens(ids, response))
    n_tokens = sum(len(sample.ids) for sample in samples)
    scorer = Scorer(model, CPU_BATCH_TOKENS)
    runs = {"audit": lambda: scorer.score(samples)}
    for tokens in PLAIN_ROWS:
        rows = list(pack(samples, tokens))
        runs[f"plain_{tokens}"] = lambda rows=rows: forward(model, rows)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(TURNS + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - begin)
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, 1 thread, float32, torch {torch.__version__}",
        "samples": number,
        "tokens": n_tokens,
        "packed": scorer.packs,
        "tokens_per_second": {name: round(n_tokens / statistics.median(some)) for name, some in seconds.items()},
    }
    for name in runs:
        quotients = [p / a for p, a in zip(seconds[name], seconds["audit"], strict=True)]
        if name != "audit":
            found[f"audit_over_{name}"] = {
                "median": round(statistics.median(quotients), 3),
                "lowest": round(min(quotients), 3), "highest": round(max(quotients), 3),
            }  # fmt: skip
    return found


def pack(samples: Sequence[Tokens], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and positions (1, at most `size`) of each row."""
    for (row,) in packed([len(sample.ids) for sample in samples], size, size):
        yield (
            torch.cat([torch.from_numpy(samples[i].ids) for i in row]).long()[None],
            torch.cat([torch.arange(len(samples[i].ids)) for i in row])[None],
        )


@torch.no_grad()
def forward(model: LlamaForCausalLM, rows: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for ids, positions in rows:
        model(input_ids=ids, position_ids=positions, use_cache=False)


def scale(numbers: Sequence[int]) -> dict[str, Any]:
    """Seconds and peak memory of whole audits, and whether one that was killed ends with the same table."""
    found: dict[str, Any] = {"sizes": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder / "model")
        for number in numbers:
            write_rows(folder / f"{number}.jsonl", number)
            begin = time.perf_counter()
            process = start(folder, number, folder / f"out-{number}")
            printed, _ = process.communicate()
            assert process.returncode == 0, printed
            peak = int(printed.rsplit("PEAK", 1)[1])
            found["sizes"][number] = {
                "seconds": round(time.perf_counter() - begin), "peak_memory_mib": round(peak / 1024),
                "cache_mib": round(sum(p.stat().st_size for p in (folder / f"out-{number}").rglob("chunk*")) / 2**20),
            }  # fmt: skip
            print(number, found["sizes"][number], flush=True)
        again = folder / "killed"
        process = start(folder, number, again)
        while len(list(again.rglob("chunk-*.parquet"))) < number // CHUNK // 2:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_kept = len(list(again.rglob("chunk-*.parquet")))
        process = start(folder, number, again)
        printed, _ = process.communicate()
        assert process.returncode == 0, printed
        one, other = (pq.read_table(each / "scores.parquet") for each in (folder / f"out-{number}", again))
        found["killed"] = {"rows": number, "chunks_kept": n_kept, "chunks": -(-number // CHUNK), "same": one == other}
    return found


def start(folder: Path, number: int, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CODE, str(folder / f"{number}.jsonl"), "--model", str(folder / "model")]
    return subprocess.Popen([*command, "--out", str(out), "--skip", "language"], stdout=subprocess.PIPE, text=True)


def make_folder(folder: Path) -> None:
    """A tiny model with a tokenizer that knows 2000 words."""
    words = {f"w{i}": i for i in range(2000)} | {"<unk>": 2000, "</s>": 2001}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    make_model(32, 2, 2002).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(path: Path, number: int) -> None:
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(number):
            words = [f"w{rng.randrange(2000)}" for _ in range(rng.randint(100, 300))]
            cut = round(PROMPT * len(words))
            file.write(json.dumps({"prompt": " ".join(words[:cut]) + " ", "completion": " ".join(words[cut:])}) + "\n")


if __name__ == "__main__":
    main()
