"""The YAML that `sstoken init` writes for Axolotl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sstoken_transformers.files import LOADERS
from sstoken_transformers.framework import Start

from .names import PLUGIN


def configuration(start: Start) -> str:
    """Fine-tunes a LoRA adapter, in 4 bits where there is a GPU."""
    if start.has_gpu:
        device = ["bf16: auto", "gradient_checkpointing: true"]
    else:
        device = ["bf16: false", "lora_mlp_kernel: false", "lora_qkv_kernel: false", "lora_o_kernel: false"]
    return "\n".join(
        [
            "# Written by `sstoken init`. Check it, look at what would train, and train:",
            "#",
            f"#   sstoken doctor {start.path}",
            f"#   sstoken inspect {start.path}",
            f"#   axolotl train {start.path}",
            "",
            "plugins:",
            f"  - {PLUGIN}",
            "# Which tokens train. 'full' is plain fine-tuning: start with it, and compare.",
            *[f"# {start.method}: {start.known}."] * bool(start.known),
            "sstoken:",
            f"  strategy: {start.method}",
            "",
            f"base_model: {json.dumps(start.model)}",
            "datasets:",
            *_data(start),
            f"dataset_prepared_path: outputs/{start.path.stem}-prepared",
            f"output_dir: outputs/{start.path.stem}",
            "",
            *(["adapter: qlora", "load_in_4bit: true"] if start.has_gpu else ["adapter: lora"]),
            "lora_r: 16",
            "lora_alpha: 32",
            "lora_dropout: 0.0   # above 0, scoring without dropout takes one more forward pass",
            "lora_target_linear: true",
            "",
            "sequence_len: 1024",
            "micro_batch_size: 2",
            "gradient_accumulation_steps: 4",
            "num_epochs: 1",
            "optimizer: adamw_torch",
            "learning_rate: 2.0e-4",
            "lr_scheduler: cosine",
            "attn_implementation: sdpa",
            *device,
            "logging_steps: 5",
            "saves_per_epoch: 1",
            "",
        ]
    )


def _data(start: Start) -> Iterator[str]:
    """The entry below `datasets`."""
    path = Path(start.data)
    yield f"  - path: {json.dumps(start.data)}"
    if path.suffix in LOADERS:
        yield f"    ds_type: {LOADERS[path.suffix]}"
    yield "    split: train"
    if "messages" in start.columns:
        yield "    type: chat_template"
        yield f"    field_messages: {start.columns['messages']}"
        if start.from_value:
            yield "    message_property_mappings:"
            yield "      role: from"
            yield "      content: value"
        return
    yield "    type:"
    yield f"      field_instruction: {start.columns['prompt']}"
    yield f"      field_output: {start.columns['completion']}"
    for name in ("format", "no_input_format"):
        yield f'      {name}: "{{instruction}}\\n"'
