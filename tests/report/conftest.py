"""A report of a model that has learned something, on texts that pages stumble over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")

from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from sstoken_report.samples import Samples
from sstoken_report.scoring import score
from sstoken_report.table import Report
from sstoken_trl import SSTokenSFTConfig, SSTokenSFTTrainer

from ..local import byte_llama, learned_adapter

ANSWERS = {
    "Write HTML.": "```html\n<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\n```\n"
    "</script><script>window.pwned = 1</script> <!-- --> ]]> &amp; {{ 7 * 7 }} ${window.pwned = 1} </style>",
    "用中文介绍北京。": "北京是中华人民共和国的首都。",
    "ما معنى hello؟": "مرحبا بالعالم! It means “hello”.\nשלום עולם",  # noqa: RUF001
    "Emoji?": "👩‍👩‍👧‍👦 🎉 ❤️ 🇩🇪 naïve café \u2028 \u2029 \u200f \x00 \x1b[31m",
    "Code?": "def factorial(n):\n\treturn 1 if n < 2 else n * factorial(n - 1)\n" * 12,
    "One letter?": "a",
}


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return byte_llama(tmp_path_factory.mktemp("byte-llama"))


@pytest.fixture(scope="session")
def adapter(model_dir, tmp_path_factory) -> Path:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"])
    return learned_adapter(model_dir, lora, tmp_path_factory.mktemp("adapter"), seed=1)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        for question, answer in ANSWERS.items()
    ]


@pytest.fixture(scope="session")
def make_report(model_dir, adapter, rows, tmp_path_factory):
    def build(**options: Any) -> Report:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), adapter, is_trainable=True)
        args = SSTokenSFTConfig(
            output_dir=str(tmp_path_factory.mktemp("out")),
            sstoken=True,
            bf16=False,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            **options,
        )
        trainer = SSTokenSFTTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows))
        samples = Samples(trainer, trainer.get_train_dataloader(), len(rows))
        return score(trainer, trainer.token_selector, samples, 0)

    return build


@pytest.fixture(scope="session")
def report(make_report) -> Report:
    return make_report()
