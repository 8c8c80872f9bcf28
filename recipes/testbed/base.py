"""The base model: a small Llama, pre-trained here on the old skills, and kept in the user's cache folder.

python recipes/testbed/base.py            # makes it, or finds it, and prints its folder
"""

from __future__ import annotations

import hashlib
import inspect
import math
import random
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs
import skills
import torch
from skills import END, OLD_SKILLS, PAD, VOCABULARY
from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """What the base model is made of; the seed decides on weights and data."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    steps: int = 1200
    batch: int = 96
    learning_rate: float = 3e-3
    noise: float = (
        0.02  # share of the answers' words that are any word: without, the model would be surer than any real
    )
    seed: int = 0

    @property
    def key(self) -> str:
        """Changes with whatever changes the model."""
        made_by = inspect.getsource(skills) + inspect.getsource(pretrain) + inspect.getsource(build)
        return hashlib.sha256(f"{asdict(self)}{made_by}".encode()).hexdigest()[:12]


DEFAULT = Recipe()


def folder_of(recipe: Recipe = DEFAULT, cache: Path | None = None, say: Any = None) -> Path:
    """The folder of the model; pre-trains it if it is not there yet (a few minutes on 2 cores)."""
    root = cache or Path(platformdirs.user_cache_dir("sstoken-plugins")) / "testbed"
    folder = root / f"base-{recipe.key}"
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        model = pretrain(recipe, say)
        unfinished = Path(tempfile.mkdtemp(dir=root))
        model.save_pretrained(unfinished)
        tokenizer().save_pretrained(unfinished)
        try:
            unfinished.replace(folder)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return folder


def fingerprint(folder: Path) -> str:
    """Of the weights: machines round differently, so the same recipe need not give the same bits."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]


def tokenizer() -> Any:
    """One token for each word of the vocabulary; anything else is an error."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<none>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=PAD, eos_token=END)


def build(recipe: Recipe) -> Any:
    """The model before training."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=recipe.hidden,
        intermediate_size=2 * recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=64,
        pad_token_id=VOCABULARY.index(PAD),
        eos_token_id=VOCABULARY.index(END),
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def pretrain(recipe: Recipe, say: Any = None) -> Any:
    """AdamW on the answers of the old skills, a few of their words wrong; the learning rate down a cosine to zero."""
    model = build(recipe).train()
    rng = random.Random(recipe.seed)
    number = {word: i for i, word in enumerate(VOCABULARY)}
    makers = list(OLD_SKILLS.values())
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    warmup = max(1, recipe.steps // 20)
    started = time.perf_counter()
    for step in range(recipe.steps):
        share = step / recipe.steps
        rate = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        rows = [makers[rng.randrange(len(makers))](rng) for _ in range(recipe.batch)]
        answers = [
            [w if rng.random() >= recipe.noise else rng.choice(VOCABULARY[2:]) for w in row.answer] for row in rows
        ]
        ids, labels = _batch(
            [
                ([number[word] for word in (*row.prompt, *answer, END)], len(row.prompt))
                for row, answer in zip(rows, answers, strict=True)
            ]
        )
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if say and (step + 1) % 100 == 0:
            say(f"step {step + 1} of {recipe.steps}: loss {loss.item():.4f}, {time.perf_counter() - started:.0f} s")
    return model.eval()


def _batch(rows: list[tuple[list[int], int]]) -> tuple[Tensor, Tensor]:
    """Rows of (tokens, length of the prompt), padded on the right: ids and labels, (B, S) each."""
    width = max(len(tokens) for tokens, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (tokens, n_prompt) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, n_prompt : len(tokens)] = ids[row, n_prompt : len(tokens)]
    return ids, labels


if __name__ == "__main__":
    print(folder_of(say=print))
