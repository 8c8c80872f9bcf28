"""ssToken in Python: `SSTokenSFTTrainer` in place of TRL's `SFTTrainer`, LoRA on a CPU, a few minutes on 2 cores.

    pip install ".[trl]"          # in a checkout of sstoken-plugins
    python recipes/trl/train.py

With another model or your own data (JSON lines with `prompt` and `completion`):

    python recipes/trl/train.py --model Qwen/Qwen3-0.6B --data my.jsonl --steps 100
"""

import argparse

from datasets import load_dataset
from peft import LoraConfig

from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
parser.add_argument("--data", default="recipes/data/answers.jsonl")
parser.add_argument("--output", default="outputs/trl-python")
parser.add_argument("--steps", type=int, default=20)
options = parser.parse_args()

trainer = SSTokenSFTTrainer(
    model=options.model,
    args=SSTokenSFTConfig(
        output_dir=options.output,
        sstoken=True,
        sstoken_rho=0.6,
        max_steps=options.steps,
        per_device_train_batch_size=4,
        learning_rate=2e-4,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
    ),
    train_dataset=load_dataset("json", data_files=options.data, split="train"),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
)
trainer.train()
trainer.save_model()
