"""Earlier selves that cannot be had: refused by the configuration alone where that is possible, else by the model."""

from __future__ import annotations

import json

import pytest
from peft import PromptTuningConfig, get_peft_model

from sstoken_plugins import SSTokenConfig, TokenSelector

from .selves import BASE, attached, from_adapter
from .tiny import tiny

# By the configuration alone, ...


def test_a_missing_folder_is_refused_before_any_model(tmp_path):
    with pytest.raises(ValueError, match=r"`history_adapter` is '.*nowhere', which is not a folder"):
        TokenSelector(from_adapter(tmp_path / "nowhere"))


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_files_are_refused_before_any_model(adapter, missing):
    (adapter / missing).unlink()
    with pytest.raises(ValueError, match=f"has no {missing}"):
        TokenSelector(from_adapter(adapter))


def test_a_pickled_adapter_is_refused_before_any_model(load_plain, lora, adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_model.bin, a pickle, which is not loaded"):
        TokenSelector(from_adapter(adapter))


def test_a_broken_config_is_refused_before_any_model(adapter):
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        TokenSelector(from_adapter(adapter))


def test_contradictory_options_are_refused(adapter):
    with pytest.raises(ValueError, match="`history` is 'adapter' but `history_adapter` is not set"):
        SSTokenConfig(history="adapter")
    with pytest.raises(
        ValueError, match=r"`history_adapter` is .* with `history` 'base' does not read and would ignore"
    ):
        SSTokenConfig(history="base", history_adapter=str(adapter))


# ... or by a look at the model.


def test_an_adapter_of_other_shapes_is_refused(load_plain, lora, adapter):
    other = tiny("llama", hidden_size=32)
    with pytest.raises(ValueError, match=r"does not fit the model: .*size mismatch"):
        TokenSelector(from_adapter(adapter)).attach(lora(other))


def test_an_adapter_with_weights_that_have_no_place_is_refused(load_plain, lora, adapter):
    with pytest.raises(ValueError, match=r"`history_adapter` .* does not fit the model"):
        TokenSelector(from_adapter(adapter)).attach(lora(tiny("gpt2", hidden_size=64)))


def test_an_adapter_with_more_layers_is_refused(load_plain, lora, adapter):
    shallow = tiny("llama", hidden_size=64, intermediate_size=64, head_dim=16, num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"14 weights are missing or unexpected, such as"):
        TokenSelector(from_adapter(adapter)).attach(lora(shallow))


def test_an_adapter_of_another_base_is_refused(load_plain, lora, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "meta/other-model"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="was trained on 'meta/other-model', but this run trains"):
        TokenSelector(from_adapter(adapter)).attach(lora(load_plain()))


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_a_model_without_an_adapter_is_refused(load_plain, adapter, kind):
    config = BASE if kind == "base" else from_adapter(adapter)
    with pytest.raises(ValueError, match=f"`history` is '{kind}' but the model has no adapter"):
        TokenSelector(config).attach(load_plain())


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_prompt_tuning_is_refused(load_plain, adapter, kind):
    model = get_peft_model(load_plain(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ValueError, match="type PROMPT_TUNING, which adds virtual tokens"):
        TokenSelector(BASE if kind == "base" else from_adapter(adapter)).attach(model)


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_an_adapter_that_trains_biases_is_refused(load_plain, lora, adapter, kind):
    with pytest.raises(ValueError, match=r"trains biases \(bias='lora_only'\)"):
        TokenSelector(BASE if kind == "base" else from_adapter(adapter)).attach(lora(load_plain(), bias="lora_only"))


RECORDED = {"history": "recorded", "history_record": True}


def live(tmp_path, kind) -> SSTokenConfig:
    """The base model as history: asked live, or for what the store lacks."""
    return BASE if kind == "base" else BASE.replace(**RECORDED, history_store=str(tmp_path / "store"))


@pytest.mark.parametrize("kind", ["base", "recorded"])
@pytest.mark.parametrize("initialisation", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_that_took_its_start_out_of_the_base_is_refused(load_plain, lora, tmp_path, kind, initialisation):
    """Below it is not the base model: at the first step rel would be some nats."""
    model = lora(load_plain(), init_lora_weights=initialisation, learned=False)
    with pytest.raises(
        ValueError, match=rf"`history` is '{kind}', .* initialised by '{initialisation}' .*Set `init_lora_weights`"
    ):
        TokenSelector(live(tmp_path, kind)).attach(model)


def test_an_earlier_adapter_that_took_its_start_out_of_the_base_is_refused(load_plain, lora, tmp_path):
    lora(load_plain(), init_lora_weights="pissa").save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"`history_adapter` .* initialised by 'pissa' .*which changes the base model"
    ):
        TokenSelector(from_adapter(tmp_path))


@pytest.mark.parametrize("kind", ["base", "recorded", "last_visit", "adapter"])
@pytest.mark.parametrize("unfrozen", ["model.layers.1.input_layernorm", "model.embed_tokens", "lm_head"])
def test_a_base_that_trains_beside_the_adapter_is_refused(load_plain, lora, adapter, tmp_path, kind, unfrozen):
    model = lora(load_plain(), target_modules=["q_proj"])
    model.base_model.model.get_submodule(unfrozen).weight.requires_grad_(True)
    configs = {
        "last_visit": SSTokenConfig(history="last_visit", first_visit="base"),
        "adapter": from_adapter(adapter),
    }
    config = configs.get(kind) or live(tmp_path, kind)
    message = rf"`history` is '{kind}', but 1 parameters of the base model train .*'{unfrozen}\.weight'.*freeze them"
    with pytest.raises(ValueError, match=message):
        TokenSelector(config).attach(model)
    attached(model, SSTokenConfig(history="snapshot", gamma=1.0))  # follows whatever trains


def test_an_earlier_adapter_with_biases_is_refused_before_any_model(load_plain, lora, tmp_path):
    lora(load_plain(), bias="all").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"bias='all'"):
        TokenSelector(from_adapter(tmp_path))


def test_a_frozen_model_is_refused(load_plain, lora, adapter):
    model = lora(load_plain()).requires_grad_(False)
    with pytest.raises(ValueError, match="No parameter of the model is trainable"):
        TokenSelector(from_adapter(adapter)).attach(model)
