"""A report of a model that has learned something, on texts that pages stumble over."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")

from accelerate import Accelerator
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

import sstoken_report.plugin
from sstoken_plugins import SSTokenConfig, TokenSelector
from sstoken_plugins.registry import plugin_manager
from sstoken_report.page import render
from sstoken_report.samples import Samples
from sstoken_report.scoring import score
from sstoken_report.table import Report

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


if not plugin_manager().has_plugin("report"):  # a checkout that is not the one installed
    plugin_manager().register(sstoken_report.plugin, "report")


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return byte_llama(tmp_path_factory.mktemp("byte-llama"))


@pytest.fixture(scope="session")
def adapter(model_dir, tmp_path_factory) -> Path:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"])
    return learned_adapter(model_dir, lora, tmp_path_factory.mktemp("adapter"), seed=1)


@pytest.fixture(scope="session")
def other_adapter(model_dir, tmp_path_factory) -> Path:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    return learned_adapter(model_dir, lora, tmp_path_factory.mktemp("other"), seed=2)


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
def make_trainer(model_dir, adapter, rows, tmp_path_factory):
    """TRL's own trainer: nothing here needs an integration."""

    def build(**options: Any) -> SFTTrainer:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_dir), adapter, is_trainable=True)
        args = SFTConfig(
            output_dir=str(tmp_path_factory.mktemp("out")),
            bf16=False,
            use_cpu=True,
            disable_tqdm=True,
            **{"report_to": [], **options},
        )
        return SFTTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows))

    return build


@pytest.fixture(scope="session")
def make_report(make_trainer, rows):
    trainer = make_trainer()
    plain = Samples.of_training(trainer, trainer.get_train_dataloader(), len(rows))

    def build(step: int = 0, lookup: Callable[[Any], None] | None = None, **options: Any) -> Report:
        """What would be selected of `rows` with these options of the selection; `lookup` adds to the batches."""
        samples = plain
        if lookup is not None:
            samples = Samples.of_training(trainer, trainer.get_train_dataloader(), len(rows))
            for batch in samples.batches:
                lookup(batch)
        Accelerator(cpu=True)  # whoever made arguments of a training since has emptied the state that all share
        selector = TokenSelector(SSTokenConfig(**options))
        with warnings.catch_warnings():  # that the base model is below a trained adapter is what is to be seen
            warnings.simplefilter("ignore")
            selector.attach(trainer.model)
        return score(trainer, selector, samples, step)

    return build


@pytest.fixture(scope="session")
def report(make_report) -> Report:
    return make_report()


@pytest.fixture(scope="session")
def browser():
    from . import browsing

    yield from browsing.start()


@pytest.fixture(scope="session")
def page(report, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, page):
    """The page of `report`, anew."""
    browser.get("about:blank")
    browser.get(page.as_uri())
    return browser
