"""What trained before trains with the one line added: `sstoken=True`, and nothing else.

In the spirit of TRL's own tests of its SFT trainer: every kind of data, model, adapter, layout and option that they
have and that can be made here. Each case has to train and log a `sstoken/keep_rate` below 1. What is refused is
refused by name, for a reason that is listed here; those have to be few. The last test prints the ledger.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoraConfig, PromptTuningConfig, VeraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    TrainerCallback,
)

from ..local import sentence
from .test_training import mean_loss, nf4

LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
TINY = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": 1,
}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@dataclass(frozen=True)
class Case:
    """Attributes:
    data: see `rows`.
    tune: "full" or "lora", where the case does not bring an adapter.
    model: a model type of transformers, or a function that makes one of a vocabulary size.
    options: of `make_trainer`.
    slow: left out by default.
    refused: why this is refused, as a pattern; None if it trains.
    """

    name: str
    data: str = "prompt and completion"
    tune: str = "full"
    model: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    slow: bool = False
    refused: str | None = None


DATA = [
    "prompt and completion", "chat prompt and completion", "conversations", "from and value", "text", "tokenised",
    "tokenised with a mask", "tools",
]  # fmt: skip
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "packed": {"packing": True, "max_length": 64},
    "padding-free": {"padding_free": True, "max_length": None},
}
# One of each kind by default: what is read of a model is its head, its attention and its adapters.
DEFAULT_FAMILIES = ["qwen3", "gemma3_text", "gpt2", "mixtral", "gpt_oss"]
FAMILIES = [
    *DEFAULT_FAMILIES, "mistral", "qwen2", "gemma", "gemma2", "phi", "phi3", "gpt_neox", "opt", "olmo", "olmo2",
    "olmo3", "granite", "cohere", "cohere2", "starcoder2", "stablelm", "smollm3", "glm", "glm4", "exaone4", "nemotron",
    "ernie4_5", "seed_oss", "helium", "arcee", "olmoe", "gpt_bigcode", "lfm2", "persimmon", "biogpt", "bitnet",
    "apertus", "hunyuan_v1_dense",
]  # fmt: skip


def gemma3(size: int) -> Any:
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config={**TINY, "vocab_size": size, "sliding_window": 16},
            vision_config={**VISION, "image_size": 28, "patch_size": 14},
            mm_tokens_per_image=4,
            image_token_index=size - 1,
        )
    )


def qwen2_5_vl(size: int) -> Any:
    text = {**TINY, "vocab_size": size, "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    tokens = {f"{name}_token_id": size - 1 for name in ("image", "video", "vision_start", "vision_end")}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config={**vision, "fullatt_block_indexes": [0]}, **tokens)
    )


def llava(size: int) -> Any:
    text = {**TINY, "model_type": "llama", "vocab_size": size}
    vision = {**VISION, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, "projection_dim": 32}
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=size - 1)
    )


class Stop(TrainerCallback):
    """A callback of the user's."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_log = True


def cases() -> Iterator[Case]:
    for data in DATA:
        for tune in ("full", "lora"):
            for layout, options in LAYOUTS.items():
                often = (layout == "padded") == (tune == "full") and layout != "padding-free"
                yield Case(f"{data}, {tune}, {layout}", data, tune, options=options, slow=not often)
    for name in FAMILIES:
        yield Case(f"{name}", model=name, slow=name not in DEFAULT_FAMILIES)
    for make in (gemma3, qwen2_5_vl, llava):
        yield Case(f"text on {make.__name__}", model=make)
        yield Case(f"text on {make.__name__}, lora", tune="lora", model=make, slow=True)
    adapters = {
        "rslora, all linear": replace(LORA, use_rslora=True),
        "dora": replace(LORA, use_dora=True),
        "pissa": replace(LORA, init_lora_weights="pissa"),
        "olora": replace(LORA, init_lora_weights="olora"),
        "dropout": replace(LORA, lora_dropout=0.1),
        "biases": replace(LORA, bias="all"),
        "modules to save": replace(LORA, modules_to_save=["lm_head"]),
        "embeddings": replace(LORA, target_modules=["q_proj", "embed_tokens"]),
        "token indices": replace(LORA, target_modules=["q_proj"], trainable_token_indices=[3, 4]),
        "ia3": IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "loha": LoHaConfig(r=4, alpha=8, target_modules=["q_proj", "v_proj"]),
        "vera": VeraConfig(r=4, target_modules=["q_proj", "v_proj"]),
        "adalora": AdaLoraConfig(r=4, target_modules=["q_proj", "v_proj"], total_step=10),
    }
    for name, config in adapters.items():
        yield Case(name, options={"peft_config": config}, slow=name not in ("dora", "pissa", "biases", "dropout"))
    options: dict[str, dict[str, Any]] = {
        "whole conversations, packed": {"packing": True, "max_length": 64},
        "4-bit": {"quantization_config": nf4, "peft_config": LORA},
        "gradient checkpointing": {"gradient_checkpointing": True},
        "accumulation": {"gradient_accumulation_steps": 3},
        "bfloat16": {"model_init_kwargs": {"dtype": "bfloat16"}},
        "float16": {"model_init_kwargs": {"dtype": "float16"}, "learning_rate": 1e-6},
        "eager attention": {"model_init_kwargs": {"attn_implementation": "eager"}},
        "evaluation": {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": "one"},
        "evaluation of several": {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": "several"},
        "packed training, padded evaluation": {
            "eval_strategy": "steps", "eval_steps": 1, "eval_dataset": "one", "packing": True, "eval_packing": False,
            "max_length": 64,
        },
        "completions alone, off": {"completion_only_loss": False},
        "dft": {"loss_type": "dft"},
        "label smoothing": {"label_smoothing_factor": 0.1},
        "a loss of one's own": {"compute_loss_func": mean_loss},
        "cut short": {"max_length": 12},
        "keep the end": {"max_length": 12, "truncation_mode": "keep_end"},
        "split packing": {"packing": True, "packing_strategy": "bfd_split", "max_length": 24},
        "workers": {"dataloader_num_workers": 1},
        "noise on the embeddings": {"neftune_noise_alpha": 5.0},
        "another optimizer": {"optim": "adafactor"},
        "compiled": {"torch_compile": True, "torch_compile_backend": "eager"},
        "grouped by length": {"train_sampling_strategy": "group_by_length"},
        "saved": {"save_strategy": "steps", "save_steps": 1},
        "a pad multiple": {"pad_to_multiple_of": 8},
        "the last batch dropped": {"dataloader_drop_last": True},
        "no clipping": {"max_grad_norm": 0.0},
        "another seed": {"seed": 3, "data_seed": 5},
        "epochs": {"max_steps": -1, "num_train_epochs": 1},
        "a callback": {"callback": Stop},
    }  # fmt: skip
    default = {
        "4-bit", "gradient checkpointing", "accumulation", "evaluation", "dft", "compiled", "cut short", "bfloat16"
    }  # fmt: skip
    for name, each in options.items():
        yield Case(name, options=each, slow=name not in default)
    yield Case("a stream, lora", data="stream", tune="lora")
    yield Case("a stream of text, lora", data="stream of text", tune="lora", slow=True)
    yield Case("a stream, packed, lora", data="stream", tune="lora", options=LAYOUTS["packed"], slow=True)
    yield Case("a model with an adapter on it", options={"wrapped": True}, slow=True)
    yield Case("formatting function", data="raw", options={"formatting_func": lambda row: row["question"]}, slow=True)
    yield Case("mixed data", data="mixed", tune="lora", slow=True)

    yield Case("a stream, full", data="stream", refused="a stream, which cannot be read once more")
    yield Case("wrapped", options={"packing": True, "packing_strategy": "wrapped"}, refused="cuts documents anywhere")
    yield Case(
        "prompt tuning",
        options={"peft_config": PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")},
        refused="adds virtual tokens",
    )
    yield Case("falcon", model="falcon", refused="does not run its attention through")
    yield Case("mamba", model="mamba", refused="does not run its attention through")


CASES = list(cases())
ledger: dict[str, str] = {}


def turns(rng: random.Random, n: int) -> list[dict[str, str]]:
    roles = [("user", "assistant")[i % 2] for i in range(n)]
    return [{"role": role, "content": sentence(rng, 3, 7)} for role in roles]


def rows(kind: str) -> Any:
    """24 samples of a kind."""
    rng = random.Random(3)

    def each(make: Callable[[], dict[str, Any]]) -> Dataset:
        return Dataset.from_list([make() for _ in range(24)])

    def ids() -> list[int]:
        return [rng.randint(3, 60) for _ in range(12)]

    prompted = each(lambda: {"prompt": sentence(rng, 2, 8), "completion": " " + sentence(rng, 3, 12)})
    text = each(lambda: {"text": sentence(rng, 5, 15)})

    def tokenised() -> Dataset:
        return Dataset.from_list(
            [{"input_ids": row, "labels": [-100] * 4 + row[4:]} for row in (ids() for _ in range(24))]
        )

    def tools() -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "w1", "arguments": {"w2": "w3"}}}
        messages = [
            {"role": "user", "content": sentence(rng, 3, 7), "tool_calls": None},
            {"role": "assistant", "content": sentence(rng, 2, 3), "tool_calls": [call]},
            {"role": "tool", "content": sentence(rng, 3, 7), "tool_calls": None},
            {"role": "assistant", "content": sentence(rng, 3, 7), "tool_calls": None},
        ]
        return {"messages": messages, "tools": [{"type": "function", "function": {"name": "w1", "description": "w2"}}]}

    def sharegpt() -> dict[str, Any]:
        names = {"user": "human", "assistant": "gpt"}
        return {"conversations": [{"from": names[t["role"]], "value": t["content"]} for t in turns(rng, 4)]}

    kinds: dict[str, Callable[[], Any]] = {
        "prompt and completion": lambda: prompted,
        "chat prompt and completion": lambda: each(
            lambda: {"prompt": turns(rng, 1), "completion": [{"role": "assistant", "content": sentence(rng, 3, 9)}]}
        ),
        "conversations": lambda: each(lambda: {"messages": turns(rng, 4)}),
        "from and value": lambda: each(sharegpt),
        "text": lambda: text,
        "tokenised": tokenised,
        "tokenised with a mask": lambda: each(lambda: {"input_ids": ids(), "completion_mask": [0] * 4 + [1] * 8}),
        "tools": lambda: each(tools),
        "raw": lambda: each(lambda: {"question": sentence(rng, 5, 9)}),
        "mixed": lambda: concatenate_datasets(
            [tokenised(), each(lambda: (lambda row: {"input_ids": row, "labels": row})(ids()))]
        ),
        "stream": lambda: prompted.to_iterable_dataset(),
        "stream of text": lambda: text.to_iterable_dataset(),
    }
    return kinds[kind]()


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in CASES]
)
def test_it_trains_or_says_why_not(make_trainer, model_dir, case):
    options = copy.deepcopy(case.options)
    data = rows("conversations" if case.name.startswith("whole") else case.data)
    options["train_dataset"] = data
    if isinstance(options.get("eval_dataset"), str):
        few = data.select(range(6))
        options["eval_dataset"] = few if options["eval_dataset"] == "one" else {"a": few, "b": few}
    if "quantization_config" in options:
        options["quantization_config"] = nf4()
    options.setdefault("peft_config", copy.deepcopy(LORA) if case.tune == "lora" else None)
    callback = options.pop("callback", None)
    if case.model is not None:
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
        options["model"] = make_model(case.model, len(tokenizer))
        options["processing_class"] = tokenizer
    if options.pop("wrapped", False):
        options["model"] = get_peft_model(AutoModelForCausalLM.from_pretrained(model_dir), copy.deepcopy(LORA))
    if case.refused:
        with pytest.raises(ValueError, match=case.refused):
            make_trainer(**options)
        ledger[case.name] = f"refused: {case.refused}"
        return
    trainer = make_trainer(**options)
    if callback:
        trainer.add_callback(callback())
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) >= 2
    for entry in logged:
        assert 0 < entry["sstoken/keep_rate"] < 1
        assert torch.isfinite(torch.tensor(entry["loss"]))
    ledger[case.name] = f"trains: {trainer.token_selector.summary.partition('history=')[2]}"


def make_model(kind: Any, size: int) -> Any:
    torch.manual_seed(0)
    if callable(kind):
        return kind(size)
    small = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": size}
    config = AutoConfig.for_model(kind, **(small if kind == "falcon" else {**TINY, "vocab_size": size}))
    return AutoModelForCausalLM.from_config(config)


def test_nearly_all_of_them_train(capsys):
    """The ledger, of this run; and the bar, over all that is listed."""
    with capsys.disabled():
        print()
        for name, outcome in ledger.items():
            print(f"  {name:50} {outcome}")
    assert sum(case.refused is None for case in CASES) >= 0.95 * len(CASES)
    assert len({case.name for case in CASES}) == len(CASES)
