"""A report knows no method, signal or measurement by name: what any of them declares is what it shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import sstoken_report
from sstoken_plugins import Column, Controls, HeadStatistic, Method, RankedMethod, Signal, hookimpl
from sstoken_plugins.data.weights import WEIGHTS
from sstoken_plugins.registry import KINDS, plugin_manager, registered
from sstoken_report.controls import select
from sstoken_report.page import pack, render
from sstoken_report.summary import scalars


class Doubt(HeadStatistic):
    """One minus the largest probability."""

    column = Column("doubt", "One minus the probability of the likeliest token.", name="doubtful")

    def of(self, chunk):
        return 1 - chunk.exponentials.amax(-1) / chunk.total


class Doubtful(Signal):
    """The same, as a signal."""

    needs = frozenset({"test_doubt"})

    def __call__(self, measured):
        return measured["test_doubt"]


class Surprise(Signal):
    """`-log p`."""

    column = Column("surprise", "How unlikely the token is.", per_document=True)

    def __call__(self, measured):
        return -measured.log_probs


class Broken(Signal):
    """Fails, and belongs to a plugin that is not in use."""

    column = Column("broken", "Nothing.")

    def __call__(self, measured):
        raise ZeroDivisionError("half a plugin")


class Weighing(Method):
    """Weighs the tokens; its methods for reports are mistaken, or its own."""

    def signals(self, progress):
        return ["test_doubtful"]

    def weights(self, signals, documents, progress):
        return signals["test_doubtful"]

    def score(self, of):  # of its own, before there was one for reports
        raise AssertionError

    def notes(self, progress):
        return [f"Step {progress.step}."]


class Halved(RankedMethod):
    """Says that the best rho train, and trains half of them."""

    def signals(self, progress):
        return ["test_surprise"]

    def score(self, signals, documents, progress):
        return signals["test_surprise"]

    def weights(self, signals, documents, progress):
        best = super().weights(signals, documents, progress)
        return best * (documents.positions % 2)


class Scoreless(Halved):
    """Returns a score of another shape."""

    def score(self, signals, documents, progress):
        return torch.zeros(3)

    def weights(self, signals, documents, progress):
        return documents.response.float()


class Plugin:
    @hookimpl
    def register_methods(self, register):
        register("test_weighing", Weighing)
        register("test_halved", Halved)
        register("test_scoreless", Scoreless)

    @hookimpl
    def register_signals(self, register):
        register("test_doubtful", Doubtful)
        register("test_surprise", Surprise)
        register("test_broken", Broken)

    @hookimpl
    def register_measurements(self, register):
        register("test_doubt", Doubt)


@pytest.fixture
def plugin():
    plugin_manager().register(mine := Plugin())
    yield
    plugin_manager().unregister(mine)


def test_todays_columns(make_report):
    report = make_report(strategy="grounded")
    shown = {"log_prob", "history_log_prob", "rel", "prompt_gain", "entropy"}
    assert shown <= set(report.about["columns"])
    assert {"attention", "log_prob", "rel"} <= set(make_report().about["columns"])
    assert report.about["columns"]["prompt_gain"]["per_document"]
    assert report.about["columns"]["log_prob"]["log_probability"]


def test_trimmed_reports_show_what_trains(make_report):
    """The page once took the best rho of all tokens where noise was left out before."""
    report = make_report(strategy="sstoken_trimmed", trim=1.0)
    assert not report.columns["eligible"][report.response].all()
    controls = report.about["controls"]
    assert set(controls) == {"top", "blend", "threshold"}
    assert np.array_equal(select(report.columns, controls).kept, report.kept)
    for trim in (1e-3, 0.5, 20.0):
        moved = select(report.columns, {**controls, "threshold": {**controls["threshold"], "value": trim}})
        again = make_report(strategy="sstoken_trimmed", trim=trim)
        assert np.array_equal(moved.kept, again.kept)
        assert np.array_equal(moved.rank, again.columns["rank"])


def test_a_plugin_is_shown_by_what_it_declares(plugin, make_report, caplog):
    report = make_report(step=3, strategy="test_weighing")
    assert report.about["columns"]["doubtful"]["label"] == "doubt"
    assert "surprise" in str(report.about["columns"]["test_surprise"])
    assert np.allclose(report.columns["doubtful"][report.response], report.columns["weight"][report.response])
    assert report.about["controls"] is None
    assert "doubtful_kept" in scalars(report)
    assert "weight" in pack(report)
    assert "One minus the probability" in render(report)
    # A signal that fails and is not read costs its column alone.
    assert "test_broken" not in report.columns
    assert "half a plugin" in caplog.text


def test_a_score_of_a_plugins_own_is_no_end(plugin, make_report, caplog):
    report = make_report(strategy="test_weighing", step=3)
    assert np.isnan(report.columns["score"][report.response]).all()
    assert not report.columns["rank"].any()
    first, mistake = report.about["notes"]
    assert first == "Step 3."
    assert "`score` of method 'test_weighing' cannot be shown: TypeError" in mistake
    report = make_report(strategy="test_scoreless")
    assert "shape (3,), where one number for each token was expected" in " ".join(report.about["notes"])
    assert report.kept[report.response].all()


def test_controls_that_do_not_select_the_same_are_left_out(plugin, make_report):
    report = make_report(strategy="test_halved")
    assert report.about["controls"] is None
    assert "another selection than that of `weights`" in report.about["notes"][-1]
    assert "data-part=" not in render(report).partition("<script")[0]


def test_a_model_that_is_its_own_history_is_said(make_trainer, make_report, rows):
    """Before the first step, the excess loss orders nothing."""
    from sstoken_plugins import SSTokenConfig, TokenSelector
    from sstoken_report.samples import Samples
    from sstoken_report.scoring import score

    trainer = make_trainer()
    selector = TokenSelector(SSTokenConfig(history="snapshot"))
    selector.attach(trainer.model)
    report = score(trainer, selector, Samples.of_training(trainer, trainer.get_train_dataloader(), 3), 0)
    (note,) = report.about["notes"]
    assert note.startswith("REL is 0 everywhere")
    assert note.endswith("The selection follows the attention alone.")


def test_parts_without_their_columns_cannot_be_moved(make_report):
    assert make_report(gamma=1.0).about["controls"]["blend"]["movable"] is False
    assert make_report(gamma=0.5).about["controls"]["blend"]["movable"] is True
    assert Controls().top is None


def test_no_name_is_in_the_package():
    names = {name for kind in ("method", "signal", "measurement") for name in registered(kind)} - set(KINDS)
    names |= {c.name for kind in registered("measurement").values() if (c := kind.column) and c.name}
    names |= {"rho", "gamma", "trim"}
    folder = Path(sstoken_report.__file__).parent
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not names & found, path
    for path in (folder / "web").iterdir():
        text = path.read_text("utf-8")
        found = {name for name in names if re.search(rf"""["'`.\[]{name}\b(?![.(-])""", text)}
        assert not found, path


def test_an_anchored_report_has_nothing_to_move(make_report):
    """Every response token trains, and a page that selected again by the method alone would say otherwise."""
    report = make_report(anchor="k3")
    assert report.about["controls"] is None
    assert report.kept[report.response].all()


def test_a_reference_is_shown(make_report, other_adapter):
    report = make_report(strategy="rho1", reference_adapter=str(other_adapter))
    columns = report.columns
    expected = columns["reference_log_prob"] - columns["log_prob"]
    assert np.allclose(columns["reference_excess"][report.response], expected[report.response], atol=1e-5)


def every_other(batch) -> None:
    """The data drop every other token, whatever the method says."""
    batch[WEIGHTS] = (torch.arange(batch["labels"].shape[1]) % 2).expand(batch["labels"].shape) * 0.5


def test_weights_of_the_data_drop_what_they_drop(make_report):
    report = make_report(lookup=every_other, weights="weight")
    assert report.about["columns"]["data_weight"]["label"] == "weight of the data"
    controls = report.about["controls"]
    assert controls is not None
    moved = select(report.columns, {**controls, "top": {**controls["top"], "value": 0.9}})
    again = make_report(lookup=every_other, weights="weight", rho=0.9)
    assert np.array_equal(moved.kept, again.kept)
    assert set(np.unique(report.columns["weight"][report.response])) == {0.0, 0.5}
    assert 'value="weight"' in render(report)
