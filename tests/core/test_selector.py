"""The object that integrations talk to, used as a plain training loop uses it."""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from sstoken_plugins import (
    Documents,
    Method,
    NoOptions,
    Signal,
    SSTokenConfig,
    TokenSelector,
    hookimpl,
    keep_count,
    option,
    select_tokens,
    token_forward,
    weighted_nll,
)
from sstoken_plugins.guard import PluginError
from sstoken_plugins.methods.sstoken import SSToken
from sstoken_plugins.registry import plugin_manager

from . import oracle
from .tiny import VOCABULARY, tiny


@pytest.fixture
def model(lora):
    """A llama whose adapter has learned something; `history` is 'base', which says so in a warning."""
    return lora(tiny("llama")).train()


pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")


def attached(model, **options) -> TokenSelector:
    selector = TokenSelector(SSTokenConfig(**options))
    selector.attach(model)
    return selector


def passes_of(model):
    """A list that grows by one entry with every forward pass: whether gradients were on."""
    passes: list[bool] = []
    model.get_input_embeddings().register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    return passes


def naive_weights(model, batch, rho=0.6, gamma=0.5):
    """From full logits, the model's own eager attention weights, and loops."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    model.eval()
    with torch.no_grad():
        model.get_base_model().set_attn_implementation("eager")
        outputs = model(**inputs, output_attentions=True)
        model.get_base_model().set_attn_implementation("sdpa")
        current, _, _ = oracle.read_logits(outputs.logits, batch["input_ids"])
        with model.disable_adapter():
            history, _, _ = oracle.read_logits(model(**inputs).logits, batch["input_ids"])
    model.train()
    prompt = Documents.from_batch(batch).prompt
    attention = (outputs.attentions[-1] * prompt[:, None, None, :]).sum(-1).mean(1)
    return oracle.select(batch["labels"], current - history, attention, rho, gamma, batch["attention_mask"])


@pytest.mark.parametrize(("rho", "gamma"), [(0.6, 0.5), (0.3, 1.0), (0.5, 0.0)])
def test_a_plain_training_loop_takes_the_naive_step(model, lora, batch, rho, gamma):
    weights = naive_weights(model, batch, rho, gamma)
    reference = lora(tiny("llama")).train()
    logits = reference(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    losses = cross_entropy(logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten(), reduction="none")
    expected = (losses * weights[:, 1:].flatten()).sum() / weights.sum()
    expected.backward()

    selector = attached(model, rho=rho, gamma=gamma)
    total = 0.0
    micro_batches = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(2)]
    denominator = sum(selector.denominator(micro_batch) for micro_batch in micro_batches)
    assert denominator == weights.sum()
    for i, micro_batch in enumerate(micro_batches):
        forward, selection = selector.forward(model, micro_batch, step=0)
        assert torch.equal(selection.weights, weights[i : i + 1])
        loss = weighted_nll(forward.log_probs, selection.weights, denominator)
        loss.backward()
        total += loss.item()
    selector.step_end(1)

    assert total == pytest.approx(expected.item(), abs=1e-5)
    gradients = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, gradients[name].grad, atol=1e-5, rtol=1e-4)


def test_a_selector_and_plain_tensors_agree(model, batch):
    _, selection = attached(model).forward(model, batch, step=0)
    scores = selection.measured
    weights = select_tokens(
        batch["labels"],
        log_probs=scores.log_probs,
        history_log_probs=scores["history"],
        attention=scores["attention"],
        attention_mask=batch["attention_mask"],
    )
    assert torch.equal(weights, selection.weights)
    assert torch.equal(selection.kept | selection.dropped, selection.documents.response)
    assert not (selection.kept & selection.dropped).any()


def test_training_learns(model, batch):
    selector = attached(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for step in range(12):
        forward, selection = selector.forward(model, batch, step)
        loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        selector.step_end(step + 1)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    metrics = selector.metrics.drain()
    assert set(metrics) == {
        f"sstoken/{name}" for name in
        ("keep_rate", "loss_all", "without_prompt", "rel_kept", "rel_dropped", "attention_kept", "attention_dropped")
    }  # fmt: skip
    kept, response = selector.denominator(batch), selection.documents.response.sum()
    assert metrics["sstoken/keep_rate"] == pytest.approx((kept / response).item())
    assert selector.metrics.drain() == {}


def test_metrics_are_means_over_tokens_and_not_over_micro_batches(model, batch):
    selector, rel = attached(model, gamma=1.0), []
    for i in range(2):
        _, selection = selector.forward(model, {name: value[i : i + 1] for name, value in batch.items()}, step=0)
        rel += selection.signals["rel"][selection.kept].tolist()
    assert selector.metrics.drain()["sstoken/rel_kept"] == pytest.approx(sum(rel) / len(rel))


# What is computed


def test_only_what_the_score_needs_is_computed(model, batch):
    stories = {
        (("gamma", 0.5),): [False, True],
        (("gamma", 1.0),): [False, True],
        (("gamma", 0.0),): [True],
        (("strategy", "random"),): [True],
        (("strategy", "full"),): [True],
        (("strategy", "signal"), ("signal", "loss")): [True],
        (("strategy", "signal"), ("signal", "rel")): [False, True],
        (("strategy", "signal"), ("signal", "attention")): [True],
    }
    passes = passes_of(model)
    for options, expected in stories.items():
        selector = attached(model, **dict(options))
        selector.forward(model, batch, step=0)  # the first one compares with the model's own logits
        passes.clear()
        _, selection = selector.forward(model, batch, step=0)
        assert passes == expected, options
        attends = dict(options).get("gamma", 1) < 1 or dict(options).get("signal") == "attention"
        assert (selection.measured.get("attention") is not None) == attends
        assert (selector.history is not None) == (len(expected) == 2)


def test_gamma_0_needs_no_adapter_and_gamma_1_no_attention_interface(batch):
    model = tiny("llama")
    assert attached(model, gamma=0.0).forward(model, batch, step=0)[1].kept.any()
    with pytest.raises(ValueError, match="the model has no adapter"):
        attached(model, gamma=0.5, history="base")


def test_gamma_1_serves_architectures_without_the_attention_interface(lora, batch):
    model = lora(tiny("bloom", "eager"), target_modules=["query_key_value"])
    assert attached(model, gamma=1.0).forward(model, batch, step=0)[1].kept.any()
    with pytest.raises(ValueError, match="BloomForCausalLM does not run its attention"):
        attached(model, gamma=0.5)


def test_rel_joins_the_score_after_the_warm_up(model, batch):
    selector, passes = attached(model, rel_warmup_steps=3), passes_of(model)
    selector.forward(model, batch, step=0)
    kept = {}
    for step in range(5):
        passes.clear()
        _, selection = selector.forward(model, batch, step)
        kept[step] = selection.weights
        assert passes == ([True] if step < 3 else [False, True])
        assert ("rel" in selection.signals) == (step >= 3)
    assert torch.equal(kept[2], attached(model, gamma=0.0).forward(model, batch, 2)[1].weights)
    assert torch.equal(kept[3], attached(model).forward(model, batch, 3)[1].weights)
    selector.metrics.drain()


def test_scores_are_those_without_dropout(lora, batch):
    plain = lora(tiny("llama")).train()
    dropping = lora(tiny("llama", attention_dropout=0.3), lora_dropout=0.4).train()
    _, expected = attached(plain).forward(plain, batch, step=0)
    selector, passes = attached(dropping), passes_of(dropping)
    forward, selection = selector.forward(dropping, batch, step=0)
    passes.clear()
    _, again = selector.forward(dropping, batch, step=0)
    for chosen in (selection, again):
        assert torch.equal(chosen.measured.log_probs, expected.measured.log_probs)
        assert torch.equal(chosen.measured["history"], expected.measured["history"])
        assert torch.equal(chosen.measured["attention"], expected.measured["attention"])
        assert torch.equal(chosen.weights, expected.weights)
    assert passes == [False, False, True]
    assert not torch.allclose(forward.log_probs, selection.measured.log_probs), "the training pass keeps its dropout"
    assert dropping.config.attention_dropout == 0.3


# The strategies beside ssToken


def test_full_is_plain_cross_entropy(model, batch):
    selector = attached(model, strategy="full")
    forward, selection = selector.forward(model, batch, step=0)
    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    torch.testing.assert_close(loss, model(**batch).loss)


def rows(documents):
    """A right-padded batch of these documents, each (prompt, response)."""
    width = max(len(prompt) + len(response) for prompt, response in documents)
    ids, labels = torch.zeros(len(documents), width).long(), torch.full((len(documents), width), -100)
    mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(documents):
        n, m = len(prompt), len(prompt) + len(response)
        ids[row, :m], mask[row, :m], labels[row, n:m] = torch.tensor(prompt + response), 1, torch.tensor(response)
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def test_random_keeps_the_right_number_and_depends_on_the_document_alone(model):
    generator = torch.Generator().manual_seed(0)

    def some(n):
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    documents = [(some(n), some(m)) for n, m in [(3, 9), (5, 14), (2, 5), (4, 20)]]

    def kept(batch, step=1, seed=0):
        _, selection = attached(model, strategy="random", seed=seed).forward(model, batch, step)
        return selection.weights[batch["labels"] != -100].tolist()

    together = rows(documents)
    expected = kept(together)
    counts = [sum(kept(rows([d]))) for d in documents]
    assert counts == keep_count(torch.tensor([len(m) for _, m in documents]), 0.6).tolist()
    assert [weight for d in documents for weight in kept(rows([d]))] == expected
    assert kept(rows(documents[:2])) + kept(rows(documents[2:])) == expected
    assert kept({name: torch.nn.functional.pad(value, (4, 0), value=-100 if name == "labels" else 0)
                 for name, value in together.items()}) == expected  # fmt: skip
    lengths = [len(p) + len(r) for p, r in documents]
    packed = {
        "input_ids": torch.tensor([[t for p, r in documents for t in p + r]]),
        "labels": torch.tensor([[t for p, r in documents for t in [-100] * len(p) + r]]),
        "position_ids": torch.tensor([[i for n in lengths for i in range(n)]]),
    }
    assert kept(packed) == expected
    assert kept(together) == expected
    assert kept(together, step=2) != expected
    assert kept(together, seed=1) != expected


def test_random_is_even_over_places(model):
    """Every token of a document is kept equally often over the steps, even where all tokens are the same."""
    selector = attached(model, strategy="random", rho=0.5)
    batch = rows([([5, 5], [5] * 10)])
    steps = 400
    kept = sum(selector.forward(model, batch, step)[1].weights for step in range(steps))[0, 2:] / steps
    assert kept.mean() == pytest.approx(0.5)
    assert (kept - 0.5).abs().max() < 5 * math.sqrt(0.25 / steps)


def test_signal_keeps_the_highest(model, batch):
    _, selection = attached(model, strategy="signal", signal="loss", rho=0.4).forward(model, batch, step=0)
    losses = -selection.measured.log_probs
    for row in range(2):
        assert losses[row][selection.kept[row]].min() > losses[row][selection.dropped[row]].max()


# What goes wrong


@pytest.mark.parametrize(
    ("options", "kind", "known"),
    [
        (
            {"strategy": "nope"},
            "strategy",
            "asft, cadft, deft, dft, .*full, grounded, .*random, rho1, signal, sstoken",
        ),
        ({"history": "nope"}, "history", "adapter, auto, base"),
        (
            {"strategy": "signal", "signal": "nope"},
            "signal",
            "attention, entropy, history_log_prob, history_mass, history_plausibility, log_prob, loss",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(options, kind, known):
    with pytest.raises(ValueError, match=f"`{kind}` is 'nope', which is not registered. Known: {known}"):
        TokenSelector(SSTokenConfig(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.0}, r"`rho` is 0.0.*\(0, 1\]"),
        ({"rho": 1.01}, "`rho` is 1.01"),
        ({"rho": math.nan}, "`rho` is nan"),
        ({"gamma": -0.1}, r"`gamma` is -0.1.*\[0, 1\]"),
        ({"gamma": 2}, "`gamma` is 2"),
        ({"rel_warmup_steps": -1}, "`rel_warmup_steps` is -1"),
        ({"strategy": "signal"}, "`signal` is not set"),
        (
            {"signal": "loss"},
            "`signal` is 'loss', which `strategy` 'sstoken' .* ignore: remove it, or choose .*`strategy` 'signal'",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SSTokenConfig(**options)


def test_forward_before_attach_is_refused(model, batch):
    with pytest.raises(RuntimeError, match=r"TokenSelector.attach\(model\)"):
        TokenSelector(SSTokenConfig()).forward(model, batch, step=0)


def break_adapter(model):
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).fill_(torch.nan)


def test_log_probs_that_are_not_finite_stop_the_run(model, batch):
    selector = attached(model)
    selector.forward(model, batch, step=0)
    break_adapter(model)
    tokens = batch["input_ids"][0].tolist()
    selector.forward(model, batch, step=9)
    with pytest.raises(
        FloatingPointError, match=r"The current model's .* is nan in step 9, row 0, position 4"
    ) as error:
        selector.step_end(10)
    assert f"begins with token ids {tokens})" in str(error.value)


def test_a_history_that_is_not_finite_stops_the_run(model, lora, batch, tmp_path):
    lora(tiny("llama"), seed=2).save_pretrained(tmp_path)
    selector = attached(model, history="adapter", history_adapter=str(tmp_path))
    for name, parameter in model.named_parameters():
        if "lora_B.sstoken_history" in name:
            parameter.data.fill_(1e30)
    selector.forward(model, batch, step=0)
    with pytest.raises(FloatingPointError, match=r"The history model's .* is nan in step 0, row 0, position 4"):
        selector.step_end(1)


def test_a_batch_without_any_response_trains_on(model, batch):
    selector = attached(model)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    forward, selection = selector.forward(model, batch, step=0)
    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters() if p.requires_grad)
    assert selector.metrics.drain() == {}


def test_describe_names_what_a_resumed_run_must_share(model):
    assert attached(model, rho=0.3).describe() != attached(model, rho=0.4).describe()
    assert attached(model).describe() == attached(model).describe()


# Plugins


class Rarity(Signal):
    """High for tokens with a high number."""

    def __call__(self, measured):
        return measured.input_ids / VOCABULARY


@dataclass(frozen=True)
class ForgetOptions(NoOptions):
    forget_above: float = option(1.0, "What is rarer is unlearned.")


class Forget(Method):
    """Unlearns what is rarer than the option `forget_above`, learns the rest."""

    Options = ForgetOptions

    def signals(self, progress):
        return ["rarity"]

    def weights(self, signals, documents, progress):
        return torch.where(signals["rarity"] > self.options.forget_above, -1.0, 2.0)


class Plugin:
    @hookimpl
    def register_signals(self, register):
        register("rarity", Rarity)

    @hookimpl
    def register_methods(self, register):
        register("forget", Forget)

    @hookimpl
    def observe(self, selection, record):
        negative = (selection.weights < 0) & selection.kept
        record("forgotten", negative.sum(), selection.kept.sum())


@pytest.fixture
def register():
    """Registers plugins, and takes them off again after the test."""
    registered = []

    def add(plugin):
        plugin_manager().register(plugin)
        registered.append(plugin)

    yield add
    for plugin in registered:
        plugin_manager().unregister(plugin)


def test_a_plugin_brings_a_signal_a_method_and_a_metric(model, batch, register):
    register(Plugin())
    selector = attached(model, strategy="forget", forget_above=0.5)
    forward, selection = selector.forward(model, batch, step=0)
    response, rare = selection.documents.response, batch["input_ids"] / VOCABULARY > 0.5
    assert torch.equal(selection.weights, torch.where(response, torch.where(rare, -1.0, 2.0), 0.0))
    assert selector.denominator(batch) == response.sum()

    loss = weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch))
    learned, unlearned = forward.log_probs[response & ~rare].sum(), forward.log_probs[response & rare].sum()
    torch.testing.assert_close(loss, (unlearned - 2 * learned) / response.sum())
    loss.backward()
    assert selector.metrics.drain()["sstoken/forgotten"] == pytest.approx(
        ((rare & response).sum() / response.sum()).item()
    )

    _, selection = attached(model, strategy="signal", signal="rarity").forward(model, batch, step=0)
    assert selection.kept.any()


def test_an_unregistered_plugin_leaves_nothing():
    with pytest.raises(ValueError, match="`strategy` is 'forget', which is not registered"):
        TokenSelector(SSTokenConfig(strategy="forget"))


def test_a_plugin_cannot_take_the_name_of_a_method(register, caplog):
    class Impostor:
        @hookimpl
        def register_methods(self, register):
            register("sstoken", Forget)

    register(Impostor())
    assert isinstance(TokenSelector(SSTokenConfig()).method, SSToken)
    assert "the name of its method 'sstoken'" in caplog.text


def test_the_weights_of_a_method_off_the_response_do_not_matter(model, batch, register):
    class Everything(Method):
        def signals(self, progress):
            return []

        def weights(self, signals, documents, progress):
            return torch.full(documents.ids.shape, 3.0)

    class Careless:
        @hookimpl
        def register_methods(self, register):
            register("everything", Everything)

    register(Careless())
    forward, selection = attached(model, strategy="everything").forward(model, batch, step=0)
    assert torch.equal(selection.weights, 3.0 * selection.documents.response)
    expected = token_forward(model, batch, selection.documents).log_probs
    assert torch.equal(forward.log_probs, expected)


def method_of(register, weigh, promise=None):
    """Registers a method with these weights and this `n_kept`, as 'careless'."""

    class Careless(Method):
        """As given."""

        def signals(self, progress):
            return ["loss"]

        def weights(self, signals, documents, progress):
            return weigh(signals["loss"], documents)

        def n_kept(self, counts, progress):
            return None if promise is None else promise(counts.n_response)

    class Brings:
        @hookimpl
        def register_methods(self, register):
            register("careless", Careless)

    register(Brings())


def test_a_method_that_keeps_more_than_it_promised_stops_the_run(model, batch, register):
    """Backward visits as many tokens as were promised: the others would silently get no gradient."""
    method_of(register, lambda loss, documents: documents.response.float(), lambda n: n // 2)
    selector = attached(model, strategy="careless")
    selector.lookup(batch)  # only then is the promise used
    selector.forward(model, batch, step=4)
    kept, promised = int((batch["labels"] != -100).sum()), 3 + 2
    with pytest.raises(
        RuntimeError,
        match=rf"'careless' gave weight to {kept} tokens .* in step 4, but its `n_kept` had promised {promised} at "
        "most.*Correct its `n_kept`",
    ):
        selector.step_end(5)


def test_a_method_may_keep_less_than_it_promised(model, batch, register):
    method_of(register, lambda loss, documents: (documents.response & (loss > 3)).float(), lambda n: n)
    results = []
    for helped in (False, True):
        model.zero_grad()
        selector = attached(model, strategy="careless")
        if helped:
            selector.lookup(batch)
        forward, selection = selector.forward(model, batch, step=0)
        assert selection.dropped.any()
        weighted_nll(forward.log_probs, selection.weights, 5).backward()
        selector.step_end(1)
        results.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(*results)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("helped", [False, True])
def test_weights_that_are_not_finite_stop_the_run(model, batch, register, value, helped):
    method_of(register, lambda loss, documents: torch.where(loss > loss[documents.response].mean(), value, 1.0))
    selector = attached(model, strategy="careless")
    if helped:
        selector.lookup(batch)
    selector.forward(model, batch, step=2)
    with pytest.raises(
        FloatingPointError, match=r"Method 'careless' of .* gave a token the weight (nan|inf).* in step 2"
    ):
        selector.step_end(3)


@pytest.mark.parametrize(
    ("weigh", "got"),
    [
        (lambda loss, documents: loss[:, 1:], r"shape \(2, 10\)"),
        (lambda loss, documents: loss.flatten(), r"shape \(22,\)"),
        (lambda loss, documents: None, "None"),
        (lambda loss, documents: 1.0, r"1\.0"),
    ],
    ids=["narrow", "flat", "none", "number"],
)
def test_weights_of_another_shape_are_refused_with_the_method_and_its_module(model, batch, register, weigh, got):
    method_of(register, weigh)
    with pytest.raises(
        PluginError, match=rf"The method 'careless' of module {__name__}.* returned {got} .*shape \(2, 11\)"
    ):
        attached(model, strategy="careless").forward(model, batch, step=0)


def test_a_signal_of_another_shape_is_refused_with_its_module(model, batch, register):
    class Row(Signal):
        def __call__(self, measured):
            return measured.log_probs[0]

    class Brings:
        @hookimpl
        def register_signals(self, register):
            register("row", Row)

    register(Brings())
    with pytest.raises(PluginError, match=rf"The signal 'row' of module {__name__}.* returned shape \(11,\)"):
        attached(model, strategy="signal", signal="row").forward(model, batch, step=0)


class TripledLogits(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 3
        return output


class NoHead(LlamaForCausalLM):
    def forward(self, input_ids, **kwargs):
        outputs = self.model(input_ids, **kwargs)
        logits = outputs.last_hidden_state @ self.lm_head.weight.T
        return CausalLMOutput(logits=logits, attentions=outputs.attentions)


@pytest.mark.parametrize(
    ("cls", "options", "reason"),
    [
        (LlamaForCausalLM, {"target_modules": ["q_proj", "lm_head"], "lora_dropout": 0.1}, "adapter with dropout"),
        (TripledLogits, {}, "those of its own logits"),
        (NoHead, {}, "ran its output head 0 times"),
    ],
)
def test_a_head_that_cannot_be_read_leaves_the_loss_to_the_framework(lora, batch, caplog, cls, options, reason):
    def build():
        model = cls(tiny("llama").config)
        model.load_state_dict(tiny("llama").state_dict())
        return lora(model, **options).train()

    model = build()
    selector = attached(model)
    assert selector.uses_framework_loss(model, batch)
    assert reason in caplog.text
    labels, selection = selector.filtered_labels(model, batch, step=0)
    assert torch.equal(labels != -100, selection.kept)
    assert torch.equal(labels[selection.kept], batch["labels"][selection.kept])
    assert selection.kept.sum() == selector.denominator(batch)
    assert torch.equal(selection.weights, naive_weights(model.eval(), batch))
    selector.step_end(1)

    with pytest.raises(ValueError, match=f"`loss` is 'own', but it has to be the framework's, because .*{reason}"):
        attached(model, loss="own").forward(model, batch, step=0)
    with pytest.raises(RuntimeError, match=r"train on `TokenSelector\.filtered_labels`"):
        selector.forward(model, batch, step=1)


def test_a_method_that_weighs_cannot_leave_the_loss_to_the_framework(register):
    register(Plugin())
    with pytest.raises(ValueError, match="`strategy` is 'forget', which weighs tokens"):
        TokenSelector(SSTokenConfig(strategy="forget", loss="framework", forget_above=0.5))


class Waits(TorchDispatchMode):
    """Counts the operations for which the host would wait for a device that is not a CPU."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "item")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_", "index_put") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in self.NAMES or by_mask or (name == "repeat_interleave" and "output_size" not in (kwargs or {})):
            stack = traceback.extract_stack()
            # transformers waits to look at masks; the other reads numbers that never were on a device.
            if not any("masking_utils" in frame.filename or frame.name == "mix_int" for frame in stack):
                self.seen.append(f"{name} in {stack[-3].name}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gamma": 0.0},
        {"strategy": "random"},
        {"strategy": "full"},
        {"history": "snapshot", "refresh_steps": 1},
        {"history": "ema"},
    ],
    ids=str,
)
def test_the_host_never_waits_for_the_device_in_a_step(model, batch, options):
    selector = attached(model, **options)
    selector.forward(model, batch, step=0)
    selector.lookup(batch)  # as the data loader does
    with Waits() as waits:
        denominator = selector.denominator(batch)
        forward, selection = selector.forward(model, batch, step=1)
        weighted_nll(forward.log_probs, selection.weights, denominator).backward()
    assert waits.seen == []


def test_without_the_data_loaders_help_the_step_is_the_same(model, batch):
    selector, results = attached(model), []
    for helped in (False, True):
        if helped:
            selector.lookup(batch)
        model.zero_grad()
        forward, selection = selector.forward(model, batch, step=0)
        weighted_nll(forward.log_probs, selection.weights, selector.denominator(batch)).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
        results.append((selection.weights, gradients))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_labels_that_change_behind_the_data_loaders_back_stop_the_run(model, batch):
    selector = attached(model)
    selector.lookup(batch)
    batch["labels"] = torch.where(batch["labels"] == batch["labels"][0, 5], -100, batch["labels"])
    selector.forward(model, batch, step=0)
    with pytest.raises(RuntimeError, match="In step 0 the labels of a micro-batch were not those"):
        selector.step_end(1)


def test_random_selection_costs_no_pass_of_its_own(lora, batch):
    model = lora(tiny("llama"), lora_dropout=0.1).train()
    selector = attached(model, strategy="random")
    selector.forward(model, batch, 0)
    passes = []
    with_hook = model.get_base_model().model.register_forward_hook(lambda *_: passes.append(1))
    selector.forward(model, batch, 1)
    with_hook.remove()
    assert len(passes) == 1
