"""What every registered method has to keep to, whoever wrote it."""

from __future__ import annotations

import io
import math

import pytest
import torch

from sstoken_plugins import Counts, MicroBatch, SSTokenConfig, TokenSelector, all_options, registry
from sstoken_plugins.methods import _template

from . import oracle, references
from .layouts import LAYOUTS, documents, laid_out
from .tiny import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`history` is 'base' and training continues")

STEPS = 3
# Options that a method cannot do without, and others that take it another way. The defaults are always tried.
REQUIRED = {
    "signal": {"signal": "rel"},
    "psft": {"history": "snapshot", "refresh_steps": 2.0},
    "rho1": {"reference_adapter": references.adapter()},
    "token_cleaning": references.over_data(),
    "forgetting": references.over_data(),
}
WITHOUT_STORES = {**dict.fromkeys(references.over_data()), **references.by_sample()}
VARIANTS = {
    "sstoken": [{"gamma": 1.0}, {"gamma": 0.0}, {"rel_warmup_steps": 1}, {"rho": 0.3}, {"rho": 1.0}],
    "sstoken_trimmed": [{"trim": 1.0}, {"trim": 1.0, "rho": 1.0, "gamma": 0.8}, {"trim": 1.0, "trim_by": "current"}],
    "trimmed": [{"trim": 1.0}, {"trim": 1.0, "trim_by": "current"}],
    "grounded": [{"trim": 1.0}],
    "random": [{"rho": 0.3, "seed": 4}],
    "signal": [{"signal": "prompt_gain"}, {"signal": "entropy", "rho": 0.2}],
    "template": [{"least_loss": 5.0}],
    "power": [{"alpha": 0.3}],
    "profit": [{"threshold": 0.01}, {"threshold": 0.01, "side": "below"}],
    "prift": [{"by": "mass"}],
    "stm": [{"perplexity": 60.0}],
    "eaft": [{"alpha": 2.0, "top_k": 5, "scale": 1.0}],
    "talr": [{"tau": 2.0}, {"half_life": 1.0, "floor": 0.0}],
    "flow": [{"tau": 5.0}],
    "iw_sft": [{"per": "token"}, {"temperature": 2.0, "cap": 1.1}],
    "minor_sft": [{"form": "sum", "beta": 0.5}],
    "memft": [{"threshold": 5.0}],
    "loss_truncation": [{"hot_start": 0}, {"hot_start": 6, "drop": 0.7, "half_life": 1.0}],
    "rho1": [{"reference_adapter": None, "reference_store": references.reference_store(), "rho": 0.3}],
    "token_cleaning": [{"rho": 0.3}, WITHOUT_STORES],
    "forgetting": [{"rho": 1.0}, {**WITHOUT_STORES, "unlearn": 0.5, "schedule": "constant"}],
    "asft": [{"anchor": "k3"}],
    "q_tuning": [{"samples": 0.8, "tokens": 0.5, "neighbours": 0.5}, {"samples": 0.3}],
}
NAMES = [*registry.registered("method"), "template"]
CASES = [(name, {**REQUIRED.get(name, {}), **more}) for name in NAMES for more in [{}, *VARIANTS.get(name, [])]]
# The same in every process of the test run: folders have random names.
IDS = [f"{name}-{', '.join(f'{key}={value}' for key, value in options.items() if '/' not in str(value))}-{i}"
       for i, (name, options) in enumerate(CASES)]  # fmt: skip
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
every_name = pytest.mark.parametrize("name", NAMES)
OTHER_WAYS = [
    ("right", "alone", True),
    ("left", "two", False),
    ("packed", "whole", True),
    ("packed", "two", False),
    ("padding-free", "whole", False),
    ("padding-free", "two", True),
]
SPLITS = {"whole": [5], "two": [2, 3], "alone": [1, 1, 1, 1, 1]}


@pytest.fixture(autouse=True, scope="module")
def template():
    registry.plugin_manager().register(_template)
    yield
    registry.plugin_manager().unregister(_template)


@pytest.fixture
def model(lora):
    return lora(tiny("llama")).train()


def attached(model, name, options) -> TokenSelector:
    selector = TokenSelector(SSTokenConfig(strategy=name, **options))
    selector.attach(model)
    selector.begin(STEPS)
    return selector


def micro_batches(layout, split=(5,)):
    some = documents()
    for size in split:
        yield laid_out(layout, some[:size])
        some = some[size:]


def one_step(selector, model, step, layout="right", split=(5,), helped=False) -> torch.Tensor:
    """An optimizer step's weights of the response tokens, document by document."""
    weights = []
    for batch in micro_batches(layout, split):
        if helped:
            selector.lookup(batch)
        _, selection = selector.forward(model, batch, step)
        weights.append(selection.weights[selection.documents.response])
    selector.step_end(step + 1)
    return torch.cat(weights)


@every_case
def test_the_weights_are_the_same_in_every_layout_and_batch_split(model, name, options):
    """Also those that follow from what the method has seen before."""
    selector = attached(model, name, options)
    expected = [one_step(selector, model, step) for step in range(STEPS)]
    for layout, split, helped in OTHER_WAYS:
        selector = attached(model, name, options)
        for step in range(STEPS):
            ours = one_step(selector, model, step, layout, SPLITS[split], helped)
            torch.testing.assert_close(ours, expected[step], rtol=1e-4, atol=1e-4, msg=f"{layout}, {split}, {step}")


@every_case
def test_no_more_is_kept_than_was_promised(model, name, options):
    selector = attached(model, name, options)
    for step in range(STEPS):
        progress, batch = selector.progress(step), laid_out("right")
        selector.lookup(batch)
        promised = selector.method.n_kept(MicroBatch.of(batch).counts, progress)
        _, selection = selector.forward(model, batch, step)
        selector.step_end(step + 1)
        if promised is not None:
            kept = selection.documents.sum(selection.kept.long())[: len(promised)]
            assert promised.dtype == torch.int64
            assert (kept <= promised).all()
        if selector.method.selects:
            assert set(selection.weights.unique().tolist()) <= {0.0, 1.0}


@every_case
def test_the_denominator_follows_from_the_counts_alone(model, name, options):
    selector = TokenSelector(SSTokenConfig(strategy=name, **options))
    selector.begin(STEPS)
    for step in range(STEPS):
        totals = {
            sum(float(selector.denominator(batch, step)) for batch in micro_batches(layout, SPLITS[split]))
            for layout in LAYOUTS
            for split in SPLITS
        }
        batch = laid_out("right")
        selector.lookup(batch)
        totals.add(float(selector.denominator(batch, step)))
        counts = Counts(torch.tensor([sum(response) for _, response in documents()[:3]] + [6, 5]))
        totals.add(float(selector.method.denominator(counts, selector.progress(step)).sum()))
        assert max(totals) - min(totals) < 1e-6
        assert 0 < max(totals) < math.inf
        nothing = selector.method.denominator(Counts(torch.zeros(3, dtype=torch.int64)), selector.progress(step))
        assert not nothing.any(), "a document without a response has nothing to be divided by"


@every_case
def test_a_resumed_run_goes_on_exactly(model, name, options):
    half = 2
    selector = attached(model, name, options)
    for step in range(half):
        one_step(selector, model, step)
    torch.save(selector.state_dict(), file := io.BytesIO())
    expected = [one_step(selector, model, step) for step in range(half, STEPS)]
    file.seek(0)
    resumed = attached(model, name, options)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in range(half, STEPS):
        assert torch.equal(one_step(resumed, model, step), expected[step - half])


@every_case
def test_looking_shows_what_trains_and_leaves_no_trace(model, name, options):
    selector, batch = attached(model, name, options), laid_out("left")
    for step in range(STEPS):
        before = {key: value.clone() for key, value in selector.state_dict().items()}
        seen = selector.inspect(model, batch, step)
        after = selector.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        _, trained = selector.forward(model, batch, step)
        assert torch.equal(seen.weights, trained.weights)
        assert seen.signals.keys() == trained.signals.keys() <= selector.method.reads
        selector.step_end(step + 1)


def selected_again(controls, selection, method, progress) -> torch.Tensor:
    """What `Controls` says that a report's reader gets, in loops, with the options as they are set."""
    docs, signals = selection.documents, selection.signals
    eligible = method.eligible(signals, docs, progress)
    if controls.threshold is not None:
        name, column = controls.threshold
        eligible = docs.response & (
            signals[column] > math.log(controls.values.get(name, getattr(method.options, name)))
        )
    score = method.score(signals, docs, progress)
    kept = torch.zeros_like(docs.response)
    for number in docs.ids[docs.response].unique().tolist():
        mine = docs.response & (docs.ids == number)
        places = (mine & eligible).nonzero().tolist()
        if not places:
            continue
        if controls.blend is not None:
            name, scaled, plain = controls.blend
            v = controls.values.get(name, getattr(method.options, name))
            first = oracle.minmax([signals[scaled][*at] for at in places]) if v > 0 else [0.0] * len(places)
            second = [signals[plain][*at] for at in places] if v < 1 else [0.0] * len(places)
            ranked = [v * a + (1 - v) * b for a, b in zip(first, second, strict=True)]
        else:
            ranked = [score[*at] for at in places] if score is not None else [0.0] * len(places)
        n = (
            len(places)
            if controls.top is None
            else oracle.how_many(int(mine.sum()), getattr(method.options, controls.top))
        )
        for i in sorted(range(len(places)), key=lambda i: (-float(ranked[i]), i))[:n]:
            kept[*places[i]] = True
    return kept


@every_case
def test_a_report_shows_the_selection_that_trains(model, name, options):
    selector, batch = attached(model, name, options), laid_out("right")
    for step in range(STEPS):
        method, progress = selector.method, selector.progress(step)
        _, selection = selector.forward(model, batch, step)
        eligible = method.eligible(selection.signals, selection.documents, progress)
        assert eligible.dtype == torch.bool
        assert not (eligible & ~selection.documents.response).any()
        assert not (selection.kept & ~eligible).any()
        if (controls := method.controls(progress)) is not None:
            again = selected_again(controls, selection, method, progress)
            assert torch.equal(again, selection.kept)
        elif (score := method.score(selection.signals, selection.documents, progress)) is not None and method.selects:
            for number in selection.documents.ids[selection.kept].unique().tolist():
                mine = (selection.documents.ids == number) & eligible
                kept, dropped = score[mine & selection.kept], score[mine & selection.dropped]
                assert not dropped.numel() or kept.min() >= dropped.max()
        assert all(isinstance(note, str) and note.endswith(".") for note in method.notes(progress))
        selector.step_end(step + 1)


@every_case
def test_nothing_to_learn_is_no_weight(model, name, options):
    selector, batch = attached(model, name, options), laid_out("right")
    batch["labels"][:] = -100
    for helped in (False, True):
        if helped:
            selector.lookup(batch)
        _, selection = selector.forward(model, batch, step=0)
        assert not selection.weights.any()
        assert selector.denominator(batch) == 0
    selector.step_end(1)


@every_name
def test_its_options_and_itself_are_documented(name):
    method = registry.lookup("method", name)
    assert method.__doc__
    assert method.__doc__ != method.__mro__[1].__doc__
    config = SSTokenConfig(strategy=name, **REQUIRED.get(name, {}))
    for option in all_options().values():
        if f"method {name}" not in option.owners:
            continue
        assert option.help[0].isupper() or option.help[0] == "`", option.name
        assert option.help.endswith("."), option.name
        default = option.owners[f"method {name}"]
        assert default is None or option.check(default) == (default, None)
        if default is not None:
            assert f"Default: {default}." in option.described or f"{default!r} for" in option.described
        assert getattr(config, option.name) is not None or option.name not in REQUIRED.get(name, {})
