"""What this project leans on in Axolotl without its promise: each test says what breaks if it changes."""

from __future__ import annotations

import json

import pytest
import yaml

from .conftest import SSTOKEN, data

from axolotl.integrations.base import PluginManager  # isort: skip  (after the conftest's importorskip)
from axolotl.loaders import load_tokenizer
from axolotl.utils.tee import file_only_stream
from pydantic import ValidationError

from sstoken_axolotl import SSTokenPlugin, compat


@pytest.fixture
def config(settings, tmp_path, monkeypatch):
    """Writes a YAML with the plugin, and forgets what Axolotl knows of others."""
    monkeypatch.setattr("sys.argv", ["axolotl"])
    manager = PluginManager.get_instance()
    manager.plugins.clear()
    manager.cfg = None
    compat.close_debug_log()  # of other tests
    path = tmp_path / "run.yaml"

    def write(**changes):
        path.write_text(yaml.safe_dump({**settings, "plugins": [SSTOKEN], **changes}))
        return path

    yield write
    manager.plugins.clear()


def test_load_cfg_validates_fills_in_and_takes_overrides(config):
    """load_cfg: else the doctor and `inspect` would read other settings than `axolotl train`."""
    cfg = compat.load_cfg(config(sstoken={"gamma": 0.25}), sstoken__rho=0.5, max_steps=7)
    assert (cfg.sstoken.rho, cfg.sstoken.gamma, cfg.max_steps) == (0.5, 0.25, 7)
    assert cfg.batch_size == cfg.micro_batch_size * cfg.gradient_accumulation_steps  # nobody wrote it down
    # What the doctor takes the refusals of the block from.
    with pytest.raises(ValidationError) as caught:
        compat.load_cfg(config(sstoken={"rho": 2}))
    (error,) = caught.value.errors()
    assert error["loc"][:1] == ("sstoken",)
    assert "rho" in str(error["ctx"]["error"])


def test_plugins_are_those_of_the_configuration(config):
    """plugins: else the doctor could not tell that another plugin takes the loss, or that this one is missing."""
    compat.load_cfg(config())
    assert [type(plugin) for plugin in compat.plugins()] == [SSTokenPlugin]


def test_data_and_trainer_are_those_of_a_training(config, chats):
    """load_datasets, make_trainer: else `inspect` and `record` would look at other tokens than are trained."""
    cfg = compat.load_cfg(config(sstoken={"rho": 0.5}))
    meta = compat.load_datasets(cfg)
    assert len(meta.train_dataset) == len(chats.read_text().splitlines())
    assert {"input_ids", "labels"} <= set(meta.train_dataset.column_names)
    trainer = compat.make_trainer(cfg, meta)
    assert trainer.token_selector.config.rho == 0.5  # so the plugin's hooks were called, with the model loaded
    assert trainer.train_dataset["input_ids"] == meta.train_dataset["input_ids"]
    assert any("lora" in name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad)


@pytest.mark.parametrize("text", ["0.5", "3", "True", "true", "None", "out/run", "[a,b]", "1e-4", "'7'"])
def test_override_reads_a_value_as_axolotls_command_line_does(text):
    """override: else `--sstoken__rho=0.5` would be a text, or a folder called 7 a number."""
    import fire

    seen = {}
    fire.Fire(lambda **options: seen.update(options), command=[f"--value={text}"])
    assert compat.override(text) == seen["value"]
    assert type(compat.override(text)) is type(seen["value"])


def test_close_debug_log_ends_the_log_of_a_run(config, tmp_path):
    """close_debug_log: else what is said after an inspection, and in the next run, would go into the log of a folder
    that is gone.

    With its copy of the output switched off, as here and in `leaving_no_trace`, its own log is all that is open.
    """
    for name in ("first", "second"):
        compat.load_cfg(config(output_dir=str(tmp_path / name)))
        file_only_stream.write(f"said during the {name} run\n")
        compat.close_debug_log()
        file_only_stream.write("said afterwards\n")
        log = (tmp_path / name / "debug.log").read_text()
        assert f"said during the {name} run" in log
        assert "said afterwards" not in log


def test_raw_and_tokenised_are_the_rows_before_and_behind_the_prompt_strategy(config, chats):
    """raw_and_tokenised: else weights that come with the data would be put on other tokens than they are of."""
    cfg = compat.load_cfg(config(datasets=data(chats)))
    trained = compat.load_datasets(cfg).train_dataset
    ((settings, raw, tokenised),) = compat.raw_and_tokenised(cfg, load_tokenizer(cfg))
    assert settings.path == str(chats)
    assert [row["messages"] for row in raw] == [
        json.loads(line)["messages"] for line in chats.read_text().splitlines()
    ]
    assert len(tokenised) == len(raw)

    def rows(dataset):
        return sorted((list(row["input_ids"]), list(row["labels"])) for row in dataset)

    assert rows(tokenised) == rows(trained)
