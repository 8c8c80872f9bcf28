"""The YAML that `sstoken init` writes for TRL."""

from __future__ import annotations

import json

from sstoken_transformers.framework import Start


def configuration(start: Start) -> str:
    """Fine-tunes a LoRA adapter, in 4 bits where there is a GPU."""
    renamed = ",".join(f"{theirs}={ours}" for ours, theirs in start.columns.items() if ours != theirs)
    data = [f"data: {json.dumps(start.data)}"]
    data += [f"columns: {renamed}"] * bool(renamed)
    if "messages" in start.columns:
        data.append("assistant_only_loss: true   # only what the assistant says trains")
    precision = ["load_in_4bit: true", "dtype: bfloat16"] if start.has_gpu else ["dtype: float32"]
    device = ["bf16: true"] if start.has_gpu else ["use_cpu: true", "bf16: false"]
    return "\n".join(
        [
            "# Written by `sstoken init`. Check it, look at what would train, and train:",
            "#",
            f"#   sstoken doctor {start.path}",
            f"#   sstoken inspect --config {start.path}",
            f"#   sstoken sft {start.path}",
            "",
            "# Which tokens train. 'full' is plain fine-tuning: start with it, and compare.",
            *[f"# {start.method}: {start.known}."] * bool(start.known),
            "sstoken: true",
            f"sstoken_strategy: {start.method}",
            "",
            f"model_name_or_path: {json.dumps(start.model)}",
            *precision,
            *data,
            f"output_dir: outputs/{start.path.stem}",
            "",
            "use_peft: true",
            "lora_r: 16",
            "lora_alpha: 32",
            "lora_dropout: 0.0   # above 0, scoring without dropout takes one more forward pass",
            "lora_target_modules: all-linear",
            "",
            "max_length: 1024",
            "per_device_train_batch_size: 2",
            "gradient_accumulation_steps: 4",
            "num_train_epochs: 1",
            "learning_rate: 2.0e-4",
            *device,
            "logging_steps: 5",
            "save_strategy: epoch",
            "",
        ]
    )
