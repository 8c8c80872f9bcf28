"""Methods with a reference: a step is that of the published loss, by an adapter or from recordings."""

from __future__ import annotations

import json

import pytest
import torch

from sstoken_plugins import Refused, SSTokenConfig, TokenSelector, TrainingRun, weighted_nll
from sstoken_plugins.histories.adapter import AdapterHistory
from sstoken_plugins.store import DiskStore

from ..core import references
from ..core.layouts import documents, laid_out
from ..core.oracle import how_many
from ..core.selves import assert_same_state, state_of
from ..core.tiny import tiny
from .test_parity import LAYOUTS, ROUNDING, gradient, relative, trainable

pytestmark = pytest.mark.filterwarnings("ignore:`history` is '.*' and training continues")
TOTAL = 4


def nll(model, tokens, trains):
    """(T,) of one document's response, by full logits."""
    response = [t for t in range(1, len(tokens)) if trains[t]]
    logits = model(torch.tensor([tokens])).logits[0, [t - 1 for t in response]]
    return -logits.log_softmax(-1)[range(len(response)), [tokens[t] for t in response]]


def by_adapter():
    return references.learned(tiny("llama"), seed=5)


def recorded():
    return tiny("llama", seed=11)


def scored(model, reference, against):
    """Of each document the loss of its tokens, with gradient, and their scores."""
    found = []
    for document in documents():
        loss = nll(model, *document)
        if len(loss):
            with torch.no_grad():
                base = loss if against == "current" else nll(tiny("llama"), *document)
                found.append((loss, base - nll(reference, *document)))
    return found


def best(scores, k):
    kept = torch.zeros(len(scores), dtype=torch.bool)
    kept[scores.argsort(descending=True)[:k]] = True
    return kept


def rho1(answers, rho):
    kept = [loss[best(score, how_many(len(loss), rho))] for loss, score in answers]
    return torch.cat(kept).mean()


def cleaning_by_sample(answers, rho):
    return rho1(answers, rho)


def split_over_data(answers, rho):
    losses, scores = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return losses, best(scores, int(rho * len(scores)))


def cleaning_over_data(answers, rho):
    losses, kept = split_over_data(answers, rho)
    return losses[kept].sum() / (rho * len(losses))


def forgetting_by_sample(answers, rho, strength):
    total = sum(len(loss) for loss, _ in answers)
    summed = 0.0
    for loss, score in answers:
        kept = best(score, how_many(len(loss), rho))
        others = loss[~kept].mean() if (~kept).any() else 0.0
        summed = summed + len(loss) * (loss[kept].mean() - strength * others)
    return summed / total


def forgetting_over_data(answers, rho, strength):
    losses, kept = split_over_data(answers, rho)
    n = len(losses)
    return losses[kept].sum() / (rho * n) - strength * losses[~kept].sum() / ((1 - rho) * n)


def selector_for(model, **options):
    selector = TokenSelector(SSTokenConfig(**options))
    selector.attach(model)
    selector.begin(TOTAL)
    return selector


def step(selector, model, layout, number=0):
    layout, split = LAYOUTS[layout]
    some, batches = documents(), []
    for size in split:
        batches.append(laid_out(layout, some[:size]))
        some = some[size:]
    denominator = sum(selector.denominator(batch, number) for batch in batches)
    for batch in batches:
        selector.lookup(batch)
        forward, selection = selector.forward(model, batch, number)
        weighted_nll(forward.log_probs, selection.weights, denominator).backward()
    selector.step_end(number + 1)
    return gradient(model)


CASES = {
    "rho1, adapter": ("rho1", {"reference_adapter": references.adapter()}, by_adapter, "current", rho1, (0.6,)),
    "rho1, recorded": (
        "rho1", {"reference_store": references.reference_store(), "rho": 0.3}, recorded, "current", rho1, (0.3,),
    ),
    "cleaning by sample": (
        "token_cleaning", references.by_sample(), by_adapter, "base", cleaning_by_sample, (0.6,),
    ),
    "cleaning over data": ("token_cleaning", references.over_data(), recorded, "base", cleaning_over_data, (0.6,)),
    "forgetting by sample": (
        "forgetting", references.by_sample(), by_adapter, "base", forgetting_by_sample, (0.7, 0.125),
    ),
    "forgetting over data": (
        "forgetting", references.over_data(), recorded, "base", forgetting_over_data, (0.7, 0.125),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_that_of_the_published_loss(case, layout):
    """In the middle of a run of four steps, where forgetting unlearns with half of 0.25."""
    strategy, options, reference, against, loss, arguments = CASES[case]
    model = references.learned(tiny("llama"), seed=1).train()
    loss(scored(model, reference(), against), *arguments).backward()
    expected = gradient(model)
    selector = selector_for(model, strategy=strategy, **options)
    assert relative(step(selector, model, layout, number=2), expected) < ROUNDING


def test_forgetting_begins_as_cleaning_and_grows():
    model = references.learned(tiny("llama"), seed=1).train()
    selector = selector_for(model, strategy="forgetting", **references.by_sample())
    batch = laid_out("right")
    lowest = [float(selector.inspect(model, batch, number).weights.min()) for number in (0, 2, 4)]
    assert lowest[0] == 0 > lowest[1] > lowest[2]
    assert [selector.method.strength(selector.progress(n)) for n in (0, 2, 4)] == [0, 0.125, 0.25]


def test_the_adapter_is_beside_a_history_adapter_and_leaves_the_model_alone(tmp_path):
    references.learned(tiny("llama"), seed=8).save_pretrained(tmp_path / "earlier")
    model = references.learned(tiny("llama"), seed=1).train()
    modules, before = list(model.modules()), state_of(model)
    selector = selector_for(
        model, strategy="token_cleaning", over="sample", reference_adapter=references.adapter(),
        history="adapter", history_adapter=str(tmp_path / "earlier"),
    )  # fmt: skip
    _, selection = selector.forward(model, laid_out("right"), 0)
    measured = selection.measured
    for name, other in (("reference", by_adapter()), ("history", references.learned(tiny("llama"), seed=8))):
        with torch.no_grad():
            expected = torch.cat([-nll(other, *document) for document in documents()])
        torch.testing.assert_close(measured[name][selection.documents.response], expected, rtol=1e-5, atol=1e-5)
    after = state_of(model, modules)
    after["weights"] = {name: value for name, value in after["weights"].items() if name in before["weights"]}
    assert_same_state(before, after)


def test_what_is_recorded_is_what_the_other_model_says(tmp_path):
    assert references.record_reference(recorded(), laid_out("packed"), tmp_path / "store") == 5
    assert DiskStore(tmp_path / "store").made_by["role"] == "reference"
    model = references.learned(tiny("llama"), seed=1)
    selector = selector_for(model, strategy="rho1", reference_store=str(tmp_path / "store"))
    for batch in (laid_out("right"), laid_out("padding-free")):
        _, selection = selector.forward(model, batch, 0)
        with torch.no_grad():
            expected = torch.cat([-nll(recorded(), *document) for document in documents()])
        ours = selection.measured["reference"][selection.documents.response]
        torch.testing.assert_close(ours, expected, rtol=0, atol=2e-4)
    assert selector.describe()["history"]["reference"]["store_made_by"]["role"] == "reference"


# What is refused, by name


def refusal(**options) -> str:
    with pytest.raises(Refused) as error:
        selector_for(references.learned(tiny("llama"), seed=1), **options)
    return str(error.value)


def test_one_reference_is_needed_and_no_more():
    assert "neither `reference_adapter` nor `reference_store` is set" in refusal(strategy="rho1")
    both = {"reference_adapter": references.adapter(), "reference_store": references.reference_store()}
    assert "both set" in refusal(strategy="rho1", **both)


def test_an_adapter_that_cannot_serve(tmp_path):
    assert "`reference_adapter` is" in refusal(strategy="rho1", reference_adapter=str(tmp_path / "none"))
    references.learned(tiny("llama", hidden_size=64, head_dim=16), seed=1).save_pretrained(tmp_path / "other")
    assert "`reference_adapter` '" in refusal(strategy="rho1", reference_adapter=str(tmp_path / "other"))
    with pytest.raises(Refused, match=r"`reference_adapter` is .* has no adapter: .* set `reference_store`"):
        selector_for(tiny("llama"), strategy="rho1", reference_adapter=references.adapter())


def test_a_store_that_cannot_serve(tmp_path):
    assert "nothing was recorded yet" in refusal(strategy="rho1", reference_store=str(tmp_path / "none"))
    assert "and not a reference" in refusal(strategy="rho1", reference_store=references.history_store())
    references.record_reference(recorded(), laid_out("right"), tmp_path / "words", tokenizer="another")
    assert "the same tokenizer" in refusal(strategy="rho1", reference_store=str(tmp_path / "words"))
    with pytest.raises(Refused, match="was made with another model"):
        references.record_reference(tiny("llama", seed=12), laid_out("right"), tmp_path / "words", tokenizer="another")


def test_the_same_tokenizer_is_enough(tmp_path):
    references.record_reference(recorded(), laid_out("right"), tmp_path / "words", tokenizer="ours")
    model = references.learned(tiny("llama"), seed=1)
    selector = TokenSelector(SSTokenConfig(strategy="rho1", reference_store=str(tmp_path / "words")))
    selector.attach(model, TrainingRun(tokenizer="ours"))
    selector.forward(model, laid_out("right"), 0)


def test_a_sample_that_was_not_recorded(tmp_path):
    references.record_reference(recorded(), laid_out("right", documents()[:3]), tmp_path / "part")
    model = references.learned(tiny("llama"), seed=1)
    selector = selector_for(model, strategy="rho1", reference_store=str(tmp_path / "part"))
    with pytest.raises(Refused, match="2 samples of a micro-batch are not in `reference_store`"):
        selector.forward(model, laid_out("right"), 0)


def test_ranks_over_the_data_need_both_recordings():
    assert "set `over` to 'sample'" in refusal(strategy="token_cleaning", reference_adapter=references.adapter())


def test_a_checkpoint_names_its_reference():
    model = references.learned(tiny("llama"), seed=1)
    described = selector_for(model, strategy="rho1", reference_adapter=references.adapter()).describe()
    history = AdapterHistory(SSTokenConfig(history="adapter", history_adapter=references.adapter(), gamma=1.0)
                             .options_of("history", "adapter"))  # fmt: skip
    assert json.dumps(described["history"]["reference"]) == json.dumps(dict(history.describe()))
    assert trainable(model)
